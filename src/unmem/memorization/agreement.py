"""How well one score stands in for another: ranks, the ability to find memorized examples, and who is on top."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmem.errors import UserError
from unmem.memorization.scores import Scores

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value with its 95% interval.

    For rank correlation and overlap, the interval is made of percentiles over bootstrap samples of the examples. For
    AUROC and average precision see `unmem.metrics`; it is 0 to 1 if only one example is above, or below, the threshold.

    Attributes:
        value: The estimate.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Agreement:
    """How well a score agrees with a reference score. For both, larger = more memorized.

    A measure is None where it is undefined: nothing or everything is above the threshold, or a score is constant.

    Attributes:
        n: Examples with both values.
        threshold: Examples whose reference is above it count as memorized.
        spearman: Rank correlation, in [−1, 1]; dominated by the many examples near 0.
        overlap: Share of the reference's top tenth that is also in the score's top tenth.
        auroc: AUROC of finding the memorized examples; 0.5 = chance.
        average_precision: Average precision of finding them; chance is their share.
    """

    n: int
    threshold: float
    spearman: Interval | None
    overlap: Interval | None
    auroc: Interval | None
    average_precision: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with a reason beside what is missing."""
        reasons: list[str] = []
        if self.auroc is None:
            reasons.append(f"no example, or each, has a reference above {self.threshold}")
        if self.spearman is None:
            reasons.append("one of the two scores is the same for all examples")
        return asdict(self) | ({"reason": "; ".join(reasons)} if reasons else {})


def agreement(
    scores: Scores, reference: Scores, *, threshold: float = 0.25, resamples: int = 200, seed: int = 0
) -> Agreement:
    """Compare a score with a reference, on the examples for which both have a value.

    Args:
        scores: The score.
        reference: The score to compare with.
        threshold: Examples whose reference is above it count as memorized; on the scale of the reference.
        resamples: Number of bootstrap samples for the intervals.
        seed: Seed of the bootstrap.

    Returns:
        Rank correlation, overlap, AUROC and average precision, each with its interval.
    """
    where = np.isin(scores.ids, reference.ids)
    first = scores.values[where]
    second = reference.of(scores.ids[where])
    both = ~(np.isnan(first) | np.isnan(second))
    random = np.random.default_rng(seed)
    # Many scores have ties: in random order, who is on top among equals is left to chance and not to position.
    rows = random.permutation(int(both.sum()))
    x, y = first[both][rows], second[both][rows]
    if len(x) < 10:
        raise UserError("scores", scores.name, f"shares {len(x)} values with {reference.name}", "compare more examples")
    draws = [random.integers(0, len(x), len(x)) for _ in range(resamples)]
    auroc, precision = _finding(x[y > threshold], x[y <= threshold], resamples, seed)
    return Agreement(
        n=len(x),
        threshold=threshold,
        spearman=_interval(_spearman, x, y, draws),
        overlap=_interval(_overlap, x, y, draws),
        auroc=auroc,
        average_precision=precision,
    )


def _finding(above: Floats, below: Floats, resamples: int, seed: int) -> tuple[Interval | None, Interval | None]:
    """AUROC and average precision of a score in finding the examples above the threshold."""
    from unmem.metrics import auc_interval, average_precision, average_precision_interval, roc_auc

    if len(above) == 0 or len(below) == 0:
        return None, None
    precision = average_precision_interval(above, below, resamples=resamples, seed=seed)
    return (
        Interval(roc_auc(above, below), *auc_interval(above, below)),
        Interval(average_precision(above, below), *precision),
    )


def _interval(measure: Any, x: Floats, y: NDArray[Any], draws: list[NDArray[np.int64]]) -> Interval | None:
    value = float(measure(x, y))
    if np.isnan(value):
        return None
    resampled = np.array([measure(x[draw], y[draw]) for draw in draws])
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def _spearman(x: Floats, y: Floats) -> float:
    from scipy.stats import rankdata

    a, b = (np.asarray(rankdata(values)) - (len(values) + 1) / 2 for values in (x, y))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


def _overlap(x: Floats, y: Floats) -> float:
    n = max(1, len(x) // 10)
    top = [set(np.argsort(-values, kind="stable")[:n].tolist()) for values in (x, y)]
    return len(top[0] & top[1]) / n
