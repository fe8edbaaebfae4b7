"""Long sound is cut where nobody speaks, none of the speech is lost, and only one piece is in memory."""

import tracemalloc

import numpy as np
import pytest
import soundfile
import torch

from course_lib.data.datasets import load_examples
from course_lib.sound.audio import load_audio, stream_audio
from course_lib.sound.segments import FRAME, MARGIN_SECONDS, PIECE_SECONDS, cut_at_pauses, frame_levels

RATE = 16_000


def noise(seconds, level=0.1, seed=0):
    return torch.from_numpy((level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32))


def silence(seconds):
    return torch.zeros(round(seconds * RATE))


def in_blocks(waveform, size=7_001):
    return waveform.split(size)


@pytest.fixture(scope="module")
def speech():
    """A minute of the shipped clips with pauses of 0.05 to 2 s between them."""
    rng = np.random.default_rng(0)
    clips = [
        load_audio(example.path) for split in ("train", "dev", "test") for example in load_examples("data/audio/asr.csv", split)
    ]
    return torch.cat([part for clip in clips[:35] for part in (clip, silence(rng.choice([0.05, 0.3, 2.0])))])


@pytest.mark.parametrize("seconds", [0.1, 3.0, 6.0])
def test_what_fits_comes_out_as_it_is(seconds):
    waveform = torch.cat([silence(seconds / 2), noise(seconds / 2)])
    [piece] = cut_at_pauses(in_blocks(waveform))
    assert piece.start == 0.0
    assert torch.equal(piece.waveform, waveform)


@pytest.mark.parametrize("longest", [2.0, 6.0, 30.0])
@pytest.mark.parametrize("hiss", [0.0, 0.002])
@pytest.mark.parametrize("block", [500, 7_001, 10_000_000])
def test_pieces_are_short_in_order_and_hold_all_speech(speech, longest, hiss, block):
    waveform = speech + hiss * noise(len(speech) / RATE, 1.0, seed=1)
    pieces = [*cut_at_pauses(in_blocks(waveform, block), longest, longest)]
    covered = torch.zeros(len(waveform), dtype=torch.bool)
    end = 0
    for piece in pieces:
        start = round(piece.start * RATE)
        assert start >= end
        end = start + len(piece.waveform)
        assert piece.end == pytest.approx(end / RATE)
        assert 0.2 * RATE <= len(piece.waveform) <= longest * RATE
        assert torch.equal(piece.waveform, waveform[start:end])
        covered[start:end] = True
    levels = frame_levels(waveform)
    loud = torch.from_numpy(np.repeat(levels > -45, FRAME)[: len(waveform)])
    assert covered[loud].all()
    assert len(pieces) > len(waveform) / RATE / longest


def test_the_size_of_the_blocks_changes_nothing(speech):
    cuts = [[(piece.start, piece.end) for piece in cut_at_pauses(in_blocks(speech, size))] for size in (160, 5_000, 10_000_000)]
    assert cuts[0] == cuts[1] == cuts[2]


def test_two_sentences_are_cut_between_them():
    both = torch.cat([noise(4.0), silence(0.3), noise(4.0, seed=1)])
    first, second = cut_at_pauses(in_blocks(both), piece=6.0)
    assert 4.0 <= first.end <= 4.3
    assert second.start == pytest.approx(4.15, abs=0.01)
    assert second.end == pytest.approx(8.3)


@pytest.mark.parametrize("hiss", [0.0, 0.001, 0.005])
def test_the_gap_between_two_clips_is_found_beside_pauses_inside_them(hiss):
    clips = [load_audio(example.path) for example in load_examples("data/audio/asr.csv", "test")]
    parts, length = [], 0
    for clip in clips[:4]:
        parts.append(clip)
        length += len(clip)
    both = torch.cat([*parts[:2], silence(0.3), *parts[2:]])
    gap = sum(map(len, parts[:2])) / RATE
    both = both + hiss * noise(len(both) / RATE, 1.0, seed=2)
    longest = len(both) / RATE - 0.5
    first, second = cut_at_pauses(in_blocks(both), longest, longest)
    assert first.end >= gap - 0.2
    assert second.start <= gap + 0.5


