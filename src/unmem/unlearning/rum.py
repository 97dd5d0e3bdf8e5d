"""RUM: refine the forget set by memorization, then unlearn its parts one after another.

    S = S_1 ∪ … ∪ S_K  by score;  step k:  forget S_k,  retain D \\ (S_1 ∪ … ∪ S_k)

Source: Zhao et al. 2024 (arXiv 2406.01257); with proxies in place of the exact score, arXiv 2410.16516.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from torch import nn

from unmem.data import Ids
from unmem.errors import UserError, one_of
from unmem.memorization import Scores
from unmem.training import Observer
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import Unlearner, settings_of

Order = Literal["low-to-high", "high-to-low"]
Pending = Literal["retain", "exclude"]


@dataclass(frozen=True)
class RUM:
    """An unlearner over unlearners.

    scores: what refines the forget set into `len(steps)` parts of equal size, larger = more memorized.
    steps: one unlearner a part, for the part first in order first. RUM^F is the same one at each step (`RUM.uniform`).
    order: "low-to-high" memorization, as in the paper, or the reverse.
    pending: "retain" keeps parts not yet forgotten in the retain set of earlier steps, as the paper's code does;
        "exclude" leaves them out. With "retain" the pending parts are trained on between steps, so the model between
        two steps is no result; only the last one is returned.
    """

    name: ClassVar[str] = "rum"
    scores: Scores
    steps: Sequence[Unlearner]
    order: Order = "low-to-high"
    pending: Pending = "retain"

    def __post_init__(self) -> None:
        one_of("order", self.order, get_args(Order))
        one_of("pending", self.pending, get_args(Pending))
        if len(self.steps) == 0:
            raise UserError("steps", None, "RUM needs at least one step", "give one unlearner for each part")

    @classmethod
    def uniform(cls, scores: Scores, unlearner: Unlearner, *, parts: int = 3) -> RUM:
        """RUM^F: one algorithm for every part."""
        return cls(scores, [unlearner] * parts)

    def __call__(
        self, model: nn.Module, problem: Problem, *, seed: int, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        parts = self.refine(problem)
        for k, (part, unlearner) in enumerate(zip(parts, self.steps, strict=True)):
            others = parts[:k] if self.pending == "retain" else parts[:k] + parts[k + 1 :]
            step = problem.part(part, without=_join(others))
            # Each step after the first has a seed of its own: with one for all, each would draw the same batches.
            model = unlearner(model, step, seed=_step_seed(seed, k), observers=observers)
        return model

    def refine(self, problem: Problem) -> list[Ids]:
        """The parts of the forget set, in the order in which they are unlearned."""
        parts = self.scores.parts(len(self.steps), among=problem.forget.ids)
        # Within a part the order of the request: a part that is all of it is then the very same problem.
        parts = [problem.forget.ids[np.isin(problem.forget.ids, part)] for part in parts]
        return parts if self.order == "low-to-high" else parts[::-1]

    def settings(self) -> dict[str, Any]:
        return {
            "score": self.scores.name,
            "steps": [settings_of(step) for step in self.steps],
            "order": self.order,
            "pending": self.pending,
        }


def _join(parts: list[Ids]) -> Ids:
    return np.concatenate(parts) if parts else np.empty(0, dtype="<U1")


def _step_seed(seed: int, k: int) -> int:
    return seed if k == 0 else int(np.random.SeedSequence([seed, k]).generate_state(1)[0])
