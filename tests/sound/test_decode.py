"""What telephones and browsers record: each kind is read whole and in time, and a cut or damaged file is named, not a crash."""

import contextlib
import io
import random
import tempfile
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr

from course_lib.files import DATA_FOLDER
from course_lib.sound.audio import AudioError, load_audio, stream_audio
from course_lib.sound.decode import open_recording

CLIP = DATA_FOLDER / "audio" / "wav" / "test-00003.wav"

ENCODERS = {
    "wav": ("wav", "pcm_s16le", 16_000, {}),
    "flac": ("flac", "flac", 16_000, {}),
    "mp3": ("mp3", "libmp3lame", 44_100, {}),
    "m4a": ("ipod", "aac", 48_000, {}),
    "aac": ("adts", "aac", 16_000, {}),
    "opus": ("ogg", "libopus", 48_000, {}),
    "webm": ("webm", "libopus", 48_000, {}),
    # A telephone's file with its index in front, and what Safari records: no index, no edit list.
    "m4a, index first": ("ipod", "aac", 48_000, {"movflags": "faststart"}),
    "m4a in fragments": ("mp4", "aac", 48_000, {"movflags": "frag_keyframe+empty_moov"}),
}
KINDS = [*ENCODERS, "ogg"]


@cache
def recording(kind):
    """The clip as a file of this kind."""
    if kind == "ogg":  # FFmpeg's own encoder for Vorbis is no good, and PyAV comes without the other
        stream = io.BytesIO()
        soundfile.write(stream, load_audio(CLIP).numpy(), 16_000, format="OGG")
        return stream.getvalue()
    container_format, codec, rate, options = ENCODERS[kind]
    wave = soxr.resample(load_audio(CLIP).numpy(), 16_000, rate)
    with tempfile.TemporaryDirectory() as folder:  # to put the index first, FFmpeg reads its own file again
        path = Path(folder) / "clip"
        with av.open(str(path), "w", format=container_format, options=options) as container:
            track = container.add_stream(codec, rate=rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, 0
            for part in (frame, None):
                container.mux(track.encode(part))
        return path.read_bytes()


def delay(found, original):
    """Samples by which `found` comes late, and how alike the two are then."""
    size = len(found) + len(original)
    products = np.fft.irfft(np.fft.rfft(found, size) * np.conj(np.fft.rfft(original, size)), size)
    late = int(products.argmax())
    likeness = products.max() / np.linalg.norm(found) / np.linalg.norm(original)
    return (late if late < len(found) else late - size), likeness


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_read_whole_and_in_time(kind, tmp_path):
    original = load_audio(CLIP).numpy()
    path = tmp_path / "clip"
    path.write_bytes(recording(kind))
    found = load_audio(path).numpy()
    assert abs(len(found) - len(original)) <= 0.05 * 16_000
    late, likeness = delay(found, original)
    assert abs(late) <= 160
    assert likeness > 0.9
    assert np.array_equal(found, load_audio(recording(kind)).numpy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.5, 0.8, 0.95])
def test_a_cut_file_is_named_as_such(kind, kept):
    content = recording(kind)
    with pytest.raises(AudioError, match="clip: truncated: "):
        load_audio(content[: int(len(content) * kept)], name="clip")


def test_some_kinds_cannot_tell_that_they_were_cut():
    """Raw aac between two frames: each begins with twelve set bits."""
    content = recording("aac")
    cut = content.index(content[:3], len(content) // 2)
    original = load_audio(CLIP).numpy()
    found = load_audio(content[:cut]).numpy()
    assert 0.4 * len(original) < len(found) < 0.8 * len(original)


@pytest.mark.parametrize("kept", [0.3, 0.95])
def test_an_mp4_without_its_index_says_so(kept):
    with pytest.raises(AudioError, match="index of an mp4 or m4a file"):
        load_audio(recording("m4a")[: int(kept * len(recording("m4a")))])


def test_a_film_has_its_sound_read_and_a_picture_has_none():
    assert len(load_audio(film(sound=True))) == pytest.approx(16_000, abs=800)
    with pytest.raises(AudioError, match="is not an audio file"):
        load_audio(film(sound=False))


def film(sound):
    """Two seconds of black, with one second of noise or none: the length of the film is not that of its sound."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="matroska") as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width = picture.height = 16
        picture.pix_fmt = "yuv420p"
        track = container.add_stream("libopus", rate=48_000, layout="mono") if sound else None
        for _ in range(20):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(picture.encode(None))
        if track:
            noise = 0.1 * np.random.default_rng(0).standard_normal((1, 48_000))
            frame = av.AudioFrame.from_ndarray(noise.astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48_000, 0
            for part in (frame, None):
                container.mux(track.encode(part))
    return stream.getvalue()


def test_a_playlist_is_not_followed(tmp_path):
    """FFmpeg would read whatever file or address it names."""
    (tmp_path / "secret.aac").write_bytes(recording("aac"))
    playlist = tmp_path / "list.wav"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.3,\n{tmp_path / 'secret.aac'}\n#EXT-X-ENDLIST\n")
    with pytest.raises(AudioError, match="is not an audio file"):
        load_audio(playlist)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_give_sound_or_an_audio_error(kind):
    rng = random.Random(kind)
    for _ in range(200):
        damaged = bytearray(recording(kind))
        for _ in range(rng.choice([1, 3, 30])):
            # Most in the first kilobyte, where headers are.
            place = rng.randrange(min(1000, len(damaged)) if rng.random() < 0.7 else len(damaged))
            damaged[place] ^= rng.randrange(1, 256)
        sound_or_audio_error(bytes(damaged))


def test_random_bytes_give_an_audio_error():
    rng = random.Random(0)
    for kind in KINDS:
        start = recording(kind)[: rng.randrange(40)]
        with pytest.raises(AudioError):
            load_audio(start + rng.randbytes(3000))


def sound_or_audio_error(content):
    with contextlib.suppress(AudioError):
        assert len(load_audio(content)) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_put_together_are_the_whole(kind):
    """Of each file there are several blocks."""
    content = recording(kind) if kind not in ("wav", "flac", "ogg") else long_file(kind)
    blocks = [*stream_audio(content)]
    assert len(blocks) > 1
    with open_recording(content, "clip") as opened:
        native = np.concatenate([*opened.blocks]).mean(axis=1)
    expected = native if opened.rate == 16_000 else soxr.resample(native, opened.rate, 16_000)
    assert np.array_equal(np.concatenate([block.numpy() for block in blocks]), expected)


def long_file(kind):
    stream = io.BytesIO()
    noise = 0.1 * np.random.default_rng(0).standard_normal(10 * 16_000)
    soundfile.write(stream, noise, 16_000, format=kind.upper())
    return stream.getvalue()
