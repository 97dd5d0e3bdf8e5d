"""Agreement of each memorization score with the exact one, and its cost.

    .venv/bin/python benchmarks/fidelity.py            # the published figures; about an hour on two cores
    .venv/bin/python benchmarks/fidelity.py --tiny     # the same in two minutes, too small to publish

Fashion-MNIST, 5,000 training examples, small_cnn. Two regimes: `fitted` (20 epochs, fits its training set) and
`under-fitted` (8 epochs, does not), because scores of difficulty differ from memorization in the second. The reference
is an ensemble of 120 members on random 70% of the data; every other score is computed for three originals with
different seeds. An interrupted run continues. Writes benchmarks/results/fidelity.json, docs/fidelity.svg and the tables
of docs/fidelity.md.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
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

import unmem as um
from unmem.memorization import Scorer, agreement, curvature, feldman, rank_average, reliability
from unmem.memorization.scores import Scores
from unmem.store import atomic_path, write_text

RESULTS = ROOT / "benchmarks" / "results" / "fidelity.json"
REFERENCES = ("feldman", "feldman-confidence")
SINGLE = (
    *("confidence", "max-confidence", "entropy", "accuracy", "el2n", "forgetting", "aum", "loss"),
    *("late-gain", "late-fit", "curvature", "holdout", "crossfit", "crossfit-gap", "crossfit-fit", "ensemble"),
)
FIVE_FOLDS = ("crossfit", "crossfit-fit")
COMBINED = (
    ("confidence", "crossfit"),
    ("confidence", "crossfit K=5"),
    ("aum", "crossfit", "crossfit K=5"),
    ("late-fit", "crossfit-fit"),
    ("late-fit", "crossfit-fit", "crossfit-fit K=5"),
    ("aum", "crossfit-fit", "crossfit-fit K=5"),
)


@dataclass(frozen=True)
class Plan:
    examples: int
    members: int
    halves: int
    seeds: tuple[int, ...]
    epochs: dict[str, int]


FULL = Plan(EXAMPLES, 120, 20, (0, 1, 2), {"fitted": 20, "under-fitted": 8})
TINY = Plan(600, 12, 6, (0, 1, 2), {"fitted": 8, "under-fitted": 2})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a quick run that publishes nothing")
    options = parser.parse_args()
    plan = TINY if options.tiny else FULL
    work = RUNS / ("fidelity-tiny" if options.tiny else "fidelity")
    data = um.load("fashion-mnist", limit=plan.examples)
    regimes = {name: run(name, epochs, plan, data, work / name) for name, epochs in plan.epochs.items()}
    result = {
        "schema": 1,
        "data": {"name": data.name, "train": len(data.train), "fingerprint": data.train.fingerprint},
        "plan": asdict(plan),
        **machine(),
        "regimes": regimes,
    }
    for name, regime in regimes.items():
        print(f"\n{name}\n{table(regime)}")
    if not options.tiny:
        write_text(RESULTS, json.dumps(result, indent=1) + "\n")
        publish(result)


def run(name: str, epochs: int, plan: Plan, data: um.Splits, work: Path) -> dict[str, Any]:
    recipe = recipe_for(epochs)
    work.mkdir(parents=True, exist_ok=True)
    with pool() as executor:
        members = reference_members(recipe, data, plan.members, executor, name=name)
        references = {measure: feldman(members, measure=measure) for measure in ("correct", "confidence")}
        jobs = [executor.submit(of_seed, seed, recipe, plan, data, work) for seed in plan.seeds]
        by_seed = [with_agreement(job.result(), references, data) for job in jobs]
    mem = references["correct"].values
    return {
        "recipe": asdict(recipe),
        "training_accuracy": float(np.mean([one["training_accuracy"] for one in by_seed])),
        "training_seconds": [one["training_seconds"] for one in by_seed],
        "reliability": {
            f"feldman{'' if measure == 'correct' else '-confidence'}": reliability(members, measure=measure)
            for measure in ("correct", "confidence")
        },
        "share_below_0.05": float((mem < 0.05).mean()),
        "share_above_0.25": float((mem > 0.25).mean()),
        "members_seconds": float(np.sum(members.seconds)),
        "scores": {score: over_seeds([one["scores"][score] for one in by_seed]) for score in by_seed[0]["scores"]},
    }


def of_seed(seed: int, recipe: um.Recipe, plan: Plan, data: um.Splits, work: Path) -> dict[str, Any]:
    """Every single score for one original, and its cost; read from its files if this seed was finished before."""
    path, table = work / f"seed-{seed}.json", work / f"seed-{seed}.npz"
    if path.exists():
        return json.loads(path.read_text()) | {"values": dict(np.load(table))}
    recipe = replace(recipe, seed=seed)
    scorer = Scorer(data, recipe=recipe, members=plan.halves)
    scorer.check("curvature")
    began = time.perf_counter()
    model = scorer.original()
    trained = time.perf_counter() - began - scorer.watched_seconds
    logits = um.predict(model, data.train)
    found = {name: scorer.get(name) for name in SINGLE}
    seconds = dict(scorer.seconds)
    began = time.perf_counter()
    found["curvature (final)"] = curvature(model, data.train)
    seconds["curvature (final)"] = time.perf_counter() - began
    five = Scorer(data, recipe=recipe, model=model, folds=5)
    for name in FIVE_FOLDS:
        found[f"{name} K=5"] = five.get(name)
        seconds[f"{name} K=5"] = five.seconds[name]
    values = {name: score.of(data.train.ids) for name, score in found.items()}
    with atomic_path(table) as temporary, temporary.open("wb") as file:
        np.savez(file, **values)
    result = {
        "training_seconds": trained,
        "training_accuracy": float((logits.argmax(1) == data.train.labels).float().mean()),
        "costs": {name: seconds[name] / trained for name in found},
    }
    write_text(path, json.dumps(result))
    print(f"scores of seed {seed} done", flush=True)
    return result | {"values": values}


def with_agreement(one: dict[str, Any], references: dict[str, Scores], data: um.Splits) -> dict[str, Any]:
    """The result of one seed with its agreements, those of the combinations too."""
    found = {name: Scores(name, data.train.ids, one["values"][name]) for name in one["costs"]}
    costs = dict(one["costs"])
    for parts in COMBINED:
        name = " + ".join(parts)
        found[name] = rank_average([found[part] for part in parts], name=name)
        costs[name] = sum(costs[part] for part in parts)
    scores = {
        name: {
            "cost": costs[name],
            "agreement": {
                reference.name: agreement(score, reference, resamples=100).to_dict()
                for reference in references.values()
            },
        }
        for name, score in found.items()
    }
    return one | {"scores": scores}


def over_seeds(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and 95% t-interval over the originals, of each measure against each reference."""
    measures = ("spearman", "auroc", "average_precision", "overlap")
    return {
        "cost": float(np.mean([entry["cost"] for entry in entries])),
        **{
            reference: {
                measure: interval([value(entry["agreement"][reference], measure) for entry in entries])
                for measure in measures
            }
            for reference in REFERENCES
        },
    }


