"""Two optimisers behind one name: who gets which weights, one rate for all, and a state that can be resumed."""

import pytest
import torch
from torch import nn

from course_lib.training.optimizers import MuonAndAdamW, make_optimizer


def small_model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))


def train(model, optimizer, steps, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        inputs = torch.randn(16, 6, generator=generator)
        loss = (model(inputs) - inputs[:, :3]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def test_adamw_is_pytorchs():
    ours, theirs = small_model(), small_model()
    train(ours, make_optimizer("adamw", ours.parameters(), 0.01, 0.1), 5)
    train(theirs, torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1), 5)
    # The fused kernel adds in another order than the loop does: the same sums, not the same last bits.
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0.0, atol=1e-6)


def test_muon_gets_the_matrices_and_adamw_the_rest():
    model = small_model()
    muon, adamw = make_optimizer("muon", model.parameters(), 0.01, 0.1).parts
    assert [len(part.param_groups[0]["params"]) for part in (muon, adamw)] == [2, 4]
    assert {p.ndim for p in muon.param_groups[0]["params"]} == {2}
    assert {p.ndim for p in adamw.param_groups[0]["params"]} == {1}
    assert [part.param_groups[0]["weight_decay"] for part in (muon, adamw)] == [0.1, 0.1]


def test_an_update_of_a_matrix_stretches_all_directions_alike():
    matrix = nn.Parameter(torch.zeros(6, 8))
    optimizer = MuonAndAdamW([matrix], lr=1.0, weight_decay=0.0)
    matrix.grad = torch.diag(torch.tensor([100.0, 30, 10, 3, 1, 0.3])) @ torch.randn(6, 8)
    optimizer.step()
    stretches = torch.linalg.svdvals(matrix.detach())
    assert stretches.max() / stretches.min() < 6 < 100
    # as large as AdamW's, whose first step moves every number by the rate times 0.2 at most, on average
    assert 0.1 < float(matrix.detach().square().mean().sqrt()) < 0.4


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_it_learns(name):
    model = small_model()
    optimizer = make_optimizer(name, model.parameters(), 0.01, 0.0)
    first = train(model, optimizer, 1)
    assert train(model, optimizer, 200) < 0.3 * first


def test_a_schedule_sets_the_rate_of_both_parts():
    optimizer = make_optimizer("muon", small_model().parameters(), 0.5, 0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.1 * (step + 1))
    assert [part.param_groups[0]["lr"] for part in optimizer.parts] == pytest.approx([0.05, 0.05])
    optimizer.step()
    schedule.step()
    assert [part.param_groups[0]["lr"] for part in optimizer.parts] == pytest.approx([0.1, 0.1])


def test_weights_of_one_kind_alone_are_fine():
    for shape in ((3, 4), (5,)):
        weights = nn.Parameter(torch.ones(shape))
        optimizer = make_optimizer("muon", [weights], 0.1, 0.0)
        weights.sum().backward()
        optimizer.step()
        assert not torch.equal(weights.detach(), torch.ones(shape))
        assert len(optimizer.parts) == 1


def test_a_resumed_optimiser_goes_on_as_if_never_stopped():
    whole, broken = small_model(), small_model()
    optimizer = make_optimizer("muon", whole.parameters(), 0.01, 0.1)
    train(whole, optimizer, 3)
    first = make_optimizer("muon", broken.parameters(), 0.01, 0.1)
    train(broken, first, 3)
    state = first.state_dict()
    second = make_optimizer("muon", broken.parameters(), 0.7, 0.1)
    second.load_state_dict(state)
    for model, its in ((whole, optimizer), (broken, second)):
        schedule = torch.optim.lr_scheduler.LambdaLR(its, lambda step: 1.0)
        train(model, its, 3, seed=2)
        schedule.step()
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), broken.parameters(), strict=True))
    assert [group["lr"] for group in second.param_groups] == [0.01, 0.01]
