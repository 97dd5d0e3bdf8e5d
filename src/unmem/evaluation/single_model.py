"""The single-model test: does this one model know its forget examples better, or worse, than models that never saw
them can explain?

Members of an ensemble that left example i out say what its log-odds are for a model that never saw it: mean μ_i over
n_i members, with variance v_i. The model at hand is another model: trained on more examples, perhaps at another
temperature or with label smoothing. What that does to its log-odds is read from *controls*, pairs of an unseen example
and a class, for which members and model are both honest. Among the `WINDOW` controls with μ nearest to μ_i:

    g(μ)  least-squares line through the model's log-odds of these controls
    r_i = (phi_i − g(μ_i)) / (s_i √(1 + 1/n_i)),       s_i² = (ν₀ s₀² + (n_i − 1) v_i) / (ν₀ + n_i − 1)
    t_i = 1.96 (r_i − r_50) / (r_97.5 − r_50) above the median, 1.96 (r_i − r_50) / (r_50 − r_2.5) below it

with s₀² the mean of v over the window, and r_q the quantiles of the controls' own r. So t is beyond ±1.96 for 2.5% of
the controls on either side by construction, whatever the scale, the shape and the shift of the model's log-odds, and
does not change when its log-odds are scaled. Above 1.96 an example is under-forgotten, below −1.96 over-forgotten.
Controls are read as forget examples are: each borrows the members of one of them, at random.

On a set of hard examples honest models may stray farther than controls do. So t is divided by as much as the members'
own t on the forget set needs for at most 2.5% of it to lie beyond ±1.96, if that is more than 1.

How many examples of an honest model lie beyond is learned from the members themselves, each judged by the others on the
examples that it left out (`null_share.py`); retrained models, where there are some, are judged in the same way, and
then a model must stand out from both. Assumptions: given its μ, a forget example is to an honest model what an unseen
example or class is; members do not know the forget set from the rest of it (copies, a whole class, a trigger).
Sources: shrunken variances, Smyth 2004; members as shadow models, Carlini et al. 2022 (arXiv 2112.03570). The
calibration by unseen examples and classes is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unmem.evaluation.lira import NU0, SMALLEST_SPREAD
from unmem.evaluation.null_share import Null
from unmem.evaluation.signals import Said, Signals

Real = NDArray[np.float64]
Index = NDArray[np.int64]

TAIL = 0.025  # nominal share of each side, and level of each side of a verdict
POINT = 1.96
POWER = 0.8
WINDOW = 200  # controls: 5 beyond each point
FEWEST_CONTROLS = 40  # one beyond each point
# Standard deviation, in units of t, of the shift of a whole set between members and retrained models that controls do
# not show: members kept most of the other forget examples, retrained models none. Seen: 0.0 to 0.4 (docs/evidence.md).
APART = 0.25
SMALLEST_RANGE = 0.05  # of r between its median and a point: models that all say the same still leave room for another


@dataclass(frozen=True)
class Side:
    """One direction of the test on one set of examples.

    Attributes:
        share: of the examples beyond ±1.96.
        expected: the share that models which never saw the examples have.
        limit: the largest share that raises no alarm, at the level of this set.
        p: chance of a share as large for an honest model.
        detectable: the smallest share that would raise the alarm with 80% power; None if no share would.
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
        n: forget examples.
        under: known too well.
        over: known too badly.
        mean_t: mean of t; 0 = as never seen.
        rms: root mean square of t; 1 = as never seen.
        nothing: share of examples that are under-forgotten by the members that were trained on them; None if there are
            none.
        covered: share of the examples with controls on both sides of their μ.
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
        """Whether doing nothing might have gone unnoticed, as far as members can tell."""
        return self.under.detectable is None or self.nothing is None or self.nothing < self.under.detectable


