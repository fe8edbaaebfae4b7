"""What can be aligned: counted by hand, and agreeing with the loss that would be infinite."""

import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from course_lib.ctc.feasibility import (
    REDUCTIONS,
    Feasibility,
    examine_feasibility,
    frames_after,
    name_impossible,
    show_feasibility,
)
from course_lib.ctc.paths import frames_needed
from course_lib.data.datasets import Example
from course_lib.text.vocabulary import CharVocabulary, SubwordVocabulary


def example(text, voice="", name="a.wav"):
    return Example(Path("wav") / name, text, "train", voice)


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_frames_are_halved_and_rounded_up_as_often_as_the_reduction_asks(reduction):
    for frames in range(1, 200):
        halved = frames
        for _ in range({2: 1, 4: 2, 8: 3}[reduction]):
            halved = (halved + 1) // 2
        assert frames_after(frames, reduction) == halved


@pytest.fixture
def examples():
    # "otte" has 4 letters and one repeat, so 5 frames; "hej" 3; "ææ" 2 + 1; "en ko" 5
    return [example("otte", "anna"), example("hej", "bo"), example("ææ", "anna"), example("en ko", "clara")]


def test_clips_without_an_alignment_are_counted_for_each_reduction(examples):
    report = examine_feasibility(examples, [16, 12, 25, 17], CharVocabulary())
    # 2 ×: 8, 6, 13, 9 frames; 4 ×: 4, 3, 7, 5; 8 ×: 2, 2, 4, 3
    assert report.impossible == {2: [], 4: [0], 8: [0, 1, 3]}
    assert (report.clips, report.symbols) == (4, "characters")
    assert tuple(report.impossible) == REDUCTIONS
    # one frame more and "otte" can be aligned
    assert examine_feasibility(examples, [17, 12, 25, 17], CharVocabulary(), [4]).impossible == {4: []}


def test_voices_come_slowest_first_with_all_their_clips(examples):
    report = examine_feasibility(examples, [50, 10, 70, 100], CharVocabulary())
    # anna 6 letters in 1.2 s, bo 3 in 0.1 s, clara 5 in 1 s
    assert report.voices == pytest.approx({"anna": 5.0, "clara": 5.0, "bo": 30.0})
    assert [*report.voices][-1] == "bo"
    slow = examine_feasibility(examples, [50, 100, 70, 10], CharVocabulary())
    assert [*slow.voices] == ["bo", "anna", "clara"]
    assert slow.characters_per_second == pytest.approx(14 / 2.3)


def test_fewer_symbols_need_fewer_frames():
    subwords = SubwordVocabulary.train(["otte otte otte hej hej"], size=40)
    assert len(subwords.encode("otte")) == 1
    report = examine_feasibility([example("otte otte")], [16], subwords, [2, 8])
    # the same piece twice is a repeat too: 3 frames
    assert (report.symbols, report.impossible) == ("subwords", {2: [], 8: [0]})
    assert examine_feasibility([example("otte otte")], [17], subwords, [8]).impossible == {8: []}


def test_the_report_for_people():
    report = Feasibility(
        20_000, "characters", {2: [], 4: [7], 8: list(range(14_500))}, 14.26, {"anna": 9.84, "bo": 14, "ib": 17}
    )
    assert show_feasibility(report).splitlines() == [
        "Can it be aligned? 20,000 clips, characters, 14.3 characters a second",
        "  slowest voice anna 9.8, fastest ib 17.0",
        "  2 × reduction, 50.0 frames a second:      0 clips impossible (0.0%)",
        "  4 × reduction, 25.0 frames a second:      1 clips impossible (0.0%)",
        "  8 × reduction, 12.5 frames a second: 14,500 clips impossible (72.5%)",
    ]


@pytest.mark.parametrize(
    ("voices", "expected"),
    [
        ({"anna": 9.0}, "slowest voice anna 9.0, fastest anna 9.0"),
        ({"": 9.0}, "slowest voice unnamed 9.0, fastest unnamed 9.0"),
        ({"anna": 9.0, "bo": 12.0}, "slowest voice anna 9.0, fastest bo 12.0"),
        ({"a": 9.0, "b": 10.0, "c": 11.0, "d": 12.0}, "slowest voice a 9.0, fastest d 12.0"),
    ],
)
def test_the_report_names_the_slowest_and_the_fastest_voice(voices, expected):
    assert show_feasibility(Feasibility(1, "characters", {4: []}, 9.0, voices)).splitlines()[1].strip() == expected


def test_the_clips_left_out_are_written_down_by_name(examples, tmp_path):
    path = tmp_path / "run" / "impossible_clips.tsv"
    name_impossible([*examples, example("rødgrød", name="ø.wav")], [0, 4], path)
    assert path.read_text(encoding="utf-8") == "a.wav\totte\nø.wav\trødgrød\n"
    name_impossible(examples, [], path)
    assert path.read_text(encoding="utf-8") == ""


def test_impossible_are_exactly_the_clips_whose_loss_is_infinite():
    rng, vocabulary, generator = random.Random(0), CharVocabulary(), torch.Generator().manual_seed(0)
    # few letters, so that repeats are frequent, and lengths around the border
    clips = [example("".join(rng.choices("oe ", k=rng.randint(1, 12)))) for _ in range(300)]
    frames = [rng.randint(1, 40) for _ in clips]
    needed = [frames_needed(clip.text) for clip in clips]
    for reduction, impossible in examine_feasibility(clips, frames, vocabulary).impossible.items():
        counts = torch.tensor([frames_after(count, reduction) for count in frames])
        scores = torch.randn(int(counts.max()), len(clips), len(vocabulary), generator=generator).log_softmax(dim=-1)
        labels = [torch.tensor(vocabulary.encode(clip.text)) for clip in clips]
        lengths = torch.tensor([len(label) for label in labels])
        losses = F.ctc_loss(scores, torch.cat(labels), counts, lengths, reduction="none")
        assert losses.isinf().nonzero().flatten().tolist() == impossible
        assert 20 < len(impossible) < 290
        assert any(int(count) == need for count, need in zip(counts, needed, strict=True))
