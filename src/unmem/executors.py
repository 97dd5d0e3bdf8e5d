"""Where independent trainings run: here, in processes of this machine, on a Ray or Dask cluster, or in any executor.

`run_all` is the one way in. A task is small (seed, subset); the data that all tasks share travel once to each worker.
A task that crashes or diverges is retried once and then skipped, and the others go on.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Thread
from typing import Any, Literal, Protocol, TypeVar, get_args

import torch

from unmem.allocator import keep_freed_memory
from unmem.clusters import OwnDask, OwnRay, connect_ray, forget_environment
from unmem.errors import DivergedError, UserError, one_of
from unmem.extras import require
from unmem.interrupts import uninterrupted

Name = Literal["serial", "processes", "ray", "dask"]
Where = Name | Executor | None
Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")
TRIES = 2
_PACKAGES = {"ray": "ray", "dask": "distributed"}
GPU_SHARE = 0.25  # of a GPU, for one task on a cluster: small models do not fill one
MANY = 100_000  # tasks at a time, where the engine keeps its own queue


@dataclass(frozen=True)
class Failed:
    """A task that was given up. error: of its last attempt."""

    error: BaseException

    def __str__(self) -> str:
        if isinstance(self.error, BrokenExecutor):
            return "its worker process died: killed, or out of memory"
        if isinstance(self.error, UserError):
            return str(self.error)
        return f"{type(self.error).__name__}: {self.error}".split("\n")[0]


def check_executor(where: Where, *, field: str = "executor") -> None:
    """Refuse an unknown name, an engine that is not installed, and threads."""
    if isinstance(where, str):
        one_of(field, where, get_args(Name))
        if where in _PACKAGES:
            require(_PACKAGES[where], field=field, value=where)
        if where == "dask" and _dask_client() is None and not _dask_address():
            require("cryptography", field=field, value=where)  # for a cluster of our own that others cannot enter
    if isinstance(where, ThreadPoolExecutor) and where._max_workers > 1:  # pyright: ignore (no public name)
        raise UserError(field, None, "threads would share one random state", "use processes")


def run_all(
    function: Callable[[Shared, Task], Result],
    shared: Shared,
    tasks: Sequence[Task],
    *,
    where: Where = None,
    workers: int | None = None,
    on_warning: Callable[[str], None] | None = None,
    names: Callable[[int], str] = lambda k: f"task {k + 1}",
) -> Iterator[tuple[int, Result | Failed]]:
    """`function(shared, task)` for every task: its position and its result, in the order in which they end.

    where: `None` or "serial" for here, one after another; "processes" for this machine's cores, one thread each; "ray"
        and "dask" for the cluster that the environment names, or one started here; any other executor as it is.
        workers: how many at a time (default: one a core; with a cluster, what it has). on_warning: called
        with a sentence for each failure; names: what a task is called there.
    A wrong input (`UserError`) ends everything. Closing the iterator, or an interrupt, stops what still runs.
    """
    check_executor(where)
    if not tasks:
        return
    engine = _engine(where, shared, workers)
    try:
        yield from _until_done(engine, function, tasks, on_warning or _silent, names)
    except BaseException as stop:
        with uninterrupted(drop=isinstance(stop, KeyboardInterrupt)):
            engine.close(kill=True)
        raise
    with uninterrupted(drop=False):
        engine.close(kill=False)


def _until_done(
    engine: _Engine,
    function: Callable[[Shared, Task], Result],
    tasks: Sequence[Task],
    on_warning: Callable[[str], None],
    names: Callable[[int], str],
) -> Iterator[tuple[int, Result | Failed]]:
    waiting, running = deque(range(len(tasks))), dict[Future[Result], int]()
    failures = dict.fromkeys(waiting, 0)
    suspects = set[int]()  # what ran when a worker died: whose fault it was shows when each runs alone

    def room() -> int:
        return 1 if suspects.intersection([*running.values(), *list(waiting)[:1]]) else engine.room

    while waiting or running:
        while waiting and len(running) < room():
            k = waiting.popleft()
            running[engine.submit(function, tasks[k])] = k
        done = wait(running, return_when=FIRST_COMPLETED).done
        broken = any(isinstance(future.exception(), BrokenExecutor) for future in done)
        if broken:
            done = wait(running).done  # a pool breaks as a whole
        crashed = [future for future in done if isinstance(future.exception(), BrokenExecutor)]
        for future in done:
            k, error = running.pop(future), future.exception()
            if error is None:
                yield k, future.result()
                continue
            if not _may_be_tried_again(error):
                raise error
            failures[k] += 0 if future in crashed and len(crashed) > 1 else 1  # whose fault it was is not known
            if failures[k] < TRIES:
                on_warning(f"{names(k)} failed ({Failed(error)}); retrying once")
                waiting.appendleft(k)
                suspects |= {k} if isinstance(error, BrokenExecutor) else set()
            else:
                on_warning(f"{names(k)} failed again ({Failed(error)}); it is left out")
                yield k, Failed(error)
        if broken:
            engine.renew()


def _may_be_tried_again(error: BaseException) -> bool:
    """Not a wrong input, which would be as wrong again."""
    return isinstance(error, Exception) and (isinstance(error, DivergedError) or not isinstance(error, UserError))


class _Engine(Protocol):
    """room: how many tasks are worth handing over at a time."""

    room: int

    def submit(self, function: Callable[[Any, Any], Any], task: Any) -> Future[Any]: ...

    def renew(self) -> None:
        """After a crash that took all workers with it."""

    def close(self, *, kill: bool) -> None: ...


class _Here(_Engine):
    """One after another, in this process and with all its threads."""

    def __init__(self, shared: Any) -> None:
        self.room = 1
        self._shared = shared

    def submit(self, function: Callable[[Any, Any], Any], task: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(self._shared, task))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self, *, kill: bool) -> None: ...


class _Given(_Engine):
    """An executor of the caller's, who also ends it. The shared data travel with each task."""

    def __init__(self, executor: Executor, shared: Any, workers: int | None) -> None:
        self._executor, self._shared = executor, shared
        # Few enough that after a crash the guilty one is among few; the common executors name their size.
        self.room = workers or getattr(executor, "_max_workers", None) or MANY

    def submit(self, function: Callable[[Any, Any], Any], task: Any) -> Future[Any]:
        return self._executor.submit(function, self._shared, task)

    def renew(self) -> None:
        raise UserError("executor", None, "a worker died, and the executor with it", 'use "processes", which goes on')

    def close(self, *, kill: bool) -> None: ...


