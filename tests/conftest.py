"""What every test stands on: a cache of its own, few threads, and two models that are slow enough to build only once."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType
from typing import NamedTuple

import pytest
import torch

from course_lib.config import save_config
from course_lib.data.grammar import draw_utterance
from course_lib.data.synth import make_shipped_slice
from course_lib.encoder.whisper import WhisperEncoder
from course_lib.files import find_model
from course_lib.huggingface import transformers  # before any test imports it: see there
from course_lib.language_model.tiny import build_model, train_tokenizer
from course_lib.systems import SlamConfig
from course_lib.train import train


class TinyLLM(NamedTuple):
    """Unpacks as `llm, tokenizer = tiny_llm`."""

    model: transformers.Qwen2ForCausalLM
    tokenizer: transformers.PreTrainedTokenizerFast


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Point COURSE_CACHE away from the learner's: no test may profit from, or spoil, what was made before it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_CACHE", str(tmp_path_factory.mktemp("course_cache")))
        yield


@pytest.fixture(autouse=True)
def few_threads() -> None:
    """Small models gain nothing from many threads, and a Trainer of the test before may have set its own number."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or min(2, os.cpu_count() or 1)))


@pytest.fixture(scope="session")
def torchaudio() -> ModuleType:
    """torchaudio, which is nothing but an answer to compare with; where it does not fit the torch beside it, README helps."""
    try:
        return importlib.import_module("torchaudio")
    except (ImportError, OSError) as error:
        pytest.skip(f"torchaudio does not load beside torch {torch.__version__}: {error}")


@pytest.fixture(scope="session")
def tiny_llm() -> TinyLLM:
    """A tiny Qwen2 of random weights, in evaluation mode, with a tokenizer from 500 sentences. Copy it before training it."""
    rng = Random("tests")
    tokenizer = train_tokenizer([draw_utterance(rng, "train") for _ in range(500)])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(tokenizer, hidden_size=64, layers=2)
    return TinyLLM(model.eval(), tokenizer)


@pytest.fixture(scope="session")
def encoder() -> WhisperEncoder:
    """The shipped Whisper-base encoder, in fp32."""
    return WhisperEncoder.from_pretrained(find_model("data/models/whisper-base-encoder"))


class TinyRun(NamedTuple):
    """A finished training: its config file, its data, and the run folder that came out."""

    config: Path
    csv: Path
    folder: Path


@pytest.fixture(scope="session")
def tiny_run(tiny_llm: TinyLLM, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """Two epochs on five synthetic clips, with a language model of random weights: all parts, and no sense in the answers."""
    folder = tmp_path_factory.mktemp("tiny_run")
    tiny_llm.model.save_pretrained(folder / "llm")
    tiny_llm.tokenizer.save_pretrained(folder / "llm")
    csv = make_shipped_slice(folder / "audio", per_split=5, most_seconds=1.5)
    config = SlamConfig(
        encoder_name="data/models/whisper-base-encoder",
        llm_name=str(folder / "llm"),
        data=str(csv),
        run_folder=str(folder / "run"),
        projector_dropout=0.2,
        max_new_tokens=8,
        batch_size=2,
        gradient_accumulation_steps=1,
        num_epochs=2,
        warmup_steps=1,
        lr=1e-2,
        validation_interval=1,
        min_delta=0.0,
        num_threads=1,
        precision="fp32",
        device="cpu",
    )
    save_config(config, folder / "config.yaml")
    train(config)
    return TinyRun(folder / "config.yaml", csv, folder / "run")
