"""Settings for an unlearner, found without retraining and without the test set.

The goal is the out-of-sample forecast: targets from models that never saw the forget set (`unmem.targets`) say how many
of its examples a retrained model would get right, and how sure it would be. On the retain set and the holdout the model
should be as accurate as it was.

    closeness = (1 − |Δaccuracy on S|) (1 − |Δmean confidence on S|) (1 − |Δaccuracy on R|) (1 − |Δaccuracy, holdout|)
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from unmem.data import Examples
from unmem.errors import DivergedError, UserError
from unmem.targets import Targets
from unmem.training import Observer, predict
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import Setting, Unlearner, settings_of

STEP = 4.0  # factor on the strength from one trial to the next, until the forecast lies between two
LIMIT = STEP**5  # how far the strength may go from where it began
LOWER_RATE = 0.3


@dataclass(frozen=True)
class Trial:
    """One setting tried. too_well: how much better the model still knows the forget set than it should, negative =
    worse. closeness: 1 = the forecast was met. cost: in trainings of the original, as counted."""

    setting: Setting
    closeness: float
    too_well: float
    cost: float


@dataclass(frozen=True, eq=False)
class Tuned:
    """The unlearner of the best trial, the model it made, and all trials in order."""

    unlearner: Unlearner
    model: nn.Module
    trials: tuple[Trial, ...]
    seconds: float

    @property
    def cost(self) -> float:
        return sum(trial.cost for trial in self.trials)


def tune(
    unlearner: Unlearner,
    model: nn.Module,
    problem: Problem,
    targets: Targets,
    *,
    seed: int,
    budget: float = 0.3,
    observers: Sequence[Observer] = (),
) -> Tuned:
    """Try settings of `unlearner` and keep the model that comes nearest to the forecast.

    The unlearner as it is comes first, if it leaves a quarter of the budget. Then shorter runs, whose strength is moved
    towards the forecast, and a lower learning rate. budget: in trainings of the original, counted by `Unlearner.cost`.
    Raises `UserError` if not even the shortest trial fits, `DivergedError` if none of the trials had an end.
    """
    began = time.perf_counter()
    search = _Search(unlearner, model, problem, _Goal.of(model, problem, targets), seed, budget, observers)
    if not search.affords(Setting(epochs=1)):
        least = search.cost(Setting(epochs=1))
        raise UserError(
            "budget", budget, f"one short trial costs {least:.2f} trainings", "allow more, or do without tuning"
        )
    search.run(Setting(), reserve=budget / 4)
    short = search.shortened(share=1 / 3)
    search.move_strength(short)
    search.run(replace(search.best.setting, rate=LOWER_RATE, epochs=short.epochs))
    if search.model is None:
        diverged = DivergedError("method", unlearner.name, "diverged in every trial", "use a lower lr")
        diverged.last_good = model.state_dict()
        raise diverged
    tuned = unlearner.tuned(problem, search.best.setting)
    return Tuned(tuned, search.model, tuple(search.trials), time.perf_counter() - began)


@dataclass(frozen=True)
class _Goal:
    forget_accuracy: float
    forget_confidence: float
    retain_accuracy: float
    holdout_accuracy: float

    @classmethod
    def of(cls, model: nn.Module, problem: Problem, targets: Targets) -> _Goal:
        taken = targets.take(problem.forget.ids)
        labels = problem.forget.labels.cpu().numpy()
        kept = (_knows(model, examples)[0] for examples in (problem.retain, problem.holdout))
        return cls(float(taken.hits(labels).mean()), float(taken.confidence(labels).mean()), *kept)

    def reached(self, model: nn.Module, problem: Problem) -> tuple[float, float]:
        """Closeness, and how much better than forecast the forget set is known."""
        accuracy, confidence = _knows(model, problem.forget)
        gaps = (
            accuracy - self.forget_accuracy,
            confidence - self.forget_confidence,
            _knows(model, problem.retain)[0] - self.retain_accuracy,
            _knows(model, problem.holdout)[0] - self.holdout_accuracy,
        )
        return math.prod(1 - abs(gap) for gap in gaps), (gaps[0] + gaps[1]) / 2


def _knows(model: nn.Module, examples: Examples) -> tuple[float, float]:
    """Accuracy and mean confidence of the true label."""
    probs = predict(model, examples).softmax(1)
    own = probs.gather(1, examples.labels[:, None])[:, 0]
    return float((probs.argmax(1) == examples.labels).float().mean()), float(own.mean())


class _Search:
    def __init__(
        self,
        unlearner: Unlearner,
        model: nn.Module,
        problem: Problem,
        goal: _Goal,
        seed: int,
        budget: float,
        observers: Sequence[Observer],
    ) -> None:
        self.unlearner, self.original, self.problem, self.goal = unlearner, model, problem, goal
        self.seed, self.left, self.observers = seed, budget, observers
        self.trials: list[Trial] = []
        self.tried: list[dict[str, Any]] = []  # the fields of the unlearner in each trial
        self.model: nn.Module | None = None

    @property
    def best(self) -> Trial:
        return max(self.trials, key=lambda trial: trial.closeness)

    def cost(self, setting: Setting) -> float:
        return self.unlearner.tuned(self.problem, setting).cost(self.problem)

    def affords(self, setting: Setting, *, reserve: float = 0.0) -> bool:
        return self.cost(setting) <= self.left - reserve + 1e-9

    def run(self, setting: Setting, *, reserve: float = 0.0) -> Trial | None:
        """Try a setting if the budget beyond `reserve` allows; a run that diverges is worth nothing.

        What another setting has already led to is not paid for twice.
        """
        unlearner = self.unlearner.tuned(self.problem, setting)
        fields = settings_of(unlearner)
        if fields in self.tried:
            return self.trials[self.tried.index(fields)]
        if not self.affords(setting, reserve=reserve):
            return None
        cost = self.cost(setting)
        self.left -= cost
        try:
            made = unlearner(self.original, self.problem, seed=self.seed, observers=self.observers)
        except DivergedError:
            trial = Trial(setting, 0.0, -1.0, cost)
        else:
            closeness, too_well = self.goal.reached(made, self.problem)
            trial = Trial(setting, closeness, too_well, cost)
            if self.model is None or closeness > self.best.closeness:
                self.model = made
        self.trials.append(trial)
        self.tried.append(fields)
        return trial

    def shortened(self, *, share: float) -> Setting:
        """As many epochs as a share of the budget that is left pays for, at least one and no more than usual."""
        affordable = share * self.left
        longest = Setting(epochs=1)
        for epochs in range(2, self.problem.recipe.epochs + 1):
            longer = Setting(epochs=epochs)
            # What has no epochs costs the same however many are asked for.
            most = min(affordable, self.unlearner.cost(self.problem)) + 1e-9
            if not self.cost(longest) < self.cost(longer) <= most:
                break
            longest = longer
        return longest

    def move_strength(self, setting: Setting) -> None:
        """Raise or lower the strength until the forecast lies between two trials, then halve between them; stops when
        what is left pays for one trial only, or the strength is past reason."""
        strength, low, high = 1.0, None, None
        while 1 / LIMIT <= strength <= LIMIT:
            trial = self.run(replace(setting, strength=strength), reserve=self.cost(setting) if self.trials else 0.0)
            if trial is None:
                return
            if trial.too_well > 0:
                low = strength
            else:
                high = strength
            if low is None or high is None:
                strength = strength * STEP if trial.too_well > 0 else strength / STEP
            else:
                strength = (low * high) ** 0.5
