"""Each exercise of chapter 10: the solution passes, the stub is not attempted, each planted mistake hears its own reason."""

from statistics import fmean

from course_lib.text.metrics import ErrorCounts, error_counts


def greedy(next_probabilities, max_new_tokens):
    ids = []
    for _ in range(max_new_tokens):
        chances = next_probabilities(ids)
        token = max(range(len(chances)), key=chances.__getitem__)
        if token == 0:
            break
        ids.append(token)
    return ids


def greedy_that_never_stops(next_probabilities, max_new_tokens):
    ids = []
    for _ in range(max_new_tokens):
        chances = next_probabilities(ids)
        ids.append(max(range(len(chances)), key=chances.__getitem__))
    return ids


def greedy_with_the_end(next_probabilities, max_new_tokens):
    ids = greedy(next_probabilities, max_new_tokens)
    return ids if len(ids) == max_new_tokens else [*ids, 0]


def greedy_that_asks_once(next_probabilities, max_new_tokens):
    return greedy(lambda ids: next_probabilities([]), max_new_tokens)


def greedy_of_the_last(next_probabilities, max_new_tokens):
    return greedy(lambda ids: next_probabilities(ids[-1:]), max_new_tokens)


def positions(prefix, steps):
    return sum(prefix + step for step in range(steps)), prefix + steps - 1


def insertion_rate(references, hypotheses):
    total = sum(error_counts(references, hypotheses), ErrorCounts())
    return total.insertions / total.reference_length


def words_in(texts):
    return sum(len(text.split()) for text in texts)


def difference(first, second, words, draw):
    return sum(second[i] - first[i] for i in draw) / sum(words[i] for i in draw)


def gaps_of(confidences, right, bins):
    groups = {}
    for confidence, is_right in zip(confidences, right, strict=True):
        groups.setdefault(int(confidence * bins), []).append((confidence, is_right))
    return [(len(group), fmean(r for _, r in group) - fmean(c for c, _ in group)) for group in groups.values()]


def calibration(confidences, right, bins):
    return sum(clips * abs(gap) for clips, gap in gaps_of(confidences, right, bins)) / len(right)


SOLUTIONS = {"10.1": greedy, "10.2": positions, "10.3": insertion_rate, "10.4": difference, "10.5": calibration}

MISTAKES = {
    "10.1": [
        (greedy_with_the_end, "no part of the text"),
        (lambda model, most: greedy(model, most + 1), "one token more than the limit"),
        (lambda model, most: greedy(model, most - 1), "one token too few"),
        (greedy_that_never_stops, "stop there"),
        (greedy_that_asks_once, "Show the model what you have written"),
        (greedy_of_the_last, "not only the last token"),
        (lambda model, most: greedy(lambda ids: [1 - p for p in model(ids)], most), "the least likely"),
        (lambda model, most: [1, 2, 3], "append it, ask again"),
        (lambda model, most: 7, "append it, ask again"),
    ],
    "10.2": [
        (lambda p, n: (p * n, p + n - 1), "it grows by one each step"),
        (lambda p, n: (sum(p + i + 1 for i in range(n)), p + n - 1), "there is no text yet"),
        (lambda p, n: (p + n - 1, p + n - 1), "every step reads everything again"),
        (lambda p, n: positions(p, n)[::-1], "The other way round"),
        (lambda p, n: (positions(p, n)[0], p + n), "nobody reads it"),
        (lambda p, n: (positions(p, n)[0], n), "The prefix has to be read once"),
        (lambda p, n: (positions(p, n)[0], p), "have to be read, too"),
        (lambda p, n: (positions(p, n)[0],) * 2, "That is the count without a cache"),
        (lambda p, n: (0, 0), "Without a cache: 56 + 57"),
        (lambda p, n: (positions(p, n)[0], 0), "every position is multiplied once: 66"),
        (lambda p, n: p + n, "Give back two numbers"),
    ],
    "10.3": [
        (lambda said, heard: sum(error_counts(said, heard), ErrorCounts()).rate, "the whole word error rate"),
        (lambda said, heard: insertion_rate(said, heard) * words_in(said) / words_in(heard), "words written"),
        (lambda said, heard: fmean(c.insertions / c.reference_length for c in error_counts(said, heard)), "divide once"),
        (lambda said, heard: sum(c.insertions for c in error_counts(said, heard)), "That is how many"),
        (lambda said, heard: words_in(heard) / words_in(said) - 1, "hides a word made up"),
        (lambda said, heard: sum(error_counts(said, heard), ErrorCounts()).deletions / words_in(said), "Those are deletions"),
        (lambda said, heard: 0.123, "Expected 0.2500"),
    ],
    "10.4": [
        (lambda *given: -difference(*given), "The sign"),
        (lambda a, b, words, draw: difference(a, b, words, range(len(a))), "on all clips"),
        (lambda a, b, words, draw: difference(a, b, words, set(draw)), "counts twice"),
        (lambda a, b, words, draw: sum(b[i] - a[i] for i in draw) / sum(words), "were *drawn*"),
        (lambda a, b, words, draw: fmean((b[i] - a[i]) / words[i] for i in draw), "A mean of the clips' rates"),
        (lambda a, b, words, draw: sum(b[i] - a[i] for i in draw), "Errors, but not a rate"),
        (
            lambda a, b, words, draw: sum(b[i] for i in draw) / sum(words[i] for i in draw) - sum(a) / sum(words),
            "Draw for both systems",
        ),
        (lambda *given: 9.0, "sums over the clips"),
    ],
    "10.5": [
        (lambda c, r, bins: fmean(abs(gap) for _, gap in gaps_of(c, r, bins)), "Weigh each by its clips"),
        (lambda c, r, bins: abs(fmean(r) - fmean(c)) * (1 if fmean(r) > fmean(c) else -1), "cancelled out"),
        (lambda c, r, bins: fmean(c) - fmean(r), "cancelled out"),
        (lambda c, r, bins: fmean(abs(y - x) for x, y in zip(c, r, strict=True)), "That compares clip by clip"),
        (lambda c, r, bins: max(abs(gap) for _, gap in gaps_of(c, r, bins)), "the worst bin"),
        (lambda c, r, bins: 2.0, "Bin number"),
    ],
}
