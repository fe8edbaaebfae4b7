"""CTC by brute force = the forward algorithm = torch; alignment = torchaudio; the beam finds what brute force finds."""

import itertools
import math
from random import Random

import pytest
import torch
import torch.nn.functional as F

from course_lib.ctc.paths import (
    collapse,
    count_paths,
    ctc_loss,
    forced_alignment,
    forward_scores,
    frames_needed,
    greedy_decode,
    label_spans,
    lattice_states,
    log_likelihood,
    prefix_beam_search,
    read_path,
)

PROBLEMS = 200


def every_path(labels, frames, vocab):
    """All paths that collapse to `labels`, by trying all vocab ** frames of them."""
    return [path for path in itertools.product(range(vocab), repeat=frames) if collapse(path) == labels]


def random_scores(seed, frames, vocab, sharpness=2.0):
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(frames, vocab, generator=generator, dtype=torch.float64)).log_softmax(dim=-1)


def random_labels(seed, most, vocab):
    """Some empty, many with repeats: few symbols to draw from."""
    rng = Random(seed)
    return [rng.randrange(1, vocab) for _ in range(rng.randint(0, most))]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("hheelloo", "helo"),
        ("hell_lo", "hello"),
        ("hel_lo", "hello"),
        ("h_e_l_l_o", "hello"),
        ("hheeellllllooo", "helo"),
        ("h_ee_lll_oo___", "helo"),
        ("_h_e_l_l_o____", "hello"),
        ("____", ""),
        ("", ""),
        ("blåå_bæær", "blåbær"),
        ("o_o", "oo"),
    ],
)
def test_a_path_is_merged_first_and_then_loses_its_blanks(path, text):
    assert read_path(path) == text


def test_another_symbol_can_be_the_blank():
    assert collapse([2, 2, 7, 2, 0, 0], blank_id=7) == [2, 2, 0]


@pytest.mark.parametrize("labels", [[], [1], [1, 2], [1, 1], [2, 2, 2], [1, 2, 1]])
@pytest.mark.parametrize("frames", [1, 3, 5])
def test_the_formula_counts_what_trying_all_paths_finds(labels, frames):
    paths = every_path(labels, frames, vocab=3)
    assert len(paths) == len(set(paths)) == count_paths(labels, frames)
    assert bool(paths) == (frames >= frames_needed(labels))


def test_every_path_spells_exactly_one_text():
    texts = [list(text) for length in range(5) for text in itertools.product((1, 2), repeat=length)]
    assert sum(count_paths(text, 4) for text in texts) == 3**4


@pytest.mark.parametrize("seed", range(40))
def test_the_lattice_adds_up_what_brute_force_adds_up(seed):
    vocab, frames = 2 + seed % 3, 1 + seed % 6
    log_probs, labels = random_scores(seed, frames, vocab), random_labels(seed, 3, vocab)
    paths = every_path(labels, frames, vocab)
    brute = math.fsum(math.exp(sum(log_probs[t, s].item() for t, s in enumerate(path))) for path in paths)
    assert float(log_likelihood(log_probs, labels).exp()) == pytest.approx(brute, rel=1e-9, abs=1e-300)


def test_a_state_holds_the_beginnings_that_stand_in_it():
    log_probs = random_scores(5, 4, 3)
    alpha = forward_scores(log_probs, [1, 2])
    standing_in_the_middle_blank = [(1, 0, 0), (1, 1, 0), (0, 1, 0)]
    expected = sum(math.exp(sum(log_probs[t, s].item() for t, s in enumerate(p))) for p in standing_in_the_middle_blank)
    assert alpha.shape == (4, 5)
    assert float(alpha[2, 2].exp()) == pytest.approx(expected, rel=1e-9)
    assert float(alpha[0, 2].exp()) == 0


def torch_loss(logits, labels, frame_counts, **options):
    log_probs = logits.log_softmax(dim=-1).transpose(0, 1)
    lengths = torch.tensor([len(text) for text in labels])
    targets = torch.tensor([label for text in labels for label in text], dtype=torch.long)
    return F.ctc_loss(log_probs, targets, torch.tensor(frame_counts), lengths, **options)


