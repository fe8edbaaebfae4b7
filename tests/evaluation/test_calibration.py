"""Confidences with known values, and bins counted by hand."""

import math

import pytest
from matplotlib.figure import Figure

from course_lib.evaluation.calibration import (
    Bin,
    calibration_error,
    keep_the_surest,
    mean_token_probability,
    n_best_share,
    plot_reliability,
    reliability_bins,
    sentence_probability,
)
from course_lib.slam.model import Hypothesis


def test_the_sentence_is_the_product_and_the_mean_does_not_grow_with_its_length():
    short, long = [math.log(0.8)] * 2, [math.log(0.8)] * 20
    assert sentence_probability(short) == pytest.approx(0.64)
    assert sentence_probability(long) == pytest.approx(0.8**20)
    assert mean_token_probability(short) == mean_token_probability(long) == pytest.approx(0.8)
    assert sentence_probability([]) == 1
    with pytest.raises(ValueError, match="needs at least one"):
        mean_token_probability([])


def test_the_share_of_the_best_is_a_softmax_over_the_scores_it_was_chosen_by():
    candidates = [Hypothesis("ja", -1.0, -2.0), Hypothesis("nej", -1.5, -4.0), Hypothesis("jo", -9.0, -math.inf)]
    scores = [math.exp(-1 - 0.2 * 2), math.exp(-1.5 - 0.2 * 4)]
    assert n_best_share(candidates, 0.2) == pytest.approx(scores[0] / sum(scores))
    alone = [math.exp(-1), math.exp(-1.5), math.exp(-9)]
    assert n_best_share(candidates) == pytest.approx(alone[0] / sum(alone))


def test_two_spellings_of_one_text_count_together():
    twice = [Hypothesis("ja", -1.0, 0.0), Hypothesis("nej", -1.0, 0.0), Hypothesis("ja", -1.0, 0.0)]
    assert n_best_share(twice) == pytest.approx(2 / 3)


def test_scores_far_below_nought_and_impossible_ones_are_no_trouble():
    assert n_best_share([Hypothesis("ja", -2000.0, 0.0), Hypothesis("nej", -2001.0, 0.0)]) == pytest.approx(
        1 / (1 + math.exp(-1))
    )
    assert n_best_share([Hypothesis("ja", -1.0, -math.inf)] * 4, 0.5) == 0.25
    with pytest.raises(ValueError, match="no candidates"):
        n_best_share([])


def test_clips_are_sorted_into_ranges_that_hold_their_upper_end():
    found = reliability_bins([0.0, 0.2, 0.20001, 0.6, 0.61, 1.0], [False, True, True, False, True, True])
    assert [(one.low, one.high, one.clips) for one in found] == [
        (0, 0.2, 2),
        (0.2, 0.4, 1),
        (0.4, 0.6, 1),
        (0.6, 0.8, 1),
        (0.8, 1, 1),
    ]
    assert [one.accuracy for one in found] == [0.5, 1, 0, 1, 1]
    assert found[0].confidence == 0.1
    assert [one.low for one in reliability_bins([0.9, 0.1], [True, True])] == [0, 0.8]


def test_the_error_weighs_each_range_by_its_clips():
    confidences, right = [0.9] * 8 + [0.5] * 2, [True] * 6 + [False] * 2 + [True] * 2
    bins = reliability_bins(confidences, right, bins=2)
    assert calibration_error(bins) == pytest.approx((8 * (0.9 - 0.75) + 2 * (1 - 0.5)) / 10)
    assert calibration_error(reliability_bins([1.0, 1.0], [True, True])) == 0


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (([0.5], [True, False], 5), "1 confidences but 2 verdicts"),
        (([1.2], [True], 5), r"confidences from 0 to 1 .* got \[1.2\]"),
        (([0.5], [True], 0), "0 bins"),
    ],
)
def test_impossible_confidences_are_refused(given, reason):
    with pytest.raises(ValueError, match=reason):
        reliability_bins(*given)


def test_the_surest_are_kept_in_their_order():
    confidences = [0.3, 0.9, 0.1, 0.8, 0.5]
    assert keep_the_surest(confidences, 0.6) == [1, 3, 4]
    assert keep_the_surest(confidences, 1) == [0, 1, 2, 3, 4]
    assert keep_the_surest(confidences, 0) == []


def test_the_picture_has_a_bar_a_range_with_its_clips_on_top():
    axes = Figure().subplots()
    plot_reliability(axes, [Bin(0.0, 0.5, 12, 0.3, 0.25), Bin(0.5, 1.0, 30, 0.9, 0.8)])
    assert [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in axes.patches] == [(0, 0.5, 0.25), (0.5, 0.5, 0.8)]
    assert [text.get_text() for text in axes.texts] == ["12", "30"]
    assert axes.lines[1].get_xydata().tolist() == [[0.3, 0.25], [0.9, 0.8]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("confidence", "share of sentences right")
