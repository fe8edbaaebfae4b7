"""Sound from a spectrogram: as torchaudio and librosa do it, and nearer to the wanted spectrogram with every round."""

import librosa
import pytest
import torch

from course_lib.sound.griffin_lim import griffin_lim, mel_to_power, sound_from_whisper_log_mel, undo_whisper_scaling
from course_lib.sound.mel import mel_filter_bank, power_spectrogram, whisper_log_mel


def sound(samples=8000):
    time = torch.arange(samples) / 16_000
    buzz = sum(torch.sin(2 * torch.pi * 150 * harmonic * time) / harmonic for harmonic in range(1, 20))
    return 0.1 * buzz * torch.sin(torch.pi * time / time[-1]) ** 2


def mel_of(waveform, bins=80):
    return power_spectrogram(waveform) @ mel_filter_bank(bins, 400).T


def distance(power, waveform):
    """How far the magnitudes of a waveform are from the wanted ones, relative to their size."""
    return ((power_spectrogram(waveform).sqrt() - power.sqrt()).norm() / power.sqrt().norm()).item()


@pytest.mark.parametrize("rounds", [0, 1, 8])
def test_griffin_lim_equals_torchaudio(torchaudio, rounds):
    power = power_spectrogram(sound())
    theirs = torchaudio.functional.griffinlim(
        power.T, torch.hann_window(400), 400, 160, 400, power=2.0, n_iter=rounds, momentum=0.0, length=None, rand_init=False
    )
    ours = griffin_lim(power, rounds)
    assert ours.shape == (8000,)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rounds", [0, 1, 4])
def test_griffin_lim_equals_librosa(rounds):
    power = power_spectrogram(sound())
    settings = {"n_fft": 400, "hop_length": 160, "momentum": 0.0, "init": None, "pad_mode": "reflect"}
    theirs = librosa.griffinlim(power.T.sqrt().numpy(), n_iter=rounds, **settings)
    torch.testing.assert_close(griffin_lim(power, rounds), torch.from_numpy(theirs), atol=1e-3, rtol=0)


def test_every_round_brings_the_sound_nearer():
    power = power_spectrogram(sound())
    distances = [distance(power, griffin_lim(power, rounds)) for rounds in (0, 1, 4, 16)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.15


@pytest.mark.parametrize("bins", [20, 80])
def test_the_power_it_finds_has_the_wanted_mel_spectrogram(bins):
    filters, mel = mel_filter_bank(bins, 400), mel_of(sound(), bins)
    power = mel_to_power(mel, filters)
    assert (power >= 0).all()
    assert (power @ filters.T - mel).norm() < 0.03 * mel.norm()


def test_it_fits_the_mel_spectrogram_about_as_well_as_librosa():
    filters, mel = mel_filter_bank(80, 400), mel_of(sound())
    theirs = librosa.feature.inverse.mel_to_stft(mel.T.numpy(), sr=16_000, n_fft=400, power=2.0)
    their_misfit = (torch.from_numpy(theirs).square().T @ filters.T - mel).norm()
    our_misfit = (mel_to_power(mel, filters, rounds=500) @ filters.T - mel).norm()
    assert our_misfit < max(2 * their_misfit, 0.01 * mel.norm())


def test_power_that_no_filter_hears_stays_out():
    filters = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    power = mel_to_power(torch.tensor([[3.0, 8.0]]), filters)
    torch.testing.assert_close(power, torch.tensor([[3.0, 0.0, 4.0]]))


def test_the_scaling_is_undone():
    mel = mel_of(sound())[:-1]
    back = undo_whisper_scaling(whisper_log_mel(sound()))
    audible = mel > mel.max() * 1e-8
    torch.testing.assert_close(back[audible], mel[audible], rtol=1e-3, atol=0)


def test_more_bins_come_back_nearer():
    power = power_spectrogram(sound())[:50]
    far, near = (distance(power, sound_from_whisper_log_mel(whisper_log_mel(sound(), bins=bins))) for bins in (20, 80))
    assert near < 0.6 * far


def test_silence_comes_back_as_silence():
    assert sound_from_whisper_log_mel(whisper_log_mel(torch.zeros(8000))).abs().max() < 1e-3
