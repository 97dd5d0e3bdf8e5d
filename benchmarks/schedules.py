"""Cosine or constant learning rates for four unlearners, and SCRUB's number of max passes, under equal tuning.

    .venv/bin/python benchmarks/schedules.py          # half an hour of processor time
    .venv/bin/python benchmarks/schedules.py --tiny   # one original each, too few to publish
    .venv/bin/python benchmarks/schedules.py --again  # summary and table from the previous runs

The sources of these methods keep the learning rate constant; in unmem it decreases to 0. Data sets and networks: digits
with small_cnn, and samples of Fashion-MNIST with mlp and with small_cnn. Forget sets: `mixed` (low, medium and high
memorization by confidence), `random` and `mislabelled` (flipped labels). For each original, every method runs with both
schedules and the same five peak rates, and is compared with the mean of two retrained models by ToW.

`tuned`: the rate for one original is the best on the *other* originals, so that no run is chosen by its own result.
A variant replaces a default only if it is better on every set by more than the interval of the difference. Writes
benchmarks/results/schedules.json and the tables of docs/unlearning.md.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from common import ROOT, interval, machine, pool, publish_tables

import unmem as um
from unmem.data import Ids
from unmem.errors import DivergedError
from unmem.evaluation import accuracy
from unmem.store import write_text
from unmem.unlearning import SCRUB, FineTune, NegGradPlus, SalUn
from unmem.unlearning.unlearner import GradientUnlearner

RESULTS = ROOT / "benchmarks" / "results" / "schedules.json"
SETS = ("mixed", "random", "mislabelled")
SCHEDULES = ("cosine", "constant")
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # times the default peak rate
RETRAINED = 2
FLIPPED = 0.05
METHODS: dict[str, GradientUnlearner] = {
    "fine-tune": FineTune(),
    "neggrad+": NegGradPlus(),
    "salun": SalUn(),
    "scrub": SCRUB(),
    "scrub, max passes in all epochs": SCRUB(max_epochs=5),
}


@dataclass(frozen=True)
class Task:
    """data, limit: as in `um.load`. forget: examples of the mixed and of the random set, a multiple of three."""

    data: str
    limit: int | None
    model: str
    epochs: int
    forget: int
    originals: int

    @property
    def recipe(self) -> um.Recipe:
        return um.Recipe(model=self.model, epochs=self.epochs)

    def load(self, *, flipped: bool) -> um.Splits:
        return um.load(self.data, limit=self.limit, flip=FLIPPED if flipped else 0.0)


TASKS = {
    "digits, small_cnn": Task("digits", None, "small_cnn", 20, 75, 4),
    "Fashion-MNIST 5,000, mlp": Task("fashion-mnist", 5000, "mlp", 12, 300, 4),
    "Fashion-MNIST 1,500, small_cnn": Task("fashion-mnist", 1500, "small_cnn", 12, 90, 3),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="one original for each set, published nowhere")
    parser.add_argument("--again", action="store_true", help="the summary and the table from the stored runs")
    options = parser.parse_args()
    if options.again:
        stored = json.loads(RESULTS.read_text())
        write_result({key: value for key, value in stored.items() if key not in ("summary", "runs")}, stored["runs"])
        return
    began = time.process_time()
    with pool() as executor:
        jobs = {
            (name, forget_set, seed): executor.submit(of_original, task, forget_set, seed)
            for name, task in TASKS.items()
            for forget_set in SETS
            for seed in range(1 if options.tiny else task.originals)
        }
        found = {key: job.result() for key, job in jobs.items()}
    rows = {
        name: {
            forget_set: [one for (task, its_set, _), one in found.items() if (task, its_set) == (name, forget_set)]
            for forget_set in SETS
        }
        for name in TASKS
    }
    seconds = time.process_time() - began + sum(one["seconds"] for one in found.values())
    if options.tiny:
        print(f"{seconds:.0f} s of processor time")
        return
    facts = {
        "schema": 1,
        **machine(),
        "tasks": {name: asdict(task) for name, task in TASKS.items()},
        "factors": FACTORS,
        "retrained": RETRAINED,
        "processor_seconds": seconds,
    }
    write_result(facts, rows)


def write_result(facts: dict[str, Any], rows: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    """The file of results and the table of the page; rows: by task and forget set, one entry for each original."""
    found = {name: {key: summary(runs) for key, runs in sets.items()} for name, sets in rows.items()}
    write_text(RESULTS, json.dumps(facts | {"summary": found, "runs": rows}, indent=1) + "\n")
    publish(found)


def of_original(task: Task, forget_set: str, seed: int) -> dict[str, Any]:
    """ToW of each method, schedule and factor for one original; `seconds` of processor time."""
    began = time.process_time()
    recipe, data = replace(task.recipe, seed=seed), task.load(flipped=forget_set == "mislabelled")
    events = um.LearningEvents()
    original = um.train(recipe, data.train, observers=[events])
    problem = um.Problem(original, data, ids_of(forget_set, task, data, events), recipe=recipe)
    retrained = [
        accuracies(um.train(recipe, problem.retain, seed=1000 + 10 * seed + k), problem) for k in range(RETRAINED)
    ]
    found: dict[str, Any] = {"seed": seed, "tow": {}}
    found["do nothing"] = tow(accuracies(original, problem), np.mean(retrained, axis=0))
    found["retrain against retrain"] = tow(retrained[0], retrained[1])
    for name, method in METHODS.items():
        for schedule in SCHEDULES:
            found["tow"][f"{name}; {schedule}"] = [
                reached(replace(method, schedule=schedule, lr=factor * method.lr_share * recipe.lr), problem, retrained)
                for factor in FACTORS
            ]
    return found | {"seconds": time.process_time() - began}


def ids_of(forget_set: str, task: Task, data: um.Splits, events: um.LearningEvents) -> Ids:
    if forget_set == "mixed":
        return np.concatenate(list(events.scores("confidence").groups(task.forget // 3).values()))
    if forget_set == "random":
        return np.random.default_rng(0).choice(data.train.ids, task.forget, replace=False)
    return data.flipped


def reached(method: GradientUnlearner, problem: um.Problem, retrained: list[list[float]]) -> float:
    """ToW of the model that a method makes; 0 if the run diverges."""
    try:
        model = method(problem, seed=problem.recipe.seed)
    except DivergedError:
        return 0.0
    return tow(accuracies(model, problem), np.mean(retrained, axis=0))


def accuracies(model: Any, problem: um.Problem) -> list[float]:
    return [accuracy(model, examples) for examples in (problem.forget, problem.retain, problem.test)]


def tow(ours: Any, theirs: Any) -> float:
    return float(np.prod(1 - np.abs(np.subtract(ours, theirs))))


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """By method: each schedule at its default rate and tuned, and the difference for each original."""
    found: dict[str, Any] = {
        key: interval([run[key] for run in runs]) for key in ("do nothing", "retrain against retrain")
    }
    for name in METHODS:
        grids = {schedule: np.array([run["tow"][f"{name}; {schedule}"] for run in runs]) for schedule in SCHEDULES}
        best = {schedule: tuned(grid) for schedule, grid in grids.items()}
        found[name] = {
            schedule: {
                "default": interval(list(grid[:, FACTORS.index(1.0)])),
                "tuned": interval(best[schedule]),
                "factor": FACTORS[int(grid.mean(0).argmax())],
            }
            for schedule, grid in grids.items()
        }
        at_default = [grids[schedule][:, FACTORS.index(1.0)] for schedule in SCHEDULES]
        found[name]["default, constant - cosine"] = interval(list(at_default[1] - at_default[0]))
        found[name]["tuned, constant - cosine"] = interval(list(np.subtract(best["constant"], best["cosine"])))
    first, second = (np.array([run["tow"][f"{name}; cosine"] for run in runs]) for name in list(METHODS)[-2:])
    found["all max passes - all but one"] = interval(list(np.subtract(tuned(second), tuned(first))))
    return found


def tuned(grid: Any) -> list[float]:
    """Of each original (rows), the value at the rate (columns) that is best on average over the others."""
    others = [np.delete(grid, k, axis=0).mean(0).argmax() for k in range(len(grid))]
    return [float(grid[k, rate]) for k, rate in enumerate(others)]


def table(entry: dict[str, Any]) -> str:
    """Markdown: one line for each data set, forget set and method."""

    def cell(value: dict[str, float], *, sign: str = "") -> str:
        return f"{value['mean']:{sign}.3f} ± {value['high'] - value['mean']:.3f}"

    lines = [
        "| data and network | forget set | method | cosine | constant | constant − cosine "
        "| cosine, tuned | constant, tuned | constant − cosine, tuned |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for task, sets in entry.items():
        for forget_set, found in sets.items():
            for name in METHODS:
                row = found[name]
                both = [row[schedule] for schedule in SCHEDULES]
                default = " | ".join(f"{one['default']['mean']:.3f}" for one in both)
                best = " | ".join(f"{one['tuned']['mean']:.3f} (× {one['factor']:g})" for one in both)
                apart = [cell(row[f"{which}, constant - cosine"], sign="+") for which in ("default", "tuned")]
                lines.append(f"| {task} | {forget_set} | {name} | {default} | {apart[0]} | {best} | {apart[1]} |")
    return "\n".join(lines)


def publish(found: dict[str, Any]) -> None:
    publish_tables("unlearning.md", {"schedules": table(found)}, optional=True)


if __name__ == "__main__":
    main()
