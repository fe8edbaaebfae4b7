"""Audio tokens → letters without a language model: each token is the letter whose embedding it is most like, or silence.

The embeddings are the frozen language model's own, so there is nothing to train here. The projector learns to spell with it
(`ctc_warmup`), and when the language model has written several sentences, it says which of them was heard (`slam`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from einops import einsum, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_lib.ctc.paths import greedy_decode
from course_lib.encoder.base import Padded
from course_lib.errors import CourseError
from course_lib.language_model.denoising import LETTERS, SILENCE, letter_ids

if TYPE_CHECKING:  # an annotation needs its name only; course_lib.huggingface says why that matters
    import transformers

SHARPNESS = 12.0
"""Logit of a letter for an audio token that equals the letter's embedding; another letter's is then near 0."""

BLANK = 0


class Targets(NamedTuple):
    """The letters of several texts one after the other, and how many each text has, as `F.ctc_loss` takes them."""

    letters: Int[Tensor, " letters"]
    lengths: Int[Tensor, " texts"]


class EmbeddingCtcHead(nn.Module):
    """Scores of blank, space and the Danish letters for audio tokens, and what CTC (Graves et al. 2006) makes of them.

    `<|silence|>` is the blank. Raises ValueError for a tokenizer that has no such token or splits a letter.
    """

    def __init__(self, llm: "transformers.PreTrainedModel", tokenizer: "transformers.PreTrainedTokenizerBase"):
        super().__init__()
        letters, vocabulary = letter_ids(tokenizer), tokenizer.get_vocab()
        if SILENCE not in vocabulary or len(letters) < len(LETTERS):
            raise CourseError(
                "ctc_warmup_epochs and ctc_weight: need a tokenizer with <|silence|> and all Danish letters; set both to 0"
            )
        self.symbols = ["", " ", *letters]
        table = llm.get_input_embeddings().weight.detach()
        rows = torch.tensor([vocabulary[SILENCE], vocabulary["Ġ"], *letters.values()], device=table.device)
        self.register_buffer("embeddings", table[rows].float(), persistent=False)

    def log_probs(self, tokens: list[Float[Tensor, "_tokens llm_dim"]]) -> Padded:
        """Log-probability of blank, space and each letter at every audio token."""
        padded = Padded.of(tokens)
        likeness = einsum(padded.values, self.embeddings, "batch tokens d, vocab d -> batch tokens vocab")
        logits = SHARPNESS * likeness / self.embeddings.square().sum(dim=1).mean()
        return Padded(logits.log_softmax(dim=-1), padded.counts)

    def target(self, text: str) -> Int[Tensor, " letters"]:
        """The letters of a text as indices into `symbols`; what is no Danish letter (the é of "idé") is left out."""
        return torch.tensor([self.symbols.index(letter) for letter in text if letter in self.symbols], dtype=torch.long)

    def greedy_texts(self, log_probs: Padded) -> list[str]:
        """The likeliest letter of each token, repeats merged, blanks removed."""
        spelled = ("".join(self.symbols[index] for index in greedy_decode(clip, BLANK)) for clip in log_probs.clips())
        return [" ".join(text.split()) for text in spelled]

    def targets(self, texts: Sequence[str]) -> Targets:
        """The letters of some texts, to be scored: a long list is worth keeping."""
        targets = [self.target(text) for text in texts]
        return Targets(torch.cat(targets), torch.tensor([len(target) for target in targets]))

    @torch.no_grad()
    def log_likelihoods(
        self, tokens: Float[Tensor, "tokens llm_dim"], texts: Sequence[str] | Targets
    ) -> Float[Tensor, " texts"]:
        """How likely the audio tokens of one clip spell each of some texts: CTC's sum over all paths, as a logarithm.

        −inf for a text that needs more tokens than the clip has (`ctc.paths.frames_needed`).
        """
        targets = texts if isinstance(texts, Targets) else self.targets(texts)
        log_probs, lengths = self.log_probs([tokens])
        copies = repeat(log_probs, "1 tokens vocab -> tokens texts vocab", texts=len(targets.lengths))
        lengths = repeat(lengths, "1 -> texts", texts=len(targets.lengths))
        letters = targets.letters.to(copies.device)
        return -F.ctc_loss(copies, letters, lengths, targets.lengths, blank=BLANK, reduction="none")
