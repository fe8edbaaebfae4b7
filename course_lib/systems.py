"""A config or a run folder → a whole recogniser, ready to train or to transcribe.

A run folder (and the one shipped in `data/models/slam-tiny`) holds `train_config.yaml`, which names the frozen parts, and
`best.safetensors`, the trained ones.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from course_lib.compute import Precision, pick_device, set_seed
from course_lib.config import load_config, replace
from course_lib.ctc.beam import BeamDecoder
from course_lib.ctc.recogniser import CONFIG_NAME as STAGE_B_CONFIG_NAME
from course_lib.ctc.recogniser import SHIPPED_STAGE_B, StageBRecogniser, load_stage_b, load_stage_b_encoder
from course_lib.data.grammar import draw_utterance, load_grammar
from course_lib.data.recogniser import Recogniser
from course_lib.data.settings import SpeechTrainSettings
from course_lib.encoder.base import SpeechEncoder
from course_lib.encoder.whisper import WhisperEncoder
from course_lib.evaluation.whisper_zero_shot import load_whisper_zero_shot
from course_lib.files import DATA_FOLDER, find_model
from course_lib.language_model.pretrained import load_llm
from course_lib.language_model.prompt import PROMPT
from course_lib.slam.ctc_warmup import CtcWarmup
from course_lib.slam.model import SlamASR
from course_lib.slam.projector import PROJECTORS, ProjectorName
from course_lib.text.char_ngram import CharNgram
from course_lib.training.checkpoints import load_weights

CONFIG_NAME = "train_config.yaml"
SHIPPED_SLAM = DATA_FOLDER / "models" / "slam-tiny"


class SlamConfig(SpeechTrainSettings):
    """Everything about a SLAM-ASR run: which models, which data, how to train. `configs/train_config.yaml` explains."""

    encoder_name: str
    llm_name: str
    data: str
    projector: ProjectorName = "concat"
    k: PositiveInt = 5
    projector_hidden_dim: PositiveInt = 512
    projector_dropout: float = Field(0.0, ge=0, lt=1)
    ctc_warmup_epochs: NonNegativeInt = 0
    ctc_warmup_lr: PositiveFloat = 2e-3
    freeze_encoder: bool = True
    freeze_llm: bool = True
    prompt: str = PROMPT
    max_audio_length: PositiveFloat = 30.0
    max_new_tokens: PositiveInt = 64
    num_beams: PositiveInt = 1
    ctc_weight: NonNegativeFloat = 0.0
    listed_candidates: NonNegativeInt = 0
    run_folder: str = "runs/slam"

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


def load_system(folder: Path) -> Recogniser:
    """Load whatever recogniser a run folder holds."""
    return load_stage_b(folder) if (Path(folder) / STAGE_B_CONFIG_NAME).is_file() else load_slam(folder)
