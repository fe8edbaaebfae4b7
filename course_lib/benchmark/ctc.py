"""A training step of Stage B, ours beside the document's: python -m course_lib.benchmark ctc

Same clips, same batch size, same sizes, same loss, AdamW both times; one process, an epoch of one, then an epoch of the other.
The plain way is the document's: it computes the log-mels anew in every step and pads every clip to the longest of the data set.
Ours reads them from a store, puts clips of similar length together, multiplies in bf16 where the processor is good at it, and
fuses AdamW.
"""

import argparse
import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.benchmark.measure import TrainingSetup
from course_lib.compute import resolve_precision
from course_lib.config import CONFIG_FOLDER, load_config, positive_count
from course_lib.ctc.recogniser import CONFIG_NAME, StageBConfig, StageBRecogniser, build_encoder
from course_lib.ctc.spec_augment import SpecAugment
from course_lib.data.batches import SpeechBatch, SpeechBatches
from course_lib.data.datasets import Example, FeatureStore, load_examples, log_mel_examples, texts_of
from course_lib.encoder.base import real_frames
from course_lib.encoder.tiny import ByteDropout
from course_lib.sound.audio import load_audio
from course_lib.sound.mel import CTC_MEL_RECIPE, ctc_log_mel
from course_lib.sound.shape_table import frames_after, mel_frames
from course_lib.text.vocabulary import CharVocabulary
from course_lib.training.step import StepOutput

HELP = "a training step of Stage B, ours beside the document's"
CHANNELS = 64
TRICKS = ("stored log-mels", "batches by length", "dropout from bytes", "bf16", "fused optimiser")
"""What `--each` leaves out, one at a time. Few shapes are missing here: in epochs of the same batches no shape is new."""


