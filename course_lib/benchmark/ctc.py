"""A training step of Stage B, ours beside the document's: python -m course_lib.benchmark ctc

Same clips, same batch size, same sizes, same loss, AdamW both times; one process, a step of one, then a step of the other.
The document's way computes the log-mels anew in every step and pads every clip to the longest of the data set; ours reads them
from a store, puts clips of similar length together, multiplies in bf16 where the processor is good at it, and fuses AdamW.
"""

import argparse
import itertools
import json
import math
import random
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.benchmark.measure import Seconds, StopWatch, best_round, peak_bytes, take_turns, total
from course_lib.compute import resolve_precision
from course_lib.config import CONFIG_FOLDER, load_config
from course_lib.ctc.feasibility import frames_after
from course_lib.ctc.recogniser import CONFIG_NAME, StageBConfig, StageBRecogniser, build_encoder
from course_lib.ctc.spec_augment import SpecAugment
from course_lib.data.batches import SpeechBatch, SpeechBatches
from course_lib.data.datasets import Example, FeatureStore, load_examples, log_mel_examples, texts_of
from course_lib.encoder.base import real_frames
from course_lib.encoder.tiny import ByteDropout
from course_lib.sound.audio import load_audio
from course_lib.sound.mel import CTC_MEL_RECIPE, HOP_LENGTH, ctc_log_mel
from course_lib.text.vocabulary import CharVocabulary
from course_lib.training.step import StepOutput

HELP = "a training step of Stage B, ours beside the document's"
BOTH = ("plain", "ours")
STAGES = ("mel", "encoder", "loss", "optimiser")
CHANNELS = 64
TRICKS = ("stored log-mels", "batches by length", "dropout from bytes", "bf16", "fused optimiser")
"""What `--each` leaves out, one at a time. Few shapes are missing here: in rounds over the same batches no shape is new."""


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
        self.counts = [len(waveform) // HOP_LENGTH for waveform in self.waveforms]
        self.feature_dim = CTC_MEL_RECIPE.bins

    def __getitem__(self, index: int) -> Float[Tensor, "frames features"]:
        return ctc_log_mel(self.waveforms[index])


class Way:
    """A way to train: a model in training, its optimiser, and where its batches come from."""

    def __init__(self, model: StageBRecogniser | PlainRecogniser, batches: SpeechBatches, config: StageBConfig, fused: bool):
        self.model, self.batches, self.max_grad_norm = model.train(), batches, config.max_grad_norm
        # The document's constant rate: a step takes as long at any other.
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=config.weight_decay, fused=fused)
        self.device = model.head.weight.device

    def epoch(self) -> Iterator[Seconds]:
        """Train on every batch, the same ones each time; seconds of each stage of each step."""
        batches = self.batches(0)
        return (training_step(self, batches) for _ in range(len(self.batches)))


def training_step(way: Way, batches: Iterator[SpeechBatch]) -> Seconds:
    """One update on the next batch, as `Trainer` does it, and how long each stage of it took.

    The graph is cut at the logits: the loss finds its gradient there, and the encoder goes on from it. The sum is the same.
    """
    watch, seam = StopWatch(STAGES, way.device), []

    def cut(_head: nn.Module, _inputs: tuple, logits: Tensor) -> Tensor:
        watch.lap("encoder")
        seam.extend([logits, logits.detach().requires_grad_()])
        return seam[1]

    batch = next(batches)
    watch.lap("mel")
    with way.model.head.register_forward_hook(cut):
        way.model(batch).loss.backward()
    watch.lap("loss")
    logits, leaf = seam
    logits.backward(leaf.grad)
    watch.lap("encoder")
    nn.utils.clip_grad_norm_(way.model.parameters(), way.max_grad_norm)
    way.optimizer.step()
    way.optimizer.zero_grad()
    watch.lap("optimiser")
    return watch.seconds


class Contest:
    """The same clips for both ways, and the parts that the ways are made of."""

    def __init__(self, config: StageBConfig, examples: list[Example], batch_size: int, steps: int, device: str):
        self.config, self.device, self.batch_size, needed = config, torch.device(device), batch_size, steps * batch_size
        self.stored, self.recomputed = log_mel_examples(examples), WaveformStore(examples)
        self.longest, self.copies = max(self.stored.counts), math.ceil(needed / len(examples))
        self.texts = self.copies * texts_of(examples)
        self.keep = random.Random(config.seed).sample(range(len(self.texts)), needed)

    def plain(self) -> Way:
        """The document's way."""
        return self._way(PlainRecogniser(self.config, CharVocabulary(), self.longest), self.recomputed, False, False)

    def ours(self, without: str = "") -> Way:
        """Our way, whole or `without` one of the `TRICKS`."""
        model = StageBRecogniser(build_encoder(self.config), CharVocabulary(), SpecAugment())
        if without == "bf16":
            model.enc.precision = "fp32"
        if without == "dropout from bytes":
            _put_plain_dropout(model, self.config.dropout)
        store = self.recomputed if without == "stored log-mels" else self.stored
        return self._way(model, store, without != "batches by length", without != "fused optimiser")

    def _way(self, model: StageBRecogniser | PlainRecogniser, store: FeatureStore, by_length: bool, fused: bool) -> Way:
        batches = SpeechBatches([store] * self.copies, self.texts, self.batch_size, self.config.seed, by_length, self.keep)
        return Way(model.to(self.device), batches, self.config, fused)


