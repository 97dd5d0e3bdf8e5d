"""Influence unlearning: one Newton-like step to where training without the forget set would have led.

    θ' = θ + (|S| / |R|) · (C_R + λI)⁻¹ · (∇CE(S) + w·θ)

C_R is a curvature matrix of the mean loss on the retain set, w the weight decay of the training. Where the loss is
quadratic, C its Hessian, λ = w and θ the optimum, this is exactly the model retrained without S.
Sources: Koh & Liang 2017; Izzo et al. 2021 (arXiv 2002.10077); the empirical Fisher matrix in place of the Hessian as
in WoodFisher, Singh & Alistarh 2020 (arXiv 2004.14340).

Deviations from the code of arXiv 2304.04934 and 2406.01257: it applies the recursion of WoodFisher to one vector and
drops the terms between examples; here the linear system is solved by conjugate gradients, with products of the matrix
and a vector only. It scales the step by a constant that the papers tune; here the scale is |S| / |R|. Afterwards the
running statistics of batch norm are recomputed on the retain set, where that code keeps them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from unmem.batchnorm import recompute_batchnorm
from unmem.data import Examples, stratified_sample
from unmem.errors import DivergedError, UserError, not_negative, one_of, whole_number
from unmem.training import Observer, evaluating, evaluation_batch, predicted
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import BatchNorm, Setting

Matrix = Literal["fisher", "gauss-newton"]
Vector = dict[str, Tensor]  # by parameter, in its shape
P = TypeVar("P")
HALVINGS = 30  # of a step that is not to be trusted


@dataclass(frozen=True, kw_only=True)
class Influence:
    """Take one Newton-like step away from the forget set.

    The default is the Gauss-Newton matrix on the 1,000 samples of WoodFisher. If a model fits its data, gradients and
    the Fisher matrix nearly vanish, and the step is unreliable.

    Attributes:
        matrix: "fisher", the mean of g gᵀ over examples (WoodFisher), or "gauss-newton", the mean of Jᵀ H J.
        damping: λ. None is the original's weight decay, which is part of the Hessian.
        scale: Factor on the whole step.
        trust: The step is halved until it raises the mean loss on the samples by at most this, in nats, because the
            quadratic approximation only holds nearby. None never shortens the step.
        samples: Number of retain examples for the matrix.
        iterations: Maximum number of iterations of conjugate gradients.
        batchnorm: As in `GradientUnlearner`.
    """

    name: ClassVar[str] = "influence"
    matrix: Matrix = "gauss-newton"
    damping: float | None = None
    scale: float = 1.0
    trust: float | None = 0.05
    samples: int = 1000
    iterations: int = 20
    batchnorm: BatchNorm = "recompute"

    def __post_init__(self) -> None:
        one_of("matrix", self.matrix, get_args(Matrix))
        one_of("batchnorm", self.batchnorm, get_args(BatchNorm))
        for field, value in (("samples", self.samples), ("iterations", self.iterations)):
            whole_number(field, value)
            if value < 1:
                raise UserError(field, value, "must be at least 1", "give a larger number")
        for field, value, example in (("damping", self.damping, "5e-4"), ("trust", self.trust, "0.05")):
            if value is not None and not 0 < value < math.inf:
                raise UserError(field, value, "must be a positive number", f"give one such as {example}")
        not_negative("scale", self.scale, "give one such as 1")

    def __call__(
        self, problem: Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        new = copy.deepcopy(problem.model if start is None else start).eval()
        decay = problem.recipe.weight_decay
        damping = self.damping if self.damping is not None else max(decay, 1e-8)
        product = fisher_product if self.matrix == "fisher" else gauss_newton_product
        loss: Losses = partial(cross_entropies, smoothing=problem.recipe.label_smoothing)
        chosen = stratified_sample(problem.retain, min(self.samples, len(problem.retain)), seed=seed)
        step = removal_step(
            new,
            problem.forget,
            chosen,
            share=len(problem.forget) / len(problem.retain),
            product=product,
            loss=loss,
            decay=decay,
            damping=damping,
            iterations=self.iterations,
        )
        if not all(bool(torch.isfinite(value).all()) for value in step.values()):
            error = DivergedError("damping", damping, "the step is not finite", "use a larger damping")
            error.last_good = new.state_dict()
            raise error
        self._move(new, step, chosen, loss)
        if self.batchnorm == "recompute":
            recompute_batchnorm(new, problem.retain, recipe=problem.recipe)
        return new

    @torch.no_grad()
    def _move(self, model: nn.Module, step: Vector, sample: Examples, loss: Losses) -> None:
        """Add as much of the step as can be trusted to the parameters, in place.

        Raises:
            DivergedError: No part of the step can be trusted. The parameters are unchanged.
        """
        start = {name: value.clone() for name, value in trainable(model).items()}
        allowed = None if self.trust is None else _mean_loss(model, sample, loss) + self.trust
        length = self.scale
        for _ in range(HALVINGS):
            for name, parameter in model.named_parameters():
                if name in step:
                    parameter.copy_(start[name] + length * step[name])
            if allowed is None or _mean_loss(model, sample, loss) <= allowed:
                return
            length /= 2
        for name, value in start.items():
            model.get_parameter(name).copy_(value)
        error = DivergedError("trust", self.trust, "no part of the step keeps the loss that low", "use more damping")
        error.last_good = model.state_dict()
        raise error

    def cost(self, problem: Problem) -> float:
        samples = min(self.samples, len(problem.retain))
        return 2 * self.iterations * samples / (len(problem.retain) * max(1, problem.recipe.epochs))

    def tuned(self, problem: Problem, setting: Setting) -> Self:
        return replace(self, scale=setting.strength * self.scale)


# Loss of each example, [B], from logits [B, C] and labels [B].
Losses = Callable[[Tensor, Tensor], Tensor]
# (model, examples, losses, vector) -> curvature matrix times vector.
Product = Callable[[nn.Module, Examples, Losses, Vector], Vector]


def cross_entropies(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)


def removal_step(
    model: nn.Module,
    forget: Examples,
    sample: Examples,
    *,
    share: float,
    product: Product,
    loss: Losses,
    decay: float,
    damping: float,
    iterations: int,
) -> Vector:
    """Return share · (C + damping · I)⁻¹ · (gradient of the mean loss on `forget` + decay · θ); C is from `sample`."""
    parameters = trainable(model)
    with evaluating(model):
        gradient = _over_batches(
            model, forget, lambda f, labels: _pulled_back(f, parameters, _slopes(loss, labels, len(forget)))
        )
        right = {name: gradient[name] + decay * parameters[name] for name in parameters}

        def apply(vector: Vector) -> Vector:
            curved = product(model, sample, loss, vector)
            return {name: curved[name] + damping * vector[name] for name in vector}

        solved = conjugate_gradients(apply, right, iterations=iterations)
    return {name: share * value for name, value in solved.items()}


def fisher_product(model: nn.Module, examples: Examples, loss: Losses, vector: Vector) -> Vector:
    """Return the mean over examples of g (gᵀ v), with g the gradient of an example's loss."""
    parameters = trainable(model)

    def of_batch(logits: Callable[[Vector], Tensor], labels: Tensor) -> Vector:
        def losses(at: Vector) -> Tensor:
            return loss(logits(at), labels)

        _, along = _forward(losses, parameters, vector)
        return _pulled_back(losses, parameters, lambda _: along / len(examples))

    return _over_batches(model, examples, of_batch)


