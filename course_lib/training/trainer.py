"""Batches + a model that returns its loss → trained weights, a checkpoint to resume from, and a log.

One loop for everything this course trains. Accumulate gradients, clip, step, warm up, validate by doing the real task, stop
when it no longer improves, keep the best weights. Accelerate carries it from a laptop's CPU to several GPUs unchanged.
"""

import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm.auto import tqdm

from course_lib.compute import set_seed
from course_lib.errors import CourseError
from course_lib.files import COURSE_VERSION, MANIFEST_NAME, remove_fragments, save_json, write_manifest
from course_lib.training.checkpoints import (
    CheckpointError,
    checksum,
    load_state,
    load_weights,
    put_weights,
    random_state,
    read_weights,
    restore_random_state,
    save_state,
    save_weights,
    trainable_weights,
)
from course_lib.training.optimizers import make_optimizer
from course_lib.training.run_folder import (
    BEST_NAME,
    STATE_NAME,
    locked,
    refuse_other_config,
    refuse_settings,
    run_config,
)
from course_lib.training.settings import TrainSettings, learning_rate_factor


@dataclass
class Progress:
    """Where a training run stands; saved with every checkpoint, so that a run can be resumed."""

    step: int = 0
    epoch: int = 0
    batches_done: int = 0
    best: float = math.inf
    best_step: int = 0
    stale_validations: int = 0
    seconds: float = 0.0


class NotFiniteError(CourseError, FloatingPointError):
    """A loss that is NaN or infinite."""


