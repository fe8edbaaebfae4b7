"""The bytes of a sound file → does it hold all the sound that it promises?

libsndfile shortens a cut wav or ogg file without a word, so `audio.py` asks here first. Each function takes a
binary stream that can seek and reads only headers; none of them decodes sound.
"""

import os
from io import BufferedIOBase

# A program that writes a wav into a pipe cannot know its length: it leaves 0 or one of the largest numbers.
_WAV_LENGTH_UNKNOWN = 0x7FFF_F000
_LARGEST_OGG_PAGE = 27 + 255 + 255 * 255


def missing_sound(stream: BufferedIOBase) -> str | None:
    """Say what a wav or ogg file lacks, or None when it is whole (or of another kind).

    RIFF chunks: Microsoft's *Multimedia Programming Interface 1.0*; Ogg pages: RFC 3533, section 6.
    """
    stream.seek(0)
    start = stream.read(12)
    if start[:4] == b"RIFF" and start[8:] == b"WAVE":
        return _missing_in_wav(stream)
    if start[:4] == b"OggS":
        return _missing_in_ogg(stream)
    return None


def wav_is_unfinished(stream: BufferedIOBase) -> bool:
    """Was this wav streamed into a pipe, its length left at 0? Its sound goes on to the end of the file."""
    stream.seek(0)
    start = stream.read(12)
    position = _find_wav_data(stream) if start[:4] == b"RIFF" else None
    if position is None:
        return False
    # A finished wav without any sound also says 0, but then the length of the whole file in byte 4 is right.
    finished = int.from_bytes(start[4:8], "little") + 8 >= _size(stream)
    return _number_before(stream, position) == 0 and not finished


def mp3_states_length(stream: BufferedIOBase) -> bool:
    """Is there a Xing, Info or VBRI header? Without one its length is a guess from one bit rate."""
    stream.seek(0)
    start = stream.read(10)
    first_frame = 0
    if start[:3] == b"ID3":
        # The tag in front gives its length in four bytes of seven bits each (ID3v2, section 3.1).
        first_frame = 10 + sum(byte << 7 * (3 - place) for place, byte in enumerate(start[6:]))
    stream.seek(first_frame)
    frame = stream.read(256)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))


def _missing_in_wav(stream: BufferedIOBase) -> str | None:
    """Compare the promised bytes of the `data` chunk with those that follow it."""
    position = _find_wav_data(stream)
    if position is None:
        return "it ends inside its header"
    promised, present = _number_before(stream, position), _size(stream) - position
    if present < promised < _WAV_LENGTH_UNKNOWN:
        return f"its header promises {promised:,} bytes of sound, {present:,} are there"
    return None


def _missing_in_ogg(stream: BufferedIOBase) -> str | None:
    """An Ogg file is a row of pages that each state their own length: the last one must be whole."""
    stream.seek(max(0, _size(stream) - _LARGEST_OGG_PAGE))
    tail = stream.read()
    page = tail[tail.rfind(b"OggS") :]
    segments = page[26] if len(page) > 26 else 0
    whole = 27 + segments + sum(page[27 : 27 + segments])
    return "its last Ogg page is not complete" if len(page) < whole else None


def _find_wav_data(stream: BufferedIOBase) -> int | None:
    """Walk over the chunks after `RIFF length WAVE` to the first byte of sound."""
    stream.seek(12)
    chunk = stream.read(8)
    while len(chunk) == 8 and chunk[:4] != b"data":
        length = int.from_bytes(chunk[4:], "little")
        stream.seek(length + length % 2, os.SEEK_CUR)
        chunk = stream.read(8)
    return stream.tell() if len(chunk) == 8 else None


def _number_before(stream: BufferedIOBase, position: int) -> int:
    """Read the chunk's length, the four bytes in front of its content."""
    stream.seek(position - 4)
    return int.from_bytes(stream.read(4), "little")


def _size(stream: BufferedIOBase) -> int:
    return stream.seek(0, os.SEEK_END)
