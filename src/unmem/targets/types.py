"""`Targets`: what a model that was not trained on an example would predict for it.

Unlearning moves each forgotten example towards its target, tuning and the forecast read the same numbers, so they have
one type whatever they were made from. A source of targets is any callable `(problem, *, seed) -> Targets`.

Nearest prior art: Georgiev et al. 2024, "Attribute-to-Delete: Machine Unlearning via Datamodel Matching"
(arXiv 2410.23232), fine-tunes towards predicted outputs of retrained models, which it predicts by data attribution.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from unmem.data import Examples, Ids, as_ids, find_ids
from unmem.errors import UserError
from unmem.predictions import confidence, hits
from unmem.recipe import Recipe
from unmem.store import load_arrays, save_arrays
from unmem.training import Observer

Float32 = NDArray[np.float32]

_OPTIONAL = ("log_probs", "error", "rival")
_OPTION = "--targets"
_KIND = "a file of targets"
_FIX = "make targets with a source such as ShortTeacher"


class Request(Protocol):
    """What a source of targets is given; `unmem.unlearning.Problem` is one.

    model: the original. recipe: how it was trained. forget, retain: the training examples to forget, and the others.
    holdout: examples that the original was not trained on.
    """

    recipe: Recipe
    forget: Examples
    retain: Examples

    @property
    def model(self) -> nn.Module: ...

    @property
    def holdout(self) -> Examples: ...


@runtime_checkable
class Source(Protocol):
    """Anything that gives targets for the examples of a request to forget."""

    name: ClassVar[str]

    @property
    def spent(self) -> float:
        """What was spent on it before any request, in trainings of the original."""
        ...

    def __call__(self, problem: Request, *, seed: int, observers: Sequence[Observer] = ()) -> Targets:
        """Targets of `problem.forget`, in its order."""
        ...

    def cost(self, problem: Request) -> float:
        """What is still to be spent, in trainings of the original, counted from passes over examples."""
        ...

    def describe(self) -> dict[str, Any]:
        """The source as plain values, for results and files."""
        ...


@dataclass(frozen=True, eq=False)
class Targets:
    """Predictions for N examples by models that were not trained on them.

    Attributes:
        source: Where they are from: "teacher", "trace", "crossfit" or "ensemble".
        ids: [N] example ids.
        phi: [N] float32, log-odds of the label, log p_y − log(1 − p_y). Larger = known better.
        log_probs: [N, C] float32, log-probabilities of all classes, or None if the source has only `phi`.
        error: [N] float32, expected size (root mean square) of the error of `phi`, or None if it is not known.
        cost: What making them cost, in trainings of the original, with what was made before.
        seconds: What making them took.
        settings: What determined them, as plain values.
        notes: What the user should know, one sentence each.
        rival: [N] float32, log-odds of the label from which on it is the top class: the logarithm of the largest share
            that one class has of the probability of all others. For sources without `log_probs`, or None.
    """

    source: str
    ids: Ids
    phi: Float32
    log_probs: Float32 | None = None
    error: Float32 | None = None
    cost: float = 0.0
    seconds: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    notes: tuple[str, ...] = ()
    rival: Float32 | None = None

    def __repr__(self) -> str:
        return f"Targets({self.source!r}, {len(self.ids):,} examples)"

    def __post_init__(self) -> None:
        n = len(self.ids)
        shapes = [(self.phi, 1), (self.error, 1), (self.rival, 1), (self.log_probs, 2)]
        if any(array is not None and (array.ndim != dims or len(array) != n) for array, dims in shapes):
            raise UserError("targets", self.source, f"the arrays do not all have {n:,} rows", "give one row per id")

    def __len__(self) -> int:
        return len(self.ids)

    def confidence(self, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """[N] probability of the label."""
        return confidence(labels, self.phi, self.log_probs)

    def hits(self, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """[N] whether the label is the top class; without `log_probs` and `rival`, whether its probability is over
        1/2."""
        if self.log_probs is not None:
            return hits(self.log_probs, labels)
        return self.phi > (0 if self.rival is None else self.rival)

    def take(self, ids: Iterable[object]) -> Targets:
        """The targets of these examples, in the order given.

        Raises:
            UserError: Some of the examples have no target.
        """
        wanted = as_ids(ids)
        found, missing = find_ids(wanted, self.ids)
        if missing.any():
            raise UserError(
                "targets",
                self.source,
                f"there is no target for {int(missing.sum()):,} of the ids, such as {str(wanted[missing][0])!r}",
                "make targets of all examples to forget; those of forgotten examples are deleted",
            )
        return self._at(found)

    def without(self, ids: Iterable[object]) -> Targets:
        """All targets except those of these examples: what may be kept once they are forgotten."""
        return self._at(np.flatnonzero(~np.isin(self.ids, as_ids(ids))))

    def save(self, path: str | Path) -> None:
        """Write one `.npz` file, atomically."""
        arrays = {name: getattr(self, name) for name in ("ids", "phi", *_OPTIONAL)}
        facts = {name: getattr(self, name) for name in ("source", "cost", "seconds", "settings", "notes")}
        facts |= {"labels_only": True} if self.rival is not None else {}
        save_arrays(path, {name: _EMPTY if one is None else one for name, one in arrays.items()}, facts)

    @classmethod
    def load(cls, path: str | Path) -> Targets:
        """Read targets that `save` wrote.

        Raises:
            UserError: The file is missing, damaged, or something else.
        """
        arrays, facts = load_arrays(
            path, ("ids", "phi", "log_probs", "error"), option=_OPTION, kind=_KIND, fix=_FIX, optional=("rival",)
        )
        optional: dict[str, Any] = {name: arrays.get(name, _EMPTY) for name in _OPTIONAL}
        optional = {name: values if values.size else None for name, values in optional.items()}
        try:
            facts["notes"] = tuple(facts["notes"])
            if facts.pop("labels_only", False) != (optional["rival"] is not None):
                raise UserError(_OPTION, str(path), f"not {_KIND}", _FIX)
            return cls(ids=arrays["ids"], phi=arrays["phi"], **optional, **facts)
        except (TypeError, KeyError) as error:
            raise UserError(_OPTION, str(path), f"not {_KIND}", _FIX) from error

    def _at(self, where: NDArray[np.int64]) -> Targets:
        return replace(
            self,
            ids=self.ids[where],
            phi=self.phi[where],
            log_probs=None if self.log_probs is None else self.log_probs[where],
            error=None if self.error is None else self.error[where],
            rival=None if self.rival is None else self.rival[where],
        )


_EMPTY = np.empty(0, dtype=np.float32)
