"""Measure a recogniser on a split it never trained on.

python -m course_lib.evaluate --split test [--system slam] [--json] [--transcripts FILE]
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

from course_lib.audio import SAMPLE_RATE, load_audio
from course_lib.checkpoints import save_json
from course_lib.datasets import Example, load_examples
from course_lib.metrics import align, bootstrap_interval, character_error_rate, error_counts, word_error_rate
from course_lib.systems import SYSTEMS, load_system


@dataclass(frozen=True)
class Report:
    """One system on one split: rates as fractions, intervals at 95 %, `rtf` in seconds of work a second of sound."""

    system: str
    split: str
    clips: int
    wer: float
    wer_low: float
    wer_high: float
    cer: float
    cer_low: float
    cer_high: float
    rtf: float


def transcribe_all(system, examples: list[Example], batch_size: int = 16) -> tuple[list[str], float]:
    """Transcribe all examples; also the real-time factor, loading and encoding included."""
    order = sorted(range(len(examples)), key=lambda index: examples[index].path.stat().st_size)
    started, seconds, transcripts = time.perf_counter(), 0.0, {}
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        waveforms = [load_audio(examples[index].path) for index in indices]
        seconds += sum(len(waveform) for waveform in waveforms) / SAMPLE_RATE
        transcripts.update(zip(indices, system.transcribe(waveforms), strict=True))
    rtf = (time.perf_counter() - started) / seconds
    return [transcripts[index] for index in range(len(examples))], rtf


def measure(name: str, split: str, references: list[str], hypotheses: list[str], rtf: float) -> Report:
    """Corpus WER and CER with bootstrap intervals over utterances."""
    return Report(
        name,
        split,
        len(references),
        word_error_rate(references, hypotheses),
        *bootstrap_interval(references, hypotheses),
        character_error_rate(references, hypotheses),
        *bootstrap_interval(references, hypotheses, unit="char"),
        rtf,
    )


def worst_utterances(references: list[str], hypotheses: list[str], most: int = 5) -> list[str]:
    """The alignments with most word errors, as text."""
    errors = [counts.errors for counts in error_counts(references, hypotheses)]
    worst = sorted(range(len(errors)), key=lambda index: -errors[index])[:most]
    return [str(align(references[i].split(), hypotheses[i].split())) for i in worst if errors[i]]


def show(report: Report) -> str:
    """The report as lines for people."""
    return "\n".join(
        [
            f"{report.system} on {report.split}: {report.clips} clips",
            f"  WER {report.wer:6.1%}   95 % interval {report.wer_low:.1%} to {report.wer_high:.1%}",
            f"  CER {report.cer:6.1%}   95 % interval {report.cer_low:.1%} to {report.cer_high:.1%}",
            f"  real-time factor {report.rtf:.3f}",
        ]
    )


def main() -> None:
    """Read the command line, transcribe the split, print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", default="test", help="dev, test, dev-augmented, test-augmented, or one of your data's")
    parser.add_argument("--system", choices=SYSTEMS, default="slam")
    parser.add_argument("--model", type=Path, help="the run folder of a training, instead of the shipped model")
    parser.add_argument("--data", default="synthetic", help='"synthetic", an asr.csv, or a Common Voice folder')
    parser.add_argument("--clips", type=int, help="only so many clips")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--transcripts", type=Path, help="also write voice, reference and hypothesis of every clip to this JSON file"
    )
    arguments = parser.parse_args()
    system = load_system(arguments.model) if arguments.model else SYSTEMS[arguments.system]()
    examples = load_examples(arguments.data, arguments.split, arguments.clips)
    hypotheses, rtf = transcribe_all(system, examples)
    references = [example.text for example in examples]
    name = arguments.model.name if arguments.model else arguments.system
    report = measure(name, arguments.split, references, hypotheses, rtf)
    if arguments.transcripts:
        rows = zip(examples, hypotheses, strict=True)
        save_json([{"voice": e.voice, "reference": e.text, "hypothesis": heard} for e, heard in rows], arguments.transcripts)
    if arguments.json:
        print(json.dumps({name: round(v, 5) if isinstance(v, float) else v for name, v in vars(report).items()}))
    else:
        print("\n\n".join([show(report), "worst utterances", *worst_utterances(references, hypotheses)]))


if __name__ == "__main__":
    main()
