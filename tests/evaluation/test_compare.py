"""Systems compared on the same clips: stored transcripts, a paired bootstrap with known answers, table and picture."""

import json

import numpy as np
import pytest

from course_lib.evaluation.compare import (
    Difference,
    Report,
    SystemRun,
    compare,
    comparison_table,
    describe_difference,
    draw_comparison,
    errors_by,
    load_run,
    measure,
    paired_bootstrap,
)
from course_lib.text.metrics import ErrorCounts, bootstrap_interval, character_error_rate, word_error_rate

REFERENCES = ["det er godt", "nej", "hvordan har du det i dag", "ja"]
HYPOTHESES = ["det var godt", "nej", "vordan du det", "ja ja ja ja ja"]


def make_run(system="slam", references=REFERENCES, hypotheses=HYPOTHESES):
    return SystemRun(system, ["Hugo"] * len(references), list(references), list(hypotheses), [None] * len(references))


def test_the_figures_are_those_of_the_metrics():
    report = measure("slam", "test", REFERENCES, HYPOTHESES, 0.25)
    assert report == Report(
        system="slam",
        split="test",
        clips=4,
        wer=word_error_rate(REFERENCES, HYPOTHESES),
        wer_low=bootstrap_interval(REFERENCES, HYPOTHESES)[0],
        wer_high=bootstrap_interval(REFERENCES, HYPOTHESES)[1],
        cer=character_error_rate(REFERENCES, HYPOTHESES),
        cer_low=bootstrap_interval(REFERENCES, HYPOTHESES, unit="char")[0],
        cer_high=bootstrap_interval(REFERENCES, HYPOTHESES, unit="char")[1],
        rtf=0.25,
    )
    assert report.wer == (1 + 0 + 4 + 4) / 11
    assert report.wer_low < report.wer < report.wer_high
    assert report.cer_low < report.cer < report.cer_high
    assert report.cer != report.wer


def test_a_perfect_system_makes_no_errors():
    report = measure("slam", "test", REFERENCES, REFERENCES, 0.1)
    assert (report.wer, report.wer_low, report.wer_high, report.cer) == (0, 0, 0, 0)


def test_a_system_is_no_different_from_itself():
    assert paired_bootstrap(REFERENCES, HYPOTHESES, HYPOTHESES) == Difference(0.0, 0.0, 0.0, 1.0)


def test_an_error_more_in_every_clip_is_the_same_difference_in_every_draw():
    said = ["en to tre fire"] * 12
    worse = paired_bootstrap(said, said, ["en to tre fem"] * 12, resamples=999)
    assert worse == Difference(0.25, 0.25, 0.25, 2 / 1000)
    better = paired_bootstrap(said, ["en to tre fem"] * 12, said, resamples=999)
    assert better == Difference(-0.25, -0.25, -0.25, 2 / 1000)


def test_p_is_that_of_the_binomial_distribution_where_one_clip_of_four_decides():
    said, heard = ["ja"] * 4, ["nej", "ja", "ja", "ja"]
    found = paired_bootstrap(said, said, heard, resamples=20_000)
    # The draw is no worse only if the one bad clip is never drawn: (3/4)⁴ of the draws.
    assert found.p_value == pytest.approx(2 * 0.75**4, abs=0.015)
    assert (found.difference, found.low) == (0.25, 0)


def test_p_is_exact_where_each_of_two_clips_was_won_by_one_system():
    found = paired_bootstrap(["ja", "nej"], ["ja", "x"], ["x", "nej"], resamples=20_000)
    # Drawn are −1, 0 or +1 errors a clip and twice: none of them is below 0 in 3/4 of the draws, so p is cut off at 1.
    assert found == Difference(0.0, -1.0, 1.0, 1.0)


def test_pairing_sees_what_two_intervals_hide():
    rng = np.random.default_rng(0)
    said = ["en to tre fire fem seks"] * 200
    hard = rng.random(200) < 0.3
    first = ["x x x x fem seks" if is_hard else "en to tre fire fem seks" for is_hard in hard]
    second = [
        "x x x x x seks" if is_hard and i % 3 == 0 else text for i, (is_hard, text) in enumerate(zip(hard, first, strict=True))
    ]
    intervals = [bootstrap_interval(said, heard) for heard in (first, second)]
    assert intervals[0][1] > intervals[1][0]
    found = paired_bootstrap(said, first, second)
    assert found.p_value < 0.001
    assert 0 < found.low < found.difference < found.high


def test_clips_are_drawn_for_both_systems_at_once_and_words_with_them():
    references, second = ["ja", "en to tre fire fem seks syv otte ni"], ["x", "en to tre fire fem seks syv otte ni"]
    found = paired_bootstrap(references, references, second)
    # Possible rates of a draw of two clips: 0/18, 1/10, 2/2.
    assert (found.difference, found.low, found.high) == (0.1, 0, 1)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (([], [], []), "needs at least one utterance"),
        ((["ja"], ["ja"], ["ja", "nej"]), "1 references but 2 hypotheses"),
    ],
)
def test_impossible_comparisons_are_refused(given, reason):
    with pytest.raises(ValueError, match=reason):
        paired_bootstrap(*given)


@pytest.mark.parametrize(("confidence", "resamples"), [(1.0, 10), (0.0, 10), (0.9, 0)])
def test_impossible_settings_are_refused(confidence, resamples):
    with pytest.raises(ValueError, match="need 0 < confidence < 1"):
        paired_bootstrap(["ja"], ["ja"], ["ja"], confidence=confidence, resamples=resamples)


def test_characters_can_be_compared_too():
    found = paired_bootstrap(["hvordan"], ["hvordan"], ["vordan"], unit="char")
    assert found.difference == 1 / 7


