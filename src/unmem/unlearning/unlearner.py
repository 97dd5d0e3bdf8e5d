"""What every unlearner is, and what those that take gradient steps share."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, Self, get_args, runtime_checkable

from torch import nn

from unmem.batchnorm import recompute_batchnorm
from unmem.data import Examples
from unmem.errors import one_of
from unmem.recipe import Recipe, Schedule
from unmem.training import Objective, Observer, Pass, fit_epochs
from unmem.unlearning.problem import Problem


@dataclass(frozen=True)
class Setting:
    """How to change an unlearner: factors on the weight with which it forgets and on its learning rate."""

    strength: float = 1.0
    rate: float = 1.0


@runtime_checkable
class Unlearner(Protocol):
    """problem -> a new model that should behave as if it had never been trained on `problem.forget`.

    seed: of everything random. start: the model to start from; None is `problem.model`. Steps that are chained, as in
    RUM, start from the model of the step before. It is not changed. observers: watch the training steps.
    """

    name: ClassVar[str]

    def __call__(
        self, problem: Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[Observer] = ()
    ) -> nn.Module: ...

    def cost(self, problem: Problem) -> float:
        """About how long it takes, in trainings of the original; counted from passes over examples, not measured."""
        ...

    def tuned(self, problem: Problem, setting: Setting) -> Self:
        """The same unlearner with some of its fields changed; what it does not have is left alone."""
        ...


def settings_of(unlearner: Unlearner) -> dict[str, Any]:
    """The name and fields of an unlearner as plain values, for results and files."""
    describe = getattr(unlearner, "settings", None)
    fields: dict[str, Any] = describe() if describe else asdict(unlearner)  # pyright: ignore[reportArgumentType]
    return {"name": unlearner.name, **fields}


BatchNorm = Literal["recompute", "keep"]
Projection = Callable[[nn.Module], None]


@dataclass(frozen=True, kw_only=True)
class GradientUnlearner:
    """Unlearning by some epochs of gradient steps.

    Optimiser, batch size, momentum, weight decay, label smoothing, augmentation and precision are the original's.

    epochs: passes over the retain set; None is `epochs_share` of the original's, rounded up.
    schedule: of the learning rate, from its peak to 0 (cosine, linear) or constant.
    lr: peak learning rate; None takes `lr_share` of the original's, so that it suits the model at hand.
    batchnorm: "recompute" takes the running statistics anew from the retain set at the end, since those of the
        original carry the forget set; "keep" leaves them as training left them. Frozen layers keep theirs either way.
    """

    lr_share: ClassVar[float] = 1.0
    epochs_share: ClassVar[float] = 0.15
    epochs: int | None
    lr: float | None = None
    schedule: Schedule = "cosine"
    batchnorm: BatchNorm = "recompute"

    def __post_init__(self) -> None:
        one_of("batchnorm", self.batchnorm, get_args(BatchNorm))
        epochs = 1 if self.epochs is None else self.epochs
        Recipe(epochs=epochs, lr=1.0 if self.lr is None else self.lr, schedule=self.schedule)  # refuses bad values

    def recipe(self, problem: Problem) -> Recipe:
        lr = self.lr_share * problem.recipe.lr if self.lr is None else self.lr
        return replace(problem.recipe, epochs=self.epochs_for(problem), lr=lr, schedule=self.schedule)

    def epochs_for(self, problem: Problem) -> int:
        """The epochs of this run: as given, or a share of the original's, rounded up."""
        return math.ceil(self.epochs_share * problem.recipe.epochs - 1e-9) if self.epochs is None else self.epochs

    def cost(self, problem: Problem) -> float:
        return self.epochs_for(problem) * self.effort(problem) / max(1, problem.recipe.epochs)

    def effort(self, problem: Problem) -> float:
        """Examples that an epoch trains on, for each retained one."""
        return 1.0

    def tuned(self, problem: Problem, setting: Setting) -> Self:
        stronger = self.stronger(problem, setting.strength)
        usual = stronger.recipe(problem).lr
        # A rate above that of the original training undoes what the model learned.
        return replace(stronger, lr=min(setting.rate * usual, max(problem.recipe.lr, usual)))

    def stronger(self, problem: Problem, factor: float) -> Self:
        """The weight with which it forgets, times `factor`; by itself that is the learning rate."""
        return replace(self, lr=factor * self.recipe(problem).lr)

    def run(
        self,
        problem: Problem,
        *,
        seed: int,
        start: nn.Module | None = None,
        objective: Objective | None = None,
        examples: Examples | None = None,
        project: Projection | None = None,
        observers: Sequence[Observer] = (),
    ) -> nn.Module:
        """Epochs over `examples` (the retain set by default) on a copy of `start` (the problem's model by default).

        objective: as in `Pass`.
        """
        chosen = problem.retain if examples is None else examples
        epochs = [[Pass(chosen, objective)]] * self.epochs_for(problem)
        return self.run_epochs(problem, epochs, seed=seed, start=start, project=project, observers=observers)

    def run_epochs(
        self,
        problem: Problem,
        epochs: Sequence[Sequence[Pass]],
        *,
        seed: int,
        start: nn.Module | None = None,
        project: Projection | None = None,
        observers: Sequence[Observer] = (),
    ) -> nn.Module:
        """Epochs of several passes each, on a copy of `start`. project: given that copy, what to do after each step."""
        new = copy.deepcopy(problem.model if start is None else start)
        fit_epochs(
            new,
            epochs,
            self.recipe(problem),
            seed=seed,
            observers=observers,
            project=None if project is None else lambda: project(new),
        )
        self.finish(new, problem)
        return new

    def finish(self, model: nn.Module, problem: Problem) -> None:
        if self.batchnorm == "recompute":
            recompute_batchnorm(model, problem.retain, recipe=problem.recipe)
