"""The training loop on a model of a few numbers: every update, every stop and every file can be checked by hand."""

import itertools
import json
import math
import random

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from course_lib.config import ConfigError, build_config
from course_lib.systems import SlamConfig
from course_lib.training import trainer as trainer_module
from course_lib.training.checkpoints import CheckpointError, load_state, trainable_weights
from course_lib.training.settings import TrainSettings, learning_rate_factor
from course_lib.training.step import StepOutput
from course_lib.training.trainer import Trainer


class Line(nn.Module):
    """A frozen layer with a buffer, then a trained one: the smallest thing shaped like SLAM-ASR."""

    def __init__(self, dropout=0.0, seed=0):
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.register_buffer("scale", torch.tensor(2.0))
        self.dropout = nn.Dropout(dropout)
        torch.manual_seed(seed)
        self.trained = nn.Linear(3, 1)

    def forward(self, batch):
        inputs, targets = batch
        outputs = self.trained(self.dropout(self.scale * self.frozen(inputs)))
        return StepOutput(F.mse_loss(outputs, targets), len(inputs) // 2, len(inputs))


def make_data(clips=32):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(clips, 3, generator=generator), torch.randn(clips, 1, generator=generator)


class Batches:
    """The data in batches, in another order every epoch."""

    def __init__(self, batch_size=8, shuffled=True):
        self.batch_size, self.shuffled, (self.inputs, self.targets) = batch_size, shuffled, make_data()

    def __call__(self, epoch):
        order = list(range(len(self.inputs)))
        if self.shuffled:
            random.Random(epoch).shuffle(order)
        for start in range(0, len(order), self.batch_size):
            indices = order[start : start + self.batch_size]
            yield self.inputs[indices], self.targets[indices]

    def __len__(self):
        return len(self.inputs) // self.batch_size


def scripted(*values):
    """A validation that gives these figures one after the other, and the last one for ever."""
    following = itertools.chain(values, itertools.repeat(values[-1]))
    return lambda: {"wer": next(following)}


def settings(**changes):
    usual = {"batch_size": 8, "gradient_accumulation_steps": 1, "num_epochs": 2, "warmup_steps": 0, "lr": 0.05}
    return TrainSettings(**usual | {"validation_interval": 2, "num_threads": 1, "device": "cpu"} | changes)


def make_trainer(folder, model=None, batches=None, validate=None, **changes):
    batches = batches or Batches()
    length = len(batches) if hasattr(batches, "__len__") else 4
    return Trainer(model or Line(), batches, length, validate or scripted(0.5), settings(**changes), folder)


def watch_updates(trainer, look):
    """What `look(optimizer)` sees just before every update."""
    seen = []
    inner = trainer.optimizer.optimizer
    inner.register_step_pre_hook(lambda *_: seen.append(look(inner)))
    return seen


def test_training_lowers_the_loss(tmp_path):
    model, batches = Line(), Batches(batch_size=32, shuffled=False)
    batch = next(batches(0))
    before = model(batch).loss.item()
    make_trainer(tmp_path, model, batches, num_epochs=20, validate=lambda: {"wer": model(batch).loss.item()}).fit()
    assert model(batch).loss.item() < 0.8 * before


def gradients(optimizer):
    return torch.cat([p.grad.flatten() for group in optimizer.param_groups for p in group["params"]])


def test_four_small_batches_are_one_large_one(tmp_path):
    models, seen = (Line(), Line()), []
    sizes = [{"batch_size": 2, "gradient_accumulation_steps": 4}, {"batch_size": 8, "gradient_accumulation_steps": 1}]
    for model, size in zip(models, sizes, strict=True):
        batches = Batches(size["batch_size"], shuffled=False)
        trainer = make_trainer(tmp_path / str(size["batch_size"]), model, batches, max_grad_norm=0.0, **size)
        seen.append(watch_updates(trainer, gradients))
        assert trainer.fit().step == trainer.total_steps == 8
    # AdamW forgives gradients of the wrong size, so these are compared too
    torch.testing.assert_close(torch.stack(seen[0]), torch.stack(seen[1]), rtol=0, atol=1e-5)
    assert not torch.allclose(models[0].trained.weight, Line().trained.weight, atol=1e-2)
    torch.testing.assert_close(models[0].trained.weight, models[1].trained.weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(models[0].trained.bias, models[1].trained.bias, rtol=0, atol=1e-6)


class WeighedLine(Line):
    """As many label tokens as a batch's first clip says, as sentences have; the loss is a mean over them."""

    def forward(self, batch):
        inputs, targets = batch
        outputs = self.trained(self.scale * self.frozen(inputs))
        tokens = 1 + (3 * inputs[:, 0].abs()).long()
        squared = ((outputs - targets).square().squeeze(1) * tokens).sum()
        return StepOutput(squared / tokens.sum(), 0, int(tokens.sum()))


def test_eight_times_four_is_thirty_two_only_with_equally_many_label_tokens(tmp_path):
    """The guide's 8 × 4: with sentences of different lengths it is the mean of four means, and that is said in `_step`."""
    seen = {}
    for model, equal in ((Line(), True), (WeighedLine(), False)):
        for size, steps in ((8, 4), (32, 1)):
            batches = Batches(size, shuffled=False)
            changes = {
                "batch_size": size,
                "gradient_accumulation_steps": steps,
                "num_epochs": 1,
                "max_grad_norm": 0.0,
                "lr": 1e-9,
            }
            trainer = make_trainer(tmp_path / f"{equal} {size}", model, batches, **changes)
            seen[equal, size] = watch_updates(trainer, gradients)
            assert trainer.fit().step == trainer.total_steps == 1
    torch.testing.assert_close(seen[True, 8][0], seen[True, 32][0], rtol=0, atol=1e-5)
    assert not torch.allclose(seen[False, 8][0], seen[False, 32][0], rtol=0.01)
    parts, counts = [], []
    model = WeighedLine()
    for batch in Batches(8, shuffled=False)(0):
        model.zero_grad()
        output = model(batch)
        output.loss.backward()
        parts.append(torch.cat([model.trained.weight.grad.flatten(), model.trained.bias.grad]))
        counts.append(output.label_tokens)
    mean_of_means = torch.stack(parts).mean(dim=0)
    weighed = sum(part * count for part, count in zip(parts, counts, strict=True)) / sum(counts)
    torch.testing.assert_close(seen[False, 8][0], mean_of_means, rtol=0, atol=1e-4)
    torch.testing.assert_close(seen[False, 32][0], weighed, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("max_steps", "made"), [(0, 12), (3, 3), (4, 4), (7, 7), (100, 12)])
def test_max_steps_end_a_training_and_the_rate_is_planned_for_them(tmp_path, max_steps, made):
    """Three epochs of four updates each: in the middle of an epoch, at its end, or not at all."""
    trainer = make_trainer(tmp_path, num_epochs=3, max_steps=max_steps, validation_interval=100)
    rates = watch_updates(trainer, lambda optimizer: optimizer.param_groups[0]["lr"])
    assert trainer.fit().step == len(rates) == trainer.total_steps == made
    expected = [0.05 * learning_rate_factor(step, 0, made) for step in range(made)]
    assert rates == pytest.approx(expected)
    [last] = json.loads((tmp_path / "training_log.json").read_text(encoding="utf-8"))
    assert (last["step"], last["lr"]) == (made, 0.0)
    again = make_trainer(tmp_path, num_epochs=3, max_steps=max_steps, validation_interval=100)
    again.resume()
    assert again.fit().step == made


def test_a_group_too_small_for_an_update_is_left_out(tmp_path):
    trainer = make_trainer(tmp_path, gradient_accumulation_steps=3, num_epochs=2)
    updates = watch_updates(trainer, lambda optimizer: 1)
    assert trainer.fit().step == len(updates) == trainer.total_steps == 2


def test_too_few_batches_for_a_single_update_are_refused_with_advice(tmp_path):
    with pytest.raises(ValueError, match="4 batches an epoch, 5 needed for one update; lower batch_size"):
        make_trainer(tmp_path, gradient_accumulation_steps=5)


def test_gradients_are_clipped_to_the_norm_that_is_set(tmp_path):
    free = make_trainer(tmp_path / "free", max_grad_norm=0.0)
    clipped = make_trainer(tmp_path / "clipped", max_grad_norm=0.1)
    free_norms, clipped_norms = (
        watch_updates(trainer, lambda optimizer: float(gradients(optimizer).norm())) for trainer in (free, clipped)
    )
    free.fit(), clipped.fit()
    assert min(free_norms) > 0.2
    assert clipped_norms == pytest.approx([0.1] * 8, rel=1e-3)


def test_the_rate_warms_up_in_a_line_and_comes_down_in_half_a_cosine():
    factors = [learning_rate_factor(step, 4, 20) for step in range(21)]
    assert factors[:5] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert factors[12] == pytest.approx(0.5)
    assert factors[8] == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert factors[20] == pytest.approx(0.0)
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[4:]))
    assert learning_rate_factor(25, 4, 20) == pytest.approx(0.0)
    assert learning_rate_factor(0, 0, 20) == 1.0


