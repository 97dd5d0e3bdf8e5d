"""`Stream`: a lazy stand-in for a tensor of inputs, for data sets that are larger than memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmem.data.loaders import LOADERS, Items, Reader

WORTH_LOADERS = 5.0  # seconds of reading; where processes do not fork, each takes some seconds to start
SAMPLE = 64  # items that stand for all of a stream where reading all would take too long


@dataclass(frozen=True, eq=False)
class Stream:
    """Inputs [N, ...] that are read when asked for: the items numbered `where`, handed out on `device`."""

    reader: Reader
    where: NDArray[np.int64]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def of(cls, items: Items, *, loaders: int = LOADERS) -> Stream:
        return cls(Reader(items, loaders=loaders), np.arange(len(items)))

    def __len__(self) -> int:
        return len(self.where)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self.reader.shape))

    @property
    def dtype(self) -> torch.dtype:
        return self.reader.dtype

    @property
    def ndim(self) -> int:
        return 1 + len(self.reader.shape)

    @property
    def nbytes(self) -> int:
        """Of the tensor that this stands for."""
        return self.shape.numel() * self.dtype.itemsize

    def to(self, device: torch.device | str) -> Stream:
        return replace(self, device=torch.device(device))

    def at(self, positions: NDArray[np.int64]) -> Stream:
        return replace(self, where=self.where[positions])

    def __getitem__(self, index: Any) -> Tensor:
        """As of a tensor, indexed by its first dimension; read here, one after another."""
        chosen = self.where[index.cpu().numpy() if isinstance(index, Tensor) else index]
        if chosen.ndim == 0:
            return self.reader.item(int(chosen)).to(self.device)
        if not len(chosen):
            return torch.empty((0, *self.reader.shape), dtype=self.dtype, device=self.device)
        return torch.stack([self.reader.item(int(k)) for k in chosen]).to(self.device)

    def chunks(self, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Each index with the inputs [B, ...] there, read ahead by the loaders."""
        waiting = deque[Tensor]()

        def numbers() -> Iterator[list[int]]:
            for index in indices:
                waiting.append(index)
                yield self.where[index.cpu().numpy()].tolist()

        for found in self.reader.chunks(numbers(), pinned=self.device.type == "cuda"):
            yield waiting.popleft(), found.to(self.device, non_blocking=True)

    def read(self, *, chunk: int = 256) -> Tensor:
        """All of it as a tensor; by the loaders where that is worth the time that they take to start."""
        whole = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        indices = torch.arange(len(self)).split(chunk) if len(self) else ()
        began = time.perf_counter()
        for index in indices[:1]:
            whole[index] = self[index]
        left = (time.perf_counter() - began) * (len(indices) - 1)
        ahead_or_here = self.chunks if left > WORTH_LOADERS else self._one_by_one
        for index, found in ahead_or_here(indices[1:]):
            whole[index] = found
        return whole

    def _one_by_one(self, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for index in indices:
            yield index, self[index]

    def sample(self) -> Tensor:
        """At most `SAMPLE` evenly spaced items."""
        return self[np.unique(np.linspace(0, len(self) - 1, SAMPLE).round().astype(np.int64))]

    def min(self) -> Tensor:
        """Of the sample, as are all statistics of a stream."""
        return self.sample().min()

    def max(self) -> Tensor:
        return self.sample().max()

    def changed(self, change: Callable[[Tensor], Tensor], rows: NDArray[np.int64]) -> Stream:
        """The same stream, but for `change` applied to the items at these rows. It must be picklable."""
        numbers = frozenset(self.where[rows].tolist())
        reader = Reader(_Changed(self.reader.items, change, numbers), loaders=self.reader.loaders)
        return replace(self, reader=reader)


@dataclass(frozen=True)
class _Changed:
    items: Items
    change: Callable[[Tensor], Tensor]
    numbers: frozenset[int]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, k: int) -> Tensor:
        return self.change(self.items[k]) if k in self.numbers else self.items[k]

    def name(self, k: int) -> str:
        return self.items.name(k)
