"""Every kind of recording loads as mono 16 kHz; every broken one is refused with its name and the reason."""

import io
import pickle
import re

import numpy as np
import pytest
import soundfile
import torch

from course_lib.sound.audio import AudioError, load_audio, save_wav


def tone(seconds=1.0, rate=16_000, channels=1, hz=440.0):
    time = np.arange(round(seconds * rate)) / rate
    wave = (0.5 * np.sin(2 * np.pi * hz * time)).astype(np.float32)
    return wave if channels == 1 else np.stack([wave] * channels, axis=1)


def encoded(wave, rate=16_000, kind="WAV", **options):
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, format=kind, **options)
    return stream.getvalue()


def refuse(source, reason, name="clip", **options):
    """Assert that the source is refused with this reason, and that the message says which file it was."""
    with pytest.raises(AudioError, match=re.escape(reason)) as caught:
        load_audio(source, name=None if name == str(source) else name, **options)
    assert str(caught.value).startswith(f"{name}: ")
    assert reason in caught.value.reason
    return caught.value


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("from_bytes", [True, False])
def test_each_format_from_file_and_bytes(kind, from_bytes, tmp_path):
    content = encoded(tone(), kind=kind)
    path = tmp_path / f"clip.{kind.lower()}"
    path.write_bytes(content)
    waveform = load_audio(content if from_bytes else path)
    assert waveform.dtype == torch.float32
    assert abs(len(waveform) - 16_000) <= 1152
    middle = waveform[4000:12_000].numpy()
    assert abs(np.sqrt(np.mean(middle**2)) - 0.5 / np.sqrt(2)) < 0.01


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_time_and_pitch(rate):
    waveform = load_audio(encoded(tone(1.5, rate), rate))
    assert len(waveform) == 24_000
    expected = torch.from_numpy(tone(1.5))
    assert (waveform - expected)[500:-500].abs().max() < 1e-3


def test_channels_are_averaged():
    stereo = np.stack([tone(), np.zeros(16_000, np.float32)], axis=1)
    torch.testing.assert_close(load_audio(stereo), torch.from_numpy(tone() / 2))
    torch.testing.assert_close(load_audio(encoded(tone(channels=6))), load_audio(encoded(tone())))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8", "uint16"])
def test_integers_are_scaled_by_their_full_scale(dtype):
    limits = np.iinfo(dtype)
    full_scale = (limits.max - limits.min + 1) / 2
    values = np.round(tone() * full_scale) + (full_scale if dtype.startswith("u") else 0)
    waveform = load_audio(values.clip(limits.min, limits.max).astype(dtype))
    assert (waveform - torch.from_numpy(tone())).abs().max() <= 0.5 / full_scale + 1e-6


def test_int16_is_exactly_what_soundfile_reads():
    values = (tone() * 32_768).astype(np.int16)
    assert torch.equal(load_audio(values), load_audio(encoded(values)))


def test_array_at_another_rate_and_a_tensor():
    assert len(load_audio(tone(1.0, 48_000), sample_rate=48_000)) == 16_000
    assert torch.equal(load_audio(torch.from_numpy(tone())), load_audio(tone().astype(np.float64)))


def test_source_array_is_not_changed_or_shared():
    source = tone()
    load_audio(source).zero_()
    assert np.array_equal(source, tone())


def test_missing_file_and_folder(tmp_path):
    error = refuse(tmp_path / "no.wav", "no such file", name=str(tmp_path / "no.wav"))
    assert "spelling" in error.advice
    refuse(tmp_path, "is a folder", name=str(tmp_path))


@pytest.mark.parametrize("content", [b"det er ikke lyd " * 100, b"\xff\xfbabc" * 5, b"fLaC" + bytes(20)])
def test_not_audio(content):
    refuse(content, "is not an audio file")


def test_not_audio_whatever_its_ending(tmp_path):
    for name in ("notes.wav", "notes.raw", "notes.txt"):
        (tmp_path / name).write_text("det er ikke lyd " * 100)
        refuse(tmp_path / name, "is not an audio file", name=str(tmp_path / name))


def noise(seconds):
    return (0.1 * np.random.default_rng(0).standard_normal(int(seconds * 16_000))).astype(np.float32)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.2])
def test_truncated(kind, kept, tmp_path):
    content = encoded(noise(10), kind=kind)
    cut = content[: int(len(content) * kept)]
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(cut)
    refuse(path, "truncated", name=str(path))
    refuse(cut, "truncated")


def test_truncated_wav_says_what_is_missing():
    content = encoded(tone())
    error = refuse(content[:-1000], "promises 32,000 bytes of sound, 31,000 are there")
    assert "again" in error.advice
    refuse(content[:30], "ends inside its header")


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_streamed_wav_without_a_length_is_read_to_its_end(size):
    content = bytearray(encoded(tone()))
    content[4:8] = content[40:44] = size.to_bytes(4, "little")
    assert torch.equal(load_audio(bytes(content)), load_audio(encoded(tone())))


def without_mp3_header(content):
    """All frames but the first, which holds the header and no sound."""
    return content[content.index(content[:2], 4) :]


def test_mp3_without_a_header_is_read_whole():
    """libsndfile would guess its length from the bit rate of its quiet beginning, and stop there."""
    loud_later = np.concatenate([tone(1), noise(9)])
    content = encoded(loud_later, kind="MP3", bitrate_mode="VARIABLE")
    whole, found = load_audio(content), load_audio(without_mp3_header(content))
    assert len(whole) == 160_000
    assert abs(len(found) - 160_000) < 3 * 1152
    assert found[-16_000:].std() > 0.05


