"""The shipped systems say when a word was spoken, and espeak-ng, which spoke it, agrees."""

import statistics

import pytest
import soxr
import torch

from course_lib.data.augment import set_level
from course_lib.data.recogniser import NoWordTimesError, Recogniser
from course_lib.data.synth import write_script
from course_lib.data.voices import ESPEAK_RATE, espeak
from course_lib.sound.audio import SAMPLE_RATE
from course_lib.systems import load_slam, load_stage_b


@pytest.fixture(scope="module")
def spoken():
    """Twenty sentences in test voices, each with the starts of its words."""
    clips = []
    for line in [line for line in write_script("test", 200) if " " in line.text][:20]:
        samples, starts = espeak().speak_with_word_starts(line.text, line.voice, words_per_minute=130)
        waveform = torch.from_numpy(set_level(soxr.resample(samples, ESPEAK_RATE, SAMPLE_RATE), -6.0))
        clips.append((line.text, waveform, starts))
    return clips


@pytest.mark.parametrize("load", [load_slam, load_stage_b])
def test_words_are_found_where_they_were_spoken(load, spoken):
    """Measured: half of the starts within 50 ms (SLAM-ASR) and 42 ms (Stage B), nine in ten within 77 ms and 72 ms."""
    recogniser = load()
    errors = []
    for text, waveform, starts in spoken:
        [features] = recogniser.encode([waveform])
        words = recogniser.word_times(features, text)
        assert [word.text for word in words] == text.split()
        assert all(0 <= word.start < word.end <= len(waveform) / SAMPLE_RATE + 0.08 for word in words)
        errors += [abs(word.start - start) for word, start in zip(words, starts, strict=True)]
    assert statistics.median(errors) < 0.08
    assert statistics.quantiles(errors, n=10)[-1] < 0.16


def test_the_words_of_another_sentence_are_doubted(spoken):
    stage_b = load_stage_b()
    (text, waveform, _), (other, _, _) = spoken[0], spoken[3]
    [features] = stage_b.encode([waveform])
    said, not_said = ([word.confidence for word in stage_b.word_times(features, words)] for words in (text, other))
    assert statistics.fmean(not_said) < 0.2 < statistics.fmean(said)


def test_a_recogniser_that_cannot_says_so():
    class Silent(Recogniser):
        def encode(self, waveforms):
            return list(waveforms)

        def recognise(self, features):
            return []

    with pytest.raises(NoWordTimesError, match="Silent writes words"):
        Silent().word_times(torch.zeros(10, 4), "hej")


def test_a_language_model_without_letters_cannot(tiny_run, monkeypatch):
    slam = load_slam(tiny_run.folder)
    [features] = slam.encode([torch.randn(16_000)])
    monkeypatch.setattr("course_lib.slam.letters.SILENCE", "<|hush|>")
    with pytest.raises(NoWordTimesError, match="no embedding for each letter"):
        slam.word_times(features, "hej")
