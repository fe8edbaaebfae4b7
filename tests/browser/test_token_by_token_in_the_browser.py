"""The token-by-token demo in JupyterLab: move through the steps, pick another clip."""

from pathlib import Path
from typing import Any

import pytest

SCREENSHOTS = Path(__file__).parent / "screenshots"

CELL = """
from course_lib.sound.audio import load_audio
from course_lib.data.datasets import load_examples
from course_lib.slam.decoding import trace_greedy
from course_lib.systems import load_slam
from course_lib.widgets.token_by_token import TokenByToken

slam = load_slam()
examples = load_examples("data/audio/asr.csv", "test")
chosen = [example for example in examples if example.text in ("vil du have te", "saks")]
TokenByToken([trace_greedy(slam, load_audio(example.path), example.text) for example in chosen])
"""


@pytest.fixture
def page(run_cell: Any) -> Any:
    """The demo on two clips."""
    return run_cell(CELL)


def wait_for_text(page: Any, text: str) -> None:
    page.locator(".widget-html-content").filter(has_text=text).first.wait_for()


def test_moving_through_the_steps_and_picking_another_clip(page):
    wait_for_text(page, "Written so far: (nothing)")
    picture, handle = page.locator(".jp-OutputArea-output img").first, page.locator(".widget-slider .noUi-handle").first
    before = picture.get_attribute("src")
    handle.focus()
    handle.press("ArrowRight")
    wait_for_text(page, "Step 2 of ")
    page.wait_for_function("([image, old]) => image.src !== old", arg=[picture.element_handle(), before])
    assert page.locator(".widget-readout").first.inner_text() == "2"

    handle.press("End")
    wait_for_text(page, "now the model writes the end of the text")
    picture.scroll_into_view_if_needed()
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "token_by_token.png")

    page.locator(".widget-dropdown select").first.select_option("saks")
    wait_for_text(page, "Step 1 of ")
    wait_for_text(page, "Written so far: (nothing)")
    assert page.locator(".widget-readout").first.inner_text() == "1"
