"""The three uses of unlearning on real data: before, after each method, and retrained.

    .venv/bin/python benchmarks/scenarios.py           # about ten minutes on two cores

Fashion-MNIST, 5,000 training examples, small_cnn, 20 epochs; three originals of other seeds, one retrained model each.
privacy: 300 random examples; mislabelled: 5% of the labels; poisoned: 3% of the images carry a patch. A stopped run
goes on where it was. Writes benchmarks/results/scenarios.json and the tables of docs/evidence.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from common import ROOT, RUNS, cell, interval, machine, pool, recipe_for, usual_spread

import unmem as um
from unmem.evaluation import Scenario, mislabelled, poisoned, privacy
from unmem.memorization import crossfit
from unmem.store import write_text
from unmem.targets import FromCrossFit

RESULTS = ROOT / "benchmarks" / "results" / "scenarios.json"
SEEDS = (0, 1, 2)
MAKE: dict[str, Callable[[um.Splits, int], Scenario]] = {
    "privacy": lambda data, seed: privacy(data, 300, seed=seed),
    "mislabelled": lambda data, seed: mislabelled(data, 0.05, seed=seed),
    "poisoned": lambda data, seed: poisoned(data, 0.03, seed=seed),
}


def main() -> None:
    work = RUNS / "scenarios"
    work.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in MAKE}
    with pool() as executor:
        jobs = {(name, seed): executor.submit(of_seed, name, seed) for name in MAKE for seed in SEEDS
                if not (work / f"{name}-{seed}.json").exists()}  # fmt: skip
        for (name, seed), job in jobs.items():
            write_text(work / f"{name}-{seed}.json", json.dumps(job.result()))
            print(name, seed, "done", flush=True)
    for name in MAKE:
        found[name] = [json.loads((work / f"{name}-{seed}.json").read_text()) for seed in SEEDS]
    result = {name: over_seeds(runs) for name, runs in found.items()}
    write_text(RESULTS, json.dumps({"schema": 1, **machine(), "n": len(SEEDS), "scenarios": result}, indent=1) + "\n")
    publish(result)


def of_seed(name: str, seed: int) -> dict[str, dict[str, float]]:
    """By model, each measure of the scenario."""
    from dataclasses import replace

    made = MAKE[name](um.load("fashion-mnist", limit=5000), seed)
    recipe = replace(recipe_for(20), seed=seed)
    events = um.LearningEvents()
    original = um.train(recipe, made.data.train, observers=[events])
    problem = um.Problem(original, made.data, made.forget, recipe=recipe)
    fold = crossfit(recipe, made.data.train, seed=seed + 1)
    confidence = events.scores("confidence")
    methods: dict[str, um.Unlearner] = {
        "matching": um.Matching(targets=FromCrossFit(fold)),
        "l1-sparse": um.L1Sparse(),
        "fine-tune": um.FineTune(),
        "neggrad+": um.NegGradPlus(),
        "salun": um.SalUn(),
        "RUM by confidence": um.RUM(confidence, [um.Nothing(), um.FineTune(), um.SalUn()]),
    }
    models = {key: method(original, problem, seed=seed) for key, method in methods.items()}
    retrained = um.Retrain()(original, problem, seed=1000 + seed)
    rows = {"*before*": original, **models, "*retrained*": retrained}
    return {key: {what: measure(model) for what, measure in made.measures.items()} for key, model in rows.items()}


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
    page = ROOT / "docs" / "evidence.md"
    text = page.read_text()
    for name, entry in result.items():
        begin, end = f"<!-- scenario {name} -->", f"<!-- /scenario {name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{table(entry)}\n{end}{rest.split(end)[1]}"
    write_text(page, text)


if __name__ == "__main__":
    main()
