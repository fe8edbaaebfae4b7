"""A list of words is read aloud, without a browser: what is asked for, what is kept, and what lies in the folder."""

import base64
from pathlib import Path

import numpy as np
import pytest

from course_lib.data.datasets import DataError, load_examples, read_asr_csv
from course_lib.files import SHIPPED_CSV
from course_lib.sound.audio import load_audio
from course_lib.widgets.prompted_reading import PromptedReading, draw_readings, load_readings

PROMPTS = ["hej", "paraply", "hej", "en to tre"]


def say(reading: PromptedReading, seconds: float) -> None:
    samples = 8_000 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * 16_000)) / 16_000)
    reading.recorder.receive(samples.astype("<i2").tobytes(), 16_000)


def listed(folder: Path) -> list[tuple[str, float]]:
    """What another program finds in the folder: each text with the seconds of its sound."""
    return [(one.text, len(load_audio(one.path)) / 16_000) for one in read_asr_csv(folder / "asr.csv")]


@pytest.fixture
def reading(tmp_path: Path) -> PromptedReading:
    return PromptedReading(PROMPTS, tmp_path / "mine")


def test_it_asks_for_the_first_prompt_and_nothing_is_there(reading):
    assert "0 of 4 recorded" in reading.text.value
    assert "<b>hej</b>" in reading.text.value
    assert reading.waveforms == [None] * 4
    assert reading.redo.disabled
    assert not reading.csv.exists()


def test_every_recording_is_saved_at_once_and_the_next_prompt_is_asked_for(reading):
    say(reading, 0.5)
    assert "1 of 4 recorded" in reading.text.value
    assert "<b>paraply</b>" in reading.text.value
    assert listed(reading.folder) == [("hej", 0.5)]
    say(reading, 0.75)
    assert listed(reading.folder) == [("hej", 0.5), ("paraply", 0.75)]
    assert [None if one is None else len(one) for one in reading.waveforms] == [8_000, 12_000, None, None]
    [first, _] = read_asr_csv(reading.csv)
    assert (first.voice, first.split) == ("you", "")
    assert len(load_examples(str(reading.csv), "train")) == 2


def test_when_all_are_recorded_it_says_where_they_are_and_records_no_more(reading):
    for _ in PROMPTS:
        assert not reading.recorder.disabled
        say(reading, 0.5)
    assert "4 of 4 recorded. All of them are in" in reading.text.value
    assert str(reading.csv) in reading.text.value
    assert reading.recorder.disabled
    say(reading, 1.0)
    assert {seconds for _, seconds in listed(reading.folder)} == {0.5}


def test_a_recording_that_cannot_be_used_is_asked_for_again(reading):
    reading.recorder.receive(bytes(32_000), 16_000)
    assert "silent" in reading.recorder.error
    assert "0 of 4 recorded" in reading.text.value
    assert "<b>hej</b>" in reading.text.value


def test_the_last_can_be_done_again_and_then_it_goes_on(reading):
    say(reading, 0.5)
    say(reading, 0.75)
    reading.redo.value = True
    assert "<b>paraply</b>" in reading.text.value
    say(reading, 0.25)
    assert listed(reading.folder) == [("hej", 0.5), ("paraply", 0.25)]
    assert not reading.redo.value
    assert "2 of 4 recorded" in reading.text.value
    assert "<b>hej</b>" in reading.text.value


def test_who_does_not_want_to_do_it_again_after_all_keeps_it(reading):
    for _ in PROMPTS:
        say(reading, 0.5)
    reading.redo.value = True
    assert not reading.recorder.disabled
    reading.redo.value = False
    assert reading.recorder.disabled
    assert len(listed(reading.folder)) == 4


def test_while_somebody_speaks_the_prompt_stays(reading):
    say(reading, 0.5)
    assert not reading.redo.disabled
    reading.recorder.status = "recording"
    assert reading.redo.disabled


