"""Interrupts that have to wait: for what must not end half-way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def uninterrupted(*, drop: bool) -> Generator[None]:
    """Ctrl-C and SIGTERM wait until the block is over, which takes seconds at most.

    Args:
        drop: They are dropped, since an earlier one is why the block runs. Otherwise the last one arrives at the end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    before = {one: signal.signal(one, lambda which, _: heard.append(which)) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        for one in heard[-1:] if not drop else []:
            signal.raise_signal(one)
