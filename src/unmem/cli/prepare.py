"""`unmem prepare`: the cross-fit, made once for all later requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from cyclopts import Group, Parameter

from unmem.cli.early import check_early
from unmem.cli.options import DataOptions, ModelOptions, OutputOptions, RunOptions, settings

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
    run: RunOptions = RunOptions(),
    model: ModelOptions = ModelOptions(),
) -> None:
    """Predict each training example with a model that was not trained on it, once for all later requests.

    Writes crossfit.npz, which `unmem forget --crossfit` reads (for matching and --tune), and the scores that come with
    it to the run folder. Recreate it after many requests: its models were trained on examples that were
    forgotten since.
    """
    check_early(output, crossfit, data, run, model)
    from unmem.cli.console import console, stage
    from unmem.cli.saving import finish, save_original, save_scores
    from unmem.cli.session import writing
    from unmem.cli.work import Work

    asked = settings(data, run, model, crossfit)
    with writing("prepare", asked, output, data, run, members=crossfit.work, keep_deleted_out=True) as (
        session,
        folder,
    ):
        work = Work.start(session, model, folds=crossfit.folds, folder=folder.members)
        with stage(f"Cross-fit: {crossfit.folds} models, each without one part of the training set") as bar:
            scores = [work.scorer.get(name, on_member=bar.on_member) for name in ("crossfit", "crossfit-fit")]
        made, doubts = work.scorer.out_of_fold(), work.doubts(scores)
        folder.file("crossfit.npz", replace(made, forgotten=session.before.deleted).save)
        save_original(session, folder, work.original)
        save_scores(session, folder, scores)
        about = {
            "examples": len(made),
            "accuracy": float((made.margin > 0).mean()),
            "seconds": work.scorer.seconds["crossfit"],
            "settings": made.settings,
        }
        finish(session, folder, work.described(scores, doubts) | {"crossfit": about})
    console.print(f"  Models that never saw them get {(made.margin > 0).mean():.1%} of the training examples right.")
    console.print(f"  Cross-fit: {folder.path / 'crossfit.npz'}", soft_wrap=True)
