"""What can be made again goes where COURSE_CACHE says, and two makers at once do no harm."""

from pathlib import Path

import pytest

from course_lib import files
from course_lib.files import cache_folder, find_model, keep_first


def test_course_cache_names_the_folder_and_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "a" / "b"))
    assert cache_folder() == tmp_path / "a" / "b"
    assert cache_folder().is_dir()


@pytest.mark.parametrize("unset", [None, ""])
def test_without_course_cache_it_is_the_users_own_cache(tmp_path, monkeypatch, unset):
    monkeypatch.delenv("COURSE_CACHE")
    if unset is not None:
        monkeypatch.setenv("COURSE_CACHE", unset)
    monkeypatch.setattr(files, "user_cache_path", lambda name: tmp_path / name)
    assert cache_folder() == tmp_path / "danish-asr-by-hand"


def test_a_model_is_looked_for_from_here_then_from_the_course_then_it_is_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = find_model("data/models/whisper-base-encoder")
    assert Path(shipped) == files.DATA_FOLDER / "models" / "whisper-base-encoder"
    assert find_model("openai/whisper-base") == "openai/whisper-base"
    (tmp_path / "openai" / "whisper-base").mkdir(parents=True)
    assert Path(find_model("openai/whisper-base")).resolve() == (tmp_path / "openai" / "whisper-base").resolve()


def test_a_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert Path(find_model("~/model")) == tmp_path / "model"


def test_of_two_finished_folders_the_first_is_kept(tmp_path):
    target = tmp_path / "made"
    for text in ("first", "second"):
        beside = tmp_path / f"made.{text}"
        beside.mkdir()
        (beside / "who").write_text(text)
        keep_first(beside, target)
    assert (target / "who").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_rename_that_fails_for_another_reason_is_an_error(tmp_path):
    with pytest.raises(OSError, match="missing"):
        keep_first(tmp_path / "missing", tmp_path / "made")
