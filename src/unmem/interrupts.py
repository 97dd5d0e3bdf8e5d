"""Interrupts that have to wait, for what must not end half-way, and interrupts that must not."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def uninterrupted(*, drop: bool) -> Generator[None]:
    """Ctrl-C and SIGTERM wait until the block is over, which takes seconds at most.

    Args:
        drop: They are dropped, since an earlier one is why the block runs. Otherwise the last one arrives at the end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    before = {
        one: signal.signal(one, lambda which, _: received.append(which)) for one in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        for one in received[-1:] if not drop else []:
            signal.raise_signal(one)


def interruptible(work: Callable[[], T]) -> T:
    """The result of `work`, for compiled code that takes long: in the main thread Ctrl-C would wait for its end.

    It runs in a thread of its own, which an interrupt leaves behind; the thread ends with its work or the process.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # raised where the result is awaited
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
