"""What can be made again goes where COURSE_CACHE says, and two makers at once do no harm."""

from pathlib import Path

import pytest

from course_lib import files
from course_lib.files import cache_folder, find_model, make_folder


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


def test_a_folder_is_made_once(tmp_path):
    for text in ("first", "second"):
        made = make_folder(tmp_path / "made", lambda folder, text=text: (folder / "who").write_text(text))
        assert made == tmp_path / "made"
    assert (tmp_path / "made" / "who").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_of_two_makers_at_once_the_first_to_finish_is_kept(tmp_path):
    def slow(folder):
        make_folder(tmp_path / "made", lambda other: (other / "who").write_text("faster"))
        (folder / "who").write_text("slower")

    make_folder(tmp_path / "made", slow)
    assert (tmp_path / "made" / "who").read_text() == "faster"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_maker_that_breaks_off_leaves_nothing(tmp_path, error):
    def fill(folder):
        (folder / "half").write_text("a fi")
        raise error

    with pytest.raises(type(error)):
        make_folder(tmp_path / "made", fill)
    assert list(tmp_path.iterdir()) == []
