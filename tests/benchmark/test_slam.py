"""Plain and ours train on the same loss, each trick changes what it says and nothing else; how fast is never asked.

The models are tiny and have random weights, large enough that the loss tells one sound from another.
"""

import argparse
import sys

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder as TransformersEncoder

from course_lib.benchmark import slam as benchmark_slam
from course_lib.benchmark.measure import TrainingSetup, peak_bytes
from course_lib.benchmark.slam import CACHED, LIVE, TRICKS, encode_padded, load_clips, make_setup, make_setups, variants
from course_lib.config import load_config, replace
from course_lib.data.datasets import Example, load_examples
from course_lib.encoder.whisper import WhisperEncoder
from course_lib.slam.model import SlamASR
from course_lib.slam.projector import ConcatProjector
from course_lib.sound.audio import load_audio, save_wav
from course_lib.sound.mel import whisper_log_mel
from course_lib.systems import CONFIG_NAME, SHIPPED_SLAM, SlamConfig

PLAIN = frozenset()
CACHED_FP32, LIVE_FP32 = CACHED - {"bf16"}, LIVE - {"bf16"}


@pytest.fixture(scope="module")
def config() -> SlamConfig:
    """The shipped config with a learning rate whose updates can be seen."""
    shipped = load_config(SHIPPED_SLAM / CONFIG_NAME, SlamConfig)
    return replace(shipped, lr=1e-2, weight_decay=0.1, num_threads=1, device="cpu", precision="bf16")


