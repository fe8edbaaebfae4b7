"""What nbval does not see: a notebook that was stored without being run passes nbval, and so does a broken link."""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted([*FOLDER.glob("*.ipynb"), *FOLDER.glob("solutions/*.ipynb")])
CHAPTERS = [path for path in NOTEBOOKS if path.parent.name == "notebooks"]
# Why nbval may not compare a cell's output; the second tag of such a cell names one.
REASONS = {
    "clock": "seconds of this machine, this time",
    "progress-bar": "drawn while something is made, or not at all when it is in the cache",
    "audio-bytes": "a player holds every sample, and the last bit of some depends on the processor",
    "dream": "what a language model writes that hears nothing: the last digits of a sum decide",
    "drawn": "thousands of drawn tokens, and one that falls on the border between two goes either way",
    "live-training": "a training of a minute multiplies last digits",
}


def cells_of(path: Path, kind: str) -> list[dict]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == kind and "".join(cell["source"]).strip()]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request) -> Path:
    return request.param


def test_there_are_notebooks():
    assert NOTEBOOKS, "no notebook found: did the folder move?"


def test_every_code_cell_was_run_in_order_and_without_an_error(notebook):
    code = cells_of(notebook, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]


def test_cells_are_short_and_the_file_is_small(notebook):
    longest = max(
        sum(bool(line.strip()) for line in "".join(cell["source"]).splitlines()) for cell in cells_of(notebook, "code")
    )
    assert longest <= 15
    assert notebook.stat().st_size <= 1_500_000


def test_no_construct_that_stalls_under_nbconvert(notebook):
    source = "\n".join("".join(cell["source"]) for cell in cells_of(notebook, "code"))
    assert not re.search(r"@interact|with \w*[Oo]ut\w*:", source)


def test_no_output_holds_a_path_of_the_machine_that_made_it(notebook):
    outputs = json.dumps([cell["outputs"] for cell in cells_of(notebook, "code")])
    assert not re.search(r"/(home|root|tmp|work|Users)/", outputs)


def test_a_cell_whose_output_is_not_compared_says_why(notebook):
    for cell in cells_of(notebook, "code"):
        tags = cell["metadata"].get("tags", [])
        assert not tags or (tags[0] == "nbval-ignore-output" and set(tags[1:]) <= REASONS.keys() and len(tags) == 2), tags


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_the_shape_table_is_checked_in_the_last_cell(chapter):
    assert "check_shape_table" in "".join(cells_of(chapter, "code")[-1]["source"])


def test_links_and_glossary_anchors_lead_somewhere(notebook):
    prose = "\n".join("".join(cell["source"]) for cell in cells_of(notebook, "markdown"))
    for target in re.findall(r"\]\(([^)]+)\)", re.sub(r"\s*\n", "", prose)):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        page = notebook.parent / name
        assert page.is_file(), f"{notebook.name} links to {target}"
        assert not anchor or f'id="{anchor}"' in page.read_text(encoding="utf-8"), f"{notebook.name} links to {target}"


FILE_NAME = re.compile(r"\b(?:tests|course_lib)/[\w/]+\.(?:py|yaml|json)\b")


@pytest.mark.parametrize("page", [*NOTEBOOKS, *FOLDER.glob("*.md"), FOLDER.parent / "README.md"], ids=lambda path: path.stem)
def test_files_of_the_repository_that_the_prose_names_are_there(page):
    missing = {name for name in FILE_NAME.findall(page.read_text(encoding="utf-8")) if not (FOLDER.parent / name).is_file()}
    assert not missing, f"{page.name} names {missing}"
