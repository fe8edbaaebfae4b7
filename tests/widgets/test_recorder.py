"""The recorder without a browser: bytes as they come from recorder.js, and what the page would be told."""

import numpy as np
import pytest
import torch

from course_lib.sound.audio import SAMPLE_RATE
from course_lib.widgets.recorder import Recorder


def tone(seconds: float, rate: int, loudness: float = 0.25) -> np.ndarray:
    return (32_768 * loudness * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype("<i2")


def say(recorder: Recorder, samples: np.ndarray, rate: int, messages: int = 1) -> None:
    """Tell the recorder what the browser tells it, in so many messages."""
    recorder._on_message(recorder, {"kind": "recording"}, [])
    for part in np.array_split(samples, messages):
        recorder._on_message(recorder, {"kind": "samples"}, [memoryview(part.tobytes())])
    recorder._on_message(recorder, {"kind": "end", "sample_rate": rate}, [])


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_before_the_first_recording_there_is_nothing(recorder):
    assert (recorder.waveform, recorder.seconds, recorder.status, recorder.error) == (None, 0.0, "idle", "")


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("messages", [1, 3])
def test_a_recording_arrives_as_mono_float32_at_16_khz(recorder, rate, messages):
    say(recorder, tone(1.5, rate), rate, messages)
    assert recorder.waveform.dtype == torch.float32
    assert recorder.waveform.shape == (1.5 * SAMPLE_RATE,)
    assert recorder.seconds == 1.5
    assert (recorder.status, recorder.error) == ("recorded", "")
    middle = recorder.waveform[8_000:16_000].double()
    expected = 0.25 * torch.sin(2 * torch.pi * 440 * torch.arange(8_000, 16_000, dtype=torch.float64) / SAMPLE_RATE)
    assert (middle - expected).abs().max() < 2e-3


def test_the_second_recording_does_not_begin_with_the_first(recorder):
    say(recorder, tone(1.0, 48_000), 48_000)
    say(recorder, tone(0.5, 48_000), 48_000)
    assert recorder.seconds == 0.5


def test_while_it_records_the_old_error_is_gone(recorder):
    recorder._on_message(recorder, {"kind": "failed", "reason": "No microphone was found."}, [])
    assert (recorder.status, recorder.error) == ("failed", "No microphone was found.")
    recorder._on_message(recorder, {"kind": "recording"}, [])
    assert (recorder.status, recorder.error) == ("recording", "")


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(48_000, "<i2"), "silent"),
        (tone(0.05, 48_000), "too short"),
        (np.zeros(0, "<i2"), "empty"),
        (tone(2.5, 48_000), "too long"),
    ],
)
def test_a_recording_that_cannot_be_used_is_refused_in_a_sentence_and_reaches_nobody(samples, reason):
    recorder, heard = Recorder(max_seconds=2), []
    recorder.on_recording(heard.append)
    say(recorder, tone(1.0, 48_000), 48_000)
    say(recorder, samples, 48_000)
    assert recorder.error.startswith("your recording: ")
    assert reason in recorder.error
    assert recorder.status == "failed"
    assert (recorder.waveform, recorder.seconds) == (None, 0.0)
    assert len(heard) == 1


def test_every_callback_gets_the_waveform_in_order(recorder):
    heard = []
    recorder.on_recording(lambda waveform: heard.append(("first", waveform)))
    recorder.on_recording(lambda waveform: heard.append(("second", waveform)))
    say(recorder, tone(0.5, 48_000), 48_000)
    assert [name for name, _ in heard] == ["first", "second"]
    assert all(waveform is recorder.waveform for _, waveform in heard)


def test_what_a_callback_raises_is_shown_and_raised_and_the_recording_is_kept(recorder):
    def fail(waveform):
        raise ZeroDivisionError("by nobody")

    recorder.on_recording(fail)
    with pytest.raises(ZeroDivisionError):
        say(recorder, tone(0.5, 48_000), 48_000)
    assert "ZeroDivisionError: by nobody" in recorder.error
    assert recorder.status == "failed"
    assert recorder.seconds == 0.5


def test_the_browser_is_listened_to(recorder):
    recorder._handle_custom_msg({"kind": "failed", "reason": "No microphone was found."}, [])
    assert recorder.error == "No microphone was found."


def test_its_script_and_its_style_come_with_the_package(recorder):
    assert "getUserMedia" in recorder._esm
    assert ".course-recorder" in recorder._css
    assert "http" not in recorder._css
    assert "import " not in recorder._esm


def test_no_time_to_speak_is_refused():
    with pytest.raises(ValueError, match="max_seconds is 0"):
        Recorder(max_seconds=0)
