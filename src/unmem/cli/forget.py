"""`unmem forget`: make a model forget some of its training examples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from unmem.cli.options import DataOptions, ModelOptions, OutputOptions, settings

if TYPE_CHECKING:
    from torch import nn

    from unmem.cli.request import ScoreSource
    from unmem.cli.session import Original, Session
    from unmem.data import Ids
    from unmem.evaluation import Evaluation
    from unmem.memorization import Scores
    from unmem.store import RunFolder
    from unmem.unlearning import Problem

_REQUEST = Group("Request", sort_key=0)
UTILITY_FELL = 4


@Parameter(name="*", group=_REQUEST)
@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """What to forget, and how."""

    forget: Path | None = None
    "Text file with the ids to forget, one a line."
    top: str | None = None
    "Instead of a file: SCORE:N, the N most memorized examples by a score, such as confidence:50 or crossfit:50."
    method: str = "rum"
    "retrain, fine-tune, neggrad+ or rum."
    steps: str = "nothing,fine-tune,neggrad+"
    "For rum: one method for each part, from least to most memorized, separated by commas."
    score: str = "confidence"
    "For rum: the score that refines the request into parts."
    scores: Path | None = None
    "A scores.parquet of unmem score; without it, scores are made in this run, as unmem score does."
    set: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=True)] = ()
    "Fields of methods: FIELD=VALUE, or METHOD.FIELD=VALUE for a step of rum. May be given again."
    reference: Literal["none", "retrain"] = "none"
    "With retrain, train from scratch without the forget set and compare (ToW, ToW-MIA)."
    reference_seeds: int = 2
    "How many models to retrain; from 2 on, they are compared with each other too."
    max_drop: float = 0.05
    "Exit with 4 if accuracy on the holdout falls by more than this."


def forget(
    *,
    output: OutputOptions,
    request: RequestOptions = RequestOptions(),
    data: DataOptions = DataOptions(),
    model: ModelOptions = ModelOptions(),
) -> int:
    """Make a model forget some of its training examples.

    Writes unlearned.safetensors, original.safetensors, result.json and report.html to the run folder.
    """
    from unmem.cli import methods
    from unmem.cli.console import console, stage, warn
    from unmem.cli.request import ScoreSource
    from unmem.cli.session import Session
    from unmem.cli.table import outcome_table
    from unmem.memorization import Scorer
    from unmem.store import RunFolder
    from unmem.unlearning import Problem, settings_of

    steps = [name.strip() for name in request.steps.split(",") if name.strip()]
    unlearner_for = methods.plan(request.method, steps, request.set)
    source = ScoreSource(request.scores, trained_here=model.model is None)
    needed = _scores_needed(request, source)
    with RunFolder(output.out, force=output.force) as folder:
        session = Session.open("forget", settings(data, model, request) | {"steps": steps}, data)
        ids = _ids_from_file(request, session)
        read = session.read_original(model, seed=data.seed) if model.model is not None else None
        scorer = Scorer(
            session.data,
            recipe=read.recipe if read else session.recipe(model, seed=data.seed),
            model=read.model if read else None,
        )
        if request.scores is None:
            scorer.check(*needed)
        original = read or session.train_original(scorer)
        scores = {name: source.get(name, scorer) for name in needed}
        if ids is None:
            ids = _most_memorized(request, scores)
        problem = Problem(original.model, session.data, ids, recipe=original.recipe)
        for flag in problem.flags():
            warn(flag)
        unlearner = unlearner_for(scores.get(request.score))
        with stage(f"Forget {len(problem.forget):,} examples by {request.method}") as bar:
            unlearned = unlearner(original.model, problem, seed=data.seed, observers=[bar])
        evaluation = _evaluate(
            session, request, problem, unlearned, bar.seconds, original, list(scores.values()), data.seed
        )
        guard = _guard(session, original.model, unlearned, request.max_drop)
        found = list(scores.values())
        made = {
            s.name: session.describe_score(s, scorer.seconds[s.name], original)
            for s in found
            if s.name in scorer.seconds
        }
        result: dict[str, Any] = {
            "original": session.describe(original),
            "unlearner": settings_of(unlearner),
            "forget": {"n": len(problem.forget), "flags": problem.flags()},
            "guard": guard,
            "scores": made,
        }
        session.save_models(folder, original, unlearned)
        _report(folder, session, original, problem, evaluation, found)
        session.finish(folder, result | evaluation.to_dict())
    console.print(outcome_table(evaluation, {}))
    console.print(f"  Report: {folder.path / 'report.html'}", soft_wrap=True)
    if guard["fell"]:
        warn(
            f"accuracy on the holdout fell from {guard['holdout_before']:.1%} to {guard['holdout_after']:.1%}, "
            f"more than --max-drop {request.max_drop}"
        )
        return UTILITY_FELL
    return 0


def _scores_needed(request: RequestOptions, source: ScoreSource) -> list[str]:
    """Names of the scores that the request and the method use, each checked to be available."""
    from unmem.cli.request import parse_top
    from unmem.errors import NothingToDoError, UserError

    if (request.forget is None) == (request.top is None):
        given = None if request.forget is None else str(request.forget)
        raise UserError("--forget", given, "exactly one of --forget FILE and --top SCORE:N is needed", "choose one")
    needed: list[str] = []
    if request.top is not None:
        name, count = parse_top(request.top)
        if count == 0:
            raise NothingToDoError("--top", request.top, "asks for no example", "ask for at least one")
        source.check(name, option="--top")
        needed.append(name)
    if request.method == "rum" and request.score not in needed:
        source.check(request.score, option="--score")
        needed.append(request.score)
    return needed


def _ids_from_file(request: RequestOptions, session: Session) -> Ids | None:
    """The ids of --forget, checked against the data before anything is trained."""
    from unmem.cli.request import read_ids
    from unmem.unlearning.problem import check_request

    if request.forget is None:
        return None
    ids = read_ids(request.forget)
    check_request(ids, session.data)
    return ids


def _most_memorized(request: RequestOptions, scores: dict[str, Scores]) -> Ids:
    from unmem.cli.request import parse_top

    name, count = parse_top(request.top or "")
    return scores[name].top(count)


def _evaluate(
    session: Session,
    request: RequestOptions,
    problem: Problem,
    unlearned: nn.Module,
    seconds: float,
    original: Original,
    scores: list[Scores],
    seed: int,
) -> Evaluation:
    from unmem.evaluation import evaluate

    wanted = request.reference_seeds if request.reference == "retrain" else 0
    retrained, retrain_seconds = session.retrain(problem, wanted, seed=seed)
    parts: dict[str, Ids] = {}
    if scores and len(problem.forget) >= 3:
        parts.update(zip(("low", "medium", "high"), scores[-1].parts(3, among=problem.forget.ids), strict=True))
    return evaluate(
        {request.method: unlearned},
        problem,
        reference=retrained,
        parts=parts,
        seconds={request.method: seconds},
        reference_seconds=retrain_seconds,
        training_seconds=original.seconds,
    )


def _guard(session: Session, before: nn.Module, after: nn.Module, max_drop: float) -> dict[str, Any]:
    """Whether unlearning cost more accuracy on unseen examples than the user allows."""
    from unmem.evaluation import accuracy

    had, has = (accuracy(model, session.data.holdout) for model in (before, after))
    return {"holdout_before": had, "holdout_after": has, "max_drop": max_drop, "fell": had - has > max_drop}


def _report(
    folder: RunFolder,
    session: Session,
    original: Original,
    problem: Problem,
    evaluation: Evaluation,
    scores: list[Scores],
) -> None:
    """The page and the scores behind it."""
    from unmem.report import Report

    if scores:
        session.save_scores(folder, scores)
    report = Report(
        title=f"Forgetting {len(problem.forget):,} of {len(session.data.train):,} examples of {session.data.name}",
        lead=problem.flags(),
        evaluation=evaluation,
        scores=scores,
        flipped=session.data.flipped,
        facts=session.facts(original.recipe),
    )
    folder.text("report.html", report.html())
