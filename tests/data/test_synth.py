"""The corpus follows from its seed: who says what, every sample of it, and the table that lists it."""

import csv
import sys

import numpy as np
import pytest

from course_lib import synth as command
from course_lib.data import synth
from course_lib.data.grammar import load_grammar, split_of
from course_lib.data.synth import Clip, Line, ensure_split, make_corpus, make_shipped_slice, speak_line, write_csv, write_script
from course_lib.data.voices import TEST_VOICES, TRAIN_VOICES
from course_lib.files import cache_folder
from course_lib.sound.audio import SAMPLE_RATE, load_audio

CLIPS = 30
"""More than one chunk of the pool, so that two workers share the corpus."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A small split of augmented speech, spoken by two worker processes."""
    folder = tmp_path_factory.mktemp("corpus")
    make_corpus(folder, "train", CLIPS, seed=3, workers=2)
    return folder


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_script_follows_from_its_seed():
    assert write_script("train", 200, seed=1) == write_script("train", 200, seed=1)
    assert write_script("train", 200, seed=1) != write_script("train", 200, seed=2)
    assert [line.number for line in write_script("train", 200, seed=1)] == [*range(200)]


def test_a_longer_script_begins_like_a_shorter_one():
    assert write_script("dev", 20)[:10] == write_script("dev", 10)


def test_outside_train_no_text_occurs_twice():
    for split, clips in (("dev", 40), ("test", 60)):
        assert len({line.text for line in write_script(split, clips)}) == clips
    assert len({line.text for line in write_script("train", 500)}) < 500


def test_a_text_that_is_drawn_again_is_taken_once(monkeypatch):
    drawn = iter(["hvad er det", "hvad er det", "det er min", "hvad er det", "kom"] * 2)
    monkeypatch.setattr(synth, "draw_utterance", lambda rng, split: next(drawn))
    assert [line.text for line in write_script("dev", 3)] == ["hvad er det", "det er min", "kom"]
    assert [line.text for line in write_script("train", 3)] == ["hvad er det", "hvad er det", "det er min"]


def test_the_split_words_is_one_word_a_clip_spoken_by_voices_of_train():
    lines = write_script("words", 3_000)
    assert {line.text for line in lines} <= {*load_grammar().words}
    assert len({line.text for line in lines}) > 1_200
    assert {line.voice for line in lines} == {*TRAIN_VOICES}


def test_no_longer_text_of_dev_or_test_is_in_train_and_test_has_other_speakers():
    scripts = {split: write_script(split, clips) for split, clips in (("train", 1_000), ("dev", 40), ("test", 160))}
    longer = {split: {line.text for line in lines if " " in line.text} for split, lines in scripts.items()}
    assert not longer["train"] & (longer["dev"] | longer["test"])
    assert not longer["dev"] & longer["test"]
    assert all(split_of(line.text) in (split, "any") for split, lines in scripts.items() for line in lines)
    voices = {split: {line.voice for line in lines} for split, lines in scripts.items()}
    assert voices["train"] | voices["dev"] <= {*TRAIN_VOICES}
    assert len(voices["train"]) > 200
    assert voices["test"] == {*TEST_VOICES}


@pytest.mark.parametrize("split", ["dev", "test"])
def test_an_augmented_split_has_the_sentences_and_voices_of_the_clean_one(split):
    assert write_script(f"{split}-augmented", 8) == write_script(split, 8)
    line = write_script(split, 1)[0]
    clean, augmented = speak_line(line, split), speak_line(line, f"{split}-augmented")
    assert 20 * np.log10(np.abs(clean).max()) == pytest.approx(-6, abs=0.01)
    assert len(clean) != len(augmented)
    assert clean.dtype == augmented.dtype == np.float32


def test_the_clean_split_is_train_without_rooms_and_noise(monkeypatch):
    assert write_script("train-clean", 8) == write_script("train", 8)
    monkeypatch.setattr(synth, "augment", lambda waveform, seed: waveform[:1])
    lines = write_script("train", 12)
    assert min(len(speak_line(line, "train-clean")) for line in lines) > 1_000
    left_clean = [line for line in lines if len(speak_line(line, "train")) > 1]
    assert 0 < len(left_clean) < 12
    assert all(np.array_equal(speak_line(line, "train"), speak_line(line, "train-clean")) for line in left_clean)


def test_an_unknown_split_is_refused_with_the_list_of_those_there_are():
    with pytest.raises(
        ValueError, match="no split named 'validation'; there are train, words, train-clean, dev, test, dev-augmented"
    ):
        write_script("validation", 3)