def value(agreement: dict[str, Any], measure: str) -> float | None:
    """None where no example is above the threshold, or each is."""
    return None if agreement[measure] is None else agreement[measure]["value"]


def table(regime: dict[str, Any]) -> str:
    """Markdown: scores from the most to the least faithful by Spearman, with the ceiling above them."""

    def shown(entry: dict[str, Any], reference: str, measure: str) -> str:
        column = [one[reference][measure] for one in regime["scores"].values()]
        return cell(entry[reference][measure], usual_spread(column, 0.001))

    ranked = sorted(regime["scores"].items(), key=lambda item: -item[1]["feldman"]["spearman"]["mean"])
    lines = [
        "| score | Spearman | with confidence version | AUROC, mem > 0.25 | top tenth | cost |",
        "|---|---|---|---|---|---|",
        f"| *reliability of the reference* | {regime['reliability']['feldman']:.3f} "
        f"| {regime['reliability']['feldman-confidence']:.3f} | | | |",
    ]
    for name, entry in ranked:
        columns = [
            ("feldman", "spearman"),
            ("feldman-confidence", "spearman"),
            ("feldman", "auroc"),
            ("feldman", "overlap"),
        ]
        cells = " | ".join(shown(entry, *column) for column in columns)
        lines.append(f"| {name} | {cells} | {entry['cost']:.2f} |")
    return "\n".join(lines)