def random_batch(seed):
    rng = Random(f"batch {seed}")
    vocab, blank, batch = rng.randint(2, 6), 0, rng.randint(1, 3)
    frame_counts = [rng.randint(1, 12) for _ in range(batch)]
    labels = [random_labels(f"{seed} {clip}", 6, vocab) for clip in range(batch)]
    if not any(labels):
        labels[0] = [1]
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, max(frame_counts), vocab, generator=generator, dtype=torch.float64)
    return logits, labels, frame_counts, blank


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_values_equal_torch_on_random_problems(reduction):
    impossible = repeats = 0
    for seed in range(PROBLEMS):
        logits, labels, counts, _ = random_batch(seed)
        ours = ctc_loss(logits.log_softmax(dim=-1), labels, counts, reduction=reduction)
        theirs = torch_loss(logits, labels, counts, reduction=reduction)
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        impossible += sum(frames_needed(text) > count for text, count in zip(labels, counts, strict=True))
        repeats += sum(frames_needed(text) > len(text) for text in labels)
    assert impossible >= 30
    assert repeats >= 60


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradients_equal_torch_on_random_problems(reduction):
    options = {"reduction": reduction, "zero_infinity": True}
    for seed in range(PROBLEMS):
        logits, labels, counts, _ = random_batch(seed)
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        ctc_loss(ours.log_softmax(dim=-1), labels, counts, **options).backward()
        torch_loss(theirs, labels, counts, **options).backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-7, atol=1e-9)


def test_a_clip_without_a_path_costs_infinity_or_silently_nothing():
    logits = torch.zeros(1, 4, 6, requires_grad=True)
    otte = [[1, 2, 2, 3]]
    assert ctc_loss(logits.log_softmax(dim=-1), otte, [4]) == torch.inf
    hidden = ctc_loss(logits.log_softmax(dim=-1), otte, [4], zero_infinity=True)
    hidden.backward()
    assert hidden == 0
    assert not logits.grad.any()


def test_the_mean_is_per_symbol_and_the_sum_is_per_clip():
    log_probs, labels = torch.zeros(2, 9, 5).log_softmax(dim=-1), [[1, 2], [3, 3, 4, 1]]
    each = ctc_loss(log_probs, labels, [9, 7], reduction="none")
    assert float(ctc_loss(log_probs, labels, [9, 7], reduction="sum")) == pytest.approx(float(each[0] + each[1]))
    assert float(ctc_loss(log_probs, labels, [9, 7])) == pytest.approx(float(each[0] / 2 + each[1] / 4) / 2)
    assert float(each[1]) == pytest.approx(7 * math.log(5) - math.log(count_paths([3, 3, 4, 1], 7)))


def test_hundreds_of_frames_do_not_underflow():
    log_probs = torch.full((1000, 31), -math.log(31))
    labels = [1 + i % 30 for i in range(200)]
    exact = 1000 * math.log(31) - math.log(count_paths(labels, 1000))
    assert -float(log_likelihood(log_probs, labels)) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize(
    ("labels", "frames", "reason"), [([1, 0], 4, "not the blank"), ([9], 4, "0 to 4"), ([1], 0, "no frames")]
)
def test_labels_that_cannot_be_meant_are_refused(labels, frames, reason):
    for function in (log_likelihood, forced_alignment):
        with pytest.raises(ValueError, match=reason):
            function(torch.zeros(frames, 5), labels)


def test_the_likeliest_path_and_the_likeliest_text_can_differ():
    log_probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
    assert greedy_decode(log_probs) == []
    (text, score), (empty, rest) = prefix_beam_search(log_probs)
    assert (text, empty) == ([1], [])
    assert math.exp(score) == pytest.approx(0.64, rel=1e-6)
    assert math.exp(rest) == pytest.approx(0.36, rel=1e-6)


def every_text(frames, vocab):
    return [list(t) for length in range(frames + 1) for t in itertools.product(range(1, vocab), repeat=length)]


@pytest.mark.parametrize("seed", range(25))
def test_a_wide_beam_is_exact(seed):
    vocab, frames = 2 + seed % 2, 1 + seed % 5
    log_probs = random_scores(seed, frames, vocab, sharpness=1.0)
    exact = {tuple(text): float(log_likelihood(log_probs, text)) for text in every_text(frames, vocab)}
    found = prefix_beam_search(log_probs, beam_width=10_000)
    best = max(exact, key=exact.get)
    assert tuple(found[0][0]) == best
    for text, score in found:
        assert score == pytest.approx(exact[tuple(text)], rel=1e-9, abs=1e-9)
    assert math.fsum(math.exp(score) for _, score in found) == pytest.approx(1.0)


