"""Each part of an encoder beside the part of PyTorch, Qwen2 or Whisper that it writes out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import Qwen2Config
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.whisper import modeling_whisper

from course_lib.encoder import tiny
from course_lib.encoder.base import real_frames
from course_lib.encoder.positions import rotary_angles, rotate, sinusoidal_positions
from course_lib.encoder.tiny import ByteDropout, PreNormLayer, SelfAttention, TimeReduction


def random_weights(module, seed=0):
    """Fresh norms are 1 and 0, and would hide a norm that is forgotten or misplaced."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return module.double().eval()


def hidden_rows(batch=3, frames=7, features=12):
    return torch.randn(batch, frames, features, generator=torch.Generator().manual_seed(1)).double()


REAL = real_frames(torch.tensor([7, 4, 1]), 7)


def test_real_frames_are_those_before_the_count():
    assert real_frames(torch.tensor([2, 0, 3]), 3).tolist() == [[True, True, False], [False] * 3, [True] * 3]


@pytest.mark.parametrize(("frames", "size"), [(1, 2), (7, 4), (300, 64)])
def test_positions_turn_queries_and_keys_as_in_qwen2(frames, size):
    queries, keys = torch.randn(2, 2, 3, frames, size)
    rotary = modeling_qwen2.Qwen2RotaryEmbedding(Qwen2Config(hidden_size=3 * size, num_attention_heads=3))
    turns = rotary(queries, torch.arange(frames)[None])
    expected = modeling_qwen2.apply_rotary_pos_emb(queries, keys, *turns)
    angles = rotary_angles(frames, size)
    assert angles.shape == (frames, size // 2)
    for ours, theirs in zip((rotate(queries, angles), rotate(keys, angles)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)  # angles up to 300 in fp32


def test_turned_products_depend_on_the_distance_alone_and_lengths_stay():
    query, key = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).double()
    angles = rotary_angles(50, 8).double()
    queries, keys = rotate(query.expand(50, 8), angles), rotate(key.expand(50, 8), angles)
    products = queries @ keys.T
    for distance in range(-20, 21):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=0)
    assert products[0].std() > 0.1
    torch.testing.assert_close(queries.norm(dim=1), query.norm().expand(50))
    assert torch.equal(queries[0], query)


@pytest.mark.parametrize(("probability", "share"), [(0.1, 26 / 256), (0.5, 0.5), (0.25, 0.25), (0.003, 1 / 256)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dropout_zeroes_its_share_and_scales_up_the_rest(probability, share, dtype):
    torch.manual_seed(0)
    dropout, values = ByteDropout(probability), torch.ones(1000, 1000, dtype=dtype)
    dropped = dropout(values)
    assert dropped.dtype == dtype
    kept = dropped[dropped != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - share)))
    zeros = float((dropped == 0).double().mean())
    # five standard deviations of a million draws
    assert zeros == pytest.approx(share, abs=5 * (share * (1 - share) / 1e6) ** 0.5)
    assert float(dropped.double().mean()) == pytest.approx(1.0, abs=0.006)


def test_dropout_is_no_other_for_neighbours_columns_or_bytes_of_a_draw():
    """Every place is dropped equally often: no byte of the 64-bit draws is special, the first and the last included."""
    torch.manual_seed(1)
    zeros = ByteDropout(0.25)(torch.ones(40_000, 16)) == 0
    assert ((zeros.float().mean(dim=0) - 0.25).abs() < 5 * (0.25 * 0.75 / 40_000) ** 0.5).all()
    together = (zeros[:, :-1] & zeros[:, 1:]).float().mean(dim=0)
    assert ((together - 0.0625).abs() < 5 * (0.0625 / 40_000) ** 0.5).all()


@pytest.mark.parametrize("shape", [(1,), (7,), (9,), (3, 5, 7), (1, 1, 1), (2, 8), (0, 4)])
def test_dropout_takes_any_number_of_values(shape):
    torch.manual_seed(0)
    dropped = ByteDropout(0.5)(torch.ones(shape))
    assert dropped.shape == shape
    assert set(dropped.flatten().tolist()) <= {0.0, 2.0}


def test_dropout_does_nothing_in_evaluation_or_at_0():
    values = torch.randn(5, 5)
    state = torch.get_rng_state()
    assert ByteDropout(0.5).eval()(values) is values
    assert ByteDropout(0.0)(values) is values
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_follows_the_seed_and_never_repeats_itself():
    dropout, values, masks = ByteDropout(0.3), torch.ones(33, 3), []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        masks.append([dropout(values), dropout(values)])
    assert torch.equal(masks[0][0], masks[1][0])
    assert torch.equal(masks[0][1], masks[1][1])
    assert not torch.equal(masks[0][0], masks[0][1])
    assert not torch.equal(masks[0][0], masks[2][0])


