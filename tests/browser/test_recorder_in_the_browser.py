"""The recorder and what is built on it, in JupyterLab, with a microphone in which a shipped clip is played over and over."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch

from course_lib.data.datasets import load_examples, read_asr_csv
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

Recorder(max_seconds=1.5)
"""
BUSY = """
import time
from pathlib import Path
from course_lib.widgets.recorder import Recorder

display(Recorder())
while not Path("go on").exists():
    time.sleep(0.1)
"""
READING = """
from course_lib.widgets.prompted_reading import PromptedReading

PromptedReading(["paraply", "kan jeg få en kop kaffe", "<i>saks</i>"], "mine", max_seconds=1.5)
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


def show_in_theme(page: Any, theme: str) -> None:
    """ "Light" or "Dark"; JupyterLab remembers it for the next page."""
    page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', { theme: name })", f"JupyterLab {theme}")
    page.wait_for_selector(f'body[data-jp-theme-name="JupyterLab {theme}"]', state="attached")
    page.wait_for_selector("#jupyterlab-splash", state="detached")


def test_speaking_into_the_microphone_and_reading_what_was_said(run_cell, spoken):
    page = run_cell(YOUR_VOICE, WATCH)
    recorder = recorder_of(page)
    wait_for_message(recorder, "Press Record and speak")
    show_in_theme(page, "Light")
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
    assert message == f"{arrived:.1f} s recorded."
    assert 0.1 < loudest < 1.1
    keep_screenshot(page, "recorder_transcript_light")

    show_in_theme(page, "Dark")
    keep_screenshot(page, "recorder_transcript_dark")
    recorder.locator(".recorder-record").click()
    wait_for_phase(page, "recording")
    page.wait_for_function("() => Number(document.querySelector('.recorder-meter').ariaValueNow) > -30")
    keep_screenshot(page, "recorder_recording_dark")


def test_by_keyboard_until_it_stops_by_itself_and_listening_to_it(run_cell):
    page = run_cell(RECORDER, WATCH)
    recorder = recorder_of(page)
    button, play = recorder.locator(".recorder-record"), recorder.locator(".recorder-play")
    assert not play.is_visible()
    for key in ("Space", "Enter"):
        button.focus()
        button.press(key)
        wait_for_phase(page, "recording")
        assert button.get_attribute("aria-label") == "stop recording"
        message = wait_for_message(recorder, "Stopped by itself")
        assert message == "1.5 s recorded. Stopped by itself after 1.5 s, the longest recording here."
        assert button.get_attribute("aria-label") == "record again"
        assert button.evaluate("button => button === document.activeElement")
    assert tracks(page) == ["ended", "ended"]

    play.click()
    recorder.get_by_label("stop playing").wait_for()
    recorder.get_by_label("play the recording").wait_for()
    assert page.evaluate("() => window.jupyterapp.shell.currentWidget.content.mode") == "command"


def test_it_says_what_to_do_when_no_microphone_can_be_had(run_cell):
    page = run_cell(RECORDER, WATCH)
    recorder = recorder_of(page)
    for name, advice in {
        "NotAllowedError": "icon to the left of the address, allow the microphone",
        "NotFoundError": "No microphone was found. Plug one in",
        "NotReadableError": "Another program may hold it: end calls",
        "AbortError": "could not be opened: out of order. Reload the page",
    }.items():
        page.evaluate("name => { window.fault = new DOMException('out of order', name) }", name)
        recorder.locator(".recorder-record").click()
        wait_for_message(recorder, advice)
        assert recorder.get_attribute("data-phase") == "failed"
        if name == "NotAllowedError":
            keep_screenshot(page, "recorder_not_allowed_light")

    page.evaluate("() => { window.fault = null }")
    page.evaluate("() => { document.featurePolicy.allowsFeature = () => false }")
    recorder.locator(".recorder-record").click()
    wait_for_message(recorder, "a frame that may not use the microphone, as notebooks in VS Code are")

    page.evaluate("() => { delete document.featurePolicy.allowsFeature }")
    record(page, recorder, 0.5)
    wait_for_message(recorder, "s recorded.")


def test_the_microphone_is_let_go_when_it_is_unplugged_and_when_the_cell_is_cleared(run_cell):
    page = run_cell(RECORDER.replace("1.5", "30"), WATCH)
    recorder = recorder_of(page)
    recorder.locator(".recorder-record").click()
    wait_for_phase(page, "recording")
    wait_for_seconds(page, 0.5)
    page.evaluate("() => window.streams[0].getTracks()[0].dispatchEvent(new Event('ended'))")
    wait_for_message(recorder, "The microphone went away; what it heard until then was kept.")

    recorder.locator(".recorder-record").click()
    wait_for_phase(page, "recording")
    assert tracks(page) == ["ended", "live"]
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    page.wait_for_selector(".course-recorder", state="detached")
    assert tracks(page) == ["ended", "ended"]


@pytest.mark.parametrize(
    ("before", "advice"),
    [
        ("Object.defineProperty(window, 'isSecureContext', { value: false });", "Open it through http://localhost"),
        ("Object.defineProperty(navigator, 'mediaDevices', { value: undefined });", "This browser cannot record sound"),
    ],
)
def test_where_nothing_can_be_recorded_it_says_so_before_anybody_presses(run_cell, before, advice):
    page = run_cell(RECORDER, before)
    recorder = recorder_of(page)
    wait_for_message(recorder, advice)
    recorder.locator(".recorder-record").click()
    wait_for_message(recorder, advice)
    assert recorder.get_attribute("data-phase") == "failed"


def test_a_browser_without_worklets_records_too(run_cell):
    page = run_cell(RECORDER, WITHOUT_WORKLETS)
    recorder = recorder_of(page)
    recorder.locator(".recorder-record").click()
    wait_for_message(recorder, "1.5 s recorded.")


def test_while_the_kernel_is_busy_a_recording_waits_and_says_so(run_cell, lab):
    page = run_cell(BUSY, WATCH)
    recorder = recorder_of(page)
    page.evaluate("() => { window.fault = new DOMException('', 'NotFoundError') }")
    recorder.locator(".recorder-record").click()
    wait_for_message(recorder, "No microphone was found.")

    page.evaluate("() => { window.fault = null }")
    record(page, recorder, 0.5)
    wait_for_message(recorder, "Does nothing happen? Then another cell is still running")
    (lab.folder / "go on").touch()
    wait_for_message(recorder, "s recorded.")
    assert recorder.get_attribute("data-phase") == "idle"


def test_two_prompts_are_read_with_the_space_bar_and_the_last_once_more(run_cell, lab):
    page = run_cell(READING, WATCH)
    recorder = recorder_of(page)
    button = recorder.locator(".recorder-record")
    button.focus()
    for prompt, progress in (("paraply", "1 of 3 recorded"), (SAID, "2 of 3 recorded")):
        page.locator(".widget-html-content b").filter(has_text=prompt).wait_for()
        page.keyboard.press("Space")
        wait_for_phase(page, "recording")
        assert page.get_by_role("button", name="redo the last").is_disabled()
        page.locator(".widget-html-content").filter(has_text=progress).wait_for()
        assert button.inner_text() == "Record"
    page.locator(".widget-html-content b").filter(has_text="<i>saks</i>").wait_for()
    show_in_theme(page, "Light")
    keep_screenshot(page, "prompted_reading_light")
    show_in_theme(page, "Dark")
    keep_screenshot(page, "prompted_reading_dark")

    first, second = read_asr_csv(lab.folder / "mine/asr.csv")
    assert (first.text, second.text) == ("paraply", SAID)
    assert len(load_audio(first.path)) == len(load_audio(second.path)) == 1.5 * SAMPLE_RATE
    before = second.path.read_bytes()

    page.get_by_role("button", name="redo the last").click()
    page.locator(".widget-html-content b").filter(has_text=SAID).wait_for()
    record(page, recorder, 0.5)
    page.locator(".widget-html-content b").filter(has_text="<i>saks</i>").wait_for()
    assert len(second.path.read_bytes()) < len(before)
