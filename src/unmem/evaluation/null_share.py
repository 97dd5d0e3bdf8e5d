"""Distribution of the number of examples with t beyond a critical value, for a model that was not trained on them.

The t of such models are estimated by ensemble members: each member gives one row, with the t of its OUT examples. The
count over n examples of one model is not binomial, because the t of a model are correlated and the probability of each
example is only estimated. So

    t_ki = f_k + e_ki,   f_k ~ N(0, s²) common to all examples of model k,   e_ki from the pooled rows themselves
    count | f, s ~ beta-binomial(n; h + ½, N' − h + ½),   h = (N'/N) · #{e > point − f},   N' = 1 / (1/N + 1/M)

with N values of e, and M controls that determine the critical values of the model. Both N and M limit the precision of
the estimated probability. The distribution of e is arbitrary: its tails may be heavy or skewed. The standard deviation
s has a posterior from the counts of the members, with a half-normal prior of scale `PRIOR`, in units of t.
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
CUT = 5.0  # t is clipped here before averaging, so that an outlier does not look like a common shift


@dataclass(frozen=True, eq=False)
class Null:
    """Null distribution: t of models that were not trained on the examples.

    Attributes:
        t: [K, n] float64, NaN where the model was trained on the example. Rows with only NaN are ignored.
        known: Number M of controls that determine the critical values of each model.
    """

    t: Real
    known: int

    def chance(self, n: int, point: float, *, like: Null | None = None, shift_sd: float = 0.0) -> Real:
        """Return P(count ≥ x) for x = 0 … n + 1, [n + 2].

        Args:
            n: Number of examples.
            point: Critical value of t. The count is of t above it, or below it if it is negative.
            like: Models from which s is estimated, if these are too few for it.
            shift_sd: Standard deviation, in units of t, of a further common shift that these models do not show.
        """
        rows = self._rows(np.sign(point))
        weights = (like or self)._rows(np.sign(point)).spread_posterior(abs(point), (like or self).known)
        distributions = np.stack([rows.count(n, abs(point), s, self.known, shift_sd) for s in SPREADS])
        probability = weights @ distributions
        above = np.append(np.cumsum(probability[::-1])[::-1], 0.0)
        return np.clip(above, 0.0, 1.0)

    def expected(self, point: float) -> float:
        """Return the expected share beyond `point`. It is above 0, because a finite sample cannot show 0."""
        rows = self._rows(np.sign(point))
        return float((rows.hits(abs(point)).sum() + 0.5) / (rows.counts.sum() + 1))

    def _rows(self, sign: float) -> _NullRows:
        some = np.isfinite(self.t).any(axis=1)
        return _NullRows.of(sign * self.t[some])


@dataclass(frozen=True, eq=False)
class _NullRows:
    """Rows of `Null.t`, [K, n], with `mask`, [K, n], True where t is known, and `counts` of these, [K].

    `means`, [K], are of t clipped at `CUT`, minus their mean. `within` is the variance of clipped t within a model.
    """

    t: Real
    mask: NDArray[np.bool_]
    counts: Real
    means: Real
    within: float

    @classmethod
    def of(cls, t: Real) -> _NullRows:
        there = np.isfinite(t)
        counts = there.sum(1).astype(np.float64)
        cut = np.where(there, t, 0).clip(-CUT, CUT)
        means = cut.sum(1) / counts
        squares = np.where(there, (cut - means[:, None]) ** 2, 0).sum()
        return cls(t, there, counts, means - means.mean(), float(squares / max(1.0, (counts - 1).sum())))

    def hits(self, point: float) -> Real:
        return np.where(self.mask, self.t > point, False).sum(1).astype(np.float64)

    def chances(self, point: float, s: float, known: int, shift_sd: float = 0.0) -> tuple[Real, float]:
        """Return h for each of `FACTORS`, and N'."""
        share = s**2 / (s**2 + self.within / self.counts + 1e-12)  # shrinkage of the mean, from its sampling error
        e: Real = np.sort((self.t - (share * self.means)[:, None])[self.mask])
        f = FACTORS * np.sqrt(s**2 * (1 + 1 / len(self.t)) + shift_sd**2)
        n_effective = 1 / (1 / len(e) + 1 / known)
        below: Any = np.searchsorted(e, point - np.asarray(f), side="right")
        return (len(e) - below) * (n_effective / len(e)), n_effective

    def count(self, n: int, point: float, s: float, known: int, shift_sd: float) -> Real:
        """Return the distribution of the count over n examples, [n + 1], for one s."""
        h, n_effective = self.chances(point, s, known, shift_sd)
        return _beta_binomial(n, h + 0.5, n_effective - h + 0.5).mean(0)

    def spread_posterior(self, point: float, known: int) -> Real:
        """Return posterior weights of `SPREADS`, from the differences between the counts of the members."""
        hits = self.hits(point)
        found = np.empty(len(SPREADS))
        for k, s in enumerate(SPREADS):
            h, n_effective = self.chances(point, s, known)
            chance = ((h + 0.5) / (n_effective + 1))[:, None]
            each = hits * np.log(chance) + (self.counts - hits) * np.log1p(-chance)
            found[k] = (logsumexp(each, axis=0) - np.log(len(h))).sum() - 0.5 * (s / PRIOR) ** 2
        total: Any = logsumexp(found)
        return np.exp(found - total)


def _beta_binomial(n: int, a: Real, b: Real) -> Real:
    """Return beta-binomial probabilities of 0 … n hits, [len(a), n + 1]."""
    x = np.arange(n + 1)
    log = gammaln(n + 1) - gammaln(x + 1) - gammaln(n - x + 1)
    return np.exp(log + betaln(x + a[:, None], n - x + b[:, None]) - betaln(a, b)[:, None])
