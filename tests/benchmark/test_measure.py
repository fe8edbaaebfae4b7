"""The benchmark's arithmetic and its parts, on invented seconds and models of a few numbers; how fast is never asked."""

import argparse
import itertools
import json
import math
import sys

import pytest
import torch
from torch import nn

from course_lib.benchmark import __main__ as command
from course_lib.benchmark import ctc as benchmark_ctc
from course_lib.benchmark import measure
from course_lib.benchmark.ctc import BOTH, STAGES, TRICKS, Contest, PlainRecogniser, compare, figures, show, training_step
from course_lib.benchmark.measure import StopWatch, best_round, peak_bytes, take_turns, total
from course_lib.config import CONFIG_FOLDER, load_config, replace
from course_lib.ctc.recogniser import CONFIG_NAME, StageBConfig
from course_lib.data.datasets import load_examples
from course_lib.encoder.tiny import ByteDropout
from course_lib.sound.audio import load_audio
from course_lib.sound.mel import ctc_log_mel
from course_lib.text.vocabulary import CharVocabulary

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config() -> StageBConfig:
    """The shipped config, much smaller."""
    shipped = load_config(CONFIG_FOLDER / CONFIG_NAME, StageBConfig)
    return replace(shipped, d_model=12, n_layers=1, n_heads=3, d_ff=16, num_threads=1, precision="bf16")


@pytest.fixture(scope="module")
def contest(config: StageBConfig) -> Contest:
    """Three batches of four out of five clips, so that some come again."""
    return Contest(config, load_examples("data/audio/asr.csv", "dev", 5), batch_size=4, steps=3, device="cpu")


def stages(*seconds: float) -> dict[str, float]:
    return {stage: float(taken) for stage, taken in zip(STAGES, seconds, strict=True)}


def test_a_stop_watch_books_the_time_between_laps(monkeypatch):
    times = iter([10.0, 11.0, 13.0, 17.0])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(times))
    watch = StopWatch(("mel", "encoder", "unused"), CPU)
    for stage in ("encoder", "mel", "encoder"):
        watch.lap(stage)
    assert watch.seconds == {"mel": 2.0, "encoder": 5.0, "unused": 0.0}


def test_ways_take_turns_and_the_first_round_does_not_count():
    order, costs = [], itertools.count(1)

    def way(name: str):
        def steps():
            for step in range(2):
                order.append(f"{name}{step}")
                yield {"work": float(next(costs))}

        return steps

    found = take_turns({"a": way("a"), "b": way("b")}, rounds=2)
    assert order == ["a0", "b0", "a1", "b1"] * 3
    # The warm-up has 1 to 4; then a gets 5 and 7, b gets 6 and 8, and so on.
    assert found == {"a": [{"work": 6.0}, {"work": 10.0}], "b": [{"work": 7.0}, {"work": 11.0}]}


def test_ways_of_different_length_are_no_contest():
    with pytest.raises(ValueError, match="shorter"):
        take_turns({"a": lambda: iter([{"work": 1.0}] * 2), "b": lambda: iter([{"work": 1.0}])}, rounds=1)


def test_the_best_round_has_the_smallest_total():
    quick = stages(0.0, 2.0, 0.5, 0.5)
    assert best_round([stages(1, 1, 1, 1), quick, stages(0, 3, 0, 1)]) is quick
    assert total(quick) == 3.0


def test_ratio_and_shares_come_from_the_best_rounds():
    times = {
        "plain": [stages(2, 6, 1, 1), stages(4, 6, 1, 1)],
        "ours": [stages(0, 3, 0, 1), stages(0, 1, 0.5, 0.5)],
        "bf16": [stages(0, 1, 1, 1), stages(9, 9, 9, 9)],
    }
    found = compare(times)
    assert (found["plain_seconds"], found["ours_seconds"], found["ratio"]) == (10.0, 2.0, 5.0)
    assert found["ratio_of_rounds"] == [2.5, 6.0]
    assert found["steps_per_second"] == {"plain": 0.1, "ours": 0.5}
    assert found["shares"]["plain"] == {"mel": 0.2, "encoder": 0.6, "loss": 0.1, "optimiser": 0.1}
    assert found["shares"]["ours"] == {"mel": 0.0, "encoder": 0.5, "loss": 0.25, "optimiser": 0.25}
    assert found["times_slower_without"] == {"bf16": 1.5}