def test_a_constant_rate_warms_up_and_stays():
    assert [learning_rate_factor(step, 4, 20, "constant") for step in (0, 1, 4, 5, 19, 30)] == [0.0, 0.25, 1.0, 1.0, 1.0, 1.0]


def test_every_update_runs_at_the_rate_of_the_schedule(tmp_path):
    trainer = make_trainer(tmp_path, warmup_steps=3, lr=0.05)
    rates = watch_updates(trainer, lambda optimizer: optimizer.param_groups[0]["lr"])
    trainer.fit()
    assert rates == pytest.approx([0.05 * learning_rate_factor(step, 3, 8) for step in range(8)])
    constant = make_trainer(tmp_path / "constant", warmup_steps=3, lr=0.05, schedule="constant")
    rates = watch_updates(constant, lambda optimizer: optimizer.param_groups[0]["lr"])
    constant.fit()
    muon = make_trainer(tmp_path / "muon", warmup_steps=3, lr=0.05, optimizer="muon")
    both = watch_updates(muon, lambda optimizer: [group["lr"] for part in optimizer.parts for group in part.param_groups])
    muon.fit()
    assert [pair[0] for pair in both] == pytest.approx([0.05 * learning_rate_factor(step, 3, 8) for step in range(8)])
    assert all(matrices == others for matrices, others in both)
    assert rates == pytest.approx([0.05 * factor for factor in (0, 1 / 3, 2 / 3, 1, 1, 1, 1, 1)])