def test_the_longest_pause_wins_and_an_early_one_only_when_it_is_alone():
    early, late = silence(0.4), silence(0.2)
    first, *_ = cut_at_pauses([torch.cat([noise(1.0), early, noise(2.5), late, noise(4.0)])], piece=6.0)
    assert first.end == pytest.approx(4.0, abs=0.02)
    first, *_ = cut_at_pauses([torch.cat([noise(1.0), early, noise(9.0)])], piece=6.0)
    assert first.end == pytest.approx(1.2, abs=0.02)
    first, *_ = cut_at_pauses([torch.cat([noise(3.0), early, noise(1.0), late, noise(4.0)])], piece=6.0)
    assert first.end == pytest.approx(3.2, abs=0.02)


def test_without_any_pause_it_is_cut_where_it_is_quietest():
    waveform = noise(20.0)
    quiet = slice(round(4.2 * RATE), round(4.25 * RATE))
    waveform[quiet] *= 0.5
    pieces = [*cut_at_pauses(in_blocks(waveform), piece=6.0)]
    assert pieces[0].end == pytest.approx(4.225, abs=0.02)
    assert torch.equal(torch.cat([piece.waveform for piece in pieces]), waveform)
    assert all(3.0 <= len(piece.waveform) / RATE <= 6.0 for piece in pieces[:-1])


def test_long_silence_is_dropped_and_the_time_goes_on():
    waveform = torch.cat([silence(20.0), noise(1.0), silence(20.0), noise(1.0), silence(20.0)])
    pieces = [*cut_at_pauses(in_blocks(waveform), piece=6.0)]
    assert len(pieces) == 2
    for piece, spoken in zip(pieces, (20.0, 41.0), strict=True):
        assert spoken - MARGIN_SECONDS - 0.02 <= piece.start <= spoken
        assert spoken + 1.0 <= piece.end <= spoken + 1.0 + MARGIN_SECONDS + 0.02


def test_quiet_speech_behind_loud_speech_is_kept():
    waveform = torch.cat([noise(5.0, 0.3), silence(1.0), noise(5.0, 0.003, seed=1), silence(1.0)])
    pieces = [*cut_at_pauses(in_blocks(waveform))]
    kept = sum(max(0.0, min(piece.end, 11.0) - max(piece.start, 6.0)) for piece in pieces)
    assert kept == pytest.approx(5.0, abs=0.01)


def test_what_is_too_long_by_a_sample_comes_in_short_pieces():
    waveform = noise(6.0)
    assert len([*cut_at_pauses(in_blocks(waveform))]) == 1
    pieces = [*cut_at_pauses(in_blocks(torch.cat([waveform, waveform[:1]])))]
    assert len(pieces) >= 2
    assert max(len(piece.waveform) for piece in pieces) <= PIECE_SECONDS * RATE


@pytest.mark.parametrize("piece", [0.5, 7.0])
def test_limits_that_make_no_sense_are_refused(piece):
    with pytest.raises(ValueError, match="at least 1 s"):
        next(cut_at_pauses([noise(3.0)], piece=piece))


def test_a_long_file_takes_no_more_memory_than_a_short_one(tmp_path):
    def peak(seconds):
        path = tmp_path / f"{seconds}.flac"
        with soundfile.SoundFile(path, "w", 48_000, 1) as file:
            for second in range(seconds):
                file.write(noise(3.0, seed=second).numpy())
        tracemalloc.start()
        length = sum(len(piece.waveform) for piece in cut_at_pauses(stream_audio(path)))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert length == seconds * RATE
        return most

    assert peak(120) < 1.2 * peak(20)
