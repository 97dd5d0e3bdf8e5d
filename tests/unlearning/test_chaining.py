"""Each step of RUM starts from the model that the step before it made."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import nn

import unmem as um


@dataclass(frozen=True)
class Halve:
    """Halves every parameter, so that a model tells how often it was unlearned."""

    name: ClassVar[str] = "halve"
    starts: list[nn.Module] = field(default_factory=list)

    def __call__(
        self, problem: um.Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[um.Observer] = ()
    ) -> nn.Module:
        model = problem.model if start is None else start
        self.starts.append(model)
        new = copy.deepcopy(model)
        with torch.no_grad():
            for p in new.parameters():
                p.mul_(0.5)
        return new


def test_steps_are_chained_also_when_nested(problem: um.Problem) -> None:
    ids = problem.data.train.ids
    scores = um.Scores("random", ids, np.random.default_rng(0).random(len(ids)))
    step = Halve()
    inner = um.RUM(scores, [step, step])
    result = um.RUM(scores, [step, inner, step])(problem, seed=0)
    assert step.starts[0] is problem.model
    assert len({id(model) for model in step.starts}) == 4
    for new, old in zip(result.parameters(), problem.model.parameters(), strict=True):
        torch.testing.assert_close(new, old / 16)
