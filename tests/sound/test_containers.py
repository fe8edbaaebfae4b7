"""What a file promises against what it holds, byte by byte."""

import io

import numpy as np
import pytest
import soundfile

from course_lib.sound.containers import missing_sound, mp3_states_length, wav_is_unfinished


def sound_file(kind, seconds=10.0):
    wave = 0.1 * np.random.default_rng(0).standard_normal(int(seconds * 16_000))
    stream = io.BytesIO()
    soundfile.write(stream, wave, 16_000, format=kind)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "OGG", "FLAC", "MP3"])
def test_whole_files_miss_nothing(kind):
    assert missing_sound(io.BytesIO(sound_file(kind))) is None


@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_one_missing_byte_is_enough(cut):
    assert "promises 320,000 bytes" in missing_sound(io.BytesIO(sound_file("WAV")[:-cut]))
    assert "last Ogg page" in missing_sound(io.BytesIO(sound_file("OGG")[:-cut]))


def test_ogg_cut_inside_a_page_header():
    content = sound_file("OGG")
    assert "last Ogg page" in missing_sound(io.BytesIO(content[: content.rindex(b"OggS") + 20]))


def test_chunks_before_and_after_the_sound():
    wav = sound_file("WAV", 0.5)
    note = b"LIST" + (5).to_bytes(4, "little") + b"hello\0"
    riff_size = (len(wav) + 2 * len(note) - 8).to_bytes(4, "little")
    content = b"RIFF" + riff_size + wav[8:36] + note + wav[36:] + note
    assert missing_sound(io.BytesIO(content)) is None
    assert "promises" in missing_sound(io.BytesIO(content[: -len(note) - 1]))


def test_only_a_wav_that_states_no_length_is_unfinished():
    assert not wav_is_unfinished(io.BytesIO(sound_file("WAV")))
    assert not wav_is_unfinished(io.BytesIO(sound_file("WAV", 0)))
    assert not wav_is_unfinished(io.BytesIO(sound_file("FLAC")))
    unfinished = bytearray(sound_file("WAV"))
    unfinished[4:8] = unfinished[40:44] = bytes(4)
    assert len(soundfile.read(io.BytesIO(bytes(unfinished)))[0]) == 0
    assert wav_is_unfinished(io.BytesIO(bytes(unfinished)))


def test_an_mp3_with_and_without_its_length():
    content = sound_file("MP3")
    tag = b"ID3\x04\x00\x00\x00\x00\x08\x01" + bytes(8 * 128 + 1)
    assert mp3_states_length(io.BytesIO(content))
    assert mp3_states_length(io.BytesIO(tag + content))
    assert not mp3_states_length(io.BytesIO(content[content.index(content[:2], 4) :]))