def test_frozen_weights_get_no_optimizer_state_and_do_not_move(tmp_path):
    model = Line()
    frozen = {name: tensor.clone() for name, tensor in model.state_dict().items() if "trained" not in name}
    trainer = make_trainer(tmp_path, model, weight_decay=0.5)
    trainer.fit()
    in_optimizer = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in in_optimizer} == {id(p) for p in model.trained.parameters()}
    assert {id(p) for p in trainer.optimizer.state} == {id(p) for p in model.trained.parameters()}
    assert set(frozen) == {"frozen.weight", "frozen.bias", "scale"}
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in frozen.items())
    assert not torch.equal(model.trained.weight, Line().trained.weight)
    assert all(p.grad is None for p in model.frozen.parameters())


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "validations", "best", "best_step"),
    [
        # no gain at all: the first validation counts as one, then patience runs out
        ((0.5, 0.5, 0.5), 2, 0.0, 3, 0.5, 1),
        # a gain resets the patience
        ((0.5, 0.75, 0.25, 0.75, 0.75), 2, 0.0, 5, 0.25, 3),
        # a gain of exactly min_delta is not more than min_delta
        ((0.5, 0.375, 0.25), 2, 0.125, 3, 0.25, 3),
        # gains of more than min_delta go on and on
        ((0.75, 0.5, 0.25, 0.0, 0.0, 0.0), 2, 0.125, 6, 0.0, 4),
        # a small gain does not reset the patience and is still kept as the best
        ((0.5, 0.4375, 0.5), 2, 0.125, 3, 0.4375, 2),
        # and it is the new mark to beat
        ((0.5, 0.4375, 0.375, 0.375), 3, 0.09375, 4, 0.375, 3),
        # a patience of 0 lasts for ever: here, for 50 epochs of 4 updates
        ((0.5, 0.5), 0, 0.0, 200, 0.5, 1),
    ],
)
def test_training_stops_when_the_patience_is_used_up(tmp_path, values, patience, min_delta, validations, best, best_step):
    trainer = make_trainer(
        tmp_path,
        validate=scripted(*values),
        num_epochs=50,
        validation_interval=1,
        patience=patience,
        min_delta=min_delta,
    )
    progress = trainer.fit()
    assert len(trainer.log) == progress.step == validations
    assert (progress.best, progress.best_step) == (best, best_step)


