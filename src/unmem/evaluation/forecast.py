"""What a retrained model would score on the forget set, without retraining one.

Predictions of each forget example by models that never saw it (a cross-fit, or the members of an ensemble that left it
out) are right about as often as a retrained model would be. Those models saw fewer examples: how much accuracy that
costs shows on unseen examples, beside the original. It is added where they are unsure: an example with the chance q of
being right gains in proportion to q (1 − q), so what is surely right or surely wrong stays. Targets of a short teacher
or a trace are calibrated on unseen examples beside the original already: the forecast is their mean confidence.

The interval is for the accuracy of one retrained model. With a = accuracy, n examples and n_i models for each,

    a | s ~ N(mean, Σ q_i (1 − q_i) (1 + 1/n_i) / n² + s² (1 + 1/K) + moved²)

s is how far one model's accuracy on the set strays beyond chance, since the examples of a set move together. It has a
posterior from how far the members' accuracies on what they left out stray, each held against the others, with a
half-normal prior of scale `PRIOR`; a cross-fit and targets, which have one model for each example, leave the prior.
`moved` is what was added for the size of the training set, which is as uncertain as it is large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from unmem.data import Examples
from unmem.ensembles import Ensemble
from unmem.errors import UserError
from unmem.evaluation.signals import positions
from unmem.evaluation.tug_of_war import tug_of_war
from unmem.memorization import CrossFit
from unmem.targets import Targets

Real = NDArray[np.float64]
LEVEL = 0.95
PRIOR = 0.05  # accuracies of models of one recipe on one set stray by a few points
STRAYS: Real = np.linspace(0, 0.3, 61)  # values of s


@dataclass(frozen=True)
class Forecast:
    """The accuracy that one model retrained without the forget set would have on it, and the interval for that.

    Attributes:
        accuracy: expected, in [0, 1].
        low, high: 95% interval for one retrained model.
        raw: before what more training examples are worth was added.
        source: what it was made from.
        n: forget examples.
    """

    accuracy: float
    low: float
    high: float
    raw: float
    source: str
    n: int

    def tow(self, forget: float, gaps: tuple[float, ...]) -> tuple[float, float, float]:
        """ToW of a model with this forget accuracy: value, lowest, highest over the interval.

        gaps: differences in the other accuracies, where the original stands for the retrained model.
        """
        nearest = min(max(forget, self.low), self.high)
        ends = [tug_of_war(forget - end, *gaps) for end in (self.low, self.high)]
        return tug_of_war(forget - self.accuracy, *gaps), min(ends), tug_of_war(forget - nearest, *gaps)


def forecast(source: CrossFit | Ensemble | Targets, forget: Examples, *, unseen_accuracy: float) -> Forecast:
    """The forecast for the examples to forget. unseen_accuracy: of the original, on the holdout."""
    if isinstance(source, CrossFit):
        said = _from_folds(source, forget)
    else:
        said = _from_members(source, forget) if isinstance(source, Ensemble) else _from_targets(source, forget)
    n, raw = len(forget), float(said.right.mean())
    ahead = 0.0 if said.unseen is None else unseen_accuracy - said.unseen
    moved = ahead * float(said.doubt.mean()) / max(said.doubt_everywhere, 1e-9)
    chance = float((said.doubt * (1 + 1 / said.counts)).sum()) / n**2
    weights = _posterior(said.strays, said.strays_by_chance)
    variances = chance + STRAYS**2 * (1 + 1 / max(1, len(said.strays))) + moved**2
    half = _half_width(weights, np.sqrt(variances))
    accuracy, low, high = (
        float(np.clip(value, 0, 1)) for value in (raw + moved, raw + moved - half, raw + moved + half)
    )
    return Forecast(accuracy, low, high, raw, said.name, n)


def _posterior(strays: Real, by_chance: Real) -> Real:
    """Weights of `STRAYS` from each member's gap to the others on the set, and its variance by chance, [K] each."""
    spread = np.sqrt(STRAYS[:, None] ** 2 + by_chance)
    log = norm.logpdf(strays, scale=spread).sum(1) - 0.5 * (STRAYS / PRIOR) ** 2
    weights = np.exp(log - log.max())
    return weights / weights.sum()


