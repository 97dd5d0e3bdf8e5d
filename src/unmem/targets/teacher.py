"""Short teacher: a model trained on the retain set alone, through the first quarter of the original's epochs.

    φ_i = map(log-odds of the mean over the window of log p_e(y_i | x_i)),   i in S

p_e is the teacher after epoch e (`window.py`), the map is that of `calibration.py`. It starts where the original
started, from random weights or the recipe's base, and follows the original's schedule, so it is not annealed. It has
seen no forget example: nothing that these teach each other, such as copies, a trigger or one wrong rule, is in it.
One teacher serves every request of a batch: make targets for the union, and `Targets.take` those of each request.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from unmem.data import Examples
from unmem.data.splits import stratified_sample
from unmem.errors import UserError, whole_number
from unmem.targets.calibration import SMALLEST, Calibration, with_label
from unmem.targets.types import Request, Targets, label_log_odds
from unmem.targets.window import END, START, WindowMean, window
from unmem.training import Observer, predict, train

# The teacher must start from other weights than models that a command trains under seeds near its own.
SEED_OFFSET = 1_000_003
_FORWARD = 1 / 3  # of a training step's work


@dataclass(frozen=True, kw_only=True)
class ShortTeacher:
    """Targets from a model trained briefly on the retain set.

    Attributes:
        retain_share: Share of the retain set that it trains on, a stratified sample.
        start, end: The window, as shares of the original's epochs; training ends with it.
        holdout: At most this many holdout examples calibrate it.
    """

    name: ClassVar[str] = "teacher"
    retain_share: float = 1.0
    start: float = START
    end: float = END
    holdout: int = 1000

    def __post_init__(self) -> None:
        for field in ("retain_share", "end"):
            if not 0 < getattr(self, field) <= 1:
                raise UserError(field, getattr(self, field), "must be above 0 and at most 1", "give one such as 0.25")
        if not 0 <= self.start <= self.end:
            raise UserError("start", self.start, f"must lie between 0 and end ({self.end})", "give one such as 0.05")
        whole_number("holdout", self.holdout)

    def __call__(self, problem: Request, *, seed: int, observers: Sequence[Observer] = ()) -> Targets:
        """Train the teacher and ask it about the forget set.

        Args:
            problem: The request; the teacher never sees `problem.forget` in training.
            seed: Of the teacher's weights and order of examples. The same seed gives the same targets.
            observers: Watch the teacher's training.
        """
        began = time.perf_counter()
        unseen = calibrating(problem.holdout, self.holdout)
        mean = WindowMean([problem.forget, unseen], self.epochs(problem))
        train(problem.recipe, self.examples(problem), seed=seed + SEED_OFFSET, observers=[*observers, mean])
        asked, checked = mean.log_probs
        settings = self.describe() | {"epochs": len(range(self.epochs(problem)[-1])), "seed": seed}
        found = calibrated(self.name, problem, asked, unseen, checked, settings)
        return replace(found, cost=self.cost(problem), seconds=time.perf_counter() - began)

    def epochs(self, problem: Request) -> range:
        return window(problem.recipe.epochs, start=self.start, end=self.end)

    def examples(self, problem: Request) -> Examples:
        """What it is trained on."""
        n = max(2, round(self.retain_share * len(problem.retain)))
        return problem.retain if n >= len(problem.retain) else stratified_sample(problem.retain, n, seed=0)

    def cost(self, problem: Request) -> float:
        epochs, whole = self.epochs(problem), len(problem.retain) + len(problem.forget)
        trained = epochs[-1] * self.retain_share * len(problem.retain)
        asked = len(epochs) * (len(problem.forget) + min(self.holdout, len(problem.holdout))) * _FORWARD
        return (trained + asked) / (max(1, problem.recipe.epochs) * whole)

    def describe(self) -> dict[str, Any]:
        return {"source": self.name, **asdict(self)}


def calibrating(holdout: Examples, most: int) -> Examples:
    """The holdout examples that calibrate: a stratified sample if there are more than `most`."""
    return holdout if len(holdout) <= most else stratified_sample(holdout, most, seed=0)


def calibrated(
    source: str, problem: Request, asked: Tensor, unseen: Examples, checked: Tensor, settings: dict[str, Any]
) -> Targets:
    """Targets of the forget set from what a weaker model says of it and of unseen examples.

    Args:
        source: The name of the source.
        problem: The request.
        asked: [n, C] log-probabilities of `problem.forget` by the weaker model.
        unseen: M holdout examples.
        checked: [M, C] log-probabilities of these by the weaker model.
        settings: What determined them.
    """
    labels = problem.forget.labels
    phi = label_log_odds(asked, labels)
    data = {"data": problem.retain.fingerprint, "calibrated_on": len(unseen)}
    if len(unseen) < SMALLEST:
        said = (
            f"the holdout has {len(unseen)} examples, too few to calibrate the {source} ({SMALLEST} are needed): "
            "its predictions are used as they are"
        )
        log_probs = asked.float().cpu().numpy()
        return Targets(source, problem.forget.ids, phi, log_probs, settings=settings | data, notes=(said,))
    fitted = Calibration.fit(checked, predict(problem.model, unseen))
    goal = fitted(phi)
    return Targets(
        source,
        problem.forget.ids,
        goal,
        with_label(asked, labels, goal),
        fitted.error_of(phi),
        settings=settings | data | {"unseen_accuracy": _accuracy(checked, unseen)},
    )


def _accuracy(log_probs: Tensor, examples: Examples) -> float:
    return float((log_probs.argmax(1) == examples.labels).to(torch.float32).mean())
