"""A learner's afternoon: open the notebook in JupyterLab, run all, type and drag, and see the page change."""

from pathlib import Path
from typing import Any

SCREENSHOTS = Path(__file__).parent / "screenshots"


def live_demo(page: Any, controls: str) -> Any:
    """The output area that holds live controls, scrolled into view."""
    demo = page.locator(".jp-OutputArea-output").filter(has=page.locator(controls)).first
    demo.locator(controls).first.wait_for()
    demo.scroll_into_view_if_needed()
    return demo


def wait_for_text(page: Any, demo: Any, text: str) -> None:
    demo.locator(".widget-html-content").filter(has_text=text).first.wait_for()


def wait_for_new_picture(page: Any, demo: Any, old: str) -> None:
    page.wait_for_function("([image, old]) => image.src !== old", arg=[demo.locator("img").first.element_handle(), old])


def wait_until_idle(page: Any) -> None:
    """Until the kernel has answered every move of the mouse."""
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'", polling=500
    )


def keep_screenshot(page: Any, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def test_typing_into_the_wer_playground(run_notebook):
    page = run_notebook("03_word_error_rate.ipynb")
    demo = live_demo(page, ".widget-text input[type=text]")
    wait_for_text(page, demo, "WER 50.0%")
    assert demo.locator(".step-deletion").count() == 1

    written = demo.locator(".widget-text input[type=text]").nth(1)
    written.fill("")
    written.press_sequentially("hvordan har du det i dag, <b>nok</b>", delay=5)
    wait_for_text(page, demo, "WER 33.3%")
    assert demo.locator(".step-substitution, .step-insertion").count() == 2
    wait_for_text(page, demo, "<b>nok</b>")

    demo.get_by_text("normalise both first").click()
    wait_for_text(page, demo, "WER 50.0%")
    demo.get_by_text("characters", exact=True).click()
    wait_for_text(page, demo, "The table is shown up to")
    keep_screenshot(page, "wer_playground")


def test_typing_a_ctc_path(run_notebook):
    page = run_notebook("04_ctc.ipynb")
    demo = live_demo(page, ".widget-text input[type=text]")
    wait_for_text(page, demo, "this is otte")
    picture = demo.locator("img").first.get_attribute("src")

    path = demo.locator(".widget-text input[type=text]").nth(1)
    path.fill("")
    path.press_sequentially("_oottte", delay=5)
    wait_for_text(page, demo, "not otte")
    wait_for_new_picture(page, demo, picture)

    # Frame 4 is the second t; its slider's lowest place is the blank.
    handle = demo.locator(".widget-vslider .noUi-handle").nth(4)
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 250, steps=5)
    page.mouse.up()
    wait_for_text(page, demo, "this is otte")
    assert path.input_value() == "_oot_te"
    wait_until_idle(page)
    keep_screenshot(page, "ctc_collapse")


def test_dragging_a_mel_slider(run_notebook):
    page = run_notebook("01_sound_to_mel.ipynb")
    demo = live_demo(page, ".widget-slider .noUi-handle")
    picture = demo.locator("img").first.get_attribute("src")
    readout = demo.locator(".widget-readout").last
    before = int(readout.inner_text())

    handle = demo.locator(".widget-slider .noUi-handle").last
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] - 60, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()

    wait_for_new_picture(page, demo, picture)
    wait_until_idle(page)
    bins = int(readout.inner_text())
    assert bins < before
    wait_for_text(page, demo, f", {bins}]")
    keep_screenshot(page, "mel_explorer")