class PlainRecogniser(nn.Module):
    """Stage B as the document would write it: pictures of sound for `Conv2d`, then PyTorch's own transformer layers, in fp32.

    Every batch is `longest` mel frames long, however short its clips. The convolutions halve the bins along with the frames;
    halving the frames alone would make the `inputs` four times as wide.
    """

    def __init__(self, config: StageBConfig, vocabulary: CharVocabulary, longest: int):
        super().__init__()
        self.vocabulary, self.longest, self.reduction = vocabulary, longest, config.downsample_time
        channels = [1] + [CHANNELS] * int(math.log2(config.downsample_time))
        convolutions = [nn.Conv2d(n, m, 3, stride=2, padding=1) for n, m in itertools.pairwise(channels)]
        self.front_end = nn.Sequential(*(layer for convolution in convolutions for layer in (convolution, nn.GELU())))
        self.inputs = nn.Linear(CHANNELS * CTC_MEL_RECIPE.bins // config.downsample_time, config.d_model)
        self.positions = nn.Parameter(torch.zeros(frames_after(longest, self.reduction), config.d_model))
        sizes = (config.d_model, config.n_heads, config.d_ff, config.dropout)
        layer = nn.TransformerEncoderLayer(*sizes, activation="gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, config.n_layers, nn.LayerNorm(config.d_model), enable_nested_tensor=False)
        self.head = nn.Linear(config.d_model, len(vocabulary))

    def forward(self, batch: SpeechBatch) -> StepOutput:
        """CTC loss of a batch of log-mels, averaged as in `StageBRecogniser`; nothing is counted as correct."""
        device = self.positions.device
        padded = torch.stack([F.pad(log_mel, (0, 0, 0, self.longest - len(log_mel))) for log_mel in batch.features])
        counts = torch.tensor([frames_after(len(log_mel), self.reduction) for log_mel in batch.features], device=device)
        sound = self.front_end(rearrange(padded.to(device), "batch frames bins -> batch 1 frames bins"))
        hidden = self.inputs(rearrange(sound, "batch channels frames bins -> batch frames (channels bins)")) + self.positions
        hidden = self.layers(hidden, src_key_padding_mask=~real_frames(counts, hidden.shape[1]))
        log_probs = rearrange(self.head(hidden).log_softmax(dim=-1), "batch frames vocab -> frames batch vocab")
        labels = [self.vocabulary.encode(text) for text in batch.texts]
        lengths = torch.tensor([len(ids) for ids in labels])
        targets = torch.tensor([symbol for ids in labels for symbol in ids], device=device)
        loss = F.ctc_loss(log_probs, targets, counts, lengths, blank=self.vocabulary.blank_id, zero_infinity=True)
        return StepOutput(loss, 0, int(lengths.sum()))


class WaveformStore(FeatureStore):
    """A `FeatureStore` without features: it holds the sound, read from its files once, and computes what it is asked for."""

    def __init__(self, examples: list[Example]):
        self.waveforms = [load_audio(example.path) for example in examples]
        self.counts = [mel_frames(len(waveform)) for waveform in self.waveforms]
        self.feature_dim = CTC_MEL_RECIPE.bins

    def __getitem__(self, index: int) -> Float[Tensor, "frames features"]:
        return ctc_log_mel(self.waveforms[index])


def make_setup(
    config: StageBConfig, clips: list[Example], longest: int, tricks: frozenset[str], batch_size: int, device: str
) -> TrainingSetup:
    """Train Stage B on the clips by some of the `TRICKS`; without any, it is the document's `PlainRecogniser`."""
    if tricks:
        model = StageBRecogniser(build_encoder(config), CharVocabulary(), SpecAugment())
        model.enc.precision = config.precision if "bf16" in tricks else "fp32"
        if "dropout from bytes" not in tricks:
            put_plain_dropout(model, config.dropout)
    else:
        model = PlainRecogniser(config, CharVocabulary(), longest)
    model.to(device).train()
    store = log_mel_examples(clips) if "stored log-mels" in tricks else WaveformStore(clips)
    batches = SpeechBatches([store], texts_of(clips), batch_size, config.seed, by_length="batches by length" in tricks)
    # The document's constant rate: a step takes as long at any other.
    fused = "fused optimiser" in tricks
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=config.weight_decay, fused=fused)
    steps = len(batches)
    return TrainingSetup(model, endless(batches), lambda batch: model(batch).loss, optimizer, config.max_grad_norm, steps)


def endless(batches: SpeechBatches) -> Iterator[SpeechBatch]:
    """The same epoch over and over; log-mels that are not stored are computed anew each time."""
    while True:
        yield from batches(0)


def put_plain_dropout(model: nn.Module, probability: float) -> None:
    """Replace the course's dropout by PyTorch's."""
    for part in [*model.modules()]:
        for name, child in part.named_children():
            if isinstance(child, ByteDropout):
                setattr(part, name, nn.Dropout(probability))


def load_clips(clips: int) -> list[Example]:
    """So many clips of synthetic train-clean, made on first use; for 0 the shipped 60, all of them short."""
    if clips:
        return load_examples("synthetic", "train-clean", clips)
    return [example for split in ("train", "dev", "test") for example in load_examples("data/audio/asr.csv", split)]


def _count_or_none(text: str) -> int:
    return 0 if text == "0" else positive_count(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line may ask for."""
    parser.add_argument(
        "--clips", type=_count_or_none, default=400, help="of train-clean, made on first use; 0: the shipped 60"
    )
    parser.add_argument("--batch-sizes", type=positive_count, nargs="+", default=[8, 32])
    parser.add_argument("--steps", type=positive_count, default=8, help="how many different batches")


def make_setups(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[int, dict[str, TrainingSetup]]]:
    """What the figures depend on; for each batch size, all setups by name, on the same random clips of those loaded."""
    config, examples = load_config(CONFIG_FOLDER / CONFIG_NAME, StageBConfig), load_clips(arguments.clips)
    torch.set_num_threads(config.num_threads)
    frames = [mel_frames(len(load_audio(example.path))) for example in examples]
    variants = {"plain": frozenset(), "ours": frozenset(TRICKS)}
    variants |= {f"ours without {trick}": variants["ours"] - {trick} for trick in TRICKS if arguments.each}
    setups = {}
    for size in arguments.batch_sizes:
        needed = size * arguments.steps
        clips = random.Random(config.seed).sample(examples * math.ceil(needed / len(examples)), needed)
        parts = (config, clips, max(frames))
        setups[size] = {name: make_setup(*parts, tricks, size, arguments.device) for name, tricks in variants.items()}
    facts = {
        "precision": f"plain fp32, ours {resolve_precision(config.precision, arguments.device)}",
        "clips": f"{len(examples)}, {sum(frames) / len(frames) / 100:.2f} s on average, the longest {max(frames) / 100:.2f} s",
    }
    return facts, setups
