"""The demo at work: train, forget in five ways, compare with retraining, and say what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from unmem.cli.comparing import Unlearned, compare, retrain
from unmem.cli.console import alarm, console, stage
from unmem.cli.fitting import IN_TERMINAL, Fitted
from unmem.cli.options import DataOptions, RecipeOptions, RunOptions, settings
from unmem.cli.page import print_page, write_page
from unmem.cli.saving import facts, finish, save_original, save_scores, save_unlearned
from unmem.cli.session import Session
from unmem.cli.work import Work
from unmem.data import Ids, Splits
from unmem.evaluation import Evaluation, Needed
from unmem.memorization import PAPER_EVENTS, Scores
from unmem.report import Report
from unmem.store import RunFolder, free_folder
from unmem.targets import Trace, TraceRecorder
from unmem.unlearning import RUM, Auto, FineTune, NegGradPlus, Nothing, Problem, Unlearner, settings_of

FLIPPED = 0.05
PER_GROUP = 30
RETRAINED = 2
EXPLAINED = {
    "fine-tune": "train on, without them",
    "neggrad+": "train on, and push them away",
    "rum-f": "RUM^F: NegGrad+ on each RUM part, from least to most memorized",
    "rum": "RUM: nothing, then fine-tune, then NegGrad+ for the most memorized",
    "auto": "matching: move each towards what a model that never saw it would predict; the default of unmem forget",
}
SHOWN = {
    "fine-tune": "fine-tune",
    "neggrad+": "NegGrad+",
    "rum-f": "RUM^F (NegGrad+)",
    "rum": "RUM",
    "auto": "matching (auto)",
}
USES_SCORES: tuple[str, ...] = ("rum-f", "rum")


def run_demo(out: Path | None, *, seed: int, force: bool) -> None:
    """Run the demo into a folder; None: the first free one of runs/demo, runs/demo-2, …"""
    # Two threads would save a few seconds on an idle machine, wait for each other on a busy one, and round differently
    # from one number of cores to the next.
    torch.set_num_threads(1)
    data, recipe = DataOptions(data="digits", flip=FLIPPED), RecipeOptions()
    run = RunOptions(seed=seed, device="cpu")
    with RunFolder(out or free_folder(Path("runs"), "demo"), force=force) as folder:
        what = f"A network learns scanned digits, then must forget {3 * PER_GROUP} of them."
        console.item("unmem demo", what, style="bold")
        console.print()
        session = Session.open("demo", settings(data, run, recipe), data, run)
        recorder = TraceRecorder(session.data.holdout)
        work = Work.start(session, recipe, recorders={"trace": recorder})
        original = work.original
        scores = [work.scorer.get(name) for name in PAPER_EVENTS]
        described = work.described(scores, ())
        _print_scores(described["scores"])

        groups = scores[0].groups(PER_GROUP)
        forget = [name for ids in groups.values() for name in ids]
        problem = Problem(original.model, session.data, forget, recipe=original.recipe)
        methods = _methods(scores[0], recorder.trace)
        needed = {key: Needed(seconds=work.scorer.watched_seconds) for key in USES_SCORES}
        needed["auto"] = Needed(seconds=recorder.seconds)
        unlearned = _forgotten(methods, problem, needed, session)
        evaluation = compare(original, problem, unlearned, retrain(session, problem, RETRAINED), groups)
        best = evaluation.best(list(methods))
        report = Report(
            title=f"Forgetting {3 * PER_GROUP} of {len(session.data.train):,} digits",
            lead=_lead(session.data, groups, seed),
            evaluation=evaluation,
            scores=scores,
            flipped=session.data.flipped,
            labels=EXPLAINED,
            facts=facts(session, original.recipe),
        )
        save_original(session, folder, original)
        save_unlearned(session, folder, original, unlearned[best].model, problem)
        write_page(folder, report)
        save_scores(session, folder, scores)
        result = described | {
            "unlearners": {key: settings_of(unlearner) for key, unlearner in methods.items()},
            "forget": {"n": len(problem.forget), "groups": {name: len(ids) for name, ids in groups.items()}},
            "unlearned": best,
        }
        finish(session, folder, result | evaluation.to_dict())
    console.print()
    console.print(Fitted.of(evaluation.table(SHOWN).only(IN_TERMINAL)))
    for shortfall in evaluation.shortfalls:
        alarm(shortfall.text)
    console.print()
    for line in _reading(evaluation, best):
        console.print(f"  {line}", soft_wrap=True)
    console.print()
    print_page(folder)


def _forgotten(
    methods: dict[str, Unlearner], problem: Problem, needed: dict[str, Needed], session: Session
) -> dict[str, Unlearned]:
    """The model of every method."""
    found: dict[str, Unlearned] = {}
    for key, unlearner in methods.items():
        with stage(f"Forget by {SHOWN[key]}") as bar:
            model = unlearner(problem, seed=session.run.seed, observers=[bar])
        found[key] = Unlearned(model, bar.seconds, needed.get(key, Needed()))
    return found


def _methods(scores: Scores, trace: Trace) -> dict[str, Unlearner]:
    return {
        "fine-tune": FineTune(),
        "neggrad+": NegGradPlus(),
        "rum-f": RUM.uniform(scores, NegGradPlus()),
        "rum": RUM(scores, [Nothing(), FineTune(), NegGradPlus()]),
        "auto": Auto(sources=[trace]),
    }


def _print_scores(described: dict[str, Any]) -> None:
    console.print()
    console.print("  How well each memorization score finds the flipped labels (AUROC, 1 = best):")
    console.print("  " + "   ".join(f"{name} {entry['auroc_flipped']:.3f}" for name, entry in described.items()))
    console.print()


def _lead(data: Splits, groups: dict[str, Ids], seed: int) -> list[str]:
    planted = int(np.isin(groups["high"], data.flipped).sum())
    return [
        f"A small network learned {len(data.train):,} scanned digits, {len(data.flipped)} of which "
        f"({FLIPPED:.0%}, seed {seed}) were given a wrong label on purpose.",
        f"It was then made to forget {PER_GROUP} examples it memorized least, {PER_GROUP} in the middle and "
        f"{PER_GROUP} it memorized most, {planted} of which are among the wrong labels.",
        "Each way of forgetting is compared with the real thing, training again from scratch without those examples.",
    ]


def _reading(evaluation: Evaluation, best: str) -> list[str]:
    """What the table says, in sentences that hold for whatever numbers came out."""
    control, nothing, spread = evaluation.retrain_vs_retrain, evaluation.do_nothing, evaluation.spread
    if control is None or control.tow is None or nothing is None or nothing.tow is None or spread is None:
        return []
    reached = evaluation.methods[best].tow or 0.0
    gain = reached - nothing.tow
    lines = [
        "Forget, retain, test: accuracy on the forgotten, the kept and unseen examples. ToW: closeness to retraining,",
        "1 = the same; ToW-MIA: the same by a membership attack. Cost: in trainings of the original; total: with",
        "the scores and targets that the method needed.",
        "",
        f"Two honest retrains differ by {spread:.3f} in ToW, so smaller differences mean nothing.",
    ]
    if gain <= spread:
        lines.append(f"{SHOWN[best]} ({reached:.3f}) is not above doing nothing ({nothing.tow:.3f}) by more than that.")
    elif reached >= control.tow:
        lines.append(f"{SHOWN[best]} ({reached:.3f}) cannot be distinguished from retraining at this resolution.")
    else:
        lines.append(
            f"{SHOWN[best]} ({reached:.3f}) closes {gain / (control.tow - nothing.tow):.0%} of the gap between "
            f"doing nothing ({nothing.tow:.3f}) and retraining ({control.tow:.3f})."
        )
    return lines