class Trainer:
    """Train the weights of `model` that ask for gradients, on `batches_of(epoch)`.

    `model` maps a batch to a `StepOutput`; `validate()` returns the figures that count, `settings.monitor` among them.
    `batches_of` must give the same batches for the same epoch, so that a resumed run sees what the broken one would have.
    The run folder gets best.safetensors, training_state.pt (all that `resume` needs, in one file), training_log.json and
    logs/train.log, and every `checkpoint_freq` updates the weights as `checkpoint_name`. `describe(batch)` gives the figures of
    the line that is printed every `report_interval` updates; `watch(step, figures)` hears of every update and validation.
    At its end the weights, and the `belongings` that they need (names in the run folder), are noted with their checksums.
    """

    def __init__(
        self,
        model: nn.Module,
        batches_of: Callable[[int], Iterable[Any]],
        batches_per_epoch: int,
        validate: Callable[[], dict[str, float]],
        settings: TrainSettings,
        run_folder: Path,
        describe: Callable[[Any], str] | None = None,
        checkpoint_name: str = "step_{step}.safetensors",
        watch: Callable[[int, dict[str, float]], None] = lambda step, figures: None,
        belongings: Sequence[str] = (),
    ):
        refuse_settings(settings)
        if settings.num_threads:
            torch.set_num_threads(settings.num_threads)
        set_seed(settings.seed)
        self.settings, self.batches_of, self.validate = settings, batches_of, validate
        self.run_folder = Path(run_folder)
        self.progress = Progress()
        self.log = []
        self.describe = describe
        self.watch = watch
        self.checkpoint_name, self.belongings, self.batches_per_epoch = checkpoint_name, belongings, batches_per_epoch
        self._reported = 0.0
        self._resumed, self._saved_step = False, 0
        self._best_weights: dict[str, Tensor] = {}
        self.accelerator = _make_accelerator(settings, self.run_folder)
        batches_per_step = settings.gradient_accumulation_steps * self.accelerator.num_processes
        if batches_per_epoch < batches_per_step:
            raise CourseError(
                f"{batches_per_epoch} batches an epoch, {batches_per_step} needed for one update; "
                "lower batch_size or gradient_accumulation_steps, or take more clips"
            )
        self.total_steps = min(settings.num_epochs * (batches_per_epoch // batches_per_step), settings.max_steps or math.inf)
        self.trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = make_optimizer(settings.optimizer, self.trained, settings.lr, settings.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, settings.warmup_steps, self.total_steps, settings.schedule)
        )
        self.schedule = schedule
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)

    def fit(self) -> Progress:
        """Train until the epochs, the steps or the patience run out; the model ends with its best weights.

        Raises CheckpointError if the run folder holds a run that was not resumed, or if another training is in it.
        """
        if not self._resumed and self.has_checkpoint():
            raise CheckpointError(f"{self.run_folder}: holds a run already. Resume it, or name another run_folder.")
        with locked(self.run_folder):
            try:
                return self._fit()
            except (KeyboardInterrupt, OSError) as stopped:
                stopped.add_note(self._what_is_saved())
                raise

    def _fit(self) -> Progress:
        remove_fragments(self.run_folder)
        (self.run_folder / MANIFEST_NAME).unlink(missing_ok=True)
        self._mend_best()
        started = time.monotonic() - self.progress.seconds
        self._reported = self.progress.seconds
        # Seldom: in a notebook every refresh is several messages, and a client that drops them (at 1,000) waits for ever.
        with tqdm(total=self.total_steps, initial=self.progress.step, desc="training", unit="step", mininterval=5) as bar:
            while self.progress.step < self.total_steps and not self._out_of_patience():
                self._train_epoch(bar, started)
        if not self.log or self.log[-1]["step"] != self.progress.step:
            self._validate(started)
        if not math.isfinite(self.progress.best):
            raise NotFiniteError(f"{self.settings.monitor} was never a number; lower lr or use fp32 (precision: fp32)")
        save_json(self.log, self.run_folder / "training_log.json")
        load_weights(self.accelerator.unwrap_model(self.model), self.run_folder / BEST_NAME)
        if self.accelerator.is_main_process:
            kept = [name for name in (BEST_NAME, *self.belongings) if (self.run_folder / name).is_file()]
            about = {"updates": self.progress.step, "batches_an_epoch": self.batches_per_epoch}
            write_manifest(self.run_folder, kept, **about, config=run_config(self.settings), data=self._data_key())
        self.accelerator.end_training()
        return self.progress

    def has_checkpoint(self) -> bool:
        """Whether the run folder has something to resume from."""
        return (self.run_folder / STATE_NAME).is_file()

    def resume(self) -> None:
        """Go on from the last checkpoint of the run folder, as if the run had never stopped.

        Raises CheckpointError for a folder that has none, for files that are damaged or another model's, and for a run of
        other settings or other clips; the folder is left as it is.
        """
        path = self.run_folder / STATE_NAME
        if not self.has_checkpoint():
            raise CheckpointError(f"{path}: nothing to resume; start without --resume")
        state = load_state(path)
        missing = {*"weights best_weights optimizer schedule progress random log config data".split()} - state.keys()
        if missing:
            raise CheckpointError(f"{path}: not the state of a training of this course; it has no {', '.join(sorted(missing))}")
        refuse_other_config(state["config"], self.settings, path)
        if state["data"] != self._data_key():
            advice = "Give it the data that it began with, or start afresh in another run_folder."
            raise CheckpointError(f"{path}: begun with other clips or texts than there are now, so it cannot go on. {advice}")
        put_weights(self.accelerator.unwrap_model(self.model), state["weights"], str(path))
        progress = Progress(**state["progress"])
        if progress.step > self.total_steps:
            raise CheckpointError(
                f"{path}: at update {progress.step:,} already, and this config ends at {self.total_steps:,}. "
                "Raise num_epochs or max_steps, or start afresh in another run_folder."
            )
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.progress, self.log, self._saved_step = progress, state["log"], progress.step
        self._best_weights = state["best_weights"]
        restore_random_state(state["random"])
        self._resumed = True

    def save_checkpoint(self) -> None:
        """Write everything `resume` needs, in one file: a run killed between two would resume as neither."""
        if not self.accelerator.is_main_process:
            return
        state = {"optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict()}
        state |= {"progress": asdict(self.progress), "random": random_state(), "log": self.log}
        state["best_weights"] = self._best_weights
        state["weights"] = trainable_weights(self.accelerator.unwrap_model(self.model))
        state |= {"config": run_config(self.settings), "data": self._data_key(), "course": COURSE_VERSION}
        save_json(self.log, self.run_folder / "training_log.json")
        save_state(state, self.run_folder / STATE_NAME)
        self._saved_step = self.progress.step

    def _data_key(self) -> str:
        """What the batches are made of, where they can say it."""
        return getattr(self.batches_of, "fingerprint", "")

    def _mend_best(self) -> None:
        """The best weights of a resumed run stand in its state as well: their file is written anew if it is not theirs."""
        if not self._best_weights or not self.accelerator.is_main_process:
            return
        try:
            is_theirs = checksum(read_weights(self.run_folder / BEST_NAME)) == checksum(self._best_weights)
        except CheckpointError as error:
            tqdm.write(f"{error}\nIt is written again from {STATE_NAME}.")
            is_theirs = False
        if not is_theirs:
            save_weights(self._best_weights, self.run_folder / BEST_NAME)

    def _what_is_saved(self) -> str:
        if not self._saved_step:
            return f"No checkpoint was written yet, {self.run_folder} can be used again."
        return f"{self.run_folder} holds the run up to update {self._saved_step:,}; go on with --resume."

    def _train_epoch(self, bar: tqdm, started: float) -> None:
        """One pass over the data; a last group too small for a whole update is left for the next epoch's shuffle."""
        size, world = self.settings.gradient_accumulation_steps, self.accelerator.num_processes
        mine = slice(self.accelerator.process_index * size, (self.accelerator.process_index + 1) * size)
        done = self.progress.batches_done
        left = (self.total_steps - self.progress.step) * size * world
        batches = itertools.islice(self.batches_of(self.progress.epoch), done, done + left)
        while len(group := list(itertools.islice(batches, size * world))) == size * world:
            figures = self._step(group[mine])
            self.progress.step += 1
            self.progress.batches_done += size * world
            self.watch(self.progress.step, figures)
            self._report(group[0], started)
            kept = self._keep_weights()
            if self.progress.step % self.settings.validation_interval == 0:
                self._validate(started, figures)
            elif kept:
                self.progress.seconds = time.monotonic() - started
                self.save_checkpoint()
            bar.set_postfix(loss=f"{figures['train_loss']:.3f}", best=f"{self.progress.best:.4f}", refresh=False)
            bar.update()
            if self._out_of_patience():
                return
        self.progress.epoch += 1
        self.progress.batches_done = 0

    def _step(self, batches: list[Any]) -> dict[str, float]:
        """One update from several small batches; one large batch's, if they hold equally many label tokens."""
        self.model.train()
        loss = correct = labels = 0
        for batch in batches:
            output = self.model(batch)
            self.accelerator.backward(output.loss / len(batches))
            loss += output.loss.item() / len(batches)
            correct, labels = correct + output.correct_tokens, labels + output.label_tokens
        if not math.isfinite(loss):
            raise NotFiniteError(f"step {self.progress.step}: loss is {loss}; lower lr or use fp32 (precision: fp32)")
        self.accelerator.clip_grad_norm_(self.trained, self.settings.max_grad_norm or math.inf)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return {"train_loss": loss, "train_token_accuracy": correct / max(1, labels)}

    def _validate(self, started: float, train_figures: dict[str, float] | None = None) -> None:
        self.model.eval()
        figures = {**(train_figures or {}), **self.validate(), "lr": self.schedule.get_last_lr()[0]}
        self.progress.seconds = time.monotonic() - started
        if self.settings.monitor not in figures:
            raise CourseError(f"monitor: {self.settings.monitor!r} is not measured; choose from {', '.join(figures)}")
        value = figures[self.settings.monitor]
        floor = self.progress.best - self.settings.min_delta
        self.progress.stale_validations = 0 if value < floor else self.progress.stale_validations + 1
        self.log.append({"step": self.progress.step, "epoch": self.progress.epoch, "seconds": round(self.progress.seconds, 1)})
        self.log[-1].update({name: round(number, 6) for name, number in figures.items()})
        self._append_to_log_file()
        self.accelerator.log(figures, step=self.progress.step)
        self.watch(self.progress.step, figures)
        if value < self.progress.best:
            self.progress.best = value
            self.progress.best_step = self.progress.step
            weights = trainable_weights(self.accelerator.unwrap_model(self.model))
            self._best_weights = {name: weight.clone() for name, weight in weights.items()}
        # Killed in between, the state has the best weights, and `_mend_best` writes their file.
        self.save_checkpoint()
        if self.progress.best_step == self.progress.step:
            self._save(BEST_NAME)

    def _report(self, batch: Any, started: float) -> None:
        """Print where the training stands, with seconds a step since the last such line."""
        interval, step = self.settings.report_interval, self.progress.step
        if not interval or step % interval or not self.describe or not self.accelerator.is_main_process:
            return
        now = time.monotonic() - started
        self.model.eval()
        figures = self.describe(batch)
        tqdm.write(f"[Step {step}/{self.total_steps}] {figures} | {(now - self._reported) / interval:.2f}s/step")
        self._reported = now

    def _keep_weights(self) -> bool:
        """Write weights under a name of their own every `checkpoint_freq` updates; whether it was time to.

        Before the state that counts this step as done: killed in between, the resumed run writes them again.
        """
        frequency, step = self.settings.checkpoint_freq, self.progress.step
        if not frequency or step % frequency:
            return False
        name = self.checkpoint_name.format(step=step)
        self._save(name)
        tqdm.write(f"Saved checkpoint: {name}")
        return True

    def _save(self, name: str) -> None:
        if self.accelerator.is_main_process:
            save_weights(trainable_weights(self.accelerator.unwrap_model(self.model)), self.run_folder / name)

    def _append_to_log_file(self) -> None:
        if self.accelerator.is_main_process:
            path = self.run_folder / "logs" / "train.log"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {json.dumps(self.log[-1])}\n")

    def _out_of_patience(self) -> bool:
        return 0 < self.settings.patience <= self.progress.stale_validations


def _make_accelerator(settings: TrainSettings, run_folder: Path) -> Accelerator:
    """Precision is the model's business (the projector stays in fp32), so Accelerate is told to leave it alone."""
    tracker = None if settings.tracker == "none" else settings.tracker
    accelerator = Accelerator(cpu=settings.device == "cpu", log_with=tracker, project_dir=run_folder, mixed_precision="no")
    if tracker:
        # TensorBoard takes numbers and text, and refuses lists.
        values = settings.model_dump().items()
        plain = {name: value if isinstance(value, int | float) else str(value) for name, value in values}
        accelerator.init_trackers("danish-asr", config=plain)
    return accelerator
