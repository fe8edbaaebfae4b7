"""Witten-Bell by the formula, in fractions; every row adds up to one; what never came backs off; it knows Danish from typos."""

import math
from fractions import Fraction
from random import Random

import pytest

from course_lib.data.grammar import draw_utterance
from course_lib.text.char_ngram import END, CharNgram, count_ngrams
from course_lib.text.normalise import DANISH_CHARACTERS

RNG = Random("char n-gram")
SENTENCES = [draw_utterance(RNG, "train") for _ in range(2000)]
NGRAM = CharNgram(SENTENCES, order=6)


def random_text(rng, characters, most):
    return "".join(rng.choice(characters) for _ in range(rng.randint(0, most)))


def followers_of(history, sentences):
    """What comes after each place where `history` stands, found by looking at every place."""
    marked = [END + sentence + END for sentence in sentences]
    return [m[i] for m in marked for i in range(1, len(m)) if m[:i].endswith(history)]


def witten_bell(history, symbol, sentences, symbols):
    shorter = witten_bell(history[1:], symbol, sentences, symbols) if history else Fraction(1, len(symbols))
    followed = followers_of(history, sentences)
    if not followed:
        return shorter
    kinds = len(set(followed))
    kept = Fraction(kinds, len(followed) + kinds)
    return (1 - kept) * Fraction(followed.count(symbol), len(followed)) + kept * shorter


@pytest.mark.parametrize("seed", range(20))
def test_probabilities_are_those_of_the_formula(seed):
    """Written there as Chen & Goodman do: a mixture, whose weight is what the history keeps for the new."""
    rng, order = Random(seed), 1 + seed % 4
    sentences = [random_text(rng, "abc", 6) for _ in range(5)]
    ngram = CharNgram(sentences, order, characters="abcd")
    for _ in range(10):
        context, symbol = random_text(rng, "abcd", 5), rng.choice([*"abcd", END])
        history = (END + context)[-(order - 1) :] if order > 1 else ""
        expected = witten_bell(history, symbol, sentences, ngram.symbols)
        assert math.exp(ngram.log_probability(context, symbol)) == pytest.approx(float(expected), rel=1e-12)


def test_a_probability_by_hand():
    """ "en " was followed by h, h, k; so was " ". Of the 23 symbols and ends, 11 kinds, 2 are h."""
    ngram = CharNgram(["en hest", "en hund", "en kat"], order=3)
    anywhere = (2 + 11 / 31) / (23 + 11)
    after_space = (2 + 2 * anywhere) / (3 + 2)
    assert ngram.probabilities("en ")["h"] == pytest.approx((2 + 2 * after_space) / (3 + 2), rel=1e-12)


def test_every_context_gives_probabilities_that_add_up_to_one():
    rng = Random(1)
    contexts = ["", "h", "hvorda", "zzzzzz", "ikke dansk her"]
    contexts += [random_text(rng, DANISH_CHARACTERS, 8) for _ in range(200)]
    contexts += [sentence[: rng.randint(0, len(sentence))] for sentence in SENTENCES[:200]]
    for context in contexts:
        row = NGRAM.probabilities(context)
        assert set(row) == {*DANISH_CHARACTERS, END}
        assert min(row.values()) > 0
        assert math.fsum(row.values()) == pytest.approx(1, abs=1e-12)


def test_unseen_contexts_back_off_to_the_longest_end_that_was_seen():
    ngram = CharNgram(["en hest", "en hund", "en kat"], order=4)
    assert ngram.probabilities("ååå") == ngram.probabilities("zz zzz")
    assert ngram.probabilities("åhu") is ngram.probabilities("åååhu") is ngram.probabilities("zhu")
    assert ngram.probabilities("åhu")["n"] > 0.5
    assert ngram.probabilities("åhu") != ngram.probabilities("åu")


def test_only_the_last_characters_of_the_context_matter():
    ngram = CharNgram(SENTENCES[:200], order=3)
    assert ngram.probabilities("jeg har en") is ngram.probabilities("zen")
    assert ngram.probabilities("jeg har en") is not ngram.probabilities("zyn")


def test_the_beginning_of_a_sentence_is_a_context_of_its_own():
    ngram = CharNgram(["ab", "ab", "ab"], order=2, characters="ab")
    assert ngram.probabilities("")["a"] > 0.8
    assert ngram.probabilities("a")["b"] > 0.8
    assert ngram.probabilities("ab")[END] > 0.8


def test_the_first_mark_is_looked_back_at_but_never_predicted():
    counts = count_ngrams(["åå"], order=3)
    assert counts == {"å": 2, END: 1, f"{END}å": 1, "åå": 1, f"å{END}": 1, f"{END}åå": 1, f"åå{END}": 1}


def test_the_cached_row_cannot_be_changed():
    with pytest.raises(TypeError):
        NGRAM.probabilities("he")["j"] = 1.0


def test_a_score_is_the_sum_over_characters_and_end():
    by_hand = [("", "j"), ("j", "a"), ("ja", END)]
    assert NGRAM.score("ja") == pytest.approx(sum(NGRAM.log_probability(*step) for step in by_hand))
    assert NGRAM.score("") == NGRAM.log_probability("", END)


@pytest.mark.parametrize(("danish", "typo"), [("hunden er stor", "hunten er stor"), ("vi spiser", "vispiser")])
def test_danish_is_likelier_than_a_typo(danish, typo):
    assert NGRAM.score(danish) > NGRAM.score(typo) + 3


def test_perplexity_counts_every_character_and_every_end():
    texts = ["ja", "hunden er stor"]
    mean = (NGRAM.score("ja") + NGRAM.score("hunden er stor")) / (3 + 15)
    assert NGRAM.perplexity(texts) == pytest.approx(math.exp(-mean))


def test_a_longer_memory_is_in_less_doubt():
    """On sentences that no training ever drew. 31 would be no idea at all."""
    rng = Random("dev")
    fresh = [draw_utterance(rng, "dev") for _ in range(100)]
    blind, short, long = (CharNgram(SENTENCES, order).perplexity(fresh) for order in (1, 3, 6))
    assert 14 < blind < 20
    assert 5 < short < 10
    assert 2 < long < 4


def test_what_it_cannot_use_is_refused():
    with pytest.raises(ValueError, match=r"order must be 1 or more.*got 0, 1 sentences"):
        CharNgram(["ja"], order=0)
    with pytest.raises(ValueError, match="got 6, 0 sentences"):
        CharNgram([])
    with pytest.raises(ValueError, match=r"no \['J'\]\n  in the text 'Ja'"):
        CharNgram(["nej", "Ja"])
    with pytest.raises(ValueError, match="must differ"):
        CharNgram(["ja"], characters="jaa")
    with pytest.raises(ValueError, match="no texts"):
        NGRAM.perplexity([])
    with pytest.raises(ValueError, match=r"no \['é'\]"):
        NGRAM.score("idé")
    with pytest.raises(ValueError, match=r"no \['!'\]"):
        NGRAM.log_probability("hej!", "a")
    with pytest.raises(ValueError, match="one character at a time; got 'ja'"):
        NGRAM.log_probability("", "ja")
