"""From symbol probabilities to words with times: by hand, on paths that are known."""

import math

import pytest
import torch

from course_lib.ctc.recogniser import StageBConfig, StageBRecogniser, build_encoder
from course_lib.ctc.word_times import align_words
from course_lib.text.vocabulary import CharVocabulary, SubwordVocabulary

VOCABULARY = CharVocabulary()
SPACE = VOCABULARY.encode(" ")


def spelled(path, sure=0.9):
    """Log-probabilities that give each frame's letter (`_`: the blank) the probability `sure`, and share out the rest."""
    probabilities = torch.full((len(path), len(VOCABULARY)), (1 - sure) / (len(VOCABULARY) - 1))
    for frame, letter in enumerate(path):
        probabilities[frame, 0 if letter == "_" else VOCABULARY.encode(letter)[0]] = sure
    return probabilities.log()


def align(log_probs, text, **options):
    return align_words(log_probs, text, VOCABULARY.encode, 0.04, SPACE, **options)


def test_words_begin_and_end_with_their_letters():
    first, second = align(spelled("_heej_ _dig__"), "hej dig")
    assert (first.text, second.text) == ("hej", "dig")
    assert (first.start, first.end) == pytest.approx((0.04, 0.20))
    assert (second.start, second.end) == pytest.approx((0.32, 0.44))
    assert first.confidence == pytest.approx(0.9, abs=1e-5)


def test_confidence_is_the_geometric_mean_over_letters():
    """However long a letter is, it counts once."""
    log_probs = spelled("aaaab", sure=0.8)
    log_probs[4] = spelled("b", sure=0.2)[0]
    [word] = align(log_probs, "ab")
    assert word.confidence == pytest.approx(math.sqrt(0.8 * 0.2), abs=1e-5)


def test_a_word_that_was_not_said_is_doubted():
    said, other = align(spelled("_hej_ _kat_"), "hej mus")
    assert said.confidence > 0.8
    assert other.confidence < 0.05


def test_what_cannot_be_aligned_has_the_whole_clip_and_no_confidence():
    assert [tuple(word) for word in align(spelled("hej"), "hej med dig")] == [
        ("hej", 0.0, pytest.approx(0.12), 0.0),
        ("med", 0.0, pytest.approx(0.12), 0.0),
        ("dig", 0.0, pytest.approx(0.12), 0.0),
    ]
    assert [tuple(word) for word in align(spelled("otte"), "otte")] == [("otte", 0.0, pytest.approx(0.16), 0.0)]
    assert [tuple(word) for word in align(torch.zeros(0, len(VOCABULARY)), "ja")] == [("ja", 0.0, 0.0, 0.0)]


@pytest.mark.parametrize("text", ["", "  "])
def test_no_words_no_times(text):
    assert align(spelled("_hej_"), text) == []


def test_a_word_without_any_letter_has_no_time_and_the_others_have_theirs():
    def known(word):
        return VOCABULARY.encode("".join(letter for letter in word if letter != "é"))

    for text, places in [("é hej dig", "-ab"), ("hej é dig", "a-b"), ("hej dig é", "ab-")]:
        words = align_words(spelled("_hej_ _dig_"), text, known, 0.04, SPACE)
        times = {"a": (0.04, 0.16), "b": (0.28, 0.40)}
        for word, place in zip(words, places, strict=True):
            if place == "-":
                assert word.start == word.end
                assert word.confidence == 0.0
            else:
                assert (word.start, word.end) == pytest.approx(times[place])


def test_subwords_need_no_separator():
    vocabulary = SubwordVocabulary.train(["hej med dig", "hej hej"], size=40)
    ids = vocabulary.encode("hej dig")
    probabilities = torch.full((2 * len(ids), len(vocabulary)), 1e-3)
    for place, symbol in enumerate(ids):
        probabilities[2 * place, 0] = probabilities[2 * place + 1, symbol] = 0.9
    first, second = align_words(probabilities.log(), "hej dig", vocabulary.encode, 0.08)
    assert first.start == pytest.approx(0.08)
    assert second.end == pytest.approx(0.08 * 2 * len(ids))
    assert second.start > first.end


@pytest.mark.parametrize("units", ["characters", "subwords"])
def test_stage_b_times_its_words_with_letters_or_subwords(units):
    sizes = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 16, "dropout": 0.0, "data_path": "synthetic", "batch_size": 1}
    config = StageBConfig(**sizes, downsample_time=4, num_epochs=1, learning_rate=1e-3, checkpoint_freq=0)
    subwords = SubwordVocabulary.train(["hej med dig", "hej hej"], size=40)
    recogniser = StageBRecogniser(build_encoder(config), VOCABULARY if units == "characters" else subwords).eval()
    first, second = recogniser.word_times(torch.randn(200, 128), "hej dig")
    assert (first.text, second.text) == ("hej", "dig")
    assert 0 <= first.start < first.end <= second.start < second.end <= 2.0
    assert 0 < first.confidence < 1