@pytest.fixture(scope="module")
def slam(tiny_llm) -> SlamASR:
    """A recogniser of random weights; setups train copies of its projector."""
    ear = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "init_std": 0.2}
    writer = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "initializer_range": 0.2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "attn_implementation": "eager"}
    tokens = {"vocab_size": len(tiny_llm.tokenizer), "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whisper = TransformersEncoder(WhisperConfig(num_mel_bins=80, max_source_positions=1500, **ear))
        projector = ConcatProjector(16, 32, k=2, hidden_dim=24, dropout=0.1)
        llm = Qwen2ForCausalLM(Qwen2Config(**writer, **heads, **tokens))
    return SlamASR(WhisperEncoder(whisper), projector, llm, tiny_llm.tokenizer, precision="fp32")


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


@pytest.fixture
def setup_of(slam, config):
    """A maker of setups."""
    return lambda tricks, examples: make_setup(slam, frozenset(tricks), examples, config)


def loss_and_gradients(setup: TrainingSetup) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Of a step without its update, with the same dropout every time."""
    torch.manual_seed(1)
    loss = setup.loss(next(setup.batches))
    loss.backward()
    gradients = [parameter.grad.clone() for parameter in setup.model.projector.parameters()]
    setup.optimizer.zero_grad()
    return loss.detach(), gradients


def assert_same_training(setup: TrainingSetup, other: TrainingSetup, rtol: float) -> None:
    """Same loss and same gradients, up to so much of the largest one."""
    (loss, gradients), (other_loss, other_gradients) = loss_and_gradients(setup), loss_and_gradients(other)
    torch.testing.assert_close(loss, other_loss, rtol=rtol, atol=0)
    for mine, theirs in zip(gradients, other_gradients, strict=True):
        assert theirs.abs().max() > 0
        assert (mine - theirs).abs().max() < rtol * theirs.abs().max()


@pytest.mark.parametrize("trick", ["logits at label positions", "no checkpointing"])
def test_full_logits_and_checkpointing_change_neither_loss_nor_gradients(setup_of, clips, trick):
    assert_same_training(setup_of(CACHED_FP32, clips), setup_of(CACHED_FP32 - {trick}, clips), rtol=1e-5)


def test_stored_features_train_like_live_ones_but_for_their_rounding_to_fp16(setup_of, clips):
    cached, live = setup_of(CACHED_FP32, clips), setup_of(LIVE_FP32, clips)
    assert_same_training(cached, live, rtol=2e-2)
    assert loss_and_gradients(cached)[0] != loss_and_gradients(live)[0]


def test_plain_and_ours_have_the_same_loss_where_there_is_nothing_to_pad(setup_of, long_clips):
    assert_same_training(setup_of(PLAIN, long_clips), setup_of(LIVE_FP32, long_clips), rtol=1e-4)


def test_padding_changes_what_is_heard(setup_of, clips):
    """The counterpart of the test above: it would notice."""
    losses = [loss_and_gradients(setup_of(tricks, clips))[0] for tricks in (PLAIN, LIVE_FP32)]
    assert abs(losses[0] - losses[1]) > 1e-2


def test_padded_features_are_those_of_transformers(slam, clips):
    waveform = load_audio(clips[0].path)
    features = encode_padded(slam, [waveform])[0]
    assert features.shape == (1500, 16)
    expected = slam.encoder.whisper(whisper_log_mel(waveform, pad_to_30_seconds=True).T[None]).last_hidden_state[0]
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stored", [{"stored features"}, set()])
def test_without_variable_length_every_clip_has_1500_rows(setup_of, clips, stored):
    padded, variable = (next(setup_of(tricks | stored, clips).batches) for tricks in (set(), {"variable length"}))
    assert [len(clip) for clip in padded.features] == [1500] * 3
    assert [len(clip) for clip in variable.features] == [(len(load_audio(clip.path)) // 160 + 1) // 2 for clip in clips]


def test_only_a_setup_that_checkpoints_computes_layers_twice(setup_of, clips):
    counts = []
    for tricks in (CACHED_FP32, CACHED_FP32 - {"no checkpointing"}):
        setup, seen = setup_of(tricks, clips), []
        # Before it, not after: the second time nobody needs what comes out of it, and checkpointing stops inside.
        setup.model.llm.model.layers[0].mlp.register_forward_pre_hook(lambda *_, seen=seen: seen.append("mlp"))
        loss_and_gradients(setup)
        counts.append(len(seen))
    assert counts == [1, 2]


def test_only_full_logits_ask_for_more_than_the_labels(setup_of, clips):
    seen = []
    for tricks in (CACHED_FP32, CACHED_FP32 - {"logits at label positions"}):
        setup = setup_of(tricks, clips)
        setup.model.llm.lm_head.register_forward_hook(lambda _module, _inputs, logits: seen.append(logits.shape))
        loss_and_gradients(setup)
    assert seen[0] == (sum(len(setup.model.answer_ids(clip.text)) for clip in clips), setup.model.llm.config.vocab_size)
    assert (seen[1][0], len(seen[1])) == (3, 3)
    assert seen[1].numel() > 3 * seen[0].numel()


def test_an_encoder_runs_in_every_live_step_and_in_no_cached_one(slam, setup_of, clips):
    cached, live = setup_of(CACHED_FP32, clips), setup_of(LIVE_FP32, clips)
    next(cached.batches)
    runs = []
    handle = slam.encoder.whisper.layers[0].register_forward_hook(lambda *_: runs.append(1))
    cached.step()
    assert not runs
    live.step()
    live.step()
    handle.remove()
    assert len(runs) == 2 * len(clips)


@pytest.mark.parametrize("tricks", [PLAIN, CACHED_FP32])
def test_a_step_is_an_ordinary_update_of_the_projector_alone(slam, setup_of, config, clips, tricks):
    mine, ordinary = setup_of(tricks, clips), setup_of(tricks, clips)
    torch.manual_seed(1)
    mine.step()
    _, gradients = loss_and_gradients(ordinary)
    projector = ordinary.model.projector
    for parameter, gradient in zip(projector.parameters(), gradients, strict=True):
        parameter.grad = gradient
    torch.nn.utils.clip_grad_norm_(projector.parameters(), config.max_grad_norm)
    torch.optim.AdamW(projector.parameters(), lr=1e-2, weight_decay=0.1).step()
    untouched = slam.state_dict()
    for (name, found), expected in zip(mine.model.state_dict().items(), ordinary.model.state_dict().values(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(found, untouched[name]) != name.startswith("projector")


def test_each_setup_gets_its_precision_and_its_attention(setup_of, clips):
    for tricks in (PLAIN, CACHED_FP32, LIVE, CACHED):
        model = setup_of(tricks, clips).model
        assert model.precision == model.encoder.precision == ("bf16" if "bf16" in tricks else "fp32")
        assert model.llm.config._attn_implementation == ("eager" if tricks else "sdpa")


def test_plain_has_no_trick_and_each_of_ours_is_left_out_once():
    assert variants("fp32", each=False) == {"plain": PLAIN, "live fp32": LIVE_FP32, "cached fp32": CACHED_FP32}
    with_bf16 = variants("bf16", each=False)
    assert with_bf16 == variants("fp32", each=False) | {"live bf16": LIVE, "cached bf16": CACHED}
    less = {name: tricks for name, tricks in variants("bf16", each=True).items() if name not in with_bf16}
    assert len(less) == len(LIVE) + len(CACHED)
    for name, tricks in less.items():
        whole, trick = name.split(" without ")
        assert with_bf16[whole] - tricks == {trick}
    assert set(TRICKS) == CACHED


def test_the_shipped_clips_make_a_batch_of_any_size():
    clips = load_clips(62)
    assert [clip.split for clip in clips] == ["train"] * 20 + ["dev"] * 20 + ["test"] * 20 + ["train"] * 2
    assert clips[60:] == clips[:2]


def test_the_subcommand_says_which_attention_it_measures(monkeypatch, slam, config, clips):
    monkeypatch.setattr(benchmark_slam, "load_config", lambda *_: config)
    monkeypatch.setattr(benchmark_slam, "shipped_slam", lambda _: slam)
    monkeypatch.setattr(benchmark_slam, "load_clips", lambda count: clips[:count])
    facts, setups = make_setups(argparse.Namespace(batch_size=2, device="cpu", each=False))
    assert facts["attention"] == "plain sdpa, ours eager"
    assert list(setups[2]) == list(variants("bf16", each=False))
    assert len(next(setups[2]["plain"].batches).texts) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory a process needed at most")
def test_thirty_seconds_need_more_memory(setup_of, clips):
    peaks = [peak_bytes(setup_of(tricks, clips).step, torch.device("cpu")) for tricks in (PLAIN, CACHED_FP32)]
    assert peaks[0] > 2 * peaks[1]
