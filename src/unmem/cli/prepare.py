"""`unmem prepare`: the cross-fit, made once for all later requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cyclopts import Group, Parameter

from unmem.cli.early import check_early
from unmem.cli.options import DataOptions, ModelOptions, OutputOptions, settings

_CROSSFIT = Group("Cross-fit", sort_key=0)


@Parameter(name="*", group=_CROSSFIT)
@dataclass(frozen=True, kw_only=True)
class CrossFitOptions:
    """How to predict the training set with models that were not trained on the predicted examples."""

    folds: int = 2
    "Number of folds of the cross-fit. 2 folds cost one training, 5 folds cost four."
    work: Path | None = None
    "Folder for the predictions of the fold models, so that a stopped run can continue. Default: members in --out."


def prepare(
    *,
    output: OutputOptions,
    crossfit: CrossFitOptions = CrossFitOptions(),
    data: DataOptions = DataOptions(),
    model: ModelOptions = ModelOptions(),
) -> None:
    """Predict each training example with a model that was not trained on it, once for all later requests.

    Writes crossfit.npz, which `unmem forget --crossfit` reads (for matching and --tune), and the scores that come with
    it to the run folder. Recreate it after many requests: its models were trained on examples that were
    forgotten since.
    """
    check_early(output, crossfit, data, model)
    from unmem.cli.console import console, stage
    from unmem.cli.request import opposed_scores, unsound_work
    from unmem.cli.session import Session, log_of
    from unmem.memorization import Scorer
    from unmem.store import RunFolder

    with RunFolder(output.out, force=output.force) as folder, log_of(output, "prepare") as log:
        asked = settings(data, model, crossfit)
        session = Session.open("prepare", asked, data, log=log, folder=folder, replaces=folder.path)
        read = session.read_original(model, seed=data.seed) if model.model is not None else None
        recipe = read.recipe if read else session.recipe(model, seed=data.seed)
        folder.members = crossfit.work or folder.members
        scorer = Scorer(
            session.data,
            recipe=recipe,
            model=read.model if read else None,
            folds=crossfit.folds,
            folder=folder.members,
            **session.at_work(),
        )
        original = read or session.train_original(scorer)
        with stage(f"Cross-fit: {crossfit.folds} models, each without one part of the training set") as bar:
            made = scorer.out_of_fold(bar.on_member)
        seconds = bar.seconds + made.seconds_before
        scores = [scorer.get("crossfit"), scorer.get("crossfit-fit")]
        doubts = [*unsound_work(scorer, original.model), *opposed_scores(scores)]
        folder.file("crossfit.npz", replace(made, forgotten=session.before.deleted).save)
        session.save_models(folder, original)
        session.save_scores(folder, scores)
        result: dict[str, Any] = {
            "original": session.describe(original),
            "crossfit": {
                "examples": len(made),
                "accuracy": float((made.margin > 0).mean()),
                "seconds": seconds,
                "settings": made.settings,
            },
            "scores": {s.name: session.describe_score(s, seconds, original) for s in scores},
            "warnings": [one.to_dict() for one in doubts],
        }
        session.finish(folder, result)
    console.print(f"  Models that never saw them get {(made.margin > 0).mean():.1%} of the training examples right.")
    console.print(f"  Cross-fit: {folder.path / 'crossfit.npz'}", soft_wrap=True)
