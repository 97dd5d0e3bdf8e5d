"""Every unlearning algorithm at its defaults and tuned without retrained models, compared with retraining.

    .venv/bin/python benchmarks/tuning.py            # the published figures; about forty minutes on two cores
    .venv/bin/python benchmarks/tuning.py --tiny     # the same in some minutes, too small to publish

The setting is that of benchmarks/unlearning.py: its data, forget sets, originals and retrained models; every method
with an mlp, the main ones with small_cnn. The forecast is that of a short teacher, the budget of each search five runs
of the method. An interrupted run continues. Writes benchmarks/results/tuning.json and the tables of
docs/unlearning.md.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import Executor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from common import ROOT, RUNS, cell, interval, machine, pool, publish_tables, reference_members

from unlearning import FULL, MAIN, SETS, TINY, VANILLA, Plan, Setting, data_of
from unmem.ensembles import Ensemble
from unmem.errors import DivergedError
from unmem.store import write_text
from unmem.targets import ShortTeacher, Targets
from unmem.unlearning import RUM, FineTune, Matching, NegGradPlus, Nothing, SalUn, Unlearner, tune

RESULTS = ROOT / "benchmarks" / "results" / "tuning.json"
NETWORKS = ("mlp", "small_cnn")
NUMBERS = ("tow", "tow_mia", "under", "over", "cost")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a quick run that publishes nothing")
    options = parser.parse_args()
    plans = {network: replace(TINY if options.tiny else FULL, main=True, network=network) for network in NETWORKS}
    with pool() as executor:
        found = {network: run(plan, executor, tiny=options.tiny) for network, plan in plans.items()}
    for network, sets in found.items():
        print(f"\n{network}\n{table(sets)}")
    if not options.tiny:
        described = {network: asdict(plan) | {"recipe": asdict(plan.recipe)} for network, plan in plans.items()}
        write_text(RESULTS, json.dumps({"schema": 1, **machine(), "plans": described, "found": found}, indent=1) + "\n")
        publish(found)


def run(plan: Plan, executor: Executor, *, tiny: bool) -> dict[str, Any]:
    """By forget set, what every method reached with one network."""
    work = RUNS / f"tuning-{plan.network}{'-tiny' * tiny}"
    work.mkdir(parents=True, exist_ok=True)
    done: list[dict[str, Any]] = []
    for clean, names in ((True, ("mixed", "random")), (False, ("mislabelled",))):
        count = plan.members if clean else plan.members_flipped
        title = f"members, {plan.network}{', flipped labels' * (not clean)}"
        members = reference_members(plan.recipe, data_of(plan, clean), count, executor, name=title)
        jobs = [executor.submit(of_seed, name, seed, plan, members, work) for name in names for seed in plan.seeds]
        done += [job.result() for job in jobs]
    return {name: over_seeds([one["rows"] for one in done if one["set"] == name]) for name in SETS}


def of_seed(name: str, seed: int, plan: Plan, members: Ensemble, work: Path) -> dict[str, Any]:
    """Every method on one forget set and one original; each is written as soon as it is done."""
    path = work / f"{name}-{seed}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"set": name, "seed": seed, "rows": {}}
    if "finished" in found:
        return found
    setting = Setting.make(name, seed, plan, members)
    targets = ShortTeacher()(setting.problem, seed=seed)
    for key, unlearner in methods(setting, targets, every=plan.network == "mlp").items():
        if key not in found["rows"]:
            found["rows"][key] = both(unlearner, setting, targets)
            write_text(path, json.dumps(found))
            row = found["rows"][key]
            print(f"{name} {seed}: {key}  ToW {row['usual']['tow']:.3f} -> {row['tuned']['tow']:.3f}", flush=True)
    write_text(path, json.dumps(found | {"finished": True}))
    return found


def methods(setting: Setting, targets: Targets, *, every: bool) -> dict[str, Unlearner]:
    by = setting.scores["confidence"]
    found: dict[str, Unlearner] = {"matching": Matching(targets=targets)} | {kind().name: kind() for kind in VANILLA}
    found["RUM by confidence"] = RUM(by, [Nothing(), FineTune(), SalUn()])
    found["RUM^F neggrad+ by confidence"] = RUM.uniform(by, NegGradPlus())
    return {key: method for key, method in found.items() if every or key in ("matching", *MAIN)}


def both(unlearner: Unlearner, setting: Setting, targets: Targets) -> dict[str, Any]:
    """What the method reaches at its defaults and tuned."""
    began = time.process_time()
    problem, seed = setting.problem, setting.seed
    try:
        usual = unlearner(problem, seed=seed)
    except DivergedError:
        usual = problem.model  # an unlearner that fails leaves its user with the original
    one_run = (time.process_time() - began) / setting.seconds
    began = time.process_time()
    tuned = tune(unlearner, problem, targets, seed=seed)
    search = (time.process_time() - began) / setting.seconds
    trials = [asdict(trial) for trial in tuned.trials]
    return {
        "usual": setting.row(usual, one_run, one_run),
        "tuned": setting.row(tuned.model, search, search) | {"kept": tuned.kept, "trials": trials},
    }


def over_seeds(found: list[dict[str, Any]]) -> dict[str, Any]:
    """By method: each number as usual and tuned, and the paired difference."""
    rows: dict[str, Any] = {}
    for key in [key for key in found[0] if all(key in one for one in found)]:
        ours = [one[key] for one in found]
        rows[key] = {way: {n: interval([one[way][n] for one in ours]) for n in NUMBERS} for way in ("usual", "tuned")}
        rows[key]["difference"] = {n: interval([one["tuned"][n] - one["usual"][n] for one in ours]) for n in NUMBERS}
        rows[key]["kept"] = [one["tuned"]["kept"] for one in ours]
        rows[key]["trials"] = [one["tuned"]["trials"] for one in ours]
    return rows


def table(sets: dict[str, Any]) -> str:
    """Markdown: by set and method, the usual setting, the tuned one and the difference."""
    lines = [
        "| set | method | ToW | tuned | difference | ToW-MIA | tuned | difference | cost | of the search |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in sets.items():
        for key, row in rows.items():
            cells = [
                f"{row['usual'][n]['mean']:.3f} | {row['tuned'][n]['mean']:.3f} | {signed(row['difference'][n])}"
                for n in ("tow", "tow_mia")
            ]
            costs = " | ".join(f"{row[way]['cost']['mean']:.2f}" for way in ("usual", "tuned"))
            lines.append(f"| {name} | {key} | {' | '.join(cells)} | {costs} |")
    return "\n".join(lines)


def signed(entry: dict[str, Any]) -> str:
    """A difference with half of its interval; 0 where no run changed."""
    return "0" if not any(entry["runs"]) else cell(entry, float("inf"), "+.3f").replace("± +", "± ")


def publish(found: dict[str, Any]) -> None:
    publish_tables("unlearning.md", {f"tuned {network}": table(sets) for network, sets in found.items()})


if __name__ == "__main__":
    main()
