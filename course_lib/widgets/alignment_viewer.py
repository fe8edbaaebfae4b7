"""What a CTC recogniser believed, frame by frame, under the sound that it heard: look at a clip, and play a piece of it.

Frame f is drawn over the 40 ms (at 4 ×) that begin at f · 40 ms. The convolutions are centred on that beginning and attention
hears the whole clip, so a letter stands where the network *decided* on it: near its sound, not to the millisecond.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.ctc.paths import Span, forced_alignment, greedy_decode, label_spans
from course_lib.ctc.recogniser import StageBRecogniser
from course_lib.sound.audio import SAMPLE_RATE
from course_lib.sound.mel import HOP_LENGTH
from course_lib.sound.plots import INK, SOFT, plot_rows
from course_lib.text.vocabulary import WORD_START
from course_lib.widgets.clip_slider import ClipSlider, audio_html, window_bounds
from course_lib.widgets.mel_explorer import TICKS_HZ, frequency_ticks

BLANK, WRONG, CURSOR = 0, "#c0392b", "#e08a1e"
PIECE_SECONDS = 0.4
# Letters in a typewriter face are 0.6 of their size wide: with fixed margins their room is known before anything is drawn.
_WIDTH, _LEFT, _RIGHT = 7.2, 0.115, 0.99
_ROW_POINTS, _LETTER_POINTS, _GAP_POINTS, _AXES_POINTS = 14, 6.1, 1.5, 72 * _WIDTH * (_RIGHT - _LEFT)


@dataclass(frozen=True, eq=False)
class AlignedClip:
    """A clip, what the recogniser made of it, and the forced alignment: `path` has one symbol id a frame, 0 for the blank."""

    caption: str
    waveform: Float[Tensor, "samples"]
    log_mel: Float[Tensor, "frames bins"]
    log_probs: Float[Tensor, "frames_out vocab"]
    text: str
    heard: str
    path: list[int]
    symbols: tuple[str, ...]
    frames_per_second: int | float

    @property
    def spans(self) -> list[Span]:
        """The symbols of the text with the frames on which the forced alignment puts them."""
        return label_spans(self.path, BLANK)

    def frame_seconds(self, frame: int) -> tuple[float, float]:
        """When a posterior frame begins and ends; the last one may reach beyond the sound."""
        return frame / self.frames_per_second, (frame + 1) / self.frames_per_second


@torch.no_grad()
def align_clip(recogniser: StageBRecogniser, waveform: Float[Tensor, "samples"], text: str, caption: str = "") -> AlignedClip:
    """Run a recogniser over a clip (16 kHz mono) and align its posteriors with the text that was spoken.

    Without dropout and SpecAugment, also in the midst of a training. `caption` is the text unless given.
    Raises ValueError for a text that the vocabulary cannot write, or that needs more frames than the clip has.
    """
    was_training = recogniser.training
    log_mel = recogniser.enc.log_mel(waveform)
    log_probs, counts = recogniser.eval().log_probs([log_mel])
    recogniser.train(was_training)
    log_probs, vocabulary = log_probs[0, : int(counts[0])].float().cpu(), recogniser.vocabulary
    heard = vocabulary.decode(greedy_decode(log_probs, vocabulary.blank_id))
    path = forced_alignment(log_probs, vocabulary.encode(text), vocabulary.blank_id)
    named = (vocabulary.symbols, recogniser.enc.config.frames_per_second)
    return AlignedClip(caption or text, waveform, log_mel.cpu(), log_probs, text, heard, path, *named)


def draw_alignment(clip: AlignedClip, frame: int) -> Figure:
    """Two panels over time in seconds, the cursor in both.

    Above, the log-mel with the forced alignment's letters and the edges of their spans; the bar at its foot is the piece that
    is played. Below, the probability of each symbol, and the letters that the greedy decoder reads.
    """
    _refuse_frame(clip, frame)
    figure = Figure(figsize=(_WIDTH, 4.3))
    figure.subplots_adjust(_LEFT, 0.17, _RIGHT, 0.94, hspace=0.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1.35, 1])
    _draw_log_mel(upper, clip)
    start, end = piece_bounds(clip, frame)
    upper.hlines(2, start / SAMPLE_RATE, end / SAMPLE_RATE, color=CURSOR, linewidth=4)
    _draw_posteriors(lower, clip)
    for axes in (upper, lower):
        axes.axvspan(*clip.frame_seconds(frame), facecolor=CURSOR + "50", edgecolor=CURSOR, linewidth=1.2)
    lower.set(xlim=(0, clip.frame_seconds(len(clip.path))[0]), xlabel="time (s)")
    figure.legend(loc="lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def describe_frame(clip: AlignedClip, frame: int) -> str:
    """HTML: the likeliest symbols at a frame, the letter that the forced alignment puts there, and what was heard."""
    _refuse_frame(clip, frame)
    start, end = clip.frame_seconds(frame)
    probabilities = clip.log_probs[frame].exp().tolist()
    best = sorted(range(len(probabilities)), key=probabilities.__getitem__, reverse=True)[:3]
    beliefs = ", ".join(f"{_name(clip, symbol)} {100 * probabilities[symbol]:.0f} %" for symbol in best)
    place = "between letters" if clip.path[frame] == BLANK else f"on {_name(clip, clip.path[frame])}"
    heard = f"The greedy decoder heard: <b>{html.escape(clip.heard) or '(nothing)'}</b>"
    place = f"The forced alignment is {place}: {_mark_place(clip, frame)}"
    return f"<p>Frame {frame}, {start:.2f}–{end:.2f} s. The network: {beliefs}.<br>{place}<br>{heard}</p>"


def piece_bounds(clip: AlignedClip, frame: int, seconds: float = PIECE_SECONDS) -> tuple[int, int]:
    """First sample, and the one after the last, of the piece around a frame; at the ends of the clip it is moved inside."""
    _refuse_frame(clip, frame)
    return window_bounds(len(clip.waveform), (frame + 0.5) / clip.frames_per_second, seconds)


def piece(clip: AlignedClip, frame: int, seconds: float = PIECE_SECONDS) -> Float[Tensor, "samples"]:
    """The sound around a frame: always so many seconds, or the whole of a shorter clip."""
    start, end = piece_bounds(clip, frame, seconds)
    return clip.waveform[start:end]


def _draw_log_mel(axes: Axes, clip: AlignedClip) -> None:
    bins, spans = clip.log_mel.shape[1], clip.spans
    plot_rows(axes, clip.log_mel, SAMPLE_RATE / HOP_LENGTH, "frequency (Hz),\nmel-spaced")
    axes.images[0].set_alpha(0.6)  # or the lines drown in the loud places
    axes.set_yticks(frequency_ticks(bins), [f"{hz:,}" for hz in TICKS_HZ])
    edges = sorted({edge / clip.frames_per_second for span in spans for edge in (span.start, span.end)})
    axes.vlines(edges, 0, bins, color=INK, linewidth=0.6)
    axes.set(xlabel="", ylim=(0, _write_letters(axes, clip, spans, bins)))
    axes.set_title("forced alignment of the text", loc="left", fontsize=9)


def _draw_posteriors(axes: Axes, clip: AlignedClip) -> None:
    """Frame by frame: steps, as wide as a frame, because there is nothing between two frames."""
    probabilities, best = clip.log_probs.exp(), clip.log_probs.argmax(dim=-1).tolist()
    edges = (torch.arange(len(clip.log_probs) + 1) / clip.frames_per_second).numpy()
    in_text = {span.symbol for span in clip.spans}
    axes.stairs(probabilities[:, BLANK].numpy(), edges, fill=True, color=SOFT, alpha=0.6, label="blank")
    unnamed = {INK: "letters of the text", WRONG: "other letters heard"}
    for symbol in sorted((in_text | set(best)) - {BLANK}):
        colour, style = (INK, "-") if symbol in in_text else (WRONG, ":")
        look = {"facecolor": colour + "70", "edgecolor": colour, "linestyle": style, "linewidth": 1.2}
        axes.stairs(probabilities[:, symbol].numpy(), edges, fill=True, label=unnamed.pop(colour, None), **look)
    top = _write_letters(axes, clip, label_spans(best, BLANK), 1.02)
    axes.set(ylabel="probability", ylim=(0, top), yticks=[0, 0.5, 1])
    axes.set_title("heard, read off greedily", loc="left", fontsize=9)


def _write_letters(axes: Axes, clip: AlignedClip, spans: list[Span], bottom: int | float) -> float:
    """Write each symbol over the middle of its span, in as many rows as keep them apart; return where the rows end."""
    ends, places, per_point = [-1.0], [], clip.frame_seconds(len(clip.path))[0] / _AXES_POINTS
    for span in spans:
        letters, middle = _visible(clip.symbols[span.symbol]), sum(span[1:]) / 2 / clip.frames_per_second
        half = (len(letters) * _LETTER_POINTS + _GAP_POINTS) / 2 * per_point
        row = next((row for row, end in enumerate(ends) if end <= middle - half), len(ends))
        ends[row : row + 1] = [middle + half]
        places.append((middle, row + 0.5, letters))
    points = 72 * axes.figure.get_figheight() * axes.get_position().height
    height = bottom * _ROW_POINTS / max(points - len(ends) * _ROW_POINTS, points / 3)
    face = {"ha": "center", "va": "center", "family": "monospace", "fontsize": 10, "parse_math": False}
    for middle, row, letters in places:
        axes.text(middle, bottom + row * height, letters, **face)
    return bottom + len(ends) * height


def _visible(symbol: str) -> str:
    return symbol.replace(WORD_START, " ").replace(" ", "␣")


def _name(clip: AlignedClip, symbol: int) -> str:
    return "blank" if symbol == BLANK else f"<b>{html.escape(_visible(clip.symbols[symbol]))}</b>"


def _mark_place(clip: AlignedClip, frame: int) -> str:
    """The text with the letter of this frame marked, or on a blank, a stroke where the alignment has come to."""
    parts = ["", "", ""]  # before, here and after
    for span in clip.spans:
        parts[1 + (span.start > frame) - (span.end <= frame)] += clip.symbols[span.symbol]
    mark = f"<mark>{html.escape(_visible(parts[1])) or '|'}</mark>"
    return f"{html.escape(parts[0])}{mark}{html.escape(parts[2])}".replace(WORD_START, " ")


def _refuse_frame(clip: AlignedClip, frame: int) -> None:
    if not 0 <= frame < len(clip.log_probs):
        raise ValueError(f"frame {frame}: the clip has the frames 0 to {len(clip.log_probs) - 1}")


class AlignmentViewer(ClipSlider):
    """A clip's posteriors and alignment with a cursor over its frames, and the sound under it."""

    place_name, piece_seconds = "frame", PIECE_SECONDS
    invitation = "move the cursor, play what is under it"

    def __init__(self, clips: Sequence[AlignedClip]):
        self.whole = ipywidgets.HTML()
        super().__init__(clips, [self.whole])

    def places(self) -> int:
        """Frames of the features."""
        return len(self.current.log_probs)

    def begin(self) -> int:
        """The first letter."""
        return self.current.spans[0].start if self.current.spans else 0

    def describe(self, place: int) -> str:
        """What the network believed in a frame."""
        return describe_frame(self.current, place)

    def draw(self, place: int) -> Figure:
        """Log-mel and posteriors, one over the other."""
        return draw_alignment(self.current, place)

    def player(self, place: int, autoplay: bool) -> str:
        """The sound around a frame, and when it is."""
        start, end = (bound / SAMPLE_RATE for bound in piece_bounds(self.current, place))
        return audio_html(piece(self.current, place), f"around the cursor, {start:.2f}–{end:.2f} s", autoplay)

    def _pick(self, change: Any = None) -> None:
        waveform = self.current.waveform
        self.whole.value = audio_html(waveform, f"the whole clip, {len(waveform) / SAMPLE_RATE:.2f} s")
        super()._pick(change)
