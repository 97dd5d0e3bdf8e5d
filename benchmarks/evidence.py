"""The audit of each unlearning method, and where it disagrees with ToW.

    .venv/bin/python benchmarks/evidence.py           # about five minutes on two cores, after benchmarks/unlearning.py
    .venv/bin/python benchmarks/evidence.py mixed     # one forget set only: mixed or mislabelled

The mixed and the mislabelled forget set of benchmarks/unlearning.py, first original: each method's model is audited
with two retrained models and the half of the members that did not select the set. Writes
benchmarks/results/evidence.json, docs/evidence.svg and the tables of docs/evidence.md.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import altair as alt
import numpy as np
import vl_convert
from common import ROOT, RUNS, machine, pool, publish_tables, recipe_for, reference_members

import unmem as um
from unlearning import FULL, PARTS, Plan, data_of, forget_set, renamed
from unmem.ensembles import Ensemble
from unmem.evaluation import audit
from unmem.memorization import crossfit, feldman
from unmem.store import write_text
from unmem.targets import FromCrossFit

RESULTS = ROOT / "benchmarks" / "results" / "evidence.json"
SETS = ("mixed", "mislabelled")
SHOWN = {"mislabelled": ("do nothing", "salun", "matching, KL", "matching", "another retrain")}


def main() -> None:
    names = sys.argv[1:] or SETS
    found: dict[str, Any] = json.loads(RESULTS.read_text())["sets"] if RESULTS.exists() else {}
    with pool() as executor:
        jobs = {}
        for name in names:
            clean = name != "mislabelled"
            count = FULL.members if clean else FULL.members_flipped
            members = reference_members(recipe_for(20), data_of(FULL, clean), count, executor, name=f"members, {name}")
            jobs[name] = executor.submit(of_set, name, FULL, members)
        made = {name: job.result() for name, job in jobs.items()}
    write_text(RESULTS, json.dumps({"schema": 2, **machine(), "sets": found | made}, indent=1) + "\n")
    publish(made)


def of_set(name: str, plan: Plan, members: Ensemble) -> dict[str, Any]:
    data, recipe, half = data_of(plan, name != "mislabelled"), recipe_for(plan.epochs), len(members) // 2
    memorization = renamed(feldman(members.members(range(half))), "memorization")
    events = um.LearningEvents()
    original = um.train(recipe, data.train, observers=[events])
    problem = um.Problem(original, data, forget_set(name, plan, data, memorization), recipe=recipe)
    fold = crossfit(recipe, data.train, folds=2, seed=1, unseen=data.holdout, folder=RUNS / "crossfits")
    confidence = events.scores("confidence")
    methods: dict[str, um.Unlearner] = {
        "matching": um.Matching(targets=FromCrossFit(fold)),
        "matching, KL": um.Matching(targets=FromCrossFit(fold), form="kl"),
        "l1-sparse": um.L1Sparse(),
        "fine-tune": um.FineTune(),
        "neggrad+": um.NegGradPlus(),
        "salun": um.SalUn(),
        "scrub": um.SCRUB(),
        "RUM by confidence": um.RUM(confidence, [um.Nothing(), um.FineTune(), um.SalUn()]),
        "RUM^F neggrad+ by confidence": um.RUM.uniform(confidence, um.NegGradPlus()),
    }
    models = {key: method(problem, seed=0) for key, method in methods.items()}
    retrained = [um.train(recipe, problem.retain, seed=1000 + k) for k in range(3)]
    made = audit(
        models | {"another retrain": retrained[2], "do nothing": original},
        problem,
        reference=retrained[:2],
        members=members.members(range(half, len(members))),
        parts=dict(zip(PARTS, memorization.parts(3, among=problem.forget.ids), strict=True)),
    )
    plain = made.to_dict()
    edges = np.arange(-9.5, 10)
    plain["t"] = {key: np.histogram(t.clip(-9, 9), bins=edges)[0].tolist() for key, t in made.t.items()}
    plain["t_edges"] = edges.tolist()
    plain["forget"] = len(problem.forget)
    return plain


def table(entry: dict[str, Any]) -> str:
    """Markdown: by method ToW, the single-model test, and the verdict."""
    band = entry["controls"]["retrain_vs_retrain"]["tow"]
    lines = [
        "| model | ToW | ToW-MIA | under-forgotten | over-forgotten | LiRA | relearned | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key, outcome in sorted(entry["methods"].items(), key=lambda row: -row[1]["tow"]):
        seen = entry["evidence"][key]
        test, again = seen["test"], seen["relearning"]
        name = f"*{key}*" if key == "do nothing" else key
        mark = " (in the band)" if outcome["tow"] >= band else ""
        lines.append(
            f"| {name} | {outcome['tow']:.3f}{mark} | {outcome['tow_mia']:.3f} | {test['under']['share']:.1%} "
            f"| {test['over']['share']:.1%} | {seen['attacks']['lira']['auc']:.3f} "
            f"| {again['after'] - again['before']:+.1%} | {in_short(entry['verdicts'][key])} |"
        )
    first = next(iter(entry["evidence"].values()))["test"]
    limits, smallest = ([share(first[side][key]) for side in ("under", "over")] for key in ("limit", "detectable"))
    lines.append(
        f"\nRetrain against retrain: ToW {band:.3f}. The test of the whole set raises an alarm above {limits[0]} "
        f"under-forgotten or {limits[1]} over-forgotten, and detects {smallest[0]} and "
        f"{smallest[1]} with a power of 80%."
    )
    return "\n".join(lines)


def share(value: float | None) -> str:
    return "no share" if value is None else f"{value:.1%}"


SHORT = {"forget accuracy against retrained models": "accuracy", "forget accuracy forecast": "forecast"}


def in_short(verdict: dict[str, Any]) -> str:
    """The finding, in which group if not in the whole set, and what contradicts it."""
    finding = verdict["finding"].removesuffix(" found")
    if finding == "both":
        finding = "residual influence and over-forgetting"
    groups = [part for part in PARTS if f"in the {part} group" in verdict["text"]]
    against = [one.split(":")[0] for one in verdict["contradictions"]]
    where = [f"in the {' and '.join(groups)} group"] if groups else []
    said = where + [f"against it: {SHORT.get(one, one)}" for one in against]
    return finding + (f" ({'; '.join(said)})" if said else "")


def publish(found: dict[str, Any]) -> None:
    """The tables of docs/evidence.md, and the picture beside them."""
    publish_tables("evidence.md", {name: table(entry) for name, entry in found.items()})
    for name in found.keys() & SHOWN.keys():
        write_text(ROOT / "docs" / "evidence.svg", picture(found[name], SHOWN[name]))


def picture(entry: dict[str, Any], shown: tuple[str, ...]) -> str:
    """A row per model: how many forget examples lie how far from models that never saw them."""
    middles = np.arange(-9, 10)
    rows = []
    for name in shown:
        title = f"{name}: ToW {entry['methods'][name]['tow']:.3f}"
        rows += [{"model": title, "t": int(t), "n": n} for t, n in zip(middles, entry["t"][name], strict=True)]
    colour = alt.Scale(
        domain=["over-forgotten", "as never seen", "under-forgotten"], range=["#5b6475", "#a9d6bf", "#d55e00"]
    )
    order = list(dict.fromkeys(row["model"] for row in rows))
    for row in rows:
        row["kind"] = "under-forgotten" if row["t"] > 2 else "over-forgotten" if row["t"] < -2 else "as never seen"
    bars = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(size=16)
        .encode(
            x=alt.X(
                "t:Q", title="t: distance from models that never saw the example →", scale=alt.Scale(domain=[-9.5, 9.5])
            ),
            y=alt.Y("n:Q", title=None, axis=alt.Axis(tickCount=3)),
            color=alt.Color("kind:N", scale=colour, legend=alt.Legend(title=None, orient="top")),
        )
    )
    chart = bars.properties(width=420, height=72).facet(
        row=alt.Row(
            "model:N", sort=order, title=None, header=alt.Header(labelAngle=0, labelAlign="left", labelFontSize=12)
        )
    )
    return vl_convert.vegalite_to_svg(json.dumps(chart.configure_view(stroke=None).to_dict()))


if __name__ == "__main__":
    main()
