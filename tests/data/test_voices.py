"""The synthetic speakers: many, all different, all Danish, and the same sentence sounds the same every time."""

import ctypes
import itertools
import shutil
import time

import espeakng_loader
import numpy as np
import pytest

from course_lib.data import voices
from course_lib.data.voices import ESPEAK_RATE, SHIPPED_VOICES, TEST_VOICES, TRAIN_VOICES, EspeakError, espeak, invent_voice
from course_lib.files import cache_folder


def fundamental(waveform, lowest=30):
    """The pitch in Hz, from the strongest peak of the autocorrelation after it was first negative."""
    spectrum = np.abs(np.fft.rfft(waveform, 2 * len(waveform))) ** 2
    correlation = np.fft.irfft(spectrum)[: ESPEAK_RATE // lowest]
    shortest = int(np.argmax(correlation < 0))
    return ESPEAK_RATE / (shortest + int(np.argmax(correlation[shortest:])))


def test_test_voices_are_strangers_and_there_are_dozens_of_each_kind():
    assert not {*TRAIN_VOICES} & {*TEST_VOICES}
    assert len({*TRAIN_VOICES}) == len(TRAIN_VOICES) == 214
    assert len({*TEST_VOICES}) == len(TEST_VOICES) == 20
    assert {*SHIPPED_VOICES} < {*TRAIN_VOICES, *TEST_VOICES}


def test_every_voice_speaks_and_no_two_sound_the_same():
    heard = {}
    for voice in [*TRAIN_VOICES, *TEST_VOICES]:
        waveform = espeak().speak("to", voice)
        assert waveform.dtype == np.float32
        assert 0.05 < np.abs(waveform).max() <= 1.0, voice
        assert 0.2 < len(waveform) / ESPEAK_RATE < 3.0, voice
        heard[waveform.tobytes()] = voice
    assert len(heard) == len(TRAIN_VOICES) + len(TEST_VOICES)


@pytest.mark.parametrize(
    ("voice", "why"),
    [("invented000", "its pitch flutters"), ("f2", "its breath is espeak's noise"), ("Reed", "its breath is C's rand()")],
)
def test_what_was_spoken_or_went_wrong_before_does_not_change_a_voice(voice, why, monkeypatch):
    first = espeak().speak("hvad koster det", voice)
    espeak().speak("min bror spiser en varm suppe", "grandma", words_per_minute=120, pitch=80, pitch_range=5, word_gap=9)
    with monkeypatch.context() as broken:
        broken.setattr(voices, "ESPEAK_RATE", 44_100)
        with pytest.raises(EspeakError):
            espeak().speak("hej", voice)
    time.sleep(1.01)  # left alone, espeak-ng would seed its noise with the second
    assert np.array_equal(espeak().speak("hvad koster det", voice), first), why


def test_an_unknown_voice_is_refused_by_its_name_and_the_next_still_speaks():
    with pytest.raises(EspeakError, match=r"no voice 'nobody'; voices\.TRAIN_VOICES lists"):
        espeak().speak("hej", "nobody")
    assert len(espeak().speak("hej", "Alex")) > 1_000


def test_a_library_that_does_not_start_is_reported(monkeypatch):
    monkeypatch.setattr(voices, "ESPEAK_RATE", 44_100)
    with pytest.raises(EspeakError, match=r"did not start \(22050\); delete .* or reinstall espeakng-loader"):
        espeak().speak("hej", "Alex")


@pytest.mark.parametrize(("lost", "message"), [("phontab", "did not start"), ("lang/gmq/da", "cannot speak Danish as 'Alex'")])
def test_a_damaged_data_folder_is_an_error_and_does_not_end_python(tmp_path, monkeypatch, lost, message):
    shutil.copytree(espeak().data_folder, tmp_path / "damaged")
    (tmp_path / "damaged" / "espeak-ng-data" / lost).unlink()
    monkeypatch.setattr(espeak(), "data_folder", tmp_path / "damaged")
    with pytest.raises(EspeakError, match=f"{message}.*; delete .*damaged"):
        espeak().speak("hej", "Alex")


def test_a_faster_voice_takes_less_time():
    slow, fast = (len(espeak().speak("hvad koster det", "david", words_per_minute=rate)) for rate in (100, 200))
    assert 1.6 < slow / fast < 2.4


def test_a_higher_pitch_is_higher():
    low, high = (fundamental(espeak().speak("nu", "david", pitch=pitch, pitch_range=0)) for pitch in (20, 80))
    assert 1.2 < high / low < 3


def test_twice_the_gap_between_words_lengthens_a_sentence_twice_as_much():
    tight, wide, wider = (len(espeak().speak("en to tre", "david", word_gap=gap)) for gap in (0, 10, 20))
    assert wide - tight > 0.1 * ESPEAK_RATE
    assert (wider - tight) / (wide - tight) == pytest.approx(2, rel=0.1)


def test_it_speaks_danish():
    with espeak()._fresh_library() as library:
        library.espeak_SetVoiceByName(b"da+david")
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        utf8, ipa = 1, 2
        text = ctypes.c_char_p("rødgrød på tyve øer".encode())
        phonemes = library.espeak_TextToPhonemes(ctypes.byref(text), utf8, ipa).decode()
    assert phonemes.split()[0] != "rødgrød"
    assert all(sound in phonemes for sound in ("ʁ", "œð", "tˈyː", "ʔʌ")), phonemes  # r, ø with soft d, y, -er as ʌ


@pytest.mark.parametrize("word", ["øl", "æg", "ål"])
def test_danish_letters_are_one_sound_each(word):
    letters_spelled_out = len(espeak().speak("Ã¸l", "david"))
    assert len(espeak().speak(word, "david")) < 1.5 * len(espeak().speak("il", "david")) < letters_spelled_out


def test_foreign_letters_are_spelled_out_without_a_complaint(capfd):
    assert len(espeak().speak("привет 日本", "david")) > ESPEAK_RATE
    assert capfd.readouterr().err == ""


def test_an_invented_voice_is_the_same_for_the_same_name():
    assert invent_voice("invented001") == invent_voice("invented001") != invent_voice("invented002")
    lines = invent_voice("invented001").splitlines()
    assert lines[:2] == ["language variant", "name invented001"]
    assert sum(line.startswith("formant ") for line in lines) == 9
    assert all(0 < int(number) < 300 for line in lines if line.startswith("formant ") for number in line.split()[2:])


def test_voices_are_short_and_long():
    second_formants = [int(invent_voice(f"invented{n:03d}").split("formant 2 ")[1].split()[0]) for n in range(160)]
    assert min(second_formants) < 90
    assert max(second_formants) > 115


def test_only_danish_and_our_voices_are_copied_and_only_once(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    folder = voices._data_folder()
    assert folder.parent == tmp_path
    variants = {path.name for path in (folder / "espeak-ng-data" / "voices" / "!v").iterdir()}
    assert variants == {*TRAIN_VOICES, *TEST_VOICES}
    assert {path.name for path in (folder / "espeak-ng-data").glob("*_dict")} == {"da_dict", "en_dict"}
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: "/not/asked/again")
    assert voices._data_folder() == folder
    assert [path.name for path in tmp_path.iterdir()] == ["espeak-3"]
    assert cache_folder() == tmp_path


def test_the_starts_of_words_come_with_the_same_samples():
    text = "min bror spiser en varm suppe"
    samples, starts = espeak().speak_with_word_starts(text, "Alex", words_per_minute=130)
    assert np.array_equal(samples, espeak().speak(text, "Alex", words_per_minute=130))
    assert len(starts) == 6
    assert starts[0] == 0
    assert all(0.05 < later - start < 1 for start, later in itertools.pairwise(starts))
    assert starts[-1] < len(samples) / ESPEAK_RATE - 0.2


def test_a_pause_between_words_moves_their_starts():
    _, starts = espeak().speak_with_word_starts("ja tak", "Alex")
    _, later = espeak().speak_with_word_starts("ja tak", "Alex", word_gap=20)
    assert 0.15 < later[1] - starts[1] < 0.4


def test_words_that_espeak_does_not_tell_apart_are_refused():
    with pytest.raises(EspeakError, match="of 2 words in 'hej …'"):
        espeak().speak_with_word_starts("hej …", "Alex")
