"""`Examples`: inputs, labels and the ids that every score, request and result is keyed by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmem.data.scaling import Scaling
from unmem.data.streaming import Stream
from unmem.errors import Phrase, UserError

Ids = NDArray[np.str_]
Positions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Examples:
    """N labelled examples on one device. `Examples.of` builds and checks them.

    Attributes:
        inputs: [N, ...] tensor in a compact type (uint8 for images), scaled only when a batch is taken; or a stream
            that reads the inputs on demand.
        labels: [N] int64 tensor, in 0 … n_classes − 1.
        ids: [N] unique strings, stable across runs. The position of an example has no meaning.
        n_classes: Number of classes.
        scaling: How inputs are normalised in a batch. None: the model gets them as they are stored (token ids stay
            int64).
        columns: Other columns of the source by name, [N] each.
        marks: [N, 16] uint8, a digest of the source of each input, if that is cheaper to compare than the input; or
            None.
    """

    inputs: Tensor | Stream
    labels: Tensor
    ids: Ids
    n_classes: int
    scaling: Scaling | None = Scaling()
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])
    marks: NDArray[np.uint8] | None = None

    @classmethod
    def of(
        cls,
        inputs: Any,
        labels: Any,
        *,
        ids: Iterable[object] | None = None,
        n_classes: int | None = None,
        scaling: Scaling | None = Scaling(),
        columns: Mapping[str, NDArray[Any]] | None = None,
        marks: NDArray[np.uint8] | None = None,
    ) -> Examples:
        """Build checked examples from arrays, tensors or a stream.

        Args:
            inputs: [N, ...] inputs.
            labels: [N] class indices.
            ids: [N] ids. None: "0", "1", …
            n_classes: Number of classes. None: the largest label plus one.
            scaling: As in `Examples`.
            columns: As in `Examples`.
            marks: As in `Examples`.

        Raises:
            UserError: A label is not a class index, an input is not a finite number, or the ids repeat or differ in
                number.
        """
        x = inputs if isinstance(inputs, Stream) else _tensor(inputs)
        y = _class_labels(labels, n_classes)
        names = as_ids(range(len(x)) if ids is None else ids)
        _same_length(x, y, names)
        _unique(names)
        if isinstance(x, Tensor) and x.is_floating_point():
            x = x.float()
            _finite(x, names)
        classes = int(y.max()) + 1 if n_classes is None else n_classes
        return cls(x, y.to(x.device), names, classes, scaling, dict(columns or {}), marks)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Examples({len(self):,} of {self.input_shape}, {self.n_classes} classes, {self.device})"

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.inputs.shape[1:])

    @property
    def device(self) -> torch.device:
        return self.inputs.device

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the model inputs (float32, scaled) and the labels at the positions in `index`."""
        return self._scaled(self.inputs[index]), self.labels[index]

    def batches(self, chunks: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield each index with its `batch`; a stream reads ahead. `chunks` may be infinite."""
        if isinstance(self.inputs, Tensor):
            for index in chunks:
                yield index, *self.batch(index)
        else:
            for index, stored in self.inputs.chunks(chunks):
                yield index, self._scaled(stored), self.labels[index]

    def in_memory(self) -> Examples:
        """Return the same examples with inputs in a tensor. Inputs that are not finite raise `UserError`."""
        if isinstance(self.inputs, Tensor):
            return self
        inputs = self.inputs.read()
        if inputs.is_floating_point():
            inputs = inputs.float()
            _finite(inputs, self.ids)
        return replace(self, inputs=inputs)

    def with_inputs(self, inputs: Tensor | Stream) -> Examples:
        """Return the same ids and labels with other inputs."""
        return replace(self, inputs=inputs, marks=None)

    def _scaled(self, stored: Tensor) -> Tensor:
        return stored if self.scaling is None else self.scaling.apply(stored)

    def positions(self, ids: Iterable[object], *, field: str = "ids") -> Positions:
        """Return the position of each id. Ids that repeat, are unknown or are not ids raise `UserError`."""
        wanted = as_ids(ids, field=field)
        _unique(wanted, field=field)
        order, names = self._sorted
        found = np.searchsorted(names, wanted)
        found[found == len(names)] = 0
        unknown = names[found] != wanted if len(names) else np.ones(len(wanted), dtype=bool)
        if unknown.any():
            example = f"such as {str(self.ids[0])!r}" if len(self) else "none at all"
            raise UserError(
                field,
                str(wanted[unknown][0]),
                f"not an id of these {len(self):,} examples ({int(unknown.sum()):,} such)",
                f"use ids of the data set, {example}",
            )
        return order[found]

    def take(self, ids: Iterable[object], *, field: str = "ids") -> Examples:
        """Return the examples with these ids, in the order given."""
        return self.at(self.positions(ids, field=field))

    def drop(self, ids: Iterable[object], *, field: str = "ids") -> Examples:
        """Return all examples except these, in their present order."""
        keep = np.ones(len(self), dtype=bool)
        keep[self.positions(ids, field=field)] = False
        return self.at(np.flatnonzero(keep))

    def at(self, positions: NDArray[Any]) -> Examples:
        """Return the examples at these (unique) positions, or where a boolean mask is True."""
        positions = np.flatnonzero(positions) if positions.dtype == bool else positions
        index = torch.as_tensor(positions, dtype=torch.int64, device=self.device)
        return replace(
            self,
            inputs=self.inputs[index] if isinstance(self.inputs, Tensor) else self.inputs.at(positions),
            labels=self.labels[index],
            ids=self.ids[positions],
            columns={name: values[positions] for name, values in self.columns.items()},
            marks=None if self.marks is None else self.marks[positions],
        )

    def relabel(self, labels: Tensor) -> Examples:
        """Return the same examples with other labels."""
        return replace(self, labels=labels.to(self.labels))

    def to(self, device: torch.device | str) -> Examples:
        return replace(self, inputs=self.inputs.to(device), labels=self.labels.to(device))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as plain arrays, to arrive on the CPU.

        PyTorch sends a tensor to another process by moving it into shared memory where it stands, which leaves every
        NumPy view of it, here or in the caller's hands, pointing at freed memory.
        """
        inputs = self.inputs.cpu().numpy() if isinstance(self.inputs, Tensor) else self.inputs.to("cpu")
        rest = (self.ids, self.n_classes, self.scaling, self.columns, self.marks)
        return _arrived, (inputs, self.labels.cpu().numpy(), *rest)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over ids, labels, inputs and scaling, in order; stored results are checked against it.

        Images in files are represented by their size and a digest of their first and last 4 KB, whether they are read
        at once or as a stream; other streams by 64 evenly spaced inputs.
        """
        digest = hashlib.sha256(repr((self.input_shape, self.inputs.dtype, self.n_classes, self.scaling)).encode())
        digest.update("\0".join(self.ids).encode())
        inputs = self.inputs if isinstance(self.inputs, Tensor) or self.marks is not None else self.inputs.sample()
        for part in (self.labels, inputs if self.marks is None else self.marks):
            array = part.cpu().numpy() if isinstance(part, Tensor) else np.asarray(part)
            raw: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)  # Any: numpy's stub hides its buffer
            digest.update(raw)
        return digest.hexdigest()

    @cached_property
    def _sorted(self) -> tuple[Positions, Ids]:
        order = np.argsort(self.ids, kind="stable")
        return order, self.ids[order]


def _arrived(inputs: Any, labels: Any, *rest: Any) -> Examples:
    stored = inputs if isinstance(inputs, Stream) else torch.from_numpy(inputs)
    return Examples(stored, torch.from_numpy(labels), *rest)


def as_ids(ids: Iterable[object], *, field: str = "ids") -> Ids:
    """Ids as an array of strings; whole numbers are taken by their digits, anything else is refused."""
    if isinstance(ids, np.ndarray) and ids.dtype.kind == "U" and ids.ndim == 1:
        return ids
    if isinstance(ids, Tensor):
        ids = ids.cpu().numpy()
    if not hasattr(ids, "__iter__") or (isinstance(ids, np.ndarray) and ids.ndim != 1):
        raise UserError(field, Phrase(repr(ids)), "not a list of ids", "give a list, such as ['17', '99']")
    if isinstance(ids, str):
        raise UserError(field, ids, "one string is not a list of ids", "give a list, such as ['17', '99']")
    if isinstance(ids, range) or (isinstance(ids, np.ndarray) and ids.dtype.kind in "iu"):
        numbers = np.asarray(ids)
        width = max((len(str(int(end))) for end in (numbers.min(), numbers.max())), default=1) if len(numbers) else 1
        return numbers.astype(f"<U{width}")
    names = [_id(value, field) for value in ids]
    return np.array(names, dtype=np.str_) if names else np.empty(0, dtype="<U1")


def find_ids(wanted: Ids, among: Ids) -> tuple[Positions, NDArray[np.bool_]]:
    """Where each wanted id lies among the others, and which are missing there (their position means nothing)."""
    if len(among) == 0:
        return np.zeros(len(wanted), dtype=np.int64), np.ones(len(wanted), dtype=bool)
    order = np.argsort(among, kind="stable")
    names = among[order]
    found = np.minimum(np.searchsorted(names, wanted), len(names) - 1)
    return order[found], names[found] != wanted


def _id(value: object, field: str) -> str:
    if isinstance(value, str | np.str_):
        return str(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    what = Phrase(repr(value))
    raise UserError(field, what, f"{type(value).__name__} is not an id", "give text or whole numbers")


def _tensor(values: Any) -> Tensor:
    """A tensor of an array of any numeric type; those that PyTorch can hold but hardly compute with become int64."""
    if isinstance(values, Tensor):
        return values
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise UserError("inputs", None, "they differ in shape", "bring all examples to one shape") from error
    if array.dtype.kind not in "uifb":
        raise UserError("inputs", Phrase(f"of type {array.dtype}"), "inputs are real numbers", "encode them as numbers")
    if array.dtype.kind in "iu" and array.dtype.name not in ("uint8", "int8", "int16", "int32"):
        return torch.from_numpy(array.astype(np.int64))
    return torch.from_numpy(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False)))


def _class_labels(labels: Any, n_classes: int | None) -> Tensor:
    kind = "t" if isinstance(labels, Tensor) else np.asarray(labels).dtype.kind
    if kind in "USOV":
        raise UserError("labels", None, "labels must be integer class indices", "number the classes 0, 1, …")
    y = _tensor(labels)
    if y.ndim != 1:
        raise UserError(
            "labels",
            Phrase(f"of shape {tuple(y.shape)}"),
            "one class index per example is needed, not one-hot or multi-label",
            "turn them into indices, such as labels.argmax(1)",
        )
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise UserError(
            "labels",
            Phrase(f"of type {y.dtype}"),
            "class indices are whole numbers",
            "convert regression targets to classes",
        )
    y = y.to(torch.int64)
    if len(y) == 0:
        raise UserError("labels", None, "there are no examples", "give at least one")
    low, high = int(y.min()), int(y.max())
    if low < 0:
        raise UserError("labels", low, "class indices start at 0", "renumber the classes 0, 1, …")
    if n_classes is not None and high >= n_classes:
        raise UserError(
            "labels",
            high,
            f"beyond the {n_classes} classes (0 to {n_classes - 1})",
            "raise n_classes or correct the labels",
        )
    return y


def _same_length(x: Tensor | Stream, y: Tensor, ids: Ids) -> None:
    if not len(x) == len(y) == len(ids):
        raise UserError(
            "examples",
            Phrase(f"{len(x)} inputs, {len(y)} labels, {len(ids)} ids"),
            "each example needs one of each",
            "make the three equally long",
        )


def _unique(ids: Ids, *, field: str = "ids") -> None:
    names, counts = np.unique(ids, return_counts=True)
    if len(names) < len(ids):
        raise UserError(field, str(names[counts > 1][0]), "the id is there more than once", "give each id once")


def _finite(x: Tensor, ids: Ids) -> None:
    bad = ~torch.isfinite(x.flatten(1) if x.ndim > 1 else x[:, None]).all(dim=1)
    if bool(bad.any()):
        names: Ids = ids[bad.cpu().numpy()]
        raise UserError(
            "inputs",
            Phrase(f"of id {str(names[0])!r}"),
            f"not finite numbers ({len(names):,} such examples)",
            "repair or leave out these examples",
        )
