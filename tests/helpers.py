"""Helpers for the tests of several packages."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unmem.data import Examples, Splits
from unmem.unlearning import Problem

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@contextmanager
def benchmarks() -> Iterator[Callable[[str], ModuleType]]:
    """Import a benchmark by name, as if it was run from its own folder."""
    before = set(sys.modules)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in set(sys.modules) - before:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(BENCHMARKS)):
                del sys.modules[name]


@cache
def _server() -> Any:
    """Forks processes in which all is imported that takes seconds; it ends with the process of the tests."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["unmem.cli.forget_result", "unmem.ensembles", "torch._dynamo"])
    return context


def started(function: Callable[..., object], *arguments: object) -> Any:
    """A `multiprocessing.Process` that runs a function of a module; it starts in milliseconds."""
    process = _server().Process(target=function, args=arguments)
    process.start()
    return process


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(dict(model.state_dict()))


def same_state(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[key], second[key]) for key in first)


def points(n: int, *, classes: int = 3, features: int = 4, seed: int = 0, prefix: str = "") -> Examples:
    """n Gaussian points with labels that depend on them; ids are out of order on purpose."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, features)).astype(np.float32)
    labels = np.argmax(x @ random.normal(size=(features, classes)), axis=1)
    labels[:classes] = np.arange(classes)
    return Examples.of(x, labels, ids=[f"{prefix}{i}" for i in random.permutation(n)], n_classes=classes)


def point_splits(n: int = 60, *, classes: int = 3, features: int = 4) -> Splits:
    parts = (points(n, classes=classes, features=features, seed=i, prefix=p) for i, p in enumerate(("", "h", "t")))
    return Splits("points", *parts)


def without_original(problem: Problem) -> Problem:
    """The same request where nobody has the original model."""
    return Problem(None, problem.data, problem.forget.ids, recipe=problem.recipe)


def shuffled(examples: Examples, seed: int = 0) -> Examples:
    return examples.at(np.random.default_rng(seed).permutation(len(examples)))


def logits_model(scale: Sequence[Sequence[float]]) -> nn.Module:
    """A linear model without bias: logits = x @ scale.T, so that a test can dictate every output."""
    weight = torch.tensor(scale, dtype=torch.float32)
    model = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        model.weight.copy_(weight)
    return model


def kl(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p‖q) in nats, of two distributions [C]."""
    return float((p * np.log(p / q)).sum())
