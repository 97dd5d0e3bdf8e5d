"""Relearning: does the confidence on the forget set increase when the model is trained on retained examples only?

Information that was only suppressed returns after brief training on other examples; information that a model never had
does not. The idea is from relearning attacks on unlearned models (Hu et al. 2024, arXiv 2406.13356), here restricted to
the retain set.

The mean rise is compared with that of m retrained models. Their confidence may rise, too, because they learn more about
what both sets have in common:

    t = (rise − mean rise of the retrained models − 1/n) / √(w (1 + 1/m)),    w = (ν₀ 2v/n + (m − 1) s²) / (ν₀ + m − 1)

Here v is the variance of the rises of a retrained model over the n forget examples, and s² is the variance of the mean
rise over retrained models. Two or three models give a poor estimate of s², so it is shrunk towards 2v/n with weight ν₀,
like the variances in the single-model test. p is one-sided, with ν₀ + m − 1 degrees of freedom. Without retrained
models, unseen examples are used instead. 1/n is the contribution of one example whose confidence rises from 0 to 1; a
smaller mean rise is not evidence. This term matters where retrained models are certain about every example, for example
about wrong labels. All rises and v are then close to 0, so v does not show how much models differ.
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
from unmem.evaluation.lira import NU0
from unmem.evaluation.logits import label_confidence
from unmem.training import fit
from unmem.unlearning import Problem

Real = NDArray[np.float64]
EPOCHS_SHARE = 0.1  # of the original's epochs
LR_SHARE = 0.1  # of its peak learning rate: enough to change the model without training a new one


@dataclass(frozen=True)
class Relearning:
    """Mean confidence of the label on the forget set, in [0, 1], before and after brief training on the retain set.

    Attributes:
        before, after: Mean confidence of the model.
        expected: Rise of retrained models, or of unseen examples without retrained models.
        p: One-sided p-value of the rise, see the head of the file.
    """

    before: float
    after: float
    expected: float | None = None
    p: float | None = None

    @property
    def rise(self) -> float:
        return self.after - self.before


@dataclass(frozen=True, eq=False)
class ConfidenceChange:
    """Confidence of the label per example, and its change by brief training on the retain set.

    Attributes:
        before: [n] confidence on the forget examples before the training.
        forget: [n] rise on the forget examples.
        unseen: [m] rise on the unseen examples.
    """

    before: Real
    forget: Real
    unseen: Real


def relearn(model: nn.Module, problem: Problem, *, seed: int = 0) -> ConfidenceChange:
    """Fine-tune a copy of the model on the retain set and return the change in confidence."""
    epochs = math.ceil(EPOCHS_SHARE * problem.recipe.epochs)
    recipe = replace(problem.recipe, epochs=epochs, lr=LR_SHARE * problem.recipe.lr)
    again = fit(copy.deepcopy(model), problem.retain, recipe, seed=seed)
    recompute_batchnorm(again, problem.retain)
    before = label_confidence(model, problem.forget)
    forget = label_confidence(again, problem.forget) - before
    return ConfidenceChange(
        before, forget, label_confidence(again, problem.holdout) - label_confidence(model, problem.holdout)
    )


def relearning(ours: ConfidenceChange, retrained: Sequence[ConfidenceChange] = ()) -> Relearning:
    """Test the rise on the forget set against that of retrained models or unseen examples; see the head of the file."""
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
    """Return the squared standard error of the mean; infinite for a single value."""
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else math.inf


def _chance(gap: float, squared_error: float, freedom: float) -> float:
    """Return the one-sided p-value of a gap."""
    if squared_error == math.inf:
        return 1.0
    if squared_error == 0:
        return 0.0 if gap > 0 else 1.0
    return float(student.sf(gap / math.sqrt(squared_error), freedom))
