"""Tables of speech become examples or one complete complaint; batches and cached features lose nothing."""

import copy
import csv
import json
import random
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from course_lib.data import datasets
from course_lib.data.checks import describe_sets, fault_of_clip
from course_lib.data.datasets import (
    DataError,
    Example,
    encode_examples,
    length_batches,
    load_examples,
    log_mel_examples,
    read_asr_csv,
    read_common_voice,
    read_people,
)
from course_lib.encoder.tiny import StageBEncoder
from course_lib.files import DATA_FOLDER, cache_folder
from course_lib.sound.audio import SAMPLE_RATE
from course_lib.sound.mel import ctc_log_mel

CLIP_SECONDS = (0.6, 0.3, 0.46)


def hum(seconds, pitch=150.0):
    """Harmonics over a little noise: enough for an encoder to have something to say about."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    harmonics = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 8))
    return (0.1 * harmonics + np.random.default_rng(round(pitch)).normal(0, 0.003, len(time))).astype(np.float32)


def write_table(path, rows, columns=("audio_path", "transcription")):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


@pytest.fixture
def folder(tmp_path):
    """An asr.csv with three good clips."""
    (tmp_path / "wav").mkdir()
    for number, seconds in enumerate(CLIP_SECONDS):
        soundfile.write(tmp_path / "wav" / f"{number}.wav", hum(seconds, 120 + 40 * number), SAMPLE_RATE)
    rows = [
        ("wav/0.wav", "en hat", "train", "Alex"),
        ("wav/1.wav", "hej, hej", "dev", "f1"),
        ("wav/2.wav", "øl", "train", ""),
    ]
    write_table(tmp_path / "asr.csv", rows, ("audio_path", "transcription", "split", "voice"))
    return tmp_path


def test_a_table_is_read_row_by_row(folder):
    examples = read_asr_csv(folder / "asr.csv")
    assert examples == [
        Example(folder / "wav" / "0.wav", "en hat", "train", "Alex"),
        Example(folder / "wav" / "1.wav", "hej, hej", "dev", "f1"),
        Example(folder / "wav" / "2.wav", "øl", "train", ""),
    ]


def test_two_columns_are_enough_and_a_byte_order_mark_is_no_letter(folder):
    table = "audio_path,transcription\nwav/0.wav,en hat\n"
    (folder / "excel.csv").write_text(table, encoding="utf-8-sig")
    assert read_asr_csv(folder / "excel.csv") == [Example(folder / "wav" / "0.wav", "en hat")]
    assert load_examples(str(folder / "excel.csv"), "whatever") == read_asr_csv(folder / "excel.csv")


def test_sound_is_looked_for_beside_the_table_then_from_here(folder, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    table = write_table(elsewhere / "asr.csv", [("wav/0.wav", "en hat")])
    with pytest.raises(DataError, match="no such file"):
        read_asr_csv(table)
    monkeypatch.chdir(folder)
    assert read_asr_csv(table)[0].path.resolve() == (folder / "wav" / "0.wav").resolve()
    (elsewhere / "wav").mkdir()
    soundfile.write(elsewhere / "wav" / "0.wav", hum(0.3), SAMPLE_RATE)
    assert read_asr_csv(table)[0].path == elsewhere / "wav" / "0.wav"
    table = write_table(elsewhere / "absolute.csv", [(str(folder / "wav" / "2.wav"), "øl")])
    assert read_asr_csv(table)[0].path == folder / "wav" / "2.wav"


@pytest.fixture
def bad_table(folder):
    rows = [
        ("wav/0.wav", "en hat"),
        ("wav/nowhere.wav", "en hat"),
        ("wav/1.wav", "   "),
        ("wav/2.wav", "øl"),
        ("wav", "a folder"),
        ("wav/2.wav",),
    ]
    return write_table(folder / "bad.csv", rows)


def test_all_bad_rows_are_listed_at_once_with_row_file_and_reason(bad_table):
    with pytest.raises(DataError) as caught:
        read_asr_csv(bad_table)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{bad_table}: 4 of 6 rows cannot be used"
    assert [line.split(maxsplit=3) for line in lines[1:5]] == [
        ["row", "3", "nowhere.wav", "no such file"],
        ["row", "4", "1.wav", "transcription is empty"],
        ["row", "6", "wav", "no such file"],
        ["row", "7", "2.wav", "has 1 of 2 columns"],
    ]
    assert lines[5:] == ["Fix or remove these rows, or pass --skip-bad to leave them out."]


def test_the_row_number_is_the_line_in_the_file(bad_table):
    assert bad_table.read_text(encoding="utf-8").splitlines()[3 - 1].startswith("wav/nowhere.wav")


def test_of_many_bad_rows_twenty_are_listed_and_the_rest_counted(folder):
    table = write_table(folder / "bad.csv", [(f"wav/x{n}.wav", "hej") for n in range(1_500)])
    with pytest.raises(DataError) as caught:
        read_asr_csv(table)
    message = str(caught.value)
    assert "1,500 of 1,500 rows" in message
    assert "x19.wav" in message
    assert "x20.wav" not in message
    assert "… and 1,480 more; all are in " in message
    listed = Path(message.rpartition("all are in ")[2].splitlines()[0])
    assert len(listed.read_text(encoding="utf-8").splitlines()) == 1_500


def test_skip_bad_leaves_the_bad_rows_out_and_says_how_many(bad_table, capsys):
    examples = read_asr_csv(bad_table, skip_bad=True)
    assert [(example.path.name, example.text) for example in examples] == [("0.wav", "en hat"), ("2.wav", "øl")]
    said, _, listed = capsys.readouterr().out.strip().rpartition(" ")
    assert said == f"{bad_table}: 4 of 6 rows left out, listed with their reasons in"
    assert [line.split("\t")[::2] for line in Path(listed).read_text(encoding="utf-8").splitlines()] == [
        ["3", "no such file"],
        ["4", "transcription is empty"],
        ["6", "no such file"],
        ["7", "has 1 of 2 columns"],
    ]
    assert load_examples(str(bad_table), "train", skip_bad=True) == examples


def test_a_good_table_says_nothing(folder, capsys):
    read_asr_csv(folder / "asr.csv", skip_bad=True)
    assert capsys.readouterr().out == ""


def test_a_missing_column_is_named_beside_those_there_are(folder):
    table = write_table(folder / "odd.csv", [("wav/0.wav", "hej")], ("file", "text"))
    with pytest.raises(DataError, match=r"odd\.csv: no column audio_path, transcription; .*\['file', 'text'\]"):
        read_asr_csv(table)
    (folder / "empty.csv").write_text("")
    with pytest.raises(DataError, match=r"empty. Its first line must have the columns audio_path, transcription"):
        read_asr_csv(folder / "empty.csv")


def test_a_missing_table_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match=r"asr\.csv: no such file; make synthetic speech with: python -m course_lib\.synth"):
        load_examples(str(tmp_path / "asr.csv"), "train")


def test_load_examples_takes_the_split_and_at_most_so_many_clips(folder):
    source = str(folder / "asr.csv")
    assert [example.text for example in load_examples(source, "train")] == ["en hat", "øl"]
    assert [example.text for example in load_examples(source, "train", clips=1)] == ["en hat"]
    assert [example.text for example in load_examples(source, "dev")] == ["hej, hej"]
    with pytest.raises(DataError, match="no clip of split 'test'; its column `split` has dev, train"):
        load_examples(source, "test")


def test_a_relative_source_is_also_found_from_the_root_of_the_course(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "DATA_FOLDER", tmp_path / "data")
    (tmp_path / "data" / "wav").mkdir(parents=True)
    soundfile.write(tmp_path / "data" / "wav" / "0.wav", hum(0.3), SAMPLE_RATE)
    write_table(tmp_path / "data" / "asr.csv", [("data/wav/0.wav", "hej")])
    assert tmp_path / "data" != DATA_FOLDER
    assert load_examples("data/asr.csv", "train")[0].path == tmp_path / "data" / "wav" / "0.wav"


def test_the_word_synthetic_makes_the_split_on_first_use(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(datasets, "ensure_split", lambda *arguments: asked.append(arguments) or folder / "asr.csv")
    assert len(load_examples("synthetic", "dev-augmented", clips=12)) == 3
    assert asked == [("dev-augmented", 12)]


def test_people_are_all_tables_of_a_folder_and_of_those_in_it(folder):
    (folder / "anna").mkdir()
    write_table(folder / "anna" / "transcripts.csv", [("../wav/0.wav", "Én hat, tak!")])
    examples = read_people(folder)
    assert [(e.text, e.split, e.voice) for e in examples] == [
        ("en hat", "people", "Alex"),
        ("hej hej", "people", "f1"),
        ("øl", "people", folder.name),
        ("en hat tak", "people", "anna"),
    ]
    assert all(example.path.is_file() for example in examples)


def test_a_folder_of_people_without_a_table_says_what_one_looks_like(tmp_path):
    with pytest.raises(DataError, match=r"no asr\.csv in it; its first line is audio_path,transcription"):
        read_people(tmp_path)


@pytest.fixture
def common_voice(tmp_path):
    """An unpacked Common Voice folder: tab-separated, never quoted, clips as mp3."""
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "a.mp3", hum(0.5), SAMPLE_RATE)
    soundfile.write(tmp_path / "clips" / "b.wav", hum(0.5), SAMPLE_RATE)
    rows = [
        ("client_id", "path", "sentence", "up_votes"),
        ("anna", "a.mp3", '"Kom nu, Søren!" sagde hun.', "2"),
        ("bo", "b.wav", '"Hvad koster 2 æg?', "2"),
        ("bo", "a.mp3", 'Hun råbte "ja"', "2"),
    ]
    text = "".join("\t".join(row) + "\n" for row in rows)
    (tmp_path / "train.tsv").write_text(text, encoding="utf-8")
    (tmp_path / "dev.tsv").write_text(text + "bo\tgone.mp3\tHej\t2\nbo\tb.wav\t...\t0\n", encoding="utf-8")
    return tmp_path


def test_common_voice_sentences_are_normalised_and_their_quotes_are_only_quotes(common_voice):
    examples = read_common_voice(common_voice, "train")
    assert [example.text for example in examples] == ["kom nu søren sagde hun", "hvad koster to æg", "hun råbte ja"]
    assert [example.path.name for example in examples] == ["a.mp3", "b.wav", "a.mp3"]
    assert {(example.split, example.voice) for example in examples} == {("train", "anna"), ("train", "bo")}
    assert load_examples(str(common_voice), "train", clips=2) == examples[:2]
    assert len(datasets.load_audio(examples[0].path)) == pytest.approx(0.5 * SAMPLE_RATE, abs=2_500)


def test_common_voice_rows_without_sound_or_words_are_bad_rows(common_voice):
    with pytest.raises(DataError, match=r"dev\.tsv: 2 of 5 rows cannot be used\n  row 5 .*no such file\n  row 6 .*empty"):
        load_examples(str(common_voice), "dev")
    assert len(load_examples(str(common_voice), "dev", skip_bad=True)) == 3
    with pytest.raises(DataError, match=r"test\.tsv: no such file"):
        load_examples(str(common_voice), "test")


@pytest.fixture(scope="module")
def lengths():
    rng = random.Random(0)
    return [int(rng.lognormvariate(5, 0.5)) for _ in range(1_003)]


def test_every_clip_is_in_exactly_one_batch(lengths):
    batches = length_batches(lengths, 8, "seed")
    assert sorted(index for batch in batches for index in batch) == [*range(1_003)]
    assert {len(batch) for batch in batches} == {8, 3}
    assert length_batches([], 8, "seed") == []
    assert length_batches([5], 8, "seed") == [[0]]


def test_batches_follow_from_their_seed(lengths):
    assert length_batches(lengths, 8, "0 1") == length_batches(lengths, 8, "0 1")
    assert length_batches(lengths, 8, "0 1") != length_batches(lengths, 8, "0 2")
    once, again = ({frozenset(batch) for batch in length_batches(lengths, 8, seed)} for seed in ("0 1", "0 2"))
    assert len(once & again) < 5


def test_batches_waste_little_on_padding_and_come_in_no_order_of_length(lengths):
    def padded(batches):
        return sum(len(batch) * max(lengths[index] for index in batch) for batch in batches) / sum(lengths) - 1

    batches = length_batches(lengths, 8, "seed")
    shuffled = random.Random(1).sample(range(1_003), 1_003)
    assert padded(batches) < 0.08
    assert padded([shuffled[start : start + 8] for start in range(0, 1_003, 8)]) > 0.5
    first_half, second_half = batches[:63], batches[63:]
    means = [np.mean([lengths[index] for batch in half for index in batch]) for half in (first_half, second_half)]
    assert means[0] == pytest.approx(means[1], rel=0.15)


@pytest.fixture
def counted(encoder):
    """A copy of the encoder that counts its batches, and can break off before one of them."""

    def forward(*arguments):
        if copied.batches == copied.break_at:
            raise KeyboardInterrupt
        copied.batches += 1
        return encoder(*arguments)

    copied = copy.copy(encoder)
    copied.forward, copied.batches, copied.break_at = forward, 0, None
    return copied


@pytest.fixture
def clean_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("clean_cache")
def test_cached_features_are_the_live_ones_rounded_to_fp16(folder, encoder):
    examples = read_asr_csv(folder / "asr.csv")
    store = encode_examples(examples, encoder)
    assert len(store) == 3
    for index, (example, seconds) in enumerate(zip(examples, CLIP_SECONDS, strict=True)):
        live, cached = encoder.encode_waveform(datasets.load_audio(example.path)), store[index]
        assert cached.shape == (round(seconds * 50), 512)
        assert cached.dtype == torch.float32
        # half a unit in fp16's last place, and what a batch adds in fp32
        allowed = live.abs() * 2**-11 + 2e-4 * live.abs().max()
        assert ((cached - live).abs() <= allowed).all()
        assert torch.equal(cached, cached.half().float())


@pytest.mark.usefixtures("clean_cache")
def test_the_second_time_nothing_is_encoded(folder, counted):
    examples = read_asr_csv(folder / "asr.csv")
    first = encode_examples(examples, counted, batch_size=2)
    assert counted.batches == 2
    second = encode_examples(examples, counted, batch_size=2)
    assert counted.batches == 2
    assert all(torch.equal(first[index], second[index]) for index in range(3))


@pytest.mark.usefixtures("clean_cache")
def test_other_sound_precision_order_or_length_limit_is_encoded_anew(folder, encoder):
    examples, folders = read_asr_csv(folder / "asr.csv"), []

    def count(examples, encoder, **options):
        encode_examples(examples, encoder, **options)
        folders.append(len([*(cache_folder() / "features").iterdir()]))

    count(examples, encoder)
    count([Example(example.path, "another text") for example in examples], encoder)
    count(examples[::-1], encoder)
    count(examples, encoder, max_seconds=5.0)
    fast = copy.copy(encoder)
    fast.precision = "bf16"
    count(examples, fast)
    soundfile.write(examples[1].path, hum(0.3, 190), SAMPLE_RATE)
    count(examples, encoder)
    assert folders == [1, 1, 2, 3, 4, 5]


@pytest.mark.usefixtures("clean_cache")
def test_an_interrupted_encoding_leaves_nothing_that_counts_as_complete(folder, counted):
    examples, counted.break_at = read_asr_csv(folder / "asr.csv"), 2
    with pytest.raises(KeyboardInterrupt):
        encode_examples(examples, counted, batch_size=1)
    assert list((cache_folder() / "features").iterdir()) == []
    counted.break_at = None
    store = encode_examples(examples, counted, batch_size=1)
    assert counted.batches == 2 + 3
    assert [len(store[index]) for index in range(3)] == [round(seconds * 50) for seconds in CLIP_SECONDS]


@pytest.mark.usefixtures("clean_cache")
def test_two_processes_may_encode_the_same_clips_at_once(folder, encoder, monkeypatch):
    examples, write_features = read_asr_csv(folder / "asr.csv"), datasets._write_features

    def meanwhile_another_finishes(folder, **named):
        monkeypatch.setattr(datasets, "_write_features", write_features)
        encode_examples(examples, encoder)
        write_features(folder, **named)

    monkeypatch.setattr(datasets, "_write_features", meanwhile_another_finishes)
    assert len(encode_examples(examples, encoder)) == 3
    assert [path.suffix for path in (cache_folder() / "features").iterdir()] == [""]


@pytest.mark.usefixtures("clean_cache")
def test_log_mels_are_stored_clip_by_clip_and_made_only_once(folder, monkeypatch):
    examples, made = read_asr_csv(folder / "asr.csv"), []
    monkeypatch.setattr(datasets, "ctc_log_mel", lambda waveform: made.append(1) or ctc_log_mel(waveform))
    store = log_mel_examples(examples, batch_size=2)
    for index, example in enumerate(examples):
        live = ctc_log_mel(datasets.load_audio(example.path))
        torch.testing.assert_close(store[index], live, rtol=2**-11, atol=1e-4)
    assert len(log_mel_examples(examples)) == len(made) == 3
    # other sound is looked at again, and so is the same sound under another limit
    assert len(log_mel_examples(examples[:2])) == 2
    assert log_mel_examples(examples, max_seconds=5.0).counts == store.counts
    assert len(made) == 3 + 2 + 3


@pytest.mark.usefixtures("clean_cache")
def test_any_speech_encoder_encodes_with_its_own_log_mel(folder):
    examples, encoder = read_asr_csv(folder / "asr.csv"), StageBEncoder(16, 1, 2, 24).eval()
    store = encode_examples(examples, encoder, batch_size=2)
    for index, example in enumerate(examples):
        live = encoder.encode_waveform(datasets.load_audio(example.path))
        torch.testing.assert_close(store[index], live, atol=2e-3, rtol=2e-3)


def feature_folder():
    [folder] = (cache_folder() / "features").iterdir()
    return folder


def spoil_bytes(path, place, content):
    whole = bytearray(path.read_bytes())
    whole[place : place + len(content)] = content
    path.write_bytes(whole)


def shuffle_index(path):
    index = json.loads(path.read_text())
    path.write_text(json.dumps(index | {"starts": index["starts"][::-1]}))


@pytest.mark.usefixtures("clean_cache")
@pytest.mark.parametrize(
    ("damage", "again"),
    [
        (lambda folder: spoil_bytes(folder / "features.f16", 0, bytes(2_000)), [2]),
        (lambda folder: spoil_bytes(folder / "features.f16", 700, b"\xff"), [2]),
        (lambda folder: (folder / "features.f16").write_bytes((folder / "features.f16").read_bytes() + b"more"), [2, 1]),
        (lambda folder: (folder / "features.f16").write_bytes((folder / "features.f16").read_bytes()[:-8]), [2, 1]),
        (lambda folder: shuffle_index(folder / "index.json"), [2, 1]),
        (lambda folder: (folder / "index.json").unlink(), [2, 1]),
    ],
    ids=["zeroed", "a byte", "longer", "shorter", "index shuffled", "no index"],
)
def test_damaged_features_are_named_and_made_again(folder, monkeypatch, capsys, damage, again):
    examples, made = read_asr_csv(folder / "asr.csv"), []

    def store():
        return log_mel_examples(examples, batch_size=2)

    whole = store()
    good = [whole[index] for index in range(3)]
    damage(feature_folder())
    monkeypatch.setattr(datasets, "ctc_log_mel", lambda waveform: made.append(1) or ctc_log_mel(waveform))
    mended = store()
    assert all(torch.equal(mended[index], good[index]) for index in range(3))
    assert len(made) == sum(again)  # of a damaged file, only the block that is damaged
    assert f"{feature_folder()}" in (told := capsys.readouterr().out)
    assert "made again" in told
    once_more = store()
    assert all(torch.equal(once_more[index], good[index]) for index in range(3))
    assert len(made) == sum(again)


@pytest.mark.usefixtures("clean_cache")
def test_a_block_is_looked_at_when_it_is_first_asked_for(folder, monkeypatch):
    examples, looked = read_asr_csv(folder / "asr.csv"), []
    store = log_mel_examples(examples, batch_size=1)
    check = datasets.FeatureStore._checksum
    monkeypatch.setattr(datasets.FeatureStore, "_checksum", lambda store, block: looked.append(block) or check(store, block))
    for index in (2, 2, 0, 2):
        store[index]
    assert len(looked) == len(set(looked)) == 2


def test_a_clip_in_both_sets_and_texts_that_are_not_normalised_are_said(folder):
    train = load_examples(str(folder / "asr.csv"), "train")
    shutil.copyfile(train[0].path, folder / "wav" / "copy.wav")
    dev = [Example(folder / "wav" / "copy.wav", "En hat."), *load_examples(str(folder / "asr.csv"), "dev")]
    lines = describe_sets([train], dev).splitlines()
    assert lines[0] == "2 clips to train on, 2 to validate on"
    assert lines[1].startswith("  1 of the 2 are also trained on")
    assert lines[2].startswith("  2 of 4 texts are not normalised (they have")
    assert describe_sets([train[:1]], load_examples(str(folder / "asr.csv"), "train")[1:]).splitlines() == [
        "1 clips to train on, 1 to validate on"
    ]


def test_bad_clips_are_found_before_anything_is_encoded(folder):
    soundfile.write(folder / "wav" / "long.wav", hum(31), SAMPLE_RATE)
    soundfile.write(folder / "wav" / "silent.wav", np.zeros(9_000), SAMPLE_RATE)
    rows = [
        ("wav/0.wav", "en hat"),
        ("wav/long.wav", "hej"),
        ("wav/silent.wav", "hej"),
        ("wav/1.wav", "Hej"),
        ("wav/2.wav", "øl"),
    ]
    source, check = str(write_table(folder / "b.csv", rows)), partial(fault_of_clip, letters="abcdefghijklmnopqrstuvwxyzæøå ")
    with pytest.raises(DataError) as refused:
        load_examples(source, "train", check=check)
    assert [line.split()[1:3] for line in str(refused.value).splitlines()[1:-1]] == [
        ["3", "long.wav"],
        ["4", "silent.wav"],
        ["5", "1.wav"],
    ]
    assert [e.text for e in load_examples(source, "train", skip_bad=True, check=check)] == ["en hat", "øl"]
    assert [e.text for e in load_examples(source, "train", clips=1, check=check)] == ["en hat"]


def test_a_stray_quote_or_comma_is_a_bad_row_and_swallows_none(folder):
    rows = ['wav/0.wav,"en hat,train', "wav/1.wav,ja, tak,train", 'wav/2.wav,øl", ', 'wav/2.wav,"en, to",train']
    table = "\n".join(["audio_path,transcription,split", *rows, ""])
    (folder / "q.csv").write_text(table, encoding="utf-8")
    with pytest.raises(DataError, match=r"3 of 4 rows") as refused:
        read_asr_csv(folder / "q.csv")
    assert [line.split()[1] for line in str(refused.value).splitlines()[1:-1]] == ["2", "3", "4"]
    assert [e.text for e in read_asr_csv(folder / "q.csv", skip_bad=True)] == ["en, to"]
