"""A sentence as it is written, token by token: the five likeliest at each step, and where in the sound the model looked."""

import html
from collections.abc import Sequence

import ipywidgets
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_lib.slam.decoding import Step, Trace
from course_lib.sound.audio import SAMPLE_RATE
from course_lib.sound.mel import HOP_LENGTH
from course_lib.sound.plots import INK, SOFT, plot_rows
from course_lib.widgets.base import Demo, figure_to_png

END = "⏹"


def draw_step(trace: Trace, step: int) -> Figure:
    """Left, over time: the log-mel, and under it the attention to each audio token. Right: the five likeliest tokens."""
    _refuse_step(trace, step)
    figure = Figure(figsize=(7.4, 3.4), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=[2.6, 1], height_ratios=[1.3, 1])
    upper = figure.add_subplot(grid[0, 0])
    lower = figure.add_subplot(grid[1, 0], sharex=upper)
    _draw_sound(upper, trace, step)
    _draw_attention(lower, trace, step)
    _draw_top(figure.add_subplot(grid[:, 1]), trace.steps[step])
    return figure


def describe_step(trace: Trace, step: int) -> str:
    """HTML: the text so far with the new token marked, how sure the model is of it, and what it looked at."""
    _refuse_step(trace, step)
    now = trace.steps[step]
    (token, probability), (runner_up, less) = now.top[0], now.top[1]
    new = "writes the end of the text" if token == END else f"writes <mark>{_shown(token)}</mark>"
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in trace.shares(step).items())
    return (
        f"<p>Step {step + 1} of {len(trace.steps)}. Written so far: <b>{html.escape(now.before.strip()) or '(nothing)'}</b>; "
        f"now the model {new} ({100 * probability:.1f} %; next best {_shown(runner_up)}, {100 * less:.1f} %).<br>"
        f"Its attention: {shares}; in the sound, most at {loudest_look(trace, step):.2f} s.</p>"
    )


def loudest_look(trace: Trace, step: int) -> float:
    """The middle, in seconds, of the audio token that gets most attention at a step."""
    return (int(trace.looks(step).argmax()) + 0.5) * trace.seconds_per_token


def _draw_sound(axes: Axes, trace: Trace, step: int) -> None:
    plot_rows(axes, trace.log_mel, SAMPLE_RATE / HOP_LENGTH, "mel bin")
    looks = trace.looks(step)
    for place, share in enumerate((looks / looks.max()).tolist()):
        edges = (place * trace.seconds_per_token, (place + 1) * trace.seconds_per_token)
        axes.axvspan(*edges, ymin=0, ymax=1, color="#e08a1e", alpha=0.55 * share, linewidth=0)
    axes.tick_params(labelbottom=False)
    axes.set_xlabel("")


def _draw_attention(axes: Axes, trace: Trace, step: int) -> None:
    looks = 100 * trace.looks(step)
    edges = [place * trace.seconds_per_token for place in range(len(looks) + 1)]
    axes.stairs(looks.numpy(), edges, fill=True, facecolor=SOFT, edgecolor=INK)
    highest = max(float(trace.looks(place).max()) for place in range(len(trace.steps)))
    axes.set(xlabel="time (s); a step is one audio token", ylabel="attention (%)", ylim=(0, 105 * highest))
    axes.set_xlim(0, len(trace.log_mel) * HOP_LENGTH / SAMPLE_RATE)


def _draw_top(axes: Axes, step: Step) -> None:
    """Bars for the likeliest tokens, the one that is written on top and darker."""
    tokens, chances = zip(*step.top, strict=True)
    places = range(len(tokens))
    colours = [INK] + [SOFT] * (len(tokens) - 1)
    bars = axes.barh(places, [100 * chance for chance in chances], height=0.6, color=colours, edgecolor=INK)
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    face = {"family": ["monospace", "DejaVu Sans Mono"], "parse_math": False, "fontsize": 10}
    axes.set_yticks(places, [_visible(token) for token in tokens], **face)
    axes.set(xlim=(0, 125), xticks=[0, 50, 100], ylim=(len(tokens) - 0.4, -0.6), xlabel="probability (%)")
    axes.spines[["top", "right"]].set_visible(False)


def _visible(token: str) -> str:
    return "(end)" if token == END else token.replace(" ", "␣").replace("\n", "⏎")


def _shown(token: str) -> str:
    return f"<code>{html.escape(_visible(token))}</code>"


def _refuse_step(trace: Trace, step: int) -> None:
    if not 0 <= step < len(trace.steps):
        raise ValueError(f"step {step}: the trace has the steps 0 to {len(trace.steps) - 1}")


class TokenByToken(Demo):
    """A list of clips and a slider over the steps of one, the first is 1; beneath them the sentence so far and the picture."""

    def __init__(self, traces: Sequence[Trace], step: int = 1):
        if not traces:
            raise ValueError("no clip to show: pass at least one Trace")
        self.traces = list(traces)
        captions = [(trace.caption, index) for index, trace in enumerate(self.traces)]  # two may be the same
        self.clip = ipywidgets.Dropdown(options=captions, description="clip", layout={"width": "98%"})
        steps = len(self.current.steps)
        self.step = ipywidgets.IntSlider(step, min=1, max=steps, description="step", layout={"width": "98%"})
        self.text = ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", layout={"width": "100%"})
        self.clip.observe(self._pick, names="value")
        self.step.observe(self._refresh, names="value")
        self._refresh()
        written = self.current.steps[step - 1].before.strip() or "nothing"
        twin_text = f"Live in JupyterLab: pick a clip, move the step. Here, step {step}, after “{written}”."
        super().__init__([self.clip, self.step, self.text, self.picture], bytes(self.picture.value), twin_text)

    @property
    def current(self) -> Trace:
        """The clip on show."""
        return self.traces[self.clip.value]

    def _pick(self, change=None) -> None:
        """Begin at the first step. The slider goes there before its end moves, so it never points outside either clip."""
        self.step.unobserve(self._refresh, names="value")
        self.step.value = 1
        self.step.max = len(self.current.steps)
        self.step.observe(self._refresh, names="value")
        self._refresh()

    def _refresh(self, change=None) -> None:
        """Draw before anything is shown: or the words of a step would stand for a moment over the picture of another."""
        self.picture.value = figure_to_png(draw_step(self.current, self.step.value - 1), dpi=95)
        self.text.value = describe_step(self.current, self.step.value - 1)
