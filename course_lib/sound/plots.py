"""Pictures of sound on its way to text: each function draws into the axes it is given, and labels them."""

import numpy as np
from IPython.display import Audio, display
from jaxtyping import Float
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

from course_lib.sound.audio import SAMPLE_RATE

INK, SOFT = "#1f3b57", "#b8c4d0"


def plot_waveform(axes: Axes, waveform: Float[Tensor, "samples"]) -> None:
    """Sound pressure over time; full scale is 1."""
    axes.plot(np.arange(len(waveform)) / SAMPLE_RATE, waveform.numpy(), color=INK, linewidth=0.5)
    axes.set(xlabel="time (s)", ylabel="pressure (full scale = 1)", xlim=(0, len(waveform) / SAMPLE_RATE))


def plot_rows(
    axes: Axes, rows: Float[Tensor, "frames columns"], rows_per_second: int | float, label: str, symmetric: bool = False
) -> None:
    """A table of numbers with time to the right and its columns upwards; dark is high (symmetric: red high, blue low)."""
    seconds = len(rows) / rows_per_second
    limit = float(rows.abs().quantile(0.99)) if symmetric else None
    colours = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit} if symmetric else {"cmap": "Greys"}
    axes.imshow(
        rows.T.numpy(), origin="lower", aspect="auto", interpolation="nearest", extent=(0, seconds, 0, rows.shape[1]), **colours
    )
    axes.set(xlabel="time (s)", ylabel=label)


def show_sound(waveform: Float[Tensor, "samples"], title: str) -> None:
    """A player with its waveform beside it and a line of text: whatever your viewer shows, you see that there is sound."""
    _, axes = plt.subplots(figsize=(7, 1.4), dpi=80)
    plot_waveform(axes, waveform)
    axes.set_title(title, fontsize=10, parse_math=False)
    plt.show()
    print(f"{len(waveform) / SAMPLE_RATE:.2f} s, {len(waveform):,} samples, loudest {float(waveform.abs().max()):.2f}")
    display(Audio(waveform.numpy(), rate=SAMPLE_RATE))
