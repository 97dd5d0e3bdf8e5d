"""Cross-fit matching: pull each forgotten example to what a model that never saw it says of it.

    minimise  CE(R) + λ · D(q_i, u(x_i)) over i in S,   q_i the out-of-fold prediction

D is smooth-L1 between the log-odds of the true label, phi = log p_y − log(1 − p_y), or KL(q_i ‖ u(x_i)). Ascent has no
end and random labels a wrong one; here the goal of every example is known, so the loss has its minimum where a model
without the example would be. The cross-fit is made once and serves every later request.

λ follows the forecast: it starts where every example, retained or forgotten, weighs the same, and grows while the
forget set is still known better than its targets say (dual ascent on "no better known than forecast, on average").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmem.errors import UserError, not_negative, one_of
from unmem.memorization import CrossFit
from unmem.recipe import Recipe
from unmem.training import Batch, Observer, steps_per_epoch
from unmem.unlearning.batches import cycle
from unmem.unlearning.losses import divergence, label_log_odds
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import GradientUnlearner

Form = Literal["log-odds", "kl"]


@dataclass(frozen=True, kw_only=True)
class CrossFitMatching(GradientUnlearner):
    """crossfit: out-of-fold predictions of at least the forget set. form: the distance, see above.
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
    crossfit: CrossFit
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
        forget_batches = cycle(problem.forget, self.forget_batch(problem), problem.recipe, seed=seed)
        distance = self._distance(problem)
        targets = torch.from_numpy(self.crossfit.take(problem.forget.ids).phi).to(problem.forget.device)
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

    def _distance(self, problem: Problem) -> Callable[[Tensor, Batch], Tensor]:
        """(logits of a forget batch, the batch) -> mean distance to its targets."""
        targets = self.crossfit.take(problem.forget.ids)
        device = problem.forget.device
        if self.form == "kl":
            log_probs = torch.from_numpy(targets.log_probs).to(device)
            return lambda logits, batch: divergence(log_probs[batch.index], logits)
        goals = torch.from_numpy(targets.phi).to(device)

        def distance(logits: Tensor, batch: Batch) -> Tensor:
            phi = label_log_odds(logits, batch.labels)
            return F.smooth_l1_loss(phi, goals[batch.index])

        return distance

    def settings(self) -> dict[str, Any]:
        """The fields as plain values, with those of the cross-fit in place of its predictions."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"crossfit": self.crossfit.settings}