def test_the_progress_bar_ends_with_the_best_of_the_last_validation(tmp_path, capsys):
    """Asked for seldom, the bar must not stand for ever at what was true one validation ago."""
    trainer = make_trainer(tmp_path, validate=scripted(0.9, 0.5, 0.25, 0.5), num_epochs=50, validation_interval=1, patience=1)
    assert trainer.fit().step == 4
    last = capsys.readouterr().err.split("\r")[-1]
    assert "4/200" in last
    assert "best=0.2500" in last
    trainer = make_trainer(tmp_path / "once", validate=scripted(0.9, 0.5), num_epochs=1, validation_interval=2)
    trainer.fit()
    assert "best=0.5000" in capsys.readouterr().err.split("\r")[-1]


def test_a_curve_that_creeps_is_stopped_and_its_last_gain_kept(tmp_path):
    """Half a point of WER wanted, 0.4 points gained each time: every gain is the new mark to beat, so none is enough."""
    curve = [0.300, 0.296, 0.292, 0.288, 0.284, 0.280]
    for min_delta, validations in ((0.005, 4), (0.003, 6)):
        trainer = make_trainer(
            tmp_path / str(min_delta),
            validate=scripted(*curve),
            num_epochs=3,
            validation_interval=2,
            patience=3,
            min_delta=min_delta,
        )
        progress = trainer.fit()
        assert [entry["wer"] for entry in trainer.log] == curve[:validations]
        assert progress.best == curve[validations - 1]


def test_a_stale_count_is_resumed_with_the_run(tmp_path):
    """Two stale validations before the break and one after it are three."""

    def run_with(validate, epochs, resume=False):
        trainer = make_trainer(tmp_path, validate=validate, num_epochs=epochs, patience=3, min_delta=0.0, schedule="constant")
        if resume:
            trainer.resume()
        return trainer.fit()

    assert run_with(scripted(0.5, 0.625, 0.75, 0.25), 1).stale_validations == 1
    progress = run_with(scripted(0.75, 0.75, 0.25), 9, resume=True)
    assert (progress.stale_validations, progress.step, progress.best, progress.best_step) == (3, 8, 0.5, 2)


def test_without_early_stopping_all_epochs_are_run(tmp_path):
    trainer = make_trainer(tmp_path, validate=scripted(0.5), num_epochs=3, patience=100)
    progress = trainer.fit()
    assert (progress.step, progress.epoch) == (12, 3)


def remember_weights(model, values):
    """A scripted validation that also keeps a copy of the weights it was asked about."""
    kept, next_figures = [], scripted(*values)

    def validate():
        assert not model.training
        kept.append(model.trained.weight.detach().clone())
        return next_figures()

    return kept, validate


def test_the_model_ends_with_its_best_weights(tmp_path):
    model = Line()
    kept, validate = remember_weights(model, (0.9, 0.1, 0.5, 0.5))
    make_trainer(tmp_path, model, validate=validate).fit()
    assert len(kept) == 4
    assert torch.equal(model.trained.weight, kept[1])
    assert not torch.equal(kept[1], kept[3])


