"""Matching: move each forgotten example towards the prediction of a model that was not trained on it, its target.

    minimise  CE(R) + λ · D(target_i, u(x_i)) over i in S

D is smooth-L1 between the log-odds of the label, phi = log p_y − log(1 − p_y), or KL(q_i ‖ u(x_i)). Gradient ascent has
no minimum and random labels have the wrong one; here the minimum is where a model without the example would be. Targets
come from any source (`unmem.targets`): by default from a short teacher, which needs nothing prepared.

The optimizer is AdamW whatever the original was trained by, with β1 = 0.7 and a rate that is constant for half of the
run and then falls to 0. In 0.1 trainings this comes nearer to the targets than SGD does in 0.15. With β1 = 0.9, which
averages over a large part of a short run, it does not. Found on digits (small_cnn, mlp) and 2,500 examples of
Fashion-MNIST (mlp) with originals trained by SGD; the rate was then checked on originals trained by AdamW.

λ follows the targets. It starts at the value that gives every example, retained or forgotten, the same weight, and
grows while the forget set is under-forgotten (dual ascent on the constraint "on average no better known than the
targets"). Nearest prior art: Georgiev et al. 2024, Datamodel Matching (arXiv 2410.23232).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmem.data import Examples
from unmem.data.splits import stratified_sample
from unmem.errors import UserError, not_negative, one_of
from unmem.predictions import label_log_odds
from unmem.recipe import Recipe, Schedule
from unmem.targets import ShortTeacher, Source, Targets
from unmem.training import Batch, Observer, Pass, steps_per_epoch
from unmem.unlearning.batches import cycle
from unmem.unlearning.losses import divergence
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import GradientUnlearner

Form = Literal["log-odds", "kl"]
LENGTH = 0.1  # of the examples that the original's training went through
SGD_RATE = 0.02  # the rate of AdamW as a share of that of SGD
MOMENTUM = 0.7
_TEACHER = ShortTeacher()


@dataclass(frozen=True, kw_only=True)
class Matching(GradientUnlearner):
    """Move each forgotten example towards its target.

    Attributes:
        targets: Targets of at least the forget set, or a source that makes them first.
        epochs: Passes over the retain set. None trains on 10% of the number of examples of the original's training,
            retained and forgotten ones together, so that it costs 0.1 trainings.
        lr: Peak learning rate of AdamW. None is the original's if that used AdamW, and a fiftieth of it if it used SGD.
        schedule: Learning-rate schedule.
        form: The distance: "log-odds" or "kl".
        weight: λ at the start. None is |S| / |R|, which gives every example the same weight.
        adapt: How fast λ grows: by the factor exp(adapt) over a run in which all of the forget set is under-forgotten
            by a log-odds of 1 or more. λ never falls below its start. 0 keeps it constant.
        forget_share: Share of each batch that is from the forget set. Batches are as large as the original's.
    """

    name: ClassVar[str] = "matching"
    targets: Targets | Source = _TEACHER
    epochs: int | None = None
    schedule: Schedule = "cooldown"
    form: Form = "log-odds"
    weight: float | None = None
    adapt: float = 4.4
    forget_share: float = 1 / 3

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("form", self.form, get_args(Form))
        if self.weight is not None:
            not_negative("weight", self.weight, "leave it out, or give one such as 0.1")
        not_negative("adapt", self.adapt, "give 0 for a fixed weight, or one such as 4.4")
        if not 0 < self.forget_share < 1:
            raise UserError("forget_share", self.forget_share, "must lie between 0 and 1", "give one such as 0.33")

    def __call__(
        self, problem: Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        made = self.targets_for(problem, seed=seed)
        forget_batches = cycle(problem.forget, self.forget_batch(problem), problem.recipe, seed=seed)
        distance = self._distance(made, problem)
        targets = torch.from_numpy(made.phi).to(problem.forget.device)
        steps = self.steps(problem)
        weight = self.weight_for(problem)
        growth = torch.zeros((), device=problem.forget.device)  # log of λ over its start

        def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            nonlocal growth
            forget = next(forget_batches)
            logits: Tensor = model(torch.cat([batch.inputs, forget.inputs]))
            retained, forgotten = logits.split([len(batch.labels), len(forget.labels)])
            too_well = label_log_odds(forgotten.detach().float(), forget.labels) - targets[forget.index]
            kept = F.cross_entropy(retained, batch.labels, label_smoothing=problem.recipe.label_smoothing)
            loss = kept + weight * growth.exp() * distance(forgotten, forget)
            growth = (growth + self.adapt / steps * too_well.clamp(-1, 1).mean()).clamp(min=0)
            return loss, retained

        passes = [[Pass(examples, objective)] for examples in self.passes(problem, seed=seed)]
        return self.run_epochs(problem, passes, seed=seed, start=start, observers=observers)

    def passes(self, problem: Problem, *, seed: int = 0) -> list[Examples]:
        """Return the retained examples of each epoch: all of them, except that the last epoch may be partial."""
        whole, rest = divmod(self._retained(problem), len(problem.retain))
        last = [stratified_sample(problem.retain, rest, seed=seed)] if rest >= 2 else []
        return [problem.retain] * whole + last

    def steps(self, problem: Problem) -> int:
        recipe = self.recipe(problem)
        whole, rest = divmod(self._retained(problem), len(problem.retain))
        last = math.ceil(rest / recipe.batch_size) if rest >= 2 else 0
        return max(1, whole * steps_per_epoch(recipe, problem.retain) + last)

    def _retained(self, problem: Problem) -> int:
        """Return how often each retained example is trained on."""
        if self.epochs is not None:
            return self.epochs * len(problem.retain)
        whole = problem.recipe.epochs * len(problem.retain)
        return min(max(2, round(LENGTH * whole / self.effort(problem))), whole)

    def targets_for(self, problem: Problem, *, seed: int) -> Targets:
        """Return the targets of the forget set, in its order; a source makes them now."""
        if isinstance(self.targets, Targets):
            return self.targets.take(problem.forget.ids)
        return self.targets(problem, seed=seed)

    def cost(self, problem: Problem) -> float:
        """Return the cost in trainings of the original, including that of targets that are still to be made."""
        before = 0.0 if isinstance(self.targets, Targets) else self.targets.cost(problem)
        trained_on = self._retained(problem) * self.effort(problem)
        return before + trained_on / (max(1, problem.recipe.epochs) * len(problem.retain))

    def epochs_for(self, problem: Problem) -> int:
        return math.ceil(self._retained(problem) / len(problem.retain))

    def weight_for(self, problem: Problem) -> float:
        return len(problem.forget) / len(problem.retain) if self.weight is None else self.weight

    def forget_batch(self, problem: Problem) -> int:
        """Return the number of forget examples per step: at most |S|, and fewer than a whole batch."""
        wished = round(self.forget_share * problem.recipe.batch_size)
        return max(1, min(wished, len(problem.forget), problem.recipe.batch_size - 1))

    def recipe(self, problem: Problem) -> Recipe:
        original = problem.recipe
        lr = (original.lr if original.optimizer == "adamw" else SGD_RATE * original.lr) if self.lr is None else self.lr
        return replace(
            original,
            optimizer="adamw",
            momentum=MOMENTUM,
            lr=lr,
            schedule=self.schedule,
            epochs=self.epochs_for(problem),
            batch_size=self._retain_batch(problem),
        )

    def effort(self, problem: Problem) -> float:
        return 1 + self.forget_batch(problem) / self._retain_batch(problem)

    def _retain_batch(self, problem: Problem) -> int:
        return max(2, problem.recipe.batch_size - self.forget_batch(problem))

    def stronger(self, problem: Problem, factor: float) -> Self:
        return replace(self, weight=factor * self.weight_for(problem))

    def _distance(self, targets: Targets, problem: Problem) -> Callable[[Tensor, Batch], Tensor]:
        """Return a function (logits of a forget batch, the batch) -> mean distance to its targets."""
        device = problem.forget.device
        if self.form == "kl":
            if targets.log_probs is None:
                raise UserError("form", self.form, f"targets by {targets.source} have no probabilities", "use log-odds")
            log_probs = torch.from_numpy(targets.log_probs).to(device)
            return lambda logits, batch: divergence(log_probs[batch.index], logits)
        goals = torch.from_numpy(targets.phi).to(device)

        def distance(logits: Tensor, batch: Batch) -> Tensor:
            phi = label_log_odds(logits.float(), batch.labels)
            return F.smooth_l1_loss(phi, goals[batch.index])

        return distance

    def settings(self) -> dict[str, Any]:
        """Return the fields as plain values, with the settings of the targets in place of their numbers."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        made = self.targets.settings if isinstance(self.targets, Targets) else self.targets.describe()
        return values | {"targets": made}