def test_mp3_without_a_header_is_refused_as_too_long_before_its_end():
    content = without_mp3_header(encoded(noise(10), kind="MP3"))
    refuse(content, "too long: more than 5.00 s", max_seconds=5.0)


def test_mp3_of_constant_rate_needs_no_header():
    content = encoded(noise(10), kind="MP3", bitrate_mode="CONSTANT", compression_level=0.5)
    assert abs(len(load_audio(without_mp3_header(content))) - 160_000) < 3 * 1152


def test_mp3_behind_an_id3_tag():
    tag = b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256)
    content = encoded(noise(2), kind="MP3")
    assert torch.equal(load_audio(tag + content), load_audio(content))
    refuse(tag + content[: len(content) // 2], "truncated")


def test_empty(tmp_path):
    path = tmp_path / "empty.wav"
    path.write_bytes(b"")
    refuse(path, "empty, 0 bytes", name=str(path))
    refuse(b"", "empty, 0 bytes")
    refuse(encoded(np.zeros(0, np.float32)), "empty, it holds no samples")
    refuse(np.zeros(0, np.float32), "empty, it holds no samples")


def test_silent():
    refuse(np.zeros(16_000, np.float32), "silent: no sample reaches −80 dBFS")
    refuse(encoded(tone() * 1e-4, subtype="FLOAT"), "silent")
    assert load_audio(tone() * 3e-4).abs().max() > 1e-4


def test_channels_that_cancel_out_are_silent():
    refuse(np.stack([tone(), -tone()], axis=1), "silent")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf(value):
    wave = tone(rate=48_000)
    wave[777] = value
    refuse(wave, "contains NaN or Inf", sample_rate=48_000)
    refuse(encoded(wave, 48_000, subtype="FLOAT"), "contains NaN or Inf")


def test_too_long():
    assert len(load_audio(tone(30.0))) == 480_000
    refuse(tone(30.01), "too long: 30.01 s of sound, the limit is 30.00 s")
    refuse(encoded(tone(2.0), kind="OGG"), "too long: 2.00 s", max_seconds=1.5)
    assert len(load_audio(tone(31.0), max_seconds=None)) == 496_000


def test_too_long_is_seen_before_decoding(monkeypatch):
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("decoded"))
    refuse(encoded(tone(3.0), kind="FLAC"), "too long", max_seconds=2.0)


def test_too_short():
    refuse(tone(0.02), "too short: 0.02 s of sound, at least 0.10 s needed")
    assert len(load_audio(tone(0.1))) == 1600


def test_arrays_that_are_no_recording():
    assert "array.T" in refuse(tone(channels=2).T, "has more channels than samples").advice
    refuse(np.zeros((2, 3, 4), np.float32), "has the shape (2, 3, 4)")
    refuse((tone() * 32_768).astype(np.int64), "int64 samples have no agreed full scale")
    assert "32768" in refuse(tone() * 32_768, "expected −1…1").advice
    refuse(tone(), "a sample rate of 0 is impossible", sample_rate=0)


def test_a_file_carries_its_own_rate():
    refuse(encoded(tone()), "a file carries its own sample rate", sample_rate=16_000)


def test_default_names():
    with pytest.raises(AudioError, match=r"^bytes: empty"):
        load_audio(b"")
    with pytest.raises(AudioError, match=r"^array: empty"):
        load_audio(np.zeros(0))


def test_error_survives_a_worker_process():
    error = pickle.loads(pickle.dumps(AudioError("a.wav", "no such file", "Look.")))
    assert (error.name, error.reason, str(error)) == ("a.wav", "no such file", "a.wav: no such file. Look.")


def test_save_and_load(tmp_path):
    waveform = torch.from_numpy(tone())
    assert save_wav(tmp_path / "a.wav", waveform) == 0
    assert (load_audio(tmp_path / "a.wav") - waveform).abs().max() <= 2**-16
    info = soundfile.info(tmp_path / "a.wav")
    assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")


def test_save_clips_and_says_how_often(tmp_path):
    waveform = torch.tensor([1.5, -1.5, 0.25] * 1000)
    assert save_wav(tmp_path / "a.wav", waveform) == 2000
    torch.testing.assert_close(load_audio(tmp_path / "a.wav")[:3], torch.tensor([1 - 2**-15, -1.0, 0.25]))


def test_save_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    save_wav(path, torch.from_numpy(tone()))
    before = path.read_bytes()

    def die_half_way(file, *_, **__):
        file.write_bytes(b"RIFF")
        raise OSError("disk full")

    monkeypatch.setattr(soundfile, "write", die_half_way)
    with pytest.raises(OSError, match="disk full"):
        save_wav(path, torch.from_numpy(tone(2.0)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_save_moves_a_finished_file_into_place(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    save_wav(path, torch.from_numpy(tone()))
    before = path.read_bytes()
    moved = []
    monkeypatch.setattr("course_lib.sound.audio.os.replace", lambda beside, target: moved.append((beside.parent, target)))
    save_wav(path, torch.from_numpy(tone(2.0)))
    assert moved == [(tmp_path, path)]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_save_refuses_nan(tmp_path):
    with pytest.raises(AudioError, match=r"a\.wav: not written.*NaN"):
        save_wav(tmp_path / "a.wav", torch.tensor([0.0, float("nan")]))
    assert not list(tmp_path.iterdir())
