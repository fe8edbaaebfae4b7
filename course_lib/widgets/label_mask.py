"""A training sequence, position by position: what is read there, its label, and what the model predicts from there.

The label of a position is the token that stands there, and it is graded one position earlier: logits at t answer for the label
at t + 1. Kinds differ in shade, in border or hatching, and in words, so that all of it can be read in grey.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal, NamedTuple

import ipywidgets
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from course_lib.data.batches import SpeechBatch
from course_lib.language_model.denoising import SILENCE
from course_lib.language_model.prompt import IGNORE_INDEX, position_ids
from course_lib.slam.model import SlamASR
from course_lib.widgets.base import Demo, figure_to_png

if TYPE_CHECKING:  # an annotation needs its name only; course_lib.huggingface says why that matters
    import transformers

Kind = Literal["audio", "prompt", "answer", "padding"]

HATCHED = "repeating-linear-gradient(45deg,#ffffff,#ffffff 3px,#bcbcbc 3px,#bcbcbc 4px)"
LOOKS: dict[Kind, tuple[str, str, str]] = {
    "audio": ("#eef1f4", "2px dotted #5b6b7b", "..."),
    "prompt": ("#f3d9a4", "2px dashed #7a5200", ""),
    "answer": ("#7fb0de", "2px solid #0f3557", ""),
    "padding": (HATCHED, "1px solid #b0b0b0", "////"),
}
"""Fill of a box, its border in HTML, its hatching in a figure."""


class Guess(NamedTuple):
    """A token that may come next, and how likely the model finds it (0 to 1)."""

    piece: str
    probability: float


@dataclass(frozen=True)
class Position:
    """What stands at a position, its label (None: −100), the likeliest next tokens, the loss of its logits (None: not asked).

    `piece` of an audio token is the piece of text whose embedding points most nearly the same way.
    """

    kind: Kind
    piece: str
    label: str | None
    guesses: tuple[Guess, ...]
    loss: float | None


@dataclass(frozen=True)
class InspectedRow:
    """One row of a padded batch; `seconds_per_token` is how much sound an audio token stands for."""

    caption: str
    positions: tuple[Position, ...]
    seconds_per_token: float

    def first_graded(self) -> int:
        """The position whose logits are asked for the first token of the answer: the last of the prompt."""
        return next(t for t, position in enumerate(self.positions) if position.loss is not None)


@torch.no_grad()
def inspect_clips(slam: SlamASR, features: list[Float[Tensor, "_frames features"]], texts: list[str]) -> list[InspectedRow]:
    """The rows that `slam` is trained on if these clips are a batch (padded on the right), with what it predicts."""
    batch = slam.sequences(SpeechBatch(features, texts))
    logits = slam.llm(
        inputs_embeds=batch.embeddings,
        attention_mask=batch.attention_mask.long(),
        position_ids=position_ids(batch.attention_mask),
    ).logits.float()
    seconds = slam.projector.k / slam.encoder.config.frames_per_second
    rows = zip(batch.embeddings, batch.attention_mask, batch.labels, logits, strict=True)
    return [InspectedRow(text, _positions(slam, *row), seconds) for text, row in zip(texts, rows, strict=True)]


def kinds_of(prompt: int, answer: int, real: int, positions: int) -> list[Kind]:
    """The kind of every position of a right-padded row, from how many there are of each.

    >>> kinds_of(prompt=1, answer=2, real=5, positions=6)
    ['audio', 'audio', 'prompt', 'answer', 'answer', 'padding']
    """
    counts = {"audio": real - prompt - answer, "prompt": prompt, "answer": answer, "padding": positions - real}
    return [kind for kind, count in counts.items() for _ in range(count)]


def piece_of(tokenizer: "transformers.PreTrainedTokenizerBase", token_id: int) -> str:
    """A token as text in which blanks and line breaks can be seen; `·` is the tiny model's silence."""
    token = tokenizer.convert_ids_to_tokens(token_id)
    named = {SILENCE: "·", tokenizer.eos_token: "END"}.get(token)
    return named or tokenizer.convert_tokens_to_string([token]).replace(" ", "␣").replace("\n", "↵")


