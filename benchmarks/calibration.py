"""False alarms and power of the verdict of an audit.

    .venv/bin/python benchmarks/calibration.py                # all of it, about 20 minutes on two cores
    .venv/bin/python benchmarks/calibration.py simulated      # one part only: simulated, digits or fashion

Simulated: members, honest models and controls drawn from known distributions of log-odds; each cell counts the false
alarms for honest models. Real: on digits and Fashion-MNIST, honest retrained models for five kinds of forget sets, and
models that forgot nothing, little, or too much. Every rate has its exact binomial interval; the nominal level is 5%,
both sides together. Writes benchmarks/results/calibration.json and the tables of docs/evidence.md.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import ROOT, RUNS, machine, pool, publish_tables
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import nn

import unmem as um
from unmem.data import Ids
from unmem.ensembles import Ensemble, leave_out_masks, train_members
from unmem.errors import DivergedError
from unmem.evaluation import Audit, audit
from unmem.evaluation.signals import Said, Signals
from unmem.evaluation.single_model import TAIL, Judge
from unmem.memorization import crossfit, feldman
from unmem.store import write_text
from unmem.targets import FromCrossFit

Real = NDArray[np.float64]
RESULTS = ROOT / "benchmarks" / "results" / "calibration.json"
LEVEL = 0.05  # both sides of a verdict together


def main() -> None:
    parts = sys.argv[1:] or ["simulated", "digits", "fashion"]
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with pool() as executor:
        for part in parts:
            began = time.perf_counter()
            made = simulated(executor) if part == "simulated" else real(WORLDS[part], executor)
            found[part] = {**machine(), "seconds": round(time.perf_counter() - began), **made}
            write_text(RESULTS, json.dumps(found, indent=1) + "\n")
    publish(found)
    for line in broken(found):
        print(f"out of bounds: {line}")


# Simulated log-odds


@dataclass(frozen=True)
class Cell:
    """One kind of world. noise: shape of what scatters around each example's mean. common: correlation of the forget
    examples of a model. groups: whether three memorization groups are judged too. scale, spread: of the honest model's
    log-odds, and of its scatter, as a multiple of the members'."""

    noise: str
    common: float
    members: int
    n: int
    groups: bool = False
    scale: float = 1.0
    spread: float = 1.0


CELLS = [
    *(Cell(*one) for one in product(("normal", "t3", "skewed"), (0.0, 0.1, 0.3), (8, 16, 64), (20, 50, 300))),
    *(Cell(noise, common, 16, n, groups=True) for noise, common, n in product(("normal", "t3"), (0.0, 0.1), (30, 300))),
    *(Cell("normal", 0.0, 16, 50, scale=scale) for scale in (0.5, 2.0)),
    *(Cell("normal", 0.1, 16, 50, spread=spread) for spread in (0.5, 0.8)),
]
WORLDS_A_CELL, HONEST_A_WORLD, CONTROLS = 20, 10, 500


def simulated(executor: Executor) -> dict[str, Any]:
    rows = list(executor.map(simulate, CELLS))
    return {"cells": [vars(cell) | row for cell, row in zip(CELLS, rows, strict=True)]}


def simulate(cell: Cell) -> dict[str, Any]:
    """False alarms of honest models, and alarms of models for which a known share of examples is under-forgotten."""
    alarms = blind = found = 0
    for seed in range(WORLDS_A_CELL):
        world = Simulated(cell, seed)
        cells = [None, *(np.arange(cell.n)[k::3] for k in range(3))] if cell.groups else [None]
        level = TAIL / len(cells)

        def alarm(said: Said, judge: Judge = world.judge, cells: Sequence[Any] = cells, level: float = level) -> bool:
            t = judge.t(said)
            tests = [judge.test(t, one, level=level) for one in cells]
            return any(test.under.alarm or test.over.alarm for test in tests)

        detectable = world.judge.test(np.zeros(cell.n), level=level).under.detectable
        for _ in range(HONEST_A_WORLD):
            alarms += alarm(world.honest())
            if detectable is None:
                blind += 1
            else:
                found += alarm(world.known(detectable))
    trials = WORLDS_A_CELL * HONEST_A_WORLD
    return {"false_alarms": rate(alarms, trials), "power": rate(found, trials - blind), "blind": blind / trials}