def _put_plain_dropout(model: nn.Module, probability: float) -> None:
    for part in [*model.modules()]:
        for name, child in part.named_children():
            if isinstance(child, ByteDropout):
                setattr(part, name, nn.Dropout(probability))


def figures(contest: Contest, rounds: int, each: bool) -> dict[str, Any]:
    """Everything that is measured at one batch size; memory in steps of its own, after the timed ones."""
    ways = {"plain": contest.plain(), "ours": contest.ours()} | {trick: contest.ours(trick) for trick in TRICKS if each}
    times = take_turns({name: way.epoch for name, way in ways.items()}, rounds)
    return compare(times) | {f"{name}_peak_bytes": peak_bytes(ways[name].epoch(), contest.device) for name in BOTH}


def compare(times: dict[str, list[Seconds]]) -> dict[str, Any]:
    """Seconds, ratio and shares of the best rounds; the range of ratios over the rounds; what each trick is worth."""
    best = {name: best_round(rounds) for name, rounds in times.items()}
    ratios = [total(plain) / total(ours) for plain, ours in zip(times["plain"], times["ours"], strict=True)]
    return {
        **{f"{name}_seconds": total(best[name]) for name in BOTH},
        "ratio": total(best["plain"]) / total(best["ours"]),
        "ratio_of_rounds": [min(ratios), max(ratios)],
        "steps_per_second": {name: 1 / total(best[name]) for name in BOTH},
        "shares": {name: {stage: best[name][stage] / total(best[name]) for stage in STAGES} for name in BOTH},
        "times_slower_without": {trick: total(best[trick]) / total(best["ours"]) for trick in TRICKS if trick in best},
    }


def show(batch_size: int, found: dict[str, Any]) -> str:
    """The figures as lines for people."""
    peaks = [found[f"{name}_peak_bytes"] for name in BOTH]
    rows = [
        (f"training step, {batch_size} clips", "document's way", "ours"),
        ("  seconds a step", *(f"{found[f'{name}_seconds']:.3f}" for name in BOTH)),
        ("  steps a second", *(f"{found['steps_per_second'][name]:.1f}" for name in BOTH)),
        ("  peak memory", *("not measured" if peak is None else f"{peak / 1e6:,.0f} MB" for peak in peaks)),
        *((f"  share of {stage}", *(f"{found['shares'][name][stage]:.0%}" for name in BOTH)) for stage in STAGES),
        ("  ours is faster", "", f"{found['ratio']:.1f} ×"),
        ("  in single rounds", "", "{:.1f} to {:.1f} ×".format(*found["ratio_of_rounds"])),
        *((f"  time without {name}", "", f"{slower:.2f} ×") for name, slower in found["times_slower_without"].items()),
    ]
    return "\n".join(f"{name:35}{plain:>18}{ours:>18}" for name, plain, ours in rows)


def load_clips(clips: int) -> list[Example]:
    """So many clips of synthetic train-clean, made on first use; for 0 the shipped 60, all of them short."""
    if clips:
        return load_examples("synthetic", "train-clean", clips)
    return [example for split in ("train", "dev", "test") for example in load_examples("data/audio/asr.csv", split)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line may ask for."""
    parser.add_argument("--clips", type=int, default=400, help="so many of train-clean, made on first use; 0: the shipped 60")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--steps", type=int, default=8, help="how many different batches")
    parser.add_argument("--rounds", type=int, default=3, help="how often to go through them; the best round counts")
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), default="cpu")
    parser.add_argument("--each", action="store_true", help="also leave out our tricks, one at a time")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")


def run(arguments: argparse.Namespace) -> None:
    """Measure each batch size, print tables or JSON."""
    config, examples = load_config(CONFIG_FOLDER / CONFIG_NAME, StageBConfig), load_clips(arguments.clips)
    torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    found = {}
    for size in arguments.batch_sizes:
        contest = Contest(config, examples, size, arguments.steps, arguments.device)
        found[str(size)] = figures(contest, arguments.rounds, arguments.each)
    machine = {
        "device": arguments.device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "our_precision": resolve_precision(config.precision, arguments.device),
        "clips": len(examples),
        "mean_seconds": sum(contest.stored.counts) / len(examples) / 100,
        "longest_seconds": contest.longest / 100,
    }
    if arguments.json:
        print(json.dumps(machine | {"batch_sizes": found}))
        return
    print("{threads} threads on {device}, torch {torch}; ours in {our_precision}, the document's way in fp32".format(**machine))
    print("{clips} clips of {mean_seconds:.2f} s on average, the longest {longest_seconds:.2f} s".format(**machine))
    for size, figures_of_size in found.items():
        print(f"\n{show(int(size), figures_of_size)}")
