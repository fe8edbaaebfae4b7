"""What every test stands on: a cache of its own, few threads, and two models that are slow enough to build only once."""

import os
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import pytest
import torch
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from course_lib.cache import find_model
from course_lib.encoders import WhisperEncoder
from course_lib.grammar import draw_utterance
from course_lib.tiny_lm import build_model, train_tokenizer


class TinyLLM(NamedTuple):
    """Unpacks as `llm, tokenizer = tiny_llm`."""

    model: Qwen2ForCausalLM
    tokenizer: PreTrainedTokenizerFast


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
