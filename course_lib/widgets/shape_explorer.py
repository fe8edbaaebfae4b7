"""Move the length of a clip, `k` and the width of the language model, and watch every table on the way change its size."""

import html

import ipywidgets
from matplotlib.figure import Figure

from course_lib.encoder.whisper_layers import count_multiplications
from course_lib.sound.mel import WHISPER_SECONDS
from course_lib.sound.shape_table import shape_table
from course_lib.widgets.base import Demo, figure_to_png

LLM_DIMS = {
    "tiny-danish-lm, 256": 256,
    "Qwen2.5-0.5B, 896": 896,
    "Qwen2.5-1.5B, 1536": 1536,
    "Qwen2.5-3B, 2048": 2048,
    "Qwen2.5-7B, 3584": 3584,
}
SHADES = ("#1f3b57", "#6f8aa3")
PALE = "#ffffff"
SHOWN_SECONDS = 0.5
FEATURE_SECONDS = 0.02


def describe_shapes(seconds: float, k: int, llm_dim: int, padded: bool) -> str:
    """A table of shapes as HTML, then what it costs and what falls off the end."""
    length = WHISPER_SECONDS if padded else seconds
    shapes = shape_table(length, k=k, llm_dim=llm_dim)
    rows = "".join(
        f"<tr><td>{html.escape(station)}</td><td>[{', '.join(f'{size:,}' for size in shape)}]</td>"
        f"<td>{shape[0] / length:,.1f}</td></tr>"
        for station, shape in shapes.items()
    )
    head = "<tr><th>station</th><th>shape</th><th>rows a second</th></tr>"
    return f"<table cellpadding='5'>{head}{rows}</table>{_remarks(seconds, k, padded, shapes['features'][0])}"


def draw_shapes(seconds: float, k: int, padded: bool) -> Figure:
    """The last half second of the clip in three lanes: frames, features, audio tokens; hatched rows make no token."""
    length = WHISPER_SECONDS if padded else seconds
    shapes = shape_table(length, k=k)
    frames, features, tokens = (shapes[station][0] for station in ("log-mel", "features", "audio tokens"))
    figure = Figure(figsize=(7, 1.9))
    axes = figure.subplots()
    _draw_lane(axes, 2, frames, FEATURE_SECONDS / 2)
    _draw_lane(axes, 1, features, FEATURE_SECONDS)
    _draw_lane(axes, 0, tokens, k * FEATURE_SECONDS)
    left_over = (tokens * k * FEATURE_SECONDS, (features - tokens * k) * FEATURE_SECONDS)
    axes.broken_barh([left_over], (-0.35, 0.7), facecolors=PALE, edgecolor="#808080", hatch="////", linewidth=0.5)
    end = max(features * FEATURE_SECONDS, length)
    axes.set(xlim=(max(0.0, end - SHOWN_SECONDS), end), yticks=[2, 1, 0], xlabel="time (s), the end of what is encoded")
    axes.set_yticklabels(["frames, 10 ms", "features, 20 ms", f"audio tokens, {20 * k} ms"])
    return figure


def _draw_lane(axes, height: int, count: int, row_seconds: float) -> None:
    """One box for every row that is in view, dark and light by turns."""
    first = max(0, count - int(2 * SHOWN_SECONDS / row_seconds) - 1)
    boxes = [(row * row_seconds, row_seconds) for row in range(first, count)]
    axes.broken_barh(boxes, (height - 0.35, 0.7), facecolors=[SHADES[row % 2] for row in range(first, count)])


def _remarks(seconds: float, k: int, padded: bool, features: int) -> str:
    """What the shapes do not say: the cost, the silence, and the rows that make no token."""
    cost = sum(count_multiplications(features).values())
    lines = [f"The encoder multiplies {cost / 1e9:,.2f} billion times."]
    if padded:
        sound = shape_table(seconds)["features"][0]
        alone = sum(count_multiplications(sound).values())
        lines.append(
            f"Only {sound:,} of {features:,} features are sound; without padding it would cost {cost / alone:,.1f} times less."
        )
    if features < k:
        lines.append(f"{features} features are fewer than k = {k}: not a single audio token, the model would hear nothing.")
    elif features % k:
        lines.append(
            f"The last {features % k} of {features:,} features ({features % k * 20} ms) fill no token and are dropped."
        )
    return "".join(f"<p>{line}</p>" for line in lines)


class ShapeExplorer(Demo):
    """Sliders for seconds and k, a menu of language models, a box for 30 s of padding; a table and a picture below."""

    def __init__(self, seconds: float = 5.0, k: int = 5, llm_dim: int = 2048):
        style = {"description_width": "90px"}
        self.seconds = ipywidgets.FloatSlider(seconds, min=0.1, max=30.0, step=0.01, description="seconds", style=style)
        self.k = ipywidgets.IntSlider(k, min=1, max=10, description="k", style=style)
        self.llm_dim = ipywidgets.Dropdown(options=LLM_DIMS, value=llm_dim, description="llm_dim", style=style)
        self.padded = ipywidgets.Checkbox(False, description="pad to 30 s, as Whisper does unless told otherwise", indent=False)
        self.table = ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", layout={"width": "100%"})
        controls = [self.seconds, self.k, self.llm_dim, self.padded]
        for control in controls:
            control.observe(self._refresh, names="value")
        self._refresh()
        twin_text = f"Live in JupyterLab: move seconds, k and llm_dim. Here {seconds:g} s, k = {k}, llm_dim = {llm_dim}."
        super().__init__([*controls, self.table, self.picture], bytes(self.picture.value), twin_text)

    def _refresh(self, change=None) -> None:
        seconds, k, padded = self.seconds.value, self.k.value, self.padded.value
        self.table.value = describe_shapes(seconds, k, self.llm_dim.value, padded)
        self.picture.value = figure_to_png(draw_shapes(seconds, k, padded))