def test_the_first_system_is_what_the_others_are_compared_with():
    perfect = make_run("perfect", hypotheses=REFERENCES)
    reports, differences = compare([perfect, make_run()], "dev")
    assert [(report.system, report.split, report.wer) for report in reports] == [("perfect", "dev", 0), ("slam", "dev", 9 / 11)]
    assert list(differences) == ["slam"]
    assert differences["slam"] == paired_bootstrap(REFERENCES, REFERENCES, HYPOTHESES)


def test_systems_that_heard_other_clips_are_refused():
    with pytest.raises(ValueError, match="slam has 4 clips, short 1"):
        compare([make_run(), make_run("short", ["ja"], ["ja"])], "test")
    with pytest.raises(ValueError, match="clip 1 is 'nej' for slam and 'ja' for other"):
        compare([make_run(), make_run("other", ["det er godt", "ja", *REFERENCES[2:]])], "test")
    with pytest.raises(ValueError, match=r"two systems are called slam; name a file yourself: NAME=FILE.json"):
        compare([make_run(), make_run()], "test")


ROWS = [{"voice": "Hugo", "reference": "ja", "hypothesis": "jo"}, {"voice": "linda", "reference": "nej", "hypothesis": ""}]


def test_stored_transcripts_come_back_as_a_list_or_with_a_note_of_their_origin(tmp_path):
    (tmp_path / "heard.json").write_text(json.dumps(ROWS), encoding="utf-8")
    run = load_run(tmp_path / "heard.json")
    assert (run.system, run.voices, run.references, run.hypotheses) == ("heard", ["Hugo", "linda"], ["ja", "nej"], ["jo", ""])
    assert (run.confidences, run.rtf, run.rows()) == ([None, None], None, ROWS)
    noted = {"system": "whisper", "command": "python …", "transcripts": [row | {"confidence": 0.5} for row in ROWS]}
    (tmp_path / "noted.json").write_text(json.dumps(noted), encoding="utf-8")
    assert load_run(tmp_path / "noted.json").system == "whisper"
    named = load_run(tmp_path / "noted.json", "w")
    assert (named.system, named.confidences, named.rows()) == ("w", [0.5, 0.5], noted["transcripts"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "no transcripts in it"),
        ({"reports": []}, "no transcripts in it"),
        ([{"voice": "Hugo", "reference": "ja"}], "row 0 needs the texts voice, reference, hypothesis"),
        ([ROWS[0], "ja"], "row 1 needs the texts"),
        ([{"voice": "Hugo", "reference": "ja", "hypothesis": 3}], "row 0 needs the texts"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, content, reason):
    (tmp_path / "x.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=reason):
        load_run(tmp_path / "x.json")


def test_errors_are_added_up_by_voice_or_by_length():
    run = make_run()
    by_length = errors_by([len(text.split()) for text in run.references], run)
    assert list(by_length) == [1, 3, 6]
    assert by_length[1] == ErrorCounts(insertions=4, hits=2)
    assert by_length[6].errors == 4
    assert errors_by(run.voices, run)["Hugo"].rate == 9 / 11
    assert errors_by(run.voices, run, unit="char")["Hugo"].rate == character_error_rate(REFERENCES, HYPOTHESES)


def some_reports(second=0.5):
    first = Report("slam", "test", 400, 0.057, 0.043, 0.071, 0.033, 0.02, 0.04, 0.1)
    return [first, Report("whisper", "test", 400, second, second - 0.02, second + 0.02, 0.4, 0.3, 0.5, None)]


def test_the_table_has_a_row_a_system_and_a_minus_sign_that_is_one():
    differences = {"whisper": Difference(-0.0123, -0.02, 0.001, 0.0456)}
    lines = comparison_table(some_reports(), differences).splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][:5] == ["system", "clips", "WER %", "95 % interval", "CER %"]
    assert cells[2] == ["slam", "400", "5.7", "4.3 to 7.1", "3.3", "", "", ""]
    assert cells[3] == ["whisper", "400", "50.0", "48.0 to 52.0", "40.0", "−1.2", "−2.0 to +0.1", "0.046"]
    assert cells[0][5:] == ["WER − slam's", "95 % interval", "p"]


def test_the_table_of_one_system_compares_with_nobody():
    assert "WER −" not in comparison_table(some_reports()[:1], {})


@pytest.mark.parametrize(("p_value", "said"), [(0.0002, "+1.0 points, p < 0.001"), (0.25, "+1.0 points, p = 0.250")])
def test_a_small_p_is_not_written_as_nought(p_value, said):
    assert describe_difference(Difference(0.01, 0.0, 0.02, p_value)) == said


def test_the_picture_shows_rate_interval_and_difference_of_each_system():
    axes = draw_comparison(some_reports(), {"whisper": Difference(0.443, 0.4, 0.5, 0.0001)}).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["slam", "whisper"]
    assert [float(line.get_xdata()[0]) for line in axes.lines] == pytest.approx([5.7, 50])
    bars = [collection.get_segments()[0][:, 0].tolist() for collection in axes.collections]
    assert np.allclose(bars, [[4.3, 7.1], [48, 52]])
    assert [text.get_text() for text in axes.texts] == ["+44.3 points, p < 0.001"]
    assert axes.yaxis_inverted()


def test_the_axis_is_logarithmic_only_where_rates_are_far_apart():
    assert draw_comparison(some_reports(0.5), {}).axes[0].get_xscale() == "log"
    near = draw_comparison(some_reports(0.1), {}).axes[0]
    assert (near.get_xscale(), near.get_xlim()[0]) == ("linear", 0)
    perfect = Report("perfect", "test", 4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, None)
    assert draw_comparison([*some_reports(), perfect], {}).axes[0].get_xscale() == "linear"