def test_the_last_update_is_validated_even_between_two_intervals(tmp_path):
    trainer = make_trainer(tmp_path, num_epochs=1, validation_interval=3)
    trainer.fit()
    assert [entry["step"] for entry in trainer.log] == [3, 4]


class Broken(Batches):
    """Batches that break off, like a machine that is switched off in the second epoch."""

    def __call__(self, epoch):
        for number, batch in enumerate(super().__call__(epoch)):
            if (epoch, number) == (1, 3):
                raise KeyboardInterrupt
            yield batch


def loss_on_data(model):
    return lambda: {"wer": model(make_data()).loss.item()}


def run(folder, batches, model=None, resume=False):
    model = model or Line(dropout=0.5)
    trainer = make_trainer(
        folder, model, batches, loss_on_data(model), num_epochs=3, validation_interval=3, lr=0.01, patience=99
    )
    if resume:
        trainer.resume()
    trainer.fit()
    return trainer, model


def test_a_resumed_run_is_the_run_that_never_stopped(tmp_path):
    whole, whole_model = run(tmp_path / "whole", Batches())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", Broken())
    torch.manual_seed(99)
    resumed, resumed_model = run(tmp_path / "broken", Batches(), Line(dropout=0.5, seed=7), resume=True)
    state, other = (load_state(tmp_path / name / "training_state.pt") for name in ("whole", "broken"))
    assert torch.equal(resumed_model.trained.weight, whole_model.trained.weight)
    assert torch.equal(state["random"]["torch"], other["random"]["torch"])
    assert state["optimizer"]["state"][0]["step"] == other["optimizer"]["state"][0]["step"] == 12
    assert torch.equal(state["optimizer"]["state"][0]["exp_avg_sq"], other["optimizer"]["state"][0]["exp_avg_sq"])
    assert all(torch.equal(state["weights"][name], weight) for name, weight in other["weights"].items())
    without_time = [[entry | {"seconds": 0} for entry in trainer.log] for trainer in (whole, resumed)]
    assert without_time[0] == without_time[1]
    assert [entry["step"] for entry in resumed.log] == [3, 6, 9, 12]


def test_a_finished_run_is_not_trained_further(tmp_path):
    trainer, model = run(tmp_path, Batches())
    weights = model.trained.weight.clone()
    resumed, other = run(tmp_path, Batches(), Line(dropout=0.5, seed=7), resume=True)
    assert resumed.progress.step == trainer.progress.step == 12
    assert torch.equal(other.trained.weight, weights)


def test_one_file_is_all_that_resume_needs(tmp_path):
    whole, _ = run(tmp_path / "whole", Batches())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", Broken())
    assert make_trainer(tmp_path / "broken").has_checkpoint()
    (tmp_path / "moved").mkdir()
    (tmp_path / "broken" / "training_state.pt").rename(tmp_path / "moved" / "training_state.pt")
    assert not make_trainer(tmp_path / "broken").has_checkpoint()
    resumed, _ = run(tmp_path / "moved", Batches(), Line(dropout=0.5, seed=7), resume=True)
    last, expected = (load_state(tmp_path / name / "training_state.pt")["weights"] for name in ("moved", "whole"))
    assert all(torch.equal(last[name], weight) for name, weight in expected.items())
    assert json.loads((tmp_path / "moved" / "training_log.json").read_text()) == resumed.log
    assert [entry["step"] for entry in resumed.log] == [entry["step"] for entry in whole.log]


def test_weights_of_another_model_are_not_resumed(tmp_path):
    make_trainer(tmp_path).fit()
    other = Line()
    other.trained = nn.Linear(3, 2)
    with pytest.raises(
        ValueError, match=r"training_state.pt does not fit the configured model\n  trained.bias: \(1,\) in the file"
    ):
        make_trainer(tmp_path, other).resume()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("place", [1, 2, 4, 5, 6, 7, 11, 12])
