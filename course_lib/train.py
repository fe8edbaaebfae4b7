"""Train the projector: python -m course_lib.train --config course_lib/configs/train_config.yaml"""

import sys
from functools import partial
from pathlib import Path

from course_lib.config import read_training_command, replace, save_config
from course_lib.data.batches import SpeechBatches, SpeechCheck
from course_lib.data.checks import describe_sets, fault_of_clip
from course_lib.data.datasets import FeatureStore, encode_examples, load_examples, refuse_unknown_splits, texts_of
from course_lib.errors import run_command
from course_lib.slam.ctc_warmup import CtcWarmup
from course_lib.slam.model import SlamASR
from course_lib.systems import CONFIG_NAME, SlamConfig, build_slam, locate_parts
from course_lib.training.run_folder import claimed
from course_lib.training.trainer import Progress, Trainer


def train(config: SlamConfig, resume: bool = False) -> Progress:
    """Encode the data once, train the projector, leave best weights, log and config in the run folder.

    What can be refused is refused before anything is loaded: splits, names of models, device, run folder, then the clips.
    """
    refuse_unknown_splits(config.data, [*config.train_splits, config.validation_split])
    locate_parts(config)
    with claimed(Path(config.run_folder), CONFIG_NAME, config, resume):
        return _train(config, resume)


def _train(config: SlamConfig, resume: bool) -> Progress:
    fault = partial(fault_of_clip, max_seconds=config.max_audio_length)
    load = partial(load_examples, config.data, skip_bad=config.skip_bad, check=fault)
    train_sets = [load(split, config.train_clips) for split in config.train_splits]
    dev_set = load(config.validation_split, config.validation_clips)
    print(describe_sets(train_sets, dev_set))
    slam = build_slam(config)
    *train_stores, dev_store = (encode_examples(e, slam.encoder, config.max_audio_length) for e in (*train_sets, dev_set))
    texts = [text for train_set in train_sets for text in texts_of(train_set)]
    batches = SpeechBatches(train_stores, texts, config.batch_size, config.seed)
    if not resume:
        save_config(config, Path(config.run_folder) / CONFIG_NAME)
    seconds = warm_up(slam, batches, dev_store, texts_of(dev_set), config, resume) if config.ctc_warmup_epochs else 0.0
    check = SpeechCheck(slam, dev_store, texts_of(dev_set), config.batch_size)
    trainer = Trainer(slam, batches, len(batches), check, config, Path(config.run_folder))
    trainer.progress.seconds = seconds
    if resume and (trainer.has_checkpoint() or not config.ctc_warmup_epochs):
        trainer.resume()
    return trainer.fit()


def warm_up(
    slam: SlamASR, batches: SpeechBatches, dev_store: FeatureStore, dev_texts: list[str], config: SlamConfig, resume: bool
) -> float:
    """Let the projector learn to spell first (see `ctc_warmup`), in a run folder of its own; returns the seconds it took."""
    settings = replace(
        config,
        num_epochs=config.ctc_warmup_epochs,
        max_steps=0,
        lr=config.ctc_warmup_lr,
        patience=0,
        validation_interval=max(1, len(batches) // config.gradient_accumulation_steps),
        monitor="cer",
        tracker="none",
    )
    warmup = CtcWarmup(slam)
    measure = SpeechCheck(warmup, dev_store, dev_texts, config.batch_size)

    def check() -> dict[str, float]:
        return {name: figure for name, figure in measure().items() if name in ("cer", "wer", "loss")}

    trainer = Trainer(warmup, batches, len(batches), check, settings, Path(config.run_folder) / "ctc_warmup")
    if resume:
        trainer.resume()
    return trainer.fit().seconds


def main() -> None:
    """Read the command line, train, say where the result is."""
    config, resume = read_training_command(__doc__, CONFIG_NAME, SlamConfig)
    progress = train(config, resume)
    print(f"best {config.monitor} {progress.best:.4f} at step {progress.best_step}, {progress.seconds / 60:.1f} minutes")
    print(f"saved to {config.run_folder}; try it: python -m course_lib.transcribe --model {config.run_folder} FILE")


if __name__ == "__main__":
    sys.exit(run_command(main))
