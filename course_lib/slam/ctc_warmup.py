"""Teach the projector to spell before it has to make sense: CTC against the frozen embeddings of the letters.

Through the language model alone a fresh projector learns slowly, for at first every audio token is noise to the model, and
the gradient says little about which one is wrong. But the model was trained to read letters. So for its first epochs the
projector learns to place each audio token near the embedding of the letter that is heard (CTC, Graves et al. 2006, with
`<|silence|>` as the blank). Nothing is added: no new weights, the same projector, and the embeddings stay as they are.
"""

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.data.batches import SpeechBatch
from course_lib.slam.letters import BLANK, EmbeddingCtcHead
from course_lib.slam.model import SlamASR
from course_lib.training.step import StepOutput

PULL = 0.5
"""How much it costs to be far from the embeddings of text, beside the CTC loss."""


class CtcWarmup(nn.Module):
    """A recogniser without a language model: what its `EmbeddingCtcHead` spells is what it heard.

    Has what `training.trainer.Trainer` and `data.batches.SpeechCheck` need of a model, so the same loop trains it and the same
    figures are measured.
    """

    def __init__(self, slam: SlamASR):
        super().__init__()
        self.slam, self.letters = slam, EmbeddingCtcHead(slam.llm, slam.tokenizer)

    def forward(self, batch: SpeechBatch) -> StepOutput:
        """CTC loss as `torch.nn.CTCLoss` averages it (per letter, then over clips), plus how far tokens are from text.

        CTC alone only asks which letter a token is most like; tokens three times as long as any embedding satisfy it, and
        the language model, which never saw such a thing, cannot read them. A clip with fewer audio tokens than letters has no
        alignment; its infinite loss is set to 0, so it teaches no letter. "Correct" are the letters of clips without a mistake.
        """
        tokens = self.slam.audio_tokens(batch.features)
        scores, lengths = self.letters.scores(tokens)
        targets = [self.letters.target(text) for text in batch.texts]
        target_lengths = torch.tensor([len(target) for target in targets])
        time_first = scores.transpose(0, 1)
        labels = torch.cat(targets).to(scores.device)
        ctc = F.ctc_loss(time_first, labels, lengths, target_lengths, blank=BLANK, zero_infinity=True)
        # To align all clips by hand at every step, for the letters that are right in the others too, would take a third of it.
        spelled = zip(batch.texts, self.letters.spell(scores, lengths), strict=True)
        right = sum(len(said) for said, read in spelled if said == read)
        return StepOutput(ctc + PULL * self.distance_from_text(tokens, scores), right, sum(map(len, batch.texts)))

    def distance_from_text(
        self, tokens: list[Float[Tensor, "_tokens llm_dim"]], scores: Float[Tensor, "batch tokens vocab"]
    ) -> Float[Tensor, ""]:
        """Mean squared distance of each token from the mix of letter embeddings that it spells; 1 is a letter's own length."""
        embeddings = self.letters.embeddings
        mixes = einsum(scores.detach().exp(), embeddings, "batch tokens vocab, vocab d -> batch tokens d")
        mixes = torch.cat([mix[: len(clip)] for mix, clip in zip(mixes, tokens, strict=True)])
        return (torch.cat(tokens) - mixes).square().sum(dim=1).mean() / embeddings.square().sum(dim=1).mean()

    @torch.no_grad()
    def loss(self, batch: SpeechBatch) -> StepOutput:
        """`forward` without gradients."""
        return self(batch)

    @torch.no_grad()
    def transcribe_features(self, features: list[Float[Tensor, "_frames features"]], max_new_tokens: int = 0) -> list[str]:
        """Spell out clips that are encoded already; `max_new_tokens` means nothing here."""
        return self.letters.spell(*self.letters.scores(self.slam.audio_tokens(features)))
