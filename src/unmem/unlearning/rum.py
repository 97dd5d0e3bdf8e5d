"""RUM: divide the forget set into parts by memorization, and unlearn one part after another.

    S = S_1 ∪ … ∪ S_K  by score;  step k:  forget S_k,  retain D \\ (S_1 ∪ … ∪ S_k)

Source: Zhao et al. 2024 (arXiv 2406.01257); with proxies in place of the exact score, arXiv 2410.16516.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from torch import nn

from unmem.data import Ids
from unmem.errors import DivergedError, UserError, one_of
from unmem.memorization import Scores
from unmem.training import Observer
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import Setting, Unlearner, settings_of

Order = Literal["low-to-high", "high-to-low"]
Pending = Literal["retain", "exclude"]


@dataclass(frozen=True)
class RUM:
    """Divide the forget set into parts by a score, and unlearn one part after another.

    Attributes:
        scores: The score that divides the forget set into `len(steps)` RUM parts; larger = more memorized.
        steps: One unlearner per part, for the part that comes first in `order` first. A step may be a RUM itself. RUM^F
            is the same unlearner at each step (`RUM.uniform`).
        order: "low-to-high" memorization, as in the paper, or "high-to-low".
        pending: "retain" keeps parts that are not yet forgotten in the retain set of earlier steps, as the paper's code
            does; "exclude" leaves them out. With "retain" the pending parts are trained on between steps, so
            intermediate models are not results; only the last one is returned.
        thresholds: None makes parts of equal size, as in the papers, whose forget sets consist of equal groups of low,
            medium and high scores. Otherwise increasing values, one fewer than steps, that separate the parts. A part
            without examples is skipped.
    """

    name: ClassVar[str] = "rum"
    scores: Scores
    steps: Sequence[Unlearner]
    order: Order = "low-to-high"
    pending: Pending = "retain"
    thresholds: Sequence[float] | None = None

    def __post_init__(self) -> None:
        one_of("order", self.order, get_args(Order))
        one_of("pending", self.pending, get_args(Pending))
        if len(self.steps) == 0:
            raise UserError("steps", None, "RUM needs at least one step", "give one unlearner for each part")
        if self.thresholds is not None and len(self.thresholds) != len(self.steps) - 1:
            raise UserError(
                "thresholds",
                list(self.thresholds),
                f"{len(self.steps)} steps need {len(self.steps) - 1} of them",
                "give one value between each two parts",
            )

    @classmethod
    def uniform(cls, scores: Scores, unlearner: Unlearner, *, parts: int = 3) -> RUM:
        """Return RUM^F: the same unlearner for every part."""
        return cls(scores, [unlearner] * parts)

    def shuffled(self, *, seed: int = 0) -> RUM:
        """Return the control for refinement: the same steps on random parts of (on average) the same sizes."""
        return replace(self, scores=self.scores.shuffled(seed=seed))

    def vanilla(self) -> Unlearner:
        """The control without refinement: the last step, meant for the most memorized part, on the whole forget set."""
        return self.steps[-1] if self.order == "low-to-high" else self.steps[0]

    def __call__(
        self, problem: Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        model = problem.model if start is None else start
        for k, unlearner, step in self.plan(problem):
            # Each step after the first has a seed of its own: with one for all, each would draw the same batches.
            try:
                model = unlearner(step, seed=step_seed(seed, k), start=model, observers=observers)
            except DivergedError as error:
                raise error.during(f"step {k + 1} ({unlearner.name})") from error
        return model

    def plan(self, problem: Problem) -> list[tuple[int, Unlearner, Problem]]:
        """Return the steps whose part is not empty: number from 0, unlearner, and its own problem."""
        parts = self.refine(problem)
        steps: list[tuple[int, Unlearner, Problem]] = []
        for k, (part, unlearner) in enumerate(zip(parts, self.steps, strict=True)):
            others = parts[:k] if self.pending == "retain" else parts[:k] + parts[k + 1 :]
            if len(part):
                steps.append((k, unlearner, problem.part(part, without=_join(others))))
        return steps

    def refine(self, problem: Problem) -> list[Ids]:
        """Return the parts of the forget set, in the order in which they are unlearned."""
        ids = problem.forget.ids
        if self.thresholds is None:
            parts = self.scores.parts(len(self.steps), among=ids)
        else:
            parts = self.scores.cut(self.thresholds, among=ids)
        # Within a part the order of the request: a part that is all of it is then the very same problem.
        parts = [ids[np.isin(ids, part)] for part in parts]
        return parts if self.order == "low-to-high" else parts[::-1]

    def cost(self, problem: Problem) -> float:
        return sum(unlearner.cost(step) for _, unlearner, step in self.plan(problem))

    def tuned(self, problem: Problem, setting: Setting) -> RUM:
        steps = list(self.steps)
        for k, step, part in self.plan(problem):
            steps[k] = step.tuned(part, setting)
        return replace(self, steps=steps)

    def settings(self) -> dict[str, Any]:
        return {
            "score": self.scores.name,
            "steps": [settings_of(step) for step in self.steps],
            "order": self.order,
            "pending": self.pending,
            "thresholds": None if self.thresholds is None else list(self.thresholds),
        }


def _join(parts: list[Ids]) -> Ids:
    return np.concatenate(parts) if parts else np.empty(0, dtype="<U1")


def step_seed(seed: int, k: int) -> int:
    """Return the seed of step k, counted from 0, of a RUM with this seed."""
    return seed if k == 0 else int(np.random.SeedSequence([seed, k]).generate_state(1)[0])
