"""How a model is trained, as plain values: importable in milliseconds, hashable, comparable."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from unmem.errors import UserError, not_negative, one_of, whole_number

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["cosine", "linear", "cooldown", "constant"]
Precision = Literal["auto", "fp32", "bf16"]
Augment = Literal["none", "crop", "crop-flip"]
Compile = Literal["auto", "on", "off"]
LARGEST = 3.4e38  # what a weight can hold


class OwnNetwork(str):
    """The name of a function that makes a network, with the function itself.

    It is hashed, compared and written to files as its name, `module:function`; it is pickled with the function, so that
    other processes have one that only this session knows.

    digest: Of what the function does; set when it is first asked for, where the file of the function is at hand.
    """

    make: Callable[..., Any]
    digest: str

    def __new__(cls, make: Callable[..., Any], digest: str = "") -> OwnNetwork:
        inner: Any = getattr(make, "func", make)  # of functools.partial
        name = getattr(inner, "__qualname__", type(inner).__qualname__)
        found = super().__new__(cls, f"{getattr(inner, '__module__', '__main__')}:{name}")
        found.make, found.digest = make, digest
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        import cloudpickle

        return _arrived, (cloudpickle.dumps(self.make), self.digest)

    def __deepcopy__(self, memo: Any) -> OwnNetwork:
        return self


def _arrived(function: bytes, digest: str) -> OwnNetwork:
    return OwnNetwork(pickle.loads(function), digest)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training, fully stated: with the examples it determines the trained model.

    `model` is the name of a network, or a function of (input_shape, n_classes) that makes one.
    SGD with momentum and weight decay, as in the papers (arXiv 2410.16516, 2406.01257), or AdamW, with `momentum` as
    its beta1 and 0.999 as its beta2. `lr` is the peak learning rate; `schedule` takes it to 0 over the run (cosine,
    linear), over the second half of it (cooldown, linear), or leaves it (constant). `augment` shows each image shifted
    at random, by up to an eighth of its side, and flipped (`crop`, `crop-flip`), anew in every epoch. `precision` is
    that of the forward and backward pass: `auto` is bf16 where the hardware computes it, on a CPU for images only, and
    fp32 elsewhere; weights are always fp32.
    `label_smoothing` is ε in (1 − ε) · CE(y) + ε · mean of CE(k) over all classes k, the true one included (Szegedy et
    al. 2016, arXiv 1512.00567). Every loss that trains by the recipe has it; scores and accuracies do not.
    `compile` runs the network through `torch.compile`: `auto` does not, since it was slower wherever it was measured
    (docs/scale.md). `base` names a model file or a folder of save_pretrained from whose weights trainings start, such
    as a pretrained body; empty: from random weights.
    """

    model: str = "small_cnn"
    epochs: int = 30
    lr: float = 0.1
    batch_size: int = 128
    optimizer: Optimizer = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    schedule: Schedule = "cosine"
    augment: Augment = "none"
    precision: Precision = "auto"
    compile: Compile = "auto"
    base: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        self._name_function()
        for field, value in (("epochs", self.epochs), ("batch_size", self.batch_size), ("seed", self.seed)):
            whole_number(field, value)
        _at_least("epochs", self.epochs, 0)
        _at_least("batch_size", self.batch_size, 2)
        not_negative("momentum", self.momentum, "give one such as 0.9")
        not_negative("weight_decay", self.weight_decay, "give one such as 5e-4")
        if not 0 <= self.label_smoothing < 1:
            raise UserError("label_smoothing", self.label_smoothing, "must be at least 0 and below 1", "try 0.1, or 0")
        one_of("optimizer", self.optimizer, get_args(Optimizer))
        if self.optimizer == "adamw" and not self.momentum < 1:
            raise UserError("momentum", self.momentum, "must be below 1 for adamw", "give one such as 0.9")
        one_of("schedule", self.schedule, get_args(Schedule))
        one_of("augment", self.augment, get_args(Augment))
        one_of("precision", self.precision, get_args(Precision))
        one_of("compile", self.compile, get_args(Compile))
        if not 0 < self.lr <= LARGEST:
            raise UserError("lr", self.lr, "a learning rate is a positive number", "give one such as 0.1")

    def _name_function(self) -> None:
        model: Any = self.model
        if isinstance(model, str):
            return
        if not callable(model) or (hasattr(model, "state_dict") and not isinstance(model, type)):
            raise UserError(
                "model",
                type(model).__name__,
                "is no name of a network, and no function that makes one",
                "give a function that returns a fresh network, such as lambda input_shape, n_classes: ...",
            )
        object.__setattr__(self, "model", OwnNetwork(model))

    @property
    def passes(self) -> str:
        """How long it trains, in words."""
        return f"{self.epochs} epoch{'s' * (self.epochs != 1)}"

    @property
    def words(self) -> str:
        """How long and how fast, for people."""
        name = {"sgd": "SGD", "adamw": "AdamW"}[self.optimizer]
        smoothed = f", label smoothing {self.label_smoothing}" if self.label_smoothing else ""
        return f"{self.passes} of {name}, lr {self.lr}, batch size {self.batch_size}{smoothed}"

    def lr_at(self, progress: float) -> float:
        """The learning rate at `progress` through the run, 0 (first step) to 1 (past the last)."""
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * progress))
        if self.schedule == "linear":
            return self.lr * (1 - progress)
        if self.schedule == "cooldown":
            return self.lr * min(1.0, 2 * (1 - progress))
        return self.lr


def _at_least(field: str, value: float, lowest: int) -> None:
    if not value >= lowest:
        raise UserError(field, value, f"must be at least {lowest}", "give a larger value")
