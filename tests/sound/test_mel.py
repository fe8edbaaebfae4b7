"""The hand-made log-mel equals the libraries', and no filter of the CTC recipe is deaf."""

import importlib

import librosa
import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor
from transformers.audio_utils import mel_filter_bank as transformers_filters

from course_lib.sound.mel import (
    CTC_MEL_RECIPE,
    WHISPER_MEL_RECIPE,
    ctc_log_mel,
    hz_to_mel,
    mel_filter_bank,
    mel_to_hz,
    power_spectrogram,
    recipe_log_mel,
    whisper_log_mel,
)


def sound(samples=40_000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    swell = torch.linspace(0.01, 1, samples)
    return 0.1 * swell * torch.randn(samples, generator=generator) + 0.2 * torch.sin(torch.arange(samples) * 0.1)


@pytest.mark.parametrize(("scale", "htk"), [("slaney", False), ("htk", True)])
def test_mel_scales_match_librosa(scale, htk):
    hz = torch.linspace(0, 8000, 801, dtype=torch.float64)
    mel = hz_to_mel(hz, scale)
    np.testing.assert_allclose(mel, librosa.hz_to_mel(hz.numpy(), htk=htk), rtol=1e-9)
    torch.testing.assert_close(mel_to_hz(mel, scale), hz)
    assert (mel.diff() > 0).all()


def test_anchors_of_the_scales():
    assert hz_to_mel(torch.tensor(1000.0)).item() == pytest.approx(15.0)
    assert hz_to_mel(torch.tensor(6400.0)).item() == pytest.approx(42.0)
    assert hz_to_mel(torch.tensor(1000.0), "htk").item() == pytest.approx(1000.0, abs=0.1)


@pytest.mark.parametrize(("bins", "n_fft"), [(80, 400), (128, 400), (128, 1024)])
@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("area_normalised", [True, False])
@pytest.mark.filterwarnings("ignore:At least one mel filterbank", "ignore:Empty filters detected")
def test_filter_bank_matches_librosa_and_torchaudio(torchaudio, bins, n_fft, scale, area_normalised):
    norm = "slaney" if area_normalised else None
    ours = mel_filter_bank(bins, n_fft, scale=scale, area_normalised=area_normalised).numpy()
    theirs = librosa.filters.mel(sr=16_000, n_fft=n_fft, n_mels=bins, htk=scale == "htk", norm=norm)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    also = torchaudio.functional.melscale_fbanks(n_fft // 2 + 1, 0.0, 8000.0, bins, 16_000, norm, scale)
    np.testing.assert_allclose(ours, also.T, atol=2e-5)


def test_defaults_are_librosas_and_not_torchaudios(torchaudio):
    ours = mel_filter_bank(80, 400).numpy()
    np.testing.assert_allclose(ours, librosa.filters.mel(sr=16_000, n_fft=400, n_mels=80), atol=1e-6)
    others = torchaudio.functional.melscale_fbanks(201, 0.0, 8000.0, 80, 16_000).numpy()
    assert np.abs(ours - others.T).max() > 0.1
    np.testing.assert_allclose(transformers_filters(201, 80, 0.0, 8000.0, 16_000), others, atol=2e-5)


@pytest.mark.parametrize("samples", [79_999, 80_000, 80_159, 80_160])
def test_kaldi_counts_the_windows_that_fit(torchaudio, samples):
    """Chapter 01 counts them without it."""
    theirs = importlib.import_module("torchaudio.compliance.kaldi").fbank(torch.zeros(1, samples))
    assert len(theirs) == len(torch.zeros(samples).unfold(0, 400, 160))


def test_area_normalisation_hears_white_noise_evenly():
    energy = mel_filter_bank(40, 4096).sum(dim=1)
    torch.testing.assert_close(energy, energy.mean().expand(40), rtol=0.02, atol=0)


def frequencies_per_filter(n_fft, scale):
    return (mel_filter_bank(128, n_fft, scale=scale) > 0).sum(dim=1)


def test_why_the_ctc_recipe_pads_its_windows():
    assert (frequencies_per_filter(400, "htk") == 0).sum() == 4
    assert (frequencies_per_filter(400, "slaney") == 0).sum() == 0
    assert (frequencies_per_filter(400, "slaney") == 1).sum() == 45
    assert frequencies_per_filter(CTC_MEL_RECIPE.n_fft, "slaney").min() == 2


@pytest.mark.parametrize("n_fft", [400, 1024])
def test_power_spectrogram_is_the_stft_squared(n_fft):
    waveform = sound(8000)
    power = power_spectrogram(waveform, n_fft)
    theirs = np.abs(librosa.stft(waveform.numpy(), n_fft=n_fft, hop_length=160, win_length=400, pad_mode="reflect"))
    assert power.shape == (51, n_fft // 2 + 1)
    np.testing.assert_allclose(power.T, theirs**2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_fft", [400, 1024])
def test_a_click_is_loudest_in_the_frame_centred_on_it(n_fft):
    waveform = torch.zeros(16_000)
    waveform[160 * 37] = 1.0
    assert power_spectrogram(waveform, n_fft).sum(dim=1).argmax() == 37


@pytest.mark.parametrize("samples", [1600, 1601, 1759, 40_000, 48_077, 480_000])
@pytest.mark.parametrize("padded", [True, False])
def test_whisper_log_mel_equals_transformers(samples, padded):
    waveform = sound(samples)
    options = {"padding": "max_length"} if padded else {"padding": False}
    theirs = WhisperFeatureExtractor()(waveform.numpy(), sampling_rate=16_000, **options)["input_features"][0]
    ours = whisper_log_mel(waveform, pad_to_30_seconds=padded)
    assert ours.shape == ((3000 if padded else samples // 160), 80)
    np.testing.assert_allclose(ours.T, theirs, atol=1e-4)


def logarithm(mel):
    log_mel = torch.as_tensor(mel).clamp(min=1e-10).log10()[:, :-1].T
    return log_mel.clamp(min=log_mel.max() - 8)


@pytest.mark.parametrize("recipe", [WHISPER_MEL_RECIPE, CTC_MEL_RECIPE], ids=["whisper", "ctc"])
def test_log_mel_equals_torchaudio(torchaudio, recipe):
    theirs = torchaudio.transforms.MelSpectrogram(
        16_000, recipe.n_fft, recipe.window_length, recipe.hop_length, n_mels=recipe.bins, norm="slaney", mel_scale="slaney"
    )
    torch.testing.assert_close(recipe_log_mel(sound(), recipe), logarithm(theirs(sound())), atol=1e-4, rtol=0)


@pytest.mark.parametrize("recipe", [WHISPER_MEL_RECIPE, CTC_MEL_RECIPE], ids=["whisper", "ctc"])
def test_log_mel_equals_librosa(recipe):
    theirs = librosa.feature.melspectrogram(
        y=sound().numpy(),
        sr=16_000,
        n_fft=recipe.n_fft,
        win_length=recipe.window_length,
        hop_length=recipe.hop_length,
        n_mels=recipe.bins,
        pad_mode="reflect",
    )
    torch.testing.assert_close(recipe_log_mel(sound(), recipe), logarithm(theirs), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("option", "most"),
    [({"mel_scale": "htk"}, 0.3), ({"norm": None}, 1.0), ({"power": 1.0}, 0.3), ({"pad_mode": "constant"}, 0.01)],
    ids=str,
)
def test_every_other_convention_gives_other_numbers(torchaudio, option, most):
    right = {"norm": "slaney", "mel_scale": "slaney", "n_mels": 80, "hop_length": 160}
    theirs = torchaudio.transforms.MelSpectrogram(16_000, 400, **{**right, **option})
    assert (recipe_log_mel(sound(), WHISPER_MEL_RECIPE) - logarithm(theirs(sound()))).abs().max() > most


def test_whisper_log_mel_of_turbo():
    extractor = WhisperFeatureExtractor(feature_size=128)
    theirs = extractor(sound().numpy(), sampling_rate=16_000, padding=False)["input_features"][0]
    np.testing.assert_allclose(whisper_log_mel(sound(), bins=128).T, theirs, atol=1e-4)


@pytest.mark.parametrize("log_mel", [whisper_log_mel, ctc_log_mel])
def test_too_short_is_refused(log_mel):
    assert len(log_mel(sound(1600))) == 10
    with pytest.raises(ValueError, match=r"1599 samples are too few.*0\.1 s"):
        log_mel(sound(1599))


def test_more_than_30_seconds_cannot_be_padded():
    with pytest.raises(ValueError, match=r"31\.00 s cannot be padded to 30 s"):
        whisper_log_mel(sound(31 * 16_000), pad_to_30_seconds=True)


@pytest.mark.parametrize(("samples", "frames"), [(16_000, 100), (1600, 10), (16_159, 100), (16_160, 101)])
def test_ctc_log_mel_shape_and_level(samples, frames):
    log_mel = ctc_log_mel(sound(samples))
    assert log_mel.shape == (frames, 128)
    assert log_mel.mean().item() == pytest.approx(0, abs=1e-4)
    assert log_mel.std().item() == pytest.approx(1, abs=1e-4)


def test_ctc_log_mel_does_not_hear_the_volume():
    torch.testing.assert_close(ctc_log_mel(sound() * 0.03), ctc_log_mel(sound()), atol=1e-3, rtol=0)
    assert (whisper_log_mel(sound() * 0.03) - whisper_log_mel(sound())).abs().max() > 0.5


def test_digital_silence_is_lifted_to_80_db_below_the_loudest():
    with_gap = sound(16_000)
    with_gap[4000:12_000] = 0
    log_mel = ctc_log_mel(with_gap)
    unlifted = mel_filter_bank(128, 1024) @ power_spectrogram(with_gap, 1024)[:-1].T
    log_power = unlifted.clamp(min=1e-10).log10().T
    assert (log_power.max() - log_power.min()).item() > 10
    lifted = log_power.clamp(min=log_power.max() - 8)
    torch.testing.assert_close(log_mel, (lifted - lifted.mean()) / lifted.std(), atol=1e-4, rtol=0)


def test_ctc_log_mel_of_nothing_is_zero():
    assert torch.equal(ctc_log_mel(torch.zeros(16_000)), torch.zeros(100, 128))


def test_recipe_keys_tell_recipes_apart():
    assert WHISPER_MEL_RECIPE.key == "whisper-80-400-400-160-16000-slaney-1"
    assert CTC_MEL_RECIPE.key != WHISPER_MEL_RECIPE.key
