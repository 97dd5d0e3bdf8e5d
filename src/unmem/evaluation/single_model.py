"""Single-model test: does one model predict its forget examples better, or worse, than models not trained on them?

For example i, the OUT members of an ensemble estimate the log-odds of the label under a model that was not trained on
i: mean μ_i over n_i members, with variance v_i. The tested model differs from the members: it was trained on more
examples, and perhaps at another temperature or with label smoothing. The effect on its log-odds is estimated from
*controls*, pairs of an unseen example and a class, on which neither members nor model were trained. Among the `WINDOW`
controls with μ nearest to μ_i:

    g(μ)  least-squares line through the model's log-odds of these controls
    r_i = (phi_i − g(μ_i)) / (s_i √(1 + 1/n_i)),       s_i² = (ν₀ s₀² + (n_i − 1) v_i) / (ν₀ + n_i − 1)
    t_i = 1.96 (r_i − r_50) / (r_97.5 − r_50) above the median, 1.96 (r_i − r_50) / (r_50 − r_2.5) below it

with s₀² the mean of v over the window, and r_q the quantiles of r over the controls. By construction, t exceeds 1.96
for 2.5% of the controls and is below −1.96 for another 2.5%, for any location, scale and shape of the log-odds of the
model. Scaling these log-odds does not change t. An example is under-forgotten if t > 1.96, and over-forgotten if
t < −1.96. Controls are treated like forget examples: each control uses the OUT members of a random forget example.

On a set of hard examples, t of models that were not trained on it may vary more than on controls. So t is divided by
the factor, if above 1, that leaves at most 2.5% of the t of the OUT members beyond each of ±1.96.

The null distribution of the number of flagged examples is estimated from the members, each tested against the other
members on its OUT examples (`null_share.py`). Retrained models, if given, are tested in the same way; a share must then
be significant under both null distributions.

Assumptions: given μ, a model that was not trained on the forget set treats a forget example like an unseen example with
some class; members learn nothing about a forget example from the rest of the forget set, as they would from copies,
a whole class or a trigger. Sources: shrunken variances, Smyth 2004; members as shadow models, Carlini et al. 2022
(arXiv 2112.03570). The calibration by unseen examples and classes is new here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unmem.evaluation.lira import MIN_SPREAD, NU0
from unmem.evaluation.log_odds import LogOdds, MemberLogOdds
from unmem.evaluation.null_share import Null

Real = NDArray[np.float64]
Index = NDArray[np.int64]

TAIL = 0.025  # nominal share on each side, and significance level on each side of a verdict
POINT = 1.96
POWER = 0.8
WINDOW = 200  # controls: 5 beyond each critical value
MIN_CONTROLS = 40  # one beyond each critical value
# Standard deviation, in units of t, of the shift of a whole set between members and retrained models that controls do
# not show: members were trained on most of the other forget examples, retrained models on none. Measured: 0.0 to 0.4
# (docs/evidence.md).
SHIFT_SD = 0.25
MIN_RANGE = 0.05  # smallest distance of r between its median and a quantile, for models with identical predictions


@dataclass(frozen=True)
class Side:
    """One direction of the test on one set of examples.

    Attributes:
        share: Share of the examples beyond the critical value.
        expected: Expected share for a model that was not trained on the examples.
        limit: Largest share that is not significant at the level of this set.
        p: Probability of at least this share for a model that was not trained on the examples.
        detectable: Smallest share that would be detected with a power of 80%; None if there is none.
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
    """The test on one set of examples.

    Attributes:
        n: Number of examples.
        under: Under-forgotten examples.
        over: Over-forgotten examples.
        mean_t: Mean of t; 0 = as expected without training on the examples.
        rms: Root mean square of t; 1 = as expected without training on the examples.
        nothing: Share of under-forgotten examples for IN members; None if there are none.
        covered: Share of the examples with controls on both sides of their μ.
    """

    n: int
    under: Side
    over: Side
    mean_t: float
    rms: float
    nothing: float | None
    covered: float

    @property
    def blind(self) -> bool:
        """Whether the test might not detect a model that forgot nothing, by the share of the IN members."""
        return self.under.detectable is None or self.nothing is None or self.nothing < self.under.detectable


