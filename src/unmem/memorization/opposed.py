"""Scores that contradict each other: pairs that rank the same examples in opposite order.

    tanh(atanh(ρ) ± z √((1 + ρ²/2) / (n − 3)))

is the interval of Spearman's rank correlation ρ over n examples (Bonett and Wright 2000). It is taken at level
1 − 0.05/m for m pairs, so that unrelated scores raise a false alarm in at most 5% of runs. Two scores are opposed if
the interval lies below 0. All scores are oriented so that larger = more memorized; one of two opposed scores is wrong,
or they measure different things (docs/scores.md), and a request refined by one is refined backwards by the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from unmem.memorization.scores import Scores

LEVEL = 0.05
FEWEST = 10  # examples for an interval


@dataclass(frozen=True)
class Opposed:
    """Two scores that rank the examples in opposite order.

    first, second: their names. n: examples with both values. spearman: rank correlation; low, high: its interval.
    """

    first: str
    second: str
    n: int
    spearman: float
    low: float
    high: float

    @property
    def text(self) -> str:
        return (
            f"the scores {self.first} and {self.second} rank the examples in opposite order (rank correlation "
            f"{self.spearman:.2f}, {self.low:.2f} to {self.high:.2f}): do not refine by either until both were "
            "compared with a third, such as by unmem score --against ensemble"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in `result.json`."""
        return asdict(self) | {"text": self.text}


def opposed(scores: Sequence[Scores]) -> tuple[Opposed, ...]:
    """Pairs of scores whose rank correlation is negative, with an interval that excludes 0.

    Args:
        scores: Scores of the same training set; they are compared on the ids that two of them share.

    Returns:
        The pairs, in the order of the scores. A score with the same value everywhere is opposed to none.
    """
    pairs = list(combinations(scores, 2))
    compared = [_compared(first, second, LEVEL / len(pairs)) for first, second in pairs]
    return tuple(one for one in compared if one is not None and one.high < 0)


def _compared(first: Scores, second: Scores, level: float) -> Opposed | None:
    from scipy.stats import norm, spearmanr

    where = np.isin(first.ids, second.ids)
    x, y = first.values[where], second.of(first.ids[where])
    both = ~(np.isnan(x) | np.isnan(y))
    x, y, n = x[both], y[both], int(both.sum())
    if n < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    result: Any = spearmanr(x, y)
    rho = float(result.statistic)
    middle = math.atanh(max(-1 + 1e-12, min(1 - 1e-12, rho)))
    width = float(norm.ppf(1 - level / 2)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return Opposed(first.name, second.name, n, rho, math.tanh(middle - width), math.tanh(middle + width))
