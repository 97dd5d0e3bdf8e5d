"""`evaluate`: compare unlearned models with retrained ones and with the two controls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from unmem.data import Ids
from unmem.evaluation.logits import accuracy, add_model_name, correct
from unmem.evaluation.membership import called_unseen
from unmem.evaluation.outcome import Evaluation, Needed, Outcome, Part
from unmem.evaluation.reasons import NO_REFERENCE, NO_UNSEEN, SMALLEST_CELL
from unmem.evaluation.soundness import retrained_shortfalls
from unmem.evaluation.tug_of_war import tug_of_war
from unmem.unlearning import Problem

NO_FURTHER_COST = Needed()


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
    """Measure models against the mean of retrained models.

    The membership attack uses the holdout as unseen examples, so that the test set is only used for accuracies.

    Args:
        models: Models by name.
        problem: The request. Its original, if there is one, is the do-nothing control.
        reference: Models retrained without the forget set, for ToW. With two or more, each is compared with the others.
        parts: Ids of forget examples per memorization group ("low", "medium", "high").
        seconds: Time to make each model.
        reference_seconds: Time to retrain each reference model.
        training_seconds: Time to train the original. Costs are in trainings, and a training takes the median of this
            and `reference_seconds`, because one time alone is noisy.
        needed: Further cost of each method; none for a method that is missing here.

    Returns:
        An outcome per model, with the reference and the controls.
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
        with add_model_name(name):
            outcomes[name] = evaluator.outcome(model, (seconds or {}).get(name), (needed or {}).get(name, Needed()))
    do_nothing = None
    if problem.original is not None:
        with add_model_name("original"):
            do_nothing = evaluator.outcome(problem.original, 0.0, Needed(unlearning=0.0))
    return Evaluation(
        methods=outcomes,
        do_nothing=do_nothing,
        retrain_vs_retrain=evaluator.retrain_vs_retrain,
        reference=evaluator.reference,
        n_reference=len(reference),
        shortfalls=retrained_shortfalls(problem, reference, fallback=next(iter(models.values()), None)),
    )


class Evaluator:
    """Measurement of any number of models against one reference, which is measured only once.

    Args:
        problem: As in `evaluate`, like the other arguments.
        reference: Models retrained without the forget set.
        parts: Ids of forget examples per memorization group.
        reference_seconds: Time to retrain each reference model.
        training_seconds: Time to train the original.

    Attributes:
        reference: The mean of the retrained models, or None.
        retrain_vs_retrain: As in `Evaluation`.
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
            with add_model_name(f"retrained {k}"):
                retrained.append(_measure(model, problem, self._parts))
        self._target = _mean(retrained) if retrained else None
        self.retrain_vs_retrain = _against_each_other(retrained) if len(retrained) > 1 else None
        self.reference = self._timed(self._target, _mean_of(reference_seconds)) if self._target else None

    def outcome(self, model: nn.Module, seconds: float | None = None, needed: Needed = NO_FURTHER_COST) -> Outcome:
        """Measure a model and its closeness to the reference. `seconds` is the time it took to make."""
        return self._timed(_compare(_measure(model, self._problem, self._parts), self._target), seconds, needed)

    def _timed(self, outcome: Outcome, spent: float | None, needed: Needed = NO_FURTHER_COST) -> Outcome:
        if spent is None or not self._trainings:
            cost, other = needed.unlearning, needed.trainings
        else:
            training = float(np.median(self._trainings))
            cost, other = spent / training, needed.seconds / training
        total = None if cost is None else cost + other + needed.before
        return replace(outcome, seconds=spent, cost=cost, cost_all_told=total)


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
    groups = {name: problem.forget.positions(ids) for name, ids in parts.items()}
    return Outcome(
        accuracy=shares,
        mia=math.nan if unseen is None else float(unseen.mean()),
        parts={name: _group(hits[at], None if unseen is None else unseen[at]) for name, at in groups.items()},
    )


def _group(hits: NDArray[np.bool_], unseen: NDArray[np.bool_] | None) -> Part:
    if len(hits) < SMALLEST_CELL:
        return Part(len(hits), None, None)
    return Part(len(hits), float(hits.mean()), None if unseen is None else float(unseen.mean()))


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    first = outcomes[0]

    def group(name: str) -> Part:
        groups = [outcome.parts[name] for outcome in outcomes]
        return Part(groups[0].n, _mean_of([one.accuracy for one in groups]), _mean_of([one.mia for one in groups]))

    return Outcome(
        accuracy={key: float(np.mean([o.accuracy[key] for o in outcomes])) for key in first.accuracy},
        mia=float(np.mean([o.mia for o in outcomes])),
        parts={name: group(name) for name in first.parts},
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
            group,
            tow=closeness(group.accuracy, target.parts[name].accuracy),
            tow_mia=closeness(group.mia, target.parts[name].mia),
        )
        for name, group in outcome.parts.items()
    }
    return replace(
        outcome,
        tow=closeness(outcome.accuracy["forget"], target.accuracy["forget"]),
        tow_mia=closeness(outcome.mia, target.mia),
        parts=parts,
    )


def _against_each_other(retrained: Sequence[Outcome]) -> Outcome:
    """Compare each retrained model with the mean of the others, and average the scores."""
    compared = [_compare(one, _mean([o for o in retrained if o is not one])) for one in retrained]
    mean = _mean(compared)
    parts = {
        name: replace(
            group,
            tow=_mean_of([c.parts[name].tow for c in compared]),
            tow_mia=_mean_of([c.parts[name].tow_mia for c in compared]),
        )
        for name, group in mean.parts.items()
    }
    return replace(
        mean, tow=_mean_of([c.tow for c in compared]), tow_mia=_mean_of([c.tow_mia for c in compared]), parts=parts
    )
