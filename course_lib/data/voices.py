"""Danish text → the waveform of a synthetic speaker, with espeak-ng (PyPI's espeakng-loader brings the library).

espeak-ng makes vowels from a handful of resonances (formants). A *variant* file scales them: a longer vocal tract, a breathier
voice, a flatter tone. We use about fifty of the variants that come with it and invent as many more as we like, because a
recogniser that has heard two hundred different voices is less surprised by yours.
"""

import _ctypes
import contextlib
import ctypes
import itertools
import random
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from course_lib.errors import CourseError
from course_lib.files import cache_folder, make_folder

ESPEAK_RATE = 22_050
"""Samples a second of espeak-ng's output, before `synth` resamples it to 16 kHz."""

SHIPPED_VOICES = (
    "Alex Alicia Andrea Andy Annie Denis Diogo Gene Henrique Hugo Jacky Lee Marco Mario Michael Mike Nguyen Reed "
    "adam anika antonio aunty belinda benjamin boris david ed edward f1 f2 f3 f4 grandma ian john kaukovalta klatt "
    "klatt2 klatt4 linda m1 m2 m3 m5 m7 marcelo max michel miguel norbert pablo paul pedro quincy rob robert sandro "
    "shelby steph travis victor zac"
).split()
"""The variants of espeak-ng that sound like a person; its robots, whispers and demons are left out."""

TEST_VOICES = [*"Annie Hugo Mike adam f4 linda m5 sandro".split(), *(f"invented{n:03d}" for n in range(900, 912))]
TRAIN_VOICES = [
    *(name for name in SHIPPED_VOICES if name not in TEST_VOICES),
    *(f"invented{n:03d}" for n in range(160)),
]
"""Voices of train and dev. No test voice is among them: test is spoken by strangers."""

RATE, PITCH, RANGE, WORD_GAP = 1, 3, 4, 7
"""espeak-ng's parameter numbers (speak_lib.h, espeak_PARAMETER)."""


_unload = _ctypes.FreeLibrary if hasattr(_ctypes, "FreeLibrary") else _ctypes.dlclose


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h. A list of them ends with one of type 0."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_WORD_EVENT = 1


class EspeakError(CourseError):
    """espeak-ng could not start or does not know the voice."""


def invent_voice(name: str) -> str:
    """Write an espeak-ng variant for an invented speaker; the same name gives the same voice.

    One scale for all formants is the length of the vocal tract (children 1.25, large men 0.9); a little of its own for each
    formant, its strength and its width, make the person.
    """
    # The seeds are older than the names; another seed would be another voice, and every clip would change.
    rng = random.Random(name.replace("invented", "throat"))
    length = rng.uniform(0.88, 1.24)
    pitch = int(rng.uniform(75, 130) if length < 1.03 else rng.uniform(130, 260))
    lines = ["language variant", f"name {name}", f"pitch {pitch} {int(pitch * rng.uniform(1.15, 1.9))}"]
    for formant in range(9):
        frequency = int(100 * length * rng.uniform(0.93, 1.07))
        lines.append(f"formant {formant} {frequency} {int(rng.uniform(70, 130))} {int(rng.uniform(85, 170))}")
    lines += [f"flutter {rng.randint(0, 6)}", f"roughness {rng.randint(0, 3)}", f"voicing {rng.randint(60, 120)}"]
    lines.append(f"consonants {rng.randint(70, 140)} {rng.randint(70, 130)}")
    lines.append(f"tone 100 {rng.randint(150, 255)} 600 {rng.randint(60, 200)} 2500 {rng.randint(30, 150)}")
    if rng.random() < 0.35:
        lines.append("breath " + " ".join(str(rng.randint(0, 5)) for _ in range(8)))
    if rng.random() < 0.3:
        lines.append(f"klatt {rng.choice([1, 2, 3, 4, 6])}")
    return "\n".join(lines) + "\n"


