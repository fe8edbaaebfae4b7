"""A microphone in the browser → a waveform in the kernel; recorder.js is the half that the browser runs.

Nothing is encoded on the way: raw samples at the device's own rate come as 16-bit integers and go through `load_audio`, like
every other sound of the course. The browser tells what happens in messages; `status`, `error` and `seconds` are set here.
"""

from collections.abc import Callable
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from jaxtyping import Float
from torch import Tensor

from course_lib.sound.audio import SAMPLE_RATE, AudioError, load_audio

Waveform = Float[Tensor, "samples"]
OnRecording = Callable[[Waveform], object]


class Recorder(anywidget.AnyWidget):
    """A button that records, a level, the seconds, and a button that plays; the last recording is `waveform`.

    `status` is "idle", "recording", "recorded" or "failed"; `error` is the sentence on the page, empty when all is well. A
    recording stops by itself after `max_seconds`. While `disabled`, the button does nothing; after a recording it says `again`.
    """

    _esm = Path(__file__).with_name("recorder.js")
    _css = Path(__file__).with_name("recorder.css")

    max_seconds = traitlets.Float(30.0).tag(sync=True)
    status = traitlets.Enum(["idle", "recording", "recorded", "failed"], "idle").tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)
    seconds = traitlets.Float(0.0).tag(sync=True)
    disabled = traitlets.Bool(False).tag(sync=True)
    again = traitlets.Unicode("Again").tag(sync=True)

    def __init__(self, max_seconds: int | float = 30, again: str = "Again"):
        if max_seconds <= 0:
            raise ValueError(f"max_seconds is {max_seconds}: a recording needs some time, 30 s is usual")
        super().__init__(max_seconds=float(max_seconds), again=again)
        self.waveform: Waveform | None = None
        """The last recording, mono float32 at 16 kHz; None before the first, and after one that could not be used."""
        self._callbacks: list[OnRecording] = []
        self._received = bytearray()
        self.on_msg(self._on_message)

    def on_recording(self, callback: OnRecording) -> None:
        """Have `callback` called with the waveform of every recording that can be used, in the order of registration."""
        self._callbacks.append(callback)

    def receive(self, pcm: bytes, sample_rate: int) -> None:
        """Take a recording: mono 16-bit little-endian `pcm` of `sample_rate` samples a second.

        Sets `waveform`, `seconds` and `status`, then calls what waits for recordings. A recording that cannot be used (silent,
        too short, too long) raises nothing: `error` says why. What a callback raises is shown in `error` and raised again.
        """
        try:
            samples = np.frombuffer(pcm, dtype="<i2")
            self._keep(load_audio(samples, sample_rate, max_seconds=self.max_seconds, name="your recording"))
        except AudioError as error:
            self._keep(None)
            self._fail(str(error))
            return
        try:
            for callback in self._callbacks:
                callback(self.waveform)
        except Exception as error:
            self._fail(f"The recording is here, but what should happen with it failed. {type(error).__name__}: {error}")
            raise

    def _keep(self, waveform: Waveform | None) -> None:
        self.waveform = waveform
        self.seconds = 0.0 if waveform is None else len(waveform) / SAMPLE_RATE
        if waveform is not None:
            self.error, self.status = "", "recorded"

    def _fail(self, reason: str) -> None:
        self.error, self.status = reason, "failed"

    def _on_message(self, widget: object, content: dict, buffers: list) -> None:
        match content["kind"]:
            case "recording":
                self._received.clear()
                self.error, self.status = "", "recording"
            case "samples":
                self._received += buffers[0]
            case "end":
                self.receive(bytes(self._received), round(content["sample_rate"]))
            case "failed":
                self._fail(content["reason"])