def test_a_run_that_breaks_after_any_update_is_resumed_to_the_same_weights(tmp_path, place, optimizer):
    """Checkpoints come every 2 updates, validations every 3: some states are saved by the one, some by the other."""

    def run_until(folder, last, model, resume=False):
        batches = Batches()
        given = itertools.count()

        def breaking(epoch):
            for batch in batches(epoch):
                if next(given) == last:
                    raise KeyboardInterrupt
                yield batch

        trainer = Trainer(
            model,
            breaking,
            4,
            loss_on_data(model),
            settings(num_epochs=3, validation_interval=3, checkpoint_freq=2, lr=0.01, patience=99, optimizer=optimizer),
            folder,
        )
        if resume:
            trainer.resume()
        trainer.fit()

    whole, model = Line(dropout=0.5), Line(dropout=0.5)
    run_until(tmp_path / "whole", None, whole)
    if place < 12:
        with pytest.raises(KeyboardInterrupt):
            run_until(tmp_path / "broken", place, model)
    else:
        run_until(tmp_path / "broken", place, model)
    if place == 1:
        assert not (tmp_path / "broken" / "training_state.pt").exists()
        return
    torch.manual_seed(99)
    run_until(tmp_path / "broken", None, resumed := Line(dropout=0.5, seed=7), resume=True)
    assert torch.equal(resumed.trained.weight, whole.trained.weight)
    names = {file.name for file in (tmp_path / "whole").glob("*.safetensors")}
    assert names == {"best.safetensors", *(f"step_{step}.safetensors" for step in (2, 4, 6, 8, 10, 12))}
    assert all((tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes() for name in names)


def test_checkpoints_are_kept_under_the_name_and_with_the_weights_of_their_step(tmp_path, capsys):
    model = Line()
    seen = []
    trainer = make_trainer(tmp_path, model, checkpoint_freq=3, num_epochs=2)
    trainer.checkpoint_name = "kept_{step}.safetensors"
    watch_updates(trainer, lambda optimizer: seen.append(model.trained.weight.detach().clone()))
    trainer.fit()
    assert {file.name for file in tmp_path.glob("*.safetensors")} == {
        "kept_3.safetensors",
        "kept_6.safetensors",
        "best.safetensors",
    }
    # what the fourth update began with is what the third one made
    assert torch.equal(load_file(tmp_path / "kept_3.safetensors")["trained.weight"], seen[3])
    assert "Saved checkpoint: kept_6.safetensors" in capsys.readouterr().out


def test_without_a_checkpoint_freq_only_the_best_weights_are_kept(tmp_path):
    make_trainer(tmp_path).fit()
    assert [file.name for file in tmp_path.glob("*.safetensors")] == ["best.safetensors"]


def test_a_checkpoint_knows_how_long_the_training_took_so_far(tmp_path, monkeypatch):
    clock = itertools.count(100.0, 10.0)
    monkeypatch.setattr(trainer_module.time, "monotonic", lambda: next(clock))
    stored = []

    def validate():
        stored.append(load_state(tmp_path / "training_state.pt")["progress"]["seconds"])
        return {"wer": 0.5}

    make_trainer(tmp_path, validate=validate, checkpoint_freq=1, validation_interval=100, num_epochs=1).fit()
    # the clock moves 10 s whenever it is asked: at the start, and for each of four checkpoints
    assert stored == [40.0]


def test_a_line_is_printed_every_report_interval_with_the_seconds_of_one_step(tmp_path, monkeypatch, capsys):
    clock, described = itertools.count(0.0, 3.0), []
    monkeypatch.setattr(trainer_module.time, "monotonic", lambda: next(clock))
    model, batches = Line(dropout=0.5), Batches()

    def describe(batch):
        described.append((model.training, len(batch[0])))
        return "loss=1"

    trainer = Trainer(
        model,
        batches,
        4,
        scripted(0.5),
        settings(report_interval=2, validation_interval=100, num_epochs=2),
        tmp_path,
        describe,
    )
    trainer.fit()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    # the clock moves 3 s whenever it is asked: once a line, so 1.5 s a step
    assert lines == [f"[Step {step}/8] loss=1 | 1.50s/step" for step in (2, 4, 6, 8)]
    assert described == [(False, 8)] * 4


def test_a_watcher_hears_of_every_update_and_every_validation(tmp_path):
    heard = []
    chosen = settings(num_epochs=1, validation_interval=3)
    validate = scripted(0.5, 0.25)
    trainer = Trainer(
        Line(), Batches(), 4, validate, chosen, tmp_path, watch=lambda step, figures: heard.append((step, dict(figures)))
    )
    trainer.fit()
    assert [(step, "wer" in figures) for step, figures in heard] == [
        (1, False),
        (2, False),
        (3, False),
        (3, True),
        (4, False),
        (4, True),
    ]
    assert [figures["wer"] for _, figures in heard if "wer" in figures] == [0.5, 0.25]
    assert heard[2][1]["train_loss"] == heard[3][1]["train_loss"] > 0
    assert heard[3][1]["train_loss"] == pytest.approx(trainer.log[0]["train_loss"], abs=1e-5)


def test_printing_changes_nothing(tmp_path):
    models = [Line(dropout=0.5), Line(dropout=0.5)]
    for model, interval in zip(models, (0, 1), strict=True):
        chosen = settings(report_interval=interval, num_epochs=2)
        Trainer(model, Batches(), 4, scripted(0.5), chosen, tmp_path / str(interval), lambda batch: "figures").fit()
    assert torch.equal(models[0].trained.weight, models[1].trained.weight)


def test_what_a_killed_process_had_begun_to_write_is_cleared_away_and_never_read(tmp_path):
    whole, _ = run(tmp_path / "whole", Batches())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", Broken())
    for name in ("training_state.pt", "best.safetensors", "step_3.safetensors"):
        (tmp_path / "broken" / f".{name}.part").write_bytes(b"half a fi")
    resumed, _ = run(tmp_path / "broken", Batches(), Line(dropout=0.5, seed=7), resume=True)
    assert not [file for file in (tmp_path / "broken").iterdir() if file.name.startswith(".")]
    assert resumed.progress.best == whole.progress.best


def test_nothing_to_resume_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="nothing to resume; start without --resume"):
        make_trainer(tmp_path).resume()


