"""Short teacher: a model trained on the retain set alone, for a fifth of the original's epochs.

    φ_i = map(log-odds of p_θ(y_i | x_i)),   i in S

It starts where the original started, from random weights or the recipe's base, and follows the original's recipe,
except that the learning rate falls to 0 over the second half of its own run. The map (`calibration.py`) makes up for
the rest. It has seen no forget example: nothing that these teach each other, such as copies, a trigger or one wrong
rule, is in it.
One teacher serves every request of a batch: make targets for the union, and `Targets.take` those of each request.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from torch import nn

from unmem import models
from unmem.data import Examples
from unmem.data.splits import stratified_sample
from unmem.errors import UserError, whole_number
from unmem.targets.calibration import MOST, calibrated, calibrating
from unmem.targets.types import Request, Targets
from unmem.training import Observer, fit, predict

# The teacher must start from other weights than the models that a command trains under seeds near its own.
SEED_OFFSET = 1_000_003
_FORWARD = 1 / 3  # of a training step's work


@dataclass(frozen=True, kw_only=True)
class ShortTeacher:
    """Targets from a model trained briefly on the retain set.

    Attributes:
        length: How long it trains, as a share of the original's epochs; rounded to whole epochs. Where that is less
            than one epoch, it is one epoch over as many examples.
        retain_share: Share of the retain set that it trains on, a stratified sample.
        holdout: At most this many holdout examples calibrate it.
    """

    name: ClassVar[str] = "teacher"
    length: float = 0.2
    retain_share: float = 1.0
    holdout: int = MOST

    def __post_init__(self) -> None:
        for field in ("length", "retain_share"):
            if not 0 < getattr(self, field) <= 1:
                raise UserError(field, getattr(self, field), "must be above 0 and at most 1", "give one such as 0.15")
        whole_number("holdout", self.holdout)

    @property
    def spent(self) -> float:
        return 0.0

    def __call__(self, problem: Request, *, seed: int, observers: Sequence[Observer] = ()) -> Targets:
        """Train the teacher and ask it about the forget set.

        Args:
            problem: The request. The teacher is trained on `problem.retain` only.
            seed: Of the teacher's weights and order of examples. The same seed gives the same targets.
            observers: Watch the teacher's training.
        """
        began = time.perf_counter()
        teacher = self.trained(problem, seed=seed, observers=observers)
        unseen = calibrating(problem.holdout, self.holdout)
        asked, checked = (predict(teacher, part).log_softmax(1) for part in (problem.forget, unseen))
        settings = self.describe() | {"epochs": self.epochs(problem), "seed": seed}
        found = calibrated(self.name, problem, asked, unseen, checked, settings)
        return replace(found, cost=self.cost(problem), seconds=time.perf_counter() - began)

    def trained(self, problem: Request, *, seed: int, observers: Sequence[Observer] = ()) -> nn.Module:
        """The teacher itself, in evaluation mode."""
        recipe, examples, seed = problem.recipe, self.examples(problem), seed + SEED_OFFSET
        model = models.build(recipe.model, examples.input_shape, examples.n_classes, seed=seed, base=recipe.base)
        model = model.to(examples.device)
        short = replace(recipe, epochs=self.epochs(problem), schedule="cooldown")
        return fit(model, examples, short, seed=seed, observers=observers)

    def epochs(self, problem: Request) -> int:
        """Epochs that it trains for, at least one."""
        return min(max(1, int(self.length * problem.recipe.epochs + 0.5)), max(1, problem.recipe.epochs))

    def examples(self, problem: Request) -> Examples:
        """What it is trained on."""
        share = self.retain_share * min(1.0, self.length * max(1, problem.recipe.epochs))
        n = max(2, round(share * len(problem.retain)))
        return problem.retain if n >= len(problem.retain) else stratified_sample(problem.retain, n, seed=0)

    def cost(self, problem: Request) -> float:
        n, asked = len(self.examples(problem)), len(problem.forget) + min(self.holdout, len(problem.holdout))
        whole = max(1, problem.recipe.epochs) * (len(problem.retain) + len(problem.forget))
        return (self.epochs(problem) * n + _FORWARD * asked) / whole

    def describe(self) -> dict[str, Any]:
        return {"source": self.name, **asdict(self)}
