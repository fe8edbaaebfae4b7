"""A log-mel spectrogram → sound again, to hear what it kept and what it threw away.

Two things are missing in a mel spectrogram, and each gets its guess: which frequency inside a filter had the power
(`mel_to_power`), and where in its cycle each frequency was (`griffin_lim`).
"""

import torch
from einops import einsum
from jaxtyping import Complex, Float
from torch import Tensor

from course_lib.sound.mel import HOP_LENGTH, WHISPER_MEL_RECIPE, mel_filter_bank


def undo_whisper_scaling(log_mel: Float[Tensor, "frames bins"]) -> Float[Tensor, "frames bins"]:
    """Whisper's log-mel → mel power: 10 to the power 4·x − 4. What was lifted to the floor stays there."""
    return 10.0 ** (4.0 * log_mel - 4.0)


def mel_to_power(
    mel: Float[Tensor, "frames bins"], filters: Float[Tensor, "bins frequencies"], rounds: int = 100
) -> Float[Tensor, "frames frequencies"]:
    """Find a power spectrogram, nowhere negative, that would give this mel spectrogram.

    201 unknowns and 80 equations: many would do. Multiplicative updates (Lee and Seung 2001, theorem 1) start from all ones,
    so that frequencies which no filter tells apart share the power, and only ever scale, so that nothing becomes negative.
    `librosa.feature.inverse.mel_to_stft` solves the same problem with another solver.
    """
    power = torch.ones(len(mel), filters.shape[1], device=mel.device)
    wanted = einsum(mel, filters, "frames bins, bins frequencies -> frames frequencies")
    overlap = einsum(filters, filters, "bins frequencies, bins others -> frequencies others")
    for _ in range(rounds):
        heard = einsum(power, overlap, "frames others, frequencies others -> frames frequencies")
        power = power * wanted / heard.clamp(min=1e-20)
    return power


def griffin_lim(power: Float[Tensor, "frames frequencies"], rounds: int = 32) -> Float[Tensor, "samples"]:
    """Power |STFT|² → a waveform that has about this spectrogram, (frames − 1) · 160 samples.

    Start with all phases 0. Then in turn: make the sound, take its STFT, keep the phases and put the wanted magnitudes back
    (Griffin and Lim 1984). Overlapping windows must agree, and that is what pulls the phases into place.
    Matches `torchaudio.functional.griffinlim` with `momentum=0, rand_init=False`.
    """
    magnitude = power.sqrt().T
    n_fft = 2 * (len(magnitude) - 1)
    window = torch.hann_window(n_fft, device=power.device)
    spectrum = magnitude.to(torch.complex64)
    for _ in range(rounds):
        waveform = torch.istft(spectrum, n_fft, HOP_LENGTH, window=window)
        spectrum = _with_magnitude(magnitude, torch.stft(waveform, n_fft, HOP_LENGTH, window=window, return_complex=True))
    return torch.istft(spectrum, n_fft, HOP_LENGTH, window=window)


def sound_from_whisper_log_mel(log_mel: Float[Tensor, "frames bins"]) -> Float[Tensor, "samples"]:
    """Whisper's log-mel, with any number of bins → sound, 10 ms shorter than it was."""
    filters = mel_filter_bank(log_mel.shape[1], WHISPER_MEL_RECIPE.n_fft).to(log_mel.device)
    return griffin_lim(mel_to_power(undo_whisper_scaling(log_mel), filters))


def _with_magnitude(
    magnitude: Float[Tensor, "frequencies frames"], spectrum: Complex[Tensor, "frequencies frames"]
) -> Complex[Tensor, "frequencies frames"]:
    """Keep the direction of each complex number, replace its length."""
    return magnitude * spectrum / spectrum.abs().clamp(min=1e-16)
