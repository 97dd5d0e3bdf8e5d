"""What the benchmarks share: the setting, the reference members, and intervals."""

from __future__ import annotations

import multiprocessing
import platform
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

import unmem as um
from unmem.ensembles import Ensemble, leave_out_masks, train_members

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "runs" / "benchmarks"  # where stopped runs are taken up again
EXAMPLES = 5000
KEEP = 0.7  # the share of the data that each reference member sees


def machine() -> dict[str, Any]:
    return {
        "hardware": {"machine": platform.machine(), "cores": multiprocessing.cpu_count()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "unmem": um.__version__},
    }


def recipe_for(epochs: int) -> um.Recipe:
    return um.Recipe(model="small_cnn", epochs=epochs, precision="bf16")


def pool() -> ProcessPoolExecutor:
    """Two processes of one thread each: they train small models faster than one process of two threads."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(2, mp_context=spawn, initializer=torch.set_num_threads, initargs=(1,))


def reference_members(recipe: um.Recipe, data: um.Splits, count: int, executor: Executor, *, name: str) -> Ensemble:
    """Members on random balanced subsets, the reference for memorization; kept, so that each benchmark finds them."""
    began = time.perf_counter()

    def told(done: int, total: int) -> None:
        print(f"\r{name}: member {done} of {total}, {time.perf_counter() - began:.0f} s", end="", flush=True)

    kept = leave_out_masks(len(data.train), count, keep=KEEP, seed=0)
    members = train_members(
        recipe,
        data.train,
        kept,
        seed=1000,
        unseen=data.holdout,
        folder=RUNS / "members",
        executor=executor,
        on_member=told,
    )
    print()
    return members


def interval(values: Sequence[float | None]) -> dict[str, float] | None:
    """Mean and 95% t-interval; None where a value is missing or one value alone would have no interval."""
    if None in values or len(values) < 2:
        return None
    n, mean = len(values), float(np.mean(values))  # pyright: ignore
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))  # pyright: ignore
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}
