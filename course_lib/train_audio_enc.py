"""Train Stage B's encoder from nothing: python -m course_lib.train_audio_enc --config course_lib/configs/audio_enc_tiny.json"""

import math
import sys
from functools import partial
from pathlib import Path

import torch

from course_lib.compute import set_seed
from course_lib.config import read_training_command, replace, save_config
from course_lib.ctc.feasibility import REDUCTIONS, Feasibility, examine_feasibility, name_impossible, show_feasibility
from course_lib.ctc.recogniser import CONFIG_NAME, SUBWORDS_NAME, StageBConfig, StageBRecogniser, build_encoder
from course_lib.ctc.spec_augment import SpecAugment
from course_lib.data.batches import SpeechBatch, SpeechBatches, SpeechCheck
from course_lib.data.checks import describe_sets, fault_of_clip
from course_lib.data.datasets import Example, FeatureStore, load_examples, log_mel_examples, refuse_unknown_splits, texts_of
from course_lib.errors import CourseError, run_command
from course_lib.text.metrics import word_error_rate
from course_lib.text.normalise import DANISH_CHARACTERS
from course_lib.text.vocabulary import CharVocabulary, SubwordVocabulary
from course_lib.training.run_folder import claimed
from course_lib.training.trainer import Progress, Trainer

CHECKPOINT_NAME = "audio_enc_step_{step}.safetensors"


def train(config: StageBConfig, resume: bool = False) -> Progress:
    """Compute log-mels once, say what cannot be aligned, train; weights, log and config are left in the run folder."""
    refuse_unknown_splits(config.data_path, [*config.train_splits, config.validation_split])
    with claimed(Path(config.run_folder), CONFIG_NAME, config, resume):
        return _train(config, resume)


def _train(config: StageBConfig, resume: bool) -> Progress:
    examples, stores = zip(*(_load(config, split, config.train_clips) for split in config.train_splits), strict=True)
    train_set = [example for split in examples for example in split]
    dev_set, dev_store = _load(config, config.validation_split, config.validation_clips)
    print(f"Found {len(train_set):,} audio samples")
    print(describe_sets(examples, dev_set))
    model = build_recogniser(config, texts_of(train_set))
    refuse_if_none(config, examine_feasibility(dev_set, dev_store.counts, model.vocabulary, [config.downsample_time]))
    keep = feasible_clips(config, train_set, [count for store in stores for count in store.counts], model, not resume)
    batches = SpeechBatches(
        list(stores), texts_of(train_set), config.batch_size, config.seed, by_length=config.length_bucketed, keep=keep
    )
    settings = replace(config, warmup_steps=count_warmup_steps(config, len(batches)))
    check = SpeechCheck(model, dev_store, texts_of(dev_set), config.batch_size)
    trainer = Trainer(
        model,
        batches,
        len(batches),
        check,
        settings,
        Path(config.run_folder),
        describe(model),
        CHECKPOINT_NAME,
        belongings=[SUBWORDS_NAME],
    )
    if resume:
        trainer.resume()
    else:
        save_beside_weights(config, model)
    print(f"Training with CTC loss on {trainer.accelerator.device}, {len(batches):,} steps an epoch")
    return trainer.fit()


def build_recogniser(config: StageBConfig, texts: list[str]) -> StageBRecogniser:
    """A fresh recogniser; with subwords, they are learnt from the texts."""
    subwords = config.units == "subwords"
    vocabulary = SubwordVocabulary.train(texts, config.subword_count) if subwords else CharVocabulary()
    set_seed(config.seed)
    model = StageBRecogniser(build_encoder(config), vocabulary, SpecAugment() if config.spec_augment else None)
    counts = [sum(p.numel() for p in part.parameters()) for part in (model.enc, model.head)]
    print(f"Initialising audio encoder ({counts[0]:,} parameters) and CTC head ({counts[1]:,}, {len(vocabulary)} symbols)")
    return model


def save_beside_weights(config: StageBConfig, model: StageBRecogniser) -> None:
    """Put config and subwords into the run folder, so that its weights can be read without this program."""
    save_config(config, Path(config.run_folder) / CONFIG_NAME)
    if isinstance(model.vocabulary, SubwordVocabulary):
        model.vocabulary.save(Path(config.run_folder) / SUBWORDS_NAME)


def feasible_clips(
    config: StageBConfig, examples: list[Example], mel_frames: list[int], model: StageBRecogniser, list_others: bool = True
) -> list[int]:
    """Print the feasibility report; the clips that CTC can align. The others are listed in `impossible_clips.tsv`."""
    reductions = sorted({*REDUCTIONS, config.downsample_time})
    report = examine_feasibility(examples, mel_frames, model.vocabulary, reductions)
    print(show_feasibility(report))
    impossible = report.impossible[config.downsample_time]
    path = Path(config.run_folder) / "impossible_clips.tsv"
    if list_others:
        name_impossible(examples, impossible, path)
    if impossible:
        print(f"  left out of the training: {len(impossible):,} clips, named in {path}")
    refuse_if_none(config, report)
    return report.possible(config.downsample_time)


def refuse_if_none(config: StageBConfig, report: Feasibility) -> None:
    """Raise CourseError if no clip at all can be aligned."""
    if not report.possible(config.downsample_time):
        raise CourseError(
            f"downsample_time: {config.downsample_time} leaves too few frames for every clip; lower it or use subwords"
        )


def count_warmup_steps(config: StageBConfig, batches_per_epoch: int) -> int:
    """How many steps the learning rate rises for: `warmup_steps`, or else `warmup_share` of all that are planned."""
    if config.warmup_steps:
        return config.warmup_steps
    steps_per_epoch = batches_per_epoch // config.gradient_accumulation_steps
    warmup_steps = math.ceil(config.warmup_share * config.num_epochs * steps_per_epoch)
    return min(warmup_steps, math.ceil(config.warmup_share * config.max_steps)) if config.max_steps else warmup_steps


def describe(model: StageBRecogniser):
    """The figures of a printed line: loss and WER of the batch just trained on, read greedily and without SpecAugment."""

    def figures(batch: SpeechBatch) -> str:
        wer = word_error_rate(batch.texts, model.transcribe_features(batch.features))
        return f"ctc_loss={float(model.loss(batch).loss):.3f} wer={wer:.1%}"

    return figures


def _load(config: StageBConfig, split: str, clips: int | None) -> tuple[list[Example], FeatureStore]:
    print(f"Loading audio data of {split} from {config.data_path}...")
    check = partial(fault_of_clip, letters=DANISH_CHARACTERS)
    examples = load_examples(config.data_path, split, clips, config.skip_bad, check)
    return examples, log_mel_examples(examples)


def main() -> None:
    """Read the command line, train, say where the result is."""
    config, resume = read_training_command(__doc__, CONFIG_NAME, StageBConfig)
    torch.set_num_threads(config.num_threads or torch.get_num_threads())
    progress = train(config, resume)
    print(f"Training complete. Time: {progress.seconds / 60:.1f} minutes")
    print(f"Best validation WER: {progress.best:.1%} at step {progress.best_step}")
    print(f"saved to {config.run_folder}; try it: python -m course_lib.evaluate --model {config.run_folder} --split test")


if __name__ == "__main__":
    sys.exit(run_command(main))