def test_the_table_shows_every_figure():
    found = compare({name: [stages(0.1, 0.3, 0.05, 0.05)] for name in BOTH}) | {"plain_peak_bytes": 123_400_000}
    table = show(8, found | {"ours_peak_bytes": None})
    for figure in ("training step, 8 clips", "0.500", "2.0", "123 MB", "not measured", "20%", "60%", "10%", "1.0 ×"):
        assert figure in table
    assert len({len(line) for line in table.splitlines()}) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory a process needed at most")
def test_peak_memory_is_that_of_the_largest_step():
    megabyte, pins = 2**20, []

    def steps():
        for size in (1, 50, 20):
            # Small pieces, freed below one that stays: the C library keeps them, and the next step must not profit.
            pieces = [torch.ones(megabyte // 40) for _ in range(10 * size)]
            pins.append(torch.ones(64))
            del pieces
            yield

    # Twice: the second time finds the memory of the first.
    for _ in range(2):
        assert 48 * megabyte < peak_bytes(steps(), CPU) < 60 * megabyte


def test_where_nothing_can_tell_the_peak_is_unknown():
    assert peak_bytes(iter([]), torch.device("mps")) is None


def test_both_ways_see_the_same_clips(contest: Contest):
    ours, plain = contest.ours().batches, contest.plain().batches
    seen = [sorted(text for batch in batches(0) for text in batch.texts) for batches in (ours, plain)]
    assert seen[0] == seen[1]
    assert [len(batch.texts) for batch in ours(0)] == [len(batch.texts) for batch in plain(0)] == [4, 4, 4]
    assert len(set(seen[0])) == 5


def test_stored_and_recomputed_log_mels_are_the_same_but_for_rounding(contest: Contest):
    path = load_examples("data/audio/asr.csv", "dev", 1)[0].path
    torch.testing.assert_close(contest.recomputed[0], ctc_log_mel(load_audio(path)), atol=1e-5, rtol=0)
    assert contest.recomputed.counts == contest.stored.counts
    torch.testing.assert_close(contest.stored[0], contest.recomputed[0], atol=4e-3, rtol=1e-3)


def test_our_batches_hold_clips_of_similar_length(contest: Contest):
    def padding(way: benchmark_ctc.Way) -> int:
        lengths = [[len(log_mel) for log_mel in batch.features] for batch in way.batches(0)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in lengths)

    assert padding(contest.ours()) < padding(contest.plain())
    assert padding(contest.ours("batches by length")) == padding(contest.plain())


@pytest.mark.parametrize("kind", BOTH)
def test_both_ways_compute_the_loss_of_a_beginner(contest: Contest, kind: str):
    """Untrained, a model says log(31) a frame; there are more frames than symbols, and many paths."""
    way = getattr(contest, kind)()
    output = way.model(next(way.batches(0)))
    frames = sum(len(log_mel) for log_mel in next(way.batches(0)).features) / 4
    assert 1 < output.loss.item() < 3 * math.log(31) * frames / output.label_tokens


def test_the_plain_way_pads_to_the_longest_clip_and_the_padding_is_not_read(config: StageBConfig, contest: Contest):
    batch = next(contest.plain().batches(0))
    seen, losses = [], []
    for longest in (contest.longest, contest.longest + 40):
        torch.manual_seed(0)
        model = PlainRecogniser(config, CharVocabulary(), longest).eval()
        model.front_end.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape))
        losses.append(model(batch).loss)
    assert seen == [(4, 1, contest.longest, 128), (4, 1, contest.longest + 40, 128)]
    # Other frames behind the last real one reach it through the convolutions only, and a batch's longest is padded in both.
    torch.testing.assert_close(losses[0], losses[1], rtol=0.02, atol=0)


@pytest.mark.parametrize("kind", BOTH)
def test_a_cut_step_trains_like_an_ordinary_one(contest: Contest, kind: str):
    torch.manual_seed(0)
    cut, whole = getattr(contest, kind)(), getattr(contest, kind)()
    whole.model.load_state_dict(cut.model.state_dict())
    before = nn.utils.parameters_to_vector(cut.model.parameters()).detach().clone()
    torch.manual_seed(1)
    seconds = training_step(cut, cut.batches(0))
    torch.manual_seed(1)
    whole.model(next(whole.batches(0))).loss.backward()
    nn.utils.clip_grad_norm_(whole.model.parameters(), whole.max_grad_norm)
    whole.optimizer.step()
    assert tuple(seconds) == STAGES
    assert min(seconds.values()) > 0
    assert all(parameter.grad is None for parameter in cut.model.parameters())
    mine, theirs = (nn.utils.parameters_to_vector(way.model.parameters()) for way in (cut, whole))
    assert (mine - theirs).norm() < 1e-3 * (theirs - before).norm()  # two sums of the same may differ in their last bits


