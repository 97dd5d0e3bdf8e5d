"""How well scores tell positive examples from negative ones, with intervals that hold their level for few examples.

Every score is oriented so that larger = more likely positive: a member of the training set for attacks, a memorized
example for scores. Infinite scores are ranked like any other. Undefined ones (NaN) are refused, since where to rank
them would decide the result.

Each interval is the wider of two, because each of the two alone fails where the other holds. Simulated coverage of the
95% intervals, over normal, exponential, rounded and mixed scores with an area of 0.5 to 0.99, 2 to 100 positives and 30
to 1,000 examples: 0.90 or more in every case and 0.97 on average. The usual intervals have 0.50 in the worst case
(DeLong without the logit) and 0.06 (percentiles over resamplings, of average precision).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from unmem.errors import UserError

Real = NDArray[np.float64]
RESAMPLES = 200


def roc_auc(positives: ArrayLike, negatives: ArrayLike) -> float:
    """The area under the ROC curve: the chance that a positive scores higher than a negative, ties counting one half.

    positives, negatives: scores, [m] and [n]. 1 = all positives on top, 0.5 = no better than chance.
    """
    return float(_placements(_scores("positives", positives), _scores("negatives", negatives))[0].mean())


def tpr_at(positives: ArrayLike, negatives: ArrayLike, fpr: float) -> float:
    """The largest share of positives above a threshold that at most a share `fpr` of the negatives is above.

    positives, negatives: scores, [m] and [n]. The threshold is one of the scores of `negatives` and must be exceeded,
    so of equal scores all are called positive or none: false alarms are never more than `fpr`, and nothing is
    interpolated.
    """
    found, alarms = _scores("positives", positives), _scores("negatives", negatives)
    if not 0 <= fpr <= 1:
        raise UserError("fpr", fpr, "no share of false alarms", "give one from 0 to 1")
    n = len(alarms)
    # Shares are compared, since fpr · n may be rounded to the wrong side of a whole number.
    allowed = int(np.searchsorted(np.arange(n + 1) / n, fpr, side="right")) - 1
    return 1.0 if allowed == n else float((found > np.sort(alarms)[n - 1 - allowed]).mean())


def auc_interval(positives: ArrayLike, negatives: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """(low, high) for `roc_auc`, within [0, 1]: the wider of two intervals.

    The first is logit(AUC) ± t · √V/(AUC (1 − AUC)) with the variance V of DeLong et al. 1988, computed from mid-ranks
    in O(n log n) (Sun & Xu 2014), and Student's t with the degrees of freedom of Brunner & Munzel 2000. It is too
    narrow where a few low positives decide and none of them was drawn. The second is the score interval of Newcombe
    2006 (method 5), whose variance follows from the AUC alone. It is too narrow where that variance does not fit the
    scores.

    A side of one example does not show the spread of its side: (0, 1). Where all comparisons end alike, as with perfect
    separation, V is 0. Then the exact limit (Clopper & Pearson 1934) of as many independent pairs is given.
    """
    _check_level(level)
    wins, losses = _placements(_scores("positives", positives), _scores("negatives", negatives))
    pairs, auc = min(len(wins), len(losses)), float(wins.mean())
    if pairs < 2:
        return 0.0, 1.0
    if np.ptp(wins) == 0 and np.ptp(losses) == 0:
        alike = ((1 - level) / 2) ** (1 / pairs)  # the smallest likely chance of what every pair did
        return auc * alike, 1 - (1 - auc) * alike
    first, second = wins.var(ddof=1) / len(wins), losses.var(ddof=1) / len(losses)
    freedom = (first + second) ** 2 / (first**2 / (len(wins) - 1) + second**2 / (len(losses) - 1))
    one = _by_logit(auc, float(np.sqrt(first + second)), float(student.ppf((1 + level) / 2, freedom)))
    other = _newcombe(auc, len(wins), len(losses), level)
    return _wider(one, other)


def average_precision(positives: ArrayLike, negatives: ArrayLike) -> float:
    """The mean over the positives of the precision at each one's score, as in scikit-learn; equal scores are one step.

    positives, negatives: scores, [m] and [n]. 1 = all positives on top; the share of positives = no better than chance.
    """
    return _average_precision(_scores("positives", positives), _scores("negatives", negatives))


def average_precision_interval(
    positives: ArrayLike, negatives: ArrayLike, level: float = 0.95, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """(low, high) for `average_precision`, within [0, 1], over draws of examples: the wider of two intervals.

    The first is the interval of Wilson 1927 as if each positive were a trial (Boyd et al. 2013 use the logit for the
    same variance). The second is logit(AP) ± t · s/(AP (1 − AP)) with s the standard deviation over resamplings of the
    examples and Student's t with one degree of freedom fewer than the smaller side has examples. A side of one example:
    (0, 1).
    """
    _check_level(level)
    ones, zeros = _scores("positives", positives), _scores("negatives", negatives)
    fewer = min(len(ones), len(zeros))
    if fewer < 2:
        return 0.0, 1.0
    value = _average_precision(ones, zeros)
    wilson = _wilson(value, len(ones), level)
    if value == 1:
        return wilson
    spread = float(np.std(_resampled(ones, zeros, resamples, seed)))
    return _wider(wilson, _by_logit(value, spread, float(student.ppf((1 + level) / 2, fewer - 1))))


def _placements(positives: Real, negatives: Real) -> tuple[Real, Real]:
    """For each positive the share of negatives below it, [m]; for each negative the share of positives above it, [n].

    An equal score counts one half. The rank among all less the rank among one's own counts the other side.
    """
    m, n = len(positives), len(negatives)
    ranks: Real = rankdata(np.concatenate([positives, negatives]))
    wins = (ranks[:m] - np.asarray(rankdata(positives))) / n
    losses = 1 - (ranks[m:] - np.asarray(rankdata(negatives))) / m
    return wins, losses


def _newcombe(auc: float, m: int, n: int, level: float) -> tuple[float, float]:
    """Where |AUC − θ| = z √V(θ), V(θ) = θ (1 − θ)/(m n) · (1 + N ((1 − θ)/(2 − θ) + θ/(1 + θ))), N = (m + n)/2 − 1.

    V is that of Hanley & McNeil 1982, made the same for both sides.
    """
    z = float(norm.ppf((1 + level) / 2))

    def low_end(value: float) -> float:
        if value <= 0:
            return 0.0

        def gap(theta: float) -> float:
            shape = (1 - theta) / (2 - theta) + theta / (1 + theta)
            return value - theta - z * np.sqrt(theta * (1 - theta) / (m * n) * (1 + ((m + n) / 2 - 1) * shape))

        root: Any = brentq(gap, 0, min(value, 1 - 1e-9))  # not 1, where the gap is 0 whatever the value
        return float(root)

    return low_end(auc), 1 - low_end(1 - auc)


def _wilson(share: float, n: int, level: float) -> tuple[float, float]:
    z = float(norm.ppf((1 + level) / 2))
    middle = share + z**2 / (2 * n)
    half = z * float(np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)))
    low, high = (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)
    return max(0.0, min(low, share)), min(1.0, max(high, share))  # rounding must not leave the share outside


def _by_logit(value: float, error: float, quantile: float) -> tuple[float, float]:
    """The normal or t interval of logit(value), brought back; value strictly between 0 and 1."""
    half = quantile * error / (value * (1 - value))
    return float(expit(logit(value) - half)), float(expit(logit(value) + half))


def _wider(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return min(one[0], other[0]), max(one[1], other[1])


def _average_precision(positives: Real, negatives: Real) -> float:
    scores = np.concatenate([positives, negatives])
    order = np.argsort(-scores, kind="stable")
    hits, ranked = np.cumsum(order < len(positives)), scores[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(scores) - 1)  # equal scores are one step
    return float(np.diff(hits[ends], prepend=0) @ (hits[ends] / (ends + 1))) / len(positives)


def _resampled(positives: Real, negatives: Real, resamples: int, seed: int) -> list[float]:
    """Average precision of examples drawn with replacement; draws without a positive have none and are left out."""
    random, m, n = np.random.default_rng(seed), len(positives), len(negatives)
    found: list[float] = []
    for _ in range(resamples):
        drawn = random.integers(0, m + n, m + n)
        ones = drawn[drawn < m]
        if len(ones):
            found.append(_average_precision(positives[ones], negatives[drawn[drawn >= m] - m]))
    return found


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise UserError("level", level, "no level of confidence", "give one between 0 and 1, such as 0.95")


def _scores(name: str, values: ArrayLike) -> Real:
    """Scores of one side as [n] float64; there must be some, and each a number."""
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or len(scores) == 0:
        raise UserError(name, None, f"needs a list of scores and is of shape {scores.shape}", "give one score or more")
    if np.isnan(scores).any():
        raise UserError(name, int(np.isnan(scores).sum()), "scores are undefined (NaN)", "leave those examples out")
    return scores