def gauss_newton_product(model: nn.Module, examples: Examples, loss: Losses, vector: Vector) -> Vector:
    """Return the mean over examples of Jᵀ H (J v): J of the logits by the parameters, H of the loss by the logits."""
    parameters = trainable(model)

    def of_batch(logits: Callable[[Vector], Tensor], labels: Tensor) -> Vector:
        at, along = _forward(logits, parameters, vector)

        ones = torch.ones_like(labels, dtype=at.dtype)
        _, curved = _forward(lambda z: _slope(loss, z, labels, ones), at, along)
        return _pulled_back(logits, parameters, lambda _: curved / len(examples))

    return _over_batches(model, examples, of_batch)


def conjugate_gradients(
    apply: Callable[[Vector], Vector], right: Vector, *, iterations: int, tolerance: float = 1e-6
) -> Vector:
    """Solve apply(x) = right, for a symmetric positive definite `apply`, to a relative residual of `tolerance`."""
    x = {name: torch.zeros_like(value) for name, value in right.items()}
    residual, direction = dict(right), dict(right)
    size = start = _dot(residual, residual)
    for _ in range(iterations):
        if size <= tolerance**2 * start:
            break
        curved = apply(direction)
        length = size / _dot(direction, curved)
        x = {name: x[name] + length * direction[name] for name in x}
        residual = {name: residual[name] - length * curved[name] for name in x}
        previous, size = size, _dot(residual, residual)
        direction = {name: residual[name] + size / previous * direction[name] for name in x}
    return x