@dataclass(frozen=True, eq=False)
class Judge:
    """Ensemble members prepared for testing models on one forget set.

    Attributes:
        members: Log-odds of the members.
        borrowed: [P] forget example whose OUT members each control uses.
        null: t of each member on its OUT examples.
        trained: [K, n] t of each member on its IN examples, NaN elsewhere.
        covered: [n] bool, whether an example has controls on both sides of its μ.
        scale: Divisors of negative and of positive t.
    """

    members: MemberLogOdds
    borrowed: Index
    null: Null
    trained: Real
    covered: NDArray[np.bool_]
    scale: tuple[float, float]
    _chances: dict[tuple[bytes, float], Real] = field(default_factory=dict[tuple[bytes, float], Real])

    @classmethod
    def make(cls, members: MemberLogOdds) -> Judge:
        """Test each member against the other members, as a model is later tested against all of them."""
        k, n = members.phi.shape
        controls = members.controls.shape[1]
        borrowed = np.random.default_rng(0).integers(0, n, controls)
        forget, unseen = out_moments(members, borrowed)
        null, trained = np.full((k, n), np.nan), np.full((k, n), np.nan)
        for j in range(k):
            t = t_values(LogOdds(members.phi[j], members.controls[j]), forget.without(j), unseen.without(j))
            left = members.out[j]
            null[j, left], trained[j, ~left] = t[left], t[~left]
        windows = _windows(np.sort(unseen.mean), forget.mean)
        known = len(np.unique(windows))
        covered = (forget.mean >= unseen.mean.min()) & (forget.mean <= unseen.mean.max())
        scale = _scale_factors(null)
        return cls(members, borrowed, Null(_rescaled(null, scale), known), _rescaled(trained, scale), covered, scale)

    def t(self, model: LogOdds, *, damaged: bool = False) -> Real:
        """Return t of each forget example, [n] float64; larger = predicted better.

        Args:
            model: Log-odds of the tested model.
            damaged: Whether the model is also worse on unseen examples. Then its controls cannot calibrate t, and the
                median of t over the controls of each member is used instead.
        """
        forget, controls = out_moments(self.members, self.borrowed)
        theirs = self.members.controls if damaged else [model.controls]
        t: Real = np.median([t_values(LogOdds(model.forget, one), forget, controls) for one in theirs], axis=0)
        return _rescaled(t, self.scale)

    def test(
        self, t: Real, cell: Index | None = None, *, level: float = TAIL, retrained: Sequence[Real] = ()
    ) -> SingleModelTest:
        """Test all forget examples, or those of a `cell`.

        Args:
            t: [n] t of the model.
            cell: Positions of the examples; all by default.
            level: Significance level of each side, for this set.
            retrained: [n] t of each retrained model; the share must also be significant under their distribution.
        """
        chosen = np.arange(len(t)) if cell is None else cell
        members = Null(self.null.t[:, chosen], self.null.known)
        retrained_null = Null(np.stack(retrained)[:, chosen], self.null.known) if len(retrained) else None
        values, trained = t[chosen], self.trained[:, chosen]

        def side(flagged: NDArray[np.bool_], point: float) -> Side:
            chance = self._chance(members, chosen, point)
            if retrained_null is not None:
                chance = np.maximum(chance, retrained_null.chance(len(chosen), point, like=members))
            return _side(flagged, chance, members.expected(point), level)

        return SingleModelTest(
            n=len(chosen),
            under=side(values > POINT, POINT),
            over=side(values < -POINT, -POINT),
            mean_t=float(values.mean()),
            rms=float(np.sqrt((values**2).mean())),
            nothing=float((trained[np.isfinite(trained)] > POINT).mean()) if np.isfinite(trained).any() else None,
            covered=float(self.covered[chosen].mean()),
        )

    def _chance(self, members: Null, chosen: Index, point: float) -> Real:
        """Return the null distribution, computed once per set and side because it does not depend on the model."""
        key = (chosen.tobytes(), point)
        if key not in self._chances:
            self._chances[key] = members.chance(len(chosen), point, shift_sd=SHIFT_SD)
        return self._chances[key]


def _scale_factors(null: Real) -> tuple[float, float]:
    """Return the ratio of the 2.5% quantiles of the t of OUT members to ±1.96; at least 1.

    The t of one example are dependent. So the quantiles are computed as if from one value for each of n examples, at
    (1 − 2.5%) (1 + 1/n). This leaves less than 2.5% beyond them, but at least half of that.
    """
    known = null[np.isfinite(null)]
    if len(known) < MIN_CONTROLS:
        return 1.0, 1.0
    inside = min((1 - TAIL) * (1 + 1 / null.shape[1]), 1 - TAIL / 2)
    low, high = np.quantile(known, [1 - inside, inside])
    return max(1.0, float(-low / POINT)), max(1.0, float(high / POINT))


def _rescaled(t: Real, scale: tuple[float, float]) -> Real:
    return np.where(t > 0, t / scale[1], t / scale[0])


