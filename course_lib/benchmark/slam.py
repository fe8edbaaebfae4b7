"""A training step of SLAM-ASR, ours beside the plain way: python -m course_lib.benchmark slam

Same clips, same weights, one process, a turn of one setup, then a turn of the next. The plain way pads every clip to 30 s, as
transformers' Whisper demands, computes log-mels and features anew in every step, asks the language model for logits at all
positions, checkpoints it, and computes in fp32. Each of these has its cure, the `TRICKS`: `plain` has none of them, `cached`
all, `live` all but the stored features. Where the processor multiplies bf16, both are measured with and without it. All take
AdamW: Muon's update is no trick.

Our tiny model has 512 tokens: its logits are cheap anywhere. Qwen2.5's 151,936 at 760 positions of 8 clips are 3.7 GB.
"""

import argparse
import itertools
import warnings
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.benchmark.measure import TrainingSetup
from course_lib.compute import autocast, resolve_precision
from course_lib.config import load_config, positive_count, replace
from course_lib.data.batches import SpeechBatch
from course_lib.data.datasets import Example, load_examples, texts_of
from course_lib.encoder.whisper import WhisperEncoder
from course_lib.files import SHIPPED_CSV
from course_lib.slam.model import SlamASR
from course_lib.sound.audio import SAMPLE_RATE, load_audio
from course_lib.sound.mel import whisper_log_mel
from course_lib.systems import CONFIG_NAME, SHIPPED_SLAM, SlamConfig, build_slam
from course_lib.training.checkpoints import load_weights
from course_lib.training.optimizers import make_optimizer

HELP = "a training step of SLAM-ASR, ours beside the plain way"
TRICKS = ("variable length", "stored features", "logits at label positions", "no checkpointing", "bf16")
CACHED = frozenset(TRICKS)
LIVE = CACHED - {"stored features"}


def variants(precision: str, each: bool) -> dict[str, frozenset[str]]:
    """The tricks of every setup, by name; with `each`, ours in `precision` is also measured without each trick."""
    ours = {"live": LIVE, "cached": CACHED}
    found = {"plain": frozenset()} | {f"{name} fp32": tricks - {"bf16"} for name, tricks in ours.items()}
    if precision == "bf16":
        found |= {f"{name} bf16": tricks for name, tricks in ours.items()}
    whole = [name for name in found if name.endswith(precision)] if each else []
    less = {f"{name} without {trick}": found[name] - {trick} for name in whole for trick in TRICKS if trick in found[name]}
    return found | less


def make_setup(slam: SlamASR, tricks: frozenset[str], examples: list[Example], config: SlamConfig) -> TrainingSetup:
    """Train a copy of the projector of `slam` on one batch, by some of the `TRICKS`; the encoder's weights are shared."""
    precision = "bf16" if "bf16" in tricks else "fp32"
    encoder = WhisperEncoder(slam.encoder.whisper, precision)
    student = SlamASR(encoder, deepcopy(slam.projector), deepcopy(slam.llm), slam.tokenizer, config.prompt, precision).train()
    if "variable length" not in tricks:
        # transformers' default. On a CPU it is quicker over the 760 positions of 30 s, and slower over the 100 of 3 s.
        student.llm.set_attn_implementation("sdpa")
    if "no checkpointing" not in tricks:
        with warnings.catch_warnings():
            # Newer releases of transformers call it "activation checkpointing"; this name they all know.
            warnings.simplefilter("ignore", FutureWarning)
            student.llm.gradient_checkpointing_enable({"use_reentrant": False})
        # A layer is checkpointed in training mode only. Our model has no dropout that this could wake.
        student.llm.train()

    def loss(batch: SpeechBatch) -> Float[Tensor, ""]:
        return student(batch).loss if "logits at label positions" in tricks else loss_of_full_logits(student, batch)

    optimizer = make_optimizer("adamw", student.projector.parameters(), config.lr, config.weight_decay)
    return TrainingSetup(student, batches_of(student, tricks, examples), loss, optimizer, config.max_grad_norm)


def batches_of(slam: SlamASR, tricks: frozenset[str], examples: list[Example]) -> Iterator[SpeechBatch]:
    """The same batch over and over, its features computed anew each time, or once and stored in fp16."""
    waveforms, texts = [load_audio(example.path) for example in examples], texts_of(examples)
    # Clip by clip nothing is padded at all; on a CPU that is worth more than a batch.
    encode = slam.encode if "variable length" in tricks else lambda waveforms: encode_padded(slam, waveforms)
    stored = [clip.half() for clip in encode(waveforms)] if "stored features" in tricks else []
    while True:
        yield SpeechBatch([clip.float() for clip in stored] or encode(waveforms), texts)


@torch.no_grad()
def encode_padded(slam: SlamASR, waveforms: list[Float[Tensor, "_samples"]]) -> list[Float[Tensor, "_frames features"]]:
    """Features as transformers computes them: every clip is padded to 30 s and becomes 1,500 rows, however short it is."""
    bins = slam.encoder.config.mel_bins
    log_mels = torch.stack([whisper_log_mel(waveform, pad_to_30_seconds=True, bins=bins) for waveform in waveforms])
    features, _ = slam.encoder(log_mels.to(slam.device))
    return list(features)


def loss_of_full_logits(slam: SlamASR, batch: SpeechBatch) -> Float[Tensor, ""]:
    """transformers' own loss: logits at all positions, padding and sound included."""
    with autocast(slam.precision, slam.device):
        rows = slam.sequences(batch)
        mask = rows.attention_mask.long()
        return slam.llm(inputs_embeds=rows.embeddings, attention_mask=mask, labels=rows.labels, use_cache=False).loss


def shipped_slam(config: SlamConfig) -> SlamASR:
    """The recogniser that comes with the course, greedy and in fp32."""
    slam = build_slam(replace(config, num_beams=1, ctc_weight=0.0, precision="fp32"))
    load_weights(slam, SHIPPED_SLAM / "best.safetensors")
    return slam


def load_clips(count: int) -> list[Example]:
    """The first so many of the shipped clips, those for training first; after the last it starts over."""
    examples = [example for split in ("train", "dev", "test") for example in load_examples(str(SHIPPED_CSV), split)]
    return list(itertools.islice(itertools.cycle(examples), count))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line may ask for."""
    parser.add_argument("--batch-size", type=positive_count, default=8, help="how many of the shipped clips make a batch")


def make_setups(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[int, dict[str, TrainingSetup]]]:
    """What the figures depend on; all setups by name, on the same batch."""
    config = replace(load_config(SHIPPED_SLAM / CONFIG_NAME, SlamConfig), device=arguments.device)
    torch.set_num_threads(config.num_threads)
    precision = resolve_precision(config.precision, config.device)
    slam, clips = shipped_slam(config), load_clips(arguments.batch_size)
    setups = {name: make_setup(slam, tricks, clips, config) for name, tricks in variants(precision, arguments.each).items()}
    attention = {name: setups[name].model.llm.config._attn_implementation for name in ("plain", "cached fp32")}
    seconds = [len(load_audio(clip.path)) / SAMPLE_RATE for clip in clips]
    facts = {
        "attention": "plain {plain}, ours {cached fp32}".format(**attention),
        "clips": f"{len(clips)}, {sum(seconds) / len(clips):.2f} s on average, the longest {max(seconds):.2f} s",
    }
    return facts, {len(clips): setups}
