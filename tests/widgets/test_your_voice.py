import base64
import io
from datetime import UTC, datetime

import numpy as np
import pytest
import soundfile

from course_lib.sound.audio import load_audio
from course_lib.widgets.your_voice import YourVoice, describe_recording, draw_recording

PNG = b"\x89PNG"


def recording(seconds: float = 1.0, format: str = "WAV") -> bytes:
    samples = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * 44_100)) / 44_100)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 44_100, format=format)
    return buffer.getvalue()


def tone(seconds: float, rate: int) -> bytes:
    """What the browser sends: 16-bit samples."""
    return (8_000 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype("<i2").tobytes()


def upload(demo: YourVoice, name: str, content: bytes) -> None:
    file = {"name": name, "type": "", "size": len(content), "content": memoryview(content)}
    demo.upload.value = ({**file, "last_modified": datetime(2026, 1, 1, tzinfo=UTC)},)


@pytest.fixture
def demo() -> YourVoice:
    return YourVoice(lambda waveforms: [f"{len(w)} samples" for w in waveforms], recording(0.5), "example.wav")


def test_the_static_twin_shows_the_example_to_viewers_without_python(demo):
    data, _ = demo._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(PNG)
    assert "example.wav" in data["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "<b>8000 samples</b>" in demo.text.value


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_an_upload_is_transcribed_and_drawn(demo, format):
    upload(demo, f"min stemme.{format.lower()}", recording(1.0, format))
    assert "min stemme" in demo.text.value
    assert "1.0 s" in demo.text.value
    assert bytes(demo.picture.value).startswith(PNG)
    assert demo.picture.layout.display != "none"


def test_a_bad_upload_says_why_and_hides_the_old_picture(demo):
    upload(demo, "<notes>.txt", b"this is no sound at all, it is a shopping list")
    assert "Cannot use this file" in demo.text.value
    assert "&lt;notes&gt;.txt" in demo.text.value
    assert demo.picture.value == b""
    assert demo.picture.layout.display == "none"


def test_what_is_transcribed_and_what_a_file_is_called_are_escaped():
    script = "<script>alert('og')</script>"
    line, _ = describe_recording(load_audio(recording()), f"{script}.wav", lambda waveforms: [script])
    assert line.count("&lt;script&gt;") == 2
    assert "<script" not in line


def test_a_recording_is_transcribed_and_drawn(demo):
    demo.recorder.receive(tone(0.75, 48_000), 48_000)
    assert "your recording, 0.8 s: <b>12000 samples</b>" in demo.text.value
    assert bytes(demo.picture.value).startswith(PNG)
    assert demo.picture.layout.display != "none"


def test_a_silent_recording_leaves_what_was_there(demo):
    before = demo.text.value
    demo.recorder.receive(bytes(2 * 48_000), 48_000)
    assert "silent" in demo.recorder.error
    assert demo.text.value == before


def broken(waveforms: list) -> list[str]:
    raise RuntimeError("out of <memory>")


def test_a_recogniser_that_fails_is_seen_to_fail_and_the_old_text_goes(demo):
    demo.transcribe = broken
    with pytest.raises(RuntimeError):
        demo.recorder.receive(tone(0.5, 48_000), 48_000)
    assert "RuntimeError: out of <memory>" in demo.recorder.error
    assert demo.text.value == ""
    assert demo.picture.layout.display == "none"


def test_a_recogniser_that_fails_on_an_upload_is_seen_to_fail(demo):
    demo.transcribe = broken
    with pytest.raises(RuntimeError):
        upload(demo, "hej.wav", recording())
    assert "RuntimeError: out of &lt;memory&gt;" in demo.text.value
    assert demo.picture.layout.display == "none"


def test_what_phones_and_browsers_record_can_be_chosen(demo):
    assert {".wav", ".flac", ".ogg", ".mp3", ".m4a", ".aac", ".opus", ".webm"} <= set(demo.upload.accept.split(","))


def test_the_picture_is_of_this_recording():
    waveform = load_audio(recording(2.0))
    upper, lower = draw_recording(waveform).axes
    assert len(upper.lines[0].get_xdata()) == len(waveform)
    assert lower.images[0].get_array().shape == (80, 200)