@dataclass(frozen=True, eq=False)
class OutMoments:
    """Mean and variance of the log-odds of OUT members, per example or control.

    Attributes:
        phi: [K, N] log-odds minus `start`, 0 for IN members.
        out: [K, N] bool, True for OUT members.
        total, squares, count: [N] sums of phi and of its square, and the number of OUT members.
        start: [N] a value near the mean, which keeps the squares precise.
    """

    phi: Real
    out: NDArray[np.bool_]
    total: Real
    squares: Real
    count: Real
    start: Real

    @classmethod
    def of(cls, phi: Real, out: NDArray[np.bool_]) -> OutMoments:
        count = out.sum(0).astype(np.float64)
        start = np.where(out, phi, 0).sum(0) / count
        apart = np.where(out, phi - start, 0)
        return cls(apart, out, apart.sum(0), (apart**2).sum(0), count, start)

    @property
    def mean(self) -> Real:
        return self.start + self.total / self.count

    @property
    def deviations(self) -> Real:
        """Sum of squared deviations from the mean, [N]."""
        return np.maximum(self.squares - self.total**2 / self.count, 0)

    def without(self, member: int) -> OutMoments:
        own = self.phi[member]
        left = self.out[member]
        return OutMoments(self.phi, self.out, self.total - own, self.squares - own**2, self.count - left, self.start)


def out_moments(members: MemberLogOdds, borrowed: Index) -> tuple[OutMoments, OutMoments]:
    """Return the moments of the forget examples and of the controls."""
    return OutMoments.of(members.phi, members.out), OutMoments.of(members.controls, members.out[:, borrowed])


def t_values(model: LogOdds, forget: OutMoments, controls: OutMoments) -> Real:
    """Return t of each forget example, [n] float64, for the log-odds of a model; see the head of the file."""
    order = np.argsort(controls.mean, kind="stable")
    x, y = controls.mean[order], model.controls[order]
    windows = _windows(x, forget.mean)
    line = _Lines.through(x[windows], y[windows])
    loose = (controls.deviations[order][windows].sum(1), (controls.count[order][windows] - 1).sum(1))
    pooled = np.maximum(loose[0] / loose[1], MIN_SPREAD**2)

    def scaled(residual: Real, view: OutMoments, index: Index | slice, pooled: Real) -> Real:
        n = view.count[index]
        spread = (NU0 * pooled + view.deviations[index]) / (NU0 + n - 1)
        return residual / np.sqrt(spread * (1 + 1 / n))

    theirs = scaled(y[windows] - line.at(x[windows]), controls, order[windows], pooled[:, None])
    ours = scaled(model.forget - line.at(forget.mean[:, None])[:, 0], forget, slice(None), pooled)
    # With this definition a new control is beyond the quantile with probability TAIL, also if there are few controls.
    low, middle, high = np.quantile(theirs, [TAIL, 0.5, 1 - TAIL], axis=1, method="weibull")
    above, below = (np.maximum(one, MIN_RANGE) for one in (high - middle, middle - low))
    gap = ours - middle
    return POINT * np.where(gap > 0, gap / above, gap / below)


@dataclass(frozen=True, eq=False)
class _Lines:
    """Least-squares line for each row of points: centre, height and slope, [n, 1] each."""

    centre: Real
    height: Real
    slope: Real

    @classmethod
    def through(cls, x: Real, y: Real) -> _Lines:
        centre, height = x.mean(1, keepdims=True), y.mean(1, keepdims=True)
        width = ((x - centre) ** 2).sum(1, keepdims=True)
        slope = ((x - centre) * (y - height)).sum(1, keepdims=True) / np.maximum(width, 1e-12)
        return cls(centre, height, slope)

    def at(self, x: Real) -> Real:
        return self.height + self.slope * (x - self.centre)


def _windows(x: Real, at: Real) -> Index:
    """Return positions of the controls nearest in rank to each value, [n, WINDOW]; x is sorted."""
    size = min(WINDOW, len(x))
    first = np.clip(np.searchsorted(x, at) - size // 2, 0, len(x) - size)
    return first[:, None] + np.arange(size)


def _side(flagged: NDArray[np.bool_], chance: Real, expected: float, level: float) -> Side:
    n, hits = len(flagged), int(flagged.sum())
    limit = int(np.argmax(chance < level)) - 1  # exists, since P(count ≥ n + 1) = 0
    return Side(
        share=hits / n,
        expected=expected,
        limit=limit / n,
        p=float(chance[hits]),
        detectable=_detectable(chance, limit, expected, n),
    )


def _detectable(chance: Real, limit: int, expected: float, n: int) -> float | None:
    """Return the smallest share that exceeds the limit with `POWER`.

    `sure` examples are flagged with certainty, the others at the rate of the null distribution.
    """
    for sure in range(max(0, limit), n + 1):
        # The other n − sure examples are assumed to have the same share of flagged examples as n.
        needed = int(np.ceil((limit + 1 - sure) * n / max(1, n - sure)))
        if limit < n and (needed <= 0 or (sure < n and needed <= n and chance[needed] >= POWER)):
            return (sure + (n - sure) * expected) / n
    return None
