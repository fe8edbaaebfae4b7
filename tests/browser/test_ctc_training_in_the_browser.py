"""Training nat by hand in JupyterLab: steps by button, a slider moved, and back to the start."""

from pathlib import Path
from typing import Any

import pytest

SCREENSHOTS = Path(__file__).parent / "screenshots"

CELL = """
import torch
from course_lib.widgets.ctc_training import CtcTraining

toy = torch.tensor([[0.2, 0.6, 0.1, 0.1], [0.3, 0.1, 0.5, 0.1], [0.4, 0.1, 0.3, 0.2], [0.2, 0.1, 0.1, 0.6]])
CtcTraining(toy, [1, 2, 3], ["_", "n", "a", "t"])
"""


@pytest.fixture
def page(run_cell: Any) -> Any:
    """The widget on the chapter's table."""
    return run_cell(CELL)


def test_steps_a_slider_and_the_start(page):
    said = page.locator(".widget-html-content")
    said.filter(has_text="0 steps, loss 1.510; na_t has 33 % of the sum").wait_for()
    picture = page.locator(".jp-OutputArea-output img").first
    at_first = picture.get_attribute("src")

    page.get_by_role("button", name="one step").click()
    said.filter(has_text="1 steps").wait_for()
    page.get_by_role("button", name="100 steps").click()
    said.filter(has_text="101 steps").filter(has_text="naat has 84 % of the sum").wait_for()
    page.wait_for_function("([image, old]) => image.src !== old", arg=[picture.element_handle(), at_first])
    page.locator(".jp-OutputArea-output").first.screenshot(path=SCREENSHOTS / "ctc_training.png")

    before = said.first.inner_text()
    handle = page.locator(".widget-slider .noUi-handle").first
    handle.focus()
    for _ in range(5):
        handle.press("PageUp")
    page.wait_for_function("([text, old]) => text.innerText !== old", arg=[said.first.element_handle(), before])

    page.get_by_role("button", name="start again").click()
    said.filter(has_text="0 steps, loss 1.510").wait_for()
