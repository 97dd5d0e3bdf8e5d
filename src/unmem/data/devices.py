"""Choose the device to compute on, and measure the free memory there and on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from unmem.errors import UserError


def pick_device(name: str) -> str:
    """`auto` is the GPU where PyTorch sees one, else the CPU; any other name is checked to be there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros((), device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError("device", name, "PyTorch cannot use it here", "choose auto or cpu") from error
    return name


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
