"""What a request asks for, and the choice of its method, its score and its targets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from unmem.cli import methods
from unmem.cli.checks import copied
from unmem.cli.console import warn
from unmem.cli.methods import Planned
from unmem.cli.options import SAME_DATA, ModelOptions
from unmem.cli.original import split_in_doubt
from unmem.cli.request import Request
from unmem.cli.request_options import RequestOptions
from unmem.cli.session import Session
from unmem.cli.sources import Prepared
from unmem.cli.work import Work
from unmem.data import Ids
from unmem.errors import UserError
from unmem.memorization import Scores, check_names, load_scores
from unmem.requests import find_copies
from unmem.unlearning import Choice, Matching, Problem, best_source, choose

DEFAULT_STEPS = "nothing,fine-tune,salun"


@dataclass(frozen=True, eq=False)
class Asked:
    """What the options ask for, checked as far as that needs no data.

    divided_by: name of the score that divides the request into RUM parts, one for each of `steps`.
    """

    request: RequestOptions
    model: ModelOptions
    planned: Planned
    wanted: Request
    steps: list[str]
    divided_by: str | None

    @classmethod
    def read(cls, request: RequestOptions, model: ModelOptions) -> Asked:
        trained_here = model.model is None
        method, steps, score = _method_of(request, trained_here=trained_here)
        planned = methods.plan(method, steps, request.set)
        asked = cls(request, model, planned, Request.read(request), steps, score)
        for name, option in ((asked.wanted.score, "--top"), (score, "--score")):
            if name is not None:
                asked._check_score(name, option)
        return asked

    @property
    def trained_here(self) -> bool:
        return self.model.model is None

    @property
    def scores(self) -> list[str]:
        """Names of the scores that the request and RUM use."""
        return list(dict.fromkeys(name for name in (self.wanted.score, self.divided_by) if name is not None))

    @property
    def scores_to_make(self) -> list[str]:
        return self.scores if self.request.scores is None else []

    def _check_score(self, name: str, option: str) -> None:
        """Refuse, before any work, a score that is not in --scores or that this run cannot make."""
        if self.request.scores is not None:
            load_scores(self.request.scores, name)
        else:
            check_names([name], field=option, watched=self.trained_here)

    def score(self, name: str, work: Work) -> Scores:
        """A score of the training examples: from --scores, whose examples may include those forgotten before, or made
        here."""
        file = self.request.scores
        if file is None:
            return work.score(name)
        scores, session = load_scores(file, name), work.session
        if scores.settings.get("data") not in (None, *session.before.fingerprints(session.data.train)):
            problem = "they are scores of other examples than these"
            raise UserError("--scores", str(file), problem, f"{SAME_DATA} as when they were made")
        return scores

    def ids(self, session: Session) -> Ids | None:
        """The ids of the request; None for the most memorized examples, whose scores are not there yet."""
        with split_in_doubt(session, self.model.model):
            ids = self.wanted.ids(session.data, session.before)
        if ids is not None:
            _check_steps(len(ids), self.planned, self.request)
        return ids

    def prepared(self, session: Session, ids: Ids | None) -> Prepared:
        """The files that were made before the request, with the source that --targets names among them."""
        found = Prepared.read(self.request, self.model.model, session.data, ids)
        found.check(self.request.targets, trained_here=self.trained_here)
        return found


def _method_of(request: RequestOptions, *, trained_here: bool) -> tuple[str, list[str], str | None]:
    """The method, and for RUM its steps and the score that divides the request; empty and None for other methods."""
    rum = request.method == "rum" or (request.method == "auto" and (request.steps or request.score))
    if not rum:
        return request.method, [], None
    steps = [name.strip() for name in (request.steps or DEFAULT_STEPS).split(",") if name.strip()]
    return "rum", steps, request.score or default_score(trained_here=trained_here or request.scores is not None)


def default_score(*, trained_here: bool) -> str:
    """Learning events need the training of the original."""
    return "confidence" if trained_here else "holdout"


def _check_steps(count: int, planned: Planned, request: RequestOptions) -> None:
    """Refuse, before any work, a RUM with more steps than there are examples to forget."""
    steps = len((request.steps or DEFAULT_STEPS).split(","))
    if planned.needs_scores and count < steps and not any("thresholds" in one for one in request.set):
        problem = f"its {steps} steps need {steps} RUM parts, and the request has {count} example{'s' * (count != 1)}"
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