class Espeak:
    """The espeak-ng library, speaking Danish. One instance a process: the library keeps global state.

    That is also why it is loaded afresh for every utterance (5 ms). Loaded once, it would let the pitch flutter and the breath
    hiss on from where the last utterance stopped, and a clip would depend on all that its process had spoken before.
    """

    def __init__(self) -> None:
        self.data_folder = _data_folder()
        self.chunks: list[np.ndarray] = []
        self.word_starts: list[float] = []
        samples, events = ctypes.POINTER(ctypes.c_short), ctypes.POINTER(_Event)
        callback_type = ctypes.CFUNCTYPE(ctypes.c_int, samples, ctypes.c_int, events)
        self.callback = callback_type(self._collect)

    def speak(self, text: str, voice: str, words_per_minute: int = 160, pitch: int = 50, pitch_range: int = 50,
              word_gap: int = 0) -> Float[np.ndarray, " samples"]:  # fmt: skip
        """Say `text` in Danish; mono, 22,050 samples a second, between -1 and 1.

        `pitch` and `pitch_range` go from 0 to 100 around the voice's own, `word_gap` is in 10 ms. The same arguments give
        the same samples. Raises EspeakError for an unknown voice.
        """
        # espeak-ng itself would speak for an unknown variant in its plain voice, and call that a success.
        if not (self.data_folder / "espeak-ng-data" / "voices" / "!v" / voice).is_file():
            raise EspeakError(f"espeak-ng has no voice {voice!r}; voices.TRAIN_VOICES lists what there is")
        with self._fresh_library() as library:
            if library.espeak_SetVoiceByName(f"da+{voice}".encode()) != 0:
                raise EspeakError(f"espeak-ng cannot speak Danish as {voice!r}; delete {self.data_folder} and try again")
            settings = {RATE: words_per_minute, PITCH: pitch, RANGE: pitch_range, WORD_GAP: word_gap}
            for parameter, value in settings.items():
                library.espeak_SetParameter(parameter, value, 0)
            self.chunks.clear()
            self.word_starts.clear()
            encoded = text.encode()
            utf8 = 1
            library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, utf8, None, None)
            library.espeak_Synchronize()
        return np.concatenate([np.zeros(1, np.int16), *self.chunks]).astype(np.float32) / 32_768

    def phonemes(self, text: str) -> str:
        """How espeak-ng would read `text` in Danish, in the International Phonetic Alphabet; stress marks stand before vowels.

        Words that it reads in another language stand between marks such as "(en)" and "(da)".
        """
        with self._fresh_library() as library:
            library.espeak_SetVoiceByName(b"da")
            library.espeak_TextToPhonemes.restype = ctypes.c_char_p
            utf8, ipa = 1, 2
            rest, clauses = ctypes.c_char_p(text.encode()), []
            while rest.value is not None:
                clauses.append(library.espeak_TextToPhonemes(ctypes.byref(rest), utf8, ipa).decode())
        return " ".join(clauses)

    def speak_with_word_starts(self, text: str, voice: str, **how: int) -> tuple[Float[np.ndarray, " samples"], list[float]]:
        """What `speak` says, and the second at which each word begins, as espeak-ng reports it.

        The first begins at 0, whatever silence it begins with. Raises EspeakError when it has spoken two words as one.
        """
        samples, words = self.speak(text, voice, **how), text.split()
        if len(self.word_starts) != len(words):
            raise EspeakError(f"espeak-ng told the start of {len(self.word_starts)} of {len(words)} words in {text!r}")
        return samples, [*self.word_starts]

    @contextlib.contextmanager
    def _fresh_library(self) -> Iterator[ctypes.CDLL]:
        import espeakng_loader  # only who speaks needs it

        library = ctypes.CDLL(espeakng_loader.get_library_path())
        try:
            synchronous_output, do_not_exit = 2, 0x8000  # without the second, a missing file would end Python itself
            rate = library.espeak_Initialize(synchronous_output, 0, str(self.data_folder).encode(), do_not_exit)
            if rate != ESPEAK_RATE:
                raise EspeakError(f"espeak-ng did not start ({rate}); delete {self.data_folder} or reinstall espeakng-loader")
            library.espeak_SetSynthCallback(self.callback)
            library.espeak_ng_SetRandSeed(ctypes.c_long(1))
            if hasattr(library, "srand"):  # Klatt's synthesiser, the sixth, draws its breath from C's own rand()
                library.srand(1)
            yield library
            library.espeak_Terminate()
        finally:
            _unload(library._handle)  # also after an error: one copy left open is the one that the next loading gets

    def _collect(self, samples, count: int, events) -> int:
        if samples and count:
            self.chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        told = itertools.takewhile(lambda event: event.type, (events[i] for i in itertools.count())) if events else ()
        self.word_starts += [event.sample / ESPEAK_RATE for event in told if event.type == _WORD_EVENT]
        return 0


@cache
def espeak() -> Espeak:
    """The one espeak-ng of this process."""
    return Espeak()


def _data_folder() -> Path:
    """espeak-ng's data for Danish with our invented voices among its variants, copied to the cache once."""
    return make_folder(cache_folder() / "espeak-3", _copy_danish_data)


def _copy_danish_data(folder: Path) -> None:
    import espeakng_loader

    source, target = Path(espeakng_loader.get_data_path()), folder / "espeak-ng-data"
    for file in _danish_files(source):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    for name in [*TRAIN_VOICES, *TEST_VOICES]:
        if name not in SHIPPED_VOICES:
            (target / "voices" / "!v" / name).write_text(invent_voice(name), encoding="utf-8")


def _danish_files(source: Path) -> Iterator[Path]:
    # It spells foreign letters in English, and complains on stderr where it cannot: hence en_dict.
    names = ("phondata", "phonindex", "phontab", "intonations", "da_dict", "lang/gmq/da", "en_dict")
    yield from (source / name for name in names)
    yield from (source / "voices" / "!v" / name for name in SHIPPED_VOICES)
