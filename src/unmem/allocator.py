"""Settings of the memory allocator for processes that train."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_… of glibc's malloc.h
_LARGEST = 2**30  # bytes: larger blocks are still returned to the system


def keep_freed_memory() -> None:
    """Let glibc keep freed memory, so that the next training step does not request the same pages from the system.

    These requests take about a tenth of a training step on a CPU (docs/scale.md). The setting is for processes that
    unmem starts: such a process keeps its peak memory until it ends. Without glibc this function has no effect.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _LARGEST)
