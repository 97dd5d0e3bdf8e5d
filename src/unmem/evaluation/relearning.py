"""Retain-only relearning: does confidence on the forget set come back when the model sees retained examples only?

What was merely hidden returns with a little training that has nothing to do with it; what a model never knew does not.
Source of the idea: relearning attacks on unlearned models (Hu et al. 2024, arXiv 2406.13356), here restricted to the
retain set.

The mean rise is held against that of m retrained models, which may rise too, by learning more of what both sets share:

    t = (rise − mean rise of the retrained models − 1/n) / √(w (1 + 1/m)),    w = (ν₀ 2v/n + (m − 1) s²) / (ν₀ + m − 1)

with v the variance of a retrained model's rises over the n forget examples, and s² that of the mean rise over retrained
models, which two or three of them hardly tell: so it is drawn to 2v/n with the weight ν₀, as variances are in the
single-model test. p is one-sided, with ν₀ + m − 1 degrees of freedom. Without retrained models unseen examples stand
in. 1/n is what one example adds that comes back in full; less than that is nothing that came back. It matters where
honest models are sure of every example, as of wrong labels: all rises are then next to 0, and so is v, which says
nothing of how far models differ.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import nn

from unmem.batchnorm import recompute_batchnorm
from unmem.evaluation.answers import label_confidence
from unmem.evaluation.lira import NU0
from unmem.training import fit
from unmem.unlearning import Problem

Real = NDArray[np.float64]
EPOCHS_SHARE = 0.1  # of the original's epochs
LR_SHARE = 0.1  # of its peak rate: enough to move the model, not to train a new one


@dataclass(frozen=True)
class Relearning:
    """Mean confidence of the label on the forget set, in [0, 1], before and after some training on the retain set.

    Attributes:
        before, after: of this model.
        expected: the rise of retrained models, or of unseen examples where there are none.
        p: chance of a rise as large by a model that never saw the forget set and gains up to one example of it.
    """

    before: float
    after: float
    expected: float | None = None
    p: float | None = None

    @property
    def rise(self) -> float:
        return self.after - self.before


@dataclass(frozen=True, eq=False)
class Rises:
    """Confidence of the label before training on the retain set, and by how much it rises, example by example.

    Attributes:
        before: [n] on the forget set.
        forget: [n] rise of each forget example.
        unseen: [m] rise of each unseen example.
    """

    before: Real
    forget: Real
    unseen: Real


def relearn(model: nn.Module, problem: Problem, *, seed: int = 0) -> Rises:
    """Fine-tune a copy of the model on the retain set and see what becomes of the forget set."""
    epochs = math.ceil(EPOCHS_SHARE * problem.recipe.epochs)
    recipe = replace(problem.recipe, epochs=epochs, lr=LR_SHARE * problem.recipe.lr)
    again = fit(copy.deepcopy(model), problem.retain, recipe, seed=seed)
    recompute_batchnorm(again, problem.retain)
    before = label_confidence(model, problem.forget)
    forget = label_confidence(again, problem.forget) - before
    return Rises(before, forget, label_confidence(again, problem.holdout) - label_confidence(model, problem.holdout))


def relearning(ours: Rises, retrained: Sequence[Rises] = ()) -> Relearning:
    """Whether the forget set comes back more than it should; see the head of the file."""
    n, rise, before = len(ours.forget), float(ours.forget.mean()), float(ours.before.mean())
    if retrained:
        theirs = np.stack([one.forget for one in retrained])
        m, expected = len(retrained), float(theirs.mean())
        chance = float(np.mean([_error(one.forget) for one in retrained]))
        spread = (m - 1) * float(theirs.mean(1).var(ddof=1)) if m > 1 else 0.0
        squared = (NU0 * 2 * chance + spread) / (NU0 + m - 1) * (1 + 1 / m)
        freedom = NU0 + m - 1
    else:
        expected = float(ours.unseen.mean()) if len(ours.unseen) else 0.0
        squared, freedom = _error(ours.forget) + _error(ours.unseen), min(n, len(ours.unseen)) - 1
    return Relearning(before, before + rise, expected, _chance(rise - expected - 1 / n, squared, freedom))


def _error(values: Real) -> float:
    """Squared standard error of the mean; infinite from one value."""
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else math.inf


def _chance(gap: float, squared_error: float, freedom: float) -> float:
    """One-sided p of a gap."""
    if squared_error == math.inf:
        return 1.0
    if squared_error == 0:
        return 0.0 if gap > 0 else 1.0
    return float(student.sf(gap / math.sqrt(squared_error), freedom))
