"""Loss curvature with respect to an example's input: memorized examples have a sharper loss (Garg et al. 2024).

    ‖∇ₓℓ(x + h z) − ∇ₓℓ(x)‖₂   with z = sign(∇ₓℓ(x)) / ‖sign(∇ₓℓ(x))‖₂

is the form of arXiv 2410.16516: one signed direction, unsquared, averaged over the epochs of training. Garg et al.
average the square over Rademacher directions, a Hutchinson estimate of the squared Frobenius norm of the input Hessian.
Inputs are as the model sees them, so h is in those units. Token ids have no gradient; x is then their embedding.
Larger = more memorized.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmem.data import Examples
from unmem.errors import UserError, one_of
from unmem.memorization.scores import Scores
from unmem.recipe import Recipe
from unmem.training import Recorder, evaluating, evaluation_batch

Directions = Literal["sign", "rademacher"]


def curvature(
    model: nn.Module,
    examples: Examples,
    *,
    directions: Directions = "sign",
    h: float | None = None,
    repeats: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Scores:
    """Compute the curvature score of each example under a finished model, in evaluation mode and full precision.

    Args:
        model: The model.
        examples: N training examples.
        directions: "sign" (one signed direction, two gradients per example) or "rademacher" (1 + `repeats` gradients).
        h: Length of the step, in units of the model's inputs. None is 0.01 for "sign" and 0.001 for "rademacher", as in
            the sources.
        repeats: Number of Rademacher directions. None is 10.
        seed: Seed of the Rademacher directions.
        batch_size: Examples per batch. None chooses a size that suits the device.

    Returns:
        Scores, larger = more memorized.
    """
    step, count = _settings(directions, h, repeats)
    values = input_curvature(
        model, examples, directions=directions, h=step, repeats=count, seed=seed, batch_size=batch_size
    )
    settings = {"directions": directions, "h": step, "repeats": count, "seed": seed, "data": examples.fingerprint}
    return Scores("curvature", examples.ids, values.double().cpu().numpy(), settings=settings)


class CurvatureTrace(Recorder):
    """An observer that averages the curvature over the epochs of a training.

    Args:
        every: Measure after every so many epochs, and after the last. A measurement costs one to two epochs of
            training; the average changes slowly with fewer (benchmarks/scores.py).
        directions: As in `curvature`.
        h: As in `curvature`.

    Attributes:
        seconds: Time spent on the measurements so far.
    """

    keeps = ("_sum", "_passes", "seconds")
    seconds: float = 0.0

    def __init__(self, *, every: int = 1, directions: Directions = "sign", h: float | None = None) -> None:
        if every < 1:
            raise UserError("every", every, "must be at least 1", "give 1 for every epoch")
        self._every = every
        self._directions: Directions = directions
        self._h, self._repeats = _settings(directions, h, None)

    def on_start(self, examples: Examples, recipe: Recipe) -> None:
        self._examples, self._recipe = examples, recipe
        self._sum = torch.zeros(len(examples), device=examples.device)
        self._passes = 0
        self.seconds = 0.0

    def on_epoch(self, epoch: int, model: nn.Module) -> None:
        last = epoch + 1 == self._recipe.epochs
        if last or (epoch + 1) % self._every == 0:
            began = time.perf_counter()
            self._sum += input_curvature(
                model, self._examples, directions=self._directions, h=self._h, repeats=self._repeats, seed=epoch
            )
            self._passes += 1
            self.seconds += time.perf_counter() - began

    def scores(self) -> Scores:
        if not hasattr(self, "_passes") or self._passes == 0:
            raise UserError("score", "curvature", "no epoch was watched", "pass this to train(observers=[...])")
        settings = {
            "recipe": asdict(self._recipe),
            "directions": self._directions,
            "h": self._h,
            "every": self._every,
            "passes": self._passes,
            "data": self._examples.fingerprint,
        }
        values = self._sum / self._passes
        return Scores("curvature", self._examples.ids, values.double().cpu().numpy(), settings=settings)


def input_curvature(
    model: nn.Module,
    examples: Examples,
    *,
    directions: Directions,
    h: float,
    repeats: int,
    seed: int,
    batch_size: int | None = None,
) -> Tensor:
    """Return the curvature of each example, [N] float32, in the order of `examples`. The model is not changed."""
    random = torch.Generator().manual_seed(seed)
    index = torch.arange(len(examples), device=examples.device)
    # Filled in place: many small results kept between large temporaries would scatter over the heap and hold it.
    values = torch.empty(len(examples), device=examples.device)
    with evaluating(model):
        chunks = index.split(batch_size or evaluation_batch(examples))
        for part, x, y in examples.batches(chunks):
            values[part] = _batch_curvature(model, x, y, directions, h, repeats, random)
    return values


def _batch_curvature(
    model: nn.Module, x: Tensor, y: Tensor, directions: Directions, h: float, repeats: int, random: torch.Generator
) -> Tensor:
    base = input_gradient(model, x, y)
    if directions == "sign":
        sign = base.sign()
        # An input without any gradient has no direction; it stays where it is and its curvature is 0.
        length = sign.flatten(1).norm(dim=1).clamp_min(1).reshape(-1, *[1] * (base.ndim - 1))
        return (input_gradient(model, x, y, shift=h * sign / length) - base).flatten(1).norm(dim=1)
    total = torch.zeros(len(x), device=x.device)
    for _ in range(repeats):
        v = (torch.randint(0, 2, base.shape, generator=random) * 2 - 1).to(base)
        total += ((input_gradient(model, x, y, shift=h * v) - base) / h).flatten(1).square().sum(1)
    return total / repeats


def input_gradient(model: nn.Module, x: Tensor, y: Tensor, *, shift: Tensor | None = None) -> Tensor:
    """Return ∇ₓ of each example's cross-entropy at x + shift, with the shape of x. Gradients of parameters are not
    touched.

    For token ids [B, L], gradient and shift are those of their embeddings, [B, L, E].
    """
    if not x.is_floating_point():
        return _embedding_gradient(model, x, y, shift)
    x = (x if shift is None else x + shift).detach().requires_grad_()
    # In evaluation mode the examples do not see each other, so the gradient of the sum is each one's own.
    loss = F.cross_entropy(model(x), y, reduction="sum")
    return torch.autograd.grad(loss, x)[0]


def _embedding_gradient(model: nn.Module, tokens: Tensor, y: Tensor, shift: Tensor | None) -> Tensor:
    layer = next((module for module in model.modules() if isinstance(module, nn.Embedding)), None)
    if layer is None:
        raise UserError(
            "score",
            "curvature",
            "token ids have no gradient, and this model has no nn.Embedding to take it by",
            "choose another score, such as confidence",
        )
    weight = layer.weight
    at = weight.new_zeros(*tokens.shape, weight.shape[1]) if shift is None else shift
    at = at.detach().requires_grad_()

    def moved(_: nn.Module, inputs: tuple[Tensor, ...], embedded: Tensor) -> Tensor:
        return embedded + at if inputs[0].shape == tokens.shape else embedded

    hook = layer.register_forward_hook(moved)
    try:
        loss = F.cross_entropy(model(tokens), y, reduction="sum")
        return torch.autograd.grad(loss, at)[0]
    finally:
        hook.remove()


def _settings(directions: Directions, h: float | None, repeats: int | None) -> tuple[float, int]:
    one_of("directions", directions, get_args(Directions))
    sign = directions == "sign"
    step = (0.01 if sign else 0.001) if h is None else h
    count = 1 if sign else (10 if repeats is None else repeats)
    if not step > 0 or count < 1:
        field, value = ("repeats", count) if step > 0 else ("h", step)
        raise UserError(field, value, "must be positive", "leave it out for the default")
    return step, count
