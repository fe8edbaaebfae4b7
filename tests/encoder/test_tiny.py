"""Stage B's encoder: each part beside that of PyTorch which it writes out; the whole with its parameters counted by hand, and
no clip that hears its neighbours or its padding."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib.encoder import tiny
from course_lib.encoder.base import EncoderError, Padded, real_frames
from course_lib.encoder.positions import rotary_angles, rotate
from course_lib.encoder.tiny import ByteDropout, PreNormLayer, SelfAttention, StageBEncoder, TimeReduction
from course_lib.sound.mel import CTC_MEL_RECIPE, ctc_log_mel


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


def noise(frames, seed=None):
    return torch.randn(frames, 128, generator=torch.Generator().manual_seed(frames if seed is None else seed))


def small(factor, **changes):
    torch.manual_seed(0)
    return StageBEncoder(**{"d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 24, "downsample_time": factor} | changes)


@pytest.fixture(params=[2, 4, 8])
def exact_encoder(request):
    """In float64 rounding cannot hide a leak of padding: only the output is cast to fp32."""
    encoder = small(request.param).double().eval()
    # fresh norms and the like are too tidy to notice an omission
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


def test_a_clip_of_any_length_is_the_same_alone_and_in_a_batch(exact_encoder):
    factor = round(100 / exact_encoder.config.frames_per_second)
    clips = [noise(frames).double() for frames in range(1, 41)]
    features, counts = exact_encoder(*Padded.of(clips))
    assert counts.tolist() == [-(-frames // factor) for frames in range(1, 41)]
    for row, count, clip in zip(features, counts, clips, strict=True):
        alone, alone_counts = exact_encoder(clip[None])
        assert alone_counts.tolist() == [count]
        assert alone.shape == (1, count, 16)
        torch.testing.assert_close(row[:count], alone[0], atol=1e-6, rtol=0)


def test_what_stands_in_the_padding_does_not_matter_and_the_features_of_padding_are_zero(exact_encoder):
    batch, counts = Padded.of([noise(frames).double() for frames in (23, 1, 40, 8)])
    padding = torch.arange(40) >= counts[:, None]
    features, feature_counts = exact_encoder(batch, counts)
    disturbed, _ = exact_encoder(batch + 5.0 * padding[:, :, None], counts)
    torch.testing.assert_close(disturbed, features, atol=1e-6, rtol=0)
    behind = torch.arange(features.shape[1]) >= feature_counts[:, None]
    assert behind.any()
    assert features[behind].abs().max() == 0
    assert (features[~behind].abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("more", [1, 2, 3, 57])
def test_padding_longer_than_needed_changes_nothing(exact_encoder, more):
    clip = noise(21).double()
    alone, _ = exact_encoder(clip[None])
    longer = torch.cat([clip, torch.zeros(more, 128).double()])[None]
    features, counts = exact_encoder(longer, torch.tensor([21]))
    torch.testing.assert_close(features[:, : counts[0]], alone, atol=1e-6, rtol=0)


def test_in_fp32_only_rounding_differs():
    encoder, clips = small(4).eval(), [noise(frames) for frames in (120, 7, 301)]
    features, counts = encoder(*Padded.of(clips, multiple=64))
    assert features.shape[1] == 320 // 4
    for row, count, clip in zip(features, counts, clips, strict=True):
        alone, _ = encoder(clip[None])
        assert (row[:count] - alone[0]).abs().max() <= 1e-4 * alone.abs().max()


def count_parameters(factor, bins=128, d=192, layers=4, ff=768):
    first, others = 3 * bins * d + d, 3 * d * d + d
    convolutions = first + (factor.bit_length() - 2) * others
    attention = (3 * d * d + 3 * d) + (d * d + d)
    feed_forward = (d * ff + ff) + (ff * d + d)
    return convolutions + layers * (attention + feed_forward + 4 * d) + 2 * d


@pytest.mark.parametrize(("factor", "expected"), [(2, 1_853_760), (4, 1_964_544), (8, 2_075_328)])
def test_the_documents_sizes_make_two_million_parameters(factor, expected):
    encoder = StageBEncoder(downsample_time=factor)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == count_parameters(factor) == expected
    assert (encoder.feature_dim, encoder.config.mel_bins, encoder.config.max_frames) == (192, 128, 3000)
    assert encoder.config.frames_per_second == 100 / factor
    assert encoder.mel_recipe == CTC_MEL_RECIPE


def test_every_argument_builds_what_it_names():
    encoder = StageBEncoder(d_model=24, n_layers=3, n_heads=4, d_ff=40, dropout=0.25, downsample_time=8, precision="bf16")
    assert (len(encoder.layers), encoder.layers[0].attention.heads, encoder.layers[0].feed_forward[0].out_features) == (
        3,
        4,
        40,
    )
    assert [module.dropped for module in encoder.modules() if hasattr(module, "dropped")] == [64] * 4
    assert (encoder.precision, len(encoder.time_reduction.convolutions)) == ("bf16", 3)
    assert encoder.norm.normalized_shape == (24,)


def test_gradients_reach_every_parameter_and_the_last_frame_of_each_clip():
    encoder = small(4)
    batch, counts = Padded.of([noise(37), noise(12)])
    batch.requires_grad_()
    features, _ = encoder(batch, counts)
    (features * torch.randn_like(features)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())
    heard = batch.grad.abs().sum(dim=2) > 0
    assert heard.sum(dim=1).tolist() == [37, 12]


def test_dropout_in_training_only():
    encoder, log_mel = small(4, dropout=0.5), noise(40)[None]
    assert not torch.equal(encoder(log_mel)[0], encoder(log_mel)[0])
    encoder.eval()
    torch.testing.assert_close(encoder(log_mel)[0], encoder(log_mel)[0])
    # and also between the convolutions and the first layer
    shallow = small(4, dropout=0.5, n_layers=0)
    assert not torch.equal(shallow(log_mel)[0], shallow(log_mel)[0])


def test_too_much_and_impossible_input():
    encoder = small(4)
    with pytest.raises(EncoderError, match="80 bins, this encoder takes 128"):
        encoder(torch.zeros(1, 100, 80))
    with pytest.raises(EncoderError, match=r"3001 mel frames: 1 to 3000 \(30 s\) fit"):
        encoder(torch.zeros(1, 3001, 128))
    with pytest.raises(EncoderError, match="1 to 3000"):
        encoder(torch.zeros(1, 0, 128))
    for counts in ([0, 5], [5, 11]):
        with pytest.raises(EncoderError, match="must lie between 1 and 10"):
            encoder(torch.zeros(2, 10, 128), torch.tensor(counts))


def test_encode_waveform_uses_the_courses_own_log_mel():
    encoder = small(4).eval()
    waveform = 0.1 * torch.randn(8_000, generator=torch.Generator().manual_seed(0))
    expected, _ = encoder(ctc_log_mel(waveform)[None])
    features = encoder.encode_waveform(waveform)
    assert features.shape == (-(-len(ctc_log_mel(waveform)) // 4), 16)
    torch.testing.assert_close(features, expected[0], atol=1e-4, rtol=0)
    assert not features.requires_grad


def test_bf16_is_close_and_still_returns_fp32():
    encoder = small(4).eval()
    fast = copy.copy(encoder)
    fast.precision = "bf16"
    expected, features = encoder(noise(200)[None])[0], fast(noise(200)[None])[0]
    assert features.dtype == torch.float32
    difference = (features - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 1e-4 < difference < 0.1


def test_the_fingerprint_names_weights_sizes_and_precision():
    encoder, same = small(4), small(4)
    assert encoder.fingerprint == same.fingerprint
    assert encoder.fingerprint.endswith("-fp32")
    moved = small(4)
    with torch.no_grad():
        moved.norm.bias[3] += 1e-3
    assert moved.fingerprint != encoder.fingerprint
    assert small(8).fingerprint != encoder.fingerprint
    assert small(4, precision="bf16").fingerprint == encoder.fingerprint.replace("fp32", "bf16")


@pytest.mark.parametrize(("multiple", "frames"), [(1, 5), (4, 8), (5, 5), (64, 64)])
def test_clips_are_padded_to_a_multiple(multiple, frames):
    batch, counts = Padded.of([torch.ones(3, 128), torch.ones(5, 128)], multiple)
    assert batch.shape == (2, frames, 128)
    assert counts.tolist() == [3, 5]
    assert batch.sum(dim=(1, 2)).tolist() == [3 * 128, 5 * 128]
    assert batch[0, 3:].abs().sum() == 0
