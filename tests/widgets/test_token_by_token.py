"""The token-by-token demo: what its picture holds, what it says, and that it follows the hand."""

import base64

import pytest
import torch
from matplotlib.colors import to_hex

from course_lib.slam.decoding import Step, Trace
from course_lib.sound.plots import INK
from course_lib.widgets.token_by_token import TokenByToken, describe_step, draw_step, loudest_look

PNG = b"\x89PNG"


def make_trace(caption="nej tak", steps=3):
    """Four audio tokens of 0.1 s, two of prompt; at step n the model looks at audio token n most."""
    tops = [
        [(" nej", 0.9), (" ja", 0.05), ("$x$", 0.02), ("<b>", 0.02), ("\n", 0.01)],
        [(" tak", 0.6), ("⏹", 0.3), (" en", 0.05), (" to", 0.03), (" tre", 0.02)],
        [("⏹", 0.8), ("ke", 0.1), (" nu", 0.05), (" ja", 0.03), (" på", 0.02)],
    ]
    befores = ["", " nej", " nej tak"]
    made = []
    for number in range(steps):
        attention = torch.full((2, 2, 6 + number), 0.05)
        attention[..., number] = 0.3
        made.append(Step(befores[number], tops[number], attention / attention.sum(dim=-1, keepdim=True)))
    return Trace(caption, torch.rand(40, 80), 4, 2, 0.1, "nej tak", made)


def test_the_picture_has_the_five_likeliest_with_the_written_one_on_top():
    axes = draw_step(make_trace(), 1).axes[2]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["␣tak", "(end)", "␣en", "␣to", "␣tre"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([60, 30, 5, 3, 2])
    assert to_hex(axes.patches[0].get_facecolor()) == INK
    assert to_hex(axes.patches[1].get_facecolor()) != INK
    assert axes.yaxis_inverted()


def test_the_picture_has_attention_over_the_time_of_the_sound():
    trace = make_trace()
    figure = draw_step(trace, 2)
    values, edges, _ = figure.axes[1].patches[0].get_data()
    assert values.tolist() == pytest.approx((100 * trace.looks(2)).tolist())
    assert edges.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert figure.axes[1].get_xlim() == (0, 0.4)
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    shades = [patch.get_alpha() for patch in figure.axes[0].patches]
    assert shades.index(max(shades)) == 2
    spans = [patch.get_bbox().intervalx.tolist() for patch in figure.axes[0].patches]
    width = spans[0][1]
    assert spans == [pytest.approx([place * width, (place + 1) * width]) for place in range(len(spans))]
    assert figure.axes[0].images[0].get_array().shape == (80, 40)


def test_attention_is_on_one_scale_in_all_steps():
    trace = make_trace()
    tops = {draw_step(trace, step).axes[1].get_ylim() for step in range(3)}
    assert len(tops) == 1
    assert next(iter(tops))[1] >= max(float(100 * trace.looks(step).max()) for step in range(3))


def test_dollars_in_a_token_are_no_formula():
    labels = draw_step(make_trace(), 0).axes[2].get_yticklabels()
    assert [label.get_text() for label in labels][2:] == ["$x$", "<b>", "⏎"]
    assert not any(label.get_parse_math() for label in labels)


def test_the_words_say_what_is_written_how_sure_and_where_it_looks():
    trace = make_trace()
    assert loudest_look(trace, 1) == pytest.approx(0.15)
    said = describe_step(trace, 1)
    for part in (
        "Step 2 of 3",
        "<b>nej</b>",
        "<mark><code>␣tak</code></mark> (60.0 %",
        "next best <code>(end)</code>, 30.0 %",
        "most at 0.15 s",
        f"sound {100 * trace.shares(1)['sound']:.0f} %",
    ):
        assert part in said
    assert "(nothing)" in describe_step(trace, 0)
    assert "writes the end of the text (80.0 %" in describe_step(trace, 2)


def test_a_token_cannot_write_html():
    trace = make_trace()
    trace.steps[0].top[0] = ("<i>", 0.9)
    said = describe_step(trace, 0)
    assert "&lt;i&gt;" in said
    assert "<i>" not in said


@pytest.mark.parametrize("step", [-1, 3])
def test_a_step_that_is_not_there_is_refused(step):
    with pytest.raises(ValueError, match=rf"step {step}: the trace has the steps 0 to 2"):
        draw_step(make_trace(), step)


def test_moving_the_slider_moves_text_and_picture():
    demo = TokenByToken([make_trace()])
    assert (demo.step.min, demo.step.max, demo.step.value) == (1, 3, 1)
    before = bytes(demo.picture.value)
    demo.step.value = 3
    assert "Step 3 of 3" in demo.text.value
    assert bytes(demo.picture.value).startswith(PNG)
    assert bytes(demo.picture.value) != before


def test_another_clip_begins_at_its_first_step():
    demo = TokenByToken([make_trace(), make_trace("kort", 1), make_trace("kort", 2)], step=3)
    assert "Step 3 of 3" in demo.text.value
    demo.clip.value = 1
    assert (demo.step.value, demo.step.max, demo.current.caption) == (1, 1, "kort")
    assert "Step 1 of 1" in demo.text.value
    demo.clip.value = 2
    demo.step.value = 2
    assert "Step 2 of 2" in demo.text.value


def test_the_static_twin_is_what_the_demo_shows_at_first():
    demo = TokenByToken([make_trace()], step=2)
    data, _ = demo._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == bytes(demo.picture.value)
    assert data["text/plain"] == "Live in JupyterLab: pick a clip, move the step. Here, step 2, after “nej”."


def test_nothing_to_show_is_refused():
    with pytest.raises(ValueError, match="no clip to show"):
        TokenByToken([])
