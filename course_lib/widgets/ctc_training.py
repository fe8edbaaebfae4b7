"""Train *nat* by hand: probabilities of four frames, one gradient step at a time, and what each path is worth meanwhile."""

import itertools
from collections.abc import Sequence

import ipywidgets
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.ctc.paths import collapse, ctc_loss
from course_lib.sound.plots import INK
from course_lib.widgets.base import Demo, figure_to_png

STEP = 0.001
"""What a slider moves by, and the smallest probability that it shows."""


def paths_of(labels: Sequence[int], frames: int, vocab: int) -> list[tuple[int, ...]]:
    """Every path of this length that reads as `labels`, found by trying all.

    >>> len(paths_of([1, 2, 3], frames=4, vocab=4))
    7
    """
    return [path for path in itertools.product(range(vocab), repeat=frames) if collapse(path) == list(labels)]


def path_probabilities(log_probs: Float[Tensor, "frames vocab"], paths: Sequence[Sequence[int]]) -> Float[Tensor, "paths"]:
    """The product of each path's numbers."""
    frames = torch.arange(len(log_probs))
    return torch.stack([log_probs[frames, torch.tensor(path)].sum() for path in paths]).exp()


def gradient_step(
    logits: Float[Tensor, "frames vocab"], labels: Sequence[int], rate: float = 1.0
) -> Float[Tensor, "frames vocab"]:
    """Logits after a step downhill on the CTC loss: logits + rate × (share of the sum − probability)."""
    logits = logits.detach().clone().requires_grad_()
    loss = ctc_loss(logits.log_softmax(dim=-1)[None], [list(labels)], [len(logits)], reduction="sum")
    (gradient,) = torch.autograd.grad(loss, logits)
    return (logits - rate * gradient).detach()


def train_steps(
    logits: Float[Tensor, "frames vocab"], labels: Sequence[int], steps: int, rate: float = 1.0
) -> Float[Tensor, "frames vocab"]:
    """Logits after so many gradient steps."""
    for _ in range(steps):
        logits = gradient_step(logits, labels, rate)
    return logits


def winner_of_votes(log_probs: Float[Tensor, "frames vocab"], paths: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """In each frame, the symbol through which the largest share of the paths' sum goes.

    >>> winner_of_votes(torch.tensor([[0.4, 0.6], [0.3, 0.7]]).log(), [(1, 1), (1, 0), (0, 1)])
    (1, 1)
    """
    values = path_probabilities(log_probs, paths)
    symbols = torch.tensor(paths)
    votes = [torch.bincount(symbols[:, frame], values, minlength=log_probs.shape[1]) for frame in range(len(log_probs))]
    return tuple(int(vote.argmax()) for vote in votes)


def draw_paths(log_probs: Float[Tensor, "frames vocab"], paths: Sequence[Sequence[int]], letters: Sequence[str]) -> Figure:
    """A bar for each path, with its share of their sum."""
    values = path_probabilities(log_probs, paths)
    figure = Figure(figsize=(6, 2.6))
    axes = figure.subplots()
    names = ["".join(letters[symbol] for symbol in path) for path in paths]
    bars = axes.barh(names, (100 * values).tolist(), color="#7f93a8", edgecolor=INK)
    axes.bar_label(
        bars, [f"{100 * share:.0f} % of the sum" for share in (values / values.sum()).tolist()], padding=3, fontsize=8
    )
    axes.invert_yaxis()
    axes.set_yticks(range(len(names)), names, family="monospace")
    axes.set(xlim=(0, 100), xlabel=f"probability of each path (percent); together {100 * float(values.sum()):.1f}")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


class CtcTraining(Demo):
    """Sliders for what each frame says, buttons for gradient steps, and a bar for every path that spells the word."""

    def __init__(self, probabilities: Float[Tensor, "frames vocab"], labels: Sequence[int], letters: Sequence[str]):
        self.labels, self.letters = list(labels), list(letters)
        self.start = probabilities.double().log()
        self.logits = self.start.clone()
        self.paths = paths_of(labels, *probabilities.shape)
        self.steps = 0
        self.sliders = [[self._slider(letter) for letter in letters] for _ in probabilities]
        self.one, self.many, self.again = (
            ipywidgets.Button(description=text) for text in ("one step", "100 steps", "start again")
        )
        self.one.on_click(lambda button: self.train(1))
        self.many.on_click(lambda button: self.train(100))
        self.again.on_click(lambda button: self.reset())
        self.text = ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", layout={"align_self": "flex-start"})
        self._show()
        columns = [ipywidgets.VBox([ipywidgets.Label(f"frame {t}"), *row]) for t, row in enumerate(self.sliders)]
        buttons = ipywidgets.HBox([self.one, self.many, self.again])
        word = "".join(letters[label] for label in labels)
        twin = (
            f'Live in JupyterLab: move what a frame says, or take gradient steps. Here, the paths of "{word}" before the first.'
        )
        super().__init__([ipywidgets.HBox(columns), buttons, self.text, self.picture], bytes(self.picture.value), twin)

    def train(self, steps: int) -> None:
        """Take so many gradient steps and show where they lead."""
        self.logits = train_steps(self.logits, self.labels, steps)
        self.steps += steps
        self._show()

    def reset(self) -> None:
        """Back to the probabilities of the beginning."""
        self.logits, self.steps = self.start.clone(), 0
        self._show()

    def _slider(self, letter: str) -> ipywidgets.FloatSlider:
        slider = ipywidgets.FloatSlider(min=STEP, max=1 - STEP, step=STEP, description=letter, readout_format=".2f")
        slider.layout.width, slider.style.description_width = "175px", "14px"
        slider.observe(self._moved, names="value")
        return slider

    def _moved(self, change) -> None:
        """A slider was moved by hand: the other symbols of its frame share what is left."""
        t, s = next((t, row.index(change["owner"])) for t, row in enumerate(self.sliders) if change["owner"] in row)
        if abs(change["new"] - self.shown[t][s]) < STEP / 2:
            return  # we moved it, or the browser sent back what it made of our value
        probabilities = self.logits.softmax(dim=-1)
        others = torch.arange(len(self.letters)) != s
        probabilities[t, others] *= (1 - change["new"]) / probabilities[t, others].sum()
        probabilities[t, s] = change["new"]
        self.logits = probabilities.log()
        self._show()

    def _show(self) -> None:
        log_probs = self.logits.log_softmax(dim=-1)
        # Whole steps: the browser would round any other value, and send it back as if a hand had moved the slider.
        self.shown = [[round(min(max(value, STEP), 1 - STEP), 3) for value in row] for row in log_probs.exp().tolist()]
        for sliders, values in zip(self.sliders, self.shown, strict=True):
            for slider, value in zip(sliders, values, strict=True):
                slider.value = value
        values = path_probabilities(log_probs, self.paths)
        best = int(values.argmax())
        name = "".join(self.letters[symbol] for symbol in self.paths[best])
        share = 100 * float(values[best] / values.sum())
        loss = -float(values.sum().log())
        self.text.value = f"<p>{self.steps} steps, loss {loss:.3f}; <code>{name}</code> has {share:.0f} % of the sum.</p>"
        self.picture.value = figure_to_png(draw_paths(log_probs, self.paths, self.letters), dpi=96)
