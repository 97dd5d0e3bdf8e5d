"""Memory that training frees and takes again at every step stays with the process."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_… of glibc's malloc.h
_LARGEST = 2**30  # bytes: larger blocks still come from the system, and go back


def keep_freed_memory() -> None:
    """Have glibc keep what a step frees, instead of asking the system for the same pages again at the next one.

    A training step on a CPU spends about a tenth of its time on that (docs/scale.md). For processes of unmem's own: it
    holds for the whole process, which keeps its peak of memory until it ends. Elsewhere than on glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _LARGEST)
