"""What does an audio token mean? The pieces of text whose embeddings point the same way, drawn over the sound it was made of.

An audio token was never a word; it has no id. But it lies among the language model's text embeddings, and has neighbours there.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.language_model.denoising import SILENCE
from course_lib.slam.model import SlamASR
from course_lib.sound.audio import SAMPLE_RATE
from course_lib.sound.mel import HOP_LENGTH, whisper_log_mel
from course_lib.sound.plots import INK, SOFT, plot_rows
from course_lib.widgets.clip_slider import ClipSlider, audio_html, window_bounds

if TYPE_CHECKING:  # an annotation needs its name only; course_lib.huggingface says why that matters
    import transformers

CURSOR = "#e08a1e"
NEIGHBOURS = 5
PIECE_SECONDS = 0.24
"""How much sound is played around a token: its own 40 ms are a click."""


@dataclass(frozen=True, eq=False)
class ReadClip:
    """A clip and, for each of its audio tokens, the nearest pieces of text with their cosines, nearest first."""

    caption: str
    waveform: Float[Tensor, "samples"]
    neighbours: list[list[tuple[str, float]]]
    tokens_per_second: float

    def token_seconds(self, token: int) -> tuple[float, float]:
        """When the sound of a token begins and ends."""
        return token / self.tokens_per_second, (token + 1) / self.tokens_per_second


def nearest_rows(
    tokens: Float[Tensor, "tokens llm_dim"], table: Float[Tensor, "vocab llm_dim"], count: int = NEIGHBOURS
) -> tuple[Float[Tensor, "tokens count"], Int[Tensor, "tokens count"]]:
    """The rows of a table that point most nearly the same way as each token: their cosines and indices, nearest first."""
    cosines = einsum(F.normalize(tokens, dim=1), F.normalize(table, dim=1), "tokens d, vocab d -> tokens vocab")
    return tuple(cosines.topk(count, dim=1))


def piece_names(tokenizer: "transformers.PreTrainedTokenizerBase") -> list[str]:
    """Every piece of the vocabulary as a person would write it: ␣ for a space, · for silence, � for what nobody can read.

    Nobody can read half a letter (one byte of two) or a control character, for which no font has a picture.
    """
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    texts = (tokenizer.convert_tokens_to_string([piece]) for piece in pieces)
    named = ("·" if text == SILENCE else text.replace(" ", "␣") for text in texts)
    return [text if text.isprintable() else "�" for text in named]


@torch.no_grad()
def read_clip(slam: SlamASR, waveform: Float[Tensor, "samples"], caption: str) -> ReadClip:
    """Project a clip (16 kHz mono) and look every audio token up in the language model's table."""
    tokens = slam.audio_tokens(slam.encode([waveform]))[0].cpu()
    table = slam.llm.get_input_embeddings().weight.float().cpu()
    cosines, ids = nearest_rows(tokens, table)
    names = piece_names(slam.tokenizer)
    rows = zip(ids.tolist(), cosines.tolist(), strict=True)
    neighbours = [[(names[i], cosine) for i, cosine in zip(*row, strict=True)] for row in rows]
    return ReadClip(caption, waveform, neighbours, slam.encoder.config.frames_per_second / slam.projector.k)


def draw_neighbours(clip: ReadClip, token: int) -> Figure:
    """The log-mel with the nearest piece of every audio token over it; beneath, the neighbours of the one at the cursor."""
    _refuse_token(clip, token)
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=[2.2, 1])
    log_mel = whisper_log_mel(clip.waveform)
    plot_rows(upper, log_mel, SAMPLE_RATE / HOP_LENGTH, "mel bin, low to high")
    upper.images[0].set_alpha(0.6)  # or the cursor drowns in the loud places
    upper.axvspan(*clip.token_seconds(token), facecolor=CURSOR + "70", edgecolor=CURSOR, linewidth=1.2)
    _write_pieces(upper, clip, log_mel.shape[1])
    names, cosines = zip(*clip.neighbours[token], strict=True)
    places = range(len(names))
    lower.barh(places, cosines, color=[INK] + [SOFT] * (len(names) - 1))
    lower.set_yticks(places, names, family="monospace", parse_math=False)
    lower.invert_yaxis()
    start, end = clip.token_seconds(token)
    lower.set(xlim=(0, 1), xlabel=f"cosine with the audio token of {start:.2f} to {end:.2f} s")
    return figure


