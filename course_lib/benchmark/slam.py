"""A training step of SLAM-ASR, ours beside the plain way: python -m course_lib.benchmark slam

Same clips, same models, one process, a turn of one way, then a turn of the next. The plain way pads every clip to 30 s, as
transformers' Whisper demands, computes log-mels and features anew in every step, asks the language model for logits at all
positions, checkpoints it, and computes in fp32. Each of these has its cure, the `TRICKS`: `plain` has none of them, `cached`
all, `live` all but the stored features, and each trick is also left out alone. All take AdamW: Muon's update is no trick.

Our tiny model has 512 tokens: its logits are cheap anywhere. Qwen2.5's 151,936 at 760 positions of 8 clips are 3.7 GB.
"""

import argparse
import dataclasses
import itertools
import json
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.benchmark.measure import Seconds, StopWatch, best_round, peak_bytes, take_turns, total
from course_lib.compute import Precision, autocast, resolve_precision
from course_lib.config import load_config, replace
from course_lib.data.batches import SpeechBatch
from course_lib.data.datasets import Example, encode_examples, load_examples, texts_of
from course_lib.encoder.base import Padded
from course_lib.encoder.whisper import WhisperEncoder
from course_lib.files import SHIPPED_CSV
from course_lib.slam.model import SlamASR
from course_lib.sound.audio import SAMPLE_RATE, load_audio
from course_lib.sound.mel import WHISPER_MEL_RECIPE, whisper_log_mel
from course_lib.systems import CONFIG_NAME, SHIPPED_SLAM, SlamConfig, build_slam
from course_lib.training.checkpoints import load_weights
from course_lib.training.optimizers import make_optimizer

HELP = "a training step of SLAM-ASR, ours beside the plain way"
TRICKS = ("variable length", "stored features", "logits at label positions", "no checkpointing", "bf16")
WAYS = {"plain": frozenset(), "live": frozenset(TRICKS) - {"stored features"}, "cached": frozenset(TRICKS)}
OURS = ("live", "cached")
STAGES = ("log-mel", "features", "forward", "backward", "optimiser")
TURN_SECONDS = 3.0
"""How long a turn lasts at least: the first quick step after a slow one finds the CPU's caches full of other things."""


class PaddedWhisperEncoder(WhisperEncoder):
    """Whisper as transformers runs it: every clip is padded to 30 s and becomes 1,500 rows, however short it is."""

    def __init__(self, whisper: nn.Module, precision: Precision = "fp32"):
        super().__init__(whisper, precision)
        # The name is part of the key under which features are stored, and these are other features.
        self.mel_recipe = dataclasses.replace(WHISPER_MEL_RECIPE, name="whisper-30-seconds")

    def log_mel(self, waveform: Float[Tensor, "samples"]) -> Float[Tensor, "frames bins"]:
        """Whisper's own recipe, after silence up to 30 s."""
        return whisper_log_mel(waveform, pad_to_30_seconds=True, bins=self.config.mel_bins)