def strip_html(row: InspectedRow, t: int) -> str:
    """A box for each position and its label beneath; heavy frames around t and the label that its logits answer for."""
    graded = t + 1 if row.positions[t].loss is not None else None
    columns = [_column_html(index, position, index == t, index == graded) for index, position in enumerate(row.positions)]
    legend = " ".join(f'<span style="{_box(kind)};padding:0 6px">{count} {kind}</span>' for kind, count in _runs(row))
    return (
        f'<p style="margin:0 0 6px">{legend}&ensp;above: read, beneath: label (– is −100)</p>'
        f'<div style="display:flex;flex-wrap:wrap;line-height:1.25;font-size:12px">{"".join(columns)}</div>'
    )


def describe_position(row: InspectedRow, t: int) -> str:
    """HTML: input, label, who is graded by it, prediction and loss at a position."""
    position = row.positions[t]
    lines = [
        ("input", _input_in_words(row, t)),
        ("label here", "−100, not graded" if position.label is None else f"{_code(position.label)}, graded at {t - 1}"),
        ("likeliest next", ", ".join(f"{_code(piece)} {share:.0%}" for piece, share in position.guesses)),
        ("asked from here", _question(row, t)),
    ]
    cells = "".join(f'<tr><td style="padding-right:1em">{name}</td><td>{said}</td></tr>' for name, said in lines)
    return f"<p><b>Position {t}</b> of 0–{len(row.positions) - 1}: {position.kind}</p><table>{cells}</table>"