def describe_token(clip: ReadClip, token: int) -> str:
    """HTML: the nearest piece of every token in a row, to hover over, with the one at the cursor marked."""
    _refuse_token(clip, token)
    cells = []
    for index, neighbours in enumerate(clip.neighbours):
        title = f"{index}: " + ", ".join(f"{name} {cosine:.2f}" for name, cosine in neighbours)
        style = f"background:{CURSOR}" if index == token else ""
        name = html.escape(neighbours[0][0])
        cells.append(f'<span style="padding:0 2px;{style}" title="{html.escape(title)}">{name}</span>')
    start, end = clip.token_seconds(token)
    return f'<p style="font-family:monospace">{"".join(cells)}</p><p>Audio token {token}, {start:.2f}–{end:.2f} s.</p>'


def piece_of(clip: ReadClip, token: int) -> Float[Tensor, "samples"]:
    """The sound around a token, moved inside the clip at its ends; the whole of a shorter clip."""
    _refuse_token(clip, token)
    start, end = window_bounds(len(clip.waveform), (token + 0.5) / clip.tokens_per_second, PIECE_SECONDS)
    return clip.waveform[start:end]


def _write_pieces(axes: Axes, clip: ReadClip, bins: int) -> None:
    """Write each token's nearest piece over its sound, a run of equal ones once, in as many rows as keep them apart."""
    seconds = len(clip.waveform) / SAMPLE_RATE
    letter, ends = seconds / 72, [-1.0]  # 72 letters of this size fill the width
    for name, first, last in _runs([neighbours[0][0] for neighbours in clip.neighbours]):
        middle, half = (first + last + 1) / 2 / clip.tokens_per_second, len(name) * letter / 2
        if name == "·":
            continue
        row = next((row for row, end in enumerate(ends) if end <= middle - half), len(ends))
        ends[row : row + 1] = [middle + half]
        height = bins * (1.05 + 0.11 * row)
        axes.text(middle, height, name, ha="center", va="center", family="monospace", fontsize=10, parse_math=False)
    axes.set(ylim=(0, bins * (1.02 + 0.11 * len(ends))), yticks=range(0, bins + 1, 20))


def _runs(names: Sequence[str]) -> list[tuple[str, int, int]]:
    """Equal neighbours as (name, first, last)."""
    runs: list[tuple[str, int, int]] = []
    for index, name in enumerate(names):
        first = runs.pop()[1] if runs and runs[-1][0] == name else index
        runs.append((name, first, index))
    return runs


def _refuse_token(clip: ReadClip, token: int) -> None:
    if not 0 <= token < len(clip.neighbours):
        raise ValueError(f"token {token}: the clip has the audio tokens 0 to {len(clip.neighbours) - 1}")


class TokenNeighbours(ClipSlider):
    """A clip's audio tokens, each under the piece of text that it is nearest to, and the sound that it was made of."""

    place_name, piece_seconds = "audio token", PIECE_SECONDS
    invitation = "drag over its audio tokens, hear them"

    def places(self) -> int:
        """Audio tokens of the clip."""
        return len(self.current.neighbours)

    def begin(self) -> int:
        """The first token that is no silence."""
        names = (neighbours[0][0] for neighbours in self.current.neighbours)
        return next((index for index, name in enumerate(names) if name != "·"), 0)

    def describe(self, place: int) -> str:
        """The row of nearest pieces, with a token marked."""
        return describe_token(self.current, place)

    def draw(self, place: int) -> Figure:
        """Log-mel with the pieces over it, and the neighbours of a token."""
        return draw_neighbours(self.current, place)

    def player(self, place: int, autoplay: bool) -> str:
        """The sound around a token."""
        return audio_html(piece_of(self.current, place), "", autoplay)