def _half_width(weights: Real, spreads: Real) -> float:
    """Half of the central interval at `LEVEL` of a mixture of normals with mean 0."""
    largest = float(spreads.max())
    if largest == 0:
        return 0.0
    spreads = np.maximum(spreads, 1e-12)
    tail = (1 - LEVEL) / 2

    def beyond(half: float) -> float:
        return float(weights @ norm.sf(half / spreads)) - tail

    found: Any = brentq(beyond, 0.0, 10 * largest)
    return float(found)


@dataclass(frozen=True, eq=False)
class _Said:
    """What models that never saw them say of the forget examples.

    Attributes:
        right: [n] share of them that is right, or the chance of it.
        counts: [n] of how many.
        doubt: [n] q (1 − q).
        doubt_everywhere: its mean over the training set.
        unseen: their accuracy on unseen examples, None if it was not noted.
        name: in words.
        strays, strays_by_chance: [K] by how much more of what it left out each member gets right than the others do,
            and the variance of that by chance.
    """

    right: Real
    counts: Real
    doubt: Real
    doubt_everywhere: float
    unseen: float | None
    name: str
    strays: Real
    strays_by_chance: Real


def _from_folds(source: CrossFit, forget: Examples) -> _Said:
    taken = source.take(forget.ids)
    labels = forget.labels.cpu().numpy()
    chance = taken.confidence(labels)
    # Which label the others have is not kept, so their doubt is that of their largest class.
    largest = source.largest
    folds = source.settings.get("folds")
    return _Said(
        right=(taken.margin > 0).astype(np.float64),
        counts=np.ones(len(labels)),
        doubt=chance * (1 - chance),
        doubt_everywhere=float((largest * (1 - largest)).mean()),
        unseen=source.settings.get("unseen_accuracy"),
        name="a cross-fit" if folds is None else f"a cross-fit in {folds} folds",
        strays=np.empty(0),
        strays_by_chance=np.empty(0),
    )


def _from_targets(source: Targets, forget: Examples) -> _Said:
    chance = source.take(forget.ids).confidence(forget.labels.cpu().numpy())
    doubt = chance * (1 - chance)
    return _Said(
        right=chance,
        counts=np.ones(len(chance)),
        doubt=doubt,
        doubt_everywhere=float(doubt.mean()),
        unseen=None,
        name=_NAMES.get(source.source, source.source),
        strays=np.empty(0),
        strays_by_chance=np.empty(0),
    )


_NAMES = {
    "teacher": "a short teacher",
    "trace": "the trace of the original",
    "crossfit": "a cross-fit",
    "ensemble": "members",
}


def _from_members(source: Ensemble, forget: Examples) -> _Said:
    out = ~source.kept
    counts = out.sum(0)
    where = positions(source, forget.ids)
    if not counts[where].all():
        raise UserError("members", len(source), "some forget examples were in all of them", "use balanced masks")
    hits = (source.train.correct & out).sum(0)
    # A chance that was seen a few times is never known to be 0 or 1 (Jeffreys' prior).
    likely = (hits + 0.5) / (counts + 1)
    doubt = likely * (1 - likely)
    strays, by_chance = _strays(source.train.correct[:, where], out[:, where])
    return _Said(
        right=hits[where] / counts[where],
        counts=counts[where].astype(np.float64),
        doubt=doubt[where],
        doubt_everywhere=float(doubt[counts > 0].mean()),
        unseen=None if source.unseen is None else float(source.unseen.correct.mean()),
        name=f"{len(source)} members",
        strays=strays,
        strays_by_chance=by_chance,
    )


def _strays(correct: NDArray[np.bool_], out: NDArray[np.bool_]) -> tuple[Real, Real]:
    """See `_Said`; correct, out: [K, n]."""
    others = out.sum(0) - 1
    judged = out & (others > 0)
    rest = np.where(judged, ((correct & out).sum(0) - correct) / np.maximum(others, 1), 0)
    likely = np.where(judged, ((correct & out).sum(0) - correct + 0.5) / (others + 1), 0)
    n = judged.sum(1)
    some = n > 0
    gaps = np.where(judged, correct - rest, 0).sum(1)[some] / n[some]
    chance = np.where(judged, likely * (1 - likely) * (1 + 1 / np.maximum(others, 1)), 0).sum(1)[some] / n[some] ** 2
    return gaps, chance