def test_asr_csv_has_its_five_columns_and_every_row_loads(corpus):
    assert (corpus / "asr.csv").read_text(encoding="utf-8").splitlines()[0] == "audio_path,transcription,split,voice,seconds"
    rows = read(corpus / "asr.csv")
    assert len(rows) == CLIPS == len([*(corpus / "wav").iterdir()])
    for row, line in zip(rows, write_script("train", CLIPS, seed=3), strict=True):
        assert (row["transcription"], row["voice"], row["split"]) == (line.text, line.voice, "train")
        assert row["audio_path"] == f"wav/train-{line.number:05d}.wav"
        waveform = load_audio(corpus / row["audio_path"])
        assert float(row["seconds"]) == pytest.approx(len(waveform) / SAMPLE_RATE, abs=0.00051)
    assert synth.read_seconds(corpus / "asr.csv") == pytest.approx(sum(float(row["seconds"]) for row in rows))


def test_clips_are_the_same_to_the_last_bit_whoever_speaks_them_in_whatever_order(corpus, tmp_path):
    (tmp_path / "wav").mkdir()
    for line in reversed(write_script("train", CLIPS, seed=3)):
        clip = synth._speak_to_file(line, tmp_path, "train", 3)
        assert (tmp_path / clip.audio_path).read_bytes() == (corpus / clip.audio_path).read_bytes(), line


def test_another_seed_or_number_speaks_the_same_line_differently():
    line = Line(0, "hvad koster det", "invented000")
    first = speak_line(line, "test", seed=0)
    assert np.array_equal(first, speak_line(line, "test", seed=0))
    assert not np.array_equal(first, speak_line(line, "test", seed=1))
    assert not np.array_equal(first, speak_line(Line(1, line.text, line.voice), "test", seed=0))


class FakeEspeak:
    """Counts what it is asked for, and hums."""

    def __init__(self):
        self.asked = []

    def speak(self, text, voice, **settings):
        self.asked.append(settings)
        return np.full(2_205, 0.1, np.float32)


@pytest.fixture
def fake_espeak(monkeypatch):
    fake = FakeEspeak()
    monkeypatch.setattr(synth, "espeak", lambda: fake)
    return fake


def test_a_quarter_of_train_stays_clean_and_all_of_dev_and_test(fake_espeak, monkeypatch):
    marked = np.zeros(7, np.float32)
    monkeypatch.setattr(synth, "augment", lambda waveform, seed: marked)
    lines = [Line(number, "hej med dig", "Alex") for number in range(400)]

    def share_clean(split):
        return np.mean([speak_line(line, split) is not marked for line in lines])

    assert 0.2 < share_clean("train") < 0.3
    assert 0.2 < share_clean("words") < 0.3
    assert share_clean("dev") == share_clean("test") == 1
    assert share_clean("dev-augmented") == share_clean("test-augmented") == 0


def test_single_words_are_spoken_more_slowly_than_sentences(fake_espeak):
    def rates(text):
        fake_espeak.asked.clear()
        for number in range(300):
            speak_line(Line(number, text, "Alex"), "dev")
        return [settings["words_per_minute"] for settings in fake_espeak.asked]

    word, sentence = rates("hej"), rates("hej med dig")
    assert 80 <= min(word) < 85
    assert 135 < max(word) <= 140
    assert 95 <= min(sentence) < 100
    assert 155 < max(sentence) <= 160


def test_a_split_is_spoken_once_and_then_taken_from_the_cache(monkeypatch):
    made = []

    def make(folder, split, clips, seed):
        made.append((split, clips, seed))
        (folder / "wav").mkdir(parents=True)
        rows = [Clip(f"wav/{number}.wav", "hej", split, "Alex", 1.0) for number in range(clips)]
        for row in rows:
            (folder / row.audio_path).write_bytes(b"sound")
        write_csv(rows, folder / "asr.csv")
        return folder / "asr.csv"

    monkeypatch.setattr(synth, "make_corpus", make)
    first = ensure_split("dev", 7, seed=41)
    assert first == ensure_split("dev", 7, seed=41)
    assert first.is_relative_to(cache_folder())
    assert len({first, ensure_split("dev", 8, seed=41), ensure_split("dev", 7, seed=42), ensure_split("test", 7, 41)}) == 4
    ensure_split("test", seed=41)
    assert made == [("dev", 7, 41), ("dev", 8, 41), ("dev", 7, 42), ("test", 7, 41), ("test", synth.SPLITS["test"], 41)]
    monkeypatch.setattr(synth, "CORPUS_VERSION", "another")
    assert ensure_split("dev", 7, seed=41) != first


