"""`evaluate`: unlearned models against retrained ones, with the two controls that make the numbers readable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from unmem.data import Ids
from unmem.evaluation.answers import accuracy, correct, named
from unmem.evaluation.membership import called_unseen
from unmem.evaluation.outcome import Evaluation, Needed, Outcome, Part
from unmem.evaluation.reasons import NO_REFERENCE, NO_UNSEEN, SMALLEST_CELL
from unmem.evaluation.soundness import retrained_shortfalls
from unmem.evaluation.tug_of_war import tug_of_war
from unmem.unlearning import Problem

NOTHING_MORE = Needed()


def evaluate(
    models: Mapping[str, nn.Module],
    problem: Problem,
    *,
    reference: Sequence[nn.Module] = (),
    parts: Mapping[str, Ids] | None = None,
    seconds: Mapping[str, float] | None = None,
    reference_seconds: Sequence[float] = (),
    training_seconds: float | None = None,
    needed: Mapping[str, Needed] | None = None,
) -> Evaluation:
    """Measure models against the mean of the retrained `reference` models; the original, if there is one, is a control.

    parts: ids of forget examples by memorization part ("low", "medium", "high").
    seconds, reference_seconds, training_seconds: what the models, the retrained ones and the original took to make.
        The cost is in trainings, a training being the median of the last two (one alone is a noisy measure).
    needed: by method, what it needed besides; a method that is not named needed nothing.
    Membership is attacked with the holdout as unseen examples, so that the test set serves the accuracies alone.
    """
    evaluator = Evaluator(
        problem,
        reference=reference,
        parts=parts,
        reference_seconds=reference_seconds,
        training_seconds=training_seconds,
    )
    outcomes: dict[str, Outcome] = {}
    for name, model in models.items():
        with named(name):
            outcomes[name] = evaluator.outcome(model, (seconds or {}).get(name), (needed or {}).get(name, Needed()))
    do_nothing = None
    if problem.original is not None:
        with named("original"):
            do_nothing = evaluator.outcome(problem.original, 0.0, Needed(unlearning=0.0))
    return Evaluation(
        methods=outcomes,
        do_nothing=do_nothing,
        retrain_vs_retrain=evaluator.retrain_vs_retrain,
        reference=evaluator.reference,
        n_reference=len(reference),
        shortfalls=retrained_shortfalls(problem, reference, stand_in=next(iter(models.values()), None)),
    )


class Evaluator:
    """Measures the reference once, and then any number of models against it; the arguments are those of `evaluate`.

    reference: the mean of the retrained models, or None. retrain_vs_retrain: as in `Evaluation`.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        reference: Sequence[nn.Module] = (),
        parts: Mapping[str, Ids] | None = None,
        reference_seconds: Sequence[float] = (),
        training_seconds: float | None = None,
    ) -> None:
        self._problem, self._parts = problem, dict(parts or {})
        self._trainings = [*reference_seconds, *([training_seconds] if training_seconds else [])]
        retrained: list[Outcome] = []
        for k, model in enumerate(reference, 1):
            with named(f"retrained {k}"):
                retrained.append(_measure(model, problem, self._parts))
        self._target = _mean(retrained) if retrained else None
        self.retrain_vs_retrain = _against_each_other(retrained) if len(retrained) > 1 else None
        self.reference = self._timed(self._target, _mean_of(reference_seconds)) if self._target else None

    def outcome(self, model: nn.Module, seconds: float | None = None, needed: Needed = NOTHING_MORE) -> Outcome:
        """What the model shows, and how close that is to the reference; `seconds` is what it took to make."""
        return self._timed(_compare(_measure(model, self._problem, self._parts), self._target), seconds, needed)

    def _timed(self, outcome: Outcome, spent: float | None, needed: Needed = NOTHING_MORE) -> Outcome:
        if spent is None or not self._trainings:
            cost, other = needed.unlearning, needed.trainings
        else:
            training = float(np.median(self._trainings))
            cost, other = spent / training, needed.seconds / training
        told = None if cost is None else cost + other + needed.before
        return replace(outcome, seconds=spent, cost=cost, cost_all_told=told)


def _measure(model: nn.Module, problem: Problem, parts: dict[str, Ids]) -> Outcome:
    hits = correct(model, problem.forget)
    unseen = None
    if len(problem.holdout):
        unseen = called_unseen(model, problem.forget, problem.retain, problem.holdout)
    shares = {
        "forget": float(hits.mean()),
        "retain": accuracy(model, problem.retain),
        "test": accuracy(model, problem.test),
    }
    cells = {name: problem.forget.positions(ids) for name, ids in parts.items()}
    return Outcome(
        accuracy=shares,
        mia=math.nan if unseen is None else float(unseen.mean()),
        parts={name: _part(hits[cell], None if unseen is None else unseen[cell]) for name, cell in cells.items()},
    )


def _part(hits: NDArray[np.bool_], unseen: NDArray[np.bool_] | None) -> Part:
    if len(hits) < SMALLEST_CELL:
        return Part(len(hits), None, None)
    return Part(len(hits), float(hits.mean()), None if unseen is None else float(unseen.mean()))


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    first = outcomes[0]

    def part(name: str) -> Part:
        cells = [outcome.parts[name] for outcome in outcomes]
        return Part(cells[0].n, _mean_of([c.accuracy for c in cells]), _mean_of([c.mia for c in cells]))

    return Outcome(
        accuracy={key: float(np.mean([o.accuracy[key] for o in outcomes])) for key in first.accuracy},
        mia=float(np.mean([o.mia for o in outcomes])),
        parts={name: part(name) for name in first.parts},
    )


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _compare(outcome: Outcome, target: Outcome | None) -> Outcome:
    if target is None:
        return replace(outcome, reason=NO_REFERENCE)
    retain, test = (outcome.accuracy[key] - target.accuracy[key] for key in ("retain", "test"))
    if math.isnan(test):
        return replace(outcome, reason=NO_UNSEEN)

    def closeness(ours: float | None, theirs: float | None) -> float | None:
        return None if ours is None or theirs is None else tug_of_war(ours - theirs, retain, test)

    parts = {
        name: replace(
            part,
            tow=closeness(part.accuracy, target.parts[name].accuracy),
            tow_mia=closeness(part.mia, target.parts[name].mia),
        )
        for name, part in outcome.parts.items()
    }
    return replace(
        outcome,
        tow=closeness(outcome.accuracy["forget"], target.accuracy["forget"]),
        tow_mia=closeness(outcome.mia, target.mia),
        parts=parts,
    )


def _against_each_other(retrained: Sequence[Outcome]) -> Outcome:
    """Each retrained model against the mean of the others, then the mean of the scores."""
    compared = [_compare(one, _mean([o for o in retrained if o is not one])) for one in retrained]
    mean = _mean(compared)
    parts = {
        name: replace(
            part,
            tow=_mean_of([c.parts[name].tow for c in compared]),
            tow_mia=_mean_of([c.parts[name].tow_mia for c in compared]),
        )
        for name, part in mean.parts.items()
    }
    return replace(
        mean, tow=_mean_of([c.tow for c in compared]), tow_mia=_mean_of([c.tow_mia for c in compared]), parts=parts
    )