def test_each_trick_can_be_left_out(contest: Contest):
    def dropouts(way: benchmark_ctc.Way, kind: type) -> int:
        return sum(isinstance(module, kind) for module in way.model.modules())

    whole, changed = contest.ours(), {trick: contest.ours(trick) for trick in TRICKS}
    assert whole.model.enc.precision == "bf16"
    assert changed["bf16"].model.enc.precision == "fp32"
    assert (dropouts(whole, ByteDropout), dropouts(whole, nn.Dropout)) == (2, 0)
    assert (dropouts(changed["dropout from bytes"], ByteDropout), dropouts(changed["dropout from bytes"], nn.Dropout)) == (0, 2)
    assert changed["stored log-mels"].batches.features.datasets[0] is contest.recomputed
    assert whole.batches.features.datasets[0] is contest.stored
    fused = [way.optimizer.defaults["fused"] for way in (whole, changed["fused optimiser"], contest.plain())]
    assert fused == [True, False, False]


def test_figures_at_one_batch_size(contest: Contest):
    found = figures(contest, rounds=1, each=True)
    assert set(found["times_slower_without"]) == set(TRICKS)
    assert found["ratio"] == found["plain_seconds"] / found["ours_seconds"]
    assert all(sum(found["shares"][name].values()) == pytest.approx(1) for name in BOTH)
    assert show(4, found)


def tiny(monkeypatch: pytest.MonkeyPatch, config: StageBConfig) -> None:
    monkeypatch.setattr(benchmark_ctc, "load_config", lambda *_: config)
    monkeypatch.setattr(benchmark_ctc, "load_clips", lambda _: load_examples("data/audio/asr.csv", "dev", 3))


def test_the_subcommand_prints_one_json_object(monkeypatch, capsys, config: StageBConfig):
    tiny(monkeypatch, config)
    monkeypatch.setattr(sys, "argv", "benchmark ctc --json --batch-sizes 1 2 --steps 2 --rounds 1".split())
    command.main()
    found = json.loads(capsys.readouterr().out)
    assert (found["device"], found["clips"], found["our_precision"]) == ("cpu", 3, "bf16")
    assert set(found["batch_sizes"]) == {"1", "2"}
    assert set(found["batch_sizes"]["1"]) == {
        *("plain_seconds", "ours_seconds", "ratio", "ratio_of_rounds", "steps_per_second"),
        *("plain_peak_bytes", "ours_peak_bytes", "shares", "times_slower_without"),
    }


def test_the_subcommand_prints_tables(monkeypatch, capsys, config: StageBConfig):
    tiny(monkeypatch, config)
    monkeypatch.setattr(sys, "argv", "benchmark ctc --batch-sizes 2 --steps 1 --rounds 1".split())
    command.main()
    printed = capsys.readouterr().out
    assert printed.startswith("1 threads on cpu, torch")
    assert "training step, 2 clips" in printed


def test_without_a_subcommand_the_parts_are_measured(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(measure, "measure", lambda clips: asked.append(clips) or [("log-mel", "7 × real time")])
    for line in ("benchmark", "benchmark --speech-clips 5"):
        monkeypatch.setattr(sys, "argv", line.split())
        command.main()
    assert asked == [600, 5]
    assert capsys.readouterr().out.splitlines()[1] == f"{'log-mel':45} {'7 × real time':>18}"


def test_by_default_400_clips_are_spoken_and_0_takes_the_shipped_ones(monkeypatch):
    defaults = argparse.ArgumentParser()
    benchmark_ctc.add_arguments(defaults)
    asked = []
    monkeypatch.setattr(benchmark_ctc, "load_examples", lambda *what: asked.append(what) or [])
    benchmark_ctc.load_clips(defaults.parse_args([]).clips)
    assert asked == [("synthetic", "train-clean", 400)]
    monkeypatch.undo()
    clips = benchmark_ctc.load_clips(0)
    assert sorted({example.split for example in clips}) == ["dev", "test", "train"]
    assert len(clips) == 60
