"""Forecast of the accuracy that a retrained model would have on the forget set, without retraining.

Models that were not trained on a forget example (fold models of a cross-fit, or OUT members of an ensemble) classify it
correctly about as often as a retrained model would. Those models were trained on fewer examples. The resulting loss of
accuracy is measured on unseen examples, relative to the original, and added where the models are uncertain: an example
that is classified correctly with probability q gains in proportion to q (1 − q). So examples that are certainly correct
or certainly wrong do not change. Targets of a short teacher or a trace are already calibrated on unseen examples to the
original: the forecast is their mean confidence.

The interval is for the accuracy of one retrained model. With a = accuracy, n examples and n_i models for each,

    a | s ~ N(mean, Σ q_i (1 − q_i) (1 + 1/n_i) / n² + s² (1 + 1/K) + correction²)

s is the standard deviation of the accuracy of one model on the set beyond sampling error, because the predictions of a
model are correlated across examples. Its posterior follows from the accuracies of the K members on the examples that
they were not trained on, each compared with the other members, with a half-normal prior of scale `PRIOR`. A cross-fit
and targets have one model per example, so s keeps the prior. `correction` is the adjustment for the size of the
training set; its uncertainty is taken to be as large as its value.
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
from unmem.evaluation.log_odds import positions
from unmem.evaluation.tug_of_war import tug_of_war
from unmem.memorization import CrossFit
from unmem.targets import Targets

Real = NDArray[np.float64]
LEVEL = 0.95
PRIOR = 0.05  # accuracies of models of one recipe on one set differ by a few percentage points
SPREADS: Real = np.linspace(0, 0.3, 61)  # values of s


@dataclass(frozen=True)
class Forecast:
    """Accuracy that one model retrained without the forget set would have on it, with an interval.

    Attributes:
        accuracy: Expected accuracy, in [0, 1].
        low, high: 95% interval for one retrained model.
        raw: Expected accuracy before the correction for the size of the training set.
        source: Source of the predictions.
        n: Number of forget examples.
    """

    accuracy: float
    low: float
    high: float
    raw: float
    source: str
    n: int

    def tow(self, forget: float, gaps: tuple[float, ...]) -> tuple[float, float, float]:
        """Return ToW of a model with this forget accuracy: value, lowest and highest over the interval.

        `gaps` are the differences of the other accuracies from those of the original, which replaces the retrained
        model there.
        """
        nearest = min(max(forget, self.low), self.high)
        ends = [tug_of_war(forget - end, *gaps) for end in (self.low, self.high)]
        return tug_of_war(forget - self.accuracy, *gaps), min(ends), tug_of_war(forget - nearest, *gaps)


def forecast(source: CrossFit | Ensemble | Targets, forget: Examples, *, unseen_accuracy: float) -> Forecast:
    """Forecast the accuracy on the forget examples. `unseen_accuracy` is that of the original on the holdout."""
    if isinstance(source, CrossFit):
        found = _from_folds(source, forget)
    else:
        found = _from_members(source, forget) if isinstance(source, Ensemble) else _from_targets(source, forget)
    n, raw = len(forget), float(found.correct.mean())
    gain = 0.0 if found.unseen_accuracy is None else unseen_accuracy - found.unseen_accuracy
    correction = gain * float(found.variance.mean()) / max(found.mean_variance, 1e-9)
    chance = float((found.variance * (1 + 1 / found.n_models)).sum()) / n**2
    weights = _posterior(found.deviations, found.sampling_variances)
    variances = chance + SPREADS**2 * (1 + 1 / max(1, len(found.deviations))) + correction**2
    half = _half_width(weights, np.sqrt(variances))
    accuracy, low, high = (
        float(np.clip(value, 0, 1)) for value in (raw + correction, raw + correction - half, raw + correction + half)
    )
    return Forecast(accuracy, low, high, raw, found.source, n)


def _posterior(deviations: Real, sampling_variances: Real) -> Real:
    """Return posterior weights of `SPREADS` from `deviations` and `sampling_variances` of `_Predictions`."""
    spread = np.sqrt(SPREADS[:, None] ** 2 + sampling_variances)
    log = norm.logpdf(deviations, scale=spread).sum(1) - 0.5 * (SPREADS / PRIOR) ** 2
    weights = np.exp(log - log.max())
    return weights / weights.sum()


def _half_width(weights: Real, spreads: Real) -> float:
    """Return half the width of the central interval at `LEVEL` of a mixture of normals with mean 0."""
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
class _Predictions:
    """Predictions of the forget examples by models that were not trained on them.

    Attributes:
        correct: [n] share of these models that are correct, or the probability of it.
        n_models: [n] number of these models.
        variance: [n] q (1 − q).
        mean_variance: Mean of q (1 − q) over the training set.
        unseen_accuracy: Accuracy of these models on unseen examples; None if it was not recorded.
        source: Description for users.
        deviations: [K] accuracy of each member on its OUT examples minus that of the other members.
        sampling_variances: [K] variance of the deviations by sampling alone.
    """

    correct: Real
    n_models: Real
    variance: Real
    mean_variance: float
    unseen_accuracy: float | None
    source: str
    deviations: Real
    sampling_variances: Real


def _from_folds(source: CrossFit, forget: Examples) -> _Predictions:
    taken = source.take(forget.ids)
    labels = forget.labels.cpu().numpy()
    chance = taken.confidence(labels)
    # A cross-fit does not store labels, so the mean over the training set uses the largest class.
    largest = source.largest
    folds = source.settings.get("folds")
    return _Predictions(
        correct=(taken.margin > 0).astype(np.float64),
        n_models=np.ones(len(labels)),
        variance=chance * (1 - chance),
        mean_variance=float((largest * (1 - largest)).mean()),
        unseen_accuracy=source.settings.get("unseen_accuracy"),
        source="a cross-fit" if folds is None else f"a cross-fit in {folds} folds",
        deviations=np.empty(0),
        sampling_variances=np.empty(0),
    )


def _from_targets(source: Targets, forget: Examples) -> _Predictions:
    chance = source.take(forget.ids).confidence(forget.labels.cpu().numpy())
    variance = chance * (1 - chance)
    return _Predictions(
        correct=chance,
        n_models=np.ones(len(chance)),
        variance=variance,
        mean_variance=float(variance.mean()),
        unseen_accuracy=None,
        source=_NAMES.get(source.source, source.source),
        deviations=np.empty(0),
        sampling_variances=np.empty(0),
    )


_NAMES = {
    "teacher": "a short teacher",
    "trace": "the trace of the original",
    "crossfit": "a cross-fit",
    "ensemble": "members",
}


def _from_members(source: Ensemble, forget: Examples) -> _Predictions:
    out = ~source.kept
    counts = out.sum(0)
    where = positions(source, forget.ids)
    if not counts[where].all():
        raise UserError("members", len(source), "some forget examples were in all of them", "use balanced masks")
    hits = (source.train.correct & out).sum(0)
    # A few trials never show a probability of 0 or 1 (Jeffreys' prior).
    likely = (hits + 0.5) / (counts + 1)
    variance = likely * (1 - likely)
    deviations, sampling_variances = _deviations(source.train.correct[:, where], out[:, where])
    return _Predictions(
        correct=hits[where] / counts[where],
        n_models=counts[where].astype(np.float64),
        variance=variance[where],
        mean_variance=float(variance[counts > 0].mean()),
        unseen_accuracy=None if source.unseen is None else float(source.unseen.correct.mean()),
        source=f"{len(source)} members",
        deviations=deviations,
        sampling_variances=sampling_variances,
    )


def _deviations(correct: NDArray[np.bool_], out: NDArray[np.bool_]) -> tuple[Real, Real]:
    """Return `deviations` and `sampling_variances` of `_Predictions` from correct and out, [K, n] each."""
    others = out.sum(0) - 1
    compared = out & (others > 0)
    rest = np.where(compared, ((correct & out).sum(0) - correct) / np.maximum(others, 1), 0)
    likely = np.where(compared, ((correct & out).sum(0) - correct + 0.5) / (others + 1), 0)
    n = compared.sum(1)
    some = n > 0
    gaps = np.where(compared, correct - rest, 0).sum(1)[some] / n[some]
    chance = np.where(compared, likely * (1 - likely) * (1 + 1 / np.maximum(others, 1)), 0).sum(1)[some] / n[some] ** 2
    return gaps, chance
