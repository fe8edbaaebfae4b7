"""Upload a recording of your own and read what the recogniser makes of it."""

import html
from collections.abc import Callable

import ipywidgets
from matplotlib.figure import Figure

from course_lib.sound.audio import SAMPLE_RATE, AudioError, load_audio
from course_lib.sound.mel import whisper_log_mel
from course_lib.sound.plots import plot_rows, plot_waveform
from course_lib.widgets.base import Demo, figure_to_png

Transcribe = Callable[[list], list[str]]


def draw_recording(waveform) -> Figure:
    """Waveform and log-mel of a recording, one above the other."""
    figure = Figure(figsize=(7, 3.2))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1, 2])
    plot_waveform(upper, waveform)
    upper.set_xlabel("")
    plot_rows(lower, whisper_log_mel(waveform), 100, "mel bin")
    return figure


def describe_recording(content: bytes, name: str, transcribe: Transcribe) -> tuple[str, bytes | None]:
    """What to show for an uploaded file: HTML with the text, or with the reason why there is none; and the picture."""
    try:
        waveform = load_audio(content, name=name)
    except AudioError as error:
        return f"<p><b>Cannot use this file.</b> {html.escape(str(error))}</p>", None
    text = transcribe([waveform])[0]
    seconds = len(waveform) / SAMPLE_RATE
    line = f"<p>{html.escape(name)}, {seconds:.1f} s: <b>{html.escape(text) or '(nothing)'}</b></p>"
    return line, figure_to_png(draw_recording(waveform))


class YourVoice(Demo):
    """A button for a file with sound of at most 30 s; beneath it the transcript and the picture."""

    def __init__(self, transcribe: Transcribe, example: bytes, example_name: str):
        self.transcribe = transcribe
        self.upload = ipywidgets.FileUpload(
            accept=".wav,.flac,.ogg,.opus,.mp3,.m4a,.aac,.webm", multiple=False, description="your recording"
        )
        self.text = ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", layout={"width": "100%"})
        self.upload.observe(self._on_upload, names="value")
        twin_line, twin_png = describe_recording(example, example_name, transcribe)
        self._show(twin_line, twin_png)
        twin_text = f"Live in JupyterLab: upload a recording. Here, {example_name}."
        super().__init__([self.upload, self.text, self.picture], twin_png, twin_text)

    def _on_upload(self, change) -> None:
        if change.new:
            file = change.new[0]
            self._show(*describe_recording(bytes(file["content"]), file["name"], self.transcribe))

    def _show(self, line: str, png: bytes | None) -> None:
        self.text.value = line
        self.picture.value = png or b""
        self.picture.layout.display = "" if png else "none"
