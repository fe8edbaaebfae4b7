import pytest
import torch

from course_lib.exercises.guess import compare_guess
from course_lib.slam.projector import ConcatProjector
from course_lib.sound.mel import whisper_log_mel
from course_lib.sound.shape_table import check_shape_table, format_shape_table, shape_table


@pytest.mark.parametrize("seconds", [0.31, 1.0, 1.999, 5.0, 29.97])
def test_the_shape_table_predicts_what_the_pipeline_makes(seconds, encoder):
    shapes = shape_table(seconds)
    waveform = 0.1 * torch.randn(round(seconds * 16_000), generator=torch.Generator().manual_seed(0))
    log_mel = whisper_log_mel(waveform)
    features = encoder.encode_waveform(waveform)
    tokens = ConcatProjector(512, 256)(features[None])[0]
    found = dict(zip(shapes, (waveform.shape, log_mel.shape, features.shape, tokens.shape), strict=True))
    assert "all 4 shapes" in check_shape_table(shapes, found)


def test_the_guide_s_five_seconds():
    assert list(shape_table(5.0, llm_dim=2048).values()) == [(80_000,), (500, 80), (250, 512), (50, 2048)]


def test_every_wrong_and_every_missing_shape_is_named():
    with pytest.raises(ValueError, match=r"log-mel: predicted \(100, 80\), found \(101, 80\)(.|\n)*audio tokens.*nothing"):
        check_shape_table(shape_table(1.0), {"waveform": (16_000,), "log-mel": (101, 80), "features": (50, 512)})


def test_the_table_has_a_line_for_each_station_with_its_rate():
    lines = format_shape_table(shape_table(2.0), 2.0).splitlines()
    assert len(lines) == 5
    assert lines[2].split() == ["log-mel", "(200,", "80)", "100.0"]


@pytest.mark.parametrize(
    ("guess", "said"),
    [
        (None, "500 frames (you have not guessed yet)"),
        (500, "500 frames: your guess is right"),
        (498, "500 frames: your guess was 498, 2 too few (within 5 %)"),
        (470, "500 frames: your guess was 470, 30 too few"),
        (0.1, "500 frames: your guess was 0.1, 499.9 too few"),
        (3000, "500 frames: your guess was 3,000, 2,500 too many"),
    ],
)
def test_a_guess_gets_an_answer(guess, said, capsys):
    compare_guess(guess, 500, "frames")
    assert capsys.readouterr().out.strip() == said
