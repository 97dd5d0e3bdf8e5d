"""`unmem score`: how memorized each training example is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from unmem.cli.early import check_early, check_scores
from unmem.cli.options import DataOptions, ModelOptions, OutputOptions, RunOptions, settings
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
    run: RunOptions = RunOptions(),
    model: ModelOptions = ModelOptions(),
) -> None:
    """Compute how memorized each training example is; larger means more memorized.

    Writes scores.parquet (id, label, a column per score), original.safetensors, report.html and, if the original is
    trained here, trace.npz to the run folder.
    """
    check_early(output, scores, data, run, model)
    names = _names(scores, trained_here=model.model is None)
    check_scores(names, "--method")
    from unmem.cli.console import console, sentences
    from unmem.cli.fitting import Fitted
    from unmem.cli.original import read_model
    from unmem.cli.page import print_page, write_page
    from unmem.cli.saving import facts, finish, save_original, save_scores, save_trace
    from unmem.cli.session import writing
    from unmem.cli.work import Work
    from unmem.report import Report
    from unmem.targets import TraceRecorder

    _check_before_data(names, scores, trained_here=model.model is None)
    asked = settings(data, run, model, scores) | {"method": names}
    with writing("score", asked, output, data, run, members=scores.work, keep_deleted_out=True) as (session, folder):
        recorder = TraceRecorder(session.data.holdout)
        work = Work.start(
            session,
            model,
            scores=names,
            recorders={"trace": recorder},
            checkpoints=[
                read_model(session, path, model, unsafe=model.unsafe_load).model for path in scores.checkpoints
            ],
            members=scores.members,
            folds=scores.folds,
            folder=folder.members,
        )
        found = [work.score(name) for name in names]
        original, doubts = work.original, work.doubts(found)
        result = work.described(found, doubts)
        if scores.against is not None:
            _compare(found, scores.against, scores.threshold, result["scores"])
        report = Report(
            title=f"How memorized are {len(session.data.train):,} examples of {session.data.name}?",
            warnings=sentences([*original.warnings, *(one.text for one in doubts)]),
            scores=found,
            flipped=session.data.flipped,
            against=scores.against,
            gallery=session.data.train,
            facts=facts(session, original.recipe, original.source),
        )
        save_original(session, folder, original)
        save_trace(session, folder, recorder)
        save_scores(session, folder, found)
        write_page(folder, report)
        finish(session, folder, result)
    console.print(Fitted.of(_table(result["scores"])))
    print_page(folder)


def _names(options: ScoreOptions, *, trained_here: bool) -> list[str]:
    """Names of the scores to compute, each once, with the one to compare with."""
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
    """The cost of each score, what it found, and its agreement with the score that it is compared with."""
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
