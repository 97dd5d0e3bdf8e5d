"""`unmem demo`: the whole of unmem in one minute, on the digits that come with scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from unmem.cli.options import DataOptions, Flag, RecipeOptions, RunOptions, settings

if TYPE_CHECKING:
    from torch import nn

    from unmem.cli.original import Original
    from unmem.cli.session import Session
    from unmem.data import Ids, Splits
    from unmem.evaluation import Evaluation, Needed
    from unmem.memorization import Scores
    from unmem.targets import Trace
    from unmem.unlearning import Problem, Unlearner

FLIPPED = 0.05
PER_GROUP = 30
RETRAINED = 2
EXPLAINED = {
    "fine-tune": "train on, without them",
    "neggrad+": "train on, and push them away",
    "rum-f": "RUM^F: NegGrad+ on each part, from least to most memorized",
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
USES_SCORES = ("rum-f", "rum")


def demo(
    *,
    out: Annotated[Path | None, Parameter(group=Group("Output"))] = None,
    seed: Annotated[int, Parameter(group=Group("Output"))] = 0,
    force: Annotated[Flag, Parameter(group=Group("Output"))] = False,
) -> None:
    """Watch a model learn, forget 90 examples in five ways, and see how close each comes to retraining.

    Uses 1,797 scanned digits that come with scikit-learn; takes under a minute and downloads nothing.

    Parameters
    ----------
    out
        Run folder to make. Default: runs/demo, or the first of runs/demo-2, runs/demo-3, … that is free.
    seed
        Seed of everything that is random.
    force
        Replace the run in that folder, if there is one.
    """
    import torch

    from unmem.cli.console import alarm, console
    from unmem.cli.describing import described_original, described_score, facts
    from unmem.cli.fitting import IN_TERMINAL, Fitted
    from unmem.cli.original import recipe_of, train_original
    from unmem.cli.page import print_page, write_page
    from unmem.cli.saving import finish, save_original, save_scores, save_unlearned
    from unmem.cli.session import Session
    from unmem.evaluation import Needed
    from unmem.memorization import PAPER_EVENTS, LearningEvents
    from unmem.report import Report
    from unmem.store import RunFolder, free_folder
    from unmem.targets import TraceRecorder
    from unmem.unlearning import Problem, settings_of

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
        events, recorder = LearningEvents(), TraceRecorder(session.data.holdout)
        original = train_original(session, recipe_of(session, recipe), {"events": events, "trace": recorder})
        scores = [events.scores(name) for name in PAPER_EVENTS]
        described = {s.name: described_score(session, s, events.seconds, original) for s in scores}
        _print_scores(described)

        groups = scores[0].groups(PER_GROUP)
        forget = [name for ids in groups.values() for name in ids]
        problem = Problem(original.model, session.data, forget, recipe=original.recipe)
        methods = _methods(scores[0], recorder.trace)
        needed = {key: Needed(seconds=events.seconds) for key in USES_SCORES}
        needed["auto"] = Needed(seconds=recorder.seconds)
        unlearned, evaluation = _forget_and_evaluate(methods, problem, groups, original, session, needed)
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
        save_unlearned(session, folder, original, unlearned[best], problem)
        write_page(folder, report)
        save_scores(session, folder, scores)
        result = {
            "original": described_original(session, original),
            "scores": described,
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


def _forget_and_evaluate(
    methods: dict[str, Unlearner],
    problem: Problem,
    groups: dict[str, Ids],
    original: Original,
    session: Session,
    needed: dict[str, Needed],
) -> tuple[dict[str, nn.Module], Evaluation]:
    """The model of every method, and all of them compared with retrained models."""
    from unmem.cli.console import stage
    from unmem.cli.retraining import retrain
    from unmem.evaluation import evaluate

    unlearned: dict[str, nn.Module] = {}
    seconds: dict[str, float] = {}
    for key, unlearner in methods.items():
        with stage(f"Forget by {SHOWN[key]}") as bar:
            unlearned[key] = unlearner(problem, seed=session.run.seed, observers=[bar])
        seconds[key] = bar.seconds
    retrained, retrain_seconds = retrain(session, problem, RETRAINED)
    evaluation = evaluate(
        unlearned,
        problem,
        reference=retrained,
        parts=groups,
        seconds=seconds,
        reference_seconds=retrain_seconds,
        training_seconds=original.seconds,
        needed=needed,
    )
    return unlearned, evaluation


def _methods(scores: Scores, trace: Trace) -> dict[str, Unlearner]:
    from unmem.unlearning import RUM, Auto, FineTune, NegGradPlus, Nothing

    return {
        "fine-tune": FineTune(),
        "neggrad+": NegGradPlus(),
        "rum-f": RUM.uniform(scores, NegGradPlus()),
        "rum": RUM(scores, [Nothing(), FineTune(), NegGradPlus()]),
        "auto": Auto(sources=[trace]),
    }


def _print_scores(described: dict[str, Any]) -> None:
    from unmem.cli.console import console

    console.print()
    console.print("  How well each memorization score finds the flipped labels (AUROC, 1 = best):")
    console.print("  " + "   ".join(f"{name} {entry['auroc_flipped']:.3f}" for name, entry in described.items()))
    console.print()


def _lead(data: Splits, groups: dict[str, Ids], seed: int) -> list[str]:
    import numpy as np

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
        lines.append(f"{SHOWN[best]} ({reached:.3f}) cannot be told from retraining at this resolution.")
    else:
        lines.append(
            f"{SHOWN[best]} ({reached:.3f}) closes {gain / (control.tow - nothing.tow):.0%} of the gap between "
            f"doing nothing ({nothing.tow:.3f}) and retraining ({control.tow:.3f})."
        )
    return lines
