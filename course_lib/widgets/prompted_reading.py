"""A list of prompts → a recording of each, one at a time, as `asr.csv` and `wav/` in a folder of the learner's own."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ipywidgets
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.data.datasets import read_asr_csv
from course_lib.data.synth import Clip, write_csv
from course_lib.sound.audio import SAMPLE_RATE, load_audio, save_wav
from course_lib.sound.plots import INK, SOFT
from course_lib.widgets.base import Demo, figure_to_png
from course_lib.widgets.recorder import Recorder

COLUMNS = 6
UNREAD = "#66727e"


@dataclass(frozen=True)
class Reading:
    """One recording in the folder: who says what, and where it lies, relative to the folder."""

    text: str
    waveform: Float[Tensor, "samples"]
    voice: str
    split: str
    name: str

    @property
    def row(self) -> Clip:
        """Its line in asr.csv."""
        return Clip(self.name, self.text, self.split, self.voice, round(len(self.waveform) / SAMPLE_RATE, 3))


def load_readings(folder: Path) -> list[Reading]:
    """What a folder holds already; nothing where there is no asr.csv.

    Raises DataError for rows that cannot be used, AudioError for sound that cannot, ValueError for sound outside the folder.
    """
    csv = folder / "asr.csv"
    examples = read_asr_csv(csv) if csv.is_file() else []
    outside = [str(example.path) for example in examples if not example.path.is_relative_to(folder)]
    if outside:
        raise ValueError(f"{csv} lists sound that lies outside its folder, {outside[0]}: choose another folder")
    return [Reading(e.text, load_audio(e.path), e.voice, e.split, e.path.relative_to(folder).as_posix()) for e in examples]


def draw_readings(prompts: Sequence[str], waveforms: Sequence[Float[Tensor, "_samples"] | None]) -> Figure:
    """Every prompt in a field of its own, with its waveform above it where there is one; a pale line where there is none."""
    rows = -(-len(prompts) // COLUMNS)
    figure = Figure(figsize=(7.2, 0.2 + 0.62 * rows), layout="constrained")
    axes = figure.subplots()
    for index, (prompt, waveform) in enumerate(zip(prompts, waveforms, strict=True)):
        x, y = index % COLUMNS, -(index // COLUMNS)
        if waveform is not None:
            envelope = np.array([part.abs().max().item() for part in waveform.tensor_split(90)])
            envelope *= 0.3 / max(envelope.max(), 1e-9)
            axes.fill_between(x + np.linspace(0.06, 0.94, 90), y - envelope, y + envelope, color=INK, linewidth=0)
        else:
            axes.plot([x + 0.3, x + 0.7], [y, y], color=SOFT, linewidth=1)
        shown = prompt if len(prompt) <= 16 else prompt[:15] + "…"
        colour = UNREAD if waveform is None else INK
        axes.text(x + 0.5, y - 0.46, shown, ha="center", va="center", fontsize=8, color=colour, parse_math=False)
    axes.set(xlim=(0, COLUMNS), ylim=(-rows + 0.35, 0.4))
    axes.axis("off")
    return figure


def describe_progress(prompts: Sequence[str], recorded: int, current: int | None, csv: Path) -> str:
    """HTML: how many prompts are recorded, and what to say now; or where the recordings are when all are done."""
    progress = f"{recorded} of {len(prompts)} recorded"
    if current is None:
        return f"<p>{progress}. All of them are in <code>{html.escape(str(csv))}</code>.</p>"
    said = html.escape(prompts[current])
    return f'<p>{progress}. Say:</p><p style="font-size: 28px; line-height: 1.3; margin: 4px 0"><b>{said}</b></p>'


class PromptedReading(Demo):
    """Shows one prompt after the other, records each, and saves it at once: whoever stops can go on tomorrow.

    Prompts that the folder holds already are not asked for again; its recordings of other texts stay as they are. `waveforms`
    has one for each prompt, None where there is none yet. New recordings are of `split` and `voice` in asr.csv; without a split
    they belong to any.

    Raises ValueError without prompts or with an empty one, and what `load_readings` raises.
    """

    def __init__(
        self,
        prompts: Sequence[str],
        folder: str | Path,
        voice: str = "you",
        split: str = "",
        max_seconds: int | float = 10,
    ):
        if not prompts or not all(prompt.strip() for prompt in prompts):
            raise ValueError("no prompts, or an empty one: pass at least one word that can be said")
        self.prompts, self.folder, self.voice, self.split = list(prompts), Path(folder), voice, split
        self.readings: list[Reading | None] = [None] * len(self.prompts)
        self._others: list[Reading] = []
        self._last: int | None = None
        self.recorder = Recorder(max_seconds, again="Record")
        self.redo = ipywidgets.ToggleButton(description="redo the last", layout={"width": "160px"})
        self.text, self.picture = ipywidgets.HTML(), ipywidgets.Image(format="png", layout={"width": "100%"})
        for reading in load_readings(self.folder):
            self._place(reading)
        self.recorder.on_recording(self._on_recording)
        self.recorder.observe(self._refresh_buttons, names="status")
        self.redo.observe(self._refresh, names="value")
        self._refresh()
        twin_text = f"Live in JupyterLab: read {len(prompts)} prompts aloud. Here, {self.recorded} of them recorded."
        super().__init__([self.text, self.recorder, self.redo, self.picture], bytes(self.picture.value), twin_text)

    @property
    def csv(self) -> Path:
        """The list of the recordings; it is there after the first."""
        return self.folder / "asr.csv"

    @property
    def waveforms(self) -> list[Float[Tensor, "_samples"] | None]:
        """For each prompt its recording at 16 kHz, or None."""
        return [None if reading is None else reading.waveform for reading in self.readings]

    @property
    def recorded(self) -> int:
        """How many prompts have a recording."""
        return sum(reading is not None for reading in self.readings)

    @property
    def current(self) -> int | None:
        """Which prompt is asked for: the last once more, or the first without a recording; None when there is none to ask."""
        if self.redo.value:
            return self._last
        return next((index for index, reading in enumerate(self.readings) if reading is None), None)

    def fill_from(self, csv: str | Path) -> int:
        """Take recordings of the prompts that are missing from another asr.csv; says how many it found there.

        Raises DataError and AudioError for rows that cannot be used.
        """
        found = 0
        for example in read_asr_csv(Path(csv)):
            if example.text in self._missing:
                reading = Reading(example.text, load_audio(example.path), example.voice, self.split, self._free_name())
                self._save(reading)
                self._place(reading)
                found += 1
        if found:
            self._write_csv()
            self._refresh()
        return found

    @property
    def _missing(self) -> list[str]:
        return [prompt for prompt, reading in zip(self.prompts, self.readings, strict=True) if reading is None]

    def _place(self, reading: Reading) -> None:
        """Give a recording to the first prompt of its text that has none."""
        fitting = (i for i, one in enumerate(self.readings) if one is None and self.prompts[i] == reading.text)
        index = next(fitting, None)
        if index is None:
            self._others.append(reading)
        else:
            self.readings[index], self._last = reading, index

    def _free_name(self) -> str:
        taken = {reading.name for reading in (*self.readings, *self._others) if reading is not None}
        return next(name for name in (f"wav/{number:04d}.wav" for number in range(1, len(taken) + 2)) if name not in taken)

    def _on_recording(self, waveform: Float[Tensor, "samples"]) -> None:
        index = self.current
        if index is None:
            return
        old = self.readings[index]
        if old is None:
            new = Reading(self.prompts[index], waveform, self.voice, self.split, self._free_name())
        else:
            new = replace(old, waveform=waveform, voice=self.voice, split=self.split)
        self._save(new)
        self.readings[index], self._last = new, index
        self._write_csv()
        self.redo.value = False
        self._refresh()

    def _save(self, reading: Reading) -> None:
        save_wav(self.folder / reading.name, reading.waveform)

    def _write_csv(self) -> None:
        write_csv([reading.row for reading in (*self.readings, *self._others) if reading is not None], self.csv)

    def _refresh(self, change=None) -> None:
        self.text.value = describe_progress(self.prompts, self.recorded, self.current, self.csv)
        self.picture.value = figure_to_png(draw_readings(self.prompts, self.waveforms), dpi=95)
        self._refresh_buttons()

    def _refresh_buttons(self, change=None) -> None:
        """While somebody speaks, the prompt must not change under them."""
        self.recorder.disabled = self.current is None
        self.redo.disabled = self._last is None or self.recorder.status == "recording"
