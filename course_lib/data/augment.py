"""A clean synthetic voice → the same voice in a room, through some microphone, with noise.

espeak-ng speaks in a vacuum. People speak in kitchens, through laptops, too near or too far. None of these functions makes
a synthetic voice human, but each takes away one thing by which a recogniser could tell the laboratory from the world.
All of them take and give float32 mono at 16 kHz.
"""

import random
from collections.abc import Callable

import numpy as np
import soxr
from jaxtyping import Float

from course_lib.sound.audio import SAMPLE_RATE

Waveform = Float[np.ndarray, " samples"]
OtherWaveform = Float[np.ndarray, " _samples"]
"""One that may be longer or shorter than what came in."""


def change_speed(waveform: Waveform, factor: float) -> OtherWaveform:
    """Play `factor` times as fast: shorter, and higher in pitch and formants, as a tape would."""
    return soxr.resample(waveform, SAMPLE_RATE * factor, SAMPLE_RATE)


def add_silence(waveform: Waveform, before: float, after: float) -> OtherWaveform:
    """Put seconds of silence around the speech."""
    return np.pad(waveform, (int(before * SAMPLE_RATE), int(after * SAMPLE_RATE)))


def add_room(waveform: Waveform, reverberation_time: float, wetness: float, rng: np.random.Generator) -> Waveform:
    """Convolve with a made-up room: noise that decays by 60 dB in `reverberation_time` seconds after the direct sound."""
    from scipy.signal import fftconvolve  # half a second, and who transcribes needs no echo

    seconds = np.arange(int(reverberation_time * SAMPLE_RATE)) / SAMPLE_RATE
    echoes = rng.standard_normal(len(seconds)) * 10 ** (-3 * seconds / reverberation_time)
    echoes *= wetness / np.linalg.norm(echoes)
    echoes[0] = 1.0
    return fftconvolve(waveform, echoes)[: len(waveform)].astype(np.float32)


def equalise(waveform: Waveform, gains_db: list[float]) -> Waveform:
    """Filter with a smooth curve through `gains_db`, at frequencies spread evenly in octaves from 60 Hz to 8 kHz."""
    spectrum = np.fft.rfft(waveform)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE), 60.0) / 60.0)
    curve = np.interp(octaves, np.linspace(0, np.log2(8_000 / 60), len(gains_db)), gains_db)
    return np.fft.irfft(spectrum * 10 ** (curve / 20), len(waveform)).astype(np.float32)


def add_noise(waveform: Waveform, snr_db: float, slope: float, rng: np.random.Generator) -> Waveform:
    """Add noise `snr_db` below the speech; `slope` 0 is white, 1 pink (traffic), 2 brown (a rumble)."""
    white = np.fft.rfft(rng.standard_normal(len(waveform)))
    frequencies = np.maximum(np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE), 30.0)
    noise = np.fft.irfft(white * frequencies ** (-slope / 2), len(waveform))
    speech_power = np.mean(waveform[np.abs(waveform) > 1e-3] ** 2) if np.any(np.abs(waveform) > 1e-3) else 1e-6
    noise *= np.sqrt(speech_power / 10 ** (snr_db / 10) / np.mean(noise**2))
    return (waveform + noise).astype(np.float32)


def set_level(waveform: Waveform, peak_db: float) -> Waveform:
    """Scale so that the loudest sample is `peak_db` below full scale."""
    return (waveform / max(np.abs(waveform).max(), 1e-6) * 10 ** (peak_db / 20)).astype(np.float32)


def augment(waveform: Waveform, seed: str) -> OtherWaveform:
    """Send a clean voice through a random chain of the above; the same seed gives the same chain."""
    rng = random.Random(seed)
    noise_rng = np.random.default_rng(rng.getrandbits(64))
    waveform = change_speed(waveform, rng.uniform(0.88, 1.14))
    waveform = add_silence(waveform, rng.uniform(0.0, 0.8), rng.uniform(0.05, 0.8))
    for chance, step in _steps(rng, noise_rng):
        if rng.random() < chance:
            waveform = step(waveform)
    return set_level(waveform, rng.uniform(-24, -1))


def _steps(rng: random.Random, noise_rng: np.random.Generator) -> list[tuple[float, Callable[[Waveform], Waveform]]]:
    """In the order in which sound travels: room, noise of the room, microphone, hiss of the microphone."""
    return [
        (0.5, lambda x: add_room(x, rng.uniform(0.08, 0.5), rng.uniform(0.1, 0.8), noise_rng)),
        (0.6, lambda x: add_noise(x, rng.uniform(8, 40), rng.uniform(0.5, 2), noise_rng)),
        (0.8, lambda x: equalise(x, [rng.uniform(-9, 9) for _ in range(8)])),
        (0.4, lambda x: add_noise(x, rng.uniform(20, 50), 0.0, noise_rng)),
    ]
