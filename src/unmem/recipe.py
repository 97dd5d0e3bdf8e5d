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
    """The name of a function that builds a network, together with the function itself.

    It is hashed, compared and written to files as its name, `module:function`. It is pickled with the function, so that
    other processes can use a function that was defined interactively.

    Attributes:
        make: The function.
        digest: Digest of the function's source, set when it is first needed; empty if the source is not available.
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
    """How a model is trained. Together with the examples and a seed it determines the trained model.

    The defaults (SGD with momentum and weight decay) are those of arXiv 2410.16516 and 2406.01257.

    Attributes:
        model: Name of a network, or a function `(input_shape, n_classes) -> nn.Module` that returns a new one.
        epochs: Passes over the training set.
        lr: Peak learning rate.
        batch_size: Examples per optimizer step, at least 2.
        optimizer: "sgd" or "adamw".
        momentum: Momentum of SGD; beta1 of AdamW, whose beta2 is 0.999.
        weight_decay: Weight decay of the optimizer.
        label_smoothing: ε in (1 − ε) · CE(y) + ε · mean of CE(k) over all classes k, the true one included (Szegedy et
            al. 2016, arXiv 1512.00567). It applies to every loss that trains by the recipe, not to scores and
            accuracies.
        schedule: How the learning rate changes: it falls to 0 over the run ("cosine", "linear") or over its second half
            ("cooldown"), or stays "constant".
        augment: "crop" shifts each image at random, by up to an eighth of its side, in every epoch; "crop-flip" also
            flips half of the images horizontally.
        precision: Precision of the forward and backward passes. "auto" is bf16 where the hardware supports it (on a CPU
            for images only), else fp32. Weights are always fp32.
        compile: Whether to use `torch.compile`. "auto" does not, because it was slower in every measurement
            (docs/scale.md).
        base: Model file, or folder of `save_pretrained`, with the weights to start from. Empty: random weights.
        seed: Default seed of the weights, the order of examples and the augmentation.

    Raises:
        UserError: A value is out of range.
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
        """The number of epochs, in words."""
        return f"{self.epochs} epoch{'s' * (self.epochs != 1)}"

    @property
    def words(self) -> str:
        """The main settings, in words."""
        name = {"sgd": "SGD", "adamw": "AdamW"}[self.optimizer]
        smoothed = f", label smoothing {self.label_smoothing}" if self.label_smoothing else ""
        return f"{self.passes} of {name}, lr {self.lr}, batch size {self.batch_size}{smoothed}"

    def lr_at(self, progress: float) -> float:
        """Return the learning rate at `progress` through the run, from 0 (first step) to 1 (after the last)."""
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
