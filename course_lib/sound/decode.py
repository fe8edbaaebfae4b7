"""A sound file → blocks of samples at the file's own rate, or an `AudioError` that says what is wrong with it.

libsndfile reads wav, flac, ogg and mp3; FFmpeg, by PyAV, what telephones and browsers record: m4a, aac, webm. Both are read
block by block, so an hour of sound needs no more memory than a minute.
"""

import contextlib
import io
import itertools
import os
import select
import stat
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import soundfile
from einops import rearrange
from jaxtyping import Float

from course_lib.errors import CourseError
from course_lib.sound.containers import (
    joined_sound,
    missing_sound,
    mp3_fault,
    mp3_states_length,
    ogg_seconds,
    wav_is_unfinished,
)

if TYPE_CHECKING:  # an annotation needs its name only; FFmpeg takes 70 ms to load, and a wav does without
    import av

KINDS = "wav, flac, ogg, opus, mp3, m4a, aac and webm"
"""What can be read, for messages and help texts."""

_FFMPEG_FORMATS = "wav,flac,mp3,aac,mov,mp4,m4a,3gp,matroska,webm"
# An mp3 counts in blocks, and may or may not count the first and the last. The pages of an Ogg file count samples, of which
# the first few (Opus: 6.5 ms) are none of the sound.
_SLACK = {"MP3": 2 * 1152, "OGG": 1600}
# Of aac, an mp4 may count the encoder's delay of 2112 samples and the padding at its end; a webm is off by one frame of opus.
_SLACK_SECONDS = {"mov": 0.15, "matroska": 0.03}
_LENGTH_UNKNOWN = 1 << 48
"""libsndfile's number for a flac that was written into a pipe is larger."""

_WHOLE_OR_NOT = {"WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF", "AU", "RF64", "W64"}
"""Of these it can be told whether they are whole; half a recording would pass for a recording in any other."""

_BLOCK = 1 << 16
_PIPE_SECONDS, _MOST_PIPED = 10, 1_000_000_000

Blocks = Iterator[Float[np.ndarray, "_frames channels"]]


class AudioError(CourseError):
    """A recording that cannot be used: `name` says which, `reason` what is wrong, `advice` the way out."""

    def __init__(self, name: str, reason: str, advice: str = ""):
        # All three as `args`, so that the error survives pickling on its way out of a worker process.
        super().__init__(name, reason, advice)
        self.name, self.reason, self.advice = name, reason, advice

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}. {self.advice}".rstrip()


class Recording(NamedTuple):
    """Sound that is being read: samples a second, how many its header promises (None: it does not say), and the samples."""

    rate: int
    frames: int | None
    blocks: Blocks


@contextlib.contextmanager
def open_recording(source: str | os.PathLike | bytes, name: str) -> Iterator[Recording]:
    """Open a file or its bytes; floats in −1…1, any rate, any number of channels.

    A file that was cut is refused, when it is opened or where the sound breaks off. Some do not tell, by their design, and are
    read as far as they go: raw aac and an mp3 without a header, if they were cut between two frames; a wav that states no
    length; and a webm or fragmented mp4 that states none, as a browser writes it while it records.
    Raises `AudioError`, here or from the blocks.
    """
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(_open_stream(source, name))
        missing = missing_sound(stream)
        if missing:
            raise _truncated(name, missing)
        joined = joined_sound(stream)
        if joined:
            raise AudioError(name, f"several recordings in one file: {joined}", "Save each as a file of its own.")
        file = _open_with_soundfile(stream)
        if file:
            stack.enter_context(file)
            position = stream.tell()
            seconds = ogg_seconds(stream, file.samplerate) if file.format == "OGG" else None
            fault = mp3_fault(stream) if file.format == "MP3" else None
            stream.seek(position)
            if fault:
                raise _truncated(name, f"damaged, {fault}")
            frames = round(seconds * file.samplerate) if seconds else file.frames
            yield Recording(file.samplerate, frames, _soundfile_blocks(file, frames, name))
        else:
            yield _ffmpeg_recording(stack.enter_context(_open_with_ffmpeg(stream, name)), name)