def _mean_loss(model: nn.Module, examples: Examples, loss: Losses) -> float:
    return float(predicted(model, examples, lambda logits, labels: [loss(logits, labels)])[0].mean())


def trainable(model: nn.Module) -> Vector:
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def _dot(a: Vector, b: Vector) -> float:
    return float(sum((a[name].double() * b[name].double()).sum() for name in a))


def _slopes(loss: Losses, labels: Tensor, n: int) -> Callable[[Tensor], Tensor]:
    """The gradient of Σ loss / n by the logits."""
    return lambda z: _slope(loss, z, labels, torch.full(labels.shape, 1 / n, dtype=z.dtype, device=z.device))


def _slope(loss: Losses, z: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """The gradient by the logits z of the weighted sum of the losses."""

    def losses(z: Tensor) -> Tensor:
        return loss(z, labels)

    return _pulled_back(losses, z, lambda _: weights)


def _forward(f: Callable[[P], Tensor], at: P, along: P) -> tuple[Tensor, Tensor]:
    """f at a point, and its derivative there in a direction."""
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no such derivative
        try:
            found: Any = jvp(f, (at,), (along,))
        except (NotImplementedError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            return _forward_by_reverse(f, at, along)
    return found[0], found[1]


def _forward_by_reverse(f: Callable[[P], Tensor], at: P, along: P) -> tuple[Tensor, Tensor]:
    """The same for layers without forward-mode derivatives: w -> Jᵀ w is linear, and its own transpose is J.

    Raises `UserError` if a layer cannot be differentiated twice either.
    """
    try:
        found: Any = vjp(f, at)
        value, pull = found

        def pulled(w: Tensor) -> P:
            return pull(w)[0]

        transposed: Any = vjp(pulled, torch.zeros_like(value))
        return value, transposed[1](along)[0]
    except (NotImplementedError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).splitlines()[0]
        problem = f"a layer of this network has no second derivatives ({reason})"
        raise UserError("method", "influence", problem, "use another method, such as matching") from error


def _pulled_back(f: Callable[[P], Tensor], at: P, weights: Callable[[Tensor], Tensor]) -> P:
    """Jᵀ w with J of f at a point and w made from the value of f there."""
    found: Any = vjp(f, at)
    value, pull = found
    return pull(weights(value))[0]


def _over_batches(
    model: nn.Module, examples: Examples, of_batch: Callable[[Callable[[Vector], Tensor], Tensor], Vector]
) -> Vector:
    """The sum over batches of a vector made from (parameters -> logits of the batch) and the labels of the batch."""
    total = {name: torch.zeros_like(p) for name, p in trainable(model).items()}
    index = torch.arange(len(examples), device=examples.device)
    for _, inputs, labels in examples.batches(index.split(evaluation_batch(examples))):

        def logits(at: Vector, inputs: Tensor = inputs) -> Tensor:
            found: Any = functional_call(model, at, (inputs,))
            return found

        for name, value in of_batch(logits, labels).items():
            total[name] += value
    return total
