"""A config or a run folder → a whole recogniser, ready to train or to transcribe.

A run folder (and the one shipped in `data/models/slam-tiny`) holds `train_config.yaml`, which names the frozen parts, and
`best.safetensors`, the trained ones.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, field_validator

from course_lib.compute import Precision, pick_device, set_seed
from course_lib.config import PathName, load_config, replace
from course_lib.ctc.beam import BeamDecoder
from course_lib.ctc.recogniser import CONFIG_NAME as STAGE_B_CONFIG_NAME
from course_lib.ctc.recogniser import SHIPPED_STAGE_B, StageBRecogniser, load_run_config, load_stage_b, load_stage_b_encoder
from course_lib.data.grammar import draw_utterance, load_grammar
from course_lib.data.recogniser import Recogniser
from course_lib.data.settings import SpeechTrainSettings
from course_lib.encoder.base import SpeechEncoder
from course_lib.encoder.whisper import WhisperEncoder, locate_whisper
from course_lib.evaluation.whisper_zero_shot import load_whisper_zero_shot
from course_lib.files import DATA_FOLDER, find_model
from course_lib.language_model.pretrained import load_llm, locate_llm
from course_lib.language_model.prompt import PROMPT
from course_lib.slam.ctc_warmup import CtcWarmup
from course_lib.slam.model import SlamASR
from course_lib.slam.projector import PROJECTORS, ProjectorName
from course_lib.text.char_ngram import CharNgram
from course_lib.training.checkpoints import CheckpointError, put_weights, read_weights
from course_lib.training.run_folder import BEST_NAME

CONFIG_NAME = "train_config.yaml"
SHIPPED_SLAM = DATA_FOLDER / "models" / "slam-tiny"


class SlamConfig(SpeechTrainSettings):
    """Everything about a SLAM-ASR run: which models, which data, how to train. `configs/train_config.yaml` explains."""

    encoder_name: PathName
    llm_name: PathName
    data: PathName
    projector: ProjectorName = "concat"
    k: int = Field(5, gt=0, le=100)
    projector_hidden_dim: int = Field(512, gt=0, le=16_384)
    projector_dropout: float = Field(0.0, ge=0, lt=1)
    ctc_warmup_epochs: NonNegativeInt = 0
    ctc_warmup_lr: PositiveFloat = 2e-3
    freeze_encoder: bool = True
    freeze_llm: bool = True
    prompt: str = PROMPT
    max_audio_length: PositiveFloat = 30.0
    max_new_tokens: int = Field(64, gt=0, le=1_000)
    num_beams: int = Field(1, gt=0, le=100)
    ctc_weight: NonNegativeFloat = 0.0
    listed_candidates: NonNegativeInt = 0
    run_folder: PathName = "runs/slam"

    @field_validator("freeze_encoder", "freeze_llm")
    @classmethod
    def _is_frozen(cls, frozen: bool) -> bool:
        if not frozen:
            raise ValueError("not supported; this course trains the projector alone")
        return frozen

    @field_validator("max_audio_length")
    @classmethod
    def _fits_whisper(cls, seconds: float) -> float:
        if seconds > 30:
            raise ValueError("Whisper's encoder hears 30 s at most")
        return seconds

    @field_validator("listed_candidates")
    @classmethod
    def _is_spelled(cls, candidates: int, info) -> int:
        if candidates and not info.data.get("ctc_weight"):
            raise ValueError("are chosen by the letters that the audio tokens spell; set ctc_weight, or this to 0")
        return candidates

    @field_validator("ctc_weight")
    @classmethod
    def _has_a_choice(cls, weight: float, info) -> float:
        if weight and info.data.get("num_beams") == 1:
            raise ValueError("chooses among num_beams sentences, and there is only one; raise num_beams or set it to 0")
        return weight


def locate_parts(config: SlamConfig) -> None:
    """Raise CourseError if a part that the config names is neither a folder with a model nor spelled like a Hub id."""
    if not (Path(find_model(config.encoder_name)) / STAGE_B_CONFIG_NAME).is_file():
        locate_whisper(find_model(config.encoder_name), fetch=False)
    locate_llm(config.llm_name)


def load_encoder(name: str, precision: Precision = "fp32") -> SpeechEncoder:
    """Load an encoder by its name: the run folder of a Stage B training, else a Whisper (a folder or a Hub id)."""
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
    slam = SlamASR(
        encoder,
        projector,
        llm,
        tokenizer,
        prompt=config.prompt,
        precision=config.precision,
        num_beams=config.num_beams,
        ctc_weight=config.ctc_weight,
        max_new_tokens=config.max_new_tokens,
        word_list=load_grammar().words if config.listed_candidates else (),
        listed_candidates=config.listed_candidates,
    )
    return slam.to(device)


def load_slam(folder: Path = SHIPPED_SLAM) -> SlamASR:
    """Load a trained recogniser from a run folder; without an argument, the one that comes with the course.

    On a CPU it computes in fp32 whatever it was trained in, so that a clip has one transcript on every laptop.
    """
    config = _read_slam_config(folder)
    locate_parts(config)
    weights = read_weights(Path(folder) / BEST_NAME)
    if pick_device(config.device) == "cpu":
        config = replace(config, precision="fp32")
    slam = build_slam(config)
    put_weights(slam, weights, str(Path(folder) / BEST_NAME))
    return slam


def _read_slam_config(folder: Path) -> SlamConfig:
    if not (Path(folder) / CONFIG_NAME).is_file():
        raise CheckpointError(f"{folder}: no {CONFIG_NAME} here; give the run_folder of a training, or none")
    return load_config(Path(folder) / CONFIG_NAME, SlamConfig)


def load_stage_b_beam(sentences: int = 0, folder: Path = SHIPPED_STAGE_B) -> StageBRecogniser:
    """Stage B read by a beam search instead of greedily; with `sentences`, an n-gram that learnt from so many helps it.

    The sentences are the grammar's for training, so none of them is in dev or test, and no sound is involved.
    """
    recogniser, rng = load_stage_b(folder), Random("n-gram")
    ngram = CharNgram([draw_utterance(rng, "train") for _ in range(sentences)]) if sentences else None
    recogniser.decode = BeamDecoder(recogniser.vocabulary, ngram)
    return recogniser


def load_letters(folder: Path = SHIPPED_SLAM) -> CtcWarmup:
    """What the audio tokens of a trained recogniser spell by themselves, before the language model makes sense of it."""
    return CtcWarmup(load_slam(folder))


SYSTEMS: dict[str, Callable[..., Recogniser]] = {
    "slam": load_slam,
    "letters": load_letters,
    "stage_b": load_stage_b,
    "stage_b_beam": load_stage_b_beam,
    "stage_b_ngram": partial(load_stage_b_beam, 20_000),
    "whisper": load_whisper_zero_shot,
}
"""Recognisers by the name that `evaluate --system` takes."""


def locate_system(folder: Path) -> None:
    """Raise CourseError if a run folder, or a part that its config names, is not there. Loads nothing."""
    if (Path(folder) / STAGE_B_CONFIG_NAME).is_file():
        load_run_config(folder)
    else:
        locate_parts(_read_slam_config(folder))
    if not (Path(folder) / BEST_NAME).is_file():
        raise CheckpointError(f"{folder}: no {BEST_NAME} here. A training writes it when it first validates.")


def load_system(folder: Path) -> Recogniser:
    """Load whatever recogniser a run folder holds."""
    return load_stage_b(folder) if (Path(folder) / STAGE_B_CONFIG_NAME).is_file() else load_slam(folder)
