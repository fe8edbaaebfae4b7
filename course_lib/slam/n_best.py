"""The sentences that a beam leaves: each with two scores, one of the language model and one of CTC, and how they are joined."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple


class Hypothesis(NamedTuple):
    """A sentence that may have been said, how likely the language model finds it, and how likely the audio tokens spell it."""

    text: str
    log_probability: float
    ctc_log_likelihood: float

    def joint_score(self, ctc_weight: float) -> float:
        """log-probability + ctc_weight × CTC log-likelihood (Hori et al. 2017, "Joint CTC/attention decoding").

        >>> Hypothesis("ja", -1.0, -10.0).joint_score(0.4)
        -5.0
        """
        # CTC gives −∞ to what cannot be spelled; with a weight of 0 that would be 0 × −∞.
        return self.log_probability + (ctc_weight * self.ctc_log_likelihood if ctc_weight else 0.0)


def n_best_share(candidates: Sequence[Hypothesis], ctc_weight: float = 0.0) -> float:
    """Confidence of a beam in its first text: that text's share of the scores of all candidates, from above 0 to 1.

    A score is `joint_score`, by which `SlamASR` chooses; candidates that spell the same text with other tokens count
    together. Texts outside the beam are not in the sum, so a narrow beam is too sure of itself.
    Raises ValueError for no candidates.
    """
    if not candidates:
        raise ValueError("confidence in the best of no candidates: there must be one at least")
    scores = [candidate.joint_score(ctc_weight) for candidate in candidates]
    highest = max(scores)
    if highest == -math.inf:
        return 1 / len(candidates)
    shares: dict[str, float] = defaultdict(float)
    for candidate, score in zip(candidates, scores, strict=True):
        shares[candidate.text] += math.exp(score - highest)
    return shares[candidates[0].text] / math.fsum(shares.values())
