"""SpecAugment: zeros under its masks, the very same numbers elsewhere, and never a frame behind a clip's end."""

import pytest
import torch

from course_lib.ctc.recogniser import StageBRecogniser
from course_lib.ctc.spec_augment import SpecAugment, random_mask
from course_lib.encoder.tiny import StageBEncoder
from course_lib.text.vocabulary import CharVocabulary

COUNTS = torch.tensor([200, 57, 9, 120] * 25)


@pytest.fixture
def log_mel():
    """Ones on real frames and sevens behind them, so that every covered value shows."""
    real = torch.arange(200) < COUNTS[:, None]
    return torch.where(real, 1.0, 7.0)[:, :, None].expand(-1, -1, 128).contiguous()


def runs(covered):
    """Lengths of the stretches of True in a row."""
    edges = torch.diff(torch.nn.functional.pad(covered.int(), (1, 1)))
    return ((edges == -1).nonzero() - (edges == 1).nonzero()).flatten().tolist()


def test_what_is_not_masked_stays_and_what_is_becomes_zero(log_mel):
    torch.manual_seed(0)
    before, generator = log_mel.clone(), torch.Generator().manual_seed(5)
    values = torch.randn(log_mel.shape, generator=generator)
    masked = SpecAugment(2, 20, 2, 0.1)(values, COUNTS)
    kept = masked != 0
    assert torch.equal(masked[kept], values[kept])
    assert 0.1 < float(1 - kept.float().mean()) < 0.4
    assert torch.equal(log_mel, before)


def test_the_input_is_left_alone(log_mel):
    before = log_mel.clone()
    SpecAugment(2, 20, 2, 0.1)(log_mel, COUNTS)
    assert torch.equal(log_mel, before)


def test_frequency_masks_go_through_all_frames_and_have_at_most_their_width(log_mel):
    torch.manual_seed(0)
    masked = SpecAugment(frequency_masks=1, frequency_width=20, time_masks=0)(log_mel, COUNTS)
    widths = []
    for clip, count in zip(masked, COUNTS, strict=True):
        covered = (clip[:count] == 0).all(dim=0)
        assert torch.equal(covered, (clip[:count] == 0).any(dim=0))
        widths += runs(covered) or [0]
    assert len(widths) == len(COUNTS)
    assert 0 <= min(widths) <= 1
    assert 18 <= max(widths) <= 20
    assert 8 < sum(widths) / len(widths) < 12


def test_time_masks_go_through_all_bins_and_cover_at_most_their_share(log_mel):
    torch.manual_seed(0)
    masked = SpecAugment(frequency_masks=0, time_masks=1, time_share=0.1)(log_mel, COUNTS)
    widest = dict.fromkeys(COUNTS.tolist(), 0)
    for clip, count in zip(masked, COUNTS.tolist(), strict=True):
        covered = (clip == 0).all(dim=1)
        assert torch.equal(covered, (clip == 0).any(dim=1))
        assert not covered[count:].any()
        assert len(runs(covered)) <= 1
        assert covered.sum() <= 0.1 * count
        widest[count] = max(widest[count], int(covered.sum()))
    assert widest[200] >= 17
    assert widest[9] == 0


def test_there_are_as_many_masks_of_both_kinds_as_asked_for(log_mel):
    torch.manual_seed(0)
    masked = SpecAugment(frequency_masks=2, frequency_width=20, time_masks=3, time_share=0.2)(log_mel, COUNTS)
    in_frequency, in_time = [], []
    for clip, count in zip(masked, COUNTS.tolist(), strict=True):
        in_frequency.append(len(runs((clip[:count] == 0).all(dim=0))))
        in_time.append(len(runs((clip == 0).all(dim=1))))
    assert max(in_frequency) == 2
    assert max(in_time) == 3


def test_a_mask_may_stand_anywhere_from_the_first_to_the_last_frame_of_its_own_clip():
    torch.manual_seed(0)
    lengths = torch.tensor([10, 6] * 4000)
    covered = random_mask(torch.full((8000,), 3.0), lengths, 12)
    first_three, shares = covered[lengths == 10], covered[lengths == 6].float().mean(dim=0)
    assert first_three[:, :10].any(dim=0).all()
    assert not first_three[:, 10:].any()
    assert not covered[lengths == 6][:, 6:].any()
    assert (shares[:6] > 0.1).all()
    widths = covered.sum(dim=1)
    # 0, 1, 2 and 3 frames are equally likely
    assert torch.bincount(widths).tolist() == pytest.approx([2000] * 4, rel=0.12)
    # and so is every place of a mask of full width: 10 − 3 + 1 of them
    starts = covered[(widths == 3) & (lengths == 10)].int().argmax(dim=1)
    assert torch.bincount(starts, minlength=8).min() > 70
    assert len(torch.bincount(starts)) == 8


def test_a_mask_wider_than_the_clip_covers_the_clip_and_no_more():
    torch.manual_seed(0)
    covered = random_mask(torch.full((500,), 50.0), torch.full((500,), 4), 9)
    assert not covered[:, 4:].any()
    assert covered[:, :4].all(dim=1).any()
    assert SpecAugment(frequency_masks=3, frequency_width=500)(torch.ones(2, 6, 128), torch.tensor([6, 6])).shape == (2, 6, 128)


def test_the_same_seed_covers_the_same_and_every_clip_has_masks_of_its_own(log_mel):
    augment, seen = SpecAugment(2, 20, 2, 0.1), []
    same = torch.ones(8, 100, 128)
    counts = torch.full((8,), 100)
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        seen.append(augment(same, counts))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    patterns = {clip.numpy().tobytes() for clip in seen[0]}
    assert len(patterns) == 8
    # the second call of a run covers something else
    assert not torch.equal(augment(same, counts), seen[2])


def recogniser(augment):
    torch.manual_seed(0)
    return StageBRecogniser(StageBEncoder(16, 1, 2, 24, 0.0), CharVocabulary(), augment)


def test_a_recogniser_uses_it_in_training_and_only_where_it_is_switched_on():
    clips = [torch.randn(100, 128), torch.randn(60, 128)]
    on, off = recogniser(SpecAugment()), recogniser(None)
    torch.testing.assert_close(off.log_probs(clips)[0], off.log_probs(clips)[0])
    assert not torch.equal(on.log_probs(clips)[0], on.log_probs(clips)[0])
    torch.testing.assert_close(on.eval().log_probs(clips)[0], off.log_probs(clips)[0])