def test_the_logs_say_what_happened_at_every_validation(tmp_path):
    trainer = make_trainer(tmp_path, validate=scripted(0.5, 0.25, 0.125, 0.0625))
    trainer.fit()
    log = json.loads((tmp_path / "training_log.json").read_text())
    assert log == trainer.log
    assert [(entry["step"], entry["epoch"], entry["wer"]) for entry in log] == [
        (2, 0, 0.5),
        (4, 0, 0.25),
        (6, 1, 0.125),
        (8, 1, 0.0625),
    ]
    assert [entry["lr"] for entry in log] == pytest.approx(
        [0.05 * learning_rate_factor(step, 0, 8) for step in (2, 4, 6, 8)], abs=1e-6
    )
    assert all(entry["train_token_accuracy"] == 0.5 and entry["train_loss"] > 0 for entry in log)
    lines = (tmp_path / "logs" / "train.log").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line.split(" ", 2)[2]) for line in lines] == log


def test_the_train_loss_in_the_log_is_the_mean_over_the_accumulated_batches(tmp_path):
    model, batches = Line(), Batches(shuffled=False)
    expected = sum(model(batch).loss.item() for batch in batches(0)) / 4
    trainer = make_trainer(tmp_path, model, batches, num_epochs=1, gradient_accumulation_steps=4, validation_interval=1)
    trainer.fit()
    assert trainer.log[0]["train_loss"] == pytest.approx(expected, abs=1e-5)


def test_a_log_survives_a_folder_that_was_emptied_between_two_runs(tmp_path):
    make_trainer(tmp_path / "run").fit()
    (tmp_path / "run").rename(tmp_path / "away")
    make_trainer(tmp_path / "run").fit()
    assert len((tmp_path / "run" / "logs" / "train.log").read_text().splitlines()) == 4


