"""Whisper as it comes, encoder and decoder, told only "Danish, transcribe": what the course's systems are measured against.

    waveform → 30 s of log-mel [3000, 80] → encoder [1500, 512] → decoder → text → `normalise`

It was trained on 680,000 hours of people and on none of our robots. The weights (145 MB in fp16) are no part of the course.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

from course_lib.data.recogniser import Recogniser, Transcript
from course_lib.errors import CourseError
from course_lib.files import find_model
from course_lib.sound.audio import SAMPLE_RATE
from course_lib.sound.mel import whisper_log_mel
from course_lib.text.normalise import normalise

if TYPE_CHECKING:  # an annotation needs its name only; course_lib.huggingface says why that matters
    import transformers

LANGUAGE, TASK = "da", "transcribe"
SPECIAL = {
    "start": "<|startoftranscript|>",
    "language": f"<|{LANGUAGE}|>",
    "task": f"<|{TASK}|>",
    "no_timestamps": "<|notimestamps|>",
    "end": "<|endoftext|>",
}
"""What Whisper's decoder is told before it writes, and what it writes when it is done."""


class WhisperZeroShot(Recogniser):
    """A whole Whisper, used like the systems of `course_lib.systems`."""

    def __init__(self, model: "transformers.WhisperForConditionalGeneration", tokenizer: Tokenizer, max_new_tokens: int = 64):
        """Raises ValueError for a tokenizer without Whisper's special tokens, as the English-only models have it."""
        self.model, self.tokenizer, self.max_new_tokens = model.float().eval(), tokenizer, max_new_tokens
        self.ids = {name: tokenizer.token_to_id(token) for name, token in SPECIAL.items()}
        missing = [SPECIAL[name] for name, token_id in self.ids.items() if token_id is None]
        if missing:
            raise CourseError(f"this tokenizer has no {', '.join(missing)}; a multilingual Whisper is needed")
        self.model.generation_config = self._generation_config()
        self.longest_seconds = self.piece_seconds = 2 * model.config.max_source_positions / 100

    def encode(self, waveforms: Sequence[Float[Tensor, "_samples"]]) -> list[Float[Tensor, "bins frames"]]:
        """Log-mel spectrograms of 30 s each: Whisper's own encoder is part of what `recognise` runs."""
        return [self.log_mel(waveform) for waveform in waveforms]

    @torch.no_grad()
    def recognise(self, features: Sequence[Float[Tensor, "bins frames"]]) -> list[Transcript]:
        """Write what is said in log-mel spectrograms, normalised with `course_lib.text.normalise`."""
        log_mels = torch.stack(list(features)).to(self.model.device)
        with _without_advice():
            written = self.model.generate(log_mels, language=LANGUAGE, task=TASK, max_new_tokens=self.max_new_tokens)
        texts = self.tokenizer.decode_batch(written.tolist(), skip_special_tokens=True)
        return [Transcript(normalise(text)) for text in texts]

    def log_mel(self, waveform: Float[Tensor, "samples"]) -> Float[Tensor, "bins frames"]:
        """30 s of log-mel, silence behind the sound; transformers puts the bins first. Raises ValueError beyond 30 s."""
        samples = 2 * self.model.config.max_source_positions * SAMPLE_RATE // 100
        if len(waveform) > samples:
            raise CourseError(
                f"{len(waveform) / SAMPLE_RATE:.1f} s of sound; Whisper hears {samples / SAMPLE_RATE:g} s at once"
            )
        padded = F.pad(waveform, (0, samples - len(waveform)))
        return whisper_log_mel(padded, bins=self.model.config.num_mel_bins).T

    def _generation_config(self) -> "transformers.GenerationConfig":
        """Written out, because converted copies of Whisper often come with the English model's numbers, or with none."""
        from course_lib.huggingface import transformers

        blank = self.tokenizer.encode(" ", add_special_tokens=False).ids[:1]
        return transformers.GenerationConfig(
            is_multilingual=True,
            lang_to_id={SPECIAL["language"]: self.ids["language"]},
            task_to_id={TASK: self.ids["task"]},
            no_timestamps_token_id=self.ids["no_timestamps"],
            decoder_start_token_id=self.ids["start"],
            eos_token_id=self.ids["end"],
            pad_token_id=self.ids["end"],
            begin_suppress_tokens=[*blank, self.ids["end"]],
            num_beams=1,
            do_sample=False,
            return_timestamps=False,
        )


def load_whisper_zero_shot(name: str | Path = "openai/whisper-base", max_new_tokens: int = 64) -> WhisperZeroShot:
    """Load a whole Whisper from a folder (config.json, model.safetensors, tokenizer.json) or, by its name, from the Hub.

    `max_new_tokens` is the limit that our own systems write under. Raises FileNotFoundError that names what is missing.
    """
    from course_lib.huggingface import transformers

    transformers.logging.disable_progress_bar()
    folder = Path(find_model(str(name)))
    tokenizer_file = folder / "tokenizer.json"
    if folder.is_dir() and not tokenizer_file.is_file():
        raise FileNotFoundError(f"{folder}: no tokenizer.json here; name the folder of a whole Whisper, such as whisper-base")
    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_file)) if folder.is_dir() else Tokenizer.from_pretrained(str(name))
        model, found = transformers.WhisperForConditionalGeneration.from_pretrained(
            find_model(str(name)), use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # whatever a foreign folder, or the Hub, may bring about
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise CourseError(
            f"{name}: not loaded ({reason[:200]}). Check the id, or name the folder of a whole Whisper."
        ) from error
    missing = {*found["missing_keys"]} - {"proj_out.weight"}
    if missing or found["mismatched_keys"]:
        raise CourseError(f"{name}: weights are missing, such as {min(missing, default='some')}. Name a whole Whisper.")
    return WhisperZeroShot(model, tokenizer, max_new_tokens)


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Whisper's `generate` warns of masks and options for long audio, which are not used here."""
    from course_lib.huggingface import transformers

    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)
