"""The forward algorithm, frame by frame: a slider over the lattice of frames × states."""

import html
from collections.abc import Sequence

import ipywidgets
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.ctc.paths import forward_scores, lattice_states, may_skip
from course_lib.sound.plots import INK
from course_lib.widgets.base import Demo, figure_to_png


def useful_states(labels: Sequence[int], frames: int) -> list[tuple[int, int]]:
    """Every (frame, state) that lies on some path from the start to the end."""
    scores = torch.zeros(frames, max([*labels, 0]) + 1)
    forwards = forward_scores(scores, labels) > -1e29
    backwards = (forward_scores(scores, list(labels)[::-1]) > -1e29).flip(0, 1)
    return [(frame, state) for frame, state in (forwards & backwards).nonzero().tolist()]


def draw_lattice(log_probs: Float[Tensor, "frames vocab"], labels: Sequence[int], letters: Sequence[str], frame: int) -> Figure:
    """The lattice of a short text with α, in percent, in the states up to `frame`; `letters` names the symbols."""
    alpha = forward_scores(log_probs, labels).exp()
    states = lattice_states(labels).tolist()
    figure = Figure(figsize=(1.6 + 0.85 * len(alpha), 0.8 + 0.42 * len(states)))
    axes = figure.subplots()
    useful = set(useful_states(labels, len(alpha)))
    _draw_steps(axes, useful, may_skip(lattice_states(labels)).tolist(), frame)
    for t, s in sorted(useful):
        done = t <= frame
        shade = 0.15 + 0.85 * float(alpha[t, s] / alpha[t].max()) if done else 0.0
        face = (1 - 0.45 * shade, 1 - 0.35 * shade, 1 - 0.25 * shade) if done else "white"
        axes.scatter(t, s, s=700, color=[face], edgecolors=INK if done else "#c8c8c8", zorder=2)
        if done:
            axes.text(t, s, f"{100 * float(alpha[t, s]):.2g}", ha="center", va="center", fontsize=7.5, zorder=3)
    axes.set_yticks(range(len(states)), [letters[state] for state in states], fontsize=12)
    axes.set_xticks(range(len(alpha)))
    axes.set(xlim=(-0.5, len(alpha) - 0.5), ylim=(len(states) - 0.4, -0.6), xlabel="frame", ylabel="state")
    axes.spines[:].set_visible(False)
    return figure


def describe_lattice(
    log_probs: Float[Tensor, "frames vocab"], labels: Sequence[int], letters: Sequence[str], frame: int
) -> str:
    """What the lattice says at a frame, as HTML."""
    alpha = forward_scores(log_probs, labels).exp()
    text = html.escape("".join(letters[label] for label in labels))
    if frame < len(alpha) - 1:
        best = int(alpha[frame].argmax())
        symbol = html.escape(letters[lattice_states(labels)[best]])
        return (
            f"<p>After frame {frame} most of the probability of <b>{text}</b> so far is in state {best}, <b>{symbol}</b>.</p>"
        )
    end = alpha[-1, -2:]
    shown = " + ".join(f"{100 * float(part):.2f}" for part in end)
    return f"<p>The last frame, last two states: {shown} = {100 * float(end.sum()):.2f} % for <b>{text}</b>.</p>"


def _draw_steps(axes: Axes, useful: set[tuple[int, int]], skips: list[bool], frame: int) -> None:
    for t, s in useful:
        sources = [s, s - 1, s - 2] if skips[s] else [s, s - 1]
        for before in sources:
            if (t - 1, before) in useful:
                colour = INK if t <= frame else "#d8d8d8"
                axes.plot([t - 1, t], [before, s], color=colour, linewidth=0.8, zorder=1)


class CtcLattice(Demo):
    """A slider over frames; beneath it the lattice filled so far, and a sentence."""

    def __init__(self, log_probs: Float[Tensor, "frames vocab"], labels: Sequence[int], letters: Sequence[str]):
        self.lattice = (log_probs, list(labels), list(letters))
        last = len(log_probs) - 1
        self.frame = ipywidgets.IntSlider(value=last, min=0, max=last, description="frame")
        self.text = ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", layout={"align_self": "flex-start"})
        self.frame.observe(self._refresh, names="value")
        self._refresh()
        text = "".join(letters[label] for label in labels)
        twin_text = f'Live in JupyterLab: drag the frame. Here, the lattice of "{text}" is full.'
        super().__init__([self.frame, self.text, self.picture], bytes(self.picture.value), twin_text)

    def _refresh(self, change=None) -> None:
        self.text.value = describe_lattice(*self.lattice, self.frame.value)
        self.picture.value = figure_to_png(draw_lattice(*self.lattice, self.frame.value))
