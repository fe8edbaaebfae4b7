"""The frozen Whisper encoder: transformers' numbers over 30 s, and no clip that hears its neighbours."""

import copy
import hashlib

import pytest
import torch
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder as TransformersEncoder

from course_lib.encoder.base import EncoderError, Padded
from course_lib.encoder.whisper import WhisperEncoder
from course_lib.files import DATA_FOLDER
from course_lib.sound.mel import whisper_log_mel

SHIPPED = DATA_FOLDER / "models" / "whisper-base-encoder"


@pytest.fixture(scope="session")
def encoder():
    return WhisperEncoder.from_pretrained(SHIPPED)


@pytest.fixture(scope="session")
def exact_encoder(encoder):
    """The same in float64, where rounding cannot hide a leak of padding: only the output is cast to fp32."""
    return copy.deepcopy(encoder).double()


def voice(seconds, pitch=120.0, seed=0):
    """Harmonics that rise and fall like syllables, over a little noise."""
    time = torch.arange(round(seconds * 16_000)) / 16_000
    harmonics = sum(torch.sin(2 * torch.pi * pitch * k * time) / k for k in range(1, 20))
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(seed))
    return 0.1 * harmonics * torch.sin(2 * torch.pi * 2 * time).abs() + 0.005 * noise


def clips():
    lengths = [1.0, 0.1, 2.37, 0.51, 1.99]
    return [whisper_log_mel(voice(length, 90 + 30 * i, i)) for i, length in enumerate(lengths)]


def test_shipped_weights_are_the_ones_that_were_measured():
    digest = hashlib.sha256((SHIPPED / "model.safetensors").read_bytes()).hexdigest()
    assert digest == "e94a387f2379b252af9ab7a4eb8dffcfff2c1b11178de3842011e29bfcae9d49"
    assert "MIT License" in (SHIPPED / "LICENSE").read_text()


def test_size_and_config(encoder):
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 20_590_592
    assert (encoder.config.feature_dim, encoder.feature_dim) == (512, 512)
    assert (encoder.config.mel_bins, encoder.config.max_frames, encoder.config.frames_per_second) == (
        80,
        3000,
        50,
    )


def test_30_seconds_equal_transformers(encoder):
    log_mel = whisper_log_mel(voice(30.0))[None]
    theirs = TransformersEncoder.from_pretrained(SHIPPED, dtype=torch.float32).eval()
    # Its own positions, which are not in the file, transformers would compute in single precision.
    theirs.embed_positions.load_state_dict(encoder.whisper.embed_positions.state_dict())
    with torch.no_grad():
        expected = theirs(log_mel.mT).last_hidden_state
    features, counts = encoder(log_mel)
    assert features.shape == (1, 1500, 512)
    assert counts.tolist() == [1500]
    torch.testing.assert_close(features, expected, atol=1e-3, rtol=0)  # the largest is near 20


def test_a_clip_is_the_same_alone_and_in_a_batch(exact_encoder):
    log_mels = [log_mel.double() for log_mel in clips()]
    features, counts = exact_encoder(*Padded.of(log_mels))
    for row, count, log_mel in zip(features, counts, log_mels, strict=True):
        alone, _ = exact_encoder(log_mel[None])
        torch.testing.assert_close(row[:count], alone[0], atol=1e-5, rtol=0)


def test_in_fp32_only_rounding_differs(encoder):
    features, counts = encoder(*Padded.of(clips()))
    for row, count, log_mel in zip(features, counts, clips(), strict=True):
        alone, _ = encoder(log_mel[None])
        assert (row[:count] - alone[0]).abs().max() <= 1e-4 * alone.abs().max()


def test_what_stands_in_the_padding_does_not_matter(exact_encoder):
    batch, counts = Padded.of([log_mel.double() for log_mel in clips()])
    padding = torch.arange(batch.shape[1]) >= counts[:, None]
    features, feature_counts = exact_encoder(batch, counts)
    disturbed, _ = exact_encoder(batch + 5.0 * padding[:, :, None], counts)
    torch.testing.assert_close(disturbed, features, atol=1e-6, rtol=0)  # in float64, cast to fp32 at the end
    behind = torch.arange(features.shape[1]) >= feature_counts[:, None]
    assert behind.any()
    assert features[behind].abs().max() == 0


def test_padding_longer_than_needed_changes_nothing(exact_encoder):
    log_mel = clips()[0].double()
    alone, _ = exact_encoder(log_mel[None])
    longer = torch.cat([log_mel, torch.zeros(57, 80, dtype=torch.float64)])[None]
    features, counts = exact_encoder(longer, torch.tensor([len(log_mel)]))
    torch.testing.assert_close(features[:, : counts[0]], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("frames", "expected"), [(1, 1), (2, 1), (3, 2), (10, 5), (101, 51), (2999, 1500)])
def test_every_two_frames_give_one_and_an_odd_one_its_own(frames, expected):
    small = WhisperConfig(d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16)
    features, counts = WhisperEncoder(TransformersEncoder(small))(torch.zeros(2, frames, 80))
    assert features.shape == (2, expected, 16)
    assert counts.tolist() == [expected, expected]


def test_too_much_and_impossible_input(encoder):
    with pytest.raises(EncoderError, match=r"3001 mel frames: 1 to 3000 \(30 s\) fit"):
        encoder(torch.zeros(1, 3001, 80))
    with pytest.raises(EncoderError, match="1 to 3000"):
        encoder(torch.zeros(1, 0, 80))
    with pytest.raises(EncoderError, match="128 bins, this encoder takes 80"):
        encoder(torch.zeros(1, 100, 128))
    for counts in ([0, 5], [5, 11]):
        with pytest.raises(EncoderError, match="must lie between 1 and 10"):
            encoder(torch.zeros(2, 10, 80), torch.tensor(counts))


def test_frozen_and_never_in_training_mode(encoder):
    around = torch.nn.Sequential(encoder, torch.nn.Dropout())
    around.train()
    assert around[1].training
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    features, _ = encoder(clips()[0][None])
    assert not features.requires_grad


def test_gradients_still_reach_the_sound(encoder):
    log_mel = clips()[1][None].requires_grad_()
    encoder(log_mel)[0].sum().backward()
    assert (log_mel.grad.abs().amax(dim=(0, 2)) > 0).all()


def test_encode_waveform(encoder):
    waveform = voice(2.0)
    features = encoder.encode_waveform(waveform)
    expected, _ = encoder(whisper_log_mel(waveform)[None])
    assert features.shape == (100, 512)
    torch.testing.assert_close(features, expected[0], atol=1e-3, rtol=0)


def test_bf16_is_close_and_still_returns_fp32(encoder):
    fast = copy.copy(encoder)
    fast.precision = "bf16"
    expected, features = encoder.encode_waveform(voice(2.0)), fast.encode_waveform(voice(2.0))
    assert features.dtype == torch.float32
    difference = (features - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 1e-4 < difference < 0.1


def test_padded():
    batch, counts = Padded.of([torch.ones(3, 80), torch.ones(5, 80)])
    assert counts.tolist() == [3, 5]
    assert batch.sum(dim=(1, 2)).tolist() == [240, 400]
    assert batch[0, 3:].abs().max() == 0


def test_eager_attention_is_not_used_with_a_yes_or_no_mask(encoder):
    whisper = copy.deepcopy(encoder.whisper)
    whisper.config._attn_implementation = "eager"
    batch, counts = Padded.of(clips()[:2])
    features, _ = WhisperEncoder(whisper)(batch, counts)
    torch.testing.assert_close(features, encoder(batch, counts)[0], atol=1e-3, rtol=0)
