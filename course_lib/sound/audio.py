"""A file, bytes or an array → a waveform: mono, float32, 16,000 samples a second.

Everything after this module takes its sound from `load_audio`, so a broken recording has to be refused here,
with its name and the reason. Half a file that loads without a word comes back later as a bad transcript.
"""

import io
import os
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from einops import rearrange, reduce
from jaxtyping import Float, Shaped
from torch import Tensor

from course_lib.files import write_beside
from course_lib.sound.containers import missing_sound, mp3_states_length, with_wav_length

SAMPLE_RATE = 16_000
"""Samples a second, everywhere in the course (and in Whisper)."""

SHORTEST_SECONDS = 0.1
SILENCE_PEAK = 1e-4
"""−80 dBFS: a clip whose loudest sample stays below this is refused as silent."""

# Above this a float array was never scaled to −1…1; a recording clips at 1, a loud mix at perhaps 3.
_LOUDEST_PEAK = 10.0
# Lossy formats count in blocks, and may or may not count the first and the last: two of the largest blocks.
_SLACK = {"MP3": 2 * 1152, "OGG": 2 * 8192}


class AudioError(ValueError):
    """A recording that cannot be used: `name` says which, `reason` what is wrong, `advice` the way out."""

    def __init__(self, name: str, reason: str, advice: str = ""):
        # All three as `args`, so that the error survives pickling on its way out of a worker process.
        super().__init__(name, reason, advice)
        self.name, self.reason, self.advice = name, reason, advice

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}. {self.advice}".rstrip()


def load_audio(
    source: str | os.PathLike | bytes | np.ndarray | Tensor,
    sample_rate: int | None = None,
    max_seconds: float | None = 30.0,
    name: str | None = None,
) -> Float[Tensor, "samples"]:
    """Load a recording as mono float32 in −1…1 at 16 kHz.

    `source` is a path or the bytes of a wav, flac, ogg or mp3 file, or an array `[samples]` or
    `[samples channels]` (soundfile's layout). Channels are averaged, any rate is resampled with soxr,
    integers are divided by their full scale. `sample_rate` is for an array (default 16 kHz); a file carries
    its own. `max_seconds=None` lifts the limit. `name` stands for the source in messages.

    Raises `AudioError` when the source is missing, a folder, not audio, truncated, empty, silent, holds
    NaN or Inf, or is shorter than 0.1 s or longer than `max_seconds`.
    """
    if isinstance(source, np.ndarray | Tensor):
        name = name or "array"
        sound = _sound_from_array(source, name)
        rate = SAMPLE_RATE if sample_rate is None else sample_rate
    else:
        name = name or ("bytes" if isinstance(source, bytes) else os.fspath(source))
        if sample_rate is not None:
            raise AudioError(name, "a file carries its own sample rate", "Leave `sample_rate` out.")
        with _open_stream(source, name) as stream:
            sound, rate = _decode(stream, max_seconds, name)
    _check_length(len(sound), rate, max_seconds, name)
    return _to_waveform(sound, rate, name)


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


def _open_stream(source: str | os.PathLike | bytes, name: str) -> BufferedIOBase:
    """Open a file or wrap bytes; refuse what is missing, a folder or has 0 bytes."""
    if not isinstance(source, bytes):
        path = Path(source)
        if path.is_dir():
            raise AudioError(name, "is a folder, not a file", "Name one recording inside it.")
        if not path.exists():
            raise AudioError(name, "no such file", f"Check the spelling; the search started in {Path.cwd()}.")
    try:
        stream = io.BytesIO(source) if isinstance(source, bytes) else path.open("rb")
    except OSError as error:
        raise AudioError(name, f"cannot be opened ({error.strerror})", "Check who may read it.") from error
    if not stream.read(1):
        stream.close()
        raise AudioError(name, "empty, 0 bytes", "Record or download it again.")
    stream.seek(0)
    return stream


