"""Type a path, or drag its frames: see the repeats merge, then the blanks go, and how many paths give the word."""

import html

import ipywidgets
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon

from course_lib.ctc.paths import count_paths, frames_needed, label_spans, read_path
from course_lib.sound.plots import INK, SOFT
from course_lib.widgets.base import Demo, figure_to_png

MOST_FRAMES = 16


def path_runs(path: str) -> list[tuple[str, int, int]]:
    """Runs of equal symbols with first frame and the frame after the last.

    >>> path_runs("oo_t")
    [('o', 0, 2), ('_', 2, 3), ('t', 3, 4)]
    """
    return [(chr(symbol), start, end) for symbol, start, end in label_spans([ord(c) for c in path], blank_id=-1)]


def draw_collapse(path: str) -> Figure:
    """Three rows of boxes: the path, repeats merged, blanks removed."""
    figure = Figure(figsize=(7, 2.3))
    axes = figure.subplots()
    for frame, symbol in enumerate(path):
        _draw_box(axes, frame, frame + 1, 2, symbol)
    for symbol, start, end in path_runs(path):
        _draw_funnel(axes, start, end, top=2.3, bottom=1.7)
        _draw_box(axes, start, end, 1, symbol)
        if symbol != "_":
            _draw_funnel(axes, start, end, top=1.3, bottom=0.7)
            _draw_box(axes, start, end, 0, symbol)
    axes.set(xlim=(-0.1, max(len(path), 1) + 0.1), ylim=(-0.15, 2.85), xlabel="frame")
    axes.set_xticks([frame + 0.5 for frame in range(len(path))], [str(frame) for frame in range(len(path))])
    axes.set_yticks([2.35, 1.35, 0.35], ["path", "merge repeats", "remove blanks"])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def describe_collapse(path: str, word: str) -> str:
    """The three steps and the count of paths in words, as HTML."""
    merged = "".join(symbol for symbol, _, _ in path_runs(path))
    text = read_path(path)
    steps = " → ".join(f"<code>{html.escape(step) or '(nothing)'}</code>" for step in (path, merged, text))
    verdict = "✓ this is" if text == word else "✗ not"
    return f"<p>{steps} &nbsp; {verdict} <b>{html.escape(word)}</b></p><p>{html.escape(_count_in_words(word, len(path)))}</p>"


def _count_in_words(word: str, frames: int) -> str:
    paths = count_paths(word, frames)
    symbols = len(set(word)) + 1
    if not paths:
        return f'No path of {frames} frames gives "{word}": it needs at least {frames_needed(word)}.'
    verb = "path gives" if paths == 1 else "paths give"
    return f'{paths:,} {verb} "{word}" in {frames} frames, of {symbols**frames:,} paths with its {symbols} symbols.'


def _draw_box(axes, start: int, end: int, row: int, symbol: str) -> None:
    colour, ink = ("white", "#8a8a8a") if symbol == "_" else (SOFT, INK)
    box = FancyBboxPatch((start + 0.08, row), end - start - 0.16, 0.7, "round,pad=0,rounding_size=0.08", fc=colour, ec=ink)
    axes.add_patch(box)
    axes.text(
        (start + end) / 2,
        row + 0.35,
        "␣" if symbol == " " else symbol,
        ha="center",
        va="center",
        color=ink,
        fontsize=13,
        parse_math=False,
    )


def _draw_funnel(axes, start: int, end: int, top: float, bottom: float) -> None:
    corners = [(start + 0.08, top - 0.3), (end - 0.08, top - 0.3), (end - 0.08, bottom), (start + 0.08, bottom)]
    axes.add_patch(Polygon(corners, fc="#f0f2f5", ec="none", zorder=0))


class CtcCollapse(Demo):
    """A word, a path, and a slider for each frame of the path; beneath them the two steps, and the count of paths."""

    def __init__(self, word: str = "otte", path: str = "_oot_tte"):
        self.word = ipywidgets.Text(value=word, description="word", continuous_update=True)
        self.path = ipywidgets.Text(value=path, description="path", continuous_update=True)
        self.frames = ipywidgets.HBox(layout={"padding": "10px 0 0 0"})  # or a handle at the top is cut in half
        self.text = ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", layout={"width": "100%"})
        self.word.observe(self._refresh, names="value")
        self.path.observe(self._refresh, names="value")
        self._refresh()
        twin_text = f"Live in JupyterLab: type a path or drag its frames. Here, {path} reads as {read_path(path)}."
        children = [self.word, self.path, self.frames, self.text, self.picture]
        super().__init__(children, bytes(self.picture.value), twin_text)

    def _refresh(self, change=None) -> None:
        path = self.path.value.lower()[:MOST_FRAMES]
        word = self.word.value.lower().replace("_", "")
        self._set_sliders(path, sorted(set(path + word) - {"_"}))
        self.text.value = describe_collapse(path, word)
        self.picture.value = figure_to_png(draw_collapse(path))

    def _set_sliders(self, path: str, letters: list[str]) -> None:
        """One slider a frame; those that fit already are left alone, or the one under the mouse would be lost."""
        options = ("_", *letters)
        sliders = self.frames.children
        if [slider.value for slider in sliders] != list(path) or any(slider.options != options for slider in sliders):
            self.frames.children = [self._slider(symbol, options) for symbol in path]

    def _slider(self, symbol: str, options: tuple[str, ...]) -> ipywidgets.SelectionSlider:
        layout = ipywidgets.Layout(width="42px", height="150px")
        slider = ipywidgets.SelectionSlider(options=options, value=symbol, orientation="vertical", layout=layout)
        slider.observe(self._on_slider, names="value")
        return slider

    def _on_slider(self, change) -> None:
        self.path.value = "".join(slider.value for slider in self.frames.children)