def test_the_beam_is_never_less_likely_than_greedy_and_often_more():
    """A wide beam on sharp outputs. A narrow one may drop the winner early: see the next test."""
    better = 0
    for seed in range(PROBLEMS):
        log_probs = random_scores(seed, 10, 4, sharpness=3.0)
        found = prefix_beam_search(log_probs, beam_width=64)
        beam, claimed = float(log_likelihood(log_probs, found[0][0])), found[0][1]
        greedy = float(log_likelihood(log_probs, greedy_decode(log_probs)))
        assert len(found) == 64
        assert claimed <= beam + 1e-9
        assert beam >= greedy - 1e-9
        better += beam > greedy + 1e-6
    assert better >= 20


def test_a_narrow_beam_can_lose_to_greedy():
    """No theorem says otherwise: what was dropped is gone, and with it part of the score of what is kept."""
    worse = 0
    for seed in range(PROBLEMS):
        log_probs = random_scores(seed, 10, 4, sharpness=1.0)
        (best, claimed), *_ = prefix_beam_search(log_probs, beam_width=4)
        assert claimed <= float(log_likelihood(log_probs, best)) + 1e-9
        worse += log_likelihood(log_probs, best) < log_likelihood(log_probs, greedy_decode(log_probs)) - 1e-9
    assert 1 <= worse <= PROBLEMS // 10


def test_another_blank_decodes_the_same():
    log_probs = random_scores(3, 8, 4)
    moved = log_probs[:, [1, 2, 3, 0]]
    expected = [[symbol - 1 for symbol in text] for text, _ in prefix_beam_search(log_probs, 4)]
    assert [text for text, _ in prefix_beam_search(moved, 4, blank_id=3)] == expected
    assert greedy_decode(moved, blank_id=3) == [symbol - 1 for symbol in greedy_decode(log_probs)]


@pytest.mark.parametrize("seed", range(60))
def test_forced_alignment_equals_torchaudio(torchaudio, seed):
    vocab = 2 + seed % 5
    labels = random_labels(f"align {seed}", 6, vocab) or [1]
    log_probs = random_scores(seed, frames_needed(labels) + seed % 7, vocab, sharpness=1.0)
    path = forced_alignment(log_probs, labels)
    theirs, _ = torchaudio.functional.forced_align(log_probs[None], torch.tensor([labels], dtype=torch.int32), blank=0)
    assert path == theirs[0].tolist()
    assert collapse(path) == labels


@pytest.mark.parametrize("seed", range(60))
def test_no_path_is_likelier_than_the_aligned_one(seed):
    """Scores times 1,000: torch's sum over the paths is then its largest term, whichever path that is."""
    vocab = 2 + seed % 5
    labels = random_labels(f"align {seed}", 6, vocab) or [1]
    log_probs = random_scores(seed, frames_needed(labels) + seed % 7, vocab, sharpness=1.0)
    path = forced_alignment(log_probs, labels)
    cold = 1000 * log_probs.double()[:, None]
    best = -F.ctc_loss(cold, torch.tensor([labels]), (len(path),), (len(labels),), reduction="sum") / 1000
    assert float(log_probs[range(len(path)), path].sum()) == pytest.approx(float(best), abs=0.01)


@pytest.mark.parametrize("seed", range(20))
def test_forced_alignment_is_the_best_of_all_paths(seed):
    log_probs, labels = random_scores(seed, 6, 3, sharpness=1.0), [1, 1, 2]
    best = max(every_path(labels, 6, vocab=3), key=lambda path: sum(log_probs[t, s].item() for t, s in enumerate(path)))
    assert forced_alignment(log_probs, labels) == list(best)


def test_a_text_too_long_to_align_is_refused():
    with pytest.raises(ValueError, match="4 symbols need 5 frames, there are 4"):
        forced_alignment(torch.zeros(4, 5), [1, 2, 2, 3])


def test_an_empty_text_is_all_blank():
    log_probs = random_scores(0, 3, 4)
    assert forced_alignment(log_probs, []) == [0, 0, 0]
    assert float(log_likelihood(log_probs, [])) == pytest.approx(float(log_probs[:, 0].sum()))
    assert lattice_states([]).tolist() == [0]


def test_spans_equal_torchaudio(torchaudio):
    path = [0, 3, 3, 0, 3, 2, 2, 2, 0, 0]
    theirs = torchaudio.functional.merge_tokens(torch.tensor(path), torch.zeros(len(path)))
    assert label_spans(path) == [(span.token, span.start, span.end) for span in theirs]
