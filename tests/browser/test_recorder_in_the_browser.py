"""The recorder in JupyterLab, with a microphone in which a shipped clip is played over and over."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch

from course_lib.data.datasets import load_examples
from course_lib.sound.audio import SAMPLE_RATE, load_audio
from course_lib.text.metrics import word_error_rate

SCREENSHOTS = Path(__file__).parent / "screenshots"
MICROPHONE_RATE = 48_000
SAID = "kan jeg få en kop kaffe"

YOUR_VOICE = """
from ipywidgets import Label
from course_lib.files import DATA_FOLDER
from course_lib.systems import load_slam
from course_lib.widgets.your_voice import YourVoice

example = DATA_FOLDER / "audio/wav/test-00002.wav"
demo = YourVoice(load_slam().transcribe, example.read_bytes(), example.name)
arrived = Label()
demo.recorder.on_recording(lambda waveform: setattr(arrived, "value", f"{len(waveform)} {waveform.abs().max():.3f}"))
display(demo, arrived)
"""
RECORDER = """
from course_lib.widgets.recorder import Recorder

recorder = Recorder(max_seconds={seconds})
recorder
"""
# Keeps every stream that was given out, and lets a test choose why none is.
WATCH = """
window.streams = [];
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wishes) => {
  window.wishes = wishes;
  if (window.fault) throw window.fault;
  const stream = await ask(wishes);
  window.streams.push(stream);
  return stream;
};
"""
WITHOUT_WORKLETS = WATCH + "delete window.AudioWorkletNode;"
WITHOUT_A_SECURE_CONTEXT = "Object.defineProperty(window, 'isSecureContext', { value: false });"


@pytest.fixture(scope="module")
def spoken() -> torch.Tensor:
    """What the microphone hears: a shipped clip, with a little silence around it."""
    clip = next(example for example in load_examples("data/audio/asr.csv", "test") if example.text == SAID)
    silence = torch.zeros(SAMPLE_RATE // 4)
    return torch.cat([silence, load_audio(clip.path), silence])


@pytest.fixture(scope="module")
def browser_flags(spoken: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A microphone made of a file, and nobody who has to be asked."""
    file = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    samples = soxr.resample(spoken.numpy(), SAMPLE_RATE, MICROPHONE_RATE)
    soundfile.write(file, np.clip(samples, -1, 1), MICROPHONE_RATE, subtype="PCM_16")
    fakes = "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
    return [*fakes.split(), f"--use-file-for-fake-audio-capture={file}"]


def recorder_of(page: Any) -> Any:
    recorder = page.locator(".course-recorder").first
    recorder.locator(".recorder-record").wait_for()
    recorder.scroll_into_view_if_needed()
    return recorder


def wait_for_phase(page: Any, phase: str) -> None:
    page.wait_for_selector(f'.course-recorder[data-phase="{phase}"]')


def wait_for_message(recorder: Any, text: str) -> str:
    message = recorder.locator(".recorder-message").filter(has_text=text)
    message.wait_for()
    return message.inner_text()


def wait_for_seconds(page: Any, seconds: float) -> None:
    """Until the recorder's own clock has counted so many seconds of sound."""
    page.wait_for_function(
        "seconds => parseFloat(document.querySelector('.recorder-time').textContent) >= seconds", arg=seconds
    )


def record(page: Any, recorder: Any, seconds: float) -> None:
    recorder.locator(".recorder-record").click()
    wait_for_phase(page, "recording")
    wait_for_seconds(page, seconds)
    recorder.locator(".recorder-record").click()


def tracks(page: Any) -> list[str]:
    return page.evaluate("() => window.streams.flatMap((stream) => stream.getTracks().map((track) => track.readyState))")


def keep_screenshot(page: Any, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def darken(page: Any) -> None:
    page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
    page.wait_for_selector("body[data-jp-theme-light=false]")


def test_speaking_into_the_microphone_and_reading_what_was_said(run_cell, spoken):
    page = run_cell(YOUR_VOICE, WATCH)
    recorder = recorder_of(page)
    wait_for_message(recorder, "Press Record and speak")
    keep_screenshot(page, "recorder_idle_light")

    seconds = len(spoken) / SAMPLE_RATE
    recorder.locator(".recorder-record").click()
    wait_for_phase(page, "recording")
    assert tracks(page) == ["live"]
    page.wait_for_function("() => Number(document.querySelector('.recorder-meter').ariaValueNow) > -30")
    keep_screenshot(page, "recorder_recording_light")
    wait_for_seconds(page, seconds)
    recorder.locator(".recorder-record").click()
    message = wait_for_message(recorder, "s recorded.")
    assert tracks(page) == ["ended"]
    wishes = page.evaluate("() => window.wishes.audio")
    assert wishes == {"channelCount": 1, "echoCancellation": False, "noiseSuppression": False, "autoGainControl": True}

    text = page.locator(".widget-html-content").filter(has_text="your recording").locator("b")
    text.wait_for()
    assert word_error_rate([SAID], [text.inner_text()]) <= 0.5
    samples, loudest = map(float, page.locator(".jp-OutputArea-output > .widget-label").inner_text().split())
    arrived = samples / SAMPLE_RATE
    assert seconds - 0.1 < arrived < seconds + 1
    assert message.startswith(f"{arrived:.1f} s recorded. Loudest -")
    assert abs(loudest - float(spoken.abs().max())) < 0.1
    keep_screenshot(page, "recorder_transcript_light")

    darken(page)
    keep_screenshot(page, "recorder_transcript_dark")
    recorder.locator(".recorder-record").click()
    wait_for_phase(page, "recording")
    page.wait_for_function("() => Number(document.querySelector('.recorder-meter').ariaValueNow) > -30")
    keep_screenshot(page, "recorder_recording_dark")
