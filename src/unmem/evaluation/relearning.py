"""Retain-only relearning: does accuracy on the forget set come back when the model sees retained examples only?

What was merely hidden returns with a little training that has nothing to do with it; what a model never knew does not.
The rise is read beside that of a retrained model, which may rise too, by learning more of what both sets share.
Source of the idea: relearning attacks on unlearned models (Hu et al. 2024, arXiv 2406.13356), here
restricted to the retain set.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from unmem.evaluation.membership import label_confidence
from unmem.training import fit
from unmem.unlearning import Problem
from unmem.unlearning.unlearner import recompute_batchnorm

EPOCHS_SHARE = 0.1  # of the original's epochs
LR_SHARE = 0.1  # of its peak rate: enough to move the model, not to train a new one


@dataclass(frozen=True)
class Relearning:
    """Mean confidence of the label on the forget set, in [0, 1], before and after some training on the retain set."""

    before: float
    after: float

    @property
    def rise(self) -> float:
        return self.after - self.before


def relearn(model: nn.Module, problem: Problem, *, seed: int = 0) -> Relearning:
    """Fine-tune a copy of the model on the retain set and see what becomes of the forget set."""
    epochs = math.ceil(EPOCHS_SHARE * problem.recipe.epochs)
    recipe = replace(problem.recipe, epochs=epochs, lr=LR_SHARE * problem.recipe.lr)
    again = fit(copy.deepcopy(model), problem.retain, recipe, seed=seed)
    recompute_batchnorm(again, problem.retain)
    before, after = (float(np.mean(label_confidence(one, problem.forget))) for one in (model, again))
    return Relearning(before, after)