@dataclass(frozen=True, eq=False)
class Judge:
    """Members made ready to judge models on one forget set.

    Attributes:
        members: what they say.
        borrowed: [P] forget example whose members each control borrows.
        null: t of each member on what it left out.
        seen: [K, n] t of each member on what it was trained on, NaN elsewhere.
        covered: [n] whether an example has controls on both sides.
        stretch: by how much t is divided below 0 and above 0.
    """

    members: Signals
    borrowed: Index
    null: Null
    seen: Real
    covered: NDArray[np.bool_]
    stretch: tuple[float, float]
    _chances: dict[tuple[bytes, float], Real] = field(default_factory=dict[tuple[bytes, float], Real])

    @classmethod
    def make(cls, members: Signals) -> Judge:
        """Each member is judged by the others, as the model at hand will be judged by all."""
        k, n = members.phi.shape
        controls = members.controls.shape[1]
        borrowed = np.random.default_rng(0).integers(0, n, controls)
        forget, unseen = views(members, borrowed)
        null, seen = np.full((k, n), np.nan), np.full((k, n), np.nan)
        for j in range(k):
            # Of a member that left none of them out, or was trained on none, the other half is all that there is.
            t = t_values(Said(members.phi[j], members.controls[j]), forget.without(j), unseen.without(j))
            left = members.out[j]
            null[j, left], seen[j, ~left] = t[left], t[~left]
        windows = _windows(np.sort(unseen.mean), forget.mean)
        known = len(np.unique(windows))
        covered = (forget.mean >= unseen.mean.min()) & (forget.mean <= unseen.mean.max())
        stretch = _stretch(null)
        return cls(members, borrowed, Null(_shrunk(null, stretch), known), _shrunk(seen, stretch), covered, stretch)

    def t(self, said: Said, *, damaged: bool = False) -> Real:
        """t of each forget example, [n] float64; larger = known better.

        Args:
            said: what the model says.
            damaged: whether the model is wrong about unseen examples as well. Then its own controls are no measure, and
                those of the members stand in, the median over all members.
        """
        forget, controls = views(self.members, self.borrowed)
        theirs = self.members.controls if damaged else [said.controls]
        t: Real = np.median([t_values(Said(said.forget, one), forget, controls) for one in theirs], axis=0)
        return _shrunk(t, self.stretch)

    def test(
        self, t: Real, cell: Index | None = None, *, level: float = TAIL, retrained: Sequence[Real] = ()
    ) -> SingleModelTest:
        """The result on all forget examples, or on those of a `cell`.

        Args:
            t: [n] of the model.
            cell: positions of the examples, all by default.
            level: of each side, for this set.
            retrained: t of retrained models, [n] each; a share must stand out from theirs too.
        """
        chosen = np.arange(len(t)) if cell is None else cell
        members = Null(self.null.t[:, chosen], self.null.known)
        honest = Null(np.stack(retrained)[:, chosen], self.null.known) if len(retrained) else None
        values, seen = t[chosen], self.seen[:, chosen]

        def side(flagged: NDArray[np.bool_], point: float) -> Side:
            chance = self._chance(members, chosen, point)
            if honest is not None:
                chance = np.maximum(chance, honest.chance(len(chosen), point, like=members))
            return _side(flagged, chance, members.expected(point), level)

        return SingleModelTest(
            n=len(chosen),
            under=side(values > POINT, POINT),
            over=side(values < -POINT, -POINT),
            mean_t=float(values.mean()),
            rms=float(np.sqrt((values**2).mean())),
            nothing=float((seen[np.isfinite(seen)] > POINT).mean()) if np.isfinite(seen).any() else None,
            covered=float(self.covered[chosen].mean()),
        )

    def _chance(self, members: Null, chosen: Index, point: float) -> Real:
        """The same for every model, so computed once for each set and side."""
        key = (chosen.tobytes(), point)
        if key not in self._chances:
            self._chances[key] = members.chance(len(chosen), point, apart=APART)
        return self._chances[key]


def _stretch(null: Real) -> tuple[float, float]:
    """How much farther than ±1.96 the points lie that 2.5% of the members' own t are beyond; at least 1.

    The values of one example depend on each other. So the points are taken as from one value for each of n examples,
    (1 − 2.5%) (1 + 1/n), which leaves less than 2.5% beyond them, but at least half of that.
    """
    known = null[np.isfinite(null)]
    if len(known) < FEWEST_CONTROLS:
        return 1.0, 1.0
    inside = min((1 - TAIL) * (1 + 1 / null.shape[1]), 1 - TAIL / 2)
    low, high = np.quantile(known, [1 - inside, inside])
    return max(1.0, float(-low / POINT)), max(1.0, float(high / POINT))


def _shrunk(t: Real, stretch: tuple[float, float]) -> Real:
    return np.where(t > 0, t / stretch[1], t / stretch[0])


