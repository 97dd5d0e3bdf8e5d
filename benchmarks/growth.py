"""Time and peak memory of each command as the data grow.

    .venv/bin/python benchmarks/growth.py           # about an hour and a half on two cores
    .venv/bin/python benchmarks/growth.py --tiny    # 2,000 to 8,000 rows in a few minutes, too small to publish
    .venv/bin/python benchmarks/growth.py --table   # prints the tables of the results so far

A table of 20 numeric columns and a label, drawn from a linear model with Gumbel noise; mlp, 2 epochs. The request is 1%
of the rows. Each command is a process of its own. Its peak memory is the largest resident set of this process and of
those that it started. Its time is processor time, so that other work on the machine does not count, with one thread
unless OMP_NUM_THREADS says otherwise; the JSON also has the wall-clock time. An interrupted run continues.
Writes benchmarks/results/growth.json and the tables of docs/scale.md.

An exponent is the slope of a line through log(value of the command − value of the same command at 1,000 rows) against
log(rows): 1 is linear growth. The time at 1,000 rows is mostly startup, which would hide the growth.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, RUNS, machine, publish_tables

from unmem.store import write_text

RESULTS = ROOT / "benchmarks" / "results" / "growth.json"
COLUMNS = 20
START = 1_000  # rows of the run that stands for starting a command
STARTS = 3  # such runs, of which the median counts: all others are compared with it
SHARE = 0.01  # of the rows that are to be forgotten


@dataclass(frozen=True)
class Series:
    """Sizes that are compared with each other. start: the rows that stand for starting a command."""

    classes: int
    rows: tuple[int, ...]
    start: int = START
    format: str = "parquet"


FULL = {
    "10 classes": Series(10, (100_000, 300_000, 1_000_000)),
    "1,000 classes": Series(1_000, (100_000, 200_000), 7_000),
    "10 classes, .csv": Series(10, (100_000, 300_000, 1_000_000), format="csv"),
}
TINY = {
    "10 classes": Series(10, (2_000, 4_000, 8_000)),
    "1,000 classes": Series(1_000, (8_000, 10_000), 7_000),
    "10 classes, .csv": Series(10, (2_000, 4_000), format="csv"),
}


def _data(place: Path, kind: str) -> list[str]:
    return ["--data", str(place / f"data.{kind}"), "--epochs", "2", "--arch", "mlp"]


def _original(place: Path) -> list[str]:
    return ["--model", str(place / "train" / "original.safetensors"), "--forget", str(place / "forget.txt")]


# By the name in the table, the options of a command. Later ones read what earlier ones made.
COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "check": lambda _: ["check"],
    "train": lambda place: ["train", "--out", str(place / "train")],
    "score": lambda place: ["score", "--out", str(place / "score")],
    "prepare": lambda place: ["prepare", "--out", str(place / "prepare")],
    "forget --reference retrain": lambda place: [
        *("forget", *_original(place), "--reference", "retrain", "--targets", "teacher"),
        *("--out", str(place / "forget-retrain")),
    ],
    "forget": lambda place: ["forget", *_original(place), "--out", str(place / "forget")],
    "audit": lambda place: [
        *("audit", "--model", str(place / "forget" / "unlearned.safetensors")),
        *("--original", str(place / "train" / "original.safetensors"), "--forget", str(place / "forget.txt")),
        *("--reference", str(place / "forget-retrain"), "--crossfit", str(place / "prepare" / "crossfit.npz")),
        *("--out", str(place / "audit")),
    ],
}
OF_FILES = ("check", "train")  # the commands that are measured for other formats too: reading is what differs
FOLDERS = {"forget --reference retrain": "forget-retrain"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a quick run that publishes nothing")
    parser.add_argument("--table", action="store_true", help="print what was measured so far; run nothing")
    parser.add_argument("--work", type=Path, help="folder of the data and runs")
    parser.add_argument("--only", default="", help="names of series, separated by semicolons")
    parser.add_argument("--make", nargs=4, help=argparse.SUPPRESS)  # classes, rows, format, folder
    options = parser.parse_args()
    if options.make:
        classes, rows, kind, folder = options.make
        make(int(classes), int(rows), kind, Path(folder))
        return
    plan = TINY if options.tiny else FULL
    chosen = [name for name in plan if not options.only or name in options.only.split(";")]
    work = options.work or RUNS / f"growth{'-tiny' * options.tiny}"
    work.mkdir(parents=True, exist_ok=True)
    found = json.loads(path.read_text()) if (path := work / "found.json").exists() else {}
    if not options.table:
        for name in chosen:
            for rows in (plan[name].start, *reversed(plan[name].rows)):
                known = found.setdefault(name, {}).setdefault(str(rows), {})
                of_size(plan[name], rows, work, known, lambda: write_text(path, json.dumps(found, indent=1)))
    tables = {name: table(plan[name], found[name]) for name in plan if name in found}
    print(*(f"\n{name}\n\n{text}" for name, text in tables.items()), sep="\n")
    if not (options.tiny or options.table):
        write_text(RESULTS, json.dumps({"schema": 1, **machine(), "series": found}, indent=1) + "\n")
        publish(tables)


def of_size(series: Series, rows: int, work: Path, known: dict[str, Any], keep: Callable[[], None]) -> None:
    """Measure the commands that are not in `known`, and put them there."""
    place = work / f"{series.format}-{series.classes}-{rows}"
    place.mkdir(exist_ok=True)
    data = place / f"data.{series.format}"
    if not data.exists():
        of = (str(series.classes), str(rows), series.format, str(place))
        subprocess.run([sys.executable, __file__, "--make", *of], check=True)
    for name, options in COMMANDS.items():
        if name in known or (series.format != "parquet" and name not in OF_FILES):
            continue
        command = [*options(place), *_data(place, series.format), *_again(options(place))]
        runs = [measured(command, place) for _ in range(STARTS if rows == series.start else 1)]
        known[name] = {key: statistics.median([run[key] for run in runs if key in run]) for key in max(runs, key=len)}
        print(f"{series.classes} classes, {rows:,} rows, {name}: {known[name]}", flush=True)
        keep()


def _again(options: Sequence[str]) -> list[str]:
    return ["--force"] if "--out" in options else []


def make(classes: int, rows: int, kind: str, folder: Path) -> None:
    """The table and a request. In a process of its own, so that no memory of it counts for a command."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    random = np.random.default_rng(0)
    weights = random.normal(size=(COLUMNS, classes)).astype(np.float32)
    inputs = random.normal(size=(rows, COLUMNS)).astype(np.float32)
    labels = np.empty(rows, np.int64)
    for start in range(0, rows, 20_000):
        scores = inputs[start : start + 20_000] @ weights
        labels[start : start + 20_000] = (scores + random.gumbel(size=scores.shape)).argmax(1)
    labels[:classes] = np.arange(classes)  # so that no class is missing
    ids = np.arange(rows)
    columns = {"id": ids, **{f"f{k}": inputs[:, k] for k in range(COLUMNS)}, "label": labels}
    write: Any = parquet.write_table if kind == "parquet" else csv.write_csv
    write(pa.table(columns), folder / f"data.{kind}")
    import unmem as um

    train = um.load(str(folder / f"data.{kind}")).train.ids
    chosen = random.choice(len(train), max(20, round(SHARE * rows)), replace=False)
    write_text(folder / "forget.txt", "".join(f"{name}\n" for name in train[np.sort(chosen)]))


