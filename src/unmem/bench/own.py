"""Scores and unlearners of a user's own, named in a plan as FILE.py:NAME or package.module:NAME."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from unmem.data import Splits
from unmem.data.modules import module_at
from unmem.errors import UserError
from unmem.memorization import Scores
from unmem.recipe import Recipe
from unmem.unlearning import Unlearner


def is_own(name: str) -> bool:
    """Whether a name in a plan stands for a user's own code."""
    return ":" in name


def own_score(name: str, model: nn.Module, data: Splits, *, recipe: Recipe, seed: int) -> Scores:
    """Call a user's score.

    Args:
        name: FILE.py:FUNCTION. The function is called as `function(model, data, recipe=recipe, seed=seed)` and returns
            a `Scores`, or one number per training example in their order; larger = more memorized.
        model: The original.
        data: Its data.
        recipe: How it was trained.
        seed: Seed of everything random.

    Raises:
        UserError: The function cannot be imported, or returns something else.
    """
    found: Any = _imported(name)(model, data, recipe=recipe, seed=seed)
    if isinstance(found, Scores):
        return Scores(name, found.ids, found.values, found.error, found.settings)
    values = np.asarray(found, dtype=np.float64)
    if values.shape != (len(data.train),):
        raise UserError("scores", name, f"returned shape {values.shape}", "return one number per training example")
    return Scores(name, data.train.ids, values)


def own_unlearner(name: str, fields: Mapping[str, Any]) -> Unlearner:
    """Make a user's unlearner: call FILE.py:CLASS with its fields.

    Raises:
        UserError: The class cannot be imported, or does not make an unlearner.
    """
    found: Any = _imported(name)(**fields)
    if not isinstance(found, Unlearner):
        missing = [part for part in ("name", "cost", "tuned") if not hasattr(found, part)]
        lacks = f"it lacks {', '.join(missing)}" if missing else "it cannot be called"
        raise UserError("methods", name, f"does not make an unlearner: {lacks}", "see unmem.Unlearner")
    return found


def _imported(name: str) -> Any:
    place, _, attribute = name.rpartition(":")
    if place.endswith(".py") and not os.path.isfile(place):
        raise UserError("plan", name, "no such file", "check the path, which is relative to the current folder")
    try:
        return getattr(module_at(place), attribute)
    except Exception as error:
        problem = f"cannot be imported ({type(error).__name__}: {error})"
        raise UserError("plan", name, problem, "correct the file or its name") from error
