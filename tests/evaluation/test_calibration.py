"""Confidences with known values, and bins counted by hand."""

import pytest
from matplotlib.figure import Figure

from course_lib.evaluation.calibration import (
    Bin,
    calibration_error,
    keep_the_surest,
    plot_reliability,
    reliability_bins,
)


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
