"""How near to people is a synthetic voice? As near as a Whisper that has heard people, and no robots, understands it.

    python -m course_lib.evaluation.voices --whisper PATH_TO_WHISPER_BASE [--people FOLDER]

For each voice, and for each way of spelling Danish in Kokoro's phonemes: the character error rate of what Whisper writes, and
how unlikely it finds what was said (nats a letter). The second needs no decoding, jumps less, and is compared clip by clip.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.data.checks import fault_of_clip
from course_lib.data.datasets import read_people
from course_lib.data.natural import NATURAL_RATE, kokoro, kokoro_phonemes
from course_lib.data.voices import ESPEAK_RATE, espeak
from course_lib.errors import run_command
from course_lib.evaluation.whisper_zero_shot import WhisperZeroShot, load_whisper_zero_shot
from course_lib.sound.audio import SAMPLE_RATE, load_audio
from course_lib.text.metrics import character_error_rate

SENTENCES = """hvad synes du om den nye bank der åbnede i går
det er også på tide
jeg vil gerne bede om en kop kaffe med mælk
kan du fortælle mig hvor stationen ligger
vi skal spise aftensmad klokken halv syv
min datter læser en bog om gamle skibe
vejret bliver koldt og blæsende i morgen
han købte brød og smør på torvet i lørdags
hun tog toget til aarhus sammen med sin søster
der står en rød cykel foran huset
pigerne gik en lang tur langs stranden
har du set mine briller og min taske""".splitlines()

KOKORO_VOICES = ("af_heart", "bm_george", "hf_beta", "im_nicola")
ESPEAK_VOICES = ("Alex", "f2", "klatt2", "invented007")

VOWELS = "aeiouyɛœøɑɒʌəɔæɪʊ"


def _aspirate(phonemes: str) -> str:
    return re.sub(rf"(?<!s)([ptk])(?=[ˈˌ]?[{VOWELS}jʋlɹ])", r"\1ʰ", phonemes)


def _lengthen(phonemes: str) -> str:
    return re.sub(r"(ˈ[^aeiouyɛœøɑɒʌɔæ ]*[aeiouyɛœøɑɒ])([bdfɡjklmnpsvʋðɹ]ə)", r"\1ː\2", phonemes)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as the course has it": lambda phonemes: phonemes,
    "r as ʁ": lambda phonemes: phonemes.replace("ɹ", "ʁ"),
    "p t k with a breath": _aspirate,
    "soft d as ɤ": lambda phonemes: phonemes.replace("ð", "ɤ"),
    "soft d as l": lambda phonemes: phonemes.replace("ð", "l"),
    "long vowels before a consonant and ə": _lengthen,
    "a as æ": lambda phonemes: phonemes.replace("a", "æ"),
    "å as ɔ": lambda phonemes: phonemes.replace("ɒ", "ɔ"),
}
"""Ways to spell Danish for Kokoro that were tried, as changes to `kokoro_phonemes`."""


@dataclass(frozen=True)
class Intelligibility:
    """What Whisper made of some clips: character error rate, and nats a letter for each clip."""

    name: str
    cer: float
    nats: Float[np.ndarray, " clips"]


def nats_per_letter(whisper: WhisperZeroShot, features: Float[Tensor, "bins frames"], text: str) -> float:
    """How unlikely Whisper finds a text for a clip: minus the log-probability of its tokens under teacher forcing, a letter."""
    start = [whisper.ids[name] for name in ("start", "language", "task", "no_timestamps")]
    written = f" {text[0].upper()}{text[1:]}."  # as Whisper would write it
    ids = torch.tensor([[*start, *whisper.tokenizer.encode(written, add_special_tokens=False).ids, whisper.ids["end"]]])
    with torch.no_grad():
        logits = whisper.model(input_features=features[None], decoder_input_ids=ids[:, :-1]).logits[0, len(start) - 1 :]
    return float(torch.nn.functional.cross_entropy(logits, ids[0, len(start) :], reduction="sum")) / len(text)


def understand(whisper: WhisperZeroShot, name: str, waveforms: Sequence[Tensor], texts: Sequence[str]) -> Intelligibility:
    """Let Whisper listen to clips of which the texts are known."""
    features = whisper.encode(waveforms)
    heard = [whisper.transcribe_features([clip])[0] for clip in features]
    nats = np.array([nats_per_letter(whisper, clip, text) for clip, text in zip(features, texts, strict=True)])
    return Intelligibility(name, character_error_rate(list(texts), heard), nats)


def show(result: Intelligibility, compared_with: Intelligibility | None = None) -> str:
    """One line: CER, nats a letter, and how many more than another spelling of the same clips, with a 95 % interval."""
    line = f"{result.name:<40} CER {result.cer:6.1%}   {result.nats.mean():.3f} nats a letter"
    if compared_with is None or compared_with is result:
        return line
    more = result.nats - compared_with.nats
    margin = 1.96 * more.std(ddof=1) / len(more) ** 0.5
    return f"{line}   {more.mean():+.3f} ± {margin:.3f}"


def _resampled(sound: np.ndarray, rate: int) -> Tensor:
    return torch.from_numpy(soxr.resample(sound, rate, SAMPLE_RATE))


def main() -> None:
    """Speak, listen, print a line for people (if there are any), each kind of voice and each spelling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whisper", default="openai/whisper-base", help="folder or Hub id of a whole Whisper")
    parser.add_argument("--people", type=Path, help="a folder of recordings of people, to compare with")
    parser.add_argument("--skip-bad", action="store_true", help="leave out rows that cannot be used, and say how many")
    arguments = parser.parse_args()
    people = read_people(arguments.people, arguments.skip_bad, fault_of_clip) if arguments.people else []
    whisper = load_whisper_zero_shot(arguments.whisper)
    if people:
        examples = [example for example in people if " " in example.text]
        sounds = [load_audio(example.path) for example in examples]
        print(show(understand(whisper, "people", sounds, [example.text for example in examples])), flush=True)
    for voice in ESPEAK_VOICES:
        sounds = [_resampled(espeak().speak(text, voice), ESPEAK_RATE) for text in SENTENCES]
        print(show(understand(whisper, f"espeak-ng, {voice}", sounds, SENTENCES)), flush=True)
    first = None
    for name, change in SPELLINGS.items():
        spelled = [change(kokoro_phonemes(espeak().phonemes(text))) for text in SENTENCES]
        sounds = [_resampled(kokoro().say(words, voice), NATURAL_RATE) for voice in KOKORO_VOICES for words in spelled]
        result = understand(whisper, f"Kokoro, {name}", sounds, SENTENCES * len(KOKORO_VOICES))
        first = first or result
        print(show(result, first), flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
