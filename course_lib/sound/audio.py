"""A file, bytes or an array → a waveform: mono, float32, 16,000 samples a second.

Everything after this module takes its sound from `load_audio`, so a broken recording has to be refused here,
with its name and the reason. Half a file that loads without a word comes back later as a bad transcript.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from einops import rearrange, reduce
from jaxtyping import Float, Shaped
from torch import Tensor

from course_lib.files import write_beside
from course_lib.sound.decode import AudioError, Recording, open_recording

SAMPLE_RATE = 16_000
"""Samples a second, everywhere in the course (and in Whisper)."""

SHORTEST_SECONDS = 0.1
SILENCE_PEAK = 1e-4
"""−80 dBFS: a clip whose loudest sample stays below this is refused as silent."""

# Above this a float array was never scaled to −1…1; a recording clips at 1, a loud mix at perhaps 3.
_LOUDEST_PEAK = 10.0


def load_audio(
    source: str | os.PathLike | bytes | np.ndarray | Tensor,
    sample_rate: int | None = None,
    max_seconds: float | None = 30.0,
    name: str | None = None,
) -> Float[Tensor, "samples"]:
    """Load a recording as mono float32 in −1…1 at 16 kHz.

    `source` is a path or the bytes of a wav, flac, ogg, opus, mp3, m4a, aac or webm file, or an array `[samples]` or
    `[samples channels]` (soundfile's layout). Channels are averaged, any rate is resampled with soxr,
    integers are divided by their full scale. `sample_rate` is for an array (default 16 kHz); a file carries
    its own. `max_seconds=None` lifts the limit. `name` stands for the source in messages.

    Raises `AudioError` when the source is missing, a folder, not audio, truncated, empty, silent, holds
    NaN or Inf, or is shorter than 0.1 s or longer than `max_seconds`. Which cut files cannot be told from whole
    ones, `open_recording` says.
    """
    return torch.cat([*stream_audio(source, sample_rate, max_seconds, name)])


def stream_audio(
    source: str | os.PathLike | bytes | np.ndarray | Tensor,
    sample_rate: int | None = None,
    max_seconds: float | None = None,
    name: str | None = None,
) -> Iterator[Float[Tensor, "_samples"]]:
    """Read a recording block by block, a few seconds at most in memory: put together, they are what `load_audio` returns.

    Raises `AudioError` as `load_audio` does, but some of it late: that a file breaks off, is silent or is too short
    is known at its end.
    """
    if isinstance(source, np.ndarray | Tensor):
        name = name or "array"
        sound = _sound_from_array(source, name)
        rate = SAMPLE_RATE if sample_rate is None else sample_rate
        yield from _to_waveform(Recording(rate, len(sound), iter([sound])), max_seconds, name)
    else:
        name = name or ("bytes" if isinstance(source, bytes) else os.fspath(source))
        if sample_rate is not None:
            raise AudioError(name, "a file carries its own sample rate", "Leave `sample_rate` out.")
        with open_recording(source, name) as recording:
            yield from _to_waveform(recording, max_seconds, name)


def save_wav(path: str | os.PathLike, waveform: Float[Tensor, "samples"]) -> int:
    """Write 16 kHz mono 16-bit PCM, whole or not at all; return how many samples had to be clipped.

    Full scale is 32,768, as `load_audio` reads it: a round trip changes no sample by more than 2⁻¹⁶ (only
    1.0, which 16 bits cannot hold, by 2⁻¹⁵). Raises `AudioError` for NaN or Inf.
    """
    path = Path(path)
    samples = waveform.detach().cpu().numpy()
    if not np.isfinite(samples).all():
        raise AudioError(str(path), "not written: the waveform holds NaN or Inf", "Find where it was divided by 0.")
    scaled = np.round(samples.astype(np.float64) * 32_768)
    pcm = scaled.clip(-32_768, 32_767).astype(np.int16)
    write_beside(path, lambda beside: soundfile.write(beside, pcm, SAMPLE_RATE, format="WAV", subtype="PCM_16"))
    return int((np.abs(samples) > 1).sum())


def _sound_from_array(source: np.ndarray | Tensor, name: str) -> Float[np.ndarray, "samples channels"]:
    """Scale an array of any number type to float32 in −1…1, channels last."""
    array = source.detach().cpu().numpy() if isinstance(source, Tensor) else source
    if array.ndim == 1:
        array = rearrange(array, "samples -> samples 1")
    if array.ndim != 2:
        raise AudioError(name, f"has the shape {array.shape}", "Pass [samples] or [samples, channels].")
    if array.shape[1] > max(array.shape[0], 1):
        advice = "This looks like [channels, samples]; pass its transpose, `array.T`."
        raise AudioError(name, f"has more channels than samples, {array.shape}", advice)
    return _scale(array, name)


def _scale(array: Shaped[np.ndarray, "samples channels"], name: str) -> Float[np.ndarray, "samples channels"]:
    """Divide integers by their full scale (unsigned ones are centred first); pass floats through."""
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.dtype.kind not in "iu" or array.dtype.itemsize > 4:
        advice = "Pass float32 in −1…1, or the int16 that the recording had."
        raise AudioError(name, f"{array.dtype} samples have no agreed full scale", advice)
    full_scale = 2.0 ** (8 * array.dtype.itemsize - 1)
    centre = full_scale if array.dtype.kind == "u" else 0.0
    return ((array.astype(np.float64) - centre) / full_scale).astype(np.float32)


def _to_waveform(recording: Recording, max_seconds: float | None, name: str) -> Iterator[Float[Tensor, "_samples"]]:
    """Average the channels, resample, and refuse what holds no usable sound."""
    rate = recording.rate
    _check_length(recording.frames, rate, max_seconds, name)
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1) if rate != SAMPLE_RATE else None
    frames, peak = 0, 0.0
    for block in recording.blocks:
        frames += len(block)
        _check_not_longer(frames, rate, max_seconds, name)
        mono = _mix(block, name)
        mono = resampler.resample_chunk(mono) if resampler else mono
        peak = max(peak, _peak(mono, name))
        yield torch.from_numpy(np.ascontiguousarray(mono))
    _check_length(frames, rate, max_seconds, name)
    if resampler:
        rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        peak = max(peak, _peak(rest, name))
        yield torch.from_numpy(rest)
    if peak < SILENCE_PEAK:
        raise AudioError(name, "silent: no sample reaches −80 dBFS", "Check the microphone and its channel.")


def _mix(block: Float[np.ndarray, "frames channels"], name: str) -> Float[np.ndarray, "frames"]:
    if not np.isfinite(block).all():
        raise AudioError(name, "contains NaN or Inf", "Find the step that made it; a division by 0 is common.")
    return reduce(block, "frames channels -> frames", "mean")


def _peak(mono: Float[np.ndarray, "frames"], name: str) -> float:
    peak = float(np.abs(mono).max(initial=0.0))
    if peak > _LOUDEST_PEAK:
        advice = "Divide 16-bit values by 32768, or pass them as int16."
        raise AudioError(name, f"samples reach {peak:,.0f}, expected −1…1", advice)
    return peak


def _check_length(frames: int | None, rate: int, max_seconds: float | None, name: str) -> None:
    """Refuse nothing, too little and too much sound, as far as it is known how much there is."""
    if rate < 1:
        raise AudioError(name, f"a sample rate of {rate} is impossible", "16000 and 48000 are common ones.")
    if frames is None:
        return
    if frames == 0:
        raise AudioError(name, "empty, it holds no samples", "Record or download it again.")
    if frames < SHORTEST_SECONDS * rate:
        detail = f"{frames / rate:.2f} s of sound, at least {SHORTEST_SECONDS:.2f} s needed"
        raise AudioError(name, f"too short: {detail}", "Record a whole word.")
    if max_seconds is not None and frames > max_seconds * rate:
        detail = f"{frames / rate:.2f} s of sound, the limit is {max_seconds:.2f} s"
        raise AudioError(name, f"too long: {detail}", "Cut it at a pause, or raise `max_seconds`.")


def _check_not_longer(frames: int, rate: int, max_seconds: float | None, name: str) -> None:
    """Stop reading a file that did not say how long it is."""
    if max_seconds is not None and frames > max_seconds * rate:
        reason = f"too long: more than {max_seconds:.2f} s of sound, which is the limit"
        raise AudioError(name, reason, "Cut it at a pause, or raise `max_seconds`.")
