"""The dashboard of a running training: what it keeps, what it draws, what it says, and that it follows the loop."""

import base64

import pytest
import torch
from torch import nn

from course_lib.training.settings import TrainSettings
from course_lib.training.step import StepOutput
from course_lib.training.trainer import Trainer
from course_lib.widgets.training_dashboard import (
    History,
    TrainingDashboard,
    describe_training,
    draw_training,
    texts_html,
)

PNG = b"\x89PNG"


def make_history():
    history = History()
    for step in range(1, 41):
        history.record(step, {"train_loss": 3.0 / step, "train_token_accuracy": 0.5})
    validations = [
        (10, 1.08, 2.0, 2.02, 2.1, 0.45),
        (20, 1.0, 1.9, 2.2, 2.0, 0.5),
        (30, 0.8, 1.0, 1.5, 1.4, 0.7),
        (40, 0.4, 0.5, 3.0, 2.5, 0.9),
    ]
    names = ("wer", "loss", "loss_another", "loss_silent", "token_accuracy")
    for step, *figures in validations:
        history.record(step, dict(zip(names, figures, strict=True)))
    return history


def line(axes, label):
    return next(one for one in axes.get_lines() if one.get_label() == label)


def test_a_history_keeps_a_loss_an_update_and_a_row_a_validation():
    history = History()
    assert history.record(1, {"train_loss": 2.0}) is False
    assert history.record(2, {"train_loss": 1.5}) is False
    assert history.record(2, {"train_loss": 1.5, "wer": 0.9, "loss": 1.4}) is True
    assert history.losses == {1: 2.0, 2: 1.5}
    assert history.validations == [{"step": 2, "train_loss": 1.5, "wer": 0.9, "loss": 1.4}]


def test_listening_begins_where_another_sound_first_costs_half_as_much_again():
    assert make_history().listens_from() == 30  # 1.5 / 1.0 is exactly the mark
    history = History()
    history.record(5, {"wer": 1.0, "loss": 2.0, "loss_another": 2.99})
    assert history.listens_from() is None
    assert History().listens_from() is None
    history.record(6, {"wer": 1.0, "loss": 2.0})
    assert history.listens_from() is None


def test_the_picture_shows_the_three_sounds_the_batches_and_the_deaf_level():
    left, right = draw_training(make_history(), 50, deaf_loss=1.75).axes
    assert list(line(left, "right sound").get_ydata()) == [2.0, 1.9, 1.0, 0.5]
    assert list(line(left, "another clip's").get_ydata()) == [2.02, 2.2, 1.5, 3.0]
    assert list(line(left, "silence").get_ydata()) == [2.1, 2.0, 1.4, 2.5]
    assert list(line(left, "training batch").get_xdata()) == list(range(1, 41))
    assert set(line(left, "the deaf level").get_ydata()) == {1.75}
    assert set(line(left, "it listens").get_xdata()) == {30}
    assert list(line(right, "word error rate, transcribing").get_ydata()) == pytest.approx([108, 100, 80, 40])
    assert list(line(right, "wrong tokens, shown the right start").get_ydata()) == pytest.approx([55, 50, 30, 10])
    assert left.get_xlim() == right.get_xlim() == (0, 50)
    assert right.get_ylim()[1] > 108
    assert left.get_ylim()[1] > 3.0
    assert left.get_ylabel()
    assert right.get_ylabel()


def test_no_legend_covers_a_line():
    figure = draw_training(make_history(), 50, deaf_loss=1.75)
    figure.canvas.draw()
    for axes in figure.axes:
        lower_edge = axes.get_legend().get_window_extent().ymin
        labels = [text.get_text() for text in axes.get_legend().get_texts() if text.get_text() != "it listens"]
        for label in labels:
            points = axes.transData.transform(line(axes, label).get_xydata())
            assert points[:, 1].max() < lower_edge, label


def test_lines_differ_without_colour():
    left, _ = draw_training(make_history(), 50).axes
    styles = {line(left, label).get_linestyle() for label in ("right sound", "another clip's", "silence")}
    assert len(styles) == 3
    assert "the deaf level" not in [one.get_label() for one in left.get_lines()]


def test_an_empty_history_can_be_drawn_and_says_what_it_waits_for():
    draw_training(History(), 400).canvas.draw()
    assert describe_training(History(), 1400) == "<p>Waiting for the first of 1,400 updates.</p>"


def test_the_sentence_says_where_it_stands_and_whether_it_listens():
    history = make_history()
    said = describe_training(history, 1000)
    assert "Update 40 of 1,000, training loss 0.07; last validation: WER 40%." in said
    assert "gives 6.00 times the loss: <b>it listens</b>, since update 30." in said
    history.validations = history.validations[:2]
    assert "gives 1.16 times the loss: <b>it does not listen yet</b>." in describe_training(history, 1000)
    history.validations = [{"step": 40, "wer": 0.5}]
    assert "listen" not in describe_training(history, 1000)


def test_transcripts_are_escaped_and_right_words_bold():
    table = texts_html(["pigen ser <en> bjørn", "ja"], ["pigen spiser <en> & bjørn", ""])
    assert "<b>pigen</b> spiser <b>&lt;en&gt;</b> &amp; <b>bjørn</b>" in table
    assert "pigen ser &lt;en&gt; bjørn" in table
    assert "(nothing)" in table
    assert "<en>" not in table


def test_a_dashboard_follows_every_update_and_draws_at_a_validation():
    demo = TrainingDashboard(total_steps=20, deaf_loss=2.0)
    empty = bytes(demo.picture.value)
    assert empty.startswith(PNG)
    demo.record(3, {"train_loss": 1.25})
    assert demo.bar.value == 3
    assert "Update 3 of 20, training loss 1.25" in demo.text.value
    assert bytes(demo.picture.value) == empty
    demo.record(4, {"train_loss": 1.0, "wer": 0.75, "loss": 1.0, "loss_another": 4.0})
    assert demo.bar.value == 4
    assert "it listens" in demo.text.value
    assert bytes(demo.picture.value) != empty
    demo.show_texts(["en bil"], ["en båd"])
    assert "<b>en</b> båd" in demo.texts.value


def test_the_static_twin_is_the_last_picture():
    demo = TrainingDashboard(total_steps=20)
    demo.record(4, {"wer": 0.75})
    data, _ = demo._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == bytes(demo.picture.value)
    assert data["text/plain"].startswith("Live in JupyterLab")


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, batch):
        return StepOutput((self.weight * batch).square().mean(), 1, 2)


def test_a_trainer_feeds_it(tmp_path):
    demo = TrainingDashboard(total_steps=6)
    settings = TrainSettings(
        batch_size=1,
        gradient_accumulation_steps=1,
        num_epochs=2,
        warmup_steps=0,
        lr=0.1,
        validation_interval=2,
        num_threads=0,
        device="cpu",
    )
    batches = [torch.tensor([number]) for number in (1.0, 2.0, 3.0)]
    Trainer(Line(), lambda epoch: batches, 3, lambda: {"wer": 0.5}, settings, tmp_path, watch=demo.record).fit()
    assert list(demo.history.losses) == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in demo.history.validations] == [2, 4, 6]
    assert demo.bar.value == 6


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_a_figure_that_is_no_number_does_not_end_a_training(figure):
    demo = TrainingDashboard(4, deaf_loss=figure)
    demo.record(1, {"train_loss": figure})
    demo.record(2, {"wer": figure, "loss": figure, "loss_another": figure})
    assert demo.twin_png.startswith(b"\x89PNG")