def draw_strip(row: InspectedRow, t: int) -> Figure:
    """The static twin: inputs above, labels beneath, and an arrow from position t to the label that its logits answer for."""
    figure = Figure(figsize=(8.2, 2.6))
    axes = figure.subplots()
    start = 0
    for index, position in enumerate(row.positions):
        _draw_box(axes, index, 1.0, position.kind, "" if position.kind == "audio" else position.piece)
        _draw_box(axes, index, -0.6, position.kind if position.label is not None else None, position.label or "–")
    for kind, count in _runs(row):
        axes.text(start + (count - 1) / 2, 2.15, f"{count} {kind}", ha="center", va="bottom", fontsize=9)
        start += count
    if row.positions[t].loss is not None:
        axes.annotate("", (t + 1, 0.4), (t, 1), arrowprops={"arrowstyle": "-|>", "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0})
    axes.set_yticks([1.5, -0.1], ["read", "label"], fontsize=9)
    axes.set(xlim=(-0.6, start - 0.4), ylim=(-0.7, 2.6), xlabel=f"position; the logits at {t} answer for the label at {t + 1}")
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


class LabelMaskInspector(Demo):
    """Pick a clip of the batch and slide over its positions, or point at them; input, label and prediction follow."""

    def __init__(self, rows: Sequence[InspectedRow]):
        if not rows:
            raise ValueError("no rows to show: pass what inspect_clips gives for at least one clip")
        self.rows = list(rows)
        captions = [(row.caption, index) for index, row in enumerate(self.rows)]  # two may be the same
        self.clip = ipywidgets.Dropdown(options=captions, description="clip", layout={"width": "98%"})
        self.position = ipywidgets.IntSlider(description="position", layout={"width": "98%"})
        self.strip, self.text = ipywidgets.HTML(), ipywidgets.HTML()
        self.clip.observe(self._pick, names="value")
        self.position.observe(self._refresh, names="value")
        self._pick()
        twin = figure_to_png(draw_strip(self.current, self.position.value))
        told = f"Live in JupyterLab: pick a clip, slide over its positions. Here, “{self.current.caption}”."
        super().__init__([self.clip, self.position, self.strip, self.text], twin, told)

    @property
    def current(self) -> InspectedRow:
        """The row on show."""
        return self.rows[self.clip.value]

    def _pick(self, change=None) -> None:
        """Begin where the first answer token is predicted; all rows of a batch are equally long."""
        self.position.unobserve(self._refresh, names="value")
        self.position.max = len(self.current.positions) - 1
        self.position.value = self.current.first_graded()
        self.position.observe(self._refresh, names="value")
        self._refresh()

    def _refresh(self, change=None) -> None:
        self.strip.value = strip_html(self.current, self.position.value)
        self.text.value = describe_position(self.current, self.position.value)


def _positions(
    slam: SlamASR,
    embeddings: Float[Tensor, "positions llm_dim"],
    mask: Bool[Tensor, " positions"],
    labels: Int[Tensor, " positions"],
    logits: Float[Tensor, "positions vocab"],
) -> tuple[Position, ...]:
    kinds = kinds_of(len(slam.prompt_ids), int((labels != IGNORE_INDEX).sum()), int(mask.sum()), len(mask))
    table = F.normalize(slam.llm.get_input_embeddings().weight.float(), dim=-1)
    nearest = (F.normalize(embeddings.float(), dim=-1) @ table.T).argmax(dim=-1)  # of text, the token itself
    targets = F.pad(labels[1:], (0, 1), value=IGNORE_INDEX)
    losses = F.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX, reduction="none")
    likely, which = logits.softmax(dim=-1).topk(3)
    positions = []
    for t, kind in enumerate(kinds):
        guesses = (Guess(piece_of(slam.tokenizer, i), p) for i, p in zip(which[t].tolist(), likely[t].tolist(), strict=True))
        label = None if labels[t] == IGNORE_INDEX else piece_of(slam.tokenizer, int(labels[t]))
        piece = "" if kind == "padding" else piece_of(slam.tokenizer, int(nearest[t]))
        positions.append(Position(kind, piece, label, tuple(guesses), None if targets[t] == IGNORE_INDEX else float(losses[t])))
    return tuple(positions)


def _runs(row: InspectedRow) -> list[tuple[Kind, int]]:
    return [(kind, len(list(run))) for kind, run in groupby(position.kind for position in row.positions)]


def _column_html(t: int, position: Position, chosen: bool, answered: bool) -> str:
    label = "–" if position.label is None else html.escape(position.label)
    frame, plain = "outline:3px solid #111;", "background:#fff;color:#111;border:2px solid #e4e4e4"
    read = f'<div style="{_box(position.kind)};{frame * chosen}">{html.escape(position.piece) or "&nbsp;"}</div>'
    below = f'<div style="{plain if position.label is None else _box(position.kind)};{frame * answered}">{label}</div>'
    guess = position.guesses[0]
    reads = position.piece or "nothing"
    told = (
        f"{t}, {position.kind}: reads {reads}, label {position.label or '−100'}, predicts {guess.piece} {guess.probability:.0%}"
    )
    box = f'class="position-{position.kind}" title="{html.escape(told)}" style="margin:2px 1px 6px;min-width:19px"'
    return f"<div {box}>{read}{below}</div>"


def _box(kind: Kind) -> str:
    return f"background:{LOOKS[kind][0]};color:#111;border:{LOOKS[kind][1]};text-align:center;padding:0 2px"


def _draw_box(axes: Axes, t: int, bottom: float, kind: Kind | None, text: str) -> None:
    fill, _, hatch = LOOKS[kind] if kind else ("white", "", "")
    shade = {"facecolor": "white" if kind == "padding" else fill, "edgecolor": "#5b6b7b", "hatch": hatch}
    axes.add_patch(Rectangle((t - 0.5, bottom), 1, 1, linewidth=0.5, **shade))
    axes.text(
        t, bottom + 0.5, text, rotation=90 if len(text) > 1 else 0, ha="center", va="center", fontsize=6, parse_math=False
    )


def _input_in_words(row: InspectedRow, t: int) -> str:
    position = row.positions[t]
    if position.kind != "audio":
        return _code(position.piece) if position.piece else "padding: zeros, which nobody looks at"
    start = t * row.seconds_per_token
    return f"{start:.2f}–{start + row.seconds_per_token:.2f} s of sound, nearest to the text {_code(position.piece)}"


def _question(row: InspectedRow, t: int) -> str:
    if row.positions[t].loss is not None:
        return f"the label at {t + 1}, {_code(row.positions[t + 1].label or '')}: loss {row.positions[t].loss:.2f}"
    return "nothing: " + ("this is the last position" if t + 1 == len(row.positions) else f"the label at {t + 1} is −100")


def _code(piece: str) -> str:
    return f"<code>{html.escape(piece)}</code>"
