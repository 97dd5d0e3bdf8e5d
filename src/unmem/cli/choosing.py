"""Which method, which score and which targets a request is carried out with, and what becomes of copies."""

from __future__ import annotations

from dataclasses import replace

from unmem.cli.checks import copied
from unmem.cli.console import console, warn
from unmem.cli.costs import duration, training_seconds
from unmem.cli.forget_options import RequestOptions
from unmem.cli.methods import Planned
from unmem.cli.original import Original
from unmem.cli.session import Session
from unmem.cli.sources import Prepared
from unmem.errors import UserError
from unmem.requests import find_copies
from unmem.unlearning import Choice, Matching, Problem, best_source, choose

DEFAULT_STEPS = "nothing,fine-tune,salun"


def method_of(request: RequestOptions, *, trained_here: bool) -> tuple[str, list[str], str | None]:
    """The method, and for RUM its steps and the score that divides the request; empty and None for other methods."""
    rum = request.method == "rum" or (request.method == "auto" and (request.steps or request.score))
    if not rum:
        return request.method, [], None
    steps = [name.strip() for name in (request.steps or DEFAULT_STEPS).split(",") if name.strip()]
    return "rum", steps, request.score or default_score(trained_here=trained_here or request.scores is not None)


def default_score(*, trained_here: bool) -> str:
    """Learning events need the training of the original."""
    return "confidence" if trained_here else "holdout"


def check_steps(count: int, planned: Planned, request: RequestOptions) -> None:
    """Refuse, before any work, a RUM with more steps than there are examples to forget."""
    steps = len((request.steps or DEFAULT_STEPS).split(","))
    if planned.needs_scores and count < steps and not any("thresholds" in one for one in request.set):
        problem = f"its {steps} steps need {steps} parts, and the request has {count} example{'s' * (count != 1)}"
        raise UserError("--method", planned.name, problem, "leave --method out, or name fewer --steps")


def chosen(planned: Planned, prepared: Prepared, request: RequestOptions, problem: Problem) -> Choice:
    """The choice of auto: by its rules, or matching with the targets that the user named."""
    matching = planned.make(None, None)
    if not isinstance(matching, Matching):
        raise TypeError("auto takes matching")
    choice = choose(problem, prepared.sources, matching)
    if request.targets == "auto" and not (request.tune and choice.taken.source is None):
        return choice
    name = request.targets
    if name == "auto":
        name, reason = best_source(problem, prepared.sources)[0].name, "retraining has nothing to tune"
    else:
        reason = "--targets names them"
    named = next(option for option in choice.options if option.source == name)
    return replace(choice, taken=named, reason=reason)


def print_choice(choice: Choice, original: Original, session: Session) -> None:
    """Print in one line what auto chose, why, and what it costs."""
    taken = choice.taken
    seconds = original.seconds or training_seconds(original.recipe, session.data.train)
    about = f"about {taken.cost:.2f} trainings ({duration(taken.cost * seconds)})"
    cost = f"total cost: {about}"
    if taken.cost_all_told > taken.cost:
        cost = f"cost: {about}, total cost: {taken.cost_all_told:.2f}"
    console.item("auto", f"{choice.words}; {cost}", style="cyan")


def with_copies(problem: Problem, choice: str) -> Problem:
    """The problem after the user's choice about near-duplicates of forget examples in the retain set."""
    found = find_copies(problem.forget, problem.retain, unseen=problem.holdout)
    if not len(found):
        return problem
    names = found.retain_ids
    listed = f"{', '.join(names[:5].tolist())}{', …' if len(names) > 5 else ''}"
    exact, near = found.counts["exact"], found.counts["near"]
    counts = f"{copied(len(names))} of forget examples ({exact} exact pair{'s' * (exact != 1)}, {near} near): {listed}"
    if choice == "stop":
        raise UserError("--copies", choice, counts, "pass --copies include to forget them too, or --copies accept")
    if choice == "accept":
        warn(
            f"{counts}; such copies preserve the influence of the forget examples, even on a retrained model "
            "(--copies include forgets them too)"
        )
        return problem
    warn(f"{counts}; such copies are forgotten too")
    everything = [*problem.forget.ids, *names]
    return Problem(problem.original, problem.data, everything, recipe=problem.recipe)
