"""How many examples of a set does an honest model have beyond a point? The distribution of that count.

The t of honest models are known from ensemble members: one row for each, over the examples that it left out. A count
over n examples of one model is not binomial, since the examples of a model move together, and the chance of each is
itself only estimated. So

    t_ki = f_k + e_ki,   f_k ~ N(0, s²) common to all examples of model k,   e_ki from the pooled rows themselves
    count | f, s ~ beta-binomial(n; h + ½, N' − h + ½),   h = (N'/N) · #{e > point − f},   N' = 1 / (1/N + 1/M)

with N values of e, and M unseen examples and classes by which the model's own points are set: both limit how well the
chance is known. Nothing is assumed of the shape of e: tails may be heavy or skew. How far models move, s, has a
posterior from the members' own counts, with a half-normal prior of scale `PRIOR`, in units of t.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln, logsumexp
from scipy.stats import norm

Real = NDArray[np.float64]

PRIOR = 0.75
SPREADS: Real = np.linspace(0, 1.5, 26)  # values of s
FACTORS: Real = np.asarray(norm.ppf((np.arange(41) + 0.5) / 41))  # values of f / s, equally likely
CUT = 5.0  # of t, where means are taken: one outlier must not pass for a common shift


@dataclass(frozen=True, eq=False)
class Null:
    """Honest models.

    Attributes:
        t: [K, n] float64, NaN where the model was trained on the example; rows without any value are left out.
        known: number of unseen examples and classes that set each model's points.
    """

    t: Real
    known: int

    def chance(self, n: int, point: float, *, like: Null | None = None, apart: float = 0.0) -> Real:
        """P(count ≥ x) for x = 0 … n + 1 examples beyond `point` of n, [n + 2]; below −point if it is negative.

        Args:
            n: examples that are counted.
            point: of t, 1.96 for one side and −1.96 for the other.
            like: where s is learned, if these models are too few for it.
            apart: standard deviation, in units of t, of a common shift that these models cannot show.
        """
        rows = self._rows(np.sign(point))
        weights = (like or self)._rows(np.sign(point)).spread_posterior(abs(point), (like or self).known)
        parts = np.stack([rows.count(n, abs(point), s, self.known, apart) for s in SPREADS])
        probability = weights @ parts
        above = np.append(np.cumsum(probability[::-1])[::-1], 0.0)
        return np.clip(above, 0.0, 1.0)

    def expected(self, point: float) -> float:
        """The share that these models have beyond `point`, never 0: no finite number of models can show that."""
        rows = self._rows(np.sign(point))
        return float((rows.hits(abs(point)).sum() + 0.5) / (rows.counts.sum() + 1))

    def _rows(self, sign: float) -> _Rows:
        some = np.isfinite(self.t).any(axis=1)
        return _Rows.of(sign * self.t[some])


@dataclass(frozen=True, eq=False)
class _Rows:
    """t: [K, n] with NaN. there: where it is known. counts, means: [K] of it. within: variance of t inside a model."""

    t: Real
    there: NDArray[np.bool_]
    counts: Real
    means: Real
    within: float

    @classmethod
    def of(cls, t: Real) -> _Rows:
        there = np.isfinite(t)
        counts = there.sum(1).astype(np.float64)
        cut = np.where(there, t, 0).clip(-CUT, CUT)
        means = cut.sum(1) / counts
        squares = np.where(there, (cut - means[:, None]) ** 2, 0).sum()
        return cls(t, there, counts, means - means.mean(), float(squares / max(1.0, (counts - 1).sum())))

    def hits(self, point: float) -> Real:
        return np.where(self.there, self.t > point, False).sum(1).astype(np.float64)

    def chances(self, point: float, s: float, known: int, apart: float = 0.0) -> tuple[Real, float]:
        """h for each of `FACTORS`, and N'."""
        share = s**2 / (s**2 + self.within / self.counts + 1e-12)  # of a mean of t that is the model's and not chance
        e: Real = np.sort((self.t - (share * self.means)[:, None])[self.there])
        f = FACTORS * np.sqrt(s**2 * (1 + 1 / len(self.t)) + apart**2)
        worth = 1 / (1 / len(e) + 1 / known)
        below: Any = np.searchsorted(e, point - np.asarray(f), side="right")
        return (len(e) - below) * (worth / len(e)), worth

    def count(self, n: int, point: float, s: float, known: int, apart: float) -> Real:
        """Distribution of the count over n examples, [n + 1], for one s."""
        h, worth = self.chances(point, s, known, apart)
        return _beta_binomial(n, h + 0.5, worth - h + 0.5).mean(0)

    def spread_posterior(self, point: float, known: int) -> Real:
        """Weights of `SPREADS`, from how much the members' counts differ."""
        hits = self.hits(point)
        found = np.empty(len(SPREADS))
        for k, s in enumerate(SPREADS):
            h, worth = self.chances(point, s, known)
            chance = ((h + 0.5) / (worth + 1))[:, None]
            each = hits * np.log(chance) + (self.counts - hits) * np.log1p(-chance)
            found[k] = (logsumexp(each, axis=0) - np.log(len(h))).sum() - 0.5 * (s / PRIOR) ** 2
        total: Any = logsumexp(found)
        return np.exp(found - total)


def _beta_binomial(n: int, a: Real, b: Real) -> Real:
    """[len(a), n + 1] probabilities of 0 … n hits."""
    x = np.arange(n + 1)
    log = gammaln(n + 1) - gammaln(x + 1) - gammaln(n - x + 1)
    return np.exp(log + betaln(x + a[:, None], n - x + b[:, None]) - betaln(a, b)[:, None])
