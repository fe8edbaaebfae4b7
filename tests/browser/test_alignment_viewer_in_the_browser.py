"""The alignment viewer in JupyterLab: move the cursor, hear the piece, pick another clip."""

from pathlib import Path
from typing import Any

import pytest

SCREENSHOTS = Path(__file__).parent / "screenshots"

CELL = """
import torch
from course_lib.sound.audio import load_audio
from course_lib.data.datasets import load_examples
from course_lib.encoder.tiny import StageBEncoder
from course_lib.ctc.recogniser import StageBRecogniser
from course_lib.text.vocabulary import CharVocabulary
from course_lib.widgets.alignment_viewer import AlignmentViewer, align_clip

torch.manual_seed(0)
recogniser = StageBRecogniser(StageBEncoder(24, 1, 2, 48), CharVocabulary())
examples = load_examples("data/audio/asr.csv", "test")
chosen = [example for example in examples if example.text in ("turisten har fundet kortet", "saks")]
AlignmentViewer([align_clip(recogniser, load_audio(example.path), example.text) for example in chosen])
"""


@pytest.fixture
def page(run_cell: Any) -> Any:
    """The viewer on two clips."""
    return run_cell(CELL)


def wait_for_text(page: Any, text: str) -> None:
    page.locator(".widget-html-content").filter(has_text=text).first.wait_for()


def wait_for_player(page: Any, index: int, condition: str) -> None:
    """Until `condition` holds of the audio element `player`."""
    page.wait_for_function(
        f"index => {{ const player = document.querySelectorAll('audio')[index]; return {condition} }}", arg=index
    )


def test_moving_playing_and_picking(page):
    wait_for_text(page, "on t: turisten har fundet kortet")
    wait_for_player(page, 0, "Math.abs(player.duration - 0.4) < 0.001")
    wait_for_player(page, 1, "Math.abs(player.duration - 2.08) < 0.01")
    picture = page.locator(".jp-OutputArea-output img").first
    before, handle = picture.get_attribute("src"), page.locator(".widget-slider .noUi-handle").first
    frame = int(page.locator(".widget-readout").first.inner_text())

    handle.focus()
    for _ in range(3):
        handle.press("ArrowRight")
    wait_for_text(page, f"Frame {frame + 3}, ")
    page.wait_for_function("([image, old]) => image.src !== old", arg=[picture.element_handle(), before])
    assert page.locator("audio").first.evaluate("player => player.paused && player.played.length === 0")

    page.get_by_role("button", name="play 0.4 s here").click()
    wait_for_player(page, 0, "player.ended && player.played.end(0) > 0.3")
    page.locator("audio").first.scroll_into_view_if_needed()
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "alignment_viewer.png")

    page.locator(".widget-dropdown select").first.select_option("saks")
    wait_for_text(page, "on s: saks")
    wait_for_player(page, 1, "Math.abs(player.duration - 0.48) < 0.01")
    assert int(page.locator(".widget-readout").first.inner_text()) <= 11
    handle.press("End")
    wait_for_text(page, "Frame 11, 0.44–0.48 s")
