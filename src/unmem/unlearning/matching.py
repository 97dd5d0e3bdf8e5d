"""Matching: move each forgotten example to its target, what a model that was not trained on it would predict.

    minimise  CE(R) + λ · D(target_i, u(x_i)) over i in S

D is smooth-L1 between the log-odds of the label, phi = log p_y − log(1 − p_y), or KL(q_i ‖ u(x_i)). Gradient ascent has
no minimum and random labels have a wrong one; here the loss has its minimum where a model without the example would be.
Targets are from any source (`unmem.targets`): a short teacher by default, which needs nothing prepared.

λ follows the targets: it starts where every example, retained or forgotten, has the same weight, and grows while the
forget set is still known better than its targets say (dual ascent on "no better known than the targets, on average").
Nearest prior art: Georgiev et al. 2024, Datamodel Matching (arXiv 2410.23232).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmem.errors import UserError, not_negative, one_of
from unmem.recipe import Recipe
from unmem.targets import ShortTeacher, Source, Targets
from unmem.training import Batch, Observer, steps_per_epoch
from unmem.unlearning.batches import cycle
from unmem.unlearning.losses import divergence, label_log_odds
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import GradientUnlearner

Form = Literal["log-odds", "kl"]
_TEACHER = ShortTeacher()


@dataclass(frozen=True, kw_only=True)
class Matching(GradientUnlearner):
    """targets: those of at least the forget set, or a source that makes them first. form: the distance, see above.
    weight: λ at the start; None is |S| / |R|, with which every example, retained or forgotten, weighs the same.
    adapt: how fast λ grows: by the factor exp(adapt) over a run in which all of the forget set stays known better than
        its targets by a log-odds of 1 or more. It never falls below its start. 0 leaves it there.
    forget_share: the share of each batch that is of the forget set; a batch is as large as the original's.
    epochs: None is 10% of the original's, rounded up, so that the cost is the same share of any training.

    Defaults: half of the original's peak rate, as for NegGrad+; a third of each batch for 10% of the epochs costs 0.15
    trainings. Found on a sample of Fashion-MNIST apart from that of the benchmark.
    """

    name: ClassVar[str] = "matching"
    lr_share: ClassVar[float] = 0.5
    epochs_share: ClassVar[float] = 0.1
    targets: Targets | Source = _TEACHER
    epochs: int | None = None
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
        self, model: nn.Module, problem: Problem, *, seed: int, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        made = self.targets_for(problem, seed=seed)
        forget_batches = cycle(problem.forget, self.forget_batch(problem), problem.recipe, seed=seed)
        distance = self._distance(made, problem)
        targets = torch.from_numpy(made.phi).to(problem.forget.device)
        steps = max(1, self.epochs_for(problem) * steps_per_epoch(self.recipe(problem), problem.retain))
        weight = self.weight_for(problem)
        growth = torch.zeros((), device=problem.forget.device)  # log of λ over its start

        def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            nonlocal growth
            forget = next(forget_batches)
            logits: Tensor = model(torch.cat([batch.inputs, forget.inputs]))
            retained, forgotten = logits.split([len(batch.labels), len(forget.labels)])
            too_well = label_log_odds(forgotten.detach(), forget.labels) - targets[forget.index]
            kept = F.cross_entropy(retained, batch.labels, label_smoothing=problem.recipe.label_smoothing)
            loss = kept + weight * growth.exp() * distance(forgotten, forget)
            growth = (growth + self.adapt / steps * too_well.clamp(-1, 1).mean()).clamp(min=0)
            return loss, retained

        return self.run(model, problem, seed=seed, objective=objective, observers=observers)

    def targets_for(self, problem: Problem, *, seed: int) -> Targets:
        """The targets of the forget set, in its order; made now if a source is to make them."""
        if isinstance(self.targets, Targets):
            return self.targets.take(problem.forget.ids)
        return self.targets(problem, seed=seed)

    def cost(self, problem: Problem) -> float:
        """With that of making the targets, unless they were made before."""
        before = 0.0 if isinstance(self.targets, Targets) else self.targets.cost(problem)
        return before + super().cost(problem)

    def weight_for(self, problem: Problem) -> float:
        return len(problem.forget) / len(problem.retain) if self.weight is None else self.weight

    def forget_batch(self, problem: Problem) -> int:
        """Examples of the forget set in each step: never more than there are, and never all of a batch."""
        wished = round(self.forget_share * problem.recipe.batch_size)
        return max(1, min(wished, len(problem.forget), problem.recipe.batch_size - 1))

    def recipe(self, problem: Problem) -> Recipe:
        left = problem.recipe.batch_size - self.forget_batch(problem)
        return replace(super().recipe(problem), batch_size=max(2, left))

    def effort(self, problem: Problem) -> float:
        return 1 + self.forget_batch(problem) / self.recipe(problem).batch_size

    def stronger(self, problem: Problem, factor: float) -> Self:
        return replace(self, weight=factor * self.weight_for(problem))

    def _distance(self, targets: Targets, problem: Problem) -> Callable[[Tensor, Batch], Tensor]:
        """(logits of a forget batch, the batch) -> mean distance to its targets."""
        device = problem.forget.device
        if self.form == "kl":
            if targets.log_probs is None:
                raise UserError("form", self.form, f"targets by {targets.source} have no probabilities", "use log-odds")
            log_probs = torch.from_numpy(targets.log_probs).to(device)
            return lambda logits, batch: divergence(log_probs[batch.index], logits)
        goals = torch.from_numpy(targets.phi).to(device)

        def distance(logits: Tensor, batch: Batch) -> Tensor:
            phi = label_log_odds(logits, batch.labels)
            return F.smooth_l1_loss(phi, goals[batch.index])

        return distance

    def settings(self) -> dict[str, Any]:
        """The fields as plain values, with the settings of the targets in place of their numbers."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        made = self.targets.settings if isinstance(self.targets, Targets) else self.targets.describe()
        return values | {"targets": made}
