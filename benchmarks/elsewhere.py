"""Matching and other methods, compared with retraining, on data and networks that were not used to choose defaults.

    .venv/bin/python benchmarks/elsewhere.py texts     # about 45 minutes on one core
    .venv/bin/python benchmarks/elsewhere.py images    # about half an hour on one core
    .venv/bin/python benchmarks/elsewhere.py texts --tiny    # the same in a minute, too small to publish

The worlds, their packages and licences are in benchmarks/worlds.py: texts with the network of Kim 2014 and AdamW,
colour images with a narrow ResNet-18 and SGD. Forget sets: `random` (6%), `mislabelled` (the 5% of labels that were
flipped) and `mixed` (low, medium and high memorization, 2% each). Three originals with different seeds, two retrained
models for each. Some ensemble members evaluate single examples, others select the mixed set. `poisoned`: 3% of the
training examples carry a trigger and the attacker's label. An interrupted run continues. Writes
benchmarks/results/elsewhere.json and the tables of docs/unlearning.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import ROOT, RUNS, cell, interval, machine, publish_tables, reference_members, usual_spread
from scenarios import over_seeds as scenario_over_seeds
from scenarios import table as scenario_table
from worlds import WORLDS, World

import unmem as um
from unlearning import LEAST, PARTS, Setting, renamed
from unlearning import over_seeds as unlearning_over_seeds
from unmem.data import Ids
from unmem.ensembles import Ensemble
from unmem.evaluation import Evaluator
from unmem.evaluation.attacks import attacks
from unmem.evaluation.lira import clip_log_odds
from unmem.evaluation.log_odds import MemberLogOdds, log_odds_of
from unmem.memorization import Scores, crossfit, feldman
from unmem.store import write_text
from unmem.targets import FromCrossFit, ShortTeacher, Source, Trace
from unmem.unlearning import Matching

RESULTS = ROOT / "benchmarks" / "results" / "elsewhere.json"
SETS = ("mixed", "random", "mislabelled")
ATTACKS = ("lira", "rmia")
LEFT_OUT = {"matching, members"}  # the members judge here
FLIPPED, TRIGGERED = 0.05, 0.03


@dataclass(frozen=True)
class Plan:
    """examples: how many train; None is as many as the world has. mixed, random: the shares that these sets have."""

    examples: int | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    retrained: int = 2
    mixed: float = 0.06
    random: float = 0.06
    epochs: int | None = None
    members: int | None = None


TINY = Plan(600, (0, 1), 2, 0.1, 0.1, 4, 12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", choices=WORLDS)
    parser.add_argument("--tiny", action="store_true", help="a quick run that publishes nothing")
    options = parser.parse_args()
    plan = TINY if options.tiny else Plan()
    torch.set_num_threads(1)
    world = adapted(WORLDS[options.world], plan)
    work = RUNS / f"elsewhere-{world.name}{'-tiny' * options.tiny}"
    work.mkdir(parents=True, exist_ok=True)
    done = [of_seed(world, name, seed, plan, work) for name in SETS for seed in plan.seeds]
    poisoned = [poisoned_of_seed(world, seed, plan, work) for seed in plan.seeds]
    result = {
        "plan": asdict(plan),
        "examples": {name: len(part) for name, part in data_of(world, plan, True).parts.items()},
        "recipe": asdict(world.recipe),
        "members": {"picking": world.picking, "judging": world.judging},
        "sets": {name: over_seeds([one for one in done if one["set"] == name]) for name in SETS},
        "poisoned": scenario_over_seeds(poisoned),
    }
    tables = {name: table(entry) for name, entry in result["sets"].items()}
    tables["poisoned"] = scenario_table(result["poisoned"])
    for name, text in tables.items():
        print(f"\n{world.name}, {name}\n{text}")
    if not options.tiny:
        found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"schema": 1, "worlds": {}}
        worlds = found["worlds"] | {world.name: machine() | result}
        write_text(RESULTS, json.dumps({"schema": 1, "worlds": worlds}, indent=1) + "\n")
        publish(world.name, tables)


def adapted(world: World, plan: Plan) -> World:
    """The world at the size of the plan."""
    if plan.epochs is None or plan.members is None:
        return world
    return replace(world, recipe=replace(world.recipe, epochs=plan.epochs), picking=plan.members, judging=plan.members)


def of_seed(world: World, name: str, seed: int, plan: Plan, work: Path) -> dict[str, Any]:
    """Every method on one forget set and one original; each is written as soon as it is done."""
    path = work / f"{name}-{seed}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"set": name, "seed": seed, "rows": {}}
    if "finished" in found:
        return found
    setting = setting_of(world, name, seed, plan)
    found["forecast"] = setting.forecast()
    for key, row in setting.rows(set(found["rows"]) | LEFT_OUT, main=True):
        found["rows"][key] = row
        write_text(path, json.dumps(found))
        print(f"{name} {seed}: {key}  ToW {row['tow']:.3f}  {row['cost']:.2f}", flush=True)
    found["finished"] = True
    write_text(path, json.dumps(found))
    return found


@dataclass(frozen=True, eq=False)
class Elsewhere(Setting):
    """A setting that also tells what attacks by ensemble members see, and how far targets are off."""

    def judged(self, model: torch.nn.Module) -> dict[str, Any]:
        members = MemberLogOdds.of(self.judges, self.problem.forget.ids)
        found = attacks(model, self.problem, members)
        return super().judged(model) | {name: found[name].auc for name in ATTACKS}

    def forecast(self) -> dict[str, float]:
        """The accuracies, those of the original, and the error of each source of targets."""
        return super().forecast() | self.original() | dict(self.errors())

    def original(self) -> dict[str, float]:
        parts = {"trained": self.problem.data.train, "tested": self.problem.test}
        hits = {name: um.predict(self.problem.model, part).argmax(1) == part.labels for name, part in parts.items()}
        return {f"original, {name}": float(hit.float().mean()) for name, hit in hits.items()}

    def errors(self) -> Iterator[tuple[str, float]]:
        """Of each source: root mean square and mean of its targets minus the log-odds of a retrained model."""
        goals = [clip_log_odds(log_odds_of(model, self.problem.forget)) for model in self.retrained]
        sources: tuple[Source, ...] = (ShortTeacher(), self.trace, FromCrossFit(self.crossfits[2]))
        said = {one.name: clip_log_odds(one(self.problem, seed=self.seed).phi) for one in sources}
        said |= {"original": clip_log_odds(log_odds_of(self.problem.model, self.problem.forget))}
        for name, phi in said.items():
            yield f"{name}, rms", float(np.mean([np.sqrt(np.mean((phi - goal) ** 2)) for goal in goals]))
            yield f"{name}, bias", float(np.mean([phi - goal for goal in goals]))
        yield "retrained, rms", float(np.sqrt(np.mean((goals[0] - goals[1]) ** 2)))


def setting_of(world: World, name: str, seed: int, plan: Plan) -> Elsewhere:
    clean = name != "mislabelled"
    data, recipe = data_of(world, plan, clean), replace(world.recipe, seed=seed)
    picking, judging = members_of(world, plan, clean)
    memorization = renamed(feldman(picking, measure="confidence"), "memorization")
    forget = forget_set(name, plan, data, memorization)
    original, confidence, trace = original_of(world, plan, clean, seed)
    problem = um.Problem(original, data, forget, recipe=recipe)
    folds = crossfit(recipe, data.train, seed=seed + 1, folder=RUNS / "crossfits")
    began = time.process_time()
    retrained = [um.train(recipe, problem.retain, seed=1000 + 10 * seed + k) for k in range(plan.retrained)]
    seconds = (time.process_time() - began) / plan.retrained
    parts = dict(zip(PARTS, memorization.parts(3, among=forget), strict=True))
    scores = {"confidence": confidence, "memorization": memorization}
    evaluator = Evaluator(problem, reference=retrained, parts=parts)
    return Elsewhere(
        name, seed, problem, scores, {2: folds}, trace, picking, evaluator, judging, retrained, seconds
    )  # fmt: skip


@cache
def data_of(world: World, plan: Plan, clean: bool) -> um.Splits:
    return world.data(plan.examples, 0.0 if clean else FLIPPED)


@cache
def original_of(world: World, plan: Plan, clean: bool, seed: int) -> tuple[torch.nn.Module, Scores, Trace]:
    """The original, with what was watched in its training."""
    data = data_of(world, plan, clean)
    events, trace = um.LearningEvents(), um.TraceRecorder(data.holdout)
    model = um.train(world.recipe, data.train, seed=seed, observers=[events, trace])
    return model, events.scores("confidence"), trace.trace


@cache
def members_of(world: World, plan: Plan, clean: bool) -> tuple[Ensemble, Ensemble]:
    """The members that pick, and those that judge; the same for flipped labels, by which no set is picked."""
    title = "members" if clean else "members with flipped labels"
    data = data_of(world, plan, clean)
    judging = reference_members(world.recipe, data, world.judging, None, name=title)
    if not clean:
        return judging, judging
    return reference_members(world.recipe, data, world.picking, None, name="members that pick", seed=1), judging


def forget_set(name: str, plan: Plan, data: um.Splits, memorization: Scores) -> Ids:
    n = len(data.train)
    if name == "mixed":
        return np.concatenate(list(memorization.groups(round(plan.mixed * n / 3), middle=0.5).values()))
    if name == "random":
        return np.random.default_rng(0).choice(data.train.ids, round(plan.random * n), replace=False)
    return data.flipped


def poisoned_of_seed(world: World, seed: int, plan: Plan, work: Path) -> dict[str, dict[str, float]]:
    """By model, whether the planted trigger works, and the accuracy on the test set."""
    path = work / f"poisoned-{seed}.json"
    if path.exists():
        return json.loads(path.read_text())
    made = world.planted(data_of(world, plan, True), TRIGGERED, seed)
    recipe, trace = replace(world.recipe, seed=seed), um.TraceRecorder(made.data.holdout)
    original = um.train(recipe, made.data.train, observers=[trace])
    problem = um.Problem(original, made.data, made.forget, recipe=recipe)
    folds = crossfit(recipe, made.data.train, seed=seed + 1)
    methods: dict[str, um.Unlearner] = {
        "matching, teacher (default)": um.Auto(),
        "matching, trace": Matching(targets=trace.trace),
        "matching, crossfit": Matching(targets=FromCrossFit(folds)),
        "fine-tune": um.FineTune(),
    }
    models = {"*before*": original} | {key: one(problem, seed=seed) for key, one in methods.items()}
    models["*retrained*"] = um.Retrain()(problem, seed=1000 + seed)
    found = {key: {what: measure(model) for what, measure in made.measures.items()} for key, model in models.items()}
    write_text(path, json.dumps(found))
    print(f"poisoned {seed}: {found}", flush=True)
    return found


def over_seeds(found: list[dict[str, Any]]) -> dict[str, Any]:
    """As in the benchmark of Fashion-MNIST, and the attacks; without its pairs, since those rows are not here."""
    entry = unlearning_over_seeds(found)
    del entry["paired"]
    for key, row in entry["rows"].items():
        row |= {name: interval([one["rows"][key][name] for one in found]) for name in ATTACKS}
    return entry


def table(entry: dict[str, Any]) -> str:
    """Markdown: the controls, then methods from the nearest to retraining to the farthest."""
    rows, least = entry["rows"], LEAST | dict.fromkeys(ATTACKS, 0.001)
    spread = {one: usual_spread([row[one] for row in rows.values()], least[one]) for one in least}
    lines = [
        "| method | ToW | ToW-MIA | under | over | LiRA AUC | RMIA AUC | forget, by group | retain | test | cost "
        "| total cost |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    controls = {"retrain": "*retrain against retrain*", "nothing": "*do nothing*"}
    ranked = sorted(rows, key=lambda key: -rows[key]["tow"]["mean"])
    for key in [*controls, *(key for key in ranked if key not in controls)]:
        row = rows[key]
        parts = " / ".join("–" if row["parts"][part] is None else f"{row['parts'][part]:.0%}" for part in PARTS)
        cells = [cell(row[one], spread[one]) for one in ("tow", "tow_mia")]
        cells += [cell(row[one], spread[one], ".1%", half=False) for one in ("under", "over")]
        cells += [cell(row[one], spread[one], ".2f", half=False) for one in ATTACKS]
        cells += [parts, *(f"{row['accuracy'][part]:.1%}" for part in ("retain", "test"))]
        cells += [f"{row[one]['mean']:.2f}" for one in ("cost", "all_told")]
        lines.append(f"| {controls.get(key, key)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def publish(world: str, tables: dict[str, str]) -> None:
    publish_tables("unlearning.md", {f"{world} {name}": made for name, made in tables.items()})


if __name__ == "__main__":
    main()
