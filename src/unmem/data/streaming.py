"""`Stream`: a lazy stand-in for a tensor of inputs, for data sets that are larger than memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unmem.errors import Phrase, UserError

Found = TypeVar("Found")
LOADERS = 2
WORTH_LOADERS = 5.0  # seconds of reading; where processes do not fork, each takes some seconds to start
# Named, since the workers of a pool may have a way of their own to start processes, which PyTorch cannot use.
_START = "fork" if sys.platform == "linux" else "spawn"
SAMPLE = 64  # items that stand for all of a stream where reading all would take too long


class Items(Protocol):
    """Inputs by number, as they are stored: tensors of one shape and type. Must be picklable."""

    def __len__(self) -> int: ...

    def __getitem__(self, k: int) -> Tensor: ...

    def name(self, k: int) -> str:
        """What the user calls the item."""
        ...


class Reader:
    """Items and the processes that read them, which all streams over these items share.

    loaders: processes to read in, 0 for none. They start with the first epoch and stay for the next.
    """

    def __init__(self, items: Items, *, loaders: int = LOADERS) -> None:
        self.items, self.loaders = items, loaders
        first = _checked(items, 0, None, None)
        self.shape, self.dtype = tuple(first.shape), first.dtype
        self._idle: defaultdict[bool, list[DataLoader[Any]]] = defaultdict(list)

    def __reduce__(self) -> tuple[Any, ...]:
        return _same_reader, (self.items, self.loaders, self.shape, self.dtype)

    def item(self, k: int) -> Tensor:
        return _checked(self.items, k, self.shape, self.dtype)

    def chunks(self, numbers: Iterable[list[int]], *, pinned: bool) -> Iterator[Tensor]:
        """[B, ...] for each list of item numbers, in their order, some of them read ahead."""
        # Streams that are read at the same time need processes of their own.
        idle = self._idle[pinned]
        loader = idle.pop() if idle else ahead(_Fetch(self.items, self.shape, self.dtype), self.loaders, pinned=pinned)
        sampler: Any = loader.batch_sampler
        sampler.numbers = numbers
        whole = True
        try:
            for found in started(loader):
                if isinstance(found, UserError):
                    raise found
                yield found
        except (RuntimeError, OSError, EOFError) as error:  # items' own errors are handed over: a process is gone
            whole = False
            _stop(loader)
            raise UserError(
                "loaders",
                self.loaders,
                f"a process that reads the data died ({f'{type(error).__name__}: {error}'.splitlines()[0]})",
                "free memory (also in /dev/shm), or use 0 or 1",
            ) from error
        finally:
            if whole:
                idle.append(loader)


def started(loader: DataLoader[Any]) -> Iterator[Any]:
    """`iter(loader)` without PyTorch's handler of dead processes, which would raise wherever the program then is.

    Whoever waits for a process that died is told so within seconds.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        return iter(loader)
    before = signal.getsignal(signal.SIGCHLD)
    try:
        return iter(loader)
    finally:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


def _stop(loader: DataLoader[Any]) -> None:
    """End what is left of its processes: PyTorch would report the dead one again, wherever the program then is."""
    running: Any = loader._iterator  # pyright: ignore[reportPrivateUsage] (there is no public way)
    if running is not None:
        running._shutdown_workers()


def ahead(dataset: Dataset[Any], loaders: int, *, pinned: bool = False) -> DataLoader[Any]:
    """What `dataset.__getitems__` gives of the lists of numbers in `batch_sampler.numbers`, read by processes."""
    # Processes of some pools may have no children; there, items are read in between the steps.
    count = 0 if multiprocessing.current_process().daemon else loaders
    return DataLoader(
        dataset,
        batch_sampler=Numbers(),
        num_workers=count,
        collate_fn=_as_it_is,
        persistent_workers=count > 0,
        pin_memory=pinned,
        multiprocessing_context=(_START if count else None),
        generator=torch.Generator(),  # or each epoch would draw from the caller's random state
    )


def _same_reader(items: Items, loaders: int, shape: tuple[int, ...], dtype: torch.dtype) -> Reader:
    reader = Reader.__new__(Reader)
    reader.items, reader.loaders, reader.shape, reader.dtype = items, loaders, shape, dtype
    reader._idle = defaultdict(list)  # pyright: ignore[reportPrivateUsage]
    return reader


class Numbers:
    """A batch sampler whose batches are set anew before each use, since the processes outlive an epoch."""

    numbers: Iterable[list[int]] = ()

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.numbers)


class _Fetch(Dataset[Any]):
    """Whole chunks at a time. A `UserError` is handed over, since PyTorch cannot rebuild it from its text."""

    def __init__(self, items: Items, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.items, self.shape, self.dtype = items, shape, dtype

    def __getitems__(self, numbers: list[int]) -> Tensor | UserError:
        try:
            return torch.stack([_checked(self.items, k, self.shape, self.dtype) for k in numbers])
        except UserError as error:
            return error


def _as_it_is(found: Any) -> Any:
    return found


def _checked(items: Items, k: int, shape: tuple[int, ...] | None, dtype: torch.dtype | None) -> Tensor:
    found = guarded(items, k, items.__getitem__)
    if shape is not None and dtype is not None:
        check_form(items.name(k), found, shape, dtype)
    return found


def guarded(items: Items, k: int, read: Callable[[int], Found]) -> Found:
    """`read(k)`; its errors as a `UserError` that names the item."""
    try:
        return read(k)
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError("data", items.name(k), f"cannot be read ({reason})", "repair it or leave it out") from error


def check_form(name: str, found: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if found.shape != shape or found.dtype != dtype:
        raise UserError(
            "inputs",
            Phrase(f"of id {name!r}"),
            f"of shape {tuple(found.shape)} and type {found.dtype}, the first one is {shape} and {dtype}",
            "bring all examples to one shape and type",
        )


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


def available_memory(device: str | torch.device) -> float:
    """Bytes that this process may still take, on this machine and on the device; infinite where it is not known."""
    limits = [_free_of_machine(), _free_of_group()]
    if torch.device(device).type == "cuda":
        limits.append(torch.cuda.mem_get_info(device)[0])
    return min(limits)


def _free_of_machine() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _free_of_group() -> float:
    """What the container leaves, where there is one (control groups, version 2)."""
    group = Path("/sys/fs/cgroup")
    try:
        return float((group / "memory.max").read_text()) - float((group / "memory.current").read_text())
    except (OSError, ValueError):  # no such file, or the limit is "max"
        return float("inf")
