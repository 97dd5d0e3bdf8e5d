"""How well scores tell members from others: area under the curve, its interval, and finds at few false alarms.

Every score here is oriented so that larger = more likely a member. Infinite scores are ranked like any other; undefined
ones (NaN) are refused, since where to rank them would decide the result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from unmem.errors import UserError

Real = NDArray[np.float64]


def roc_auc(members: ArrayLike, others: ArrayLike) -> float:
    """The chance that a member scores higher than another example, ties counting one half.

    members, others: scores, [m] and [n]. 1 = all members on top, 0.5 = no better than chance.
    """
    return float(_placements(_scores("members", members), _scores("others", others))[0].mean())


def tpr_at(members: ArrayLike, others: ArrayLike, fpr: float) -> float:
    """The largest share of members above a threshold that at most a share `fpr` of the others is above.

    members, others: scores, [m] and [n]. The threshold is one of the scores of `others` and must be exceeded, so of
    equal scores all are called members or none: false alarms are never more than `fpr`, and nothing is interpolated.
    """
    found, alarms = _scores("members", members), _scores("others", others)
    if not 0 <= fpr <= 1:
        raise UserError("fpr", fpr, "no share of false alarms", "give one from 0 to 1")
    n = len(alarms)
    # Shares are compared, since fpr · n may be rounded to the wrong side of a whole number.
    allowed = int(np.searchsorted(np.arange(n + 1) / n, fpr, side="right")) - 1
    return 1.0 if allowed == n else float((found > np.sort(alarms)[n - 1 - allowed]).mean())


def auc_interval(members: ArrayLike, others: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """(low, high) for `roc_auc` by the variance of DeLong et al. 1988, within [0, 1].

    From mid-ranks in O(n log n) (Sun & Xu 2014). Normal, so too narrow for few examples near 0 or 1. A side of one
    example says nothing of the spread of its side: (0, 1). Where all comparisons end alike, as with perfect separation,
    that variance is 0; then the exact limit (Clopper & Pearson 1934) of as many independent pairs is given.
    """
    if not 0 < level < 1:
        raise UserError("level", level, "no level of confidence", "give one between 0 and 1, such as 0.95")
    wins, losses = _placements(_scores("members", members), _scores("others", others))
    pairs, auc = min(len(wins), len(losses)), float(wins.mean())
    if pairs < 2:
        return 0.0, 1.0
    if np.ptp(wins) == 0 and np.ptp(losses) == 0:
        alike = ((1 - level) / 2) ** (1 / pairs)  # the smallest likely chance of what every pair did
        return auc * alike, 1 - (1 - auc) * alike
    spread = np.sqrt(wins.var(ddof=1) / len(wins) + losses.var(ddof=1) / len(losses))
    half = float(norm.ppf((1 + level) / 2) * spread)
    return max(0.0, auc - half), min(1.0, auc + half)


def _placements(members: Real, others: Real) -> tuple[Real, Real]:
    """For each member the share of others below it, [m]; for each other example the share of members above it, [n].

    An equal score counts one half. The rank among all less the rank among one's own counts the other side.
    """
    m, n = len(members), len(others)
    ranks: Real = rankdata(np.concatenate([members, others]))
    wins = (ranks[:m] - np.asarray(rankdata(members))) / n
    losses = 1 - (ranks[m:] - np.asarray(rankdata(others))) / m
    return wins, losses


def _scores(name: str, values: ArrayLike) -> Real:
    """Scores of one side as [n] float64; there must be some, and each a number."""
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or len(scores) == 0:
        raise UserError(name, None, f"needs a list of scores and is of shape {scores.shape}", "give one score or more")
    if np.isnan(scores).any():
        raise UserError(name, int(np.isnan(scores).sum()), "scores are undefined (NaN)", "leave those examples out")
    return scores
