"""Read map-style PyTorch data sets."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from unmem.data.devices import available_memory
from unmem.data.examples import Examples, as_ids
from unmem.data.images import PIXELS, Form, channels_first, depth_of, is_grey, mode_of, unlike_depth
from unmem.data.labels import class_indices
from unmem.data.loaders import Reader, ahead, check_form, guarded, started
from unmem.data.modules import module_at
from unmem.data.reading import Reading
from unmem.data.scaling import Scaling
from unmem.data.splits import Splits
from unmem.data.streaming import Stream
from unmem.data.unlabelled import check_classes, check_train, is_missing
from unmem.errors import UserError

_INPUT_KEYS = ("input", "inputs", "pixel_values", "x", "image", "img", "input_ids")
_LABEL_KEYS = ("label", "labels", "target", "y")
_ID_KEYS = ("id", "ids")
CHUNK = 64  # items that a process reads at a time


def of_items(name: str, parts: dict[str, Any], how: Reading, module: str) -> Splits:
    """Read map-style data sets into splits. Large ones are streamed instead of held in memory.

    Args:
        name: Name of the data set.
        parts: Data sets by part, `train` among them.
        how: How to read them.
        module: The user's module that defines them, as `module_at` takes it; empty if there is none.
    """
    for part, found in parts.items():
        if not (hasattr(found, "__len__") and hasattr(found, "__getitem__")):
            raise UserError(
                "data",
                type(found).__name__,
                f"of {part} has no length and no items by number",
                "give a map-style torch.utils.data.Dataset",
            )
        if len(found) == 0:
            raise UserError("data", None, f"{part} has no examples", "give at least one")
    module = str(Path(module).resolve()) if module.endswith(".py") else module
    items = DatasetItems(tuple(parts.values()), tuple(parts), how.height_and_width, how.mode, module=module)
    items = items.in_form_of_first()
    stream = Stream.of(items, loaders=how.loaders)
    reads_at_once = how.stream != "always" and stream.nbytes <= available_memory("cpu") / 4
    facts, stored = _read_all(items, stream.reader, keep=reads_at_once)
    bare = _without_labels(parts, facts)
    if bare:
        kept = {part: found for part, found in parts.items() if part not in bare}
        splits = of_items(name, kept, how, module)
        told = tuple(f"{part} of {name} has examples without a label and was left out" for part in bare)
        return replace(splits, notes=(*splits.notes, *told))
    labels, classes = class_indices(_labels([label for label, _ in facts]), source="the data set")
    own: Any = getattr(parts["train"], "classes", None)
    if not classes and isinstance(own, Sequence) and len(own) > labels.max():  # pyright: ignore[reportUnknownArgumentType]
        classes = tuple(map(str, own))  # pyright: ignore[reportUnknownArgumentType]
    count = len(classes) or int(labels.max()) + 1
    examples: dict[str, Examples] = {}
    first = 0
    for part, found in parts.items():
        rows = range(first, first + len(found))
        ids = as_ids([items.name(k) if facts[k][1] is None else facts[k][1] for k in rows])
        examples[part] = Examples.of(np.array(rows), labels[np.array(rows)], ids=ids, n_classes=count)
        first += len(found)
    check_classes(examples)
    splits = replace(Splits.of_parts(name, examples, classes=classes, parting=how.parting), notes=_notes(items))
    if stored is not None:
        names = np.concatenate([one.ids for one in examples.values()])
        stored = Examples.of(stored, labels, ids=names).inputs  # refuses what is not finite
    return splits.filled(stream if stored is None else stored, scaling=_scaling(stream))


def _without_labels(parts: dict[str, Any], facts: list[tuple[Any, Any]]) -> list[str]:
    """Unseen parts with examples that have no label. The training set must have them."""
    bare: list[str] = []
    first = 0
    for part, found in parts.items():
        missing = [row for row in range(len(found)) if is_missing(facts[first + row][0])]
        first += len(found)
        if part == "train":
            check_train(missing)
        elif missing:
            bare.append(part)
    return bare


def _scaling(stream: Stream) -> Scaling | None:
    """Bytes are pixels; a row of 64-bit whole numbers is a text by its token ids; other numbers stay as they are."""
    if stream.dtype == torch.uint8:
        return PIXELS
    form = getattr(stream.reader.items, "form", None)
    if form is not None:
        return form.scaling
    return None if stream.dtype == torch.int64 and stream.ndim == 2 else Scaling()


def _read_all(items: DatasetItems, reader: Reader, *, keep: bool) -> tuple[list[tuple[Any, Any]], Tensor | None]:
    """Label and id of each item, and the inputs of all if they are to be kept."""
    whole = torch.empty((len(items), *reader.shape), dtype=reader.dtype) if keep else None
    facts: list[tuple[Any, Any]] = []
    # What fits into memory is read here: a script of a user may not be ready for processes that import it.
    loader = ahead(_Facts(items, reader.shape, reader.dtype, keep), 0 if keep else reader.loaders)
    sampler: Any = loader.batch_sampler
    sampler.numbers = [list(range(k, min(k + CHUNK, len(items)))) for k in range(0, len(items), CHUNK)]
    for found in started(loader):
        if isinstance(found, UserError):
            raise found
        inputs, some = found
        if whole is not None:
            whole[len(facts) : len(facts) + len(some)] = inputs
        facts += some
    return facts, whole


@dataclass(frozen=True)
class _Facts(Dataset[Any]):
    """By numbers: the inputs if they are wanted, and labels and ids."""

    items: DatasetItems
    shape: tuple[int, ...]
    dtype: torch.dtype
    inputs: bool

    def __getitems__(self, numbers: list[int]) -> Any:
        try:
            found = [guarded(self.items, k, self.items.whole) for k in numbers]
            for k, (stored, _, _) in zip(numbers, found, strict=True):
                check_form(self.items.name(k), stored, self.shape, self.dtype)
        except UserError as error:
            return error
        inputs = torch.stack([stored for stored, _, _ in found]) if self.inputs else None
        return inputs, [(label, name) for _, label, name in found]


def _labels(found: list[Any]) -> NDArray[Any]:
    if any(isinstance(one, list | tuple) for one in found):
        return np.zeros((len(found), 2))  # one-hot or multi-label: refused by its shape
    return np.array(found)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, Tensor | np.ndarray | np.generic) else value


def _notes(items: DatasetItems) -> tuple[str, ...]:
    seen = () if items.form is None else items.form.notes
    if torch.equal(items[0], items[0]):
        return seen
    return (
        *seen,
        "the data set gives another input each time an item is read; scores and unlearning need it to be the same",
    )


@dataclass(frozen=True)
class DatasetItems:
    """The items of PyTorch data sets, one data set after the other.

    form: what Pillow images are brought to. module: the user's own, which other processes import first.
    """

    datasets: tuple[Any, ...]
    parts: tuple[str, ...]
    size: tuple[int, int] | None = None
    mode: Literal["RGB", "L"] | None = None
    form: Form | None = None
    module: str = ""

    def __len__(self) -> int:
        return sum(len(one) for one in self.datasets)

    def in_form_of_first(self) -> DatasetItems:
        """With images in the size and mode of the first one, where nothing else was asked for."""
        first = _fields(guarded(self, 0, self._raw))[0]
        if not hasattr(first, "convert"):
            return self
        mode = self.mode or mode_of([first.mode])
        form = Form(mode, self.size or (first.height, first.width), depth_of(first))
        return replace(self, form=form)

    def __reduce__(self) -> tuple[Any, ...]:
        fields = self.datasets, self.parts, self.size, self.mode, self.form, self.module
        # Apart, since the classes in it are known once their module is there.
        return (_arrived, (self.module, cloudpickle.dumps(fields))) if self.module else (DatasetItems, fields)

    def __getitem__(self, k: int) -> Tensor:
        return self.whole(k)[0]

    def whole(self, k: int) -> tuple[Tensor, Any, Any]:
        """Input, label, and id or None."""
        value, label, name = _fields(self._raw(k))
        return self._stored(value, k), _plain(label), _plain(name)

    def _stored(self, value: Any, k: int) -> Tensor:
        if self.form is None or not hasattr(value, "convert"):
            return _tensor(value)
        if self.form.mode == "L" and self.mode is None and not is_grey(value.mode):
            raise UserError(
                "data", self.name(k), "is a colour image, the first one is grey", "pass --grey or --rgb for all"
            )
        depth = depth_of(value)
        if depth != self.form.depth and (self.form.depth, depth) != ("16 bits", "bytes"):
            raise unlike_depth(self.name(k), depth, self.name(0))
        if self.size is None and (value.height, value.width) != self.form.size:
            sizes = f"is {value.height}x{value.width}, the first one {self.form.size[0]}x{self.form.size[1]}"
            raise UserError("data", self.name(k), sizes, "pass --size to bring all to one size")
        return self.form.of(value)

    def name(self, k: int) -> str:
        which, number = self._place(k)
        return str(number) if which == 0 else f"{self.parts[which]}-{number}"

    def _raw(self, k: int) -> Any:
        which, number = self._place(k)
        return self.datasets[which][number]

    def _place(self, k: int) -> tuple[int, int]:
        for which, one in enumerate(self.datasets):
            if k < len(one):
                return which, int(k)
            k -= len(one)
        raise IndexError(k)


def _arrived(module: str, fields: bytes) -> DatasetItems:
    module_at(module)
    return DatasetItems(*pickle.loads(fields))


def _fields(item: Any) -> tuple[Any, Any, Any]:
    """Input, label and id or None."""
    if isinstance(item, Mapping):
        found: list[Any] = []
        for keys in (_INPUT_KEYS, _LABEL_KEYS, _ID_KEYS):
            key = next((key for key in keys if key in item), None)
            if key is None and keys is not _ID_KEYS:
                keys_there = ", ".join(map(str, item))  # pyright: ignore[reportUnknownArgumentType]
                raise UserError("data", None, f"items have no {keys[0]} (they have {keys_there})", f"add {keys[0]}")
            found.append(None if key is None else item[key])
        return found[0], found[1], found[2]
    if isinstance(item, tuple | list) and len(item) in (2, 3):  # pyright: ignore[reportUnknownArgumentType]
        return item[0], item[1], item[2] if len(item) == 3 else None  # pyright: ignore[reportUnknownArgumentType]
    raise UserError(
        "data", type(item).__name__, "is no item with a label", "items are (input, label) or (input, label, id)"
    )


def _tensor(value: Any) -> Tensor:
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(channels_first(value) if value.ndim == 3 else value))
    found = value if isinstance(value, Tensor) else torch.tensor(value)
    return found[None] if found.dtype == torch.uint8 and found.ndim == 2 else found
