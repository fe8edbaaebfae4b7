"""course_lib.text.metrics, against jiwer and the worked examples of the course's two source documents."""

import random

import jiwer
import pytest
import torch

from course_lib.text.metrics import (
    ErrorCounts,
    align,
    bootstrap_interval,
    character_error_rate,
    edit_table,
    error_counts,
    token_accuracy,
    word_error_rate,
)


def random_text(rng: random.Random) -> str:
    words = ["hej", "du", "det", "æble", "å", "ø", "grød", "e\u0301", "naïve", "日本", "😀", "Hej", "det,"]
    gaps = [" ", " ", " ", "  "]
    return "".join(rng.choice(words) + rng.choice(gaps) for _ in range(rng.randrange(0, 9)))


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str]]:
    rng = random.Random(1815)
    return [(random_text(rng), random_text(rng)) for _ in range(1000)]


def test_each_of_1000_pairs_equals_jiwer(pairs):
    assert sum(not reference for reference, _ in pairs) > 50, "empty references must be among the pairs"
    for reference, hypothesis in pairs:
        assert word_error_rate(reference, hypothesis) == pytest.approx(jiwer.wer(reference, hypothesis))
        assert character_error_rate(reference, hypothesis) == pytest.approx(jiwer.cer(reference, hypothesis))


def test_the_corpus_of_1000_pairs_equals_jiwer_and_not_the_mean(pairs):
    references, hypotheses = map(list, zip(*pairs, strict=True))
    corpus = word_error_rate(references, hypotheses)
    assert corpus == pytest.approx(jiwer.wer(references, hypotheses))
    assert character_error_rate(references, hypotheses) == pytest.approx(jiwer.cer(references, hypotheses))
    mean = sum(word_error_rate(*pair) for pair in pairs) / len(pairs)
    assert abs(corpus - mean) > 0.05


def test_the_alignment_spells_out_both_sides(pairs):
    for reference, hypothesis in pairs[:300]:
        operations = align(reference.split(), hypothesis.split()).operations
        assert [step.reference for step in operations if step.reference is not None] == reference.split()
        assert [step.hypothesis for step in operations if step.hypothesis is not None] == hypothesis.split()
        for kind, said, heard in operations:
            expected = "insertion" if said is None else "deletion" if heard is None else "substitution"
            assert kind == ("hit" if said == heard else expected)


def test_the_table_ends_in_the_number_of_errors(pairs):
    for reference, hypothesis in pairs[:300]:
        words = reference.split(), hypothesis.split()
        assert edit_table(*words)[-1][-1] == align(*words).counts.errors


@pytest.mark.parametrize(
    ("reference", "hypothesis", "rate"),
    [
        ("Hej hvordan har du det", "Hej vordan har du det", 1 / 5),
        ("the cat sat on the mat", "the cat sit on a mat", 2 / 6),
        ("det er godt", "det er", 1 / 3),
        ("ja", "ja ja ja", 2.0),
        ("Hej, du", "hej du", 1 / 2),
        ("hej du", "hej du", 0.0),
        ("", "", 0.0),
        ("", "to ord", 2.0),
        ("to ord", "", 1.0),
    ],
)
def test_worked_examples(reference, hypothesis, rate):
    assert word_error_rate(reference, hypothesis) == pytest.approx(rate)
    assert word_error_rate([reference], [hypothesis]) == pytest.approx(rate)


def test_the_documents_examples_are_substitutions_only():
    (counts,) = error_counts("the cat sat on the mat", "the cat sit on a mat")
    assert counts == ErrorCounts(substitutions=2, hits=4)
    assert counts.reference_length == 6


def test_characters_count_the_spaces_between_words_only():
    assert character_error_rate("i dag", "idag") == pytest.approx(1 / 5)
    assert character_error_rate(" i dag ", "i dag") == 0


def test_counts_add_up():
    parts = error_counts(["a b", "c", ""], ["a", "d", "e"])
    assert sum(parts, ErrorCounts()) == ErrorCounts(substitutions=1, insertions=1, deletions=1, hits=1)


def test_unequal_lists_are_refused_with_both_lengths():
    with pytest.raises(ValueError, match="2 references but 1 hypotheses"):
        word_error_rate(["a", "b"], ["a"])


def test_a_string_beside_a_list_is_refused():
    with pytest.raises(ValueError, match="one of each"):
        word_error_rate("ab", ["a", "b"])


def test_the_interval_holds_the_rate_and_narrows_with_more_utterances():
    rng = random.Random(3)
    hypotheses = ["en to tre" if rng.random() < 0.7 else "en to fire fem" for _ in range(400)]
    references = ["en to tre"] * 400
    low, high = bootstrap_interval(references, hypotheses)
    assert low < word_error_rate(references, hypotheses) < high
    few_low, few_high = bootstrap_interval(references[:40], hypotheses[:40])
    assert 2 < (few_high - few_low) / (high - low) < 5, "ten times the utterances, about √10 times narrower"
    wide_low, wide_high = bootstrap_interval(references, hypotheses, confidence=0.99)
    assert wide_low < low < high < wide_high


def test_the_interval_is_as_wide_as_the_binomial_says():
    references, hypotheses = ["a"] * 1000, ["a"] * 800 + ["b"] * 200
    low, high = bootstrap_interval(references, hypotheses, resamples=4000)
    half_width = 1.96 * (0.2 * 0.8 / 1000) ** 0.5
    assert (low, high) == pytest.approx((0.2 - half_width, 0.2 + half_width), abs=0.003)


def test_the_interval_repeats_with_its_seed_and_knows_characters():
    pair = (["god dag", "hej", "farvel"] * 5, ["god da", "nej", "farvel"] * 5)
    assert bootstrap_interval(*pair, seed=1) == bootstrap_interval(*pair, seed=1)
    assert bootstrap_interval(*pair, seed=1) != bootstrap_interval(*pair, seed=2)
    assert bootstrap_interval(*pair, unit="char")[1] < bootstrap_interval(*pair)[0]


def test_one_draw_is_an_interval_of_no_width():
    low, high = bootstrap_interval(["en to", "tre"], ["en", "tre"], resamples=1)
    assert low == high


@pytest.mark.parametrize("wrong", [{"confidence": 95.0}, {"resamples": 0}])
def test_a_wrong_interval_setting_is_refused(wrong):
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_interval(["a"], ["a"], **wrong)


def test_an_interval_over_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one utterance"):
        bootstrap_interval([], [])


def test_token_accuracy_leaves_the_ignored_out():
    targets = torch.tensor([[-100, -100, 7, 8], [-100, 5, 6, -100]])
    predicted = torch.tensor([[-100, 1, 7, 9], [1, 5, 6, -100]])
    assert token_accuracy(predicted, targets) == pytest.approx(3 / 4)
    assert token_accuracy(predicted, targets, ignore_index=7) == pytest.approx(4 / 7)


def test_token_accuracy_refuses_what_would_broadcast():
    with pytest.raises(ValueError, match=r"\[3\], targets \[2, 3\]"):
        token_accuracy(torch.tensor([1, 2, 3]), torch.tensor([[1, 2, 3], [1, 2, 3]]))


def test_token_accuracy_over_nothing_is_refused():
    with pytest.raises(ValueError, match="all 2 are ignore_index"):
        token_accuracy(torch.tensor([1, 2]), torch.tensor([-100, -100]))