class Simulated:
    def __init__(self, cell: Cell, seed: int) -> None:
        self.cell, self.random = cell, np.random.default_rng(seed)
        self.mean, self.apart = self.random.normal(0, 3, cell.n), self.random.normal(0, 3, CONTROLS)
        left_out = 4 if cell.members == 8 else round(0.3 * cell.members)
        out = np.zeros((cell.members, cell.n), dtype=bool)
        for i in range(cell.n):
            out[self.random.permutation(cell.members)[:left_out], i] = True
        said = [self._said(1.0) for _ in range(cell.members)]
        phi = np.stack([one.forget for one in said]) + 3 * ~out
        controls = np.stack([one.controls for one in said])
        self.judge = Judge.make(Signals(phi, out, controls, controls))

    def honest(self) -> Said:
        said = self._said(self.cell.spread)
        return Said(self.cell.scale * said.forget, self.cell.scale * said.controls)

    def known(self, share: float) -> Said:
        """A model that knows a share of the forget set far too well."""
        said = self.honest()
        chosen = self.random.permutation(self.cell.n)[: round(share * self.cell.n)]
        said.forget[chosen] += 12 * self.cell.scale
        return said

    def _said(self, spread: float) -> Said:
        both = np.sqrt(self.cell.common) * self.random.normal()
        forget, controls = (self._noise(len(one)) for one in (self.mean, self.apart))
        forget = both + np.sqrt(1 - self.cell.common) * forget
        return Said(self.mean + spread * forget, self.apart + spread * controls)

    def _noise(self, n: int) -> Real:
        if self.cell.noise == "t3":
            return self.random.standard_t(3, n) / np.sqrt(3)
        if self.cell.noise == "skewed":
            return self.random.exponential(size=n) - 1
        return self.random.normal(size=n)


# Real models


@dataclass(frozen=True)
class World:
    """A data set with wrong labels and a recipe. pick, judge: members that pick the sets, and others that judge."""

    name: str
    source: str
    limit: int | None
    recipe: um.Recipe
    sizes: dict[str, int]
    pick: int = 40
    judge: int = 40
    honest: int = 25
    originals: int = 5
    sets: tuple[str, ...] = ("random", "mixed", "hard", "flipped", "class")

    def data(self) -> um.Splits:
        return um.load(self.source, limit=self.limit, flip=0.05)


WORLDS = {
    "digits": World("digits", "digits", None, um.Recipe(model="mlp", epochs=20), {"random": 100, "hard": 100}),
    "fashion": World(
        "Fashion-MNIST, 5,000",
        "fashion-mnist",
        5000,
        um.Recipe(model="mlp", epochs=20),
        {"random": 300, "hard": 300},
    ),
}
MEMORIZED = ("mixed", "hard", "flipped")
SCALES, SMOOTHINGS = (0.3, 0.5, 2.0, 3.0), (0.05, 0.2)
FORGOT_NOTHING = (
    "do nothing",
    *(f"logits × {factor}" for factor in SCALES),
    *(f"label smoothing {smoothing}" for smoothing in SMOOTHINGS),
)


def real(world: World, executor: Executor, folder: Path = RUNS / "calibration") -> dict[str, Any]:
    """What is found on each forget set. folder: where members are kept."""
    data = world.data()

    def members(count: int, seed: int) -> Ensemble:
        kept = leave_out_masks(len(data.train), count, keep=0.7, seed=seed)
        return train_members(
            world.recipe, data.train, kept, seed=1000 + seed, unseen=data.holdout, folder=folder, executor=executor
        )

    picks, judges = members(world.pick, 0), members(world.judge, 5000)
    sets = forget_sets(world, data, picks)
    jobs = {name: executor.submit(of_set, world, sets[name], judges) for name in world.sets}
    return {"world": world.name, "sets": {name: job.result() for name, job in jobs.items()}}


