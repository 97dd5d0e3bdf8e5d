"""What a retrained model would score on the forget set, without retraining one.

Predictions of each forget example by models that never saw it (a cross-fit, or the members of an ensemble that left it
out) are right about as often as a retrained model would be. Those models saw fewer examples: how much accuracy that
costs shows on unseen examples, beside the original. It is added where they are unsure: an example with the chance q of
being right gains in proportion to q (1 − q), so what is surely right or surely wrong stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from unmem.data import Examples
from unmem.ensembles import Ensemble
from unmem.errors import UserError
from unmem.evaluation.signals import positions
from unmem.evaluation.tug_of_war import tug_of_war
from unmem.memorization import CrossFit

Real = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True)
class Forecast:
    """The accuracy that one model retrained without the forget set would have on it, and the interval for that.

    raw: before what more training examples are worth was added. source: what it was made from.
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


def forecast(source: CrossFit | Ensemble, forget: Examples, *, unseen_accuracy: float) -> Forecast:
    """The forecast for the examples to forget. unseen_accuracy: of the original, on the holdout."""
    said = _from_folds(source, forget) if isinstance(source, CrossFit) else _from_members(source, forget)
    n, raw = len(forget), float(said.right.mean())
    ahead = 0.0 if said.unseen is None else unseen_accuracy - said.unseen
    moved = raw + ahead * float(said.doubt.mean()) / max(said.doubt_everywhere, 1e-9)
    # How far one model's accuracy strays around its expectation, and how well that is known: chances are independent
    # from example to example.
    half = norm.ppf((1 + LEVEL) / 2) * float(np.sqrt((said.doubt * (1 + 1 / said.counts)).sum())) / n
    accuracy, low, high = (float(np.clip(value, 0, 1)) for value in (moved, moved - half, moved + half))
    return Forecast(accuracy, low, high, raw, said.name, n)


@dataclass(frozen=True, eq=False)
class _Said:
    """What models that never saw them say of the forget examples.

    right: [n] share of them that is right. counts: [n] of how many. doubt: [n] q (1 − q). doubt_everywhere: its mean
    over the training set. unseen: their accuracy on unseen examples, None if it was not noted.
    """

    right: Real
    counts: Real
    doubt: Real
    doubt_everywhere: float
    unseen: float | None
    name: str


def _from_folds(source: CrossFit, forget: Examples) -> _Said:
    taken = source.take(forget.ids)
    labels = forget.labels.cpu().numpy()
    chance = np.exp(taken.log_probs[np.arange(len(labels)), labels].astype(np.float64))
    # Which label the others have is not kept, so their doubt is that of their largest class.
    largest = np.exp(source.log_probs.max(1).astype(np.float64))
    folds = source.settings.get("folds")
    return _Said(
        right=(taken.margin > 0).astype(np.float64),
        counts=np.ones(len(labels)),
        doubt=chance * (1 - chance),
        doubt_everywhere=float((largest * (1 - largest)).mean()),
        unseen=source.settings.get("unseen_accuracy"),
        name="a cross-fit" if folds is None else f"a cross-fit in {folds} folds",
    )


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
    return _Said(
        right=hits[where] / counts[where],
        counts=counts[where].astype(np.float64),
        doubt=doubt[where],
        doubt_everywhere=float(doubt[counts > 0].mean()),
        unseen=None if source.unseen is None else float(source.unseen.correct.mean()),
        name=f"{len(source)} members",
    )
