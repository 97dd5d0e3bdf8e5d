"""Preset `unlearning`: which method comes nearest to retraining, and does refinement by memorization help?

Every method runs alone; RUM and RUM^F run with each score that refines the forget set, with memorization itself, and
with shuffled scores as the control; matching runs with each source of targets. All of them start from the same original
and are compared on the same forget set with the same retrained models. Each protocol of settings has its own table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unmem.bench.bed import GROUPS, MEMORIZATION, SHUFFLE, Bed, ForgetSet
from unmem.bench.claims import Claim, above, within
from unmem.bench.kept import Kept, kept_results
from unmem.bench.methods import unlearner
from unmem.bench.plan import Method, Setup
from unmem.bench.protocols import Found, Protocol, by_default, by_oracle, tuned
from unmem.bench.rows import over_originals, row_of
from unmem.bench.statistics import Estimate, estimate, paired
from unmem.bench.work import Result, Work, timed
from unmem.data import Splits
from unmem.ensembles import Ensemble
from unmem.evaluation import accuracy
from unmem.tables import Column, Row, Table
from unmem.tables.table import Kind
from unmem.unlearning import Unlearner

RETRAIN, NOTHING = "retrain against retrain", "do nothing"
ON_PAR = 0.02  # margin of equivalence, in ToW
FORECAST = 0.02  # margin of the forecast, in accuracy
UPPER_BOUND = "Settings chosen by ToW against the retrained models: an upper bound that no user can reach."
NOTES: Mapping[Protocol, str] = {
    "default": "Settings: the defaults of each method.",
    "tuned": "Settings: tuned towards the forecast of a short teacher, with the same budget for every method.",
    "oracle": UPPER_BOUND,
}


@dataclass(frozen=True, kw_only=True)
class UnlearningSetup(Setup):
    """A setup with its forget sets.

    Attributes:
        forget: Forget sets by name.
    """

    forget: Mapping[str, ForgetSet]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is compared.

    Attributes:
        setups: Data sets with their networks and forget sets.
        seeds: Seeds of the originals.
        members: Number of members; one half picks and refines the forget sets, the other half judges.
        retrained: Number of retrained models, at least 2.
        vanilla: Methods that run alone.
        refined: Methods (rum) that run with each score.
        refine_by: Scores that refine, besides memorization and the shuffled control.
        targets: Sources of targets for matching: teacher, trace, crossfit, members.
        protocols: Protocols of settings: default, tuned, oracle.
        budget: Under `tuned`, the cost of each search, in trainings of the original.
        trials: Under `oracle`, the number of settings that are tried.
    """

    setups: Mapping[str, UnlearningSetup]
    seeds: Sequence[int]
    members: int
    retrained: int = 2
    vanilla: Sequence[Method]
    refined: Sequence[Method]
    refine_by: Sequence[str]
    targets: Sequence[str]
    protocols: Sequence[Protocol]
    budget: float = 1.0
    trials: int = 8


@dataclass(frozen=True, eq=False)
class _Case:
    """One row: a method with the score that refines it, or with the source of its targets."""

    key: str
    method: Method
    refined_by: str = ""
    targets: str = ""

    def make(self, bed: Bed) -> Unlearner:
        scores = bed.scores[self.refined_by] if self.refined_by else None
        return unlearner(self.method, scores=scores, targets=bed.sources[self.targets] if self.targets else None)

    def spent(self, bed: Bed) -> float:
        """Cost of the scores and targets that were made before the method runs."""
        return bed.spent.get(self.refined_by, 0.0) + bed.spent.get(self.targets, 0.0)


def cases(plan: Plan) -> Iterator[_Case]:
    """Yield the rows of a plan."""
    for method in plan.vanilla:
        yield _Case(method.title, method)
    for method in plan.refined:
        for score in (MEMORIZATION, *plan.refine_by, SHUFFLE):
            yield _Case(f"{method.title} by {score}", method, refined_by=score)
    for source in plan.targets:
        yield _Case(f"matching, {source}", Method(method="matching"), targets=source)


def run(plan: Plan, work: Work) -> Result:
    """Run every method of every setup, forget set and seed, and compare them."""
    tables: dict[str, Table] = {}
    claims: list[Claim] = []
    data: dict[str, Any] = {}
    for name, setup in plan.setups.items():
        splits = setup.data.load(device=work.device)
        members = work.members(setup, splits, plan.members, name=name)
        shared = _Shared(plan, setup, splits, members, work.folder / name)
        tasks = [(forget, seed) for forget in setup.forget for seed in plan.seeds]
        jobs = work.run(f"{name}: originals", _job, shared, tasks)
        for forget in setup.forget:
            found = [job for (one, _), job in zip(tasks, jobs, strict=True) if one == forget]
            place = f"{name}, {forget}"
            for protocol in plan.protocols:
                rows = _by_row(found, protocol)
                tables[f"{name}-{forget}-{protocol}"] = _table(rows, protocol)
                claims += _claims(rows, plan, f"{place}, {protocol}")
            claims.append(_forecast_claim(found, place))
            data[f"{name}-{forget}"] = found
    return Result(tables, claims, data=data)


