"""Turn the knobs of a log-mel spectrogram, and see what each one costs."""

from collections.abc import Mapping

import ipywidgets
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.sound.audio import SAMPLE_RATE
from course_lib.sound.mel import MelRecipe, hz_to_mel, mel_filter_bank, recipe_log_mel
from course_lib.sound.plots import INK, SOFT, plot_rows
from course_lib.widgets.base import Demo, figure_to_png

TICKS_HZ = (250, 500, 1000, 2000, 4000)


def recipe_of(window_ms: int, hop_ms: int, bins: int) -> MelRecipe:
    """Whisper's recipe with another window, hop or number of bins; frames are not padded with zeros (n_fft = window)."""
    window = window_ms * SAMPLE_RATE // 1000
    return MelRecipe("explorer", bins, n_fft=window, window_length=window, hop_length=hop_ms * SAMPLE_RATE // 1000)


def count_empty_filters(recipe: MelRecipe) -> int:
    """Filters of the recipe that fall between two frequencies of the Fourier transform and catch neither."""
    return int((mel_filter_bank(recipe.bins, recipe.n_fft).sum(dim=1) == 0).sum())


def describe_shapes(samples: int, recipe: MelRecipe) -> str:
    """HTML: the shapes from samples to log-mel, and what is odd about this choice."""
    rows = samples // recipe.hop_length
    frequencies = recipe.n_fft // 2 + 1
    spacing = SAMPLE_RATE / recipe.n_fft
    shapes = f"<code>[{samples:,}]</code> samples → power <code>[{rows + 1}, {frequencies}]</code>"
    shapes += f" → log-mel <code>[{rows}, {recipe.bins}]</code>"
    details = f"{SAMPLE_RATE / recipe.hop_length:g} frames a second, frequencies {spacing:g} Hz apart"
    details += f", {rows * recipe.bins / samples:.2f} numbers for each sample"
    return f"<p>{shapes}<br>{details}.{''.join(f'<br><b>{line}</b>' for line in warnings_about(recipe))}</p>"


def warnings_about(recipe: MelRecipe) -> list[str]:
    """What a choice of window, hop and bins gives away."""
    found = []
    if empty := count_empty_filters(recipe):
        found.append(f"{empty} of {recipe.bins} filters are empty: their rows are blank whatever is said.")
    if recipe.hop_length > recipe.window_length:
        unheard = 100 * (recipe.hop_length - recipe.window_length) / recipe.hop_length
        found.append(f"The windows do not overlap: {unheard:.0f} % of the sound is never looked at.")
    return found


def frequency_ticks(bins: int) -> list[float]:
    """Where the `TICKS_HZ` lie on an axis on which each bin is 1 high and bin 0 reaches from 0 to 1."""
    highest = hz_to_mel(torch.tensor(SAMPLE_RATE / 2))
    return (hz_to_mel(torch.tensor(TICKS_HZ, dtype=torch.float32)) / highest * (bins + 1) - 0.5).tolist()


def draw_explorer(waveform: Float[Tensor, "samples"], recipe: MelRecipe) -> Figure:
    """Above, half a second of sound with neighbouring windows over it, to scale; below, the log-mel of the whole clip."""
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=[1, 2.4])
    _draw_windows(upper, waveform, recipe)
    log_mel = (recipe_log_mel(waveform, recipe) + 4) / 4
    plot_rows(lower, log_mel, SAMPLE_RATE / recipe.hop_length, "frequency (Hz), mel-spaced")
    lower.set_yticks(frequency_ticks(recipe.bins), [f"{hz:,}" for hz in TICKS_HZ])
    lower.set_title(f"log-mel: {log_mel.shape[0]} frames × {log_mel.shape[1]} bins", fontsize=10)
    return figure


def _draw_windows(axes, waveform: Float[Tensor, "samples"], recipe: MelRecipe) -> None:
    """Half a second around the loudest sample, and every window whose centre lies in its first 0.15 s."""
    half_second = SAMPLE_RATE // 2
    start = max(0, min(int(waveform.abs().argmax()) - half_second // 2, len(waveform) - half_second))
    excerpt = waveform[start : start + half_second]
    excerpt = excerpt / excerpt.abs().max()
    axes.plot(1000 * torch.arange(len(excerpt)) / SAMPLE_RATE, excerpt, color=SOFT, linewidth=0.7)
    hann = torch.hann_window(recipe.window_length)
    for centre in range(half_second // 5, half_second // 2, recipe.hop_length):
        times = 1000 * (torch.arange(recipe.window_length) + centre - recipe.window_length // 2) / SAMPLE_RATE
        axes.plot(times, hann, color=INK, linewidth=0.9)
    title = f"half a second of it, with windows of {1000 * recipe.window_length // SAMPLE_RATE} ms"
    axes.set_title(f"{title}, one every {1000 * recipe.hop_length // SAMPLE_RATE} ms", fontsize=10)
    axes.set(xlabel="time (ms)", ylabel="pressure", xlim=(0, 500), ylim=(-1.1, 1.1), yticks=[0])


class MelExplorer(Demo):
    """Sliders for window, hop and bins, a list of clips; beneath them the shapes and the picture."""

    def __init__(self, clips: Mapping[str, Float[Tensor, "samples"]]):
        self.clips = clips
        style = {"description_width": "90px"}
        self.clip = ipywidgets.Dropdown(options=list(clips), description="clip", style=style)
        self.window = ipywidgets.IntSlider(25, 5, 100, 5, description="window (ms)", style=style)
        self.hop = ipywidgets.IntSlider(10, 5, 40, 5, description="hop (ms)", style=style)
        self.bins = ipywidgets.IntSlider(80, 8, 128, 4, description="bins", style=style)
        self.shapes = ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", layout={"width": "100%"})
        controls = [self.clip, self.window, self.hop, self.bins]
        for control in controls:
            control.observe(self._redraw, names="value")
        self._redraw()
        twin_text = f"Live in JupyterLab: sliders for window, hop and bins. Here, Whisper's setting on “{self.clip.value}”."
        super().__init__([*controls, self.shapes, self.picture], bytes(self.picture.value), twin_text)

    def _redraw(self, change=None) -> None:
        waveform = self.clips[self.clip.value]
        recipe = recipe_of(self.window.value, self.hop.value, self.bins.value)
        self.shapes.value = describe_shapes(len(waveform), recipe)
        self.picture.value = figure_to_png(draw_explorer(waveform, recipe), dpi=72)
