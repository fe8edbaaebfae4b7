"""A waveform → a log-mel spectrogram: one row of numbers for every 10 ms of sound.

`whisper_log_mel` follows Whisper's recipe to the letter, because its frozen encoder knows no other.
`ctc_log_mel` is the course's own, for the encoder of Stage B that learns from nothing.

    samples → power_spectrogram → mel_filter_bank → logarithm → level → [frames, bins]
"""

import functools
import math
from dataclasses import astuple, dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from course_lib.errors import CourseError
from course_lib.sound.audio import SAMPLE_RATE, SHORTEST_SECONDS

MelScale = Literal["slaney", "htk"]

HOP_LENGTH = 160
"""Samples from one frame to the next: 10 ms, so 100 frames a second."""

WHISPER_SECONDS = 30
_QUIETEST_POWER = 1e-10
_DYNAMIC_RANGE = 8.0  # in powers of ten: 80 dB below the loudest value of the clip


@dataclass(frozen=True)
class MelRecipe:
    """What decides the numbers of a log-mel spectrogram; `version` rises when the code around it changes."""

    name: str
    bins: int
    n_fft: int
    window_length: int = 400
    hop_length: int = HOP_LENGTH
    sample_rate: int = SAMPLE_RATE
    scale: str = "slaney"
    version: int = 1

    @property
    def key(self) -> str:
        """One string for the whole recipe, for the names of caches: it changes whenever a field does."""
        return "-".join(str(field) for field in astuple(self))


WHISPER_MEL_RECIPE = MelRecipe("whisper", bins=80, n_fft=400)

# 400 samples give 201 frequencies, 40 Hz apart. The lowest of 128 filters are about that narrow: on the HTK
# scale 4 of them catch no frequency at all, on Slaney's 45 catch a single one, some only by their foot.
# Padding the same 25 ms with zeros to 1024 samples puts the frequencies 15.6 Hz apart, two or more a filter.
CTC_MEL_RECIPE = MelRecipe("ctc", bins=128, n_fft=1024)


def hz_to_mel(hz: Float[Tensor, "*dims"], scale: MelScale = "slaney") -> Float[Tensor, "*dims"]:
    """Frequency in Hz → pitch in mel.

    HTK: 2595·log₁₀(1 + hz/700). Slaney (librosa's and Whisper's): a straight line of 3 mel per 200 Hz up to
    1000 Hz = 15 mel, above it a logarithm with 27 mel for each factor of 6.4. The two are different units.
    """
    if scale == "htk":
        return 2595.0 * torch.log10(1.0 + hz / 700.0)
    logarithmic = 15.0 + 27.0 * torch.log(hz.clamp(min=1000.0) / 1000.0) / math.log(6.4)
    return torch.where(hz < 1000.0, hz * 3.0 / 200.0, logarithmic)


def mel_to_hz(mel: Float[Tensor, "*dims"], scale: MelScale = "slaney") -> Float[Tensor, "*dims"]:
    """Pitch in mel → frequency in Hz; the inverse of `hz_to_mel`."""
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    exponential = 1000.0 * torch.exp(math.log(6.4) * (mel.clamp(min=15.0) - 15.0) / 27.0)
    return torch.where(mel < 15.0, mel * 200.0 / 3.0, exponential)


def mel_filter_bank(
    bins: int,
    n_fft: int,
    sample_rate: int = SAMPLE_RATE,
    scale: MelScale = "slaney",
    area_normalised: bool = True,
) -> Float[Tensor, "bins frequencies"]:
    """Build `bins` triangles, equally wide in mel, over the n_fft // 2 + 1 frequencies from 0 Hz to rate / 2.

    Each triangle rises from its left neighbour's centre to its own and falls to its right neighbour's. With
    `area_normalised` its height is 2 / width in Hz, so that white noise fills all filters alike.
    The defaults match those of `librosa.filters.mel`; `scale="htk", area_normalised=False` matches the
    defaults of `torchaudio.functional.melscale_fbanks`, which returns it transposed.
    """
    frequencies = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    highest = hz_to_mel(torch.tensor(sample_rate / 2, dtype=torch.float64), scale)
    corners = mel_to_hz(torch.linspace(0, highest.item(), bins + 2, dtype=torch.float64), scale)
    left, centre, right = (corners[start : start + bins, None] for start in range(3))
    rising = (frequencies - left) / (centre - left)
    falling = (right - frequencies) / (right - centre)
    triangles = torch.minimum(rising, falling).clamp(min=0.0)
    if area_normalised:
        triangles = triangles * 2.0 / (right - left)
    return triangles.float()