def measured(options: Sequence[str], place: Path) -> dict[str, Any]:
    """Seconds, processor seconds and peak bytes of one command."""
    began = time.perf_counter()
    with (place / "log.txt").open("ab") as log:
        threads = {"OMP_NUM_THREADS": "1"} | dict(os.environ)
        process = subprocess.Popen([sys.executable, "-m", "unmem", *options], stdout=log, stderr=log, env=threads)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    found = {
        "seconds": round(time.perf_counter() - began, 2),
        "processor": round(usage.ru_utime + usage.ru_stime, 2),
        "bytes": usage.ru_maxrss * 1024,
    }
    # 4: a guard found that utility fell, which is a result.
    return found if process.returncode in (0, 4) else found | {"failed": process.returncode}


def exponent(rows: Sequence[int], values: Sequence[float], start: float) -> float | None:
    """The slope of log(value − start) against log(rows); None where there is too little growth to fit."""
    grown = [(n, value - start) for n, value in zip(rows, values, strict=True) if value > 1.05 * start]
    if len(grown) < 2:
        return None
    x, y = np.log([n for n, _ in grown]), np.log([value for _, value in grown])
    return float(np.polyfit(x, y, 1)[0])


def table(series: Series, found: dict[str, Any]) -> str:
    """A row for each command: time and memory at each size, and the exponents."""
    sizes = [n for n in series.rows if str(n) in found]
    head = ["command", *(f"{n:,} rows" for n in sizes), "exponent of time", "of memory"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in COMMANDS:
        runs = {n: found[str(n)][name] for n in sizes if name in found[str(n)]}
        start = found.get(str(series.start), {}).get(name)
        if start is None or not runs:
            continue
        cells = [_cell(runs[n]) if n in runs else "not measured" for n in sizes]
        powers = [
            exponent(list(runs), [one[key] for one in runs.values()], start[key]) for key in ("processor", "bytes")
        ]
        cells += ["–" if one is None else f"{one:.2f}" for one in powers]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(run: dict[str, Any]) -> str:
    said = f"{run['processor']:.0f} s, {run['bytes'] / 1e9:.2f} GB"
    return f"{said} (failed: {run['failed']})" if "failed" in run else said


def publish(tables: dict[str, str]) -> None:
    publish_tables("scale.md", {f"growth {name}": text for name, text in tables.items()})


if __name__ == "__main__":
    main()
