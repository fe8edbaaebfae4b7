"""Teach the projector to spell before it has to make sense: CTC against the frozen embeddings of the letters.

Through the language model alone a fresh projector learns slowly, for at first every audio token is noise to the model, and
the gradient says little about which one is wrong. But the model was trained to read letters. So for its first epochs the
projector learns to place each audio token near the embedding of the letter that is heard (CTC, Graves et al. 2006, with
`<|silence|>` as the blank). Nothing is added: no new weights, the same projector, and the embeddings stay as they are.
"""

import itertools

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from course_lib.metrics import error_counts
from course_lib.prompt import StepOutput
from course_lib.scramble import LETTERS, SILENCE, letter_ids
from course_lib.slam import SlamASR, SpeechBatch

SHARPNESS = 12.0
"""Logit of a letter for an audio token that equals the letter's embedding; another letter's is then near 0."""

PULL = 0.5
"""How much it costs to be far from the embeddings of text, beside the CTC loss."""

BLANK = 0


class Speller(nn.Module):
    """A recogniser without a language model: each audio token is the letter whose embedding it is most like, or blank.

    Has what `training.Trainer` and `train.SpeechCheck` need of a model, so the same loop trains it and the same figures
    are measured. Raises ValueError for a tokenizer that has no `<|silence|>` or splits a letter.
    """

    def __init__(self, slam: SlamASR):
        super().__init__()
        self.slam = slam
        letters, vocabulary = letter_ids(slam.tokenizer), slam.tokenizer.get_vocab()
        if SILENCE not in vocabulary or len(letters) < len(LETTERS):
            raise ValueError("ctc_warmup_epochs: needs a tokenizer with <|silence|> and all Danish letters; set it to 0")
        self.letters = ["", " ", *letters]
        rows = torch.tensor([vocabulary[SILENCE], vocabulary["Ġ"], *letters.values()])
        embeddings = slam.llm.get_input_embeddings().weight.detach()[rows.to(slam.device)].float()
        self.register_buffer("embeddings", embeddings, persistent=False)

    def forward(self, batch: SpeechBatch) -> StepOutput:
        """CTC loss as `torch.nn.CTCLoss` averages it (per letter, then over clips), plus how far tokens are from text.

        CTC alone only asks which letter a token is most like; tokens three times as long as any embedding satisfy it, and
        the language model, which never saw such a thing, cannot read them. A clip with fewer audio tokens than letters has no
        alignment; its infinite loss is set to 0, so it teaches no letter. "Correct" are the letters spelled right.
        """
        tokens = self.slam.audio_tokens(batch.features)
        scores, lengths = self.scores(tokens)
        targets = [self.target(text) for text in batch.texts]
        target_lengths = torch.tensor([len(target) for target in targets])
        time_first = scores.transpose(0, 1)
        ctc = F.ctc_loss(time_first, torch.cat(targets), lengths, target_lengths, blank=BLANK, zero_infinity=True)
        right = sum(counts.hits for counts in error_counts(batch.texts, self.spell(scores, lengths), "char"))
        return StepOutput(ctc + PULL * self.distance_from_text(tokens, scores), right, sum(map(len, batch.texts)))

    def scores(
        self, tokens: list[Float[Tensor, "_tokens llm_dim"]]
    ) -> tuple[Float[Tensor, "batch tokens vocab"], Int[Tensor, " batch"]]:
        """Log-probability of blank, space and each letter at every audio token, padded, and the true lengths."""
        padded = pad_sequence(tokens, batch_first=True)
        likeness = einsum(padded, self.embeddings, "batch tokens d, vocab d -> batch tokens vocab")
        logits = SHARPNESS * likeness / self.embeddings.square().sum(dim=1).mean()
        return logits.log_softmax(dim=-1), torch.tensor([len(clip) for clip in tokens])

    def distance_from_text(
        self, tokens: list[Float[Tensor, "_tokens llm_dim"]], scores: Float[Tensor, "batch tokens vocab"]
    ) -> Float[Tensor, ""]:
        """Mean squared distance of each token from the mix of letter embeddings that it spells; 1 is a letter's own length."""
        mixes = einsum(scores.detach().exp(), self.embeddings, "batch tokens vocab, vocab d -> batch tokens d")
        mixes = torch.cat([mix[: len(clip)] for mix, clip in zip(mixes, tokens, strict=True)])
        return (torch.cat(tokens) - mixes).square().sum(dim=1).mean() / self.embeddings.square().sum(dim=1).mean()

    def target(self, text: str) -> Int[Tensor, " letters"]:
        """The letters of a text as indices into `letters`; what is no Danish letter (the é of "idé") is left out."""
        return torch.tensor([self.letters.index(letter) for letter in text if letter in self.letters])

    @torch.no_grad()
    def loss(self, batch: SpeechBatch) -> StepOutput:
        """`forward` without gradients."""
        return self(batch)

    @torch.no_grad()
    def transcribe_features(self, features: list[Float[Tensor, "_frames features"]], max_new_tokens: int = 0) -> list[str]:
        """Spell out clips that are encoded already; `max_new_tokens` means nothing here."""
        return self.spell(*self.scores(self.slam.audio_tokens(features)))

    def spell(self, scores: Float[Tensor, "batch tokens vocab"], lengths: Int[Tensor, " batch"]) -> list[str]:
        """The likeliest letter of each token, repeats merged, blanks removed."""
        best = [row[:length].tolist() for row, length in zip(scores.argmax(dim=-1), lengths, strict=True)]
        collapsed = ("".join(self.letters[index] for index, _ in itertools.groupby(row)) for row in best)
        return [" ".join(text.split()) for text in collapsed]
