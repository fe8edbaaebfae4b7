"""Answers that an attack on the checks found: right ones that were refused, wrong ones that passed or were misunderstood.

`RIGHT` must pass, `WRONG` must not, and where a reason stands beside a wrong answer, that is what its learner must read.
"""

import itertools
import math
import re
import unicodedata
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from course_lib.ctc.paths import collapse, frames_needed
from course_lib.text.metrics import edit_table, error_counts, word_error_rate

GENERIC = None


def alias_by_folding(frequency, rate):
    rest = frequency % rate
    return rest if rest <= rate / 2 else rate - rest


def alias_twice_at_most(frequency, rate):
    for _ in range(2):
        if frequency > rate / 2:
            frequency = abs(frequency - rate)
    return frequency


def power_in_a_loop(frame):
    powers = []
    for k in range(len(frame) // 2 + 1):
        turns = [2 * math.pi * k * n / len(frame) for n in range(len(frame))]
        real = sum(float(x) * math.cos(t) for x, t in zip(frame, turns, strict=True))
        imaginary = sum(float(x) * math.sin(t) for x, t in zip(frame, turns, strict=True))
        powers.append(real * real + imaginary * imaginary)
    return powers


def power_by_complex(frame):
    n = np.arange(len(frame))
    waves = np.exp(-2j * np.pi * n[: len(frame) // 2 + 1, None] * n / len(frame))
    return abs(waves @ frame.numpy()) ** 2


def power_doubled_but_at_zero(frame):
    power = torch.tensor(power_in_a_loop(frame))
    power[1:] *= 2
    return power


def frames_by_ranges(samples, window, hop, centred):
    length = samples + 2 * (window // 2) if centred else samples
    return len(range(0, length - window + 1, hop))


def triangle_by_where(f, left, centre, right):
    up, down = (f - left) / (centre - left), (right - f) / (right - centre)
    inside = (f > left) & (f < right)
    return torch.where(inside, torch.where(f <= centre, up, down), 0.0)


def triangle_by_interp(f, left, centre, right):
    return np.interp(f, [left, centre, right], [0.0, 1.0, 0.0])


def scaled_by_numpy(mel):
    x = np.log10(np.maximum(mel.numpy(), 1e-10))
    return (np.maximum(x, x.max() - 8) + 4) / 4


def scaled_with_loud_floor(mel):
    """Right for loud clips only: the first floor is lifted to the loudest, not to 1e-10."""
    x = mel.clamp(min=float(mel.max()) * 1e-8).log10()
    return (x + 4) / 4


def attention_by_loops(queries, keys, values):
    found = []
    for query in queries.numpy():
        scores = np.array([query @ key for key in keys.numpy()]) / math.sqrt(len(query))
        shares = np.exp(scores - scores.max())
        found.append((shares / shares.sum()) @ values.numpy())
    return np.stack(found)


def attention_root_of_values(queries, keys, values):
    return torch.softmax(queries @ keys.T / math.sqrt(values.shape[1]), dim=-1) @ values


def field_from_the_top(layers):
    reach = 1
    for width, stride in reversed(layers):
        reach = reach * stride + width - stride
    return reach


def field_plain(layers):
    return 1 + sum(width - 1 for width, _ in layers)


def rate_by_two_rows(reference, hypothesis):
    said, written = reference.split(), hypothesis.split()
    row = list(range(len(written) + 1))
    for i, word in enumerate(said, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(written, 1):
            diagonal, row[j] = row[j], min(diagonal + (word != other), row[j] + 1, row[j - 1] + 1)
    return Fraction(row[-1], max(1, len(said)))


def counts_without_guard(reference, hypothesis):
    said, written = reference.split(), hypothesis.split()
    table, i, j = edit_table(said, written), len(said), len(written)
    s = n = d = 0
    while i or j:
        different = said[i - 1] != written[j - 1] if said and written else 1
        if table[i][j] == table[i - 1][j - 1] + different:
            s, i, j = s + different, i - 1, j - 1
        elif table[i][j] == table[i - 1][j] + 1:
            d, i = d + 1, i - 1
        else:
            n, j = n + 1, j - 1
        if i < 0 or j < 0:
            break
    return s, n, d


def corpus_by_counts(references, hypotheses):
    edits = sum(edit_table(a.split(), b.split())[-1][-1] for a, b in zip(references, hypotheses, strict=True))
    return torch.tensor(edits / sum(map(len, map(str.split, references))))


def corpus_that_eats_the_lists(references, hypotheses):
    errors = words = 0
    while references:
        said, written = references.pop().split(), hypotheses.pop().split()
        errors, words = errors + edit_table(said, written)[-1][-1], words + len(said)
    return errors / words


def corpus_that_empties_the_lists(references, hypotheses):
    references.clear()
    hypotheses.clear()
    return 0


def corpus_inside_the_loop(references, hypotheses):
    errors = words = 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        errors += edit_table(reference.split(), hypothesis.split())[-1][-1]
        words += len(reference.split())
        return errors / max(words, 1)


def normaliser_by_pattern(text):
    text = unicodedata.normalize("NFC", text).lower()
    return " ".join(re.findall(r"[^\W_]+", text))


def normaliser_with_underscore(text):
    return " ".join(re.sub(r"[^\w\s]", " ", unicodedata.normalize("NFC", text).lower()).split())


def normaliser_with_question_mark(text):
    text = "".join(c if c.isalnum() or c == "?" else " " for c in unicodedata.normalize("NFC", text).lower())
    return " ".join(text.split())


def collapse_by_memory(pieces):
    last = 0
    for piece in pieces:
        for symbol in piece:
            if symbol not in (0, last):
                yield symbol
            last = symbol


def collapse_each(pieces):
    return [symbol for piece in pieces for symbol in collapse(piece)]


def shortest_by_pairs(word):
    return word[:1] + "".join(("_" if a == b else "") + b for a, b in itertools.pairwise(word))


def step_in_place(alpha, row, states):
    for s in range(len(states)):
        total = alpha[s] + (alpha[s - 1] if s else 0)
        if s > 1 and states[s] and states[s] != states[s - 2]:
            total += alpha[s - 2]
        alpha[s] = total * row[states[s]]
    return alpha


def loss_that_underflows(word, frames, vocab):
    from course_lib.ctc.paths import count_paths

    paths = count_paths(word, frames)
    if not paths:
        return math.inf
    return -math.log(paths * (1 / vocab) ** frames)


def spans_by_walking(path):
    start = 0
    for letter, run in itertools.groupby(path):
        end = start + sum(1 for _ in run)
        if letter != "_":
            yield [letter, start, end]
        start = end


def masked_by_numpy(scores, real):
    scores = np.where(real.numpy(), scores.numpy(), -np.inf)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).tolist()


def masked_with(value):
    return lambda scores, real: scores.masked_fill(~real, value).softmax(dim=-1)


def masked_at_the_end(scores, real):
    count = int(real.sum())
    shares = torch.zeros_like(scores)
    shares[:, :count] = scores[:, :count].softmax(dim=1)
    return shares


def fits_with_triples_wrong(text, mel_frames, downsample_time):
    doubled = sum(len(list(run)) > 1 for _, run in itertools.groupby(text))
    return math.ceil(mel_frames / downsample_time) >= len(text) + doubled


def labels_by_the_first_end(ids, pad_id):
    found, over = [], False
    for one in ids:
        found.append(-100 if over else one)
        over = over or one == pad_id
    return torch.tensor(found)


def labels_that_mask_repeats(ids, pad_id):
    return [-100 if ids.index(one) < at else one for at, one in enumerate(ids)]


def look_by_lists(real):
    size = range(len(real))
    return [[(j <= i and bool(real[j])) or i == j for j in size] for i in size]


def look_in_a_block(real):
    first, last = real.nonzero()[0], real.nonzero()[-1]
    size = torch.arange(len(real))
    block = (size >= first) & (size <= last)
    return torch.ones(len(real), len(real), dtype=torch.bool).tril() & block | torch.eye(len(real), dtype=torch.bool)


def adamw_step(weight, gradient, mean, square, step, lr, weight_decay):
    mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
    move = (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)) ** 0.5 + 1e-8)
    return weight * (1 - lr * weight_decay) - lr * move, mean, square


def adamw_hard_coded(weight, gradient, mean, square, step, lr, weight_decay):
    return adamw_step(weight, gradient, mean, square, step, 0.1, 0.3)


def adamw_as_arrays(*given):
    return np.array(adamw_step(*given))


def accumulate_flat(gradients, label_tokens):
    return [sum(float(g[i]) * n for g, n in zip(gradients, label_tokens, strict=True)) / sum(label_tokens) for i in range(3)]


def clip_lazily(gradients, max_norm):
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    factor = torch.clamp(max_norm / (norm + 1e-12), max=1.0)
    return (g * factor for g in gradients)


def clip_in_place(gradients, max_norm):
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
    for g in gradients:
        g *= min(1.0, max_norm / max(norm, 1e-12))
    return gradients


def stops(start, wers, patience, min_delta):
    best, stale = start, 0
    for number, wer in enumerate(wers, 1):
        stale = 0 if wer < best - min_delta else stale + 1
        best = min(best, wer)
        if stale >= patience:
            return number
    return len(wers)


def greedy_with(pick, wrap=lambda ids: ids):
    def greedy(next_probabilities, max_new_tokens):
        ids = []
        while len(ids) < max_new_tokens:
            token = pick(next_probabilities(wrap(ids)))
            if token == 0:
                break
            ids.append(token)
        return ids

    return greedy


def greedy_that_filters(next_probabilities, max_new_tokens):
    ids = []
    for _ in range(max_new_tokens):
        ids.append(int(next_probabilities(ids).argmax()))
    return [token for token in ids if token != 0]


def greedy_for_ever(next_probabilities, max_new_tokens):
    ids = []
    while True:
        token = int(next_probabilities(ids).argmax())
        if token == 0:
            return ids
        ids.append(token)


def calibration_by_numpy(confidences, right, bins):
    confidences, right = np.array(confidences), np.array(right, dtype=float)
    places = np.minimum((confidences * bins).astype(int), bins - 1)
    total = 0.0
    for one in np.unique(places):
        here = places == one
        total += here.sum() * abs(right[here].mean() - confidences[here].mean())
    return total / len(right)


def calibration_without_the_certain(confidences, right, bins):
    total = 0.0
    for one in range(bins):
        here = [(c, r) for c, r in zip(confidences, right, strict=True) if one / bins <= c < (one + 1) / bins]
        if here:
            total += abs(sum(r for _, r in here) - sum(c for c, _ in here))
    return total / len(right)


def log_add(a, b):
    return a if b == -math.inf else a + math.log1p(math.exp(b - a))


def path_of(pieces):
    return [symbol for piece in pieces for symbol in piece]


RIGHT = [
    ("01.1", alias_by_folding),
    ("01.1", lambda f, r: abs(f - r * math.floor(f / r + 0.5))),
    ("01.2", power_in_a_loop),
    ("01.2", power_by_complex),
    ("01.3", frames_by_ranges),
    ("01.4", triangle_by_where),
    ("01.4", triangle_by_interp),
    ("01.5", scaled_by_numpy),
    ("02.2", field_from_the_top),
    ("02.3", attention_by_loops),
    ("02.4", lambda x: np.corrcoef((x - x.mean(0)).numpy()) * 0 + _cosines_by_numpy(x)),
    ("02.5", lambda train, test: test.count(max(set(train), key=train.count)) / len(test)),
    ("02.6", lambda x, a, b: F.layer_norm(x, x.shape[1:], a, b)),
    ("03.2", rate_by_two_rows),
    ("03.2", lambda a, b: torch.tensor(float(rate_by_two_rows(a, b)))),
    ("03.4", corpus_by_counts),
    ("03.5", normaliser_by_pattern),
    ("04.1", collapse_by_memory),
    ("04.1", lambda pieces: np.array(collapse(path_of(pieces)), dtype=int)),
    ("04.2", shortest_by_pairs),
    ("04.5", spans_by_walking),
    ("04.8", lambda a, b: log_add(a, b) if b < a else log_add(b, a)),
    ("05.2", masked_by_numpy),
    ("05.2", lambda scores, real: torch.softmax(torch.where(real, scores, -torch.inf), -1)),
    ("05.3", lambda text, f, by: np.bool_(math.ceil(f / by) >= frames_needed(text))),
    ("05.4", lambda x, a, w: np.where(((np.arange(len(x)) >= a) & (np.arange(len(x)) < a + w))[:, None], 0, x.numpy())),
    ("07.1", lambda t, table, n: [[int(i) for i in row] for row in np.argsort(-_cosine(t, table), axis=1)[:, :n]]),
    ("07.2", lambda x, k: [np.concatenate(x.numpy()[i * k : i * k + k]) for i in range(len(x) // k)]),
    ("07.4", lambda text, n: np.floor(n / frames_needed(text))),
    ("08.1", lambda a, p, ids, end: np.array([-100] * (a + p) + ids + [end])),
    ("08.2", lambda x, y: F.cross_entropy(x[:, :-1].mT, y[:, 1:])),
    ("08.3", labels_by_the_first_end),
    ("08.4", look_by_lists),
    ("08.4", lambda real: np.array(look_by_lists(real))),
    ("09.1", adamw_as_arrays),
    ("09.2", lambda g, n: (one for one in (torch.stack(g) * torch.tensor(n).view(-1, *[1] * g[0].ndim)).sum(0) / sum(n))),
    ("09.3", clip_lazily),
    ("09.3", lambda g, m: map(np.asarray, clip_lazily(g, m))),
    ("09.4", lambda w, p, d: np.int64(stops(math.inf, w, p, d))),
    ("10.1", greedy_with(lambda p: p.argmax())),
    ("10.1", greedy_with(lambda p: int(torch.argmax(p)), lambda ids: torch.tensor(ids, dtype=torch.long))),
    ("10.1", greedy_with(lambda p: np.argmax(np.array(p)), tuple)),
    ("10.1", greedy_with(lambda p: p.index(max(p)), lambda ids: [np.int64(one) for one in ids])),
    ("10.1", greedy_with(lambda p: max(range(len(p)), key=p.__getitem__))),
    ("10.1", greedy_with(lambda p: max(enumerate(p), key=lambda pair: pair[1])[0])),
    ("10.2", lambda p, s: np.array([sum(range(p, p + s)), p + s - 1])),
    ("10.5", calibration_by_numpy),
]


def _cosine(tokens, table):
    return (F.normalize(tokens, dim=1) @ F.normalize(table, dim=1).T).numpy()


def _cosines_by_numpy(features):
    centred = (features - features.mean(0)).numpy()
    directions = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    return directions @ directions.T


WRONG = [
    ("01.1", alias_twice_at_most, GENERIC),
    ("01.2", lambda x: torch.fft.rfft(x).abs() ** 2, "without `fft`"),
    ("01.2", power_doubled_but_at_zero, GENERIC),  # right at 0 cycles
    ("01.3", lambda n, w, h, c: round((n + 2 * c * (w // 2) - w) / h) + 1, GENERIC),
    ("01.4", lambda f, a, b, c: torch.minimum((f - a) / (b - a), (c - f) / (c - b)).abs(), "turned upwards"),
    ("01.5", scaled_with_loud_floor, "lift to 1e-10"),
    ("01.5", lambda mel: (mel.clamp_(min=1e-10).log10() + 4) / 4, "changed `mel`"),
    ("02.2", field_plain, "step of a later layer"),
    ("02.2", lambda layers: field_plain(layers) if layers else 0, GENERIC),
    ("02.3", attention_root_of_values, "root is of the size of queries"),
    ("02.3", F.scaled_dot_product_attention, "without `scaled_dot_product_attention`"),
    ("02.5", lambda train, test: test.count(max(train)) / len(test), "largest label"),
    ("02.5", lambda train, test: test.count(min(train, key=train.count)) / len(test), "rarest label"),
    ("03.2", lambda a, b: edit_table(a.split(), b.split())[-1][-1] / len(a.split()), "without `edit_table`"),
    ("03.2", word_error_rate, "without `word_error_rate`"),
    ("03.3", counts_without_guard, GENERIC),
    ("03.3", lambda a, b: (error_counts(a, b)[0].substitutions, 0, 0), "without `error_counts`"),
    ("03.4", corpus_that_empties_the_lists, "changed `references`"),
    ("03.4", corpus_that_eats_the_lists, "What it gives back is right"),
    ("03.4", corpus_inside_the_loop, "return inside the loop"),
    ("03.5", normaliser_with_underscore, "underscore"),
    ("03.5", normaliser_with_question_mark, "question marks are left"),
    ("04.1", collapse_each, "collapsed by itself"),
    ("04.1", lambda pieces: [str(one) for one in collapse(path_of(pieces))], "wrong type"),
    ("04.1", lambda pieces: [float(one) for one in collapse(path_of(pieces))], "wrong type"),
    ("04.2", lambda word: "".join(c + ("_" if c * 2 in word else "") for c in word), GENERIC),
    ("04.3", step_in_place, "changed `alpha`"),
    ("04.4", loss_that_underflows, "stopped with"),
    ("05.2", masked_with(-300.0), "-300"),
    ("05.2", masked_at_the_end, "need not stand at the end"),
    ("05.2", lambda s, r: torch.full_like(s, math.nan), "All is NaN"),
    ("05.3", fits_with_triples_wrong, "Three in a row"),
    ("05.3", lambda text, f, by: int(math.ceil(f / by) >= frames_needed(text)), "wrong type"),
    ("05.3", lambda text, f, by: str(math.ceil(f / by) >= frames_needed(text)), "wrong type"),
    ("07.3", lambda f, k, h, d: str((k * f + 1) * h + (h + 1) * d), "wrong type"),
    ("08.1", lambda a, p, ids, end: ids.append(end) or [-100] * (a + p) + ids, "changed `answer_ids`"),
    ("08.3", labels_that_mask_repeats, "comes twice"),
    ("08.4", look_in_a_block, "one block"),
    ("08.4", lambda real: torch.tensor(look_by_lists(real)).int(), "wrong type"),
    ("09.1", adamw_hard_coded, GENERIC),
    ("09.1", lambda w, g, m, s, t, lr, d: adamw_step(w, g, m, s, t, 0.1, d), "not always 0.1"),
    ("09.2", accumulate_flat, GENERIC),
    ("09.3", lambda g, m: list(clip_lazily(g, 1.0)), "not always 1"),
    ("09.3", clip_in_place, "changed `gradients`"),
    ("09.4", lambda w, p, d: stops(1.0, w, p, d), "begin with infinity"),
    ("09.4", lambda w, p, d: stops(math.inf, w, 2, d), "not always 2"),
    ("10.1", greedy_that_filters, "wrote on behind"),
    ("10.1", greedy_for_ever, "still running"),
    ("10.1", lambda model, most: [float(one) for one in greedy_with(lambda p: int(p.argmax()))(model, most)], "wrong type"),
    ("10.5", calibration_without_the_certain, "was lost"),
]


@pytest.mark.parametrize(("key", "answer"), RIGHT)
def test_a_right_answer_in_another_style_is_right(verdict, key, answer):
    assert verdict(key, answer) == f"{key}  right\n"


@pytest.mark.parametrize(("key", "answer", "reason"), WRONG)
def test_a_wrong_answer_does_not_pass_and_is_understood(verdict, monkeypatch, key, answer, reason):
    monkeypatch.setattr("course_lib.exercises.run.SECONDS", 1.0)
    from course_lib.exercises.exercise import find_exercise

    said = verdict(key, answer)
    assert said.startswith(f"{key}  not yet: ")
    if reason is GENERIC:
        assert not any(mistake.says in said for mistake in find_exercise(key).mistakes), said
    else:
        assert reason in said