def _open_stream(source: str | os.PathLike | bytes, name: str) -> BufferedIOBase:
    """Open a file or wrap bytes; refuse what is missing, a folder or has 0 bytes."""
    if isinstance(source, bytes):
        stream = io.BytesIO(source)
    else:
        try:
            stream = _open_file(Path(source), name)
        except FileNotFoundError as error:
            raise AudioError(name, "no such file", f"Check the spelling; the search started in {Path.cwd()}.") from error
        except ValueError as error:  # a zero byte in the name, which no file has
            raise error if isinstance(error, AudioError) else AudioError(name, "no such file", "Check the name.") from error
        except OSError as error:
            raise AudioError(name, f"cannot be opened ({error.strerror})", "Check its name and who may read it.") from error
    if not stream.read(1):
        stream.close()
        raise AudioError(name, "empty, 0 bytes", "Record or download it again.")
    stream.seek(0)
    return stream


def _open_file(path: Path, name: str) -> BufferedIOBase:
    """Open a file; a pipe is read into memory, for its sound is looked at more than once."""
    kind = path.stat().st_mode
    if stat.S_ISDIR(kind):
        raise AudioError(name, "is a folder, not a file", "Name one recording inside it.")
    if stat.S_ISREG(kind):
        return path.open("rb")
    if not stat.S_ISFIFO(kind):
        raise AudioError(name, "is a device or a socket, not a file", "Name a recording.")
    pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(pipe, "rb") as stream:
        if not select.select([stream], [], [], _PIPE_SECONDS)[0]:
            raise AudioError(name, f"is a pipe into which nothing came for {_PIPE_SECONDS} s", "Name a recording.")
        os.set_blocking(pipe, True)
        content = stream.read(_MOST_PIPED + 1)
    if len(content) > _MOST_PIPED:
        raise AudioError(name, f"is a pipe with more than {_MOST_PIPED:,} bytes", "Save it as a file first.")
    return io.BytesIO(content)


class _ForgivingStream:
    """A stream that stays where it is when it is sent before its beginning.

    libsndfile does that in damaged files. An error would not reach us: it would be printed in between, and passed over.
    """

    def __init__(self, stream: BufferedIOBase):
        self.read, self.readinto, self.tell, self._stream = stream.read, stream.readinto, stream.tell, stream

    def seek(self, offset: int, whence: int = 0) -> int:
        with contextlib.suppress(ValueError, OSError):
            self._stream.seek(offset, whence)
        return self._stream.tell()


def _open_with_soundfile(stream: BufferedIOBase) -> soundfile.SoundFile | None:
    """None for what libsndfile cannot read, or not to its end: an unfinished wav is empty to it, and it guesses how long an
    mp3 without a header is. FFmpeg reads both as far as they go.
    """
    if wav_is_unfinished(stream):
        return None
    guessed_if_mp3 = not mp3_states_length(stream)
    stream.seek(0)
    try:
        file = soundfile.SoundFile(_ForgivingStream(stream))
    except (soundfile.LibsndfileError, TypeError):
        return None
    # A flac of unknown length was written into a pipe: libsndfile stumbles over its end, FFmpeg does not.
    if file.format not in _WHOLE_OR_NOT or file.frames >= _LENGTH_UNKNOWN:
        file.close()
        return None
    if file.format == "MP3" and guessed_if_mp3:
        file.close()
        return None
    return file


def _soundfile_blocks(file: soundfile.SoundFile, promised: int, name: str) -> Blocks:
    """Every sample that the header promises."""
    read = 0
    try:
        while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
            read += len(block)
            yield block
    except soundfile.LibsndfileError as error:
        raise _truncated(name, "the sound breaks off or is damaged") from error
    if read < promised - _SLACK.get(file.format, 0):
        raise _truncated(name, f"its header promises {promised:,} samples, {read:,} are there")


