"""What does k cost, and which projector learns soonest? python -m course_lib.sweep_projector

Short trainings on a slice of the data: the same clips, the same updates, (nearly) the same number of weights. Only the
projector differs, and in the last one only the optimiser. Size, audio tokens a second and both logs go into one JSON file,
which chapters 07 and 09 read.
"""

import argparse
import bisect
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from course_lib.config import CONFIG_FOLDER, load_config, positive_count, replace
from course_lib.data.datasets import refuse_unknown_splits
from course_lib.errors import CourseError, run_command
from course_lib.files import refuse_output, save_json
from course_lib.slam.projector import PROJECTORS
from course_lib.systems import CONFIG_NAME, SlamConfig, build_slam, locate_parts
from course_lib.train import train
from course_lib.training.run_folder import STATE_NAME, run_key

CHANGES: dict[str, dict[str, Any]] = {f"concat, k = {k}": {"projector": "concat", "k": k} for k in (2, 1, 3, 5, 8)}
CHANGES |= {f"{name}, k = 2": {"projector": name, "k": 2} for name in ("conv", "qformer")}
CHANGES["with AdamW"] = {"projector": "concat", "k": 2, "optimizer": "adamw"}

HIDDEN_STEP = 8
"""Widths are multiples of this, so that they can be shared among the Q-Former's heads."""


def count_weights(projector: nn.Module) -> int:
    """Trainable numbers of a projector."""
    return sum(weight.numel() for weight in projector.parameters() if weight.requires_grad)


def widest(name: str, k: int, feature_dim: int, llm_dim: int, budget: int) -> int:
    """The largest hidden width with which a projector stays within a budget of weights.

    >>> widest("concat", 2, 512, 256, 1_312_000)
    1024

    Raises ValueError for a budget that not even the narrowest projector meets.
    """

    def weights(hidden_dim: int) -> int:
        with torch.device("meta"):  # no memory, no random numbers: only the shapes are wanted
            return count_weights(PROJECTORS[name](feature_dim, llm_dim, k, hidden_dim))

    widths = range(HIDDEN_STEP, 4096 + HIDDEN_STEP, HIDDEN_STEP)
    fitting = bisect.bisect_right(widths, budget, key=weights)
    if not fitting:
        raise CourseError(f"{budget:,} weights are too few for {name}, k = {k}: at least {weights(HIDDEN_STEP):,} are needed")
    return widths[fitting - 1]


def sweep(config: SlamConfig, folder: Path) -> dict[str, dict[str, Any]]:
    """Train once for each change, with as many weights as `config` has; what came of it, by name.

    A training that is finished already is not run again, a broken one goes on.
    """
    slam = build_slam(config)
    feature_dim, llm_dim = slam.encoder.feature_dim, slam.llm.config.hidden_size
    budget, frames_per_second = count_weights(slam.projector), slam.encoder.config.frames_per_second
    del slam
    results = {}
    for name, change in CHANGES.items():
        hidden_dim = widest(change["projector"], change["k"], feature_dim, llm_dim, budget)
        changed = replace(config, **change, projector_hidden_dim=hidden_dim)
        run_folder = folder / f"{name.replace(', k = ', '-k').replace(' ', '-')}-{run_key(changed)}"
        changed = replace(changed, run_folder=str(run_folder))
        print(f"\n{name}, hidden width {hidden_dim}")
        train(changed, resume=any(run_folder.rglob(STATE_NAME)))
        projector = PROJECTORS[change["projector"]](feature_dim, llm_dim, change["k"], hidden_dim)
        results[name] = {
            **change,
            "hidden_dim": hidden_dim,
            "weights": count_weights(projector),
            "audio_tokens_per_second": frames_per_second / change["k"],
            "clips": config.train_clips,
            "ctc_warmup": _read_log(run_folder / "ctc_warmup"),
            "training": _read_log(run_folder),
        }
    return results


def describe(results: dict[str, dict[str, Any]]) -> str:
    """A table of the last line of every log."""
    lines = [f"{'':16}{'weights':>10}{'tokens/s':>10}{'loss':>8}{'CER':>8}{'WER':>8}{'minutes':>9}"]
    for name, result in results.items():
        last = result["training"][-1]
        lines.append(
            f"{name:16}{result['weights']:>10,}{result['audio_tokens_per_second']:>10.1f}{last['loss']:>8.2f}"
            f"{last['cer']:>8.1%}{last['wer']:>8.1%}{last['seconds'] / 60:>9.1f}"
        )
    return "\n".join(lines)


def shorten(config: SlamConfig, clips: int, split: str) -> SlamConfig:
    """The shipped recipe cut down to a slice: an epoch of spelling, an epoch of reading, greedy decoding at the end.

    Batches of 16, so that the slice gives as many updates as it can, and a warm-up of a tenth of them.
    """
    updates = max(1, clips // 16)
    return replace(
        config,
        train_splits=[split],
        train_clips=clips,
        validation_clips=100,
        ctc_warmup_epochs=min(1, config.ctc_warmup_epochs),
        num_epochs=1,
        max_steps=0,
        batch_size=16,
        gradient_accumulation_steps=1,
        warmup_steps=updates // 10,
        lr=2e-3,
        validation_interval=max(1, updates // 2),
        num_beams=1,
        ctc_weight=0.0,
    )


def main() -> None:
    """Read the command line, train, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=CONFIG_FOLDER / CONFIG_NAME)
    parser.add_argument("--clips", type=positive_count, default=4_000)
    parser.add_argument("--split", default="train-clean", help="clean speech is learnt in fewer updates")
    parser.add_argument("--folder", type=Path, default=Path("runs/projector-sweep"))
    parser.add_argument("--output", type=Path, default=Path("runs/projector-sweep.json"))
    parser.add_argument("--skip-bad", action="store_true", help="leave out rows that cannot be used, and say how many")
    arguments = parser.parse_args()
    refuse_output(arguments.output)
    config = shorten(load_config(arguments.config, SlamConfig), arguments.clips, arguments.split)
    config = replace(config, skip_bad=arguments.skip_bad)
    refuse_unknown_splits(config.data, [arguments.split, config.validation_split])
    locate_parts(config)
    results = sweep(config, arguments.folder)
    save_json(results, arguments.output)
    print(f"\n{describe(results)}")


def _read_log(folder: Path) -> list[dict[str, Any]]:
    path = folder / "training_log.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


if __name__ == "__main__":
    sys.exit(run_command(main))
