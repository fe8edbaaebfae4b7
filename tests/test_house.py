"""The house stands: the drawing shows the imports there are, no folder imports upwards, and no import goes in a circle."""

import doctest
import graphlib
import importlib.util
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent / "docs" / "draw_house.py"
SPEC = importlib.util.spec_from_file_location("draw_house", HOUSE)
house = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(house)

ORDER = str.split(
    "sound text encoder training data ctc language_model slam evaluation exercises widgets systems commands benchmark"
)
"""Each may import those before it."""


def test_the_drawing_is_of_this_house():
    drawn = house.PICTURE.read_text(encoding="utf-8")
    assert drawn == house.draw(), "the imports have changed: run python docs/draw_house.py, and look at docs/house.svg"


def test_every_room_has_its_place_in_the_order():
    assert set(house.room_imports()) == {*ORDER, *house.GROUND}


def test_no_folder_imports_upwards():
    upwards = [
        f"{module} imports {other}"
        for module, imported in house.module_imports().items()
        for other in sorted(imported)
        if not may_import(module, other)
    ]
    assert not upwards


def may_import(module: str, other: str) -> bool:
    room, other_room = house.room_of(module), house.room_of(other)
    if other_room in house.GROUND:
        return True
    return room not in house.GROUND and ORDER.index(other_room) <= ORDER.index(room)


def test_no_import_goes_in_a_circle():
    tuple(graphlib.TopologicalSorter(house.module_imports()).static_order())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import torch, course_lib.files", ["course_lib.files"]),
        ("from course_lib import train", ["course_lib.train"]),
        ("from course_lib.ctc import beam", ["course_lib.ctc.beam"]),
        ("from course_lib.ctc.beam import beam_search, Fusion", ["course_lib.ctc.beam"] * 2),
        ("def late():\n    from course_lib.text.metrics import align", ["course_lib.text.metrics"]),
    ],
)
def test_every_kind_of_import_is_seen(tmp_path, line, expected):
    (tmp_path / "some.py").write_text(line, encoding="utf-8")
    assert [*house.imports_of(tmp_path / "some.py", house.modules())] == expected


def test_a_relative_import_is_refused(tmp_path):
    (tmp_path / "some.py").write_text("from .beam import beam_search", encoding="utf-8")
    with pytest.raises(ValueError, match="absolute"):
        [*house.imports_of(tmp_path / "some.py", house.modules())]


def test_the_examples_in_the_script_hold():
    assert doctest.testmod(house).failed == 0
