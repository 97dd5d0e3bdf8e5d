"""The three use cases of unlearning on real data: before, after each method, and retrained.

    .venv/bin/python benchmarks/scenarios.py           # about ten minutes on two cores
    .venv/bin/python benchmarks/scenarios.py --tiny    # the same in a minute, too small to publish

Fashion-MNIST, 5,000 training examples, small_cnn, 20 epochs; three originals with different seeds, one retrained model
each. privacy: 300 random examples; mislabelled: 5% of the labels; poisoned: 3% of the images carry a patch. An
interrupted run continues. Writes benchmarks/results/scenarios.json and the tables of docs/evidence.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common import ROOT, RUNS, cell, interval, machine, pool, publish_tables, recipe_for, usual_spread

import unmem as um
from unmem.memorization import CrossFit, Scores, crossfit
from unmem.scenarios import Scenario, mislabelled, poisoned, privacy
from unmem.store import write_text
from unmem.targets import FromCrossFit

RESULTS = ROOT / "benchmarks" / "results" / "scenarios.json"
MAKE: dict[str, Callable[[um.Splits, int], Scenario]] = {
    "privacy": lambda data, seed: privacy(data, round(0.06 * len(data.train)), seed=seed),
    "mislabelled": lambda data, seed: mislabelled(data, 0.05, seed=seed),
    "poisoned": lambda data, seed: poisoned(data, 0.03, seed=seed),
}


@dataclass(frozen=True, eq=False)
class Prepared:
    """What some methods need of an original before a request."""

    fold: CrossFit
    confidence: Scores


METHODS: dict[str, Callable[[Prepared], um.Unlearner]] = {
    "matching, teacher (default)": lambda _: um.Auto(),
    "matching, crossfit": lambda prepared: um.Matching(targets=FromCrossFit(prepared.fold)),
    "l1-sparse": lambda _: um.L1Sparse(),
    "fine-tune": lambda _: um.FineTune(),
    "neggrad+": lambda _: um.NegGradPlus(),
    "salun": lambda _: um.SalUn(),
    "RUM by confidence": lambda prepared: um.RUM(prepared.confidence, [um.Nothing(), um.FineTune(), um.SalUn()]),
}
ROWS = ("*before*", *METHODS, "*retrained*")
Rows = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Plan:
    examples: int = 5000
    epochs: int = 20
    seeds: tuple[int, ...] = (0, 1, 2)


TINY = Plan(600, 4, (0, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a quick run that publishes nothing")
    options = parser.parse_args()
    plan = TINY if options.tiny else Plan()
    work = RUNS / f"scenarios{'-tiny' * options.tiny}"
    work.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Rows]] = {}
    with pool() as executor:
        jobs = {name: [executor.submit(of_seed, name, seed, plan, work) for seed in plan.seeds] for name in MAKE}
        for name, ours in jobs.items():
            found[name] = [job.result() for job in ours]
            print(name, "done", flush=True)
    result = {name: over_seeds(runs) for name, runs in found.items()}
    if options.tiny:
        print(*(f"\n{name}\n{table(entry)}" for name, entry in result.items()), sep="\n")
        return
    about = {"schema": 1, **machine(), "n": len(plan.seeds)}
    write_text(RESULTS, json.dumps(about | {"scenarios": result}, indent=1) + "\n")
    publish(result)


def of_seed(name: str, seed: int, plan: Plan, work: Path) -> Rows:
    """By model, each measure of the scenario; from its file, unless that is of an earlier version with other rows."""
    path = work / f"{name}-{seed}.json"
    known: Rows = json.loads(path.read_text()) if path.exists() else {}
    if tuple(known) == ROWS:
        return known
    found = measured(name, seed, plan)
    write_text(path, json.dumps(found))
    return found


def measured(name: str, seed: int, plan: Plan) -> Rows:
    made = MAKE[name](um.load("fashion-mnist", limit=plan.examples), seed)
    recipe = replace(recipe_for(plan.epochs), seed=seed)
    events = um.LearningEvents()
    original = um.train(recipe, made.data.train, observers=[events])
    problem = um.Problem(original, made.data, made.forget, recipe=recipe)
    prepared = Prepared(crossfit(recipe, made.data.train, seed=seed + 1), events.scores("confidence"))
    models = {key: make(prepared)(problem, seed=seed) for key, make in METHODS.items()}
    retrained = um.Retrain()(problem, seed=1000 + seed)
    by_row = {"*before*": original, **models, "*retrained*": retrained}
    return {key: {what: measure(model) for what, measure in made.measures.items()} for key, model in by_row.items()}


def over_seeds(runs: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    return {key: {what: interval([run[key][what] for run in runs]) for what in row} for key, row in runs[0].items()}


def table(result: dict[str, Any]) -> str:
    columns = list(next(iter(result.values())))
    lines = [f"| model | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    spread = {one: usual_spread([row[one] for row in result.values()], 0.001) for one in columns}
    for key, row in result.items():
        cells = [cell(row[one], spread[one], ".1%") for one in columns]
        lines.append(f"| {key} | {' | '.join(cells)} |")
    return "\n".join(lines)


def publish(result: dict[str, Any]) -> None:
    publish_tables("evidence.md", {f"scenario {name}": table(entry) for name, entry in result.items()})


if __name__ == "__main__":
    main()
