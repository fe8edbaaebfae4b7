"""Train nat by hand: the step is torch's, the sum of the paths is CTC's, and the buttons and sliders do what they say."""

import pytest
import torch
import torch.nn.functional as F

from course_lib.ctc.paths import ctc_loss
from course_lib.widgets.ctc_training import (
    CtcTraining,
    gradient_step,
    path_probabilities,
    paths_of,
    train_steps,
    winner_of_votes,
)

LETTERS = ["_", "n", "a", "t"]
TOY = torch.tensor([[0.2, 0.6, 0.1, 0.1], [0.3, 0.1, 0.5, 0.1], [0.4, 0.1, 0.3, 0.2], [0.2, 0.1, 0.1, 0.6]])


@pytest.fixture
def demo() -> CtcTraining:
    return CtcTraining(TOY, [1, 2, 3], LETTERS)


def test_the_paths_together_are_what_ctc_adds_up():
    values = path_probabilities(TOY.log(), paths_of([1, 2, 3], 4, 4))
    assert len(values) == 7
    assert -values.sum().log() == pytest.approx(float(ctc_loss(TOY.log()[None], [[1, 2, 3]], [4], reduction="sum")), abs=1e-6)


def test_a_step_is_torchs_step():
    logits = TOY.log().double().requires_grad_()
    log_probs = logits.log_softmax(dim=-1)[:, None]
    F.ctc_loss(log_probs, torch.tensor([[1, 2, 3]]), (4,), (3,), reduction="sum").backward()
    torch.testing.assert_close(gradient_step(TOY.log().double(), [1, 2, 3], 0.5), (logits - 0.5 * logits.grad).detach())


def test_one_path_wins_and_others_lose(demo):
    before = path_probabilities(TOY.log(), demo.paths)
    demo.one.click()
    after = path_probabilities(demo.logits.log_softmax(dim=-1), demo.paths)
    assert after.sum() > before.sum()
    assert after[0] < before[0]  # _nat
    for _ in range(5):
        demo.many.click()
    assert "501 steps" in demo.text.value
    values = path_probabilities(demo.logits.log_softmax(dim=-1), demo.paths)
    assert values.max() / values.sum() > 0.9


def test_start_again_starts_again(demo):
    twin = bytes(demo.picture.value)
    demo.many.click()
    assert bytes(demo.picture.value) != twin
    demo.again.click()
    torch.testing.assert_close(demo.logits, demo.start)
    assert "0 steps" in demo.text.value


def test_a_frame_still_sums_to_one_when_a_slider_moves(demo):
    demo.sliders[2][0].value = 0.7
    probabilities = demo.logits.softmax(dim=-1)
    torch.testing.assert_close(probabilities.sum(dim=-1), torch.ones(4, dtype=torch.double))
    assert probabilities[2, 0] == pytest.approx(0.7)
    assert demo.sliders[2][1].value == pytest.approx(0.05, abs=0.002)
    torch.testing.assert_close(probabilities[[0, 1, 3]], TOY.double()[[0, 1, 3]], atol=1e-6, rtol=0)


def test_the_static_twin_says_what_is_missing(demo):
    data, _ = demo._repr_mimebundle_()
    assert data["image/png"]
    assert 'the paths of "nat"' in data["text/plain"]


def test_the_votes_of_a_frame_are_the_weights_of_the_paths_through_a_symbol():
    paths = paths_of([1, 2, 3], 4, 4)
    assert winner_of_votes(TOY.log(), paths) == (1, 2, 2, 3)
    assert paths[int(path_probabilities(TOY.log(), paths).argmax())] == (1, 2, 0, 3)


def test_so_many_steps_are_single_steps_one_after_the_other():
    once = gradient_step(gradient_step(TOY.log(), [1, 2, 3], 0.5), [1, 2, 3], 0.5)
    torch.testing.assert_close(train_steps(TOY.log(), [1, 2, 3], 2, 0.5), once)


def test_what_the_browser_makes_of_a_value_is_no_hand(demo):
    demo.train(3)
    before = demo.logits.clone()
    slider = demo.sliders[1][2]
    slider.value += 0.0004
    torch.testing.assert_close(demo.logits, before, rtol=0, atol=0)
    slider.value += 0.01
    assert not torch.equal(demo.logits, before)
