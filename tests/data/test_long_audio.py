"""A recogniser of short clips hears recordings of any length, in order, in batches, with times of the whole recording."""

import itertools

import numpy as np
import pytest
import torch

from course_lib.data.long_audio import TimedTranscript, join_transcripts, transcribe_clips, transcribe_long
from course_lib.data.recogniser import Recogniser, Transcript, Word
from course_lib.data.subtitles import clock, subrip


def noise(seconds, level=0.1):
    return torch.from_numpy((level * np.random.default_rng(0).standard_normal(round(seconds * 16_000))).astype(np.float32))


class Loudness(Recogniser):
    """Writes the loudness of each piece in thousandths, and puts one word into its middle second."""

    def __init__(self, confidence=None):
        self.batch_sizes, self.confidence = [], confidence

    def encode(self, waveforms):
        self.batch_sizes.append(len(waveforms))
        return [waveform[:, None] for waveform in waveforms]

    def recognise(self, features):
        return [Transcript(f"{1000 * clip[clip.abs() > 0].std():.0f}", self.confidence) for clip in features]


class WithWords(Loudness):
    def word_times(self, features, text):
        seconds = len(features) / 16_000
        return [Word(text, seconds / 2, seconds + 0.04, 0.5)]


@pytest.fixture
def speech():
    """Twelve stretches of 2 s, each louder than the one before, a second apart."""
    return torch.cat([part for n in range(12) for part in (noise(2.0, 0.1 + 0.01 * n), torch.zeros(16_000))])


def test_all_pieces_come_in_order_with_their_times(speech):
    recogniser = Loudness()
    pieces = [*transcribe_long(recogniser, speech.split(9_999), batch_size=4)]
    said = [int(piece.text) for piece in pieces]
    assert said == sorted(said)
    assert len(set(said)) == len(pieces) >= 6
    assert recogniser.batch_sizes == [4] * (len(pieces) // 4) + ([len(pieces) % 4] if len(pieces) % 4 else [])
    for piece, following in itertools.pairwise(pieces):
        assert piece.end <= following.start
    assert pieces[0].start == 0.0
    assert 35.0 <= pieces[-1].end <= 35.32
    assert all(piece.end - piece.start <= 3.0 for piece in pieces)
    assert {piece.words for piece in pieces} == {None}


def test_a_recogniser_says_how_much_it_hears_at_once(speech):
    recogniser = Loudness()
    recogniser.longest_seconds = recogniser.piece_seconds = 36.0
    assert len([*transcribe_long(recogniser, [speech])]) == 1


def test_no_more_is_read_than_the_next_batch_needs(speech):
    read = []

    def blocks():
        for number, block in enumerate(speech.split(16_000)):
            read.append(number)
            yield block

    next(transcribe_long(Loudness(), blocks(), batch_size=2))
    assert len(read) < 16


def test_words_are_timed_in_the_whole_recording(speech):
    pieces = [*transcribe_long(WithWords(), speech.split(9_999), word_times=True)]
    for piece in pieces:
        [word] = piece.words
        assert word.text == piece.text
        assert word.start == pytest.approx((piece.start + piece.end) / 2)
        assert word.end == piece.end


def test_without_word_times_there_are_texts_all_the_same(speech):
    assert [piece.words for piece in transcribe_long(Loudness(), [speech[:32_000]], word_times=True)] == [None]


def test_clips_of_all_lengths_share_their_batches_and_keep_their_places(speech):
    recogniser = Loudness(confidence=0.5)
    clips = [noise(1.0, 0.02), speech[: 9 * 16_000], noise(1.0, 0.03)]
    first, long, last = transcribe_clips(recogniser, clips, batch_size=3)
    assert (first, last) == (Transcript("20", 0.5), Transcript("30", 0.5))
    pieces = [*transcribe_long(Loudness(), [clips[1]])]
    assert long == Transcript(" ".join(piece.text for piece in pieces), 0.5 ** len(pieces))
    assert len(pieces) == 3
    assert recogniser.batch_sizes == [3, 2]


def test_a_short_clip_goes_through_as_it_is():
    heard = []

    class Listener(Loudness):
        def encode(self, waveforms):
            heard.extend(waveforms)
            return super().encode(waveforms)

    clip = torch.cat([torch.zeros(16_000), noise(1.0), torch.zeros(16_000)])
    transcribe_clips(Listener(), [clip])
    assert torch.equal(heard[0], clip)


def test_confidence_is_none_where_a_piece_has_none():
    assert join_transcripts([Transcript("a", 0.5), Transcript("b")]) == Transcript("a b", None)
    assert join_transcripts([]) == Transcript("", None)


def test_subtitles_leave_out_pieces_without_a_text():
    pieces = [TimedTranscript(0.0, 1.0, "hej"), TimedTranscript(1.0, 2.0, ""), TimedTranscript(2.0, 3.0, "med dig")]
    assert subrip(pieces) == "1\n00:00:00,000 --> 00:00:01,000\nhej\n\n2\n00:00:02,000 --> 00:00:03,000\nmed dig\n"
    assert subrip([]) == ""


def test_the_clock_carries():
    assert clock(59.9996) == "00:01:00,000"
    assert clock(0.0) == "00:00:00,000"