def test_gradients_pass_where_values_did():
    torch.manual_seed(0)
    values = torch.randn(50, 3, requires_grad=True)
    dropped = ByteDropout(0.5)(values)
    dropped.sum().backward()
    assert torch.equal(values.grad, 2.0 * (dropped != 0))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_time_reduction_rounds_up_and_an_added_clip_changes_no_row(factor):
    reduce = random_weights(TimeReduction(5, 6, factor))
    lengths = list(range(1, 41))
    clips = [torch.randn(n, 5, generator=torch.Generator().manual_seed(n)).double() for n in lengths]
    batch = nn.utils.rnn.pad_sequence(clips, batch_first=True)
    sound, counts = reduce(batch, torch.tensor(lengths))
    assert counts.tolist() == [-(-n // factor) for n in lengths]
    assert sound.shape == (40, 40 // factor, 6)
    for row, count, clip in zip(sound, counts, clips, strict=True):
        alone, _ = reduce(clip[None], torch.tensor([len(clip)]))
        assert alone.shape[1] == count
        torch.testing.assert_close(row[:count], alone[0], atol=1e-12, rtol=0)


def test_time_reduction_is_strided_convolutions_with_gelu_between():
    reduce = random_weights(TimeReduction(5, 6, 4))
    sound = torch.randn(2, 13, 5).double()
    first, second = reduce.convolutions
    expected = F.gelu(second(F.gelu(first(sound.mT)))).mT
    torch.testing.assert_close(reduce(sound, torch.tensor([13, 13]))[0], expected, atol=1e-12, rtol=0)
    assert [(c.kernel_size, c.stride, c.padding) for c in (first, second)] == [((3,), (2,), (1,))] * 2


def copy_attention(ours, theirs):
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = (
        ours.qkv.weight.data,
        ours.qkv.bias.data,
    )
    theirs.out_proj.weight.data, theirs.out_proj.bias.data = ours.output.weight.data, ours.output.bias.data


@pytest.fixture
def no_positions(monkeypatch):
    """Turn nothing: what is left is the attention of PyTorch's own layers, which know no positions."""
    monkeypatch.setattr(tiny, "rotary_angles", lambda frames, size: torch.zeros(frames, size // 2))


@pytest.mark.usefixtures("no_positions")
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_attention_without_positions_is_pytorchs(heads):
    ours = random_weights(SelfAttention(12, heads))
    theirs = nn.MultiheadAttention(12, heads, batch_first=True).double().eval()
    copy_attention(ours, theirs)
    hidden = hidden_rows()
    expected, _ = theirs(hidden, hidden, hidden, key_padding_mask=~REAL)
    torch.testing.assert_close(ours(hidden, REAL), expected, atol=1e-10, rtol=0)


def test_attention_is_scaled_dot_product_attention_of_turned_queries_and_keys():
    ours, hidden = random_weights(SelfAttention(12, 3)), hidden_rows()
    split = (part.unflatten(2, (3, 4)).transpose(1, 2) for part in ours.qkv(hidden).chunk(3, dim=2))
    queries, keys, values = split
    angles = rotary_angles(7, 4)
    found = F.scaled_dot_product_attention(
        rotate(queries, angles), rotate(keys, angles), values, attn_mask=REAL[:, None, None, :]
    )
    expected = ours.output(found.transpose(1, 2).flatten(2))
    torch.testing.assert_close(ours(hidden, REAL), expected, atol=1e-10, rtol=0)


def test_a_frame_hears_in_what_order_the_others_come():
    attention, hidden = random_weights(SelfAttention(12, 3)), hidden_rows(1)
    swapped = hidden[:, [0, 1, 2, 5, 4, 3, 6]]
    real = real_frames(torch.tensor([7]), 7)
    assert (attention(hidden, real)[0, 0] - attention(swapped, real)[0, 0]).abs().max() > 0.01


@pytest.mark.usefixtures("no_positions")
def test_a_layer_without_positions_is_pytorchs_pre_norm_layer():
    ours = random_weights(PreNormLayer(12, 3, 20, dropout=0.5))
    theirs = nn.TransformerEncoderLayer(12, 3, 20, activation="gelu", batch_first=True, norm_first=True).double().eval()
    copy_attention(ours.attention, theirs.self_attn)
    pairs = [(ours.attention_norm, theirs.norm1), (ours.feed_forward_norm, theirs.norm2)]
    pairs += [(ours.feed_forward[0], theirs.linear1), (ours.feed_forward[2], theirs.linear2)]
    for mine, yours in pairs:
        yours.load_state_dict(mine.state_dict())
    hidden = hidden_rows()
    expected = theirs(hidden, src_key_padding_mask=~REAL)
    torch.testing.assert_close(ours(hidden, REAL)[REAL], expected[REAL], atol=1e-10, rtol=0)


def test_a_layer_drops_what_either_half_found_and_never_what_came_in():
    layer, hidden = random_weights(PreNormLayer(12, 3, 20, dropout=0.5)).train(), hidden_rows()
    asked = []
    layer.dropout.forward = lambda values: asked.append(values) or torch.zeros_like(values)
    assert torch.equal(layer(hidden, REAL), hidden)
    assert len(asked) == 2


@pytest.mark.parametrize(("positions", "features"), [(1500, 512), (7, 4), (1, 10)])
def test_positions_are_openais(positions, features):
    expected = modeling_whisper.sinusoids(positions, features)
    torch.testing.assert_close(sinusoidal_positions(positions, features), expected, atol=5e-4, rtol=0)  # sin(1499) in fp32


@pytest.mark.parametrize("features", [0, 2, 7])
def test_positions_need_an_even_number_of_columns(features):
    with pytest.raises(ValueError, match=f"{features} columns"):
        sinusoidal_positions(3, features)
