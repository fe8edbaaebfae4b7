import base64

import numpy as np
import pytest
import torch

from course_lib.sound.mel import SAMPLE_RATE, mel_filter_bank, whisper_log_mel
from course_lib.widgets.mel_explorer import (
    TICKS_HZ,
    MelExplorer,
    count_empty_filters,
    describe_shapes,
    draw_explorer,
    frequency_ticks,
    recipe_of,
)

PNG = b"\x89PNG"


def sound(samples=16_000, pitch=440.0):
    generator = torch.Generator().manual_seed(1)
    time = torch.arange(samples) / SAMPLE_RATE
    return 0.3 * torch.sin(2 * torch.pi * pitch * time) + 0.01 * torch.randn(samples, generator=generator)


@pytest.fixture(scope="module")
def demo():
    return MelExplorer({"kort": sound(8000), "<lang>": sound(24_000)})


@pytest.fixture(autouse=True)
def whisper_settings(demo):
    for control, value in ((demo.clip, "kort"), (demo.window, 25), (demo.hop, 10), (demo.bins, 80)):
        control.value = value


def test_the_first_setting_is_whispers():
    upper, lower = draw_explorer(sound(), recipe_of(25, 10, 80)).axes
    image = lower.images[0]
    np.testing.assert_allclose(image.get_array(), whisper_log_mel(sound()).T, atol=1e-5)
    assert image.get_extent() == [0, 1.0, 0, 80]
    assert upper.get_xlabel() == "time (ms)"


def test_the_windows_are_drawn_to_scale():
    upper, _ = draw_explorer(sound(), recipe_of(50, 20, 80)).axes
    windows = upper.lines[1:]
    first, second = (line.get_xdata() for line in windows[:2])
    assert first[-1] - first[0] == pytest.approx(50, abs=0.1)
    assert second[0] - first[0] == pytest.approx(20)
    assert max(windows[0].get_ydata()) == pytest.approx(1)


@pytest.mark.parametrize("bins", [20, 80, 128])
def test_a_tone_is_darkest_at_its_own_tick(bins):
    for hz, tick in zip(TICKS_HZ, frequency_ticks(bins), strict=True):
        loudest = mel_filter_bank(bins, 4096)[:, round(hz * 4096 / SAMPLE_RATE)].argmax()
        assert abs(loudest.item() + 0.5 - tick) <= 0.6


@pytest.mark.parametrize(("window_ms", "hop_ms", "bins"), [(25, 10, 80), (5, 40, 128), (100, 5, 8), (5, 5, 128)])
@pytest.mark.parametrize("samples", [1600, 16_001])
def test_every_corner_of_the_sliders_can_be_drawn(window_ms, hop_ms, bins, samples):
    recipe = recipe_of(window_ms, hop_ms, bins)
    _, lower = draw_explorer(sound(samples), recipe).axes
    assert lower.images[0].get_array().shape == (bins, samples // (16 * hop_ms))
    assert f"[{samples // (16 * hop_ms)}, {bins}]" in describe_shapes(samples, recipe)


def test_the_shapes_of_five_seconds():
    html = describe_shapes(80_000, recipe_of(25, 10, 80))
    for shape in ("[80,000]", "[501, 201]", "[500, 80]"):
        assert f"<code>{shape}</code>" in html
    assert "100 frames a second, frequencies 40 Hz apart, 0.50 numbers for each sample." in html
    assert "<b>" not in html


def test_empty_filters_are_counted_and_reported():
    recipe = recipe_of(5, 5, 80)
    power = torch.eye(recipe.n_fft // 2 + 1) @ mel_filter_bank(80, recipe.n_fft).T
    silent = int((power.amax(dim=0) == 0).sum())
    assert count_empty_filters(recipe) == silent > 0
    assert f"{silent} of 80 filters are empty" in describe_shapes(8000, recipe)
    assert count_empty_filters(recipe_of(25, 10, 128)) == 0


def test_sound_between_the_windows_is_reported():
    assert "75 % of the sound is never looked at" in describe_shapes(8000, recipe_of(10, 40, 20))
    assert "never looked at" not in describe_shapes(8000, recipe_of(10, 10, 20))


@pytest.mark.parametrize(
    ("control", "value", "shape"),
    [("window", 50, "[51, 401]"), ("hop", 20, "[25, 80]"), ("bins", 128, "[50, 128]"), ("clip", "<lang>", "[150, 80]")],
)
def test_moving_a_control_changes_picture_and_shapes(demo, control, value, shape):
    picture, shapes = demo.picture.value, demo.shapes.value
    getattr(demo, control).value = value
    assert bytes(demo.picture.value).startswith(PNG)
    assert demo.picture.value != picture
    assert demo.shapes.value != shapes
    assert shape in demo.shapes.value


def test_the_static_twin_shows_whispers_setting(demo):
    data, _ = demo._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == bytes(demo.picture.value)
    assert "kort" in data["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in data
