"""Without an n-gram it is ctc's beam search; with one, and a wide beam, it is brute force over all texts."""

import itertools
import math
from random import Random

import pytest
import torch

from course_lib.ctc.beam import beam_search
from course_lib.ctc.paths import greedy_decode, log_likelihood, prefix_beam_search
from course_lib.text.char_ngram import CharNgram
from course_lib.text.vocabulary import CharVocabulary, SubwordVocabulary

LETTERS = CharVocabulary("ab")
TOY = CharNgram(["abba", "ab", "baab", "a", "aab"], order=3, characters="ab")


def random_scores(seed, frames, vocab, sharpness=2.0):
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(frames, vocab, generator=generator, dtype=torch.float64)).log_softmax(dim=-1)


def probabilities(vocabulary, *frames):
    """Each frame a dict of what is not nearly impossible."""
    rows = torch.full((len(frames), len(vocabulary)), 1e-6, dtype=torch.float64)
    for row, likely in zip(rows, frames, strict=True):
        for symbol, probability in likely.items():
            row[vocabulary.symbols.index(symbol)] = probability
    return (rows / rows.sum(dim=1, keepdim=True)).log()


def assert_same(found, expected):
    assert [text for text, _ in found] == [text for text, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("width", [1, 2, 5, 16, 1000])
@pytest.mark.parametrize("seed", range(12))
def test_without_an_ngram_it_is_the_plain_beam_search(seed, width):
    vocabulary = CharVocabulary("abcde"[: 1 + seed % 5])
    log_probs = random_scores(seed, 1 + seed % 9, len(vocabulary))
    plain = [(vocabulary.decode(ids), score) for ids, score in prefix_beam_search(log_probs, width)]
    assert_same(beam_search(log_probs, vocabulary, beam_width=width, prune=0.0), plain)


def test_another_blank_decodes_the_same():
    log_probs, blank_last = random_scores(7, 8, 3), CharVocabulary("ab")
    blank_last.blank_id, blank_last.symbols = 2, ("a", "b", "_")
    assert_same(beam_search(log_probs[:, [1, 2, 0]], blank_last, TOY), beam_search(log_probs, LETTERS, TOY))


@pytest.mark.parametrize(("weight", "bonus"), [(0.5, 0.5), (2.0, 0.0), (0.0, 1.5), (1.0, -1.0), (0.0, 0.0)])
@pytest.mark.parametrize("seed", range(10))
def test_a_wide_beam_is_brute_force_over_all_texts(seed, weight, bonus):
    frames = 1 + seed % 6
    log_probs = random_scores(seed, frames, 3, sharpness=1.0)
    exact = {}
    for text in map("".join, itertools.chain(*(itertools.product("ab", repeat=n) for n in range(frames + 1)))):
        paths = float(log_likelihood(log_probs, LETTERS.encode(text)))
        exact[text] = paths + weight * TOY.score(text) + bonus * len(text)
    ranking = sorted((item for item in exact.items() if item[1] > -math.inf), key=lambda item: -item[1])
    found = beam_search(log_probs, LETTERS, TOY, beam_width=10_000, weight=weight, bonus=bonus, prune=0.0)
    assert_same(found, ranking)


def test_a_narrow_beam_keeps_the_best_by_the_whole_score():
    """CTC alone drops "b" in the first frame; with the n-gram counted in, it is what the beam keeps."""
    ngram = CharNgram(["b"] * 50, order=2, characters="ab")
    log_probs = probabilities(LETTERS, {"a": 0.6, "b": 0.4})
    assert beam_search(log_probs, LETTERS, ngram, beam_width=1, weight=0.0, bonus=0.0)[0][0] == "a"
    assert beam_search(log_probs, LETTERS, ngram, beam_width=1, weight=1.0, bonus=0.0)[0][0] == "b"
    assert len(beam_search(log_probs, LETTERS, ngram, beam_width=1)) == 1


def test_the_ngram_knows_how_a_sentence_ends():
    """After "a" the sound says b or nothing; the n-gram saw both go on, but only "ab" stop."""
    ngram = CharNgram(["ab", "aab"] * 20, order=3, characters="ab")
    log_probs = probabilities(LETTERS, {"a": 1.0}, {"_": 0.7, "b": 0.3})
    assert beam_search(log_probs, LETTERS)[0][0] == "a"
    (best, score), *_ = beam_search(log_probs, LETTERS, ngram, weight=1.0, bonus=0.0)
    assert best == "ab"
    assert score == pytest.approx(math.log(0.3) + ngram.score("ab"), abs=1e-4)


def test_the_ngram_spells_what_was_half_heard():
    vocabulary = CharVocabulary()
    ngram = CharNgram(["min hund er stor", "en hund", "min hest"] * 5)
    sound = [{letter: 1.0} for letter in "min hun"] + [{"t": 0.55, "d": 0.45}, {"_": 1.0}]
    log_probs = probabilities(vocabulary, *sound)
    assert vocabulary.decode(greedy_decode(log_probs)) == beam_search(log_probs, vocabulary)[0][0] == "min hunt"
    assert beam_search(log_probs, vocabulary, ngram)[0][0] == "min hund"


def test_the_bonus_buys_longer_texts():
    log_probs = random_scores(2, 12, 3, sharpness=1.0)
    lengths = [len(beam_search(log_probs, LETTERS, TOY, 64, weight=1.0, bonus=bonus)[0][0]) for bonus in (-3.0, 0.0, 1.0, 3.0)]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[1] < lengths[-1]


def test_weight_and_bonus_do_nothing_without_an_ngram():
    log_probs = random_scores(3, 8, 3)
    assert beam_search(log_probs, LETTERS, weight=3.0, bonus=9.0) == beam_search(log_probs, LETTERS)


def test_symbols_below_prune_are_not_tried():
    log_probs = probabilities(LETTERS, {"a": 0.9, "b": 0.1}, {"_": 0.96, "a": 0.04})
    texts = {prune: {text for text, _ in beam_search(log_probs, LETTERS, prune=prune)} for prune in (0.05, 0.2)}
    assert texts == {0.05: {"a", "b", ""}, 0.2: {"a", ""}}
    assert "ba" in {text for text, _ in beam_search(log_probs, LETTERS, prune=0.03)}


def test_the_blank_and_the_likeliest_symbol_are_always_tried():
    vocabulary = CharVocabulary("abcd")
    log_probs = probabilities(vocabulary, {"a": 0.4, "b": 0.3, "c": 0.3}, {"_": 0.05, "c": 0.95}, {"c": 0.3, "d": 0.7})
    found = dict(beam_search(log_probs, vocabulary, prune=0.9))
    assert set(found) == {"", "a", "c", "d", "ac", "ad", "cd", "acd"}


def test_pruning_changes_little_on_sharp_outputs():
    rng, vocabulary = Random(4), CharVocabulary()
    for seed in range(10):
        log_probs = random_scores(seed, 20, len(vocabulary), sharpness=1.0)
        spoken = torch.tensor([rng.choice([0, 0, rng.randrange(1, 31)]) for _ in range(20)])
        log_probs = (log_probs + 9 * torch.nn.functional.one_hot(spoken, 31)).log_softmax(dim=-1)
        (pruned, score), (whole, exact) = (beam_search(log_probs, vocabulary, prune=prune)[0] for prune in (1e-3, 0.0))
        assert pruned == whole
        assert exact - 0.1 < score <= exact + 1e-9


def test_a_clip_without_frames_is_empty_text():
    assert beam_search(torch.zeros(0, 3), LETTERS) == [("", 0.0)]
    assert beam_search(torch.zeros(0, 3), LETTERS, TOY, weight=2.0) == [("", pytest.approx(2 * TOY.score("")))]


def test_what_it_cannot_use_is_refused():
    subwords = SubwordVocabulary.train(["hej med dig", "hej hej"], size=40)
    with pytest.raises(ValueError, match=r"single characters; this vocabulary has [0-9]+ longer symbols"):
        beam_search(torch.zeros(2, len(subwords)), subwords)
    with pytest.raises(ValueError, match="4 columns, the vocabulary 3 symbols"):
        beam_search(torch.zeros(2, 4), LETTERS)
    with pytest.raises(ValueError, match=r"does not know \['c'\]"):
        beam_search(torch.zeros(2, 4), CharVocabulary("abc"), TOY)
    with pytest.raises(ValueError, match=r"got 0 and 0\.001"):
        beam_search(torch.zeros(2, 3), LETTERS, beam_width=0)
    with pytest.raises(ValueError, match=r"got 16 and 1\.0"):
        beam_search(torch.zeros(2, 3), LETTERS, prune=1.0)
