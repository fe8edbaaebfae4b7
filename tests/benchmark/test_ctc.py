"""Plain and ours train Stage B on the same clips, and each trick can be left out; how fast is never asked."""

import argparse
import math

import pytest
import torch
from torch import nn

from course_lib.benchmark import ctc as benchmark_ctc
from course_lib.benchmark.ctc import TRICKS, PlainRecogniser, WaveformStore, make_setups
from course_lib.benchmark.measure import TrainingSetup, measure
from course_lib.config import CONFIG_FOLDER, load_config, replace
from course_lib.ctc.recogniser import CONFIG_NAME, StageBConfig
from course_lib.data.datasets import load_examples, log_mel_examples
from course_lib.encoder.tiny import ByteDropout
from course_lib.sound.audio import load_audio
from course_lib.sound.mel import ctc_log_mel
from course_lib.text.vocabulary import CharVocabulary

BOTH = ("plain", "ours")


@pytest.fixture(scope="module")
def config() -> StageBConfig:
    """The shipped config, much smaller."""
    shipped = load_config(CONFIG_FOLDER / CONFIG_NAME, StageBConfig)
    return replace(shipped, d_model=12, n_layers=1, n_heads=3, d_ff=16, num_threads=1, precision="bf16")


@pytest.fixture
def setups(monkeypatch, config: StageBConfig) -> dict[str, TrainingSetup]:
    """Three batches of four out of five clips, so that some come again."""
    monkeypatch.setattr(benchmark_ctc, "load_config", lambda *_: config)
    monkeypatch.setattr(benchmark_ctc, "load_clips", lambda _: load_examples("data/audio/asr.csv", "dev", 5))
    _, setups = make_setups(argparse.Namespace(clips=5, batch_sizes=[4], steps=3, device="cpu", each=True))
    return setups[4]


def test_both_see_the_same_clips_in_as_many_batches(setups):
    assert setups["plain"].steps == setups["ours"].steps == 3
    epochs = [[next(setups[name].batches) for _ in range(3)] for name in BOTH]
    plain, ours = (sorted(text for batch in epoch for text in batch.texts) for epoch in epochs)
    assert plain == ours
    assert len(set(plain)) == 5
    assert [len(batch.texts) for epoch in epochs for batch in epoch] == [4] * 6


def test_stored_and_recomputed_log_mels_are_the_same_but_for_rounding():
    clips = load_examples("data/audio/asr.csv", "dev", 2)
    stored, recomputed = log_mel_examples(clips), WaveformStore(clips)
    torch.testing.assert_close(recomputed[0], ctc_log_mel(load_audio(clips[0].path)), atol=1e-5, rtol=0)
    assert recomputed.counts == stored.counts
    torch.testing.assert_close(stored[0], recomputed[0], atol=4e-3, rtol=1e-3)


def test_our_batches_hold_clips_of_similar_length(setups):
    def padding(setup: TrainingSetup) -> int:
        lengths = [[len(log_mel) for log_mel in next(setup.batches).features] for _ in range(setup.steps)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in lengths)

    assert padding(setups["ours"]) < padding(setups["plain"])
    assert padding(setups["ours without batches by length"]) == padding(setups["plain"])


@pytest.mark.parametrize("name", BOTH)
def test_both_compute_the_loss_of_a_beginner(setups, name: str):
    """Untrained, a model says log(31) a frame; there are more frames than symbols, and many paths."""
    batch = next(setups[name].batches)
    frames, labels = sum(len(log_mel) for log_mel in batch.features) / 4, sum(len(text) for text in batch.texts)
    assert 1 < setups[name].loss(batch).item() < 3 * math.log(31) * frames / labels


def test_plain_pads_to_the_longest_clip_and_the_padding_is_not_read(config: StageBConfig, setups):
    batch = next(setups["plain"].batches)
    longest = max(len(load_audio(clip.path)) // 160 for clip in benchmark_ctc.load_clips(5))
    seen, losses = [], []
    for frames in (longest, longest + 40):
        torch.manual_seed(0)
        model = PlainRecogniser(config, CharVocabulary(), frames).eval()
        model.front_end.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape))
        losses.append(model(batch).loss)
    assert seen == [(4, 1, longest, 128), (4, 1, longest + 40, 128)]
    assert setups["plain"].model.longest == longest
    # Other frames behind the last real one reach it through the convolutions only, and a batch's longest is padded in both.
    torch.testing.assert_close(losses[0], losses[1], rtol=0.02, atol=0)


def test_each_trick_can_be_left_out(setups):
    def dropouts(setup: TrainingSetup) -> tuple[int, int]:
        modules = [*setup.model.modules()]
        return tuple(sum(isinstance(module, kind) for module in modules) for kind in (ByteDropout, nn.Dropout))

    whole, less = setups["ours"], {trick: setups[f"ours without {trick}"] for trick in TRICKS}
    assert isinstance(setups["plain"].model, PlainRecogniser)
    assert (whole.model.enc.precision, less["bf16"].model.enc.precision) == ("bf16", "fp32")
    assert (dropouts(whole), dropouts(less["dropout from bytes"])) == ((2, 0), (0, 2))
    assert [setup.optimizer.defaults["fused"] for setup in (whole, less["fused optimiser"], setups["plain"])] == [1, 0, 0]
    stored, recomputed = (next(setup.batches).features[0] for setup in (whole, less["stored log-mels"]))
    assert not torch.equal(stored, recomputed)
    torch.testing.assert_close(stored, recomputed, atol=4e-3, rtol=1e-3)


def test_both_can_be_measured(setups):
    found = measure({name: setups[name] for name in BOTH}, 1, torch.device("cpu"))
    assert found["ours"]["speedup"] == pytest.approx(found["plain"]["seconds"] / found["ours"]["seconds"])


def test_0_clips_are_the_shipped_ones():
    assert len(benchmark_ctc.load_clips(0)) == 60
