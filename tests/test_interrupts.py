"""Interrupts that wait for a block to end, and those that do not wait for compiled code."""

from __future__ import annotations

import hashlib
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from unmem.interrupts import interruptible, uninterrupted


@pytest.fixture(autouse=True)
def _listening() -> Iterator[None]:
    """A shell that starts tests in the background has them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _interrupt_in(seconds: float) -> None:
    main = threading.main_thread().ident
    threading.Timer(seconds, signal.pthread_kill, [main, signal.SIGINT]).start()


def _compiled() -> bytes:
    return hashlib.pbkdf2_hmac("sha1", b"", b"", 3_000_000)  # about a second, of which Python sees nothing


def test_an_interrupt_does_not_wait_for_compiled_code() -> None:
    began = time.perf_counter()
    _compiled()
    whole, began = time.perf_counter() - began, time.perf_counter()
    _interrupt_in(0.05)
    with pytest.raises(KeyboardInterrupt):
        interruptible(_compiled)
    assert time.perf_counter() - began < whole / 2


def test_what_runs_interruptibly_gives_its_result_or_its_error() -> None:
    assert interruptible(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0)


def test_an_interrupt_waits_for_a_block_that_must_end() -> None:
    ended = False
    with pytest.raises(KeyboardInterrupt), uninterrupted(drop=False):
        signal.raise_signal(signal.SIGINT)
        ended = True
    assert ended


def test_an_interrupt_is_dropped_where_an_earlier_one_is_why_the_block_runs() -> None:
    with uninterrupted(drop=True):
        signal.raise_signal(signal.SIGINT)
