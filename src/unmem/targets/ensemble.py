"""Targets of an ensemble: the mean over the members that were not trained on the example.

    φ_i = mean over members k that left i out of φ_k(i),   error_i² = spread_i² / n_i

The members of exact scores and of audits are such an ensemble. This is Datamodel Matching at its simplest: Georgiev
et al. 2024 (arXiv 2410.23232, the nearest prior art) fit a linear model of the outputs over inclusion masks and
evaluate it without the forget set; here the outputs are averaged over the members that left the example out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from unmem.data import find_ids
from unmem.ensembles import Ensemble
from unmem.errors import UserError
from unmem.targets.types import Request, Targets
from unmem.training import Observer


@dataclass(frozen=True, eq=False)
class FromMembers:
    """A source of targets: ensemble members, each trained on its own subset.

    Attributes:
        members: The ensemble.
    """

    name: ClassVar[str] = "ensemble"
    members: Ensemble

    def __call__(self, problem: Request, *, seed: int = 0, observers: Sequence[Observer] = ()) -> Targets:
        """Targets of `problem.forget`. Nothing is random, so the seed has no effect.

        Raises:
            UserError: The members do not know some of the examples, or all of them were trained on one.
        """
        where = self._positions(problem)
        out = ~self.members.kept[:, where]
        counts = out.sum(0)
        if not counts.all():
            few = int((counts == 0).sum())
            raise UserError(
                "members",
                len(self.members),
                f"all of them were trained on {few:,} of the forget examples",
                "train more",
            )
        phi = self.members.train.phi[:, where].astype(np.float64)
        mean = np.where(out, phi, 0).sum(0) / counts
        squares = np.where(out, (phi - mean) ** 2, 0).sum(0)
        variance = squares / np.maximum(counts - 1, 1)
        # One member alone has no spread of its own: it gets that of the others.
        variance[counts < 2] = squares.sum() / max(1, (counts - 1).sum())
        return Targets(
            self.name,
            problem.forget.ids,
            mean.astype(np.float32),
            self.members.mean_log_probs(out / counts, where),
            np.sqrt(variance / counts).astype(np.float32),
            self.spent,
            sum(self.members.seconds),
            self.describe(),
        )

    @property
    def spent(self) -> float:
        """A training for each member, on the share of the examples that it saw."""
        return float(self.members.kept.mean(1).sum())

    def left_out(self, problem: Request) -> int:
        """The smallest number of members that were not trained on a forget example.

        Raises:
            UserError: The members do not know some of the examples.
        """
        return int((~self.members.kept[:, self._positions(problem)]).sum(0).min())

    def cost(self, problem: Request) -> float:
        return 0.0

    def describe(self) -> dict[str, Any]:
        return {"source": self.name, "members": len(self.members), **self.members.settings}

    def _positions(self, problem: Request) -> Any:
        found, missing = find_ids(problem.forget.ids, self.members.train.ids)
        if missing.any():
            raise UserError(
                "members",
                len(self.members),
                f"they were trained on other examples: {int(missing.sum()):,} of the forget set are unknown to them",
                "use members of the training set of the original",
            )
        return found
