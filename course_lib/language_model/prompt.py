"""Audio tokens + prompt + answer → one sequence that a language model reads, its labels, and the loss at those labels.

    position   0 … 49      50 … 55       56 … 66
    input      audio       prompt        answer and end-of-text
    label      -100        -100          the same ids: this is what training is about

A causal language model at position t predicts position t + 1. So the answer at 56 … 66 is read off the logits at 55 … 65: the
last token of the prompt predicts the first word.
"""

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from course_lib.training.step import StepOutput

if TYPE_CHECKING:  # an annotation needs its name only; course_lib.huggingface says why that matters
    import transformers

PROMPT = "Transcribe speech to text.\n"
"""What stands between sound and answer; 6 tokens for Qwen2.5 and for our tiny model."""

IGNORE_INDEX = -100
"""A label that the loss passes over; PyTorch's own value."""


class Row(NamedTuple):
    """One unpadded sequence: what the language model reads, and what it should have written."""

    embeddings: Float[Tensor, "positions llm_dim"]
    labels: Int[Tensor, " positions"]


@dataclass
class SequenceBatch:
    """Rows padded to one length. `attention_mask` is False on padding, `labels` are −100 wherever nothing is learnt."""

    embeddings: Float[Tensor, "batch positions llm_dim"]
    attention_mask: Bool[Tensor, "batch positions"]
    labels: Int[Tensor, "batch positions"]


def build_row(
    audio_tokens: Float[Tensor, "tokens llm_dim"],
    prompt: Float[Tensor, "prompt_tokens llm_dim"],
    answer: Float[Tensor, "answer_tokens llm_dim"],
    answer_ids: Int[Tensor, " answer_tokens"],
) -> Row:
    """Put audio, prompt and answer in a line; only the answer (which ends in end-of-text) gets labels.

    For generation pass an answer of no tokens.
    """
    unlabelled = answer_ids.new_full((len(audio_tokens) + len(prompt),), IGNORE_INDEX)
    return Row(torch.cat([audio_tokens, prompt, answer]), torch.cat([unlabelled, answer_ids]))


def pad_rows(rows: list[Row], side: Literal["left", "right"]) -> SequenceBatch:
    """Pad rows to the longest: on the right for training, on the left for generation.

    New tokens are written at the right end, so when generating every prompt must end there. In training the side makes no
    difference to the loss as long as positions are counted from the first real token.
    """
    return SequenceBatch(
        embeddings=pad_sequence([row.embeddings for row in rows], batch_first=True, padding_side=side),
        attention_mask=pad_sequence(
            [torch.ones_like(row.labels, dtype=torch.bool) for row in rows], batch_first=True, padding_side=side
        ),
        labels=pad_sequence([row.labels for row in rows], batch_first=True, padding_value=IGNORE_INDEX, padding_side=side),
    )


def position_ids(attention_mask: Bool[Tensor, "batch positions"]) -> Int[Tensor, "batch positions"]:
    """Count positions from the first real token, so that padding on the left does not shift a sentence."""
    return (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)


def _label_logits(
    llm: "transformers.PreTrainedModel", batch: SequenceBatch, labelled: Bool[Tensor, "batch shifted"]
) -> Float[Tensor, "labels vocab"]:
    """Logits at the positions from which a label is predicted, and at no others."""
    hidden = llm.get_decoder()(
        inputs_embeds=batch.embeddings,
        attention_mask=batch.attention_mask.long(),
        position_ids=position_ids(batch.attention_mask),
        use_cache=False,
    ).last_hidden_state
    return llm.get_output_embeddings()(hidden[:, :-1][labelled]).float()


def label_loss(llm: "transformers.PreTrainedModel", batch: SequenceBatch) -> StepOutput:
    """Cross-entropy over the labels, from logits at label positions only.

    Qwen2.5 has 151,936 tokens: full logits over 66 positions, most of them audio, would be mostly thrown away. The value
    is that of `llm(inputs_embeds=…, labels=…).loss` in transformers.
    """
    targets = batch.labels[:, 1:]
    labelled = targets != IGNORE_INDEX
    logits = _label_logits(llm, batch, labelled)
    correct = int((logits.argmax(dim=-1) == targets[labelled]).sum())
    return StepOutput(F.cross_entropy(logits, targets[labelled]), correct, int(labelled.sum()))


@torch.no_grad()
def answer_log_probabilities(llm: "transformers.PreTrainedModel", rows: list[Row]) -> Float[Tensor, " rows"]:
    """How likely the language model finds the whole answer of each row, end-of-text included, as a logarithm.

    What `generate_candidates` says of a sentence that it wrote itself, for sentences that somebody else proposes.
    """
    batch = pad_rows(rows, side="right")
    targets = batch.labels[:, 1:]
    labelled = targets != IGNORE_INDEX
    logits = _label_logits(llm, batch, labelled)
    log_probabilities = torch.zeros(targets.shape, device=logits.device)
    log_probabilities[labelled] = -F.cross_entropy(logits, targets[labelled], reduction="none")
    return log_probabilities.sum(dim=1)


class Candidate(NamedTuple):
    """A sentence that the language model could have written, as token ids without end-of-text, and its log-probability."""

    ids: list[int]
    log_probability: float


def generate_ids(
    llm: "transformers.PreTrainedModel", rows: list[Row], max_new_tokens: int, num_beams: int = 1
) -> list[list[int]]:
    """Write on after each row; returns the new tokens of the likeliest candidate, without end-of-text."""
    return [candidates[0].ids for candidates in generate_candidates(llm, rows, max_new_tokens, num_beams)]


@torch.no_grad()
def generate_candidates(
    llm: "transformers.PreTrainedModel", rows: list[Row], max_new_tokens: int, num_beams: int
) -> list[list[Candidate]]:
    """Write on after each row in `num_beams` ways, with a key-value cache; likeliest first, long sentences and short alike.

    One beam is greedy: the likeliest token at every step, and no log-probability is kept (it says 0).

    `generate(inputs_embeds=…)` has no ids of the input to give back, so nothing must be cut off its front. A chat model's
    own settings may punish repeated words; "to to to" can be what was said, so that is switched off.
    """
    batch = pad_rows(rows, side="left")
    written = llm.generate(
        inputs_embeds=batch.embeddings,
        attention_mask=batch.attention_mask.long(),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=num_beams,
        num_return_sequences=num_beams,
        length_penalty=0.0 if num_beams > 1 else None,  # one beam has no use for it, and transformers would say so
        repetition_penalty=1.0,
        use_cache=True,
        return_dict_in_generate=True,
        output_scores=num_beams > 1,
    )
    config = llm.generation_config
    stops = {config.pad_token_id, *np.atleast_1d(config.eos_token_id).tolist()}
    sentences = [list(itertools.takewhile(lambda token: token not in stops, ids)) for ids in written.sequences.tolist()]
    scores = written.sequences_scores.tolist() if num_beams > 1 else [0.0] * len(sentences)
    candidates = [Candidate(*sentence) for sentence in zip(sentences, scores, strict=True)]
    return [candidates[start : start + num_beams] for start in range(0, len(candidates), num_beams)]
