"""Type what was said and what was written; see the alignment, the edit table, WER and CER change with every letter.

Colours say which error, and so do letters, underlines and strokes: all of it can be read in grey.
"""

import html

import ipywidgets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from course_lib.text.metrics import Alignment, ErrorCounts, Operation, align, edit_table, error_counts
from course_lib.text.normalise import normalise
from course_lib.widgets.base import Demo, figure_to_png

LOOKS = {
    "hit": ("", "#ffffff", "none", "3px solid #e4e4e4"),
    "substitution": ("S", "#f6c26b", "none", "3px solid #8a5a00"),
    "deletion": ("D", "#a9cdec", "line-through", "3px dashed #123f63"),
    "insertion": ("I", "#d9f0d3", "underline", "3px double #1d5c26"),
}
"""What a step looks like: letter beneath, fill, stroke through the word, border."""

STROKED_LINE = {"deletion": 0, "insertion": 1}
"""Which of the two lines carries the stroke: what was said and lost, or what was written and never said."""

PLURAL = {"word": "words", "char": "characters"}
MOST_TABLE_ROWS = 25
MOST_CHARACTERS = 300
NOTHING = "·"


def split_units(text: str, unit: str) -> list[str]:
    """Words parted by white space, or characters of the trimmed text, as `error_counts` parts them."""
    return text.split() if unit == "word" else list(text.strip())


def cells_of_walk(alignment: Alignment) -> list[tuple[int, int]]:
    """The cells (reference row, hypothesis column) that the alignment passes, from (0, 0) to the last corner."""
    cells = [(0, 0)]
    for step in alignment.operations:
        i, j = cells[-1]
        cells.append((i + (step.reference is not None), j + (step.hypothesis is not None)))
    return cells


def alignment_html(reference: str, hypothesis: str, unit: str = "word") -> str:
    """The two texts above each other, a column for each step, with S, I or D beneath each error."""
    steps = align(split_units(reference, unit), split_units(hypothesis, unit)).operations
    if not steps:
        return "<p>Nothing was said and nothing was written: no error.</p>"
    return f'<div style="display:flex;flex-wrap:wrap;line-height:1.3">{"".join(map(_step_html, steps))}</div>'


def table_html(reference: str, hypothesis: str, unit: str = "word") -> str:
    """The edit table: what was said downwards, what was written to the right, the walk of the alignment in bold boxes."""
    rows, columns = split_units(reference, unit), split_units(hypothesis, unit)
    if max(len(rows), len(columns)) > MOST_TABLE_ROWS:
        return f"<p>The table is shown up to {MOST_TABLE_ROWS} {PLURAL[unit]} on each side; alignment and rates still hold.</p>"
    walk = set(cells_of_walk(align(rows, columns)))
    lines = [f"<tr>{''.join(f'<th>{_show(word)}&ensp;</th>' for word in ['', '', *columns])}</tr>"]
    for i, (label, costs) in enumerate(zip(["", *rows], edit_table(rows, columns), strict=True)):
        cells = "".join(_table_cell(cost, (i, j) in walk) for j, cost in enumerate(costs))
        lines.append(f'<tr><th style="text-align:right">{_show(label)}&ensp;</th>{cells}</tr>')
    look = f"border-collapse:collapse;text-align:center;line-height:1.4;font-size:{100 if len(columns) <= 12 else 75}%"
    return f'<table style="{look}">{"".join(lines)}</table>'


def scores_html(reference: str, hypothesis: str) -> str:
    """WER and CER with the counts they come from; a rate over an empty reference is called what it is."""
    lines = []
    for name, unit in zip(("WER", "CER"), PLURAL, strict=True):
        (counts,) = error_counts(reference, hypothesis, unit)
        lines.append(f"<b>{name} {counts.rate:.1%}</b>&ensp;{_sum_in_words(counts, PLURAL[unit])}")
    return f'<p style="line-height:1.5">{"<br>".join(lines)}</p>'


def draw_table(axes: Axes, reference: list[str], hypothesis: list[str], walk: bool = True) -> None:
    """Draw the edit table, what was said downwards, what was written to the right; `walk` greys the alignment's cells."""
    table = edit_table(reference, hypothesis)
    passed = set(cells_of_walk(align(reference, hypothesis))) if walk else set()
    for i, costs in enumerate(table):
        for j, cost in enumerate(costs):
            fill = "#b8c4d0" if (i, j) in passed else "white"
            axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=fill, edgecolor="#888888", linewidth=0.6))
            axes.text(j, i, str(cost), ha="center", va="center", weight="bold" if (i, j) in passed else "normal")
    axes.set_xticks(range(len(table[0])), ["(nothing)", *hypothesis], parse_math=False)
    axes.set_yticks(range(len(table)), ["(nothing)", *reference], parse_math=False)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set(xlabel="written", ylabel="said", xlim=(-0.5, len(table[0]) - 0.5), ylim=(len(table) - 0.5, -0.5), aspect=0.5)
    axes.tick_params(length=0, labelsize=9)


