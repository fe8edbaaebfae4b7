import matplotlib

matplotlib.use("agg")

import numpy as np
import torch
from matplotlib import pyplot as plt

from course_lib.sound.plots import plot_rows, plot_waveform, show_sound


def test_the_waveform_is_drawn_over_seconds():
    _, axes = plt.subplots()
    waveform = torch.linspace(-1, 1, 8_000)
    plot_waveform(axes, waveform)
    line = axes.lines[0]
    assert line.get_xdata()[-1] == 7_999 / 16_000
    assert np.allclose(line.get_ydata(), waveform)
    assert axes.get_xlabel() == "time (s)"


def test_rows_run_to_the_right_and_columns_upwards():
    _, axes = plt.subplots()
    rows = torch.arange(200.0).reshape(100, 2)
    plot_rows(axes, rows, rows_per_second=50, label="feature")
    image = axes.images[0]
    assert image.get_extent() == [0, 2.0, 0, 2]
    assert image.origin == "lower"
    assert np.array_equal(image.get_array(), rows.T)
    assert axes.get_ylabel() == "feature"


def test_symmetric_colours_put_zero_in_the_middle():
    _, axes = plt.subplots()
    plot_rows(axes, torch.tensor([[-1.0, 3.0]] * 10), 100, "feature", symmetric=True)
    low, high = axes.images[0].get_clim()
    assert low == -high


def test_a_sound_comes_with_a_picture_and_a_line_of_text(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("course_lib.sound.plots.display", shown.append)
    show_sound(torch.full((8_000,), 0.25), "half a second")
    assert capsys.readouterr().out == "0.50 s, 8,000 samples, loudest 0.25\n"
    assert plt.gcf().axes[0].get_title() == "half a second"
    assert 'type="audio/wav"' in shown[0]._repr_html_()