@dataclass(frozen=True, eq=False)
class _Shared:
    plan: Plan
    setup: UnlearningSetup
    data: Splits
    members: Ensemble
    folder: Path


def _job(shared: _Shared, task: tuple[str, int]) -> dict[str, Any]:
    """All methods and protocols on one forget set of one original. Each row is written as soon as it is known."""
    forget, seed = task
    plan = shared.plan
    about = {
        "setup": asdict(shared.setup) | {"forget": asdict(shared.setup.forget[forget])},
        "data": shared.data.train.fingerprint,
        "members": [len(shared.members), shared.members.settings],
        "seed": seed,
        "retrained": plan.retrained,
        "budget": plan.budget,
        "trials": plan.trials,
        "refine_by": list(plan.refine_by),
    }
    wanted = {"facts": None, RETRAIN: None, NOTHING: None}
    wanted |= {f"{protocol}: {case.key}": asdict(case) for protocol in plan.protocols for case in cases(plan)}
    path = shared.folder / f"{forget}-{seed}.json"
    return kept_results(path, about, wanted, lambda kept: _fill(kept, shared, forget, seed))


def _fill(kept: Kept, shared: _Shared, forget: str, seed: int) -> None:
    plan = shared.plan
    bed = Bed.make(
        shared.setup,
        shared.data,
        shared.setup.forget[forget],
        shared.members,
        seed=seed,
        scores=plan.refine_by,
        retrained=plan.retrained,
        folder=shared.folder / "crossfits",
    )
    kept.get("facts", lambda: _facts(bed))
    kept.get(RETRAIN, bed.control)
    kept.get(NOTHING, lambda: bed.measured(bed.problem.model) | _costs(0.0, 0.0))
    for protocol in plan.protocols:
        for case in cases(plan):
            kept.get(f"{protocol}: {case.key}", lambda case=case, protocol=protocol: _row(case, protocol, bed, plan))


def _facts(bed: Bed) -> dict[str, Any]:
    forget = bed.problem.forget
    truth = [accuracy(model, forget) for model in bed.retrained]
    forecast = float(bed.forecast.confidence(forget.labels.cpu().numpy()).mean())
    return {
        "n": len(forget),
        "training_seconds": bed.training,
        "retrained_accuracy": sum(truth) / len(truth),
        "forecast_accuracy": forecast,
    }


def _row(case: _Case, protocol: Protocol, bed: Bed, plan: Plan) -> dict[str, Any]:
    run: Mapping[Protocol, Callable[[Unlearner], Found]] = {
        "default": lambda one: by_default(one, bed.problem, seed=bed.recipe.seed),
        "tuned": lambda one: tuned(one, bed.problem, bed.forecast, seed=bed.recipe.seed, budget=plan.budget),
        "oracle": lambda one: by_oracle(one, bed.problem, bed.tow, seed=bed.recipe.seed, trials=plan.trials),
    }
    made = case.make(bed)
    if protocol == "tuned":
        _ = bed.forecast  # made once for all methods, so it is not part of the time of the first
    found, seconds = timed(lambda: run[protocol](made))
    cost = seconds / bed.training
    return (
        bed.measured(found.model)
        | _costs(cost, cost + case.spent(bed))
        | {"settings": _plain(found.settings), "trials": found.trials, "diverged": found.diverged}
    )


