"""A config or a run folder → a whole recogniser, ready to train or to transcribe.

A run folder (and the one shipped in `data/models/slam-tiny`) holds `train_config.yaml`, which names the frozen parts, and
`best.safetensors`, the trained ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random

from course_lib.compute import Precision, pick_device, set_seed
from course_lib.config import load_config
from course_lib.ctc.beam import beam_search
from course_lib.ctc.recogniser import CONFIG_NAME as STAGE_B_CONFIG_NAME
from course_lib.ctc.recogniser import SHIPPED_STAGE_B, StageBRecogniser, load_stage_b, load_stage_b_encoder
from course_lib.data.grammar import draw_utterance
from course_lib.encoder.base import SpeechEncoder
from course_lib.encoder.whisper import WhisperEncoder
from course_lib.evaluation.whisper_zero_shot import WhisperZeroShot, load_whisper_zero_shot
from course_lib.files import DATA_FOLDER, find_model
from course_lib.language_model.pretrained import load_llm
from course_lib.language_model.prompt import PROMPT
from course_lib.slam.model import SlamASR
from course_lib.slam.projector import PROJECTORS, ProjectorName
from course_lib.text.char_ngram import CharNgram
from course_lib.training.checkpoints import load_weights
from course_lib.training.settings import TrainSettings

CONFIG_NAME = "train_config.yaml"
SHIPPED_SLAM = DATA_FOLDER / "models" / "slam-tiny"

BEAM = {"beam_width": 16, "weight": 0.8, "bonus": 1.0}
"""How Stage B is read with a beam; weight and bonus of the n-gram were chosen on dev."""


@dataclass(frozen=True, kw_only=True)
class SlamConfig(TrainSettings):
    """Everything about a SLAM-ASR run: which models, which data, how to train. `configs/train_config.yaml` explains."""

    encoder_name: str
    llm_name: str
    data: str
    projector: ProjectorName = "concat"
    k: int = 5
    projector_hidden_dim: int = 512
    projector_dropout: float = 0.0
    ctc_warmup_epochs: int = 0
    ctc_warmup_lr: float = 2e-3
    freeze_encoder: bool = True
    freeze_llm: bool = True
    prompt: str = PROMPT
    train_splits: list[str] = field(default_factory=lambda: ["train"])
    validation_split: str = "dev"
    train_clips: int | None = None
    validation_clips: int | None = None
    max_audio_length: float = 30.0
    max_new_tokens: int = 64
    num_beams: int = 1
    ctc_weight: float = 0.0
    skip_bad: bool = False
    precision: Precision = "auto"
    run_folder: str = "runs/slam"

    def problems(self) -> list[str]:
        """List every value that cannot be meant."""
        found = super().problems()
        positive = (
            "k",
            "projector_hidden_dim",
            "train_clips",
            "validation_clips",
            "max_audio_length",
            "max_new_tokens",
            "num_beams",
        )
        for name in positive:
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                found.append(f"{name}: {getattr(self, name)}, must be above 0")
        for name in ("freeze_encoder", "freeze_llm"):
            if not getattr(self, name):
                found.append(f"{name}: false is not supported; this course trains the projector alone")
        if self.ctc_warmup_lr <= 0:
            found.append(f"ctc_warmup_lr: {self.ctc_warmup_lr}, must be above 0")
        if self.ctc_warmup_epochs < 0:
            found.append(f"ctc_warmup_epochs: {self.ctc_warmup_epochs}, must not be negative")
        if self.ctc_weight < 0:
            found.append(f"ctc_weight: {self.ctc_weight}, must not be negative")
        if self.ctc_weight and self.num_beams == 1:
            found.append("ctc_weight: chooses among num_beams sentences, and there is only one; raise num_beams or set it to 0")
        if self.max_audio_length > 30:
            found.append(f"max_audio_length: {self.max_audio_length} s; Whisper's encoder hears 30 s at most")
        if not 0 <= self.projector_dropout < 1:
            found.append(f"projector_dropout: {self.projector_dropout}; must be from 0 to below 1")
        return found


def load_encoder(name: str, precision: Precision = "fp32") -> SpeechEncoder:
    """Load the ear by its name: the run folder of a Stage B training, else a Whisper (a folder or a Hub id)."""
    folder = Path(find_model(name))
    if (folder / STAGE_B_CONFIG_NAME).is_file():
        return load_stage_b_encoder(folder, precision=precision)
    return WhisperEncoder.from_pretrained(find_model(name), precision)


def build_slam(config: SlamConfig) -> SlamASR:
    """Load the frozen parts that the config names and put a fresh projector between them."""
    device = pick_device(config.device)
    encoder = load_encoder(config.encoder_name, config.precision).to(device)
    llm, tokenizer = load_llm(config.llm_name, config.precision, device)
    set_seed(config.seed)
    projector = PROJECTORS[config.projector](
        encoder.feature_dim, llm.config.hidden_size, config.k, config.projector_hidden_dim, config.projector_dropout
    )
    writing = {"num_beams": config.num_beams, "ctc_weight": config.ctc_weight}
    return SlamASR(encoder, projector, llm, tokenizer, config.prompt, config.precision, **writing).to(device)


def load_slam(folder: Path = SHIPPED_SLAM) -> SlamASR:
    """Load a trained recogniser from a run folder; without an argument, the one that comes with the course.

    On a CPU it computes in fp32 whatever it was trained in, so that a clip has one transcript on every laptop.
    """
    if not (Path(folder) / CONFIG_NAME).is_file():
        raise FileNotFoundError(f"{folder}: no {CONFIG_NAME} here; give the run_folder of a training, or none")
    config = load_config(Path(folder) / CONFIG_NAME, SlamConfig)
    if pick_device(config.device) == "cpu":
        config = replace(config, precision="fp32")
    slam = build_slam(config)
    load_weights(slam, Path(folder) / "best.safetensors")
    return slam


def load_stage_b_beam(sentences: int = 0, folder: Path = SHIPPED_STAGE_B) -> StageBRecogniser:
    """Stage B read by a beam search instead of greedily; with `sentences`, an n-gram that learnt from so many helps it.

    The sentences are the grammar's for training, so none of them is in dev or test, and no sound is involved.
    """
    recogniser, rng = load_stage_b(folder), Random("n-gram")
    ngram = CharNgram([draw_utterance(rng, "train") for _ in range(sentences)]) if sentences else None
    vocabulary = recogniser.vocabulary
    recogniser.decode = lambda log_probs: vocabulary.encode(beam_search(log_probs, vocabulary, ngram, **BEAM)[0][0])
    return recogniser


SYSTEMS: dict[str, Callable[..., SlamASR | StageBRecogniser | WhisperZeroShot]] = {
    "slam": load_slam,
    "stage_b": load_stage_b,
    "stage_b_beam": load_stage_b_beam,
    "stage_b_ngram": partial(load_stage_b_beam, 20_000),
    "whisper": load_whisper_zero_shot,
}
"""Recognisers by the name that `evaluate --system` takes; each has `transcribe`."""


def load_system(folder: Path) -> SlamASR | StageBRecogniser:
    """Load whatever recogniser a run folder holds."""
    return load_stage_b(folder) if (Path(folder) / STAGE_B_CONFIG_NAME).is_file() else load_slam(folder)