class _Processes(_Engine):
    """Processes of this machine with one thread each, which trains small models faster than one with many threads.
    loky, because it needs no `if __name__ == "__main__"` in the caller's script and can be killed."""

    def __init__(self, shared: Any, workers: int | None) -> None:
        self.room = workers or cores()
        self._shared = shared
        self._pool = self._make()

    def _make(self) -> Any:
        from loky import ProcessPoolExecutor

        return ProcessPoolExecutor(self.room, initializer=_begin_worker, initargs=(self._shared, os.getpid()))

    def submit(self, function: Callable[[Any, Any], Any], task: Any) -> Future[Any]:
        return self._pool.submit(_in_worker, function, task)

    def renew(self) -> None:
        self.close(kill=True)
        self._pool = self._make()

    def close(self, *, kill: bool) -> None:
        # Also where all is done: an idle worker has nothing to finish, and to end PyTorch well takes a second.
        self._pool.shutdown(kill_workers=True)


_kept: Any = None  # what all tasks of this worker process share


def _begin_worker(shared: Any, parent: int) -> None:
    global _kept
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent decides
    Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    keep_freed_memory()
    _kept = shared


def _end_with(parent: int) -> None:
    """A worker whose parent was killed, perhaps while the worker began, would train on for nobody."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _in_worker(function: Callable[[Any, Any], Any], task: Any) -> Any:
    return function(_kept, task)


class _Ray(_Engine):
    """Tasks of one CPU each on the cluster that RAY_ADDRESS names, or on one started here. The shared data lie once in
    the object store of each node, and Ray itself tries again what a lost worker had."""

    def __init__(self, shared: Any, workers: int | None) -> None:
        before = dict(os.environ)
        import ray

        self.room = MANY
        self._ray = ray
        self._end: Callable[[], object] = _nothing
        self._ours = False
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns of a future default
        if not ray.is_initialized():
            self._ours = os.environ.get("RAY_ADDRESS", "") in ("", "local")
            self._end = OwnRay(workers, before).close if self._ours else self._connected(before)
        try:
            on_gpu = str(getattr(shared, "device", "cpu")).startswith("cuda")
            self._call = ray.remote(num_cpus=1, num_gpus=GPU_SHARE if on_gpu else 0, max_retries=3)(_in_ray_worker)
            self._shared = ray.put(shared)
        except BaseException:
            self._end()
            raise
        self._running: set[Any] = set()

    def _connected(self, before: Mapping[str, str]) -> Callable[[], object]:
        """To the cluster that RAY_ADDRESS names. Gives what leaves it again; `before` is the environment then."""
        connect_ray()

        def leave() -> None:
            self._ray.shutdown()
            forget_environment(before)

        return leave

    def submit(self, function: Callable[[Any, Any], Any], task: Any) -> Future[Any]:
        reference: Any = self._call.remote(function, self._shared, task)
        self._running.add(reference)
        future: Future[Any] = reference.future()
        # A reference that is kept holds its result in the object store.
        future.add_done_callback(lambda _: self._running.discard(reference))
        return future

    def close(self, *, kill: bool) -> None:
        for reference in list(self._running) if kill and not self._ours else []:
            self._ray.cancel(reference, force=True)
        self._end()


class _Dask(_Engine):
    """Tasks on the cluster that DASK_SCHEDULER_ADDRESS names, on the caller's client, or on a cluster started here."""

    def __init__(self, shared: Any, workers: int | None) -> None:
        self.room = MANY
        self._end: Callable[[], object] = _nothing
        client = _dask_client()
        if client is None and _dask_address():
            from distributed import Client

            client = Client()
            self._end = client.close
        elif client is None:
            own = OwnDask(workers or cores())
            client, self._end = own.client, own.close
        try:
            self._shared: Any = client.scatter(shared, broadcast=True, hash=False)
            self._executor = client.get_executor(pure=False, retries=1)
        except BaseException:
            self._end()
            raise

    def submit(self, function: Callable[[Any, Any], Any], task: Any) -> Future[Any]:
        return self._executor.submit(_with_one_thread, function, self._shared, task)

    def close(self, *, kill: bool) -> None:
        try:
            self._executor.shutdown(wait=not kill)
        finally:
            self._end()


def _dask_client() -> Any:
    """The caller's, who also closes it."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


def _dask_address() -> str | None:
    return os.environ.get("DASK_SCHEDULER_ADDRESS") or None


def _with_one_thread(function: Callable[[Any, Any], Any], shared: Any, task: Any) -> Any:
    torch.set_num_threads(1)
    return function(shared, task)


def _in_ray_worker(function: Callable[[Any, Any], Any], shared: Any, task: Any) -> Any:
    keep_freed_memory()  # Ray starts these processes for us alone
    return _with_one_thread(function, shared, task)


def cores() -> int:
    """The CPU cores that this process may use."""
    from loky import cpu_count

    return int(cpu_count())


def _engine(where: Where, shared: Any, workers: int | None) -> _Engine:
    if isinstance(where, Executor):
        return _Given(where, shared, workers)
    if where == "processes":
        return _Processes(shared, workers)
    if where == "ray":
        return _Ray(shared, workers)
    return _Dask(shared, workers) if where == "dask" else _Here(shared)


def _silent(_: str) -> None: ...


def _nothing() -> None: ...
