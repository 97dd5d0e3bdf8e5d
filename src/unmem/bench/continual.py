"""Preset `continual`: several requests in a row. Do the scores stay faithful, and does the quality of unlearning drift?

Each request starts from the model that the previous one left. After each, the model is compared with models retrained
on what is left, and each score that a finished model can give is computed again from it. A score that was carried over
is restricted to the examples that are left. Fidelity is the rank correlation with memorization on these examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from unmem.bench.claims import Claim, within
from unmem.bench.kept import Kept, kept_results
from unmem.bench.methods import unlearner
from unmem.bench.plan import Method, Setup
from unmem.bench.rows import over_originals, row_of
from unmem.bench.statistics import paired
from unmem.bench.work import Result, Work
from unmem.data import Ids, Splits
from unmem.evaluation import Evaluator
from unmem.memorization import LearningEvents, Scorer, Scores, agreement, feldman, score
from unmem.recipe import Recipe
from unmem.tables import Column, Row, Table
from unmem.tables.table import Kind
from unmem.training import train
from unmem.unlearning import UnlearnedRequest, Unlearner, unlearn_sequence

FAITHFUL = 0.05  # margin within which a Spearman correlation counts as unchanged
ON_PAR = 0.02  # margin for ToW
CARRIED = "carried over"
AGAIN = "computed again"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is compared.

    Attributes:
        setups: Data sets with their networks.
        seeds: Seeds of the originals.
        members: Number of members of the reference for memorization.
        requests: Number of requests.
        size: Examples per request: equal shares of low, medium and high memorization.
        methods: Methods; rum is refined by a score that is computed again before each request.
        rescore: The score that refines rum, one that a finished model can give.
        carried: Learning events whose values at the original's training are carried over.
        again: Scores that are computed again from each unlearned model.
        retrained: Number of models retrained after each request, at least 2.
    """

    setups: Mapping[str, Setup]
    seeds: Sequence[int]
    members: int
    requests: int = 5
    size: int
    methods: Sequence[Method]
    rescore: str = "holdout"
    carried: Sequence[str] = ("confidence",)
    again: Sequence[str] = ("holdout", "curvature")
    retrained: int = 2


def run(plan: Plan, work: Work) -> Result:
    """Run the sequences of every setup, method and seed."""
    tables: dict[str, Table] = {}
    claims: list[Claim] = []
    data: dict[str, Any] = {}
    for name, setup in plan.setups.items():
        splits = setup.data.load(device=work.device)
        memorization = feldman(work.members(setup, splits, plan.members, name=name))
        shared = _Shared(plan, setup, splits, memorization, work.folder / name)
        jobs = work.run(f"{name}: sequences", _job, shared, list(plan.seeds))
        tables[f"{name}-quality"] = _quality(jobs, plan)
        tables[f"{name}-fidelity"] = _fidelity(jobs, plan)
        claims += _claims(jobs, plan, name)
        data[name] = jobs
    return Result(tables, claims, data=data)


@dataclass(frozen=True, eq=False)
class _Shared:
    plan: Plan
    setup: Setup
    data: Splits
    memorization: Scores
    folder: Path


def _job(shared: _Shared, seed: int) -> dict[str, Any]:
    """All sequences of one original."""
    plan = shared.plan
    about = {"setup": asdict(shared.setup), "data": shared.data.train.fingerprint, "seed": seed} | {
        key: value for key, value in asdict(plan).items() if key not in ("setups", "seeds", "methods")
    }
    wanted = {"original": None, **{method.title: asdict(method) for method in plan.methods}}
    path = shared.folder / f"sequence-{seed}.json"
    return kept_results(path, about, wanted, lambda kept: _fill(kept, shared, seed))


def _fill(kept: Kept, shared: _Shared, seed: int) -> None:
    plan, recipe, data = shared.plan, shared.setup.recipe_of(seed), shared.data
    events = LearningEvents()
    original = train(recipe, data.train, observers=[events])
    carried = {name: events.scores(name) for name in plan.carried}
    requests = _requests(shared.memorization, plan, seed)
    kept.get("original", lambda: _faithful(original, data, carried, shared, recipe))
    references: list[list[nn.Module]] = []
    for k in range(plan.requests):
        left = data.without(np.concatenate(requests[: k + 1]))
        references.append(
            [train(recipe, left.train, seed=10_000 + 1000 * seed + 10 * k + j) for j in range(plan.retrained)]
        )
    for method in plan.methods:
        kept.get(
            method.title,
            lambda method=method: [
                _after(request, models, carried, shared, recipe)
                for request, models in zip(
                    _sequence(method, requests, original, shared, recipe), references, strict=True
                )
            ],
        )


def _requests(memorization: Scores, plan: Plan, seed: int) -> list[Ids]:
    """Disjoint requests, each with equal shares of low, medium and high memorization."""
    random = np.random.default_rng(seed)
    parts = [random.permutation(part) for part in memorization.parts(3)]
    share = plan.size // 3
    return [np.concatenate([part[k * share : (k + 1) * share] for part in parts]) for k in range(plan.requests)]


