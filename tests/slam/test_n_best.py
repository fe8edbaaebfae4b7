"""The score that joins two models, and the share of the best: against a softmax by hand."""

import math

import pytest

from course_lib.slam.n_best import Hypothesis, n_best_share


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