def test_an_interrupted_corpus_has_no_asr_csv(tmp_path, monkeypatch):
    spoken = []

    def speak(line, folder, split, seed):
        if len(spoken) == 2:
            raise KeyboardInterrupt
        spoken.append(line)
        return Clip("wav/a.wav", line.text, split, line.voice, 1.0)

    monkeypatch.setattr(synth, "SPLITS", {"train": 40, "dev": 20, "test": 20})
    monkeypatch.setattr(synth, "_speak_to_file", speak)
    with pytest.raises(KeyboardInterrupt):
        make_shipped_slice(tmp_path, per_split=3)
    assert not (tmp_path / "asr.csv").exists()


def test_a_table_that_cannot_be_finished_leaves_the_old_one(tmp_path):
    path = tmp_path / "asr.csv"
    good = Clip("wav/a.wav", 'det er "godt", ikke', "train", "Alex", 1.0)
    write_csv([good], path)
    before = path.read_bytes()
    assert read(path)[0]["transcription"] == good.transcription
    with pytest.raises(TypeError):
        write_csv([Clip("wav/b.wav", "hej", "train", "Alex", 2.0), "not a clip"], path)
    assert path.read_bytes() == before


def test_the_command_line_makes_the_small_shipped_slice(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(synth, "SPLITS", {"train": 120, "dev": 120, "test": 120})  # only to be quick
    monkeypatch.setattr(sys, "argv", ["synth", "--split", "shipped", "--output", str(tmp_path)])
    command.main()
    assert capsys.readouterr().out.strip() == str(tmp_path / "asr.csv")
    rows = read(tmp_path / "asr.csv")
    assert [row["split"] for row in rows] == ["train"] * 20 + ["dev"] * 20 + ["test"] * 20
    assert sum(path.stat().st_size for path in (tmp_path / "wav").iterdir()) <= 3_000_000
    assert max(len(row["transcription"]) for row in rows) <= 26
    assert sum(" " in row["transcription"] for row in rows) >= 20
    for row in rows[::7]:
        assert float(row["seconds"]) == pytest.approx(len(load_audio(tmp_path / row["audio_path"])) / SAMPLE_RATE, abs=0.00051)
    for split in ("train", "dev", "test"):
        script = {(line.text, line.voice) for line in write_script(split, 60)}
        assert {(row["transcription"], row["voice"]) for row in rows if row["split"] == split} <= script


def test_the_command_line_makes_all_splits_or_one(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(command, "make_corpus", lambda *arguments: made.append(arguments))
    monkeypatch.setattr(command, "ensure_split", lambda *arguments: made.append(arguments))
    monkeypatch.setattr(sys, "argv", ["synth", "--split", "dev", "--clips", "5", "--output", str(tmp_path), "--seed", "9"])
    command.main()
    assert made == [(tmp_path / "dev", "dev", 5, 9)]
    made.clear()
    monkeypatch.setattr(sys, "argv", ["synth"])
    command.main()
    assert made == [(split, None, 0) for split in synth.SPLITS]


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Six spoken clips in a cache of their own, made by one worker in this process."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setattr(synth, "ProcessPoolExecutor", InThisProcess)
    return synth.ensure_split("dev", 6).parent


class InThisProcess:
    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def map(self, function, values, chunksize):
        return map(function, values)


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: halve(folder / "asr.csv"),
        lambda folder: halve(folder / "wav" / "dev-00002.wav"),
        lambda folder: (folder / "wav" / "dev-00002.wav").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: ((folder / "manifest.json").unlink(), halve(folder / "asr.csv")),
    ],
    ids=["half a table", "half a clip", "a clip gone", "no manifest to read", "half a table of an older course"],
)
def test_a_damaged_corpus_is_named_and_spoken_again(cached, capsys, damage):
    whole = {path.name: path.read_bytes() for path in cached.rglob("*") if path.is_file()}
    damage(cached)
    capsys.readouterr()
    assert synth.ensure_split("dev", 6) == cached / "asr.csv"
    assert f"{cached}: damaged" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in cached.rglob("*") if path.is_file()} == whole


def test_a_corpus_of_an_older_course_is_kept(cached, capsys, monkeypatch):
    (cached / "manifest.json").unlink()
    monkeypatch.setattr(synth, "make_corpus", None)
    capsys.readouterr()
    assert synth.ensure_split("dev", 6) == cached / "asr.csv"
    assert capsys.readouterr().out == ""
    assert (cached / "manifest.json").is_file()


def test_an_own_folder_is_not_written_over(tmp_path, monkeypatch):
    (tmp_path / "asr.csv").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["synth", "--split", "shipped", "--output", str(tmp_path)])
    with pytest.raises(ValueError, match=r"asr.csv: is there already"):
        command.main()
    assert (tmp_path / "asr.csv").read_text() == "mine"