def _sequence(
    method: Method, requests: Sequence[Ids], original: nn.Module, shared: _Shared, recipe: Recipe
) -> Iterator[UnlearnedRequest]:
    data = shared.data
    if not method.steps:
        return unlearn_sequence(requests, original, data, unlearner(method), recipe=recipe, seed=recipe.seed)

    def rescored(model: nn.Module, left: Splits) -> Scores:
        return score(shared.plan.rescore, left, recipe=recipe, model=model)

    def refined(scores: Scores) -> Unlearner:
        return unlearner(method, scores=scores)

    return unlearn_sequence(
        requests,
        original,
        data,
        refined,
        recipe=recipe,
        seed=recipe.seed,
        rescore=rescored,
    )


def _after(
    request: UnlearnedRequest,
    models: Sequence[nn.Module],
    carried: Mapping[str, Scores],
    shared: _Shared,
    recipe: Recipe,
) -> dict[str, Any]:
    """What is measured after one request."""
    evaluator = Evaluator(request.problem, reference=models)
    outcome, control = evaluator.outcome(request.model), evaluator.retrain_vs_retrain
    left = request.problem.data.without(request.problem.forget.ids)
    return {
        "tow": outcome.tow,
        "tow_mia": outcome.tow_mia,
        "test": outcome.accuracy["test"],
        "retrain": None if control is None else control.tow,
        "retrained_test": None if evaluator.reference is None else evaluator.reference.accuracy["test"],
        "fidelity": _faithful(request.model, left, carried, shared, recipe),
    }


def _faithful(
    model: nn.Module, data: Splits, carried: Mapping[str, Scores], shared: _Shared, recipe: Recipe
) -> dict[str, float | None]:
    """Spearman of each score with memorization on the training examples that are left."""
    scorer = Scorer(data, recipe=recipe, model=model)
    found = {f"{name}, {CARRIED}": one.only(data.train.ids) for name, one in carried.items()}
    found |= {f"{name}, {AGAIN}": scorer.get(name) for name in shared.plan.again}
    return {name: _spearman(one, shared.memorization.only(data.train.ids)) for name, one in found.items()}


def _spearman(one: Scores, memorization: Scores) -> float | None:
    found = agreement(one, memorization, resamples=1).spearman
    return None if found is None else found.value


def _quality(jobs: Sequence[Mapping[str, Any]], plan: Plan) -> Table:
    """ToW after each request, a row per method."""
    columns = [
        Column(f"request_{k + 1}", f"request {k + 1}", "decimals", better="higher") for k in range(plan.requests)
    ]
    first = plan.methods[0].title
    control = _over([[step["retrain"] for step in job[first]] for job in jobs], "retrain against retrain", "reference")
    rows = [_over([[step["tow"] for step in job[m.title]] for job in jobs], m.title, "method") for m in plan.methods]
    return Table(
        columns, [control, *rows], names="method", notes=["ToW after each request. " + over_originals(len(jobs))]
    )


def _fidelity(jobs: Sequence[Mapping[str, Any]], plan: Plan) -> Table:
    """Spearman with memorization on the original and after each request, a row per score and method."""
    columns = [Column("request_0", "original", "decimals", better="higher")]
    columns += [Column(f"request_{k + 1}", f"request {k + 1}", "decimals") for k in range(plan.requests)]
    rows: list[Row] = []
    for method in plan.methods:
        for name in jobs[0]["original"]:
            runs = [[job["original"][name], *(step["fidelity"][name] for step in job[method.title])] for job in jobs]
            rows.append(_over(runs, f"{name}: {method.title}", "method", start=0))
    return Table(
        columns,
        rows,
        names="score",
        notes=["Spearman with memorization on the examples left. " + over_originals(len(jobs))],
    )


def _over(runs: Sequence[Sequence[float | None]], name: str, kind: Kind, *, start: int = 1) -> Row:
    return row_of(name, {f"request_{k + start}": column for k, column in enumerate(zip(*runs, strict=True))}, kind)


def _claims(jobs: Sequence[Mapping[str, Any]], plan: Plan, where: str) -> Iterator[Claim]:
    """Claim (e): scores stay faithful on the unlearned model; and quality does not drift."""
    for method in plan.methods:
        for name in jobs[0]["original"]:
            figure = paired(
                [job[method.title][-1]["fidelity"][name] for job in jobs], [job["original"][name] for job in jobs]
            )
            text = f"{name} stays as faithful after {plan.requests} requests by {method.title} (within {FAITHFUL})"
            key = f"e: {where}, {method.title}, {name}"
            yield Claim(key, text, where, "Spearman after minus before", figure, within(figure, FAITHFUL))
        figure = paired([job[method.title][-1]["tow"] for job in jobs], [job[method.title][0]["tow"] for job in jobs])
        text = f"{method.title} does not drift over {plan.requests} requests (ToW within {ON_PAR})"
        measure = f"ToW of request {plan.requests} minus request 1"
        yield Claim(f"e: {where}, {method.title}, drift", text, where, measure, figure, within(figure, ON_PAR))
