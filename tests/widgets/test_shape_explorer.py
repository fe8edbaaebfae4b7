import base64

import pytest

from course_lib.sound.shape_table import shape_table
from course_lib.widgets.shape_explorer import LLM_DIMS, PALE, ShapeExplorer, describe_shapes, draw_shapes

PNG = b"\x89PNG"


@pytest.fixture
def demo():
    return ShapeExplorer()


def lanes(figure):
    """Height of each lane → the left edges of its boxes, in seconds; "left over" → start and end of the hatched box."""
    found = {}
    for boxes in figure.axes[0].collections:
        edges = [(path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in boxes.get_paths()]
        height = round(boxes.get_paths()[0].vertices[:, 1].mean()) if boxes.get_paths() else None
        found["left over" if boxes.get_hatch() else height] = edges
    return found


def test_the_table_is_the_guides_and_the_shape_tables():
    table = describe_shapes(5.0, 5, 2048, False)
    for shape in ("[80,000]", "[500, 80]", "[250, 512]", "[50, 2,048]"):
        assert shape in table
    assert "<td>50.0</td>" in table
    assert "dropped" not in table


def test_what_is_dropped_is_said():
    assert "The last 3 of 253 features (60 ms) fill no token" in describe_shapes(5.06, 5, 256, False)


def test_too_short_for_one_token():
    text = describe_shapes(0.1, 10, 256, False)
    assert "[0, 256]" in text
    assert "5 features are fewer than k = 10: not a single audio token" in text


def test_just_enough_for_one_token():
    text = describe_shapes(0.2, 10, 256, False)
    assert "[1, 256]" in text
    assert "fewer than" not in text


def test_padding_costs():
    text = describe_shapes(2.0, 5, 256, True)
    assert "[1,500, 512]" in text
    assert "multiplies 43.68 billion times" in text
    assert "<td>100.0</td>" in text  # log-mel: a second of padding counts as a second
    assert "Only 100 of 1,500 features are sound; without padding it would cost 21.3 times less" in text


@pytest.mark.parametrize(("seconds", "k"), [(5.0, 5), (1.23, 2), (0.1, 1), (30.0, 10)])
def test_lanes_end_where_the_shape_table_says(seconds, k):
    found, shapes = lanes(draw_shapes(seconds, k, False)), shape_table(seconds, k=k)
    for height, station, row in ((2, "log-mel", 0.01), (1, "features", 0.02), (0, "audio tokens", 0.02 * k)):
        start, end = found[height][-1]
        assert end == pytest.approx(shapes[station][0] * row)
        assert end - start == pytest.approx(row)


def test_the_left_over_rows_are_hatched():
    figure = draw_shapes(1.06, 5, False)
    assert lanes(figure)["left over"] == [(pytest.approx(1.0), pytest.approx(1.06))]
    assert any(boxes.get_facecolor()[0].tolist() == [1, 1, 1, 1] for boxes in figure.axes[0].collections), PALE


def test_padding_draws_the_end_of_30_seconds():
    assert draw_shapes(2.0, 5, True).axes[0].get_xlim() == (29.5, 30.0)


def test_every_control_changes_the_page(demo):
    for control, value in ((demo.seconds, 2.0), (demo.k, 2), (demo.llm_dim, 256), (demo.padded, True)):
        before = demo.table.value
        control.value = value
        assert demo.table.value != before
    assert demo.table.value == describe_shapes(2.0, 2, 256, True)


def test_k_changes_the_picture(demo):
    before = demo.picture.value
    demo.k.value = 3
    assert demo.picture.value != before
    assert bytes(demo.picture.value).startswith(PNG)


def test_the_static_twin(demo):
    data, _ = demo._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(PNG)
    assert "5 s, k = 5, llm_dim = 2048" in data["text/plain"]


def test_the_menu_shows_the_width_it_means():
    assert all(label.endswith(f", {width}") for label, width in LLM_DIMS.items())
