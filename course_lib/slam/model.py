"""Sound → text through three parts: a frozen encoder, a projector, a frozen language model (SLAM-ASR, Ma et al. 2024).

    features [frames, 512] → audio tokens [frames // k, llm_dim] → [audio][prompt] → the model writes the answer

The projector is the only part with gradients. Encoder and language model stay in eval mode whatever `train()` says.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.compute import Precision, autocast
from course_lib.ctc.word_times import align_words
from course_lib.data.batches import SpeechBatch
from course_lib.data.recogniser import NoWordTimesError, Recogniser, Transcript, Word
from course_lib.encoder.base import Padded, SpeechEncoder
from course_lib.language_model.prompt import (
    PROMPT,
    Candidate,
    Row,
    SequenceBatch,
    answer_log_probabilities,
    build_row,
    generate_candidates,
    label_loss,
    pad_rows,
)
from course_lib.slam.letters import EmbeddingCtcHead
from course_lib.slam.n_best import Hypothesis, n_best_share
from course_lib.slam.projector import Projector
from course_lib.training.step import StepOutput

if TYPE_CHECKING:  # an annotation needs its name only; course_lib.huggingface says why that matters
    import transformers


LONGEST_WORD = 3.0
"""Seconds of a clip, silence included, up to which it may hold one word only."""


class SlamASR(nn.Module, Recogniser):
    """Encoder + projector + language model. `forward` gives the loss of a batch, `transcribe` the text of clips.

    The language model writes `num_beams` sentences of at most `max_new_tokens`. With a `ctc_weight`, the one is taken that is
    likely *and* spelled by the audio tokens: the one with the highest `Hypothesis.joint_score`. For a clip short enough to
    be a single word, the `listed_candidates` words of `word_list` that its audio tokens spell best stand for election, too.
    """

    def __init__(
        self,
        encoder: SpeechEncoder,
        projector: Projector,
        llm: "transformers.PreTrainedModel",
        tokenizer: "transformers.PreTrainedTokenizerBase",
        prompt: str = PROMPT,
        precision: Precision = "auto",
        num_beams: int = 1,
        ctc_weight: float = 0.0,
        max_new_tokens: int = 64,
        word_list: Sequence[str] = (),
        listed_candidates: int = 0,
    ):
        super().__init__()
        self.encoder, self.projector, self.tokenizer, self.precision = encoder, projector, tokenizer, precision
        self.llm = llm.requires_grad_(False)
        self.num_beams, self.ctc_weight, self.max_new_tokens = num_beams, ctc_weight, max_new_tokens
        self.ctc_head = EmbeddingCtcHead(llm, tokenizer) if ctc_weight else None
        self.word_list, self.listed_candidates = list(word_list), listed_candidates
        self.listed_targets = self.ctc_head.targets(self.word_list) if self.ctc_head and word_list else None
        self.register_buffer("prompt_ids", torch.tensor(tokenizer(prompt).input_ids, dtype=torch.long), persistent=False)
        self.train(False)

    @property
    def device(self) -> torch.device:
        """Where the parts are."""
        return self.prompt_ids.device

    def train(self, mode: bool = True) -> "SlamASR":
        """Switch the projector only: the frozen parts must not start to drop units."""
        super().train(False)
        self.training = mode
        self.projector.train(mode)
        return self

    def forward(self, batch: SpeechBatch) -> StepOutput:
        """Mean loss over the answer tokens of a batch (right-padded), and how many of them were predicted correctly."""
        with autocast(self.precision, self.device):
            return label_loss(self.llm, self.sequences(batch))

    @torch.no_grad()
    def loss(self, batch: SpeechBatch) -> StepOutput:
        """`forward` without gradients: the loss under teacher forcing, for measuring."""
        return self(batch)

    def sequences(self, batch: SpeechBatch) -> SequenceBatch:
        """The padded sequences `[audio][prompt][answer][eos]` of a batch with their labels."""
        features = [self._shift(clip) for clip in batch.features] if self.training else batch.features
        return pad_rows(self._rows(self.audio_tokens(features), batch.texts), side="right")

    @torch.no_grad()
    def encode(self, waveforms: Sequence[Float[Tensor, "_samples"]]) -> list[Float[Tensor, "_frames features"]]:
        """Features of waveforms, one by one: a handful of clips needs no batch."""
        return [self.encoder.encode_waveform(waveform) for waveform in waveforms]

    def audio_tokens(self, features: Sequence[Float[Tensor, "_frames features"]]) -> list[Float[Tensor, "_tokens llm_dim"]]:
        """Project clips of different lengths together; a clip of n frames gives n // k tokens, in fp32."""
        padded = Padded.of([clip.to(self.device).float() for clip in features])
        with torch.autocast(self.device.type, enabled=False):
            tokens = self.projector(*padded)
        return Padded(tokens, self.projector.tokens_of(padded.counts)).clips()

    @torch.no_grad()
    def hypotheses(self, features: Sequence[Float[Tensor, "_frames features"]]) -> list[list[Hypothesis]]:
        """All that may have been said in each clip (`num_beams` sentences, and words of the list), the best one first."""
        audio_tokens = self.audio_tokens(features)
        with autocast(self.precision, self.device):
            written = generate_candidates(self.llm, self._rows(audio_tokens, None), self.max_new_tokens, self.num_beams)
        seconds = [len(clip) / self.encoder.config.frames_per_second for clip in features]
        listed = [
            self.listed_words(clip) if length <= LONGEST_WORD else []
            for clip, length in zip(audio_tokens, seconds, strict=True)
        ]
        return [self._rank(*clip) for clip in zip(audio_tokens, written, listed, strict=True)]

    @torch.no_grad()
    def listed_words(self, audio_tokens: Float[Tensor, "tokens llm_dim"]) -> list[Candidate]:
        """The words of the list that a clip's audio tokens spell best, each with what the language model thinks of it."""
        if not self.listed_candidates or self.listed_targets is None:
            return []
        scores = self.ctc_head.log_likelihoods(audio_tokens, self.listed_targets)
        best = scores.topk(min(self.listed_candidates, len(scores))).indices.tolist()
        words = [self.word_list[index] for index in best if scores[index] > -torch.inf]
        if not words:
            return []
        with autocast(self.precision, self.device):
            likely = answer_log_probabilities(self.llm, self._rows([audio_tokens] * len(words), words))
        ids = [self.answer_ids(word)[:-1].tolist() for word in words]
        return [Candidate(*word) for word in zip(ids, likely.tolist(), strict=True)]

    def recognise(self, features: Sequence[Float[Tensor, "_frames features"]]) -> list[Transcript]:
        """The best sentence of each clip; with a beam, its share of the scores of all sentences in it is the confidence."""
        clips = self.hypotheses(features)
        if self.num_beams == 1:
            return [Transcript(best.text) for [best] in clips]
        return [Transcript(candidates[0].text, n_best_share(candidates, self.ctc_weight)) for candidates in clips]

    @torch.no_grad()
    def word_times(self, features: Float[Tensor, "frames features"], text: str) -> list[Word]:
        """When each word was said, by the letters that the audio tokens spell; with the shipped k = 2, in steps of 40 ms.

        See `align_words`. Raises NoWordTimesError for a language model whose tokenizer has no token for each letter.
        """
        try:
            head = self.ctc_head or EmbeddingCtcHead(self.llm, self.tokenizer)
        except ValueError as error:
            raise NoWordTimesError("this language model has no embedding for each letter, so no word can be timed") from error
        [log_probs] = head.log_probs(self.audio_tokens([features])).clips()
        step = self.projector.k / self.encoder.config.frames_per_second
        return align_words(
            log_probs, text, lambda letters: head.target(letters).tolist(), step, separator=head.target(" ").tolist()
        )

    def _rank(
        self, audio_tokens: Float[Tensor, "tokens llm_dim"], candidates: list[Candidate], listed: list[Candidate]
    ) -> list[Hypothesis]:
        # A word that the beam has, too, must not count twice in `n_best_share`.
        candidates = candidates + [word for word in listed if word.ids not in [candidate.ids for candidate in candidates]]
        texts = [self.tokenizer.decode(candidate.ids, skip_special_tokens=True) for candidate in candidates]
        texts = [" ".join(text.split()) for text in texts]
        spelled = self.ctc_head.log_likelihoods(audio_tokens, texts).tolist() if self.ctc_head else [0.0] * len(texts)
        likely = [candidate.log_probability for candidate in candidates]
        hypotheses = map(Hypothesis, texts, likely, spelled)
        return sorted(hypotheses, key=lambda hypothesis: hypothesis.joint_score(self.ctc_weight), reverse=True)

    def _rows(self, audio_tokens: list[Float[Tensor, "_tokens llm_dim"]], texts: list[str] | None) -> list[Row]:
        embed = self.llm.get_input_embeddings()
        prompt = embed(self.prompt_ids)
        answers = [self.answer_ids(text) for text in texts] if texts else [self.prompt_ids[:0]] * len(audio_tokens)
        tokens = [clip.to(prompt.dtype) for clip in audio_tokens]
        return [build_row(*parts, ids) for *parts, ids in
                zip(tokens, [prompt] * len(tokens), map(embed, answers), answers, strict=True)]  # fmt: skip

    def answer_ids(self, text: str) -> Tensor:
        """Token ids of a transcript, with the end-of-text token that teaches the model to stop."""
        return torch.tensor([*self.tokenizer(text).input_ids, self.tokenizer.eos_token_id], device=self.device)

    def _shift(self, features: Float[Tensor, "_frames features"]) -> Float[Tensor, "_frames features"]:
        """Start a training clip up to k - 1 frames late, so that the projector's windows fall anywhere on a sound."""
        latest = min(self.projector.k - 1, max(0, len(features) - self.projector.k))
        return features[int(torch.randint(latest + 1, ())) :]
