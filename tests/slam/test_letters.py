"""Spelling by the nearest letter, and the likelihood of a text against the sum over every path, listed one by one."""

import itertools

import pytest
import torch

from course_lib.language_model.denoising import LETTERS, SILENCE
from course_lib.slam.letters import BLANK, SHARPNESS, EmbeddingCtcHead


@pytest.fixture(scope="module")
def letters(tiny_llm):
    return EmbeddingCtcHead(*tiny_llm)


def as_tokens(letters, text):
    """Audio tokens that are exactly the embeddings of these letters; "-" is the blank, "_" a space."""
    places = [0 if letter == "-" else letters.symbols.index(" " if letter == "_" else letter) for letter in text]
    return letters.embeddings[places]


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("---", ""),
        ("kat", "kat"),
        ("--kkk-aa-t-", "kat"),
        ("o-t-t-e", "otte"),
        ("otte", "ote"),
        ("_en__-ø_", "en ø"),
        ("blåbær", "blåbær"),
    ],
)
def test_repeats_merge_and_blanks_go(letters, tokens, text):
    assert letters.greedy_texts(letters.log_probs([as_tokens(letters, tokens)])) == [text]


def test_shorter_clips_of_a_batch_are_spelled_as_if_alone(letters):
    clips = [as_tokens(letters, text) for text in ("ål", "-r-ø-d-g-r-ø-d-", "æ")]
    assert letters.greedy_texts(letters.log_probs(clips)) == ["ål", "rødgrød", "æ"]


def test_a_token_that_is_a_letter_scores_as_that_letter(letters):
    scores, lengths = letters.log_probs([as_tokens(letters, "-" + LETTERS)])
    assert lengths.tolist() == [30]
    assert scores[0].argmax(dim=-1).tolist() == [BLANK, *range(2, 31)]
    assert torch.allclose(scores.exp().sum(dim=-1), torch.ones(1, 30), atol=1e-5)
    assert float(scores[0].max(dim=-1).values.exp().min()) > 0.9, f"SHARPNESS {SHARPNESS} leaves too much doubt"


def test_a_likelihood_is_the_sum_over_all_paths(letters):
    tokens = as_tokens(letters, "øl-") * 0.3  # weak letters, so that every path counts
    probabilities = letters.log_probs([tokens])[0][0].exp()
    texts = ["øl", "ø", "", "ll", "l"]
    expected = dict.fromkeys(texts, 0.0)
    for path in itertools.product(range(31), repeat=3):
        merged = [symbol for symbol, _ in itertools.groupby(path)]
        text = "".join(letters.symbols[symbol] for symbol in merged if symbol != BLANK)
        if text in expected:
            expected[text] += float(torch.stack([probabilities[i, symbol] for i, symbol in enumerate(path)]).prod())
    found = letters.log_likelihoods(tokens, texts).exp().tolist()
    assert found == pytest.approx(list(expected.values()), rel=1e-4)


def test_a_text_with_more_letters_than_tokens_is_impossible(letters):
    tokens = as_tokens(letters, "hej")
    likely, too_long, double = letters.log_likelihoods(tokens, ["hej", "hejsa", "tt"]).tolist()
    assert likely > -1
    assert too_long == -float("inf")
    assert double > -float("inf")
    assert letters.log_likelihoods(tokens[:2], ["tt"]).tolist() == [-float("inf")]  # no room for the blank between


@pytest.mark.parametrize("texts", [[""], ["", ""]])
def test_nothing_said_has_a_likelihood_too(letters, texts):
    assert letters.log_likelihoods(as_tokens(letters, "----"), texts).exp().tolist() == pytest.approx([1] * len(texts), abs=0.1)


def test_a_tokenizer_without_a_token_for_silence_is_refused(tiny_llm, monkeypatch):
    without = {token: index for token, index in tiny_llm.tokenizer.get_vocab().items() if token != SILENCE}
    monkeypatch.setattr(tiny_llm.tokenizer, "get_vocab", lambda: without)
    with pytest.raises(ValueError, match=r"ctc_weight: need a tokenizer with <\|silence\|>"):
        EmbeddingCtcHead(*tiny_llm)


def test_symbols_are_in_the_order_of_the_danish_alphabet(letters):
    assert "".join(letters.symbols) == " " + LETTERS