@dataclass(frozen=True, eq=False)
class View:
    """What members say of some examples or controls: sums over those that left each out.

    Attributes:
        phi: [K, N] log-odds, 0 where the member was trained on it.
        out: [K, N].
        total, squares, count: [N] sums of phi, of its square about `start`, and of members.
        start: [N], a value near the mean, so that squares lose no digits.
    """

    phi: Real
    out: NDArray[np.bool_]
    total: Real
    squares: Real
    count: Real
    start: Real

    @classmethod
    def of(cls, phi: Real, out: NDArray[np.bool_]) -> View:
        count = out.sum(0).astype(np.float64)
        start = np.where(out, phi, 0).sum(0) / count
        apart = np.where(out, phi - start, 0)
        return cls(apart, out, apart.sum(0), (apart**2).sum(0), count, start)

    @property
    def mean(self) -> Real:
        return self.start + self.total / self.count

    @property
    def deviations(self) -> Real:
        """Sum of squares around the mean, [N]."""
        return np.maximum(self.squares - self.total**2 / self.count, 0)

    def without(self, member: int) -> View:
        own = self.phi[member]
        left = self.out[member]
        return View(self.phi, self.out, self.total - own, self.squares - own**2, self.count - left, self.start)


def views(members: Signals, borrowed: Index) -> tuple[View, View]:
    """What members say of the forget examples, and of the controls."""
    return View.of(members.phi, members.out), View.of(members.controls, members.out[:, borrowed])


def t_values(said: Said, forget: View, controls: View) -> Real:
    """t of each forget example, [n] float64, for a model that says this; see the head of the file."""
    order = np.argsort(controls.mean, kind="stable")
    x, y = controls.mean[order], said.controls[order]
    windows = _windows(x, forget.mean)
    line = _Lines.through(x[windows], y[windows])
    loose = (controls.deviations[order][windows].sum(1), (controls.count[order][windows] - 1).sum(1))
    pooled = np.maximum(loose[0] / loose[1], SMALLEST_SPREAD**2)

    def scaled(residual: Real, view: View, index: Index | slice, pooled: Real) -> Real:
        n = view.count[index]
        spread = (NU0 * pooled + view.deviations[index]) / (NU0 + n - 1)
        return residual / np.sqrt(spread * (1 + 1 / n))

    theirs = scaled(y[windows] - line.at(x[windows]), controls, order[windows], pooled[:, None])
    ours = scaled(said.forget - line.at(forget.mean[:, None])[:, 0], forget, slice(None), pooled)
    # By this definition one more control lies beyond with the chance TAIL, also beyond a point of few controls.
    low, middle, high = np.quantile(theirs, [TAIL, 0.5, 1 - TAIL], axis=1, method="weibull")
    above, below = (np.maximum(one, SMALLEST_RANGE) for one in (high - middle, middle - low))
    gap = ours - middle
    return POINT * np.where(gap > 0, gap / above, gap / below)


@dataclass(frozen=True, eq=False)
class _Lines:
    """A least-squares line for each row of points: [n, 1] centre, height and slope."""

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
    """Positions of the controls nearest in rank to each value, [n, WINDOW]; x is sorted."""
    size = min(WINDOW, len(x))
    first = np.clip(np.searchsorted(x, at) - size // 2, 0, len(x) - size)
    return first[:, None] + np.arange(size)


def _side(flagged: NDArray[np.bool_], chance: Real, expected: float, level: float) -> Side:
    n, hits = len(flagged), int(flagged.sum())
    limit = int(np.argmax(chance < level)) - 1  # the chance of n + 1 is 0, so there is one
    return Side(
        share=hits / n,
        expected=expected,
        limit=limit / n,
        p=float(chance[hits]),
        detectable=_detectable(chance, limit, expected, n),
    )


def _detectable(chance: Real, limit: int, expected: float, n: int) -> float | None:
    """The smallest share, with honest examples beside those that are surely flagged, above the limit with `POWER`."""
    for sure in range(max(0, limit), n + 1):
        # Of the other n − sure examples as large a share is flagged by chance as of n.
        needed = int(np.ceil((limit + 1 - sure) * n / max(1, n - sure)))
        if limit < n and (needed <= 0 or (sure < n and needed <= n and chance[needed] >= POWER)):
            return (sure + (n - sure) * expected) / n
    return None
