"""Every unlearning algorithm, alone and in RUM, and matching with each source of targets, compared with retraining.

    .venv/bin/python benchmarks/unlearning.py            # the published figures; about two hours on two cores
    .venv/bin/python benchmarks/unlearning.py --main     # the main rows only: the first table of each forget set
    .venv/bin/python benchmarks/unlearning.py --tiny     # the same in some minutes, too small to publish

Fashion-MNIST, 5,000 training examples, small_cnn, 20 epochs. Forget sets: `mixed` (100 each of low, medium and high
memorization), `random` (300) and `mislabelled` (the 5% of labels that were flipped). Three originals with different
seeds, two retrained models for each. One half of the reference members selects and refines the forget sets, the other
half evaluates single examples. An interrupted run continues. Writes benchmarks/results/unlearning.json and the tables
of docs/unlearning.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import (
    EXAMPLES,
    ROOT,
    RUNS,
    cell,
    interval,
    machine,
    pool,
    publish_tables,
    recipe_for,
    reference_members,
    usual_spread,
)
from numpy.typing import NDArray
from scipy.stats import t as student

import unmem as um
from unmem.data import Examples, Ids
from unmem.ensembles import Ensemble
from unmem.evaluation import Evaluator
from unmem.memorization import Scorer, Scores, crossfit, feldman
from unmem.predictions import log_odds
from unmem.store import write_text
from unmem.targets import FromCrossFit, FromMembers, Trace
from unmem.unlearning import (
    RUM,
    SCRUB,
    SSD,
    BadTeacher,
    FineTune,
    Influence,
    L1Sparse,
    Matching,
    NegGrad,
    NegGradPlus,
    Nothing,
    RandomLabel,
    SalUn,
    Unlearner,
)

RESULTS = ROOT / "benchmarks" / "results" / "unlearning.json"
MAIN_RESULTS = RESULTS.with_name("unlearning-main.json")
SETS = ("mixed", "random", "mislabelled")
PROXIES = ("confidence", "holdout", "curvature", "crossfit")
REFINED_BY = ("memorization", *PROXIES, "shuffle")
VANILLA: tuple[Callable[[], Unlearner], ...] = (
    *(FineTune, L1Sparse, NegGrad, NegGradPlus, SCRUB, RandomLabel, SalUn, Influence, BadTeacher, SSD),
)
UNIFORM = (NegGradPlus, SalUn)  # RUM^F with every score
UNIFORM_MIXED = (SCRUB,)  # with every score, for the mixed set only
UNIFORM_FEW = (FineTune, L1Sparse, RandomLabel)  # by memorization and shuffled, for the mixed set only
PARTS = ("low", "medium", "high")


@dataclass(frozen=True)
class Plan:
    examples: int
    epochs: int
    members: int
    members_flipped: int
    group: int
    random: int
    seeds: tuple[int, ...]
    retrained: int
    main: bool = False
    network: str = "small_cnn"

    @property
    def recipe(self) -> um.Recipe:
        return recipe_for(self.epochs, self.network)


FULL = Plan(EXAMPLES, 20, 80, 60, 100, 300, (0, 1, 2), 2)
TINY = Plan(800, 4, 40, 40, 15, 45, (0, 1), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a quick run that publishes nothing")
    parser.add_argument("--main", action="store_true", help="the main rows only")
    options = parser.parse_args()
    plan = replace(TINY if options.tiny else FULL, main=options.main)
    work = RUNS / f"unlearning{'-main' * plan.main}{'-tiny' * options.tiny}"
    work.mkdir(parents=True, exist_ok=True)
    done: list[dict[str, Any]] = []
    with pool() as executor:
        for clean, names in ((True, ("mixed", "random")), (False, ("mislabelled",))):
            count = plan.members if clean else plan.members_flipped
            title = "members" if clean else "members with flipped labels"
            recipe, data = plan.recipe, data_of(plan, clean)
            members = reference_members(recipe, data, count, executor, name=title)
            jobs = [executor.submit(of_seed, name, seed, plan, members, work) for name in names for seed in plan.seeds]
            done += [job.result() for job in jobs]
    by_set = {name: [one for one in done if one["set"] == name] for name in SETS}
    result = {
        "schema": 1,
        **machine(),
        "plan": asdict(plan),
        "recipe": asdict(plan.recipe),
        "sets": {name: over_seeds(found) for name, found in by_set.items()},
    }
    for name, entry in result["sets"].items():
        print(f"\n{name}\n{table(entry)}")
    if not options.tiny:
        write_text(MAIN_RESULTS if plan.main else RESULTS, json.dumps(result, indent=1) + "\n")
        publish(result, prefix="main " if plan.main else "")


def data_of(plan: Plan, clean: bool) -> um.Splits:
    return um.load("fashion-mnist", limit=plan.examples, flip=0.0 if clean else 0.05)


def of_seed(name: str, seed: int, plan: Plan, members: Ensemble, work: Path) -> dict[str, Any]:
    """Every method on one forget set and one original; each is written as soon as it is done."""
    path = work / f"{name}-{seed}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"set": name, "seed": seed, "rows": {}}
    if "finished" in found:
        return found
    setting = Setting.make(name, seed, plan, members)
    found["forecast"] = setting.forecast()
    for key, row in setting.rows(set(found["rows"]), main=plan.main):
        found["rows"][key] = row
        write_text(path, json.dumps(found))
        print(f"{name} {seed}: {key}  ToW {row['tow']:.3f}  {row['cost']:.2f}", flush=True)
    write_text(path, json.dumps(found | {"finished": True}))
    return found


@dataclass(frozen=True, eq=False)
class Setting:
    """One original and its forget set, with all that refines the set and judges the result."""

    name: str
    seed: int
    problem: um.Problem
    scores: dict[str, Scores]
    crossfits: dict[int, um.CrossFit]
    trace: Trace
    picked_by: Ensemble
    evaluator: Evaluator
    judges: Ensemble
    retrained: list[torch.nn.Module]
    seconds: float  # of one retraining, in processor time

    @classmethod
    def make(cls, name: str, seed: int, plan: Plan, members: Ensemble) -> Setting:
        data, recipe = data_of(plan, name != "mislabelled"), replace(plan.recipe, seed=seed)
        half = len(members) // 2
        memorization = renamed(feldman(members.members(range(half))), "memorization")
        forget = forget_set(name, plan, data, memorization)
        events, trace = um.LearningEvents(), um.TraceRecorder(data.holdout)
        original = um.train(recipe, data.train, observers=[events, trace])
        problem = um.Problem(original, data, forget, recipe=recipe)
        folder = RUNS / "crossfits"  # the sets of one original share them
        folds = (2,) if plan.main else (2, 5)
        crossfits = {k: crossfit(recipe, data.train, folds=k, seed=seed + 1, folder=folder) for k in folds}
        scores = {"confidence": events.scores("confidence"), "memorization": memorization}
        if not plan.main:
            scorer = Scorer(data, recipe=recipe, model=original)
            scores |= {one: scorer.get(one) for one in PROXIES if one not in ("confidence", "crossfit")}
        scores |= {"crossfit": crossfits[2].scores(), "shuffle": memorization.shuffled(seed=seed)}
        began = time.process_time()
        retrained = [um.train(recipe, problem.retain, seed=1000 + 10 * seed + k) for k in range(plan.retrained)]
        seconds = (time.process_time() - began) / plan.retrained
        parts = dict(zip(PARTS, memorization.parts(3, among=forget), strict=True))
        pick, judges = members.members(range(half)), members.members(range(half, len(members)))
        evaluator = Evaluator(problem, reference=retrained, parts=parts)
        return cls(name, seed, problem, scores, crossfits, trace.trace, pick, evaluator, judges, retrained, seconds)

    def rows(self, done: set[str], *, main: bool) -> Iterator[tuple[str, dict[str, Any]]]:
        """The methods that are not yet done, with what each reached."""
        if "retrain" not in done:
            yield "retrain", self.control()
        for key, method in methods(self, main).items():
            if key not in done:
                began = time.process_time()
                model = method(self)
                cost = (time.process_time() - began) / self.seconds
                yield key, self.row(model, cost, cost + spent(key, self))

    def row(self, model: torch.nn.Module, cost: float, all_told: float) -> dict[str, Any]:
        costs = {"cost": cost, "all_told": all_told}
        return measured(self.evaluator.outcome(model)) | self.judged(model) | costs

    def control(self) -> dict[str, Any]:
        """What an honest retrain scores: against the other ones, and before the single-example test."""
        judged = [self.judged(model) for model in self.retrained]
        mean = {key: float(np.mean([one[key] for one in judged])) for key in judged[0]}
        pair = self.evaluator.retrain_vs_retrain
        if pair is None:
            raise ValueError("two retrained models are needed")
        return measured(pair) | mean | {"cost": 1.0, "all_told": 1.0}

    def judged(self, model: torch.nn.Module) -> dict[str, Any]:
        """Share of the forget set that is known better, or worse, than models that never saw it can explain."""
        t, critical = surprise(model, self.problem.forget, self.judges)
        return {
            "under": float((t > critical).mean()),
            "over": float((t < -critical).mean()),
            "rms": float(np.sqrt(np.mean(t**2))),
        }

    def forecast(self) -> dict[str, float]:
        """Accuracy on the forget set: by the cross-fits, by the members that never saw each example, and in truth."""
        forget = self.problem.forget
        where = self.problem.data.train.positions(forget.ids)
        out = ~self.judges.kept[:, where]
        hits = self.judges.train.correct[:, where]
        truth = [float((um.predict(g, forget).argmax(1) == forget.labels).float().mean()) for g in self.retrained]
        found = {f"crossfit K={k}": float((c.take(forget.ids).margin > 0).mean()) for k, c in self.crossfits.items()}
        return found | {"members": float((hits & out).sum() / out.sum()), "retrained": float(np.mean(truth))}


def forget_set(name: str, plan: Plan, data: um.Splits, memorization: Scores) -> Ids:
    if name == "mixed":
        return np.concatenate(list(memorization.groups(plan.group, middle=0.5).values()))
    if name == "random":
        return np.random.default_rng(0).choice(data.train.ids, plan.random, replace=False)
    return data.flipped


Method = Callable[[Setting], torch.nn.Module]


def spent(key: str, setting: Setting) -> float:
    """What a method needed beside its own run, in trainings: what was made before, for this or for other requests."""
    if key.startswith("matching"):
        if "members" in key:
            return FromMembers(setting.picked_by).spent
        if "crossfit" in key:
            return 4.0 if "K=5" in key else 1.0
        return 0.0  # a teacher is trained in the run; recording a trace takes under 1% of the training
    if key.endswith("crossfit"):
        return 1.0
    return FromMembers(setting.picked_by).spent if key.endswith("memorization") else 0.0


MAIN = ("fine-tune", "l1-sparse", "neggrad+", "scrub", "salun", "RUM by confidence")


def methods(setting: Setting, main: bool) -> dict[str, Method]:
    """By row of the table, how to make its model; main: the main rows only."""
    made: dict[str, Unlearner] = {"nothing": Nothing()}
    two = setting.crossfits[2]
    made |= {
        "matching, teacher (default)": um.Auto(),
        "matching, trace": Matching(targets=setting.trace),
        "matching, crossfit": Matching(targets=FromCrossFit(two)),
        "matching, members": Matching(targets=FromMembers(setting.picked_by)),
    }
    if main:
        made |= {kind().name: kind() for kind in VANILLA if kind().name in MAIN}
        made["RUM by confidence"] = RUM(setting.scores["confidence"], [Nothing(), FineTune(), SalUn()])
        return {key: runner(unlearner) for key, unlearner in made.items()}
    made |= {
        "matching, crossfit K=5": Matching(targets=FromCrossFit(setting.crossfits[5])),
        "matching, crossfit, KL": Matching(targets=FromCrossFit(two), form="kl"),
        "matching, crossfit, fixed weight": Matching(targets=FromCrossFit(two), adapt=0.0),
        "matching, high part only": RUM(
            setting.scores["crossfit"], [Nothing(), Nothing(), Matching(targets=FromCrossFit(two))]
        ),
    }
    made |= {kind().name: kind() for kind in VANILLA}
    for score in REFINED_BY:
        refined = setting.scores[score]
        made[f"RUM by {score}"] = RUM(refined, [Nothing(), FineTune(), SalUn()])
        for kind in uniform(setting.name, score):
            made[f"RUM^F {kind.name} by {score}"] = RUM.uniform(refined, kind())
    return {key: runner(unlearner) for key, unlearner in made.items()}


def uniform(name: str, score: str) -> tuple[Callable[[], Unlearner], ...]:
    """What is run as RUM^F; three steps often cost as much as retraining, so not all of them always."""
    if name != "mixed":
        return UNIFORM
    return UNIFORM + UNIFORM_MIXED + (UNIFORM_FEW if score in ("memorization", "shuffle") else ())


def runner(unlearner: Unlearner) -> Method:
    return lambda setting: unlearner(setting.problem, seed=setting.seed)


def surprise(model: torch.nn.Module, examples: Examples, members: Ensemble) -> tuple[NDArray[np.float64], Any]:
    """Student's t of each example's log-odds against the members that never saw it, and its 97.5% point.

    The spread of each example is shrunk towards the pooled one, with NU0 degrees of freedom; log-odds are cut at
    ± log 999, beyond which a probability says no more.
    """
    where = np.searchsorted(members.train.ids, examples.ids, sorter=np.argsort(members.train.ids))
    where = np.argsort(members.train.ids)[where]
    limit = float(np.log(999))
    phi = log_odds(um.predict(model, examples), examples.labels)[0].numpy().clip(-limit, limit)
    theirs, out = members.train.phi[:, where].astype(float).clip(-limit, limit), ~members.kept[:, where]
    n = out.sum(0)
    mean = (theirs * out).sum(0) / n
    variance = ((theirs - mean) ** 2 * out).sum(0) / (n - 1)
    freedom = NU0 + n - 1
    shrunk = (NU0 * variance.mean() + (n - 1) * variance) / freedom
    return (phi - mean) / np.sqrt(shrunk * (1 + 1 / n)), student.ppf(0.975, freedom)


NU0 = 4


def measured(outcome: um.Outcome) -> dict[str, Any]:
    return {
        "tow": outcome.tow,
        "tow_mia": outcome.tow_mia,
        "accuracy": outcome.accuracy,
        "parts": {name: part.accuracy for name, part in outcome.parts.items()},
    }


def renamed(scores: Scores, name: str) -> Scores:
    return replace(scores, name=name)


def over_seeds(found: list[dict[str, Any]]) -> dict[str, Any]:
    """By method, the mean and 95% t-interval over the originals; and differences that claims rest on, paired."""
    keys = [key for key in found[0]["rows"] if all(key in one["rows"] for one in found)]
    rows = {key: [one["rows"][key] for one in found] for key in keys}
    numbers = ("tow", "tow_mia", "under", "over", "rms", "cost", "all_told")
    return {
        "rows": {
            key: {name: interval([one[name] for one in ours]) for name in numbers}
            | {"accuracy": means([one["accuracy"] for one in ours]), "parts": means([one["parts"] for one in ours])}
            for key, ours in rows.items()
        },
        "paired": paired(rows),
        "forecast": means([one["forecast"] for one in found]),
    }


def paired(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """RUM by memorization minus vanilla, minus shuffle, and minus each proxy: ToW, original by original."""
    families = {"RUM": None} | {f"RUM^F {kind.name}": kind.name for kind in (*UNIFORM, *UNIFORM_MIXED, *UNIFORM_FEW)}
    result: dict[str, Any] = {}
    for family, vanilla in families.items():
        exact = rows.get(f"{family} by memorization")
        others = {score: f"{family} by {score}" for score in (*PROXIES, "shuffle")} | {"vanilla": vanilla or ""}
        for name, key in others.items():
            if exact and key in rows:
                result[f"{family} by memorization − {name}"] = {
                    number: interval([a[number] - b[number] for a, b in zip(exact, rows[key], strict=True)])
                    for number in ("tow", "tow_mia")
                }
    return result


def means(values: list[dict[str, float | None]]) -> dict[str, float | None]:
    return {
        key: None if any(one[key] is None for one in values) else float(np.mean([one[key] for one in values]))  # pyright: ignore
        for key in values[0]
    }


# Differences between runs that are too small to matter: of ToW, and of shares, which stray by 1% where 2.5% of 250
# examples are expected.
LEAST = {"tow": 0.001, "tow_mia": 0.001, "under": 0.01, "over": 0.01}


def table(entry: dict[str, Any]) -> str:
    """Markdown: the controls, then methods from the nearest to retraining to the farthest."""
    rows = entry["rows"]
    spread = {one: usual_spread([row[one] for row in rows.values()], least) for one, least in LEAST.items()}
    lines = [
        "| method | ToW | ToW-MIA | under | over | forget, by group | retain | test | cost | total cost |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    ranked = sorted(rows, key=lambda key: -(rows[key]["tow"] or {"mean": -1.0})["mean"])
    for key in ["retrain", "nothing", *[key for key in ranked if key not in ("retrain", "nothing")]]:
        row = rows[key]
        name = {"retrain": "*retrain against retrain*", "nothing": "*do nothing*"}.get(key, key)
        parts = " / ".join("–" if row["parts"][part] is None else f"{row['parts'][part]:.0%}" for part in PARTS)
        accuracy = row["accuracy"]
        costs = " | ".join(f"{row[one]['mean']:.2f}" for one in ("cost", "all_told"))
        tow, tow_mia = (cell(row[one], spread[one]) for one in ("tow", "tow_mia"))
        under, over = (cell(row[one], spread[one], ".1%", half=False) for one in ("under", "over"))
        lines.append(
            f"| {name} | {tow} | {tow_mia} | {under} | {over} | {parts} "
            f"| {accuracy['retain']:.1%} | {accuracy['test']:.1%} | {costs} |"
        )
    return "\n".join(lines)


def publish(result: dict[str, Any], *, prefix: str) -> None:
    tables = {f"{prefix}{name}": table(entry) for name, entry in result["sets"].items()}
    publish_tables("unlearning.md", tables, optional=True)


if __name__ == "__main__":
    main()
