"""Frame-by-frame symbol probabilities and the text → when each word was said, and how sure the symbols are of it.

log_probs [frames, vocab], "en kop" → forced alignment: _ e n ␣ k _ o p → words with start, end and confidence
"""

import itertools
import math
from collections.abc import Callable, Sequence
from statistics import fmean

from jaxtyping import Float
from torch import Tensor

from course_lib.ctc.paths import Span, forced_alignment, frames_needed, label_spans
from course_lib.data.recogniser import Word


def align_words(
    log_probs: Float[Tensor, "frames vocab"],
    text: str,
    encode: Callable[[str], Sequence[int]],
    seconds_per_frame: float,
    separator: Sequence[int] = (),
    blank_id: int = 0,
) -> list[Word]:
    """When each word of a text was said, from the likeliest path of its symbols (`paths.forced_alignment`).

    `encode` spells a word in symbol ids, and `separator` is what stands between two. A word goes from its first symbol's first
    frame to its last symbol's last. Its confidence is the geometric mean of its symbols' probabilities on that path.

    What cannot be aligned is not guessed. A text with more symbols than there are frames has no path: all that is known is that
    each word lies somewhere in the clip, so it gets the whole clip and the confidence 0. A word without any known symbol gets
    no time at all, at the end of the word before, and 0.
    """
    words = text.split()
    spelled = [list(encode(word)) for word in words]
    labels = [symbol for ids in spelled if ids for symbol in (*separator, *ids)][len(separator) :]
    if not labels or len(log_probs) < max(1, frames_needed(labels)):
        return [Word(word, 0.0, len(log_probs) * seconds_per_frame, 0.0) for word in words]
    path = forced_alignment(log_probs, labels, blank_id)
    spans = iter(label_spans(path, blank_id))
    found: list[Word] = []
    for word, ids in zip(words, spelled, strict=True):
        if not ids:
            end = found[-1].end if found else 0.0
            found.append(Word(word, end, end, 0.0))
            continue
        before = any(known for known in spelled[: len(found)])
        own = [*itertools.islice(spans, len(separator) * before + len(ids))][-len(ids) :]
        times = own[0].start * seconds_per_frame, own[-1].end * seconds_per_frame
        found.append(Word(word, *times, math.exp(fmean(_log_probability(log_probs, span) for span in own))))
    return found


def _log_probability(log_probs: Float[Tensor, "frames vocab"], span: Span) -> float:
    """Of a symbol on its own frames, their mean; never above 0, which rounding can be."""
    return min(0.0, float(log_probs[span.start : span.end, span.symbol].mean()))
