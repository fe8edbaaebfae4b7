"""How near to people a voice is: the spellings that are compared differ, and the figures are those of the clips."""

import numpy as np
import pytest
import torch

from course_lib.data.natural import kokoro_phonemes
from course_lib.data.voices import espeak
from course_lib.evaluation.voices import SENTENCES, SPELLINGS, Intelligibility, nats_per_letter, show, understand
from course_lib.evaluation.whisper_zero_shot import WhisperZeroShot
from course_lib.text.normalise import normalise


def test_every_spelling_changes_what_is_said_but_the_first():
    phonemes = [kokoro_phonemes(espeak().phonemes(sentence)) for sentence in SENTENCES]
    spelled = {name: [change(words) for words in phonemes] for name, change in SPELLINGS.items()}
    first, *others = spelled.values()
    assert first == phonemes
    assert all(other != phonemes for other in others)
    assert len({tuple(words) for words in spelled.values()}) == len(SPELLINGS)


def test_the_sentences_are_as_the_error_rate_wants_them():
    assert all(sentence == normalise(sentence) for sentence in SENTENCES)


def test_a_difference_is_taken_clip_by_clip():
    first = Intelligibility("first", 0.25, np.array([1.0, 2.0, 3.0, 4.0]))
    second = Intelligibility("second", 0.5, first.nats + np.array([0.1, 0.3, 0.1, 0.3]))
    assert show(first).split() == "first CER 25.0% 2.500 nats a letter".split()
    assert show(first, first) == show(first)
    margin = 1.96 * np.std([0.1, 0.3, 0.1, 0.3], ddof=1) / 2
    assert show(second, first).split()[-3:] == ["+0.200", "±", f"{margin:.3f}"]


class Encoding(list):
    ids = property(list)


class FakeTokenizer:
    """One token a letter."""

    def encode(self, text, add_special_tokens):
        return Encoding(ord(letter) % 40 for letter in text)


class FakeWhisper(WhisperZeroShot):
    """Finds every token equally likely, and hears the same in everything."""

    ids = {"start": 40, "language": 41, "task": 42, "no_timestamps": 43, "end": 44}  # noqa: RUF012
    tokenizer = FakeTokenizer()

    def __init__(self):
        pass

    def model(self, input_features, decoder_input_ids):
        self.read = decoder_input_ids
        return type("Output", (), {"logits": torch.zeros(1, decoder_input_ids.shape[1], 45)})

    def encode(self, waveforms):
        return [torch.zeros(80, 3000) for _ in waveforms]

    def transcribe_features(self, features):
        return ["en kat"] * len(features)


def test_nats_are_those_of_the_text_as_whisper_would_write_it_a_letter():
    whisper = FakeWhisper()
    found = nats_per_letter(whisper, torch.zeros(80, 3000), "en hat")
    tokens = len(" En hat.") + 1
    assert found == pytest.approx(tokens * np.log(45) / len("en hat"), rel=1e-5)
    assert whisper.read[0, :4].tolist() == [40, 41, 42, 43]


def test_a_voice_is_measured_over_all_its_clips():
    found = understand(FakeWhisper(), "robot", [torch.zeros(100)] * 2, ["en hat", "en kat"])
    assert (found.name, found.cer, found.nats.shape) == ("robot", 1 / 12, (2,))
