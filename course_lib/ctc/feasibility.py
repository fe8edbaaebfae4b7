"""Transcripts and frame counts → which clips CTC can align at all, before a training finds out the hard way.

A clip of n frames spells at most n symbols, fewer when equal ones are neighbours (`ctc.paths.frames_needed`). The rule of this
course: an impossible clip is counted and named here, kept out of the training, and still transcribed and judged in validation.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from course_lib.ctc.paths import frames_needed
from course_lib.data.datasets import Example
from course_lib.sound.shape_table import frames_after
from course_lib.text.vocabulary import Vocabulary

REDUCTIONS = (2, 4, 8)


@dataclass(frozen=True)
class Feasibility:
    """What a data set asks of an encoder. `impossible` has the indices of clips without an alignment, by time reduction."""

    clips: int
    symbols: str
    impossible: dict[int, list[int]]
    characters_per_second: float
    voices: dict[str, float]
    """Characters a second of each voice, slowest first."""

    def possible(self, reduction: int) -> list[int]:
        """The indices of the clips that can be aligned."""
        return sorted({*range(self.clips)} - {*self.impossible[reduction]})


def examine_feasibility(
    examples: Sequence[Example], mel_frames: Sequence[int], vocabulary: Vocabulary, reductions: Sequence[int] = REDUCTIONS
) -> Feasibility:
    """Count, for each time reduction, the clips that need more frames than they have; and how fast everyone speaks."""
    needed = [frames_needed(vocabulary.encode(example.text)) for example in examples]
    impossible = {
        reduction: [
            i for i, (need, frames) in enumerate(zip(needed, mel_frames, strict=True)) if frames_after(frames, reduction) < need
        ]
        for reduction in reductions
    }
    characters, seconds = defaultdict(int), defaultdict(float)
    for example, frames in zip(examples, mel_frames, strict=True):
        characters[example.voice] += len(example.text)
        seconds[example.voice] += frames / 100
    voices = {voice: characters[voice] / seconds[voice] for voice in characters}
    return Feasibility(
        clips=len(examples),
        symbols="characters" if all(len(symbol) == 1 for symbol in vocabulary.symbols) else "subwords",
        impossible=impossible,
        characters_per_second=sum(characters.values()) / sum(seconds.values()),
        voices=dict(sorted(voices.items(), key=lambda item: item[1])),
    )


def show_feasibility(report: Feasibility) -> str:
    """The report as lines for people."""
    speeds = [f"{voice or 'unnamed'} {speed:.1f}" for voice, speed in report.voices.items()]
    lines = [
        f"Can it be aligned? {report.clips:,} clips, {report.symbols}, {report.characters_per_second:.1f} characters a second",
        f"  slowest voice {speeds[0]}, fastest {speeds[-1]}",
    ]
    for reduction, indices in report.impossible.items():
        rate = 100 / reduction
        share = len(indices) / report.clips
        lines.append(
            f"  {reduction} × reduction, {rate:4.1f} frames a second: {len(indices):6,} clips impossible ({share:.1%})"
        )
    return "\n".join(lines)


def name_impossible(examples: Sequence[Example], indices: Sequence[int], path: Path) -> None:
    """Write the file and the text of every clip that is left out, one a line, tab between."""
    lines = [f"{examples[index].path.name}\t{examples[index].text}" for index in indices]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
