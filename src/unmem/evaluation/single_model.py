"""The single-model test: does this one model know its forget examples better, or worse, than models that never saw
them can explain?

Members of an ensemble that left example i out say what its log-odds are for a model that never saw it: mean μ_i, spread
s_i. For the model at hand

    t_i = (phi_i − shift(μ_i) − μ_i) / (s_i √(1 + 1/n_i)),    s_i² = (ν₀ s₀² + (n_i − 1) v_i) / (ν₀ + n_i − 1)

with v_i the variance over the n_i members, s₀² the mean of v, and Student's t with ν₀ + n_i − 1 degrees of freedom. An
example with t above the 97.5% point is under-forgotten, below the 2.5% point over-forgotten. The members saw fewer
examples than the model at hand: how much surer that makes it is learned from examples that nobody trained on. That it
also strays less is not taken into account, so a true retrain is called wrong a little less often than nominal.

Examples are not independent: all of them are judged on one model. How much shares vary from model to model is learned
from the members themselves, each tested against the others on the examples that it left out.
Shrunken variances: Smyth 2004; the members as shadow models: Carlini et al. 2022 (arXiv 2112.03570).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

from unmem.evaluation.lira import NU0, SMALLEST_SPREAD, clip_log_odds
from unmem.evaluation.signals import Signals

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]

TAIL = 0.025  # nominal share of each side
POWER = 0.8


@dataclass(frozen=True)
class Side:
    """One direction of the test on one set of examples.

    share: of the examples beyond the nominal 2.5% point. expected: the share that models that never saw them have.
    limit: with a share above it the set as a whole is called known (or over-forgotten), at a level of 2.5%.
    p: of a share as large by an honest model. detectable: the smallest share that would have been noticed with 80%
    power; None if no share would.
    """

    share: float
    expected: float
    limit: float
    p: float
    detectable: float | None

    @property
    def alarm(self) -> bool:
        return self.share > self.limit


@dataclass(frozen=True)
class SingleModelTest:
    """n: forget examples. under, over: known too well, known too badly. mean_t: mean of t, 0 = as never seen; rms:
    root mean square of t, 1 = as never seen. nothing: the share known too well that models have which saw them, so
    what doing nothing looks like to this test."""

    n: int
    under: Side
    over: Side
    mean_t: float
    rms: float
    nothing: float

    @property
    def blind(self) -> bool:
        """Whether doing nothing at all would have gone unnoticed: then no alarm says nothing."""
        return self.under.detectable is None or self.nothing < self.under.detectable


@dataclass(frozen=True, eq=False)
class Judge:
    """Members made ready to judge models on one forget set.

    null: [K, n] t of each member on what it left out, NaN elsewhere. seen: on what it was trained on. critical: [n].
    """

    members: Signals
    null: Real
    seen: Real
    critical: Real

    @classmethod
    def make(cls, members: Signals) -> Judge:
        """Each member is judged by the others, as the model at hand will be judged by all."""
        k, n = members.phi.shape
        null, seen = np.full((k, n), np.nan), np.full((k, n), np.nan)
        for j in range(k):
            rest = members.without(j)
            t = t_values(members.phi[j], members.unseen[j], rest)
            left = members.out[j]
            null[j, left], seen[j, ~left] = t[left], t[~left]
        return cls(members, null, seen, critical(members.out.sum(0)))

    def t(self, phi: Real, unseen: Real) -> Real:
        """t of each forget example, [n]; larger = known better. phi, unseen: log-odds of the model, [n] and [m]."""
        return t_values(phi, unseen, self.members)

    def test(self, t: Real, cell: NDArray[np.int64] | None = None) -> SingleModelTest:
        """The result on all forget examples, or on those of a `cell` (positions)."""
        chosen = np.arange(len(t)) if cell is None else cell
        t, null, seen, point = t[chosen], self.null[:, chosen], self.seen[:, chosen], self.critical[chosen]
        return SingleModelTest(
            n=len(t),
            under=_side(t > point, _beyond(null, point), len(t)),
            over=_side(t < -point, _beyond(-null, point), len(t)),
            mean_t=float(t.mean()),
            rms=float(np.sqrt((t**2).mean())),
            nothing=float(np.nanmean(_beyond(seen, point))) if np.isfinite(seen).any() else float("nan"),
        )


def t_values(phi: Real, unseen: Real, members: Signals) -> Real:
    """t of each forget example, [n], for a model with these log-odds on the forget set and on unseen examples."""
    n, theirs = members.out.sum(0), clip_log_odds(members.phi)
    mean = np.where(members.out, theirs, 0).sum(0) / n
    squares = np.where(members.out, (theirs - mean) ** 2, 0).sum(0)
    pooled = max(float(squares.sum() / (n - 1).sum()), SMALLEST_SPREAD**2)
    spread = np.sqrt((NU0 * pooled + squares) / (NU0 + n - 1) * (1 + 1 / n))
    return (
        clip_log_odds(phi) - mean - shift(mean, clip_log_odds(members.unseen).mean(0), clip_log_odds(unseen))
    ) / spread


def shift(at: Real, theirs: Real, ours: Real) -> Real:
    """How much surer than the members the model is of unseen examples that the members hold as sure as `at`.

    A straight line through (their mean log-odds, the difference), by least squares, held constant outside their range.
    """
    slope, start = np.polyfit(theirs, ours - theirs, 1) if np.ptp(theirs) > 0 else (0.0, float((ours - theirs).mean()))
    return start + slope * at.clip(theirs.min(), theirs.max())


def critical(n: NDArray[np.int64]) -> Real:
    """The 97.5% point of Student's t for examples that n members left out."""
    return np.asarray(student.ppf(1 - TAIL, NU0 + n - 1), dtype=np.float64)


def _beyond(t: Real, point: Real) -> Real:
    """1 where t is above the point, 0 where not, NaN where there is no t."""
    return np.where(np.isfinite(t), t > point, np.nan)


def _side(flagged: Mask, null: Real, n: int) -> Side:
    """null: [K, n] the same flags for members that never saw the examples, NaN where they did."""
    expected, common = null_moments(null)
    spread = np.sqrt(common + expected * (1 - expected) / n)
    limit = expected + norm.ppf(1 - TAIL) * spread
    share = float(flagged.mean())
    return Side(
        share, expected, float(limit), float(norm.sf((share - expected) / spread)), _detectable(limit, common, n)
    )


def null_moments(null: Real) -> tuple[float, float]:
    """The share that honest models have, and its variance from model to model beyond that of counting examples."""
    counts = np.isfinite(null).sum(1)
    rows = counts > 0
    counts, hits = counts[rows], np.nansum(null[rows], axis=1)
    share = float((hits.sum() + TAIL) / (counts.sum() + 1))  # never 0, which no finite number of members can show
    counted = share * (1 - share) / counts
    observed = (hits / counts - share) ** 2
    weights = counts / counts.sum()
    return share, max(0.0, float((weights * (observed - counted)).sum()))


def _detectable(limit: float, common: float, n: int) -> float | None:
    """The smallest share that ends above the limit with the probability POWER."""
    shares = np.linspace(0, 1, 1001)
    reached = norm.sf((limit - shares) / np.sqrt(common + shares * (1 - shares) / n + 1e-12))
    enough = shares[(reached >= POWER) & (shares > limit)]
    return float(enough[0]) if len(enough) else None
