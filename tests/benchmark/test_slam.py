"""Plain and ours train on the same loss, each trick changes what it says and nothing else; how fast is never asked.

The models are tiny and have random weights, large enough that the loss tells one sound from another.
"""

import argparse
import json
import sys

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder as TransformersEncoder

from course_lib.benchmark import __main__ as command
from course_lib.benchmark import slam as benchmark_slam
from course_lib.benchmark.measure import StopWatch, peak_bytes
from course_lib.benchmark.slam import (
    OURS,
    STAGES,
    TRICKS,
    WAYS,
    PaddedWhisperEncoder,
    Way,
    compare,
    line_up,
    load_clips,
    make_ways,
    show,
    without,
)
from course_lib.config import load_config, replace
from course_lib.data.datasets import Example, load_examples
from course_lib.encoder.whisper import WhisperEncoder
from course_lib.slam.model import SlamASR
from course_lib.slam.projector import ConcatProjector
from course_lib.sound.audio import load_audio, save_wav
from course_lib.sound.mel import whisper_log_mel
from course_lib.systems import CONFIG_NAME, SHIPPED_SLAM, SlamConfig

CPU = torch.device("cpu")
ALL = frozenset(TRICKS)
FP32 = ALL - {"bf16"}
LIVE_FP32 = WAYS["live"] - {"bf16"}


@pytest.fixture(scope="module")
def config() -> SlamConfig:
    """The shipped config with a learning rate whose updates can be seen."""
    shipped = load_config(SHIPPED_SLAM / CONFIG_NAME, SlamConfig)
    return replace(shipped, lr=1e-2, weight_decay=0.1, num_threads=1, device="cpu", precision="bf16")


