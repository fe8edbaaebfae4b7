"""Teach the projector to spell before it has to make sense: CTC against the frozen embeddings of the letters.

Through the language model alone a fresh projector learns slowly, for at first every audio token is noise to the model, and
the gradient says little about which one is wrong. But the model was trained to read letters. So for its first epochs the
projector learns to place each audio token near the embedding of the letter that is heard (CTC, Graves et al. 2006, with
`<|silence|>` as the blank). Nothing is added: no new weights, the same projector, and the embeddings stay as they are.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.data.batches import SpeechBatch
from course_lib.data.recogniser import Recogniser, Transcript
from course_lib.encoder.base import Padded
from course_lib.slam.letters import BLANK, EmbeddingCtcHead
from course_lib.slam.model import SlamASR
from course_lib.training.step import StepOutput

PULL = 0.5
"""How much it costs to be far from the embeddings of text, beside the CTC loss."""


class CtcWarmup(nn.Module, Recogniser):
    """A recogniser without a language model: what its `EmbeddingCtcHead` spells is what it heard.

    Has what `training.trainer.Trainer` and `data.batches.SpeechCheck` need of a model, so the same loop trains it and the same
    figures are measured.
    """

    def __init__(self, slam: SlamASR):
        super().__init__()
        self.slam, self.ctc_head = slam, EmbeddingCtcHead(slam.llm, slam.tokenizer)

    def forward(self, batch: SpeechBatch) -> StepOutput:
        """CTC loss as `torch.nn.CTCLoss` averages it (per letter, then over clips), plus how far tokens are from text.

        CTC alone only asks which letter a token is most like; tokens three times as long as any embedding satisfy it, and
        the language model, which never saw such a thing, cannot read them. A clip with fewer audio tokens than letters has no
        alignment; its infinite loss is set to 0, so it teaches no letter. "Correct" are the letters of clips without a mistake.
        """
        tokens = self.slam.audio_tokens(batch.features)
        spelled = self.ctc_head.log_probs(tokens)
        log_probs, lengths = spelled
        targets = [self.ctc_head.target(text) for text in batch.texts]
        target_lengths = torch.tensor([len(target) for target in targets])
        time_first = log_probs.transpose(0, 1)
        labels = torch.cat(targets).to(log_probs.device)
        ctc = F.ctc_loss(time_first, labels, lengths, target_lengths, blank=BLANK, zero_infinity=True)
        # To align all clips by hand at every step, for the letters that are right in the others too, would take a third of it.
        pairs = zip(batch.texts, self.ctc_head.greedy_texts(spelled), strict=True)
        right = sum(len(said) for said, read in pairs if said == read)
        return StepOutput(ctc + PULL * self.distance_from_text(tokens, spelled), right, sum(map(len, batch.texts)))

    def distance_from_text(self, tokens: list[Float[Tensor, "_tokens llm_dim"]], log_probs: Padded) -> Float[Tensor, ""]:
        """Mean squared distance of each token from the mix of letter embeddings that it spells; 1 is a letter's own length."""
        embeddings = self.ctc_head.embeddings
        mixes = einsum(log_probs.values.detach().exp(), embeddings, "batch tokens vocab, vocab d -> batch tokens d")
        mixes = torch.cat(Padded(mixes, log_probs.counts).clips())
        return (torch.cat(tokens) - mixes).square().sum(dim=1).mean() / embeddings.square().sum(dim=1).mean()

    @torch.no_grad()
    def loss(self, batch: SpeechBatch) -> StepOutput:
        """`forward` without gradients."""
        return self(batch)

    def encode(self, waveforms: Sequence[Float[Tensor, "_samples"]]) -> list[Float[Tensor, "_frames features"]]:
        """Features of waveforms, by the same frozen encoder."""
        return self.slam.encode(waveforms)

    @torch.no_grad()
    def recognise(self, features: Sequence[Float[Tensor, "_frames features"]]) -> list[Transcript]:
        """Spell out clips that are encoded already."""
        texts = self.ctc_head.greedy_texts(self.ctc_head.log_probs(self.slam.audio_tokens(features)))
        return [Transcript(text) for text in texts]
