"""Danish text → a tiny language model with Qwen2's architecture, trained on text alone.

The full course freezes Qwen2.5, which learnt to copy, correct and continue text from trillions of tokens. Our stand-in has
three million parameters and learns just enough of that from two tasks on text:

* continue: predict the next token of a Danish sentence, as any language model does;
* denoise: read a corrupted sentence (other tokens, repeated, deleted, substituted, with silence and noise), then the prompt,
  then write the sentence as it should be. For a large model, copying what stands in its context is a by-product of its
  training; ours practises it. Audio tokens will later take the place of the corrupted tokens.

It never hears audio, and no sentence of the dev or test split is in its text (`grammar.split_of`).
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt, field_validator
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn

from course_lib.compute import Precision, autocast, set_seed
from course_lib.config import PathName, save_config
from course_lib.data.grammar import draw_utterance
from course_lib.files import save_json, write_manifest
from course_lib.huggingface import transformers
from course_lib.language_model.denoising import SILENCE, Corruption, Corruptor
from course_lib.language_model.prompt import PROMPT, Row, build_row, generate_ids, label_loss, pad_rows
from course_lib.text.metrics import word_error_rate
from course_lib.training.checkpoints import CheckpointError
from course_lib.training.run_folder import claimed, holds_run, is_shipped, run_config
from course_lib.training.settings import TrainSettings, refuse_too_large
from course_lib.training.step import StepOutput
from course_lib.training.trainer import Trainer

CONFIG_NAME = "tiny_lm.yaml"
MODEL_FILES = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
"""What a language model is read from."""

END_OF_TEXT, PAD = "<|endoftext|>", "<|pad|>"


def train_tokenizer(sentences: list[str], vocab_size: int = 512) -> transformers.PreTrainedTokenizerFast:
    """Train a byte-level BPE as Qwen2.5's, but of a few hundred tokens; the prompt becomes six of them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT, PAD, SILENCE],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    prompts = [PROMPT] * len(sentences)
    tokenizer.train_from_iterator([*sentences, *prompts], trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT, pad_token=PAD)


def build_model(
    tokenizer: transformers.PreTrainedTokenizerFast, hidden_size: int = 256, layers: int = 4
) -> transformers.Qwen2ForCausalLM:
    """A Qwen2 of about 3 M parameters: the architecture of Qwen2.5, every size smaller."""
    config = transformers.Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 5 // 2,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        attn_implementation="eager",
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return transformers.Qwen2ForCausalLM(config)


class TinyLMConfig(TrainSettings):
    """How the shipped language model is made; `configs/tiny_lm.yaml`."""

    output_folder: PathName = "runs/tiny-danish-lm"
    run_folder: PathName = "runs/tiny_lm"
    vocab_size: int = Field(512, ge=259, le=100_000)
    hidden_size: int = Field(256, ge=8, multiple_of=8)
    layers: PositiveInt = 4
    tokenizer_sentences: int = Field(20_000, gt=0, le=10_000_000)
    batches_per_epoch: PositiveInt = 500
    monitor: Literal["denoising_wer"] = "denoising_wer"
    denoising_share: float = Field(0.8, ge=0, le=1)
    dev_sentences: int = Field(300, gt=0, le=100_000)
    precision: Precision = "auto"

    @field_validator("layers")
    @classmethod
    def _can_be_trained(cls, layers: int, info) -> int:
        width, tokens = info.data.get("hidden_size", 0), info.data.get("vocab_size", 0)
        refuse_too_large(tokens * width + 11 * layers * width**2)
        return layers


@dataclass(frozen=True)
class TextExample:
    """One sentence as token ids (with end-of-text), and corrupted ids to restore it from (None: just continue the text)."""

    answer_ids: list[int]
    corrupted_ids: list[int] | None

    def length(self) -> int:
        """Positions it takes up, near enough to sort by."""
        return len(self.answer_ids) + len(self.corrupted_ids or [])


class TextTasks(nn.Module):
    """The language model and its two text tasks, in the form that `training.trainer.Trainer` trains."""

    def __init__(
        self,
        llm: transformers.Qwen2ForCausalLM,
        tokenizer: transformers.PreTrainedTokenizerFast,
        corruption: Corruption,
        precision: Precision,
    ):
        super().__init__()
        self.llm, self.corruption, self.precision = llm, corruption, precision
        self.register_buffer("prompt_ids", torch.tensor(tokenizer(PROMPT).input_ids), persistent=False)
        self.start_id = tokenizer.eos_token_id

    def forward(self, batch: list[TextExample]) -> StepOutput:
        """Loss over both tasks together: rows with corrupted ids are denoised, rows without are continued from their start."""
        with autocast(self.precision, self.prompt_ids.device):
            return label_loss(self.llm, pad_rows(self.rows(batch), side="right"))

    def rows(self, batch: list[TextExample]) -> list[Row]:
        """Embed all ids of the batch in one look-up (64 small ones cost more than the whole model), then cut them apart."""
        parts = [part for example in batch for part in self._parts(example)]
        lengths = [len(part) for part in parts]
        flat = torch.tensor(list(itertools.chain(*parts)), device=self.prompt_ids.device)
        embeddings = self.llm.get_input_embeddings()(flat).split(lengths)
        answer_ids = flat.split(lengths)[2::3]
        corrupted, prompts, answers = embeddings[0::3], embeddings[1::3], embeddings[2::3]
        if self.training:
            corrupted = [self._add_noise(row) for row in corrupted]
        return [build_row(*row) for row in zip(corrupted, prompts, answers, answer_ids, strict=True)]

    def _parts(self, example: TextExample) -> tuple[list[int], list[int], list[int]]:
        """Corrupted ids, what stands between, answer: the prompt when denoising, else only a start for the first prediction."""
        if example.corrupted_ids is None:
            return [], [self.start_id], example.answer_ids
        return example.corrupted_ids, self.prompt_ids.tolist(), example.answer_ids

    def _add_noise(self, tokens: Float[Tensor, "tokens llm_dim"]) -> Float[Tensor, "tokens llm_dim"]:
        """Blend each embedding with the next one and add Gaussian noise: a window of sound rarely holds exactly one sound."""
        if len(tokens) == 0:
            return tokens
        share = self.corruption.blend * torch.rand(1, device=tokens.device) * torch.rand(len(tokens), 1, device=tokens.device)
        following = torch.cat([tokens[1:], tokens[-1:]])
        blended = (1 - share) * tokens + share * following
        sigma = self.corruption.noise * torch.rand(1, device=tokens.device) * tokens.detach().std()
        return blended + sigma * torch.randn_like(blended)