def _costs(cost: float, total: float) -> dict[str, Any]:
    return {"cost": cost, "total_cost": total, "diverged": False}


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the settings of scores and targets, which are the same for all rows."""
    return {key: value for key, value in settings.items() if isinstance(value, str | int | float | None)}


Rows = Mapping[str, Sequence[Mapping[str, Any]]]


def _by_row(found: Sequence[Mapping[str, Any]], protocol: Protocol) -> Rows:
    """The runs of each row, in the order of the seeds: the controls and the methods of one protocol."""
    start = f"{protocol}: "
    names = [RETRAIN, NOTHING, *(name for name in found[0] if name.startswith(start))]
    return {name.removeprefix(start): [one[name] for one in found] for name in names}


def _values(rows: Rows, name: str, measure: str) -> list[float | None]:
    return [one[measure] for one in rows[name]]


def _table(rows: Rows, protocol: Protocol) -> Table:
    """A row per method, from the highest to the lowest ToW, below the two controls."""
    columns = [
        Column("tow", "ToW", "decimals", better="higher"),
        Column("tow_mia", "ToW-MIA", "decimals", better="higher"),
        Column("under", "under-forgotten", "percent", better="as the reference"),
        Column("over", "over-forgotten", "percent", better="as the reference"),
        Column("auc_lira", "LiRA AUC", "decimals", better="as the reference"),
        *(Column(f"{group}_accuracy", f"{group} group", "percent", better="as the reference") for group in GROUPS),
        Column("retain", "retain", "percent", better="as the reference"),
        Column("test", "test", "percent", better="as the reference"),
        Column("cost", "cost", "number", unit="trainings", better="lower"),
        Column("total_cost", "total cost", "number", unit="trainings", better="lower"),
    ]
    methods = [name for name in rows if name not in (RETRAIN, NOTHING)]
    methods.sort(key=lambda name: -(_mean(_values(rows, name, "tow")) or -1.0))
    found = [_table_row(name, rows[name]) for name in (RETRAIN, *methods, NOTHING)]
    return Table(columns, found, names="method", notes=[NOTES[protocol], over_originals(len(rows[RETRAIN]))])


def _table_row(name: str, runs: Sequence[Mapping[str, Any]]) -> Row:
    numbers: dict[str, list[float | None]] = {
        key: [one[key] for one in runs] for key in ("tow", "tow_mia", "under", "over", "cost", "total_cost")
    }
    numbers |= {key: [one["accuracy"][key] for one in runs] for key in ("retain", "test")}
    numbers |= {f"{group}_accuracy": [one["groups"][group]["accuracy"] for one in runs] for group in GROUPS}
    numbers["auc_lira"] = [one["auc"].get("lira") for one in runs]
    diverged = sum(one["diverged"] for one in runs)
    explained = f"diverged in {diverged} of {len(runs)} runs, which count as doing nothing" if diverged else ""
    kinds: Mapping[str, Kind] = {RETRAIN: "reference", NOTHING: "control"}
    shown = ("tow", "tow_mia")
    return row_of(name, numbers, kinds.get(name, "method"), intervals=shown, explained=explained)


def _mean(values: Sequence[float | None]) -> float | None:
    found = estimate(values)
    return None if found is None else found.mean


def _claims(rows: Rows, plan: Plan, where: str) -> Iterator[Claim]:
    """Claims (b), (c) and (f) on one forget set under one protocol."""

    def difference(first: str, second: str) -> Estimate | None:
        return paired(_values(rows, first, "tow"), _values(rows, second, "tow"))

    for method in plan.refined:
        exact = f"{method.title} by {MEMORIZATION}"
        for score in plan.refine_by:
            figure = difference(f"{method.title} by {score}", exact)
            text = f"{method.title} refined by {score} is on par with memorization (ToW within {ON_PAR})"
            measure = "ToW minus ToW by memorization"
            yield Claim(f"b: {where}, {method.title}, {score}", text, where, measure, figure, within(figure, ON_PAR))
        shuffled = difference(exact, f"{method.title} by {SHUFFLE}")
        text = f"{method.title} by memorization is above the same with shuffled scores"
        key = f"c: {where}, {method.title} - shuffle"
        yield Claim(key, text, where, "ToW minus ToW of shuffle", shuffled, above(shuffled, 0.0))
        vanilla = method.steps[-1].title if method.steps else ""
        if vanilla in rows:
            figure = difference(exact, vanilla)
            text = f"{method.title} by memorization is above {vanilla} alone"
            key = f"c: {where}, {method.title} - vanilla"
            yield Claim(key, text, where, f"ToW minus ToW of {vanilla}", figure, above(figure, 0.0))
        for source in plan.targets:
            figure = difference(f"matching, {source}", exact)
            text = f"matching with {source} targets is above {method.title} by memorization"
            key = f"f: {where}, {source}, {method.title}"
            yield Claim(key, text, where, f"ToW minus ToW of {method.title}", figure, above(figure, 0.0))


def _forecast_claim(found: Sequence[Mapping[str, Any]], where: str) -> Claim:
    figure = paired(
        [one["facts"]["forecast_accuracy"] for one in found], [one["facts"]["retrained_accuracy"] for one in found]
    )
    text = f"the forecast is within {FORECAST} of the forget accuracy of retrained models"
    return Claim(f"g: {where}", text, where, "forecast minus retrained accuracy", figure, within(figure, FORECAST))
