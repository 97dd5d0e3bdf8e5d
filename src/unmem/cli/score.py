"""`unmem score`: how memorized each training example is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from unmem.cli.early import check_early, check_scores
from unmem.cli.options import DataOptions, ModelOptions, OutputOptions, settings
from unmem.tables import Column, Row, Table

if TYPE_CHECKING:
    from unmem.memorization import Scores

_SCORES = Group("Scores", sort_key=0)
_FROM_RUN = "confidence,max-confidence,entropy,accuracy"


@Parameter(name="*", group=_SCORES)
@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """The scores to compute."""

    method: str | None = None
    """Scores, separated by commas; A+B averages the ranks of two scores. Recorded while the original is trained:
    confidence, max-confidence, entropy, accuracy, el2n, forgetting, aum, loss, late-gain, late-fit. Computed from a
    finished model or the data: holdout, curvature, crossfit, crossfit-gap, crossfit-fit, ensemble, feldman,
    feldman-confidence. Default: the first four if the original is trained in this run, else holdout and curvature."""
    against: str | None = None
    "Compare all scores with this one, such as feldman."
    threshold: float = 0.25
    "With --against: examples above this value of that score count as memorized."
    members: int | None = None
    "Number of models to train for feldman (default 100) and ensemble (default 20)."
    folds: int = 2
    "Number of folds of the cross-fit. 2 folds cost one training, 5 folds cost four."
    checkpoints: Annotated[tuple[Path, ...], Parameter(negative=(), consume_multiple=True)] = ()
    "Models saved during the training of --model, in order, to compute learning events from."
    work: Path | None = None
    """Folder for the models of feldman, ensemble and cross-fit, so that a stopped run can continue. Default: members in
    --out."""


def score(
    *,
    output: OutputOptions,
    scores: ScoreOptions = ScoreOptions(),
    data: DataOptions = DataOptions(),
    model: ModelOptions = ModelOptions(),
) -> None:
    """Compute how memorized each training example is; larger means more memorized.

    Writes scores.parquet (id, label, a column per score), original.safetensors, report.html and, if the original is
    trained here, trace.npz to the run folder.
    """
    check_early(output, scores, data, model)
    check_scores(_names(scores, trained_here=model.model is None), "--method")
    from unmem.cli.console import console, sentences
    from unmem.cli.fitting import Fitted
    from unmem.cli.page import tell_page, write_page
    from unmem.cli.request import opposed_scores, scored, unsound_work
    from unmem.cli.session import Session, log_of
    from unmem.memorization import Scorer
    from unmem.report import Report
    from unmem.store import TRACE, RunFolder
    from unmem.targets import TraceRecorder

    names = _names(scores, trained_here=model.model is None)
    _check_before_data(names, scores, trained_here=model.model is None)
    with RunFolder(output.out, force=output.force) as folder, log_of(output, "score") as log:
        asked = settings(data, model, scores) | {"method": names}
        session = Session.open("score", asked, data, log=log, folder=folder, replaces=folder.path)
        read = session.read_original(model, seed=data.seed) if model.model is not None else None
        recipe = read.recipe if read else session.recipe(model, seed=data.seed)
        folder.members = scores.work or folder.members
        scorer = Scorer(
            session.data,
            recipe=recipe,
            model=read.model if read else None,
            checkpoints=[
                session.read_model(path, model, seed=data.seed, unsafe=model.unsafe_load).model
                for path in scores.checkpoints
            ],
            members=scores.members,
            folds=scores.folds,
            folder=folder.members,
            **session.at_work(),
        )
        scorer.check(*names)
        recorder = TraceRecorder(session.data.holdout)
        original = read or session.train_original(scorer, recorders={"trace": recorder})
        found = [scored(scorer, name) for name in names]
        doubts = [*unsound_work(scorer, original.model), *opposed_scores(found)]
        described = {s.name: session.describe_score(s, scorer.seconds[s.name], original) for s in found}
        if scores.against is not None:
            _compare(found, scores.against, scores.threshold, described)
        report = Report(
            title=f"How memorized are {len(session.data.train):,} examples of {session.data.name}?",
            warnings=sentences([*original.warnings, *(one.text for one in doubts)]),
            scores=found,
            flipped=session.data.flipped,
            against=scores.against,
            gallery=session.data.train,
            facts=session.facts(original.recipe, original.source),
        )
        session.save_models(folder, original)
        if recorder.recorded:
            folder.file(TRACE, replace(recorder.trace, forgotten=session.before.deleted).save)
        session.save_scores(folder, found)
        write_page(folder, report)
        result = {"original": session.describe(original), "scores": described}
        session.finish(folder, result | {"warnings": [one.to_dict() for one in doubts]})
    console.print(Fitted.of(_table(described)))
    tell_page(folder)


def _names(options: ScoreOptions, *, trained_here: bool) -> list[str]:
    """The scores asked for, each once; the one to compare with is one of them."""
    text = options.method or (_FROM_RUN if trained_here or options.checkpoints else "holdout,curvature")
    names = [name.strip() for name in text.split(",") if name.strip()]
    return list(dict.fromkeys([*names, *([options.against] if options.against else [])]))


def _check_before_data(names: list[str], options: ScoreOptions, *, trained_here: bool) -> None:
    """Names need neither data nor model to be refused."""
    from unmem.errors import UserError
    from unmem.memorization import check_names

    check_names(names, field="--method", watched=trained_here or bool(options.checkpoints))
    if options.checkpoints and trained_here:
        raise UserError("--checkpoints", None, "they belong to a finished model", "pass that model with --model")


def _compare(found: list[Scores], against: str, threshold: float, described: dict[str, dict[str, Any]]) -> None:
    from unmem.memorization import agreement

    reference = next(s for s in found if s.name == against)
    for s in found:
        if s is not reference:
            described[s.name]["agreement"] = {"against": against} | agreement(
                s, reference, threshold=threshold
            ).to_dict()


def _table(described: dict[str, dict[str, Any]]) -> Table:
    """What each score took and found, and how far it agrees with the one it is compared with."""
    columns = [
        Column("seconds", "seconds", "tenths", unit="s", better="lower"),
        Column("cost", "cost", "number", unit="trainings", better="lower"),
        Column("auroc_flipped", "finds flipped", "decimals", better="higher"),
        Column("spearman", "Spearman", "decimals", better="higher"),
        Column("auroc", "AUROC", "decimals", better="higher"),
        Column("overlap", "top tenth", "decimals", better="higher"),
    ]
    rows: list[Row] = []
    for name, entry in described.items():
        agreement = {key: value["value"] for key, value in _measures(entry).items()}
        rows.append(Row(name, {key: entry.get(key) for key in ("seconds", "cost", "auroc_flipped")} | agreement))
    return Table(columns, rows, names="score")


def _measures(entry: dict[str, Any]) -> dict[str, dict[str, float]]:
    found = entry.get("agreement", {})
    return {key: found[key] for key in ("spearman", "auroc", "overlap") if found.get(key) is not None}