@pytest.fixture(scope="module")
def build(tiny_llm):
    """A maker of recognisers in some precision, always with the same weights."""

    def build(precision: str) -> SlamASR:
        ear = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "init_std": 0.2}
        writer = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "initializer_range": 0.2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "attn_implementation": "eager"}
        tokens = {"vocab_size": len(tiny_llm.tokenizer), "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 1}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            whisper = TransformersEncoder(WhisperConfig(num_mel_bins=80, max_source_positions=1500, **ear))
            projector = ConcatProjector(16, 32, k=2, hidden_dim=24, dropout=0.1)
            llm = Qwen2ForCausalLM(Qwen2Config(**writer, **heads, **tokens))
        return SlamASR(WhisperEncoder(whisper, precision), projector, llm, tiny_llm.tokenizer, precision=precision)

    return build


@pytest.fixture
def make_way(build, config):
    """A maker of ways that share the models of one recogniser in fp32."""
    slam = build("fp32")
    return lambda tricks, examples: Way(slam, frozenset(tricks), examples, config)


@pytest.fixture(scope="module")
def clips() -> list[Example]:
    return load_examples("data/audio/asr.csv", "dev", 3)


@pytest.fixture(scope="module")
def long_clips(tmp_path_factory) -> list[Example]:
    """Two clips of exactly 30 s: nothing to pad."""
    folder, examples = tmp_path_factory.mktemp("long"), []
    for number, text in enumerate(("det er godt", "nej tak")):
        noise = torch.rand(30 * 16_000, generator=torch.Generator().manual_seed(number)) - 0.5
        examples.append(Example(folder / f"{number}.wav", text))
        save_wav(examples[-1].path, noise * torch.linspace(0.1, 1, len(noise)))
    return examples


def loss_and_gradients(way: Way) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Of a step without its update, with the same dropout every time."""
    torch.manual_seed(1)
    loss = way.forward(StopWatch(STAGES, CPU))
    loss.backward()
    gradients = [parameter.grad.clone() for parameter in way.slam.projector.parameters()]
    way.optimizer.zero_grad()
    return loss.detach(), gradients


def assert_same_training(way: Way, other: Way, rtol: float) -> None:
    """Same loss and same gradients, up to so much of the largest one."""
    (loss, gradients), (other_loss, other_gradients) = loss_and_gradients(way), loss_and_gradients(other)
    torch.testing.assert_close(loss, other_loss, rtol=rtol, atol=0)
    for mine, theirs in zip(gradients, other_gradients, strict=True):
        assert theirs.abs().max() > 0
        assert (mine - theirs).abs().max() < rtol * theirs.abs().max()


@pytest.mark.parametrize("trick", ["logits at label positions", "no checkpointing"])
def test_full_logits_and_checkpointing_change_neither_loss_nor_gradients(make_way, clips, trick):
    assert_same_training(make_way(FP32, clips), make_way(FP32 - {trick}, clips), rtol=1e-5)


def test_stored_features_train_like_live_ones_but_for_their_rounding_to_fp16(make_way, clips):
    cached, live = make_way(FP32, clips), make_way(LIVE_FP32, clips)
    assert_same_training(cached, live, rtol=2e-2)
    assert loss_and_gradients(cached)[0] != loss_and_gradients(live)[0]


def test_the_plain_way_and_ours_have_the_same_loss_where_there_is_nothing_to_pad(make_way, long_clips):
    assert_same_training(make_way(WAYS["plain"], long_clips), make_way(LIVE_FP32, long_clips), rtol=1e-4)


def test_padding_changes_what_is_heard(make_way, clips):
    """The counterpart of the test above: it would notice."""
    losses = [loss_and_gradients(make_way(tricks, clips))[0] for tricks in (WAYS["plain"], LIVE_FP32)]
    assert abs(losses[0] - losses[1]) > 1e-2


def test_padded_features_are_those_of_transformers(build, clips):
    waveform, slam = load_audio(clips[0].path), build("fp32")
    encoder = PaddedWhisperEncoder(slam.encoder.whisper)
    log_mel = whisper_log_mel(waveform, pad_to_30_seconds=True)
    torch.testing.assert_close(encoder.log_mel(waveform), log_mel, atol=1e-5, rtol=0)
    features = encoder.encode_waveform(waveform)
    assert features.shape == (1500, 16)
    torch.testing.assert_close(features, slam.encoder.whisper(log_mel.T[None]).last_hidden_state[0], rtol=1e-5, atol=1e-5)
    assert encoder.mel_recipe.key != slam.encoder.mel_recipe.key
    assert encoder.fingerprint == slam.encoder.fingerprint


@pytest.mark.parametrize("stored", [{"stored features"}, set()])
def test_without_variable_length_every_clip_has_1500_rows(make_way, clips, stored):
    padded, variable = (make_way(tricks | stored, clips).features(StopWatch(STAGES, CPU)) for tricks in (set(), {TRICKS[0]}))
    assert [len(clip) for clip in padded] == [1500] * 3
    assert [len(clip) for clip in variable] == [(len(load_audio(clip.path)) // 160 + 1) // 2 for clip in clips]


def test_only_a_way_that_checkpoints_computes_layers_twice(make_way, clips):
    ours, checkpointed = make_way(FP32, clips), make_way(FP32 - {"no checkpointing"}, clips)
    seen = []
    # Before it, not after: the second time nobody needs what comes out of it, and checkpointing stops inside.
    ours.slam.llm.model.layers[0].mlp.register_forward_pre_hook(lambda *_: seen.append("mlp"))
    counts = []
    for way in (ours, checkpointed, ours):
        seen.clear()
        loss_and_gradients(way)
        counts.append(len(seen))
    assert counts == [1, 2, 1]


def test_each_length_gets_the_attention_that_suits_it(make_way, clips):
    ways = make_way(FP32, clips), make_way(WAYS["plain"], clips)
    llm, used = ways[0].slam.llm, []
    for way in (*ways, ways[0]):
        loss_and_gradients(way)
        used.append(llm.config._attn_implementation)
    assert used == ["eager", "sdpa", "eager"]


def test_only_full_logits_ask_for_more_than_the_labels(make_way, clips):
    seen = []
    for tricks in (FP32, FP32 - {"logits at label positions"}):
        way = make_way(tricks, clips)
        handle = way.slam.llm.lm_head.register_forward_hook(lambda _module, _inputs, logits: seen.append(logits.shape))
        loss_and_gradients(way)
        handle.remove()
    labels = sum(len(way.slam.answer_ids(clip.text)) for clip in clips)
    assert seen[0] == (labels, way.slam.llm.config.vocab_size)
    assert (seen[1][0], len(seen[1])) == (3, 3)
    assert seen[1].numel() > 3 * seen[0].numel()


def test_an_encoder_runs_in_every_live_step_and_in_no_cached_one(make_way, clips):
    cached, live = make_way(FP32, clips), make_way(LIVE_FP32, clips)
    runs = []
    live.slam.encoder.whisper.layers[0].register_forward_hook(lambda *_: runs.append(1))
    cached.step()
    assert not runs
    live.step()
    live.step()
    assert len(runs) == 2


@pytest.mark.parametrize("tricks", [WAYS["plain"], FP32])
def test_a_step_is_an_ordinary_update_of_the_projector_alone(build, config, clips, tricks):
    mine, ordinary = (Way(build("fp32"), tricks, clips, config) for _ in range(2))
    torch.manual_seed(1)
    seconds = mine.step()
    _, gradients = loss_and_gradients(ordinary)
    projector = ordinary.slam.projector
    for parameter, gradient in zip(projector.parameters(), gradients, strict=True):
        parameter.grad = gradient
    torch.nn.utils.clip_grad_norm_(projector.parameters(), config.max_grad_norm)
    torch.optim.AdamW(projector.parameters(), lr=1e-2, weight_decay=0.1).step()
    untouched = build("fp32").state_dict()
    for (name, found), expected in zip(mine.slam.state_dict().items(), ordinary.slam.state_dict().values(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(found, untouched[name]) != name.startswith("projector")
    assert all(parameter.grad is None for parameter in mine.slam.parameters())
    assert tuple(seconds) == STAGES
    assert (seconds["log-mel"] > 0) == ("stored features" not in tricks)
    assert min(seconds[stage] for stage in STAGES[1:]) > 0


def test_a_turn_is_the_mean_of_as_many_steps_as_fill_its_time(make_way, clips, monkeypatch):
    way = make_way(FP32, clips)
    taken = iter([0.5, 0.1, 0.6, 9.0, 9.0])
    monkeypatch.setattr(way, "step", lambda: dict.fromkeys(STAGES, next(taken)))
    assert [*way.turn(5.5)] == [dict.fromkeys(STAGES, pytest.approx(0.4))]
    assert [*way.turn(0.0)] == [dict.fromkeys(STAGES, 9.0)]


def test_plain_has_no_trick_and_each_of_ours_is_left_out_once():
    assert (WAYS["plain"], WAYS["cached"] - WAYS["live"], WAYS["cached"]) == (frozenset(), {"stored features"}, ALL)
    ways = line_up()
    assert len(set(ways.values())) == len(ways) == 3 + 4 + 4
    for name in OURS:
        assert set(without(name)) == WAYS[name]
        for trick, less in without(name).items():
            assert WAYS[name] - ways[less] == {trick}
            assert ways[less] < WAYS[name]
    assert without("cached")["stored features"] == "live"
    assert without("live")["bf16"] == "live without bf16"


def test_each_way_gets_its_precision_and_its_encoder(build, config, clips):
    exact, quick = build("fp32"), build("bf16")
    for name, way in make_ways(exact, quick, clips, config).items():
        tricks = line_up()[name]
        source = quick if "bf16" in tricks else exact
        assert way.slam.precision == way.slam.encoder.precision == source.precision
        assert way.slam.llm is source.llm
        assert way.slam.projector is source.projector
        assert isinstance(way.slam.encoder, PaddedWhisperEncoder) == ("variable length" not in tricks)
        assert (way.store is not None) == ("stored features" in tricks)


def invented() -> tuple[dict, dict]:
    """Every way takes one second a stage, but for three; memory likewise."""
    times = {name: [dict.fromkeys(STAGES, 1.0)] * 2 for name in line_up()}
    times["plain"] = [dict.fromkeys(STAGES, 20.0), dict.fromkeys(STAGES, 30.0)]
    times["cached"] = [dict.fromkeys(STAGES, 0.5), dict.fromkeys(STAGES, 0.25)]
    times["cached without bf16"] = [dict.fromkeys(STAGES, 0.75)] * 2
    peaks = dict.fromkeys(line_up(), 50_000_000)
    return times, peaks | {"plain": 400_000_000, "cached": 40_000_000}


def test_figures_come_from_the_best_rounds():
    found = compare(*invented())
    assert (found["plain_seconds"], found["live_seconds"], found["cached_seconds"]) == (100.0, 5.0, 1.25)
    assert (found["plain_peak_mb"], found["live_peak_mb"], found["cached_peak_mb"]) == (400.0, 50.0, 40.0)
    assert (found["live_speedup"], found["cached_speedup"]) == (20.0, 80.0)
    assert found["cached_speedup_of_rounds"] == [40.0, 120.0]
    assert found["cached_speedup_in_fp32"] == pytest.approx(100 / 3.75)
    assert (found["live_memory_ratio"], found["cached_memory_ratio"]) == (8.0, 10.0)
    assert found["cached_times_slower_without"] == dict.fromkeys(TRICKS, 4.0) | {"bf16": 3.0}
    assert found["cached_times_larger_without"] == dict.fromkeys(TRICKS, 1.25)
    assert found["live_times_slower_without"] == dict.fromkeys(set(TRICKS) - {"stored features"}, 1.0)
    assert found["shares"]["plain"] == dict.fromkeys(STAGES, 0.2)


@pytest.mark.parametrize("measured", [True, False])
def test_the_table_shows_every_figure(measured):
    times, peaks = invented()
    table = show(8, compare(times, peaks if measured else dict.fromkeys(peaks, None)))
    memory = ("400 MB", "50 MB", "40 MB", "10.0 ×", "4.0 ×, 1.2 ×") if measured else ("not measured",)
    for figure in ("training step, 8 clips", "100.000", "1.250", "80.0 ×", "40.0 to 120.0 ×", "26.7 ×", *memory, *TRICKS):
        assert figure in table
    assert ("MB" in table) == measured
    assert len({len(line) for line in table.splitlines()}) == 1


def test_the_shipped_clips_make_a_batch_of_any_size():
    clips = load_clips(62)
    assert [clip.split for clip in clips] == ["train"] * 20 + ["dev"] * 20 + ["test"] * 20 + ["train"] * 2
    assert clips[60:] == clips[:2]
    defaults = argparse.ArgumentParser()
    benchmark_slam.add_arguments(defaults)
    assert defaults.parse_args([]).batch_size == 8


@pytest.fixture
def tiny(monkeypatch, build, config, clips) -> None:
    """The subcommand on two clips and tiny models, a step a turn."""
    monkeypatch.setattr(benchmark_slam, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(benchmark_slam, "load_config", lambda *_: config)
    monkeypatch.setattr(benchmark_slam, "shipped_slam", lambda config: build(config.precision))
    monkeypatch.setattr(benchmark_slam, "load_clips", lambda count: clips[:count])


def test_the_subcommand_prints_one_json_object(monkeypatch, capsys, tiny):
    monkeypatch.setattr(sys, "argv", "benchmark slam --json --batch-size 2 --rounds 1".split())
    command.main()
    found = json.loads(capsys.readouterr().out)
    assert (found["device"], found["threads"], found["batch_size"], found["our_precision"]) == ("cpu", 1, 2, "bf16")
    assert 0 < found["mean_seconds"] < found["longest_seconds"] < 4
    assert all(found[f"{name}_seconds"] > 0 for name in WAYS)
    for name in OURS:
        assert found[f"{name}_speedup"] == found["plain_seconds"] / found[f"{name}_seconds"]
        assert set(found[f"{name}_times_slower_without"]) == set(found[f"{name}_times_larger_without"]) == WAYS[name]
    assert {f"{name}_peak_mb" for name in WAYS} <= set(found)
    assert all(sum(found["shares"][name].values()) == pytest.approx(1) for name in WAYS)


def test_the_subcommand_prints_a_table(monkeypatch, capsys, tiny):
    measured = []
    monkeypatch.setattr(benchmark_slam, "figures", lambda ways, rounds: measured.append(rounds) or compare(*invented()))
    monkeypatch.setattr(sys, "argv", "benchmark slam --batch-size 2 --rounds 5".split())
    command.main()
    printed = capsys.readouterr().out
    assert printed.startswith("1 threads on cpu, torch")
    assert "ours in bf16" in printed
    assert "training step, 2 clips" in printed
    assert measured == [5]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory a process needed at most")
def test_thirty_seconds_need_more_memory(make_way, clips):
    ways = make_way(WAYS["plain"], clips), make_way(FP32, clips)
    peaks = [peak_bytes((way.step() for _ in range(2)), CPU) for way in ways]
    assert peaks[0] > 2 * peaks[1]