def publish(result: dict[str, Any]) -> None:
    """The tables of docs/fidelity.md, and the picture beside them."""
    publish_tables("fidelity.md", {name: table(regime) for name, regime in result["regimes"].items()})
    write_text(ROOT / "docs" / "fidelity.svg", picture(result))


def picture(result: dict[str, Any]) -> str:
    """Fidelity against cost, a panel a regime."""
    import altair as alt
    import vl_convert

    panels = [panel(name, regime) for name, regime in result["regimes"].items()]
    quiet = alt.vconcat(*panels, spacing=36).configure_axis(gridColor="#e4e7ec", titleFontWeight="normal", domain=False)
    return vl_convert.vegalite_to_svg(quiet.configure_view(stroke=None).to_dict())


def panel(name: str, regime: dict[str, Any]) -> Any:
    """One regime: a dot a score with its interval, and its name beside it, moved where names would overlap."""
    import altair as alt

    rows = [
        {
            "score": score,
            "cost": max(entry["cost"], CHEAPEST),
            **{key: entry["feldman"]["auroc"][key] for key in ("mean", "low", "high")},
        }
        for score, entry in regime["scores"].items()
        if entry["feldman"]["auroc"] is not None
    ]
    span = max(row["high"] for row in rows) - min(row["low"] for row in rows)
    for column in COLUMNS:
        spread_names([row for row in rows if column[0] <= row["cost"] < column[1]], gap=0.031 * span)
    title = f"{name}: the models get {regime['training_accuracy']:.1%} of their training examples right"
    scale = alt.Scale(type="log", domain=[CHEAPEST * 0.8, 250], nice=False)
    ticks = alt.Axis(values=[CHEAPEST, 0.1, 1, 10], labelExpr=f"datum.value < 0.01 ? '≤ {CHEAPEST}' : datum.label")
    base = alt.Chart(alt.Data(values=rows))
    x = alt.X("cost:Q", scale=scale, axis=ticks, title="cost in trainings of the original, log scale")
    bars = base.mark_rule(color="#9aa3b2").encode(x=x, y=alt.Y("low:Q", title=""), y2="high:Q")
    links = base.mark_rule(color="#c4cad4").encode(x=x, x2="beside:Q", y="mean:Q", y2="place:Q")
    dots = base.mark_circle(size=55, color="#0b5c99", opacity=1).encode(
        x=x, y=alt.Y("mean:Q", scale=alt.Scale(zero=False), title="AUROC for finding mem > 0.25")
    )
    names = base.mark_text(align="left", dx=3, fontSize=11, color="#1d2433").encode(
        x="beside:Q", y="place:Q", text="score:N"
    )
    return alt.layer(links, bars, dots, names).properties(width=900, height=430, title=alt.Title(title, anchor="start"))


CHEAPEST = 0.005  # what costs less is drawn here
COLUMNS = ((0, 0.05), (0.05, 1), (1, 2), (2, 4), (4, 100))  # names of one column must not overlap


def spread_names(rows: list[dict[str, Any]], gap: float) -> None:
    """Give each row a `place` for its name, from the top down, at least `gap` below the one above it."""
    above = float("inf")
    for row in sorted(rows, key=lambda row: -row["mean"]):
        row["place"] = above = min(row["mean"], above - gap)
    crowded = len(rows) > 4  # then all names stand in line, and else each beside its own dot
    for row in rows:
        row["beside"] = 1.25 * max(one["cost"] for one in (rows if crowded else [row]))


if __name__ == "__main__":
    main()
