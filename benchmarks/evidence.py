"""What an audit sees of each unlearning method, and where it parts from ToW.

    .venv/bin/python benchmarks/evidence.py           # some five minutes on two cores, after benchmarks/unlearning.py

The mixed and the mislabelled forget set of benchmarks/unlearning.py, first original: each method's model is audited
with two retrained models and the half of the members that did not pick the set. Writes
benchmarks/results/evidence.json, docs/evidence.svg and the tables of docs/evidence.md.
"""

from __future__ import annotations

import json
from typing import Any

import altair as alt
import numpy as np
import vl_convert
from common import ROOT, RUNS, machine, pool, recipe_for, reference_members

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
    found: dict[str, Any] = {}
    with pool() as executor:
        jobs = {}
        for name in SETS:
            clean = name != "mislabelled"
            count = FULL.members if clean else FULL.members_flipped
            members = reference_members(recipe_for(20), data_of(FULL, clean), count, executor, name=f"members, {name}")
            jobs[name] = executor.submit(of_set, name, FULL, members)
        found = {name: job.result() for name, job in jobs.items()}
    write_text(RESULTS, json.dumps({"schema": 1, **machine(), "sets": found}, indent=1) + "\n")
    publish(found)


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
    models = {key: method(original, problem, seed=0) for key, method in methods.items()}
    retrained = [um.train(recipe, problem.retain, seed=1000 + k) for k in range(3)]
    made = audit(
        models | {"another retrain": retrained[2]},
        problem,
        reference=retrained[:2],
        members=members.members(range(half, len(members))),
        parts=dict(zip(PARTS, memorization.parts(3, among=problem.forget.ids), strict=True)),
    )
    plain = made.to_dict()
    judge_t = {key: made.t[key] for key in made.t} | {"do nothing": nothing_t(problem, members, half)}
    plain["t"] = {key: np.histogram(t, bins=np.arange(-9.5, 10))[0].tolist() for key, t in judge_t.items()}
    plain["t_edges"] = np.arange(-9.5, 10).tolist()
    plain["forget"] = len(problem.forget)
    return plain


def nothing_t(problem: um.Problem, members: Ensemble, half: int) -> Any:
    judges = members.members(range(half, len(members)))
    return audit({"nothing": problem.model}, problem, members=judges, relearning=False).t["nothing"]


def table(entry: dict[str, Any]) -> str:
    """Markdown: by method ToW, the single-model test, and whether the two agree."""
    band = entry["controls"]["retrain_vs_retrain"]["tow"]
    lines = [
        "| model | ToW | ToW-MIA | known too well | too badly | LiRA | comes back | what the test says |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = {
        key: (entry["methods"][key], entry["evidence"][key], in_short(entry["verdicts"][key]))
        for key in entry["methods"]
    }
    rows["*do nothing*"] = (entry["controls"]["do_nothing"], entry["evidence_controls"]["do_nothing"], "")
    for key, (outcome, seen, finding) in sorted(rows.items(), key=lambda row: -row[1][0]["tow"]):
        test = seen["test"]
        mark = " (in the band)" if outcome["tow"] >= band else ""
        lines.append(
            f"| {key} | {outcome['tow']:.3f}{mark} | {outcome['tow_mia']:.3f} | {test['under']['share']:.1%} "
            f"| {test['over']['share']:.1%} | {seen['attacks']['lira']['auc']:.3f} "
            f"| {seen['relearning']['after'] - seen['relearning']['before']:+.1%} | {finding} |"
        )
    first = next(iter(entry["evidence"].values()))["test"]
    lines.append(
        f"\nRetrain against retrain: ToW {band:.3f}. The test alarms above {first['under']['limit']:.1%} too well "
        f"or {first['over']['limit']:.1%} too badly, and would have seen {first['under']['detectable']:.1%} and "
        f"{first['over']['detectable']:.1%}; models that forgot nothing show {first['nothing']:.1%}."
    )
    return "\n".join(lines)


def in_short(verdict: dict[str, Any]) -> str:
    """The finding, and why or where if that is not plain."""
    finding, text = verdict["finding"], verdict["text"]
    if finding == "inconclusive":
        return finding + (": damaged model" if "damaged" in text else "")
    finding = finding.removesuffix(" found")
    parts = [part for part in PARTS if f"in the {part} group" in text]
    return finding + (f" (in the {' and '.join(parts)} part)" if parts else "")


def publish(found: dict[str, Any]) -> None:
    page = ROOT / "docs" / "evidence.md"
    text = page.read_text()
    for name, entry in found.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{table(entry)}\n{end}{rest.split(end)[1]}"
    write_text(page, text)
    write_text(ROOT / "docs" / "evidence.svg", picture(found["mislabelled"], SHOWN["mislabelled"]))


def picture(entry: dict[str, Any], shown: tuple[str, ...]) -> str:
    """A row per model: how many forget examples lie how far from models that never saw them."""
    middles = np.arange(-9, 10)
    rows = []
    for name in shown:
        outcome = entry["methods"].get(name) or entry["controls"]["do_nothing"]
        title = f"{name}: ToW {outcome['tow']:.3f}"
        rows += [{"model": title, "t": int(t), "n": n} for t, n in zip(middles, entry["t"][name], strict=True)]
    colour = alt.Scale(domain=["too badly", "as never seen", "too well"], range=["#5b6475", "#a9d6bf", "#d55e00"])
    order = list(dict.fromkeys(row["model"] for row in rows))
    for row in rows:
        row["kind"] = "too well" if row["t"] > 2 else "too badly" if row["t"] < -2 else "as never seen"
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
