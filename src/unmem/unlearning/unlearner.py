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
    """Factors by which tuning changes an unlearner.

    Attributes:
        strength: Factor on the weight with which it forgets.
        rate: Factor on its learning rate.
    """

    strength: float = 1.0
    rate: float = 1.0


@runtime_checkable
class Unlearner(Protocol):
    """Returns a new model that should behave as if it had never been trained on `problem.forget`.

    Attributes:
        name: Name on the command line and in results.
    """

    name: ClassVar[str]

    def __call__(
        self, problem: Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        """Unlearn the forget set.

        Args:
            problem: The request.
            seed: Seed of everything random.
            start: The model to start from, which is not changed. None is `problem.model`. Chained steps, as in RUM,
                start from the model of the previous step.
            observers: Objects that watch the training steps.

        Returns:
            A new model.
        """
        ...

    def cost(self, problem: Problem) -> float:
        """Return the expected cost in trainings of the original, counted from passes over examples."""
        ...

    def tuned(self, problem: Problem, setting: Setting) -> Self:
        """Return the same unlearner with changed fields. A factor on something that it does not have has no effect."""
        ...


def settings_of(unlearner: Unlearner) -> dict[str, Any]:
    """Return the name and fields of an unlearner as plain values, for results and files."""
    describe = getattr(unlearner, "settings", None)
    fields: dict[str, Any] = describe() if describe else asdict(unlearner)  # pyright: ignore[reportArgumentType]
    return {"name": unlearner.name, **fields}


BatchNorm = Literal["recompute", "keep"]
Projection = Callable[[nn.Module], None]


@dataclass(frozen=True, kw_only=True)
class GradientUnlearner:
    """Base class of unlearners that run some epochs of gradient steps.

    Optimizer, batch size, momentum, weight decay, label smoothing, augmentation and precision are those of the
    original's recipe.

    Attributes:
        epochs: Passes over the retain set. None is `epochs_share` of the original's, rounded up.
        lr: Peak learning rate. None is `lr_share` of the original's.
        schedule: Learning-rate schedule: "cosine", "linear" and "cooldown" end at 0, "constant" does not fall.
        batchnorm: "recompute" recomputes the running statistics on the retain set at the end, because those of the
            original include the forget set; "keep" keeps the statistics of the unlearning steps. Frozen layers always
            keep theirs.
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
        """Return the number of epochs: `epochs`, or a share of the original's, rounded up."""
        return math.ceil(self.epochs_share * problem.recipe.epochs - 1e-9) if self.epochs is None else self.epochs

    def cost(self, problem: Problem) -> float:
        return self.epochs_for(problem) * self.effort(problem) / max(1, problem.recipe.epochs)

    def effort(self, problem: Problem) -> float:
        """Return the number of examples that an epoch trains on, per retained example."""
        return 1.0

    def tuned(self, problem: Problem, setting: Setting) -> Self:
        stronger = self.stronger(problem, setting.strength)
        usual = stronger.recipe(problem).lr
        # A rate above that of the original training undoes what the model learned.
        return replace(stronger, lr=min(setting.rate * usual, max(problem.recipe.lr, usual)))

    def stronger(self, problem: Problem, factor: float) -> Self:
        """Return the same unlearner with `factor` times the weight on forgetting; by default the learning rate."""
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
        """Train a copy of a model by one pass per epoch.

        Args:
            problem: The request.
            seed: Seed of everything random.
            start: The model to copy. None is the problem's.
            objective: The loss to minimise. None is cross-entropy.
            examples: The examples of each pass. None is the retain set.
            project: Given the copy, called after each step.
            observers: Objects that watch the training steps.
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
        """Train a copy of `start` with several passes per epoch. `project` is called with the copy after each step."""
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
