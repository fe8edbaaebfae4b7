"""Record yourself, or upload a recording, and read what the recogniser makes of it."""

import html
from collections.abc import Callable

import ipywidgets
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.sound.audio import SAMPLE_RATE, AudioError, load_audio
from course_lib.sound.mel import whisper_log_mel
from course_lib.sound.plots import plot_rows, plot_waveform
from course_lib.widgets.base import Demo, figure_to_png
from course_lib.widgets.recorder import Recorder

Transcribe = Callable[[list], list[str]]

ACCEPTED = ".wav,.flac,.ogg,.mp3,.m4a,.aac,.opus,.webm"


def draw_recording(waveform: Float[Tensor, "samples"]) -> Figure:
    """Waveform and log-mel of a recording, one above the other."""
    figure = Figure(figsize=(7, 3.2))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1, 2])
    plot_waveform(upper, waveform)
    upper.set_xlabel("")
    plot_rows(lower, whisper_log_mel(waveform), 100, "mel bin")
    return figure


def describe_recording(waveform: Float[Tensor, "samples"], name: str, transcribe: Transcribe) -> tuple[str, bytes]:
    """What to show for a recording at 16 kHz: HTML with its name, its seconds and the text; and the picture, a PNG."""
    text = transcribe([waveform])[0]
    seconds = len(waveform) / SAMPLE_RATE
    line = f"<p>{html.escape(name)}, {seconds:.1f} s: <b>{html.escape(text) or '(nothing)'}</b></p>"
    return line, figure_to_png(draw_recording(waveform))


class YourVoice(Demo):
    """A recorder, and a button for a sound file of at most 30 s; beneath them the transcript and the picture."""

    def __init__(self, transcribe: Transcribe, example: bytes, example_name: str):
        self.transcribe = transcribe
        self.recorder = Recorder()
        self.upload = ipywidgets.FileUpload(
            accept=ACCEPTED, multiple=False, description="or upload a file", layout={"width": "160px"}
        )
        self.text = ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", layout={"width": "100%"})
        self.recorder.on_recording(self._on_recording)
        self.upload.observe(self._on_upload, names="value")
        twin_line, twin_png = describe_recording(load_audio(example, name=example_name), example_name, transcribe)
        self._show(twin_line, twin_png)
        twin_text = f"Live in JupyterLab: record a sentence, or upload a file. Here, {example_name}."
        super().__init__([self.recorder, self.upload, self.text, self.picture], twin_png, twin_text)

    def _on_recording(self, waveform: Float[Tensor, "samples"]) -> None:
        self._show("<p>listening …</p>", None)
        try:
            self._show(*describe_recording(waveform, "your recording", self.transcribe))
        except Exception:
            self._show("", None)  # the recorder says what went wrong
            raise

    def _on_upload(self, change) -> None:
        if not change.new:
            return
        file = change.new[0]
        self._show("<p>listening …</p>", None)
        try:
            waveform = load_audio(bytes(file["content"]), name=file["name"])
            self._show(*describe_recording(waveform, file["name"], self.transcribe))
        except AudioError as error:
            self._show(f"<p><b>Cannot use this file.</b> {html.escape(str(error))}</p>", None)
        except Exception as error:
            self._show(f"<p><b>The recogniser failed.</b> {html.escape(f'{type(error).__name__}: {error}')}</p>", None)
            raise

    def _show(self, line: str, png: bytes | None) -> None:
        self.text.value = line
        self.picture.value = png or b""
        self.picture.layout.display = "" if png else "none"