def test_who_stops_goes_on_where_they_were(reading):
    say(reading, 0.5)
    say(reading, 0.75)
    again = PromptedReading(PROMPTS, reading.folder)
    assert "2 of 4 recorded" in again.text.value
    assert [None if one is None else len(one) for one in again.waveforms] == [8_000, 12_000, None, None]
    say(again, 0.25)
    assert listed(reading.folder) == [("hej", 0.5), ("paraply", 0.75), ("hej", 0.25)]


def test_another_list_in_the_same_folder_harms_no_recording(reading):
    say(reading, 0.5)
    say(reading, 0.75)
    other = PromptedReading(["saks", "paraply"], reading.folder)
    say(other, 0.25)
    assert sorted(listed(reading.folder)) == [("hej", 0.5), ("paraply", 0.75), ("saks", 0.25)]
    assert "2 of 2 recorded" in other.text.value


def test_without_a_microphone_shipped_clips_take_its_place(tmp_path):
    clips = load_examples(str(SHIPPED_CSV), "test")[:3]
    reading = PromptedReading([*(clip.text for clip in clips), "xylofon"], tmp_path, split="train")
    assert reading.fill_from(SHIPPED_CSV) == 3
    assert "3 of 4 recorded" in reading.text.value
    assert "<b>xylofon</b>" in reading.text.value
    rows = load_examples(str(reading.csv), "train")
    assert [(row.text, row.voice) for row in rows] == [(clip.text, clip.voice) for clip in clips]
    assert all((load_audio(row.path) == load_audio(clip.path)).all() for row, clip in zip(rows, clips, strict=True))


def test_where_no_shipped_clip_fits_nothing_is_written(tmp_path):
    reading = PromptedReading(["xylofon"], tmp_path)
    assert reading.fill_from(SHIPPED_CSV) == 0
    assert not reading.csv.exists()


def test_prompts_and_folders_are_escaped(tmp_path):
    reading = PromptedReading(["<script>alert('og')</script>"], tmp_path / "<script>")
    assert "<b>&lt;script&gt;alert" in reading.text.value
    say(reading, 0.5)
    assert "&lt;script&gt;/asr.csv" in reading.text.value
    assert "<script" not in reading.text.value


@pytest.mark.parametrize("prompts", [[], ["hej", " "]])
def test_nothing_to_say_is_refused(tmp_path, prompts):
    with pytest.raises(ValueError, match="no prompts, or an empty one"):
        PromptedReading(prompts, tmp_path)


def test_a_folder_that_lists_sound_elsewhere_is_refused(reading, tmp_path):
    say(reading, 0.5)
    (tmp_path / "asr.csv").write_text(f"audio_path,transcription\n{SHIPPED_CSV.parent / 'wav/test-00002.wav'},hej\n")
    with pytest.raises(ValueError, match="lies outside its folder"):
        load_readings(tmp_path)


def test_a_folder_with_a_missing_recording_is_refused(reading):
    say(reading, 0.5)
    (reading.folder / "wav/0001.wav").unlink()
    with pytest.raises(DataError, match="no such file"):
        PromptedReading(PROMPTS, reading.folder)


def test_every_prompt_is_drawn_dark_when_it_is_there_and_its_sound_above_it(reading):
    say(reading, 0.5)
    [axes] = draw_readings(reading.prompts, reading.waveforms).axes
    assert [text.get_text() for text in axes.texts] == PROMPTS
    assert len({text.get_color() for text in axes.texts[1:]}) == 1
    assert axes.texts[0].get_color() != axes.texts[1].get_color()
    assert len(axes.collections) == 1


def test_the_static_twin_shows_what_was_recorded(reading):
    say(reading, 0.5)
    data, _ = PromptedReading(PROMPTS, reading.folder)._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/plain"] == "Live in JupyterLab: read 4 prompts aloud. Here, 1 of them recorded."