def power_spectrogram(
    waveform: Float[Tensor, "samples"],
    n_fft: int = 400,
    window_length: int = 400,
    hop_length: int = HOP_LENGTH,
) -> Float[Tensor, "frames frequencies"]:
    """Power |STFT|² of windows centred on the samples 0, hop, 2·hop, …: `samples // hop_length + 1` frames.

    The sound is mirrored at both ends to fill the first and last window. A window shorter than `n_fft` is
    padded with zeros: more frequencies, the same 25 ms. Matches `torch.stft` with a periodic Hann window.
    Raises `ValueError` for less than 0.1 s.
    """
    if len(waveform) < SHORTEST_SECONDS * SAMPLE_RATE:
        raise CourseError(f"{len(waveform)} samples are too few for a spectrogram: at least 0.1 s (1600) are needed.")
    window = torch.hann_window(window_length, device=waveform.device)
    spectrum = torch.stft(
        waveform,
        n_fft,
        hop_length,
        window_length,
        window,
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    return spectrum.abs().square().T


def whisper_log_mel(
    waveform: Float[Tensor, "samples"], pad_to_30_seconds: bool = False, bins: int = 80
) -> Float[Tensor, "frames bins"]:
    """Log-mel as Whisper was trained on: 100 frames a second, values from about −1 to 1.5.

    1 s → [100, 80]; padded with silence to 30 s → [3000, 80]. `bins` is 128 for whisper-large-v3 and turbo.
    Matches transformers' `WhisperFeatureExtractor` with `padding="max_length"` (padded) or `padding=False`.
    What is more than 80 dB below the loudest value of the clip is lifted to there (openai/whisper, audio.py).
    Raises `ValueError` for less than 0.1 s, and for more than 30 s when padding.
    """
    if pad_to_30_seconds:
        missing = WHISPER_SECONDS * SAMPLE_RATE - len(waveform)
        if missing < 0:
            raise CourseError(f"{len(waveform) / SAMPLE_RATE:.2f} s cannot be padded to 30 s: cut the clip first.")
        waveform = F.pad(waveform, (0, missing))
    recipe = MelRecipe(WHISPER_MEL_RECIPE.name, bins, WHISPER_MEL_RECIPE.n_fft)
    return (recipe_log_mel(waveform, recipe) + 4.0) / 4.0


def ctc_log_mel(waveform: Float[Tensor, "samples"]) -> Float[Tensor, "frames bins"]:
    """Log-mel for the encoder of Stage B: 1 s → [100, 128], mean 0 and standard deviation 1 over each clip.

    One mean and one deviation for the whole clip take away how loud it was recorded; the shape of the
    spectrum stays. Values more than 80 dB below the loudest are lifted to there first, so that digital
    silence does not decide the mean. Raises `ValueError` for less than 0.1 s.
    """
    log_mel = recipe_log_mel(waveform, CTC_MEL_RECIPE)
    return (log_mel - log_mel.mean()) / log_mel.std().clamp(min=1e-5)


def recipe_log_mel(waveform: Float[Tensor, "samples"], recipe: MelRecipe) -> Float[Tensor, "frames bins"]:
    """What all recipes share: power, filters, log₁₀, and a floor 80 dB below the loudest value.

    The last frame is dropped, as Whisper does, to leave `samples // hop_length`. Raises `ValueError` for less than 0.1 s.
    """
    power = power_spectrogram(waveform, recipe.n_fft, recipe.window_length, recipe.hop_length)[:-1]
    filters = _filters(recipe).to(waveform.device)
    mel = einsum(power, filters, "frames frequencies, bins frequencies -> frames bins")
    log_mel = mel.clamp(min=_QUIETEST_POWER).log10()
    return log_mel.clamp(min=log_mel.max() - _DYNAMIC_RANGE)


@functools.cache
def _filters(recipe: MelRecipe) -> Float[Tensor, "bins frequencies"]:
    return mel_filter_bank(recipe.bins, recipe.n_fft, recipe.sample_rate, recipe.scale)