def _open_with_ffmpeg(stream: BufferedIOBase, name: str) -> "av.container.InputContainer":
    import av

    stream.seek(4)
    is_mp4 = stream.read(4) == b"ftyp"
    stream.seek(0)
    # FFmpeg would also follow playlists, and a playlist that calls itself a recording may name any file or address.
    options = {"format_whitelist": _FFMPEG_FORMATS}
    no_index = _truncated(name, "the index of an mp4 or m4a file, which comes last, is missing or damaged")
    try:
        container = av.open(stream, metadata_errors="ignore", options=options)
    except (av.FFmpegError, ValueError) as error:
        raise (no_index if is_mp4 else _not_audio(name)) from error
    if not container.streams.audio:
        is_film = len(container.streams.video) > 0
        container.close()
        raise no_index if is_mp4 and not is_film else _not_audio(name)
    return container


def _ffmpeg_recording(container: "av.container.InputContainer", name: str) -> Recording:
    """The first track of sound. Its rate is that of the first decoded frame: a header may state half of it (HE-AAC)."""
    frames = _ffmpeg_frames(container, name)
    first = next(frames, None)
    if first is None:
        raise AudioError(name, "empty, it holds no samples", "Record or download it again.")
    promised = _promised_seconds(container)
    frames_promised = None if promised is None else round(promised * first.sample_rate)
    slack = _SLACK_SECONDS.get(_family(container), 0.0)
    return Recording(first.sample_rate, frames_promised, _ffmpeg_blocks(first, frames, promised, slack, name))


def _ffmpeg_frames(container: "av.container.InputContainer", name: str) -> Iterator["av.AudioFrame"]:
    """Decode, without the first frame of aac: it holds half of what the second completes, and is no sound.

    Where an m4a says so (its edit list), FFmpeg has left it out already: the first frame is then later than the first packet.
    """
    import av

    sound = container.streams.audio[0]
    first_pts, seen = None, 0
    try:
        for packet in container.demux(sound):
            first_pts = packet.pts if first_pts is None else first_pts
            for frame in packet.decode():
                seen += 1
                if seen > 1 or sound.codec_context.name != "aac" or frame.pts != first_pts:
                    yield frame
    except (av.FFmpegError, ValueError) as error:
        raise _truncated(name, "the sound breaks off or is damaged") from error


def _ffmpeg_blocks(
    first: "av.AudioFrame", others: Iterator["av.AudioFrame"], promised: float | None, slack: float, name: str
) -> Blocks:
    import av

    to_float, read = av.AudioResampler(format="fltp"), 0.0
    for frame in itertools.chain([first], others):
        try:
            converted = to_float.resample(frame)
        except (av.FFmpegError, ValueError) as error:
            raise _truncated(name, "rate or channels change in the middle, so it is damaged") from error
        for part in converted:
            read += part.samples / part.sample_rate
            yield rearrange(part.to_ndarray(), "channels frames -> frames channels")
    if promised is not None and read < promised - slack:
        raise _truncated(name, f"its header promises {promised:.2f} s of sound, {read:.2f} s are there")


def _promised_seconds(container: "av.container.InputContainer") -> float | None:
    """What an mp4 or webm states of its sound; of others FFmpeg guesses the length, from the bit rate."""
    sound = container.streams.audio[0]
    if _family(container) not in _SLACK_SECONDS:
        return None
    if sound.duration is not None and sound.time_base is not None:
        return float(sound.duration * sound.time_base)
    # The length of the whole may be that of a picture.
    alone = len(container.streams) == 1 and container.duration is not None
    return container.duration / 1e6 if alone else None


def _family(container: "av.container.InputContainer") -> str:
    """FFmpeg names a kind by all that it is called: "mov,mp4,m4a,3gp,3g2,mj2"."""
    return container.format.name.partition(",")[0]


def _not_audio(name: str) -> AudioError:
    return AudioError(name, "is not an audio file", f"{KINDS[0].upper()}{KINDS[1:]} can be read.")


def _truncated(name: str, detail: str) -> AudioError:
    return AudioError(name, f"truncated: {detail}", "Copy or download it again.")