def test_a_loss_that_is_not_a_number_stops_before_the_weights_are_spoilt(tmp_path):
    model, batches = Line(), Batches()
    batches.inputs[5] = math.nan
    with pytest.raises(FloatingPointError, match=r"step \d+: loss is nan; lower lr or use fp32"):
        make_trainer(tmp_path, model, batches).fit()
    assert torch.isfinite(model.trained.weight).all()


def test_a_monitor_that_nobody_measures_is_named_with_the_choice(tmp_path):
    with pytest.raises(ValueError, match=r"monitor: 'wre' is not measured; choose from .*wer"):
        make_trainer(tmp_path, monitor="wre").fit()


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb"])
def test_a_tracker_that_is_not_installed_is_named_with_the_way_to_install_it(tmp_path, monkeypatch, tracker):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=f"{tracker} is not installed; pip install {tracker}, or set tracker: none"):
        make_trainer(tmp_path, tracker=tracker)


def test_a_tracker_gets_the_settings_and_the_figures_of_every_validation(tmp_path, monkeypatch):
    class Recorder(trainer_module.Accelerator):
        def __init__(self, log_with=None, **named):
            super().__init__(**named)
            self.log_with, self.asked_for, self.logged = [log_with], log_with, []

        def init_trackers(self, project, config):
            self.config = config

        def log(self, values, step):
            self.logged.append((step, values))

        def end_training(self):
            self.ended = True

    monkeypatch.setattr(trainer_module, "Accelerator", Recorder)
    monkeypatch.setattr(trainer_module, "refuse_settings", lambda settings: None)  # whether it is installed here or not
    config = SlamConfig(encoder_name="a", llm_name="b", data="c", **dict(settings(tracker="tensorboard")))
    trainer = Trainer(Line(), Batches(), 4, scripted(0.5, 0.25, 0.125, 0.0), config, tmp_path)
    trainer.fit()
    recorder = trainer.accelerator
    assert recorder.asked_for == "tensorboard"
    assert (recorder.config["lr"], recorder.config["prompt"]) == (0.05, config.prompt)
    # lists and None are what TensorBoard's own code refuses
    assert all(isinstance(value, int | float | str) for value in recorder.config.values())
    assert {"train_splits", "train_clips"} <= set(recorder.config)
    assert [(step, values["wer"]) for step, values in recorder.logged] == [(2, 0.5), (4, 0.25), (6, 0.125), (8, 0.0)]
    assert recorder.ended


def test_impossible_settings_are_all_named():
    names = "batch_size max_steps warmup_steps lr patience min_delta checkpoint_freq report_interval".split()
    wrong = dict.fromkeys(names, -1)
    with pytest.raises(ConfigError) as refusal:
        build_config(wrong, TrainSettings, "a.yaml")
    assert [line.split()[0] for line in str(refusal.value).splitlines()[1:-1]] == names
    with pytest.raises(ValueError, match="8 validation errors"):
        TrainSettings(**wrong)


def test_the_same_seed_gives_the_same_dropout(tmp_path):
    first, second = (run(tmp_path / name, Batches())[1] for name in ("first", "second"))
    assert torch.equal(first.trained.weight, second.trained.weight)


def test_saved_weights_are_those_that_are_trained(tmp_path):
    model = Line()
    make_trainer(tmp_path, model).fit()
    assert sorted(trainable_weights(model)) == ["trained.bias", "trained.weight"]
    assert {file.name for file in tmp_path.iterdir()} == {
        "best.safetensors",
        "training_state.pt",
        "training_log.json",
        "logs",
        "manifest.json",
    }


def test_named_weights_are_written_before_the_state_that_counts_their_step(tmp_path):
    """Killed in the validation of step 2, a run must not resume behind step 2 without its named weights."""

    def killed():
        raise KeyboardInterrupt

    trainer = make_trainer(tmp_path, validate=killed, checkpoint_freq=2, validation_interval=2)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert (tmp_path / "step_2.safetensors").is_file()
    assert not trainer.has_checkpoint()
