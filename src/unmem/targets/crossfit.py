"""Targets of a cross-fit: the prediction of the one fold model that was not trained on the example.

    φ_i = log q_i(y_i) − log(1 − q_i(y_i))

A fold model saw a smaller training set, with other forgotten examples among it. The cross-fit kept no predictions of
the holdout, so its log-odds are used as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from unmem.memorization import CrossFit
from unmem.targets.types import Request, Targets
from unmem.training import Observer


@dataclass(frozen=True, eq=False)
class FromCrossFit:
    """A source of targets: out-of-fold predictions.

    Attributes:
        crossfit: The predictions.
    """

    name: ClassVar[str] = "crossfit"
    crossfit: CrossFit

    @property
    def targets(self) -> Targets:
        """Those of all examples of the cross-fit."""
        made = self.crossfit
        rival = None if made.log_probs is not None else made.phi - made.margin
        facts = self.describe()
        return Targets(
            self.name, made.ids, made.phi, made.log_probs, None, self.spent, made.seconds, facts, rival=rival
        )

    @property
    def spent(self) -> float:
        """K folds cost K − 1 trainings: each model is trained on (K − 1) / K of the data."""
        return float(max(0, self.crossfit.settings.get("folds", 1) - 1))

    def __call__(self, problem: Request, *, seed: int = 0, observers: Sequence[Observer] = ()) -> Targets:
        """Targets of `problem.forget`. Nothing is random, so the seed has no effect."""
        return self.targets.take(problem.forget.ids)

    def cost(self, problem: Request) -> float:
        return 0.0

    def describe(self) -> dict[str, Any]:
        return {"source": self.name, **self.crossfit.settings}