class Way:
    """A way to train the projector of `slam` on one batch, by some of the `TRICKS`; ways may share the models of one `slam`."""

    def __init__(self, slam: SlamASR, tricks: frozenset[str], examples: list[Example], config: SlamConfig):
        encoder_type = WhisperEncoder if "variable length" in tricks else PaddedWhisperEncoder
        encoder = encoder_type(slam.encoder.whisper, slam.precision)
        self.slam = SlamASR(encoder, slam.projector, slam.llm, slam.tokenizer, config.prompt, slam.precision).to(slam.device)
        # On a CPU the fused kernel is quicker over the 760 positions of 30 s, and slower over the 100 of 3 s.
        self.attention = "eager" if "variable length" in tricks and slam.device.type == "cpu" else "sdpa"
        if "no checkpointing" not in tricks:
            with warnings.catch_warnings():
                # Newer releases of transformers call it "activation checkpointing"; this name they all know.
                warnings.simplefilter("ignore", FutureWarning)
                slam.llm.gradient_checkpointing_enable({"use_reentrant": False})
        self.tricks, self.texts, self.max_grad_norm = tricks, texts_of(examples), config.max_grad_norm
        self.waveforms = [load_audio(example.path) for example in examples]
        self.store = encode_examples(examples, encoder) if "stored features" in tricks else None
        self.optimizer = make_optimizer("adamw", slam.projector.parameters(), config.lr, config.weight_decay)

    def step(self) -> Seconds:
        """One update, as `Trainer` does it, and how long each stage of it took."""
        watch = StopWatch(STAGES, self.slam.device)
        loss = self.forward(watch)
        loss.backward()
        watch.lap("backward")
        nn.utils.clip_grad_norm_(self.slam.projector.parameters(), self.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        watch.lap("optimiser")
        return watch.seconds

    def turn(self, least_seconds: float) -> Iterator[Seconds]:
        """Steps until so many seconds have passed, at least one; yields their mean."""
        steps = [self.step()]
        while sum(map(total, steps)) < least_seconds:
            steps.append(self.step())
        yield {stage: sum(step[stage] for step in steps) / len(steps) for stage in STAGES}

    def forward(self, watch: StopWatch) -> Float[Tensor, ""]:
        """From sound, or from stored features, to the mean loss over the answer tokens."""
        self.slam.train()
        self.slam.llm.set_attn_implementation(self.attention)
        # A layer is checkpointed in training mode only. Our model has no dropout that this could wake.
        self.slam.llm.train("no checkpointing" not in self.tricks)
        batch = SpeechBatch(self.features(watch), self.texts)
        watch.lap("features")
        loss = self.slam(batch).loss if "logits at label positions" in self.tricks else self.loss_of_full_logits(batch)
        watch.lap("forward")
        return loss

    @torch.no_grad()
    def features(self, watch: StopWatch) -> list[Float[Tensor, "_frames features"]]:
        """The features of all clips, read from the store or computed now."""
        if self.store is not None:
            return [self.store[index] for index in range(len(self.store))]
        log_mels = [self.slam.encoder.log_mel(waveform) for waveform in self.waveforms]
        watch.lap("log-mel")
        features, counts = self.slam.encoder(*(tensor.to(self.slam.device) for tensor in Padded.of(log_mels)))
        return [clip[:count] for clip, count in zip(features, counts.tolist(), strict=True)]

    def loss_of_full_logits(self, batch: SpeechBatch) -> Float[Tensor, ""]:
        """transformers' own loss: logits at all positions, padding and sound included."""
        with autocast(self.slam.precision, self.slam.device):
            rows = self.slam.sequences(batch)
            mask = rows.attention_mask.long()
            return self.slam.llm(inputs_embeds=rows.embeddings, attention_mask=mask, labels=rows.labels, use_cache=False).loss


def line_up() -> dict[str, frozenset[str]]:
    """All ways that are measured, by name: `WAYS`, and ours with a trick less, such as "cached without bf16"."""
    less = {f"{name} without {trick}": WAYS[name] - {trick} for name in OURS for trick in TRICKS if trick in WAYS[name]}
    return WAYS | {name: tricks for name, tricks in less.items() if tricks not in WAYS.values()}


def without(name: str) -> dict[str, str]:
    """For each trick of one of our ways, the way that lacks only this one: cached without stored features is live."""
    names = {tricks: other for other, tricks in line_up().items()}
    return {trick: names[WAYS[name] - {trick}] for trick in TRICKS if trick in WAYS[name]}


def make_ways(exact: SlamASR, quick: SlamASR, examples: list[Example], config: SlamConfig) -> dict[str, Way]:
    """All ways of `line_up`; those without bf16 train `exact`, the recogniser in fp32."""
    return {name: Way(quick if "bf16" in tricks else exact, tricks, examples, config) for name, tricks in line_up().items()}


def figures(ways: dict[str, Way], rounds: int) -> dict[str, Any]:
    """Everything that is measured; memory in steps of its own, after the timed ones."""
    times = take_turns({name: partial(way.turn, TURN_SECONDS) for name, way in ways.items()}, rounds)
    peaks = {name: peak_bytes((way.step() for _ in range(1)), way.slam.device) for name, way in ways.items()}
    return compare(times, peaks)


def compare(times: dict[str, list[Seconds]], peaks: dict[str, int | None]) -> dict[str, Any]:
    """Seconds of the best rounds, peaks in megabytes, and how plain, live and cached compare."""
    best = {name: best_round(rounds) for name, rounds in times.items()}
    seconds = {name: total(stages) for name, stages in best.items()}
    found = {f"{name}_seconds": seconds[name] for name in WAYS}
    found |= {f"{name}_peak_mb": ratio(peaks[name], 1_000_000) for name in WAYS}
    for name in OURS:
        ratios = [total(plain) / total(ours) for plain, ours in zip(times["plain"], times[name], strict=True)]
        found |= {
            f"{name}_speedup": seconds["plain"] / seconds[name],
            f"{name}_speedup_of_rounds": [min(ratios), max(ratios)],
            f"{name}_speedup_in_fp32": seconds["plain"] / seconds[f"{name} without bf16"],
            f"{name}_memory_ratio": ratio(peaks["plain"], peaks[name]),
            f"{name}_times_slower_without": {trick: seconds[less] / seconds[name] for trick, less in without(name).items()},
            f"{name}_times_larger_without": {trick: ratio(peaks[less], peaks[name]) for trick, less in without(name).items()},
        }
    return found | {"shares": {name: {stage: best[name][stage] / seconds[name] for stage in STAGES} for name in WAYS}}


def ratio(amount: int | None, other: int | None) -> float | None:
    """Their quotient, or None where one was not measured."""
    return amount / other if amount is not None and other else None


def show(batch_size: int, found: dict[str, Any]) -> str:
    """The figures as lines for people."""
    peaks = [found[f"{name}_peak_mb"] for name in WAYS]
    rows = [
        (f"training step, {batch_size} clips", *WAYS),
        ("  seconds a step", *(f"{found[f'{name}_seconds']:.3f}" for name in WAYS)),
        ("  peak memory, models not counted", *("not measured" if peak is None else f"{peak:,.0f} MB" for peak in peaks)),
        *((f"  share of {stage}", *(f"{found['shares'][name][stage]:.0%}" for name in WAYS)) for stage in STAGES),
        ("  faster than plain", "", *(as_factor(found[f"{name}_speedup"]) for name in OURS)),
        ("  in single rounds", "", *("{:.1f} to {:.1f} ×".format(*found[f"{name}_speedup_of_rounds"]) for name in OURS)),
        ("  if ours is in fp32 too", "", *(as_factor(found[f"{name}_speedup_in_fp32"]) for name in OURS)),
        ("  less memory than plain", "", *(as_factor(found[f"{name}_memory_ratio"]) for name in OURS)),
        ("time and memory without", "", "", ""),
        *((f"  {trick}", "", *(cost(found, name, trick) for name in OURS)) for trick in TRICKS),
    ]
    return "\n".join(f"{name:35}{plain:>15}{live:>20}{cached:>20}" for name, plain, live, cached in rows)


def as_factor(factor: float | None) -> str:
    """A factor for people."""
    return "not measured" if factor is None else f"{factor:.1f} ×"


def cost(found: dict[str, Any], name: str, trick: str) -> str:
    """What leaving out a trick costs one of our ways; nothing to say where it never had it."""
    if trick not in WAYS[name]:
        return ""
    slower, larger = (found[f"{name}_times_{what}_without"][trick] for what in ("slower", "larger"))
    return f"{slower:.1f} ×" if larger is None else f"{slower:.1f} ×, {larger:.1f} ×"


def shipped_slam(config: SlamConfig) -> SlamASR:
    """The recogniser that comes with the course, in the precision of the config; `load_slam` has fp32 on every CPU."""
    slam = build_slam(replace(config, num_beams=1, ctc_weight=0.0))
    load_weights(slam, SHIPPED_SLAM / "best.safetensors")
    return slam


def load_clips(count: int) -> list[Example]:
    """The first so many of the shipped clips, those for training first; after the last it starts over."""
    examples = [example for split in ("train", "dev", "test") for example in load_examples(str(SHIPPED_CSV), split)]
    return list(itertools.islice(itertools.cycle(examples), count))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line may ask for."""
    parser.add_argument("--batch-size", type=int, default=8, help="how many of the shipped clips make a batch")
    parser.add_argument("--rounds", type=int, default=5, help="how many turns every way gets; the best counts")
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), default="cpu")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def run(arguments: argparse.Namespace) -> None:
    """Measure all ways on one batch, print a table or JSON."""
    config = replace(load_config(SHIPPED_SLAM / CONFIG_NAME, SlamConfig), device=arguments.device)
    torch.set_num_threads(config.num_threads)
    exact, quick = (shipped_slam(replace(config, precision=precision)) for precision in ("fp32", config.precision))
    ways = make_ways(exact, quick, load_clips(arguments.batch_size), config)
    lengths = [len(waveform) / SAMPLE_RATE for waveform in ways["plain"].waveforms]
    machine = {
        "device": arguments.device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "our_precision": resolve_precision(config.precision, arguments.device),
        "batch_size": len(lengths),
        "mean_seconds": sum(lengths) / len(lengths),
        "longest_seconds": max(lengths),
    }
    found = figures(ways, arguments.rounds)
    if arguments.json:
        print(json.dumps(machine | found))
        return
    print("{threads} threads on {device}, torch {torch}; ours in {our_precision}, the plain way in fp32".format(**machine))
    print("{batch_size} clips of {mean_seconds:.2f} s on average, the longest {longest_seconds:.2f} s\n".format(**machine))
    print(show(len(lengths), found))