class TextBatches:
    """Fresh sentences every epoch, none from dev or test, in batches of similar length."""

    def __init__(self, tokenizer: transformers.PreTrainedTokenizerFast, settings: TinyLMConfig):
        self.tokenizer, self.settings = tokenizer, settings

    def __call__(self, epoch: int) -> Iterator[list[TextExample]]:
        """Yield `batches_per_epoch` batches; the same epoch gives the same batches."""
        rng = random.Random(f"{self.settings.seed} {epoch}")
        corruptor = Corruptor(self.tokenizer, Corruption(), rng)
        size, left = self.settings.batch_size, self.settings.batches_per_epoch
        while left > 0:
            pool = [self._example(corruptor, rng) for _ in range(size * min(20, left))]
            pool.sort(key=TextExample.length)
            batches = [pool[start : start + size] for start in range(0, len(pool), size)]
            rng.shuffle(batches)
            yield from batches
            left -= len(batches)

    def _example(self, corruptor: Corruptor, rng: random.Random) -> TextExample:
        sentence = draw_utterance(rng, "train")
        answer_ids = [*self.tokenizer(sentence).input_ids, self.tokenizer.eos_token_id]
        denoise = rng.random() < self.settings.denoising_share
        return TextExample(answer_ids, corruptor.corrupt(sentence) if denoise else None)


class DenoisingCheck:
    """Validation by doing the task: dev sentences, corrupted once and for all, are restored and compared."""

    def __init__(self, tasks: TextTasks, tokenizer: transformers.PreTrainedTokenizerFast, settings: TinyLMConfig):
        rng = random.Random(f"{settings.seed} dev")
        corruptor = Corruptor(tokenizer, Corruption(), rng)
        self.tasks, self.tokenizer = tasks, tokenizer
        self.sentences = [draw_utterance(rng, "dev") for _ in range(settings.dev_sentences)]
        self.examples = [TextExample([], corruptor.corrupt(sentence)) for sentence in self.sentences]

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """Word error rate of the restored dev sentences (tokens corrupted, embeddings without noise)."""
        with autocast(self.tasks.precision, self.tasks.prompt_ids.device):
            written = generate_ids(self.tasks.llm, self.tasks.rows(self.examples), max_new_tokens=60)
        texts = [self.tokenizer.decode(ids) for ids in written]
        return {"denoising_wer": word_error_rate(self.sentences, texts)}


def train_tiny_lm(settings: TinyLMConfig, resume: bool = False) -> Path:
    """Train tokenizer and model, and save them as a standard Hugging Face folder (fp16 safetensors).

    Raises CourseError for an output folder that comes with the course, or that holds a model already.
    """
    folder = Path(settings.output_folder)
    if is_shipped(folder):
        raise CheckpointError(
            f"output_folder: {folder} is the course's own model, which everything here reads. Name another, and when it is "
            f"good: python data/models/ship.py {TinyLMConfig.model_fields['output_folder'].default} {folder}"
        )
    if not resume and holds_run(folder):
        raise CheckpointError(f"output_folder: {folder} holds a model already. Move it away, or name another folder.")
    with claimed(Path(settings.run_folder), CONFIG_NAME, settings, resume):
        return _train_tiny_lm(settings, resume)


def _train_tiny_lm(settings: TinyLMConfig, resume: bool) -> Path:
    rng = random.Random(f"{settings.seed} tokenizer")
    sentences = [draw_utterance(rng, "train") for _ in range(settings.tokenizer_sentences)]
    tokenizer = train_tokenizer(sentences, settings.vocab_size)
    set_seed(settings.seed)
    tasks = TextTasks(
        build_model(tokenizer, settings.hidden_size, settings.layers), tokenizer, Corruption(), settings.precision
    )
    check = DenoisingCheck(tasks, tokenizer, settings)
    batches = TextBatches(tokenizer, settings)
    trainer = Trainer(tasks, batches, settings.batches_per_epoch, check, settings, Path(settings.run_folder))
    if resume:
        trainer.resume()
    else:
        save_config(settings, Path(settings.run_folder) / CONFIG_NAME)
    trainer.fit()
    folder = Path(settings.output_folder)
    tasks.llm.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_json(trainer.log, folder / "training_log.json")
    write_manifest(folder, MODEL_FILES, config=run_config(settings), updates=trainer.progress.step)
    return folder
