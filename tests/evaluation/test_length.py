"""Clips joined to recordings of a length, and the error rate over them."""

import pytest
import torch

from course_lib.data.recogniser import Recogniser, Transcript
from course_lib.evaluation.length import join_clips, joined_error_rate

TEXTS = ["en", "to", "tre"]


def clips():
    """Tones of 1 s, each of its own loudness: 0.1, 0.2, 0.3."""
    tone = torch.sin(torch.arange(16_000) / 4.0)
    return [0.1 * number * tone for number in (1, 2, 3)]


class Counter(Recogniser):
    """Knows the clips by their loudness."""

    def encode(self, waveforms):
        return [waveform[:, None] for waveform in waveforms]

    def recognise(self, features):
        return [Transcript(TEXTS[round(10 * float(clip.abs().max())) - 1]) for clip in features]


def test_short_recordings_are_the_clips():
    recordings = join_clips(clips(), TEXTS, seconds=0.5, gap=0.1)
    assert [recording.text for recording in recordings] == TEXTS
    assert [recording.seconds for recording in recordings] == [1.0, 1.0, 1.0]


def test_long_ones_hold_every_clip_and_begin_again():
    recordings = join_clips(clips(), TEXTS, seconds=2.0, gap=0.5)
    assert [recording.text for recording in recordings] == ["en to", "tre en"]
    assert [recording.seconds for recording in recordings] == [2.5, 2.5]
    [long] = join_clips(clips(), TEXTS, seconds=10.0, gap=0.5)
    assert long.text == "en to tre en to tre en"
    sound = torch.cat(long.blocks)
    assert len(sound) == 10.0 * 16_000
    assert torch.equal(sound[:16_000], clips()[0])
    assert not sound[16_000:24_000].any()
    assert torch.equal(sound[24_000:40_000], clips()[1])


def test_the_error_rate_counts_words_over_all_recordings():
    assert joined_error_rate(Counter(), join_clips(clips(), TEXTS, 0.5, 0.0)) == 0.0
    wrong = join_clips(clips(), ["en", "ti", "tre"], 0.5, 0.0)
    assert joined_error_rate(Counter(), wrong) == pytest.approx(1 / 3)


def test_long_recordings_are_cut_as_any_file_is():
    recogniser = Counter()
    recogniser.longest_seconds = recogniser.piece_seconds = 1.7
    assert joined_error_rate(recogniser, join_clips(clips(), TEXTS, 12.0, 0.5)) == 0.0