def forget_sets(world: World, data: um.Splits, picks: Ensemble) -> dict[str, Ids]:
    memorized = feldman(picks, measure="confidence")
    right = ~np.isin(memorized.ids, data.flipped)
    order = np.argsort(-np.nan_to_num(memorized.values, nan=-1))
    mixed = [i for ids in memorized.groups(world.sizes["hard"] // 3).values() for i in ids]
    return {
        "random": np.random.default_rng(1).choice(data.train.ids, world.sizes["random"], replace=False),
        "mixed": np.array(mixed),
        "hard": memorized.ids[order[right[order]][: world.sizes["hard"]]],
        "flipped": data.flipped,
        "class": data.train.ids[data.train.labels.numpy() == 3],
    }


def of_set(world: World, ids: Ids, judges: Ensemble) -> dict[str, Any]:
    data, recipe = world.data(), world.recipe
    originals = [um.train(recipe, data.train, seed=seed) for seed in range(world.originals)]
    problems = [um.Problem(one, data, ids, recipe=recipe) for one in originals]
    retrained = [um.train(recipe, problems[0].retain, seed=500 + k) for k in range(world.honest + 2)]
    honest = {str(k): model for k, model in enumerate(retrained[2:])}
    alone, beside = (
        audit(honest, problems[0], members=judges, reference=reference) for reference in ([], retrained[:2])
    )
    return {
        "n": len(ids),
        "honest": {"alone": findings(alone), "beside two retrained models": findings(beside)},
        "shares": {
            side: float(np.mean([getattr(one.test, side).share for one in alone.evidence.values() if one.test]))
            for side in ("under", "over")
        },
        "power": power(world, problems, judges),
    }


def findings(found: Audit) -> dict[str, int]:
    """How often each finding was made."""
    return dict(Counter(verdict.finding for verdict in found.verdicts.values()))


def power(world: World, problems: Sequence[um.Problem], judges: Ensemble) -> dict[str, dict[str, int]]:
    """Findings on models that forgot nothing, little, or too much."""
    ways = dishonest(world)
    found = {way: Counter[str]() for way in dict.fromkeys((*ways, *FORGOT_NOTHING))}

    def judge(models: dict[str, nn.Module], problem: um.Problem) -> None:
        verdicts = audit(models, problem, members=judges, relearning=False).verdicts
        for way, verdict in verdicts.items():
            found[way][verdict.finding] += 1

    for problem in problems:
        judge(dict(made(ways, problem)), problem)
    for smoothing, seed in product(SMOOTHINGS, range(world.originals)):
        recipe = replace(world.recipe, label_smoothing=smoothing)
        model = um.train(recipe, problems[0].data.train, seed=seed)
        problem = um.Problem(model, problems[0].data, problems[0].forget.ids, recipe=recipe)
        judge({f"label smoothing {smoothing}": model}, problem)
    return {way: dict(counts) for way, counts in found.items()}


Make = Callable[[um.Problem], nn.Module]


def dishonest(world: World) -> dict[str, Make]:
    data = world.data()
    fold = crossfit(world.recipe, data.train, seed=100, unseen=data.holdout)
    methods: dict[str, um.Unlearner] = {
        "do nothing": um.Nothing(),
        "fine-tune": um.FineTune(),
        "KL matching": um.Matching(targets=FromCrossFit(fold), form="kl"),
        "strong ascent": um.NegGradPlus(alpha=0.5, epochs=3, lr=0.05),
    }
    return {name: runner(method) for name, method in methods.items()} | {
        f"logits × {factor}": scaled(factor) for factor in SCALES
    }


def made(ways: dict[str, Make], problem: um.Problem) -> Iterator[tuple[str, nn.Module]]:
    for way, make in ways.items():
        with suppress(DivergedError):  # ascent may have no end: then there is no model to judge
            yield way, make(problem)


def runner(method: um.Unlearner) -> Make:
    return lambda problem: method(problem, seed=0)


def scaled(factor: float) -> Make:
    return lambda problem: Scaled(problem.model, factor)


class Scaled(nn.Module):
    """A model at another temperature."""

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(inputs)
        return self.factor * logits


# Tables


def rate(hits: int, of: int) -> dict[str, float | int] | None:
    if of == 0:
        return None
    interval = binomtest(hits, of).proportion_ci()
    return {"hits": hits, "of": of, "rate": hits / of, "low": interval.low, "high": interval.high}


def publish(found: dict[str, Any]) -> None:
    makers = {"calibration simulated": simulated_table} | {f"calibration {name}": real_table for name in WORLDS}
    parts = {name: found.get(name.split()[1]) for name in makers}
    tables = {name: makers[name](part) for name, part in parts.items() if part is not None}
    publish_tables("evidence.md", tables, optional=True)


def simulated_table(part: dict[str, Any]) -> str:
    lines = [
        "| log-odds | correlation | members | false alarms, n = 20 | n = 50 | n = 300 | power at the stated effect |",
        "|---|---|---|---|---|---|---|",
    ]
    plain = [one for one in part["cells"] if not one["groups"] and one["scale"] == one["spread"] == 1]
    for noise, common, members in product(("normal", "t3", "skewed"), (0.0, 0.1, 0.3), (8, 16, 64)):
        row = [one for one in plain if (one["noise"], one["common"], one["members"]) == (noise, common, members)]
        rates = [shown(one["false_alarms"]) for one in sorted(row, key=lambda one: one["n"])]
        powers = [one["power"]["rate"] for one in row if one["power"]]
        power = f"{min(powers):.0%} to {max(powers):.0%}" if powers else "none stated"
        lines.append(f"| {noise} | {common} | {members} | {' | '.join(rates)} | {power} |")
    rest = [one for one in part["cells"] if one not in plain]
    lines += ["", "| simulation | n | members | false alarms |", "|---|---|---|---|"]
    lines += [f"| {extra(one)} | {one['n']} | {one['members']} | {shown(one['false_alarms'])} |" for one in rest]
    return "\n".join(lines)


def extra(one: dict[str, Any]) -> str:
    if one["groups"]:
        return f"three groups, {one['noise']}, correlation {one['common']}"
    if one["scale"] != 1:
        return f"the model's log-odds × {one['scale']}"
    return f"the spread of the model is {one['spread']} times that of members"


def shown(one: dict[str, Any]) -> str:
    return f"{one['rate']:.1%} ({one['low']:.1%} to {one['high']:.1%})"


def real_table(part: dict[str, Any]) -> str:
    lines = [
        "| forget set | n | honest: false alarms | beside two retrained | none found / inconclusive | under, over |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in part["sets"].items():
        alone, beside = (one["honest"][key] for key in ("alone", "beside two retrained models"))
        shares = f"{one['shares']['under']:.1%}, {one['shares']['over']:.1%}"
        quiet = f"{alone.get('none found', 0)} / {alone.get('inconclusive', 0)}"
        lines.append(f"| {name} | {one['n']} | {false(alone)} | {false(beside)} | {quiet} | {shares} |")
    ways = list(next(iter(part["sets"].values()))["power"])
    names = list(part["sets"])
    lines += ["", f"| not honest: found | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for way in ways:
        cells = [caught(one["power"][way]) for one in part["sets"].values()]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def false(counts: dict[str, int]) -> str:
    hits, of = alarms(counts), sum(counts.values())
    return shown(rate(hits, of) or {})


def caught(counts: dict[str, int]) -> str:
    none = counts.get("none found", 0)
    return f"{alarms(counts)} of {sum(counts.values())}" + (f", none found {none}" if none else "")


def alarms(counts: dict[str, int]) -> int:
    return sum(number for finding, number in counts.items() if finding not in ("none found", "inconclusive"))


def broken(found: dict[str, Any]) -> Iterator[str]:
    """What breaks the bounds: more false alarms than 1.5 times the level; "none found" for a model that forgot nothing;
    fewer than 95% of the originals found on a memorized set."""
    for one in found.get("simulated", {}).get("cells", []):
        if one["false_alarms"]["low"] > 1.5 * LEVEL:
            yield f"simulated: {one}"
    for world, (name, one) in ((w, item) for w in WORLDS for item in found.get(w, {}).get("sets", {}).items()):
        for beside, counts in one["honest"].items():
            low = (rate(alarms(counts), sum(counts.values())) or {})["low"]
            if low > 1.5 * LEVEL:
                yield f"{world}, {name}, {beside}: {counts}"
        for way in FORGOT_NOTHING:
            if one["power"][way].get("none found"):
                yield f"{world}, {name}, {way}: {one['power'][way]}"
        untouched = one["power"]["do nothing"]
        if name in MEMORIZED and alarms(untouched) < 0.95 * sum(untouched.values()):
            yield f"{world}, {name}, do nothing: {untouched}"


if __name__ == "__main__":
    main()
