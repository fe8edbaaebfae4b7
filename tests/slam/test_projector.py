"""Projectors: the guide's sizes, neighbours side by side, windows, queries; and no token that depends on its company."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from course_lib.slam.projector import PROJECTORS, ConcatProjector, ConvProjector, Projector, QFormerProjector

EVERY = sorted(PROJECTORS)


def parameter_count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


def test_whisper_base_into_qwen_3b_has_the_parameters_that_the_docstring_says():
    projector = ConcatProjector(512, 2048)
    assert parameter_count(projector) == 2_361_856 == 2560 * 512 + 512 + 512 * 2048 + 2048
    assert "2,361,856" in ConcatProjector.__doc__


def test_whisper_base_into_the_tiny_model_has_the_parameters_that_the_docstring_says():
    count = parameter_count(ConcatProjector(512, 256, k=2, hidden_dim=1024))
    assert count == 1024 * 1024 + 1024 + 1024 * 256 + 256
    assert f"{count:,}" in ConcatProjector.__doc__


def test_five_seconds_become_fifty_audio_tokens():
    assert ConcatProjector(512, 2048)(torch.randn(1, 250, 512)).shape == (1, 50, 2048)


def test_the_weights_keep_the_names_under_which_they_were_shipped():
    assert set(ConcatProjector(4, 3).state_dict()) == {f"layers.{n}.{kind}" for n in (1, 3) for kind in ("weight", "bias")}


def test_each_token_is_the_two_layers_over_five_neighbours_in_order():
    projector = ConcatProjector(4, 6, k=5, hidden_dim=8)
    first, second = (layer for layer in projector.layers if isinstance(layer, nn.Linear))
    features = torch.randn(2, 15, 4)
    tokens = projector(features)
    for token in range(3):
        neighbours = torch.cat([features[:, 5 * token + i] for i in range(5)], dim=1)
        torch.testing.assert_close(tokens[:, token], second(torch.relu(first(neighbours))))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(("frames", "k", "tokens"), [(4, 5, 0), (5, 5, 1), (9, 5, 1), (10, 5, 2), (63, 2, 31), (7, 1, 7)])
def test_k_frames_make_a_token_and_fewer_make_none(name, frames, k, tokens):
    projector = PROJECTORS[name](2, 3, k, hidden_dim=8)
    assert projector(torch.randn(2, frames, 2)).shape == (2, tokens, 3)
    assert projector.tokens_of(frames) == tokens


def test_side_by_side_the_tail_is_not_looked_at():
    projector = ConcatProjector(2, 3)
    features = torch.randn(1, 9, 2)
    torch.testing.assert_close(projector(features), projector(features[:, :5]))


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("name", EVERY)
def test_a_clips_tokens_do_not_depend_on_its_neighbours_or_its_padding(name, k):
    projector = PROJECTORS[name](6, 4, k, hidden_dim=16).eval()
    counts = [23, 1, 12, 31]
    clips = [torch.randn(count, 6) for count in counts]
    batch = 100 * torch.randn(4, 31, 6)  # what lies behind a clip is not even zero
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    together = projector(batch, torch.tensor(counts))
    for tokens, clip in zip(together, clips, strict=True):
        alone = projector(clip[None])[0]
        torch.testing.assert_close(tokens[: projector.tokens_of(len(clip))], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", EVERY)
def test_gradients_are_finite_and_padding_has_none(name):
    projector = PROJECTORS[name](6, 4, 2, hidden_dim=16)
    features = torch.randn(2, 40, 6, requires_grad=True)
    tokens = projector(features, torch.tensor([40, 7]))
    (tokens[0].sum() + tokens[1, :3].sum()).backward()
    assert not features.grad[1, 7:].any()
    assert features.grad[0].abs().sum(dim=1).min() > 0
    assert all(parameter.grad.isfinite().all() for parameter in projector.parameters())


@pytest.mark.parametrize("name", EVERY)
def test_dropout_blanks_features_while_training_only(name):
    projector = PROJECTORS[name](4, 3, hidden_dim=8, dropout=0.5)
    features = torch.randn(1, 50, 4)
    assert not torch.equal(projector.train()(features), projector(features))
    torch.testing.assert_close(projector.eval()(features), projector(features))


def test_a_window_without_overlap_puts_frames_side_by_side():
    concat, conv = ConcatProjector(6, 4, 3, 8), ConvProjector(6, 4, 3, 8, overlap=0)
    conv.load_state_dict(concat.state_dict())
    features = torch.randn(2, 20, 6)
    torch.testing.assert_close(conv(features), concat(features))


@pytest.mark.parametrize(("k", "overlap"), [(2, 1), (2, 3), (5, 1), (1, 2)])
def test_a_moving_window_is_pytorchs_convolution(k, overlap):
    projector = ConvProjector(6, 4, k, 8, overlap=overlap)
    convolution = nn.Conv1d(6, 8, k + 2 * overlap, stride=k, padding=overlap)
    convolution.weight.data = rearrange(projector.layers[1].weight, "hidden (width d) -> hidden d width", d=6)
    convolution.bias.data = projector.layers[1].bias
    features = torch.randn(2, 20, 6)
    hidden = rearrange(convolution(rearrange(features, "batch frames d -> batch d frames")), "batch d tokens -> batch tokens d")
    torch.testing.assert_close(projector(features), projector.layers[3](hidden.relu()))


@pytest.mark.parametrize(("overlap", "seen"), [(0, [4, 5]), (1, [3, 4, 5, 6]), (2, [2, 3, 4, 5, 6, 7])])
def test_a_window_sees_its_own_frames_and_the_overlap(overlap, seen):
    projector = ConvProjector(3, 4, 2, 8, overlap=overlap)
    features = torch.randn(1, 12, 3, requires_grad=True)
    projector(features)[0, 2].sum().backward()
    assert features.grad[0].abs().sum(dim=1).nonzero().flatten().tolist() == seen


def test_a_query_sees_every_frame_of_its_window_and_no_other():
    projector = QFormerProjector(3, 4, 2, 8, queries=3)
    features = torch.randn(1, 18, 3, requires_grad=True)
    tokens = projector(features)[0]
    for token in (3, 5):
        (gradient,) = torch.autograd.grad(tokens[token].sum(), features, retain_graph=True)
        assert gradient[0].abs().sum(dim=1).nonzero().flatten().tolist() == [6, 7, 8, 9, 10, 11]


def test_queries_attend_as_pytorch_computes_attention():
    projector = QFormerProjector(6, 4, 2, 8, queries=3, heads=2)
    windows, real = torch.randn(1, 1, 6, 6), torch.tensor([True, True, True, True, False, False])
    frames = projector.input(windows[0])
    keys, values = projector.keys(frames) + projector.positions, projector.values(frames)
    heads = [
        rearrange(rows, "rows (heads size) -> heads rows size", heads=2) for rows in (projector.queries, keys[0], values[0])
    ]
    expected = F.scaled_dot_product_attention(*heads, attn_mask=real)
    found = projector.attend(windows, real[None, None, None, None])[0, 0]
    torch.testing.assert_close(found, rearrange(expected, "heads rows size -> rows (heads size)"))


def test_a_query_begins_by_attending_to_its_own_frames():
    projector = QFormerProjector(512, 256, 2, 392)
    keys = projector.keys(projector.input(torch.randn(1, 3, 10, 512))) + projector.positions
    weights = projector.attention_weights(keys, torch.ones(1, 3, 1, 1, 10, dtype=torch.bool)).mean(dim=(0, 1, 2))
    assert weights.shape == (5, 10)
    own = rearrange(weights, "query (place k) -> query place k", k=2).sum(dim=2).diagonal()
    assert 0.5 < own.min() < own.max() < 0.99


def test_the_order_of_frames_in_a_window_matters():
    projector = QFormerProjector(6, 4, 2, 8, queries=3)
    features = torch.randn(1, 6, 6)
    assert not torch.allclose(projector(features), projector(features.flip(1)))


def test_heads_must_share_the_width():
    with pytest.raises(ValueError, match="projector_hidden_dim: 30 cannot be shared by 4 heads"):
        QFormerProjector(6, 4, 2, 30)


def test_the_interface_alone_projects_nothing():
    with pytest.raises(NotImplementedError):
        Projector(2)(torch.randn(1, 4, 3))
