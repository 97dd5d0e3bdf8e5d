"""`unmem forget`: make a model forget some of its training examples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from unmem.cli.options import DataOptions, ModelOptions, OutputOptions, settings

_REQUEST = Group("Request", sort_key=0)
UTILITY_FELL = 4


@Parameter(name="*", group=_REQUEST)
@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """What to forget, and how."""

    forget: str | None = None
    "Text file with the ids to forget, one a line."
    top: str | None = None
    "Instead of a file: SCORE:N, the N most memorized examples by a score."
    method: str = "rum"
    "retrain, fine-tune, neggrad+ or rum."
    steps: str = "nothing,fine-tune,neggrad+"
    "For rum: one method for each part, from least to most memorized, separated by commas."
    score: str = "confidence"
    "For rum: the score that refines the request into parts."
    scores: str | None = None
    "A scores.parquet of unmem score; without it, scores are learning events of the training in this run."
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
    from unmem import models
    from unmem.cli import request as read
    from unmem.cli.console import console, stage, warn
    from unmem.cli.methods import check_names, make
    from unmem.cli.session import Session, recipe_settings
    from unmem.cli.table import outcome_table
    from unmem.errors import NothingToDoError, UserError
    from unmem.evaluation import evaluate
    from unmem.memorization import LearningEvents, save_scores
    from unmem.report import Report
    from unmem.store import RunFolder
    from unmem.unlearning import Problem, Retrain, settings_of
    from unmem.unlearning.problem import check_request

    steps = [name.strip() for name in request.steps.split(",") if name.strip()]
    check_names(request.method, steps if request.method == "rum" else [])
    if (request.forget is None) == (request.top is None):
        raise UserError("--forget", request.forget, "give --forget FILE or --top SCORE:N, and not both", "choose one")
    events = LearningEvents()
    source = read.ScoreSource(
        Path(request.scores) if request.scores else None, trained_here=model.model is None, events=events
    )
    needed: list[str] = []
    top_name, top_count = read.parse_top(request.top) if request.top else ("", 0)
    if request.top:
        source.check(top_name, option="--top")
        needed.append(top_name)
        if top_count == 0:
            raise NothingToDoError("--top", request.top, "asks for no example", "ask for at least one")
    if request.method == "rum":
        source.check(request.score, option="--score")
        needed.append(request.score)

    with RunFolder(output.out, force=output.force) as folder:
        session = Session.open("forget", settings(data, model, request) | {"steps": steps}, data)
        if request.forget:
            ids = read.read_ids(Path(request.forget))
            check_request(ids, session.data)
        original = session.original(model, seed=data.seed, observers=[events])
        scores = {name: source.get(name) for name in needed}
        if request.top:
            ids = scores[top_name].top(top_count)
        problem = Problem(original.model, session.data, ids, recipe=original.recipe)
        for flag in problem.flags():
            warn(flag)
        unlearner = make(request.method, steps=steps, scores=scores.get(request.score), fields_text=request.set)
        with stage(f"Forgot {len(problem.forget):,} examples by {request.method}") as bar:
            unlearned = unlearner(original.model, problem, seed=data.seed, observers=[bar])
        seconds = bar.seconds
        retrained = []
        for k in range(request.reference_seeds if request.reference == "retrain" else 0):
            with stage(f"Retrained without them, {k + 1} of {request.reference_seeds}") as bar:
                retrained.append(Retrain()(original.model, problem, seed=data.seed + 1 + k, observers=[bar]))
        refining = next(iter(scores.values()), None)
        parts = {}
        if refining is not None and len(problem.forget) >= 3:
            parts = dict(zip(("low", "medium", "high"), refining.parts(3, among=problem.forget.ids), strict=True))
        evaluation = evaluate(
            {request.method: unlearned},
            problem,
            reference=retrained,
            parts=parts,
            seconds={request.method: seconds},
            training_seconds=original.seconds,
        )
        before, after = (session.accuracies(m)["holdout"] for m in (original.model, unlearned))
        card = session.card(original.recipe)
        folder.file("original.safetensors", lambda path: models.save(original.model, card, path))
        folder.file("unlearned.safetensors", lambda path: models.save(unlearned, card, path))
        if scores:
            labels = session.data.train.labels.cpu().numpy()
            columns = {s.name: s for s in scores.values()}
            folder.file("scores.parquet", lambda path: save_scores(list(columns.values()), labels, path))
        fell = before - after > request.max_drop
        result: dict[str, Any] = {
            "recipe": recipe_settings(original.recipe),
            "unlearner": settings_of(unlearner),
            "forget": {"n": len(problem.forget), "flags": problem.flags()},
            "guard": {"holdout_before": before, "holdout_after": after, "max_drop": request.max_drop, "fell": fell},
        } | evaluation.to_dict()
        report = Report(
            title=f"Forgetting {len(problem.forget):,} of {len(session.data.train):,} examples of {session.data.name}",
            lead=problem.flags(),
            evaluation=evaluation,
            scores=list(scores.values()),
            flipped=session.data.flipped,
            facts=session.facts(original.recipe),
        )
        folder.text("report.html", report.html())
        session.finish(folder, result)
    console.print(outcome_table(evaluation, {}))
    console.print(f"  written to {folder.path}")
    if fell:
        warn(f"accuracy on the holdout fell from {before:.1%} to {after:.1%}, more than --max-drop {request.max_drop}")
        return UTILITY_FELL
    return 0
