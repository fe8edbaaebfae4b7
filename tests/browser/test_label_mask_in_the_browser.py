"""The label-mask inspector in JupyterLab, on the shipped system: slide, point at a position, pick another clip."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from course_lib.config import load_config
from course_lib.data.datasets import load_examples
from course_lib.files import SHIPPED_CSV, find_model
from course_lib.sound.audio import SAMPLE_RATE, load_audio
from course_lib.sound.shape_table import shape_table
from course_lib.systems import CONFIG_NAME, SHIPPED_SLAM, SlamConfig
from course_lib.widgets.label_mask import piece_of

SCREENSHOTS = Path(__file__).parent / "screenshots"
TEXTS = ("har du en frø", "saks")

CELL = f"""
from course_lib.sound.audio import load_audio
from course_lib.data.datasets import load_examples
from course_lib.systems import load_slam
from course_lib.widgets.label_mask import LabelMaskInspector, inspect_clips

slam = load_slam()
by_text = {{example.text: example for example in load_examples("data/audio/asr.csv", "test")}}
texts = {list(TEXTS)!r}
LabelMaskInspector(inspect_clips(slam, slam.encode([load_audio(by_text[text].path) for text in texts]), texts))
"""


@pytest.fixture
def page(run_cell: Any) -> Any:
    """The inspector on two clips."""
    return run_cell(CELL)


def wait_for_text(page: Any, text: str) -> None:
    page.locator(".widget-html-content").filter(has_text=text).first.wait_for()


def audio_tokens(text: str, k: int) -> int:
    """How many the shape table predicts for the clip of this text."""
    waveform = load_audio(next(clip.path for clip in load_examples(str(SHIPPED_CSV), "test") if clip.text == text))
    return shape_table(len(waveform) / SAMPLE_RATE, k=k)["audio tokens"][0]


def answer_pieces(text: str) -> list[str]:
    tokenizer = AutoTokenizer.from_pretrained(find_model("data/models/tiny-danish-lm"))
    return [piece_of(tokenizer, token) for token in [*tokenizer(text).input_ids, tokenizer.eos_token_id]]


def test_sliding_pointing_and_picking(page):
    k = load_config(SHIPPED_SLAM / CONFIG_NAME, SlamConfig).k
    (audio, first), (fewer, second) = ((audio_tokens(text, k), answer_pieces(text)) for text in TEXTS)
    start = audio + 6
    wait_for_text(page, f"{audio} audio 6 prompt")
    wait_for_text(page, f"the label at {start}, {first[0]}: loss")
    strip = page.locator(".widget-html-content").first
    columns = strip.locator("div[title]")
    assert columns.count() == start + len(first)
    assert strip.locator("div[style*=outline]").all_inner_texts() == ["↵", first[0]]

    column = columns.nth(start)
    column.hover()
    assert column.get_attribute("title").startswith(f"{start}, answer: reads {first[0]}, label {first[0]}, predicts ")
    assert column.evaluate("column => column.matches(':hover')")

    handle = page.locator(".widget-slider .noUi-handle").first
    handle.focus()
    handle.press("ArrowRight")
    wait_for_text(page, f"Position {start} of")
    wait_for_text(page, f"the label at {start + 1}, {first[1]}: loss")
    assert page.locator(".widget-readout").first.inner_text() == str(start)
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "label_mask.png")

    handle.press("Home")
    wait_for_text(page, f"0.00–{k / 50:.2f} s of sound")
    wait_for_text(page, "nothing: the label at 1 is −100")

    page.locator(".widget-dropdown select").first.select_option(TEXTS[1])
    wait_for_text(page, f"{fewer} audio 6 prompt")
    wait_for_text(page, f"the label at {fewer + 6}, {second[0]}: loss")
    assert strip.locator(".position-padding").count() == start + len(first) - fewer - 6 - len(second)
    handle.press("End")
    wait_for_text(page, "padding: zeros, which nobody looks at")
