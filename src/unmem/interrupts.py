"""Delay of interrupts during steps that must complete, and interrupts of compiled code."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def uninterrupted(*, drop: bool) -> Generator[None]:
    """Delay Ctrl-C and SIGTERM until the end of the block, which must take seconds at most.

    With `drop` they are ignored, for blocks that run because of an earlier interrupt. Else the last one is raised.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    queue: list[int] = []
    before = {one: signal.signal(one, lambda which, _: queue.append(which)) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        for one in queue[-1:] if not drop else []:
            signal.raise_signal(one)


def interruptible(work: Callable[[], T]) -> T:
    """Return the result of `work`. Use it for slow compiled code, whose end Ctrl-C would await in the main thread.

    The work runs in a separate thread. After an interrupt this thread continues until its work or the process ends.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # raised in the main thread
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
