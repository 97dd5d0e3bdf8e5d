"""Statistics over seeds: intervals, paired differences, equivalence and growth exponents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over runs with its t-interval.

    Attributes:
        mean: Mean of the runs.
        low: Lower end of the 95% interval; NaN for a single run.
        high: Upper end.
        runs: The value of each run, in the order of the seeds.
    """

    mean: float
    low: float
    high: float
    runs: tuple[float, ...]

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.runs)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; an interval that does not exist is None."""
        known = self.n > 1
        return {
            "mean": self.mean,
            "low": self.low if known else None,
            "high": self.high if known else None,
            "n": self.n,
            "runs": list(self.runs),
        }


def estimate(values: Sequence[float | None]) -> Estimate | None:
    """Return the mean of some runs and its 95% t-interval, mean ± t · s / √n.

    Args:
        values: One value per run.

    Returns:
        The estimate; None if there are no runs or a run has no value, because the mean of the others would be biased
        by what made it fail.
    """
    runs = [value for value in values if value is not None and np.isfinite(value)]
    if not runs or len(runs) < len(values):
        return None
    mean = float(np.mean(runs))
    half = half_width(runs, LEVEL)
    return Estimate(mean, mean - half, mean + half, tuple(runs))


def paired(first: Sequence[float | None], second: Sequence[float | None]) -> Estimate | None:
    """Return the mean difference first − second over runs that share their seeds, with its interval."""
    return estimate([None if a is None or b is None else a - b for a, b in zip(first, second, strict=True)])


def half_width(runs: Sequence[float], level: float) -> float:
    """Return half of the t-interval of a mean; NaN for a single run."""
    n = len(runs)
    if n < 2:
        return float("nan")
    return float(stats.t.ppf((1 + level) / 2, n - 1) * np.std(runs, ddof=1) / np.sqrt(n))


def equivalent(difference: Estimate, margin: float, *, level: float = 0.05) -> bool:
    """Whether a mean difference lies within ±margin, by two one-sided t-tests (Schuirmann 1987).

    Both tests reject at `level` exactly if the (1 − 2 · level) interval of the difference lies within ±margin. A
    difference that is merely not significant is not equivalent.
    """
    half = half_width(difference.runs, 1 - 2 * level)
    return abs(difference.mean) + half < margin


def exponent(sizes: Sequence[float], values: Sequence[float]) -> Estimate | None:
    """Fit value ∝ size^b by least squares on logarithms.

    Args:
        sizes: Positive sizes.
        values: Positive values.

    Returns:
        b with its 95% interval and, as `runs`, the slope between each size and the next; None for fewer than three
        sizes, which leave no residual to judge the fit by.
    """
    if len(sizes) < 3:
        return None
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(values, float))
    fit: Any = stats.linregress(x, y)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(x) - 2) * fit.stderr)
    slope = float(fit.slope)
    return Estimate(slope, slope - half, slope + half, tuple((np.diff(y) / np.diff(x)).tolist()))