def _decode(stream: BufferedIOBase, max_seconds: float | None, name: str) -> tuple[Float[np.ndarray, "samples channels"], int]:
    """Decode a whole file with libsndfile; a header that promises too much is refused before any decoding."""
    missing = missing_sound(stream)
    if missing:
        raise _truncated(name, missing)
    guessed_length = not mp3_states_length(stream)
    stream = with_wav_length(stream)
    stream.seek(0)
    try:
        file = soundfile.SoundFile(stream)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise AudioError(name, "is not an audio file", "Wav, flac, ogg and mp3 can be read.") from error
    with file:
        if file.format == "MP3" and guessed_length:
            return _read_mp3_of_guessed_length(file, stream, max_seconds, name), file.samplerate
        _check_length(file.frames, file.samplerate, max_seconds, name)
        return _read(file, name), file.samplerate


def _read(file: soundfile.SoundFile, name: str) -> Float[np.ndarray, "samples channels"]:
    """Read every sample that the header promises."""
    try:
        sound = file.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise _truncated(name, "the sound breaks off or is damaged") from error
    if len(sound) < file.frames - _SLACK.get(file.format, 0):
        raise _truncated(name, f"its header promises {file.frames:,} samples, {len(sound):,} are there")
    return sound


def _read_mp3_of_guessed_length(
    file: soundfile.SoundFile, stream: BufferedIOBase, max_seconds: float | None, name: str
) -> Float[np.ndarray, "samples channels"]:
    """Read as far as the guess goes, and refuse an mp3 whose guess ends well before its last byte."""
    frames = file.frames if max_seconds is None else min(file.frames, int(max_seconds * file.samplerate) + 1)
    sound = file.read(frames, dtype="float32", always_2d=True)
    unread = len(sound) == file.frames and stream.tell() < 0.9 * stream.seek(0, os.SEEK_END)
    if unread:
        advice = "Convert it to wav or flac: ffmpeg -i in.mp3 out.flac"
        raise AudioError(name, "an mp3 of varying bit rate that does not state its length", advice)
    return sound


def _truncated(name: str, detail: str) -> AudioError:
    return AudioError(name, f"truncated: {detail}", "Copy or download it again.")


def _check_length(frames: int, rate: int, max_seconds: float | None, name: str) -> None:
    """Refuse nothing, too little and too much sound."""
    if rate < 1:
        raise AudioError(name, f"a sample rate of {rate} is impossible", "16000 and 48000 are common ones.")
    if frames == 0:
        raise AudioError(name, "empty, it holds no samples", "Record or download it again.")
    if frames < SHORTEST_SECONDS * rate:
        detail = f"{frames / rate:.2f} s of sound, at least {SHORTEST_SECONDS:.2f} s needed"
        raise AudioError(name, f"too short: {detail}", "Record a whole word.")
    if max_seconds is not None and frames > max_seconds * rate:
        detail = f"{frames / rate:.2f} s of sound, the limit is {max_seconds:.2f} s"
        raise AudioError(name, f"too long: {detail}", "Cut it at a pause, or raise `max_seconds`.")


def _to_waveform(sound: Float[np.ndarray, "frames channels"], rate: int, name: str) -> Float[Tensor, "samples"]:
    """Average the channels, resample, and refuse what holds no usable sound."""
    if not np.isfinite(sound).all():
        raise AudioError(name, "contains NaN or Inf", "Find the step that made it; a division by 0 is common.")
    mono = reduce(sound, "frames channels -> frames", "mean")
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    peak = float(np.abs(mono).max(initial=0.0))
    if peak > _LOUDEST_PEAK:
        advice = "Divide 16-bit values by 32768, or pass them as int16."
        raise AudioError(name, f"samples reach {peak:,.0f}, expected −1…1", advice)
    if peak < SILENCE_PEAK:
        raise AudioError(name, "silent: no sample reaches −80 dBFS", "Check the microphone and its channel.")
    return torch.from_numpy(np.ascontiguousarray(mono, dtype=np.float32))