def draw_playground(reference: str, hypothesis: str) -> Figure:
    """The static twin: alignment in monospace with its rates, and the table beneath."""
    rows, columns = reference.split(), hypothesis.split()
    figure = Figure(figsize=(7, 1.6 + 0.38 * (len(rows) + 2)))
    upper, lower = figure.subplots(2, 1, height_ratios=[1.3, 0.38 * (len(rows) + 2)])
    (words,) = error_counts(reference, hypothesis)
    (characters,) = error_counts(reference, hypothesis, "char")
    rates = f"WER {words.rate:.1%}   CER {characters.rate:.1%}"
    upper.text(0, 1, f"{align(rows, columns)}\n\n{rates}", va="top", family="monospace", parse_math=False)
    upper.axis("off")
    draw_table(lower, rows, columns)
    return figure


class WERPlayground(Demo):
    """Two lines of text, words or characters, normalised or not; alignment, table and rates follow as you type."""

    def __init__(self, reference: str = "hvordan har du det i dag", hypothesis: str = "vordan har det i dag nok"):
        line = {"style": {"description_width": "70px"}, "layout": {"width": "98%"}}
        self.reference = ipywidgets.Text(reference, description="said", **line)
        self.hypothesis = ipywidgets.Text(hypothesis, description="written", **line)
        self.unit = ipywidgets.ToggleButtons(
            options=[("words", "word"), ("characters", "char")], style={"button_width": "110px"}
        )
        self.normalised = ipywidgets.Checkbox(False, description="normalise both first", indent=False)
        self.scores, self.alignment, self.table = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        for control in (self.reference, self.hypothesis, self.unit, self.normalised):
            control.observe(self._on_change, names="value")
        self._on_change(None)
        twin_text = f'Live in JupyterLab: type what was said and what was written. Here, "{reference}" and "{hypothesis}".'
        switches = ipywidgets.HBox([self.unit, self.normalised])
        children = [self.reference, self.hypothesis, switches, self.scores, self.alignment, self.table]
        if max(len(reference), len(hypothesis)) > MOST_CHARACTERS:
            reference, hypothesis = "too long to draw", f"more than {MOST_CHARACTERS} characters"
            twin_text = f"Too long to draw: up to {MOST_CHARACTERS} characters a line."
        super().__init__(children, figure_to_png(draw_playground(reference, hypothesis)), twin_text)

    def _on_change(self, change) -> None:
        said, written = self.reference.value, self.hypothesis.value
        if max(len(said), len(written)) > MOST_CHARACTERS:
            self.scores.value = f"<p><b>Too long to draw.</b> Up to {MOST_CHARACTERS} characters a line; you have more.</p>"
            self.alignment.value = self.table.value = ""
            return
        if self.normalised.value:
            said, written = normalise(said), normalise(written)
        self.scores.value = scores_html(said, written)
        self.alignment.value = alignment_html(said, written, self.unit.value)
        self.table.value = table_html(said, written, self.unit.value)


def _show(text: str | None) -> str:
    """A unit for HTML: escaped, a visible space for a blank, a dot for nothing at all."""
    return NOTHING if text is None else "␣" if text == " " else html.escape(text)


def _step_html(step: Operation) -> str:
    letter, fill, stroke, border = LOOKS[step.kind]
    box = f"background:{fill};color:#111;border:{border};padding:1px 5px;min-height:1.3em;min-width:0.7em;text-align:center"
    word = _show(step.reference), _show(step.hypothesis)
    lines = [
        f'<div style="{box};text-decoration:{stroke if side == STROKED_LINE.get(step.kind) else "none"}">{word[side]}</div>'
        for side in (0, 1)
    ]
    label = f'<div style="text-align:center"><b>{letter}&nbsp;</b></div>'
    return f'<div class="step-{step.kind}" style="margin:2px">{"".join(lines)}{label}</div>'


def _table_cell(cost: int, on_walk: bool) -> str:
    look = "background:#fff;border:1px solid #ccc"
    if on_walk:
        look = "background:#b8c4d0;font-weight:bold;border:2px solid #1f3b57"
    return f'<td style="{look};color:#111;padding:0 0.6em">{cost}</td>'


def _sum_in_words(counts: ErrorCounts, things: str) -> str:
    errors = f"{counts.substitutions} substituted + {counts.insertions} inserted + {counts.deletions} deleted"
    if counts.reference_length == 0:
        return f"{errors}; nothing was said, so there is nothing to divide by: this is the bare count of errors, as in jiwer"
    return f"= ({errors}) / {counts.reference_length} {things} said"
