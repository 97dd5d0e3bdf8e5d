"""`unmem demo`: the whole of unmem in one minute, on the digits that come with scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from unmem.cli.options import DataOptions, Flag, RecipeOptions, settings

if TYPE_CHECKING:
    from unmem.data import Ids, Splits
    from unmem.evaluation import Evaluation
    from unmem.memorization import Scores
    from unmem.unlearning import Unlearner

FLIPPED = 0.05
PER_GROUP = 30
RETRAINED = 2
EXPLAINED = {
    "fine-tune": "train on, without them",
    "neggrad+": "train on, and push them away",
    "rum-f": "RUM^F: NegGrad+ on each part, from least to most memorized",
    "rum": "RUM: nothing, then fine-tune, then NegGrad+ for the most memorized",
}
SHOWN = {"fine-tune": "fine-tune", "neggrad+": "NegGrad+", "rum-f": "RUM^F (NegGrad+)", "rum": "RUM"}
MEMORIZATION_BASED = ("rum-f", "rum")


def demo(
    *,
    out: Annotated[Path | None, Parameter(group=Group("Output"))] = None,
    seed: Annotated[int, Parameter(group=Group("Output"))] = 0,
    force: Annotated[Flag, Parameter(group=Group("Output"))] = False,
) -> None:
    """Watch a model learn, forget 90 examples in four ways, and see how close each comes to retraining.

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
    from unmem import models
    from unmem.cli.console import console, stage
    from unmem.cli.session import Session, recipe_settings
    from unmem.cli.table import outcome_table
    from unmem.evaluation import evaluate
    from unmem.memorization import EVENTS, LearningEvents, save_scores
    from unmem.report import Report
    from unmem.store import RunFolder, free_folder
    from unmem.unlearning import Problem, Retrain, settings_of

    where = out or free_folder(Path("runs"), "demo")
    data, recipe = DataOptions(data="digits", flip=FLIPPED, seed=seed, device="cpu"), RecipeOptions()
    with RunFolder(where, force=force) as folder:
        console.print("[bold]unmem demo[/]  a digit classifier learns 1,258 examples, then must forget 90 of them.\n")
        session = Session.open("demo", settings(data, recipe), data)
        events = LearningEvents()
        original = session.original(recipe, seed=seed, observers=[events])
        scores = [events.scores(name) for name in EVENTS]
        _print_scores(scores, session.data.flipped)

        confidence = scores[0]
        groups = confidence.groups(PER_GROUP)
        problem = Problem(
            original.model,
            session.data,
            [name for group in groups.values() for name in group],
            recipe=original.recipe,
        )
        methods = _methods(confidence)
        unlearned, seconds = {}, {}
        for key, unlearner in methods.items():
            with stage(f"Forgot by {SHOWN[key]}") as bar:
                unlearned[key] = unlearner(original.model, problem, seed=seed, observers=[bar])
            seconds[key] = bar.seconds
        retrained = []
        for k in range(RETRAINED):
            with stage(f"Retrained from scratch without them, {k + 1} of {RETRAINED}") as bar:
                retrained.append(Retrain()(original.model, problem, seed=seed + 1 + k, observers=[bar]))
        evaluation = evaluate(
            unlearned,
            problem,
            reference=retrained,
            parts=groups,
            seconds=seconds,
            training_seconds=original.seconds,
        )

        best = evaluation.best(MEMORIZATION_BASED)
        card = session.card(original.recipe)
        lead = _lead(session.data, groups, seed)
        report = Report(
            title=f"Forgetting {len(problem.forget)} of {len(session.data.train):,} digits",
            lead=lead,
            evaluation=evaluation,
            scores=scores,
            flipped=session.data.flipped,
            labels=EXPLAINED,
            facts=session.facts(original.recipe),
        )
        folder.file("original.safetensors", lambda path: models.save(original.model, card, path))
        folder.file("unlearned.safetensors", lambda path: models.save(unlearned[best], card, path))
        folder.file("scores.parquet", lambda path: save_scores(scores, session.data.train.labels.numpy(), path))
        folder.text("report.html", report.html())
        result = {
            "recipe": recipe_settings(original.recipe),
            "original": {"seconds": original.seconds, "accuracy": session.accuracies(original.model)},
            "scores": {
                s.name: {
                    "seconds": events.seconds,
                    "cost": events.seconds / (original.seconds or 1),
                    "auroc_flipped": s.auroc(session.data.flipped),
                }
                for s in scores
            },
            "unlearners": {key: settings_of(unlearner) for key, unlearner in methods.items()},
            "forget": {"n": len(problem.forget), "groups": {name: len(ids) for name, ids in groups.items()}},
            "unlearned": best,
        }
        session.finish(folder, result | evaluation.to_dict())
    console.print()
    console.print(outcome_table(evaluation, SHOWN))
    console.print()
    for line in _reading(evaluation, best):
        console.print(f"  {line}", soft_wrap=True)
    console.print(f"\n  Report: {folder.path / 'report.html'}", soft_wrap=True)


def _methods(scores: Scores) -> dict[str, Unlearner]:
    from unmem.unlearning import RUM, FineTune, NegGradPlus, Nothing

    return {
        "fine-tune": FineTune(),
        "neggrad+": NegGradPlus(),
        "rum-f": RUM.uniform(scores, NegGradPlus()),
        "rum": RUM(scores, [Nothing(), FineTune(), NegGradPlus()]),
    }


def _print_scores(scores: list[Scores], flipped: Ids) -> None:
    from unmem.cli.console import console

    console.print("\n  How well each memorization score finds the flipped labels (AUROC: 0.5 chance, 1 all on top):")
    console.print("  " + "   ".join(f"{s.name} [bold]{s.auroc(flipped):.3f}[/]" for s in scores) + "\n")


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
    if control is None or control.tow is None or nothing.tow is None or spread is None:
        return []
    reached = evaluation.methods[best].tow or 0.0
    gain = reached - nothing.tow
    lines = [
        "Forget, retain, test: accuracy on the forgotten, the kept and unseen examples. ToW: closeness to retraining,",
        "1 = the same; ToW-MIA: the same by a membership attack. Cost: in trainings of the original.",
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
