"""A training while it runs: losses with three sounds, error rates, and what the model writes at this moment.

The loop calls `record` after every update. Numbers and bar follow at once; the picture is drawn anew at every validation,
because drawing takes as long as an update.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import ipywidgets
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_lib.sound.plots import INK
from course_lib.text.metrics import align
from course_lib.widgets.base import Demo, figure_to_png

LISTENS = 1.5
"""From this many times the right sound's loss on, another clip's sound is said to matter."""

LOOKS = {"loss": ("right sound", "o-"), "loss_another": ("another clip's", "s--"), "loss_silent": ("silence", "^:")}
"""Name in a validation → what it is called and how it is drawn; all of it can be read in grey."""


Figures = dict[str, int | float]
"""What a trainer hands to `watch`, and what a validation found."""


@dataclass
class History:
    """What has been recorded: a training loss an update, and the figures of each validation with its `step`."""

    losses: dict[int, float] = field(default_factory=dict)
    validations: list[Figures] = field(default_factory=list)

    def record(self, step: int, figures: Figures) -> bool:
        """Take in what `Trainer` hands to `watch`; whether it was a validation."""
        if "train_loss" in figures:
            self.losses[step] = figures["train_loss"]
        if "wer" in figures:
            self.validations.append({"step": step, **figures})
        return "wer" in figures

    def listens_from(self) -> int | None:
        """The step of the first validation at which another clip's sound gave LISTENS times the loss; None if none did."""
        steps = (row["step"] for row in self.validations if row.get("loss_another", 0.0) >= LISTENS * row.get("loss", 1.0))
        return next((int(step) for step in steps), None)


def draw_training(history: History, total_steps: int, deaf_loss: float | None = None) -> Figure:
    """Losses to the left, with the level of a model that hears nothing; error rates to the right."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_losses(left, history, deaf_loss)
    _draw_rates(right, history.validations)
    for axes in (left, right):
        axes.set(xlabel="update", xlim=(0, total_steps))
        axes.spines[["top", "right"]].set_visible(False)
        if (step := history.listens_from()) is not None:
            axes.axvline(step, color=INK, linewidth=0.8, linestyle=(0, (6, 4)), label="it listens" if axes is left else None)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=2 if axes is left else 1)
    return figure


def _draw_losses(axes: Axes, history: History, deaf_loss: float | None) -> None:
    axes.plot(list(history.losses), list(history.losses.values()), color="#c9c9c9", linewidth=0.8, label="training batch")
    for name, (label, style) in LOOKS.items():
        points = [(row["step"], row[name]) for row in history.validations if name in row]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=INK, markersize=3, linewidth=1.1, label=label)
    if deaf_loss is not None:
        axes.axhline(deaf_loss, color="#808080", linewidth=4, alpha=0.35, zorder=0, label="the deaf level")
    levels = [row.get("loss_another", row["loss"]) for row in history.validations if "loss" in row]
    tallest = max([*filter(math.isfinite, [*levels, deaf_loss or 0.0])], default=0.0)
    axes.set(ylabel="loss of a token (nats)", ylim=(0, 1.5 * (tallest or 1.0)))


def _draw_rates(axes: Axes, validations: list[Figures]) -> None:
    steps = [row["step"] for row in validations]
    percent = [100 * row["wer"] for row in validations]
    axes.plot(steps, percent, "o-", color=INK, markersize=3, label="word error rate, transcribing" if steps else None)
    forced = [(row["step"], 100 - 100 * row["token_accuracy"]) for row in validations if "token_accuracy" in row]
    if forced:
        axes.plot(*zip(*forced, strict=True), "s--", color="#808080", markersize=3, label="wrong tokens, shown the right start")
    axes.set(ylabel="percent", ylim=(0, 1.4 * max([100.0, *filter(math.isfinite, percent)])))


def describe_training(history: History, total_steps: int) -> str:
    """Where the training stands, in a sentence or two, as HTML."""
    if not history.losses and not history.validations:
        return f"<p>Waiting for the first of {total_steps:,} updates.</p>"
    step = max([*history.losses, *(int(row["step"]) for row in history.validations)])
    said = f"Update {step:,} of {total_steps:,}"
    if history.losses:
        said += f", training loss {history.losses[max(history.losses)]:.2f}"
    if history.validations:
        said += f"; last validation: WER {history.validations[-1]['wer']:.0%}"
    return f"<p>{said}.{_listening(history)}</p>"


def _listening(history: History) -> str:
    last = history.validations[-1] if history.validations else {}
    if "loss_another" not in last:
        return ""
    times = f" Another clip's sound gives {last['loss_another'] / last['loss']:.2f} times the loss"
    since = history.listens_from()
    return (
        f"{times}: <b>it does not listen yet</b>." if since is None else f"{times}: <b>it listens</b>, since update {since:,}."
    )


def texts_html(said: Sequence[str], written: Sequence[str]) -> str:
    """What was said beside what the model writes now; words that it got right are bold."""
    cell = '<td style="padding:0 1.5em 0 0;text-align:left">'
    rows = [f"<tr>{cell}<i>said</i></td>{cell}<i>written now</i></td></tr>"]
    for reference, hypothesis in zip(said, written, strict=True):
        steps = align(reference.split(), hypothesis.split()).operations
        words = [(html.escape(step.hypothesis), step.kind == "hit") for step in steps if step.hypothesis is not None]
        shown = " ".join(f"<b>{word}</b>" if hit else word for word, hit in words) or "(nothing)"
        rows.append(f"<tr>{cell}{html.escape(reference)}</td>{cell}{shown}</td></tr>")
    return f'<table style="line-height:1.4">{"".join(rows)}</table>'


class TrainingDashboard(Demo):
    """A bar, a sentence, a picture and a few transcripts, all of which move while a `Trainer` trains in the same cell.

    Give `record` to the trainer as its `watch`, and call `show_texts` from the validation.
    """

    def __init__(self, total_steps: int, deaf_loss: float | None = None):
        self.history = History()
        self.total_steps = total_steps
        self.deaf_loss = deaf_loss
        self.bar = ipywidgets.IntProgress(value=0, max=total_steps, layout={"width": "98%"})
        self.text, self.texts = ipywidgets.HTML(), ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", layout={"align_self": "flex-start"})
        self._draw()
        twin = "Live in JupyterLab: curves and transcripts move while the training runs."
        super().__init__([self.bar, self.text, self.picture, self.texts], bytes(self.picture.value), twin)

    def record(self, step: int, figures: Figures) -> None:
        """Show an update; draw the picture again if it brought a validation."""
        validated = self.history.record(step, figures)
        self.bar.value = step
        self.text.value = describe_training(self.history, self.total_steps)
        if validated:
            self._draw()
            self.twin_png = bytes(self.picture.value)

    def show_texts(self, said: Sequence[str], written: Sequence[str]) -> None:
        """Show what the model writes now for a few clips, beside what was said."""
        self.texts.value = texts_html(said, written)

    def _draw(self) -> None:
        self.text.value = describe_training(self.history, self.total_steps)
        self.picture.value = figure_to_png(draw_training(self.history, self.total_steps, self.deaf_loss), dpi=72)
