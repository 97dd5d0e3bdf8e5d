"""Shared by the benchmarks: the setting, the reference members, intervals, and cells of tables."""

from __future__ import annotations

import multiprocessing
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import chi2
from scipy.stats import t as student

import unmem as um
from unmem.ensembles import Ensemble, leave_out_masks, train_members
from unmem.store import write_text

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "runs" / "benchmarks"  # where interrupted runs continue
EXAMPLES = 5000
KEEP = 0.7  # the share of the data that each reference member sees


def machine() -> dict[str, Any]:
    return {
        "hardware": {"machine": platform.machine(), "cores": multiprocessing.cpu_count()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "unmem": um.__version__},
    }


def publish_tables(page: str, tables: Mapping[str, str], *, optional: bool = False) -> None:
    """Put tables in a page of docs/, each between the markers `<!-- NAME -->` and `<!-- /NAME -->`.

    Args:
        page: Such as "scale.md".
        tables: By name, in Markdown.
        optional: Whether the page may lack the markers of a table, which is then left out.
    """
    path = ROOT / "docs" / page
    text = path.read_text()
    for name, lines in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if optional and begin not in text:
            continue
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{lines}\n{end}{rest.split(end)[1]}"
    write_text(path, text)


def recipe_for(epochs: int, network: str = "small_cnn") -> um.Recipe:
    return um.Recipe(model=network, epochs=epochs, precision="bf16")


def pool() -> ProcessPoolExecutor:
    """Two processes of one thread each: they train small models faster than one process of two threads."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(2, mp_context=spawn, initializer=torch.set_num_threads, initargs=(1,))


def reference_members(
    recipe: um.Recipe, data: um.Splits, count: int, executor: Executor | None, *, name: str, seed: int = 0
) -> Ensemble:
    """Members on random balanced subsets, the reference for memorization; kept, so that each benchmark finds them.

    seed: other subsets and weights, for an ensemble that is independent of the first.
    """
    began = time.perf_counter()

    def told(done: int, total: int) -> None:
        print(f"\r{name}: member {done} of {total}, {time.perf_counter() - began:.0f} s", end="", flush=True)

    kept = leave_out_masks(len(data.train), count, keep=KEEP, seed=seed)
    members = train_members(
        recipe,
        data.train,
        kept,
        seed=1000 + 1_000_000 * seed,
        unseen=data.holdout,
        folder=RUNS / "members",
        executor=executor,
        on_member=told,
    )
    print()
    return members


def interval(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Mean, 95% t-interval and the runs; None where a value is missing or one value alone would have no interval."""
    runs = [value for value in values if value is not None]
    if len(runs) < len(values) or len(runs) < 2:
        return None
    n, mean = len(runs), float(np.mean(runs))
    half = float(student.ppf(0.975, n - 1) * np.std(runs, ddof=1) / np.sqrt(n))
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n, "runs": runs}


# A t-interval assumes that runs scatter around one mean. If each of three runs breaks down with a chance of one third,
# it covers the mean in 18 of 27 cases, namely where some runs broke down and some did not. Rule: a run is apart when it
# lies more than `APART` standard deviations from the median of its row. The standard deviation is that of single runs
# in the usual row of the column. Where all runs scatter normally, that is the case for one to three rows of three runs
# in a thousand in tables of four to ten rows, and for fewer in longer tables. A cell with a run apart shows its runs
# instead of a mean.
APART = 5.0


def usual_spread(column: Iterable[dict[str, Any] | None], least: float) -> float:
    """Standard deviation of single runs in a column of a table, at least `least`; half of the rows may be broken.

    The median over rows of the variance of each one's runs, divided by the median that it has for normal runs of
    variance 1. least: a difference that is too small to matter.
    """
    variances = [
        float(np.var(entry["runs"], ddof=1)) * (entry["n"] - 1) / float(chi2.median(entry["n"] - 1))
        for entry in column
        if entry is not None and "runs" in entry
    ]
    return max(least, float(np.sqrt(np.median(variances)))) if variances else least


def disagree(entry: dict[str, Any], spread: float) -> bool:
    """Whether a run of the row is apart from the others."""
    runs = np.asarray(entry.get("runs", []))
    return bool(len(runs)) and float(np.abs(runs - np.median(runs)).max()) > APART * spread


def cell(entry: dict[str, Any] | None, spread: float, form: str = ".3f", *, half: bool = True) -> str:
    """A cell of a table: the mean, with half of its t-interval if asked for; the runs where they disagree.

    spread: from `usual_spread`. form: how a number is written; with `%` the half is written without the sign.
    """
    if entry is None:
        return "–"
    if disagree(entry, spread):
        return ", ".join(f"{run:{form}}" for run in entry["runs"])
    if not half:
        return f"{entry['mean']:{form}}"
    mean, around = f"{entry['mean']:{form}}", f"{entry['high'] - entry['mean']:{form}}"
    return f"{mean.removesuffix('%')} ± {around}"
