"""The bytes of a sound file → does it hold all the sound that it promises?

libsndfile shortens a cut wav or ogg file without a word, so `audio.py` asks here first. Each function takes a
binary stream that can seek and reads only headers; none of them decodes sound.
"""

import os
from collections.abc import Iterator
from io import BufferedIOBase
from typing import NamedTuple

# A program that writes a wav into a pipe cannot know its length: it leaves 0 or one of the largest numbers.
_WAV_LENGTH_UNKNOWN = 0x7FFF_F000
_LARGEST_OGG_PAGE = 27 + 255 + 255 * 255


def missing_sound(stream: BufferedIOBase) -> str | None:
    """Say what a file lacks, or None when it is whole (or of a kind that tells by itself).

    RIFF chunks: Microsoft's *Multimedia Programming Interface 1.0*; Ogg pages: RFC 3533, section 6; AIFF's FORM: Apple's
    *Audio Interchange File Format*; RF64: EBU Tech 3306.
    """
    stream.seek(0)
    start = stream.read(40)
    if start[:4] == b"RIFF" and start[8:12] == b"WAVE":
        return _missing_in_wav(stream)
    if start[:4] == b"OggS":
        return _missing_in_ogg(stream)
    whole = _stated_length(start)
    return f"it should have {whole:,} bytes, {_size(stream):,} are there" if whole and _size(stream) < whole else None


def joined_sound(stream: BufferedIOBase) -> str | None:
    """Say where a second recording begins behind the first, which no reader would look at; None where there is one only."""
    stream.seek(0)
    start = stream.read(12)
    if start[:4] == b"RIFF":
        second = int.from_bytes(start[4:8], "little") + 8
        stream.seek(second)
        return _joined_at(second) if stream.read(4) == b"RIFF" else None
    if start[:4] == b"fLaC":
        second = _find(stream, b"fLaC\x00\x00\x00\x22", 4)
        return _joined_at(second) if second else None
    if start[:4] == b"OggS":
        second = next((page.position for page in ogg_pages(stream) if page.begins and not page.leads), None)
        return _joined_at(second) if second else None
    return None


class OggPage(NamedTuple):
    """A page of an Ogg file: its place and end, how far its sound goes, whether a stream begins, and whether all before do."""

    position: int
    end: int
    granule: int
    begins: bool
    leads: bool


def ogg_pages(stream: BufferedIOBase) -> Iterator[OggPage]:
    """Walk over the pages by the lengths that they state; it ends where there is no page, or half of one."""
    position, size, leads = 0, _size(stream), True
    while position < size:
        stream.seek(position)
        head = stream.read(27 + 255)
        segments = head[26] if len(head) > 26 and head[:4] == b"OggS" else None
        if segments is None:
            return
        begins = bool(head[5] & 2)
        leads = leads and begins
        end = position + 27 + segments + sum(head[27 : 27 + segments])
        yield OggPage(position, end, int.from_bytes(head[6:14], "little", signed=True), begins, leads)
        position = end


def ogg_seconds(stream: BufferedIOBase, rate: int) -> float | None:
    """How much sound the last page of an Ogg file promises; None where it does not say."""
    last = max((page.granule for page in ogg_pages(stream)), default=0)
    stream.seek(0)
    # Opus counts in 48,000 a second, whatever the rate was (RFC 7845, section 4).
    return last / (48_000 if b"OpusHead" in stream.read(64) else rate) if last > 0 and rate > 0 else None


def mp3_fault(stream: BufferedIOBase) -> str | None:
    """Walk over the frames of an mp3: say where the walk breaks off, or that there are more frames than its header states."""
    size = _size(stream)
    stream.seek(0)
    start = stream.read(10)
    position, frames, stated = _id3_length(start), 0, None
    while position < size:
        stream.seek(position)
        head = stream.read(256 if frames == 0 else 4)
        length = _mp3_frame_length(head)
        if length is None:
            stream.seek(position)
            if head[:3] == b"TAG" or head[:4] in (b"APET", b"LYRI") or not any(stream.read(4096)[: size - position]):
                break
            return f"no frame of sound begins at byte {position:,}" if frames else None
        if frames == 0:
            stated = _stated_frames(head)
        frames, position = frames + 1, position + length
    if stated and frames > stated + 2:
        return f"it has {frames:,} frames, its header states {stated:,}: two recordings in one file"
    return None


_BIT_RATES = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


def _mp3_frame_length(head: bytes) -> int | None:
    """Bytes of the layer III frame that begins here (ISO 11172-3, section 2.4.1.3); None if none does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, rate_index, bits = head[1] >> 3 & 3, head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or rate_index == 3 or bits in (0, 15):
        return None
    bit_rate = 1000 * _BIT_RATES[1 if version == 3 else 2][bits]
    return (144 if version == 3 else 72) * bit_rate // _SAMPLE_RATES[version][rate_index] + (head[2] >> 1 & 1)


def _stated_frames(frame: bytes) -> int | None:
    """The count in a Xing or Info header, its own frame included."""
    place = max(frame.find(b"Xing"), frame.find(b"Info"))
    has_count = place >= 0 and frame[place + 7] & 1
    return int.from_bytes(frame[place + 8 : place + 12], "big") + 1 if has_count else None


def _id3_length(start: bytes) -> int:
    """Bytes of the tag in front of an mp3: its length stands in four bytes of seven bits each (ID3v2, section 3.1)."""
    if start[:3] != b"ID3":
        return 0
    return 10 + sum(byte << 7 * (3 - place) for place, byte in enumerate(start[6:]))


def _stated_length(start: bytes) -> int | None:
    """Bytes that the whole of an AIFF, AU, RF64 or W64 file should have."""
    if start[:4] == b"FORM" and start[8:11] == b"AIF":
        return int.from_bytes(start[4:8], "big") + 8
    if start[:4] == b".snd" and start[8:12] != b"\xff\xff\xff\xff":
        return int.from_bytes(start[4:8], "big") + int.from_bytes(start[8:12], "big")
    if start[:4] == b"RF64" and start[12:16] == b"ds64":
        return int.from_bytes(start[20:28], "little") + 8
    return int.from_bytes(start[16:24], "little") if start[:4] == b"riff" else None


def _joined_at(position: int) -> str:
    return f"a second recording begins at byte {position:,}"


def _find(stream: BufferedIOBase, pattern: bytes, position: int) -> int | None:
    """Where some bytes stand for the first time, a piece of the file at a time."""
    stream.seek(position)
    before = b""
    while block := stream.read(1 << 20):
        found = (before + block).find(pattern)
        if found >= 0:
            return position - len(before) + found
        before, position = block[-len(pattern) + 1 :], position + len(block)
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
    stream.seek(_id3_length(stream.read(10)))
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
    if len(page) < whole:
        return "its last Ogg page is not complete"
    end = max((one.end for one in ogg_pages(stream)), default=0)
    return f"no Ogg page begins at byte {end:,}, so it is damaged there" if end < _size(stream) else None


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
