"""Items of a data set that are read one at a time, and worker processes that read them in advance."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unmem.errors import Phrase, UserError

Found = TypeVar("Found")
LOADERS = 2
# Named, since the workers of a pool may have a way of their own to start processes, which PyTorch cannot use.
_START = "fork" if sys.platform == "linux" else "spawn"


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
