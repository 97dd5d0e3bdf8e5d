"""Preset `uses`: the three uses of unlearning, planted in real data, so that the right outcome is known.

privacy: random examples are deleted. mislabelled: training labels were wrong. poisoned: training images carry a trigger
patch and the attacker's label. Every method is compared with the original and with retrained models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from unmem.bench.claims import Claim, above, within
from unmem.bench.kept import Kept, kept_results
from unmem.bench.methods import unlearner
from unmem.bench.plan import Method, Setup
from unmem.bench.rows import over_originals, row_of
from unmem.bench.statistics import paired
from unmem.bench.work import Result, Work, timed
from unmem.data import Splits
from unmem.errors import DivergedError, UserError
from unmem.memorization import LearningEvents
from unmem.scenarios import Scenario, mislabelled, poisoned, privacy
from unmem.tables import Column, Table
from unmem.tables.table import Kind
from unmem.training import train
from unmem.unlearning import Problem

BEFORE, RETRAINED = "before", "retrained"
TEST, SUCCESS, ON_THEM = "test accuracy", "attack succeeds", "accuracy on them"
ON_PAR = 0.02


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is compared.

    Attributes:
        setups: Data sets with their networks.
        seeds: Seeds of the originals.
        uses: Of privacy, mislabelled and poisoned. poisoned needs images.
        methods: Methods; rum is refined by the score `refine_by`.
        refine_by: A learning event, such as confidence.
        retrained: Number of retrained models per original.
        deleted: For privacy, the share of the training examples that are deleted.
        flipped: For mislabelled, the share of the training labels that are wrong.
        triggered: For poisoned, the share of the training images with a trigger.
    """

    setups: Mapping[str, Setup]
    seeds: Sequence[int]
    uses: Sequence[str]
    methods: Sequence[Method]
    refine_by: str = "confidence"
    retrained: int = 1
    deleted: float = 0.06
    flipped: float = 0.05
    triggered: float = 0.03


def run(plan: Plan, work: Work) -> Result:
    """Run every use of every setup and seed."""
    tables: dict[str, Table] = {}
    claims: list[Claim] = []
    data: dict[str, Any] = {}
    for name, setup in plan.setups.items():
        shared = _Shared(plan, setup, setup.data.load(device=work.device), work.folder / name)
        tasks = [(use, seed) for use in plan.uses for seed in plan.seeds]
        jobs = work.run(f"{name}: uses", _job, shared, tasks)
        for use in plan.uses:
            found = [job for (one, _), job in zip(tasks, jobs, strict=True) if one == use]
            tables[f"{name}-{use}"] = _table(found)
            claims += _claims(use, found, plan, f"{name}, {use}")
            data[f"{name}-{use}"] = found
    return Result(tables, claims, data=data)


@dataclass(frozen=True, eq=False)
class _Shared:
    plan: Plan
    setup: Setup
    data: Splits
    folder: Path


def _planted(use: str, plan: Plan, data: Splits, seed: int) -> Scenario:
    makers: Mapping[str, Callable[[], Scenario]] = {
        "privacy": lambda: privacy(data, round(plan.deleted * len(data.train)), seed=seed),
        "mislabelled": lambda: mislabelled(data, plan.flipped, seed=seed),
        "poisoned": lambda: poisoned(data, plan.triggered, seed=seed),
    }
    if use not in makers:
        raise UserError("uses", use, "no such use", f"choose of {', '.join(makers)}")
    return makers[use]()


def _job(shared: _Shared, task: tuple[str, int]) -> dict[str, Any]:
    """The measures of one use by row: before, every method, retrained."""
    use, seed = task
    plan = shared.plan
    about = {"setup": asdict(shared.setup), "data": shared.data.train.fingerprint, "seed": seed} | {
        key: value for key, value in asdict(plan).items() if key not in ("setups", "seeds", "uses", "methods")
    }
    wanted = {BEFORE: None, **{method.title: asdict(method) for method in plan.methods}, RETRAINED: None}
    path = shared.folder / f"{use}-{seed}.json"
    return kept_results(path, about, wanted, lambda kept: _fill(kept, shared, use, seed))


def _fill(kept: Kept, shared: _Shared, use: str, seed: int) -> None:
    plan, recipe = shared.plan, shared.setup.recipe_of(seed)
    made = _planted(use, plan, shared.data, seed)
    events = LearningEvents()
    original, training = timed(lambda: train(recipe, made.data.train, observers=[events]))
    problem = Problem(original, made.data, made.forget, recipe=recipe)
    scores = events.scores(plan.refine_by)

    def measured(model: nn.Module, cost: float) -> dict[str, float]:
        return {name: measure(model) for name, measure in made.measures.items()} | {"cost": cost}

    def forgotten(method: Method) -> dict[str, float]:
        try:
            model, seconds = timed(lambda: unlearner(method, scores=scores)(problem, seed=seed))
        except DivergedError:
            model, seconds = original, 0.0
        return measured(model, seconds / training)

    def retrained() -> dict[str, float]:
        models = [train(recipe, problem.retain, seed=10_000 + 100 * seed + k) for k in range(plan.retrained)]
        rows = [measured(model, 1.0) for model in models]
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    kept.get(BEFORE, lambda: measured(original, 0.0))
    kept.get(RETRAINED, retrained)
    for method in plan.methods:
        kept.get(method.title, lambda method=method: forgotten(method))


def _table(found: Sequence[Mapping[str, Any]]) -> Table:
    names = list(found[0][BEFORE])
    columns = [Column(one, one, "percent" if one != "cost" else "number", better="as the reference") for one in names]
    kinds: Mapping[str, Kind] = {RETRAINED: "reference", BEFORE: "control"}
    rows = [
        row_of(row, {one: [run[row][one] for run in found] for one in names}, kinds.get(row, "method"))
        for row in found[0]
    ]
    return Table(columns, rows, names="model", notes=[over_originals(len(found))])


def _claims(use: str, found: Sequence[Mapping[str, Any]], plan: Plan, where: str) -> Iterator[Claim]:
    """What each use promises, for every method."""

    def values(row: str, measure: str) -> list[float | None]:
        return [one[row][measure] for one in found]

    for method in plan.methods:
        key = method.title
        if use == "mislabelled":
            figure = paired(values(key, TEST), values(BEFORE, TEST))
            text = f"{key} of wrong labels raises test accuracy"
            yield Claim(f"uses: {where}, {key}", text, where, "test accuracy minus before", figure, above(figure, 0.0))
            continue
        measure = ON_THEM if use == "privacy" else SUCCESS
        figure = paired(values(key, measure), values(RETRAINED, measure))
        text = f"{key} brings '{measure}' to that of retrained models (within {ON_PAR})"
        verdict = within(figure, ON_PAR)
        yield Claim(f"uses: {where}, {key}", text, where, f"{measure} minus retrained", figure, verdict)
