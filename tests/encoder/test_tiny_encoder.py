"""Stage B's encoder: its shapes and its parameters counted by hand, and no clip that hears its neighbours or its padding."""

import copy

import pytest
import torch

from course_lib.encoder.base import EncoderError, Padded
from course_lib.encoder.tiny import StageBEncoder
from course_lib.sound.mel import CTC_MEL_RECIPE, ctc_log_mel


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
    assert torch.equal(disturbed, features)
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
    assert torch.equal(encoder(log_mel)[0], encoder(log_mel)[0])
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
    assert torch.equal(features, expected[0])
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
def test_pad_log_mels_to_a_multiple(multiple, frames):
    batch, counts = Padded.of([torch.ones(3, 128), torch.ones(5, 128)], multiple)
    assert batch.shape == (2, frames, 128)
    assert counts.tolist() == [3, 5]
    assert batch.sum(dim=(1, 2)).tolist() == [3 * 128, 5 * 128]
    assert batch[0, 3:].abs().sum() == 0
