"""`evaluate`: unlearned models against retrained ones, with the two controls that make the numbers readable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from unmem.data import Ids
from unmem.evaluation.membership import accuracy, called_unseen, correct, named
from unmem.evaluation.soundness import Shortfall, retrained_shortfalls
from unmem.evaluation.tug_of_war import tug_of_war
from unmem.unlearning import Problem

if TYPE_CHECKING:
    from pandas import DataFrame

# Below this many examples a share would tell about single persons, and says nothing about the set anyway.
SMALLEST_CELL = 10
NO_REFERENCE = "needs a retrained model to compare with"
NO_UNSEEN = "needs unseen examples, and all of the data are training data"
ONE_REFERENCE = "needs two retrained models"
NO_ORIGINAL = "needs the original model"
TOO_FEW = f"the forget set has fewer than {SMALLEST_CELL} examples, and would tell about single ones"


@dataclass(frozen=True)
class Part:
    """The forget examples of one memorization part: accuracy and share called unseen, and ToW on this part alone."""

    n: int
    accuracy: float | None
    mia: float | None
    tow: float | None = None
    tow_mia: float | None = None


@dataclass(frozen=True)
class Needed:
    """What a method needed besides the run that made its model: targets, scores, tuning.

    Attributes:
        seconds: What it took in this run.
        trainings: The same in trainings of the original, counted from passes over examples. Used where the time of a
            training is not known.
        before: What was made for it in earlier runs, in trainings of the original.
        unlearning: The run that made the model, in trainings, counted likewise.
    """

    seconds: float = 0.0
    trainings: float = 0.0
    before: float = 0.0
    unlearning: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What one model shows on one problem. All shares are in [0, 1].

    accuracy: on the forget, retain and test sets. mia: share of the forget set that the attack calls unseen. Both are
        NaN where there are no unseen examples.
    tow, tow_mia: closeness to the retrained reference, 1 = the same; None without a reference (`reason` says so).
    parts: the same by memorization part. seconds, cost: of making the model; cost in trainings of the original.
    cost_all_told: cost with everything that the method needed and that was made for it, in this run or before.
    """

    accuracy: dict[str, float]
    mia: float
    parts: dict[str, Part]
    tow: float | None = None
    tow_mia: float | None = None
    reason: str | None = None
    seconds: float | None = None
    cost: float | None = None
    cost_all_told: float | None = None

    def __repr__(self) -> str:
        known = [f"{name} {value:.1%}" for name, value in self.accuracy.items() if not math.isnan(value)]
        scores = (("ToW", self.tow), ("ToW-MIA", self.tow_mia))
        known += [f"{name} {value:.3f}" for name, value in scores if value is not None]
        return f"Outcome({', '.join(known)})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in `result.json`; `reason` only where a number is missing."""
        values = asdict(self)
        values["accuracy"] = {key: _known(value) for key, value in self.accuracy.items()}
        values["mia"] = _known(self.mia)
        if self.reason is None:
            del values["reason"]
        return values

    def _repr_html_(self) -> str:
        from unmem.evaluation.notebook import outcome_html

        return outcome_html(self)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


@dataclass(frozen=True)
class Evaluation:
    """Outcomes by method name, beside the controls and the reference they are read against.

    reference: the mean of the retrained models, or None. do_nothing: the original model as it is;
    None if the problem has none.
    retrain_vs_retrain: each retrained model against the mean of the others, averaged: what an honest retrain scores.
    shortfalls: whether retrained models fall far short of the original, so that ToW is no measure of unlearning.
    """

    methods: dict[str, Outcome]
    do_nothing: Outcome | None
    retrain_vs_retrain: Outcome | None
    reference: Outcome | None
    n_reference: int
    shortfalls: tuple[Shortfall, ...] = ()

    def __repr__(self) -> str:
        """A line per model."""
        controls = {"retrained": self.reference, "one retrain vs another": self.retrain_vs_retrain}
        shown = {**controls, **self.methods, "do nothing": self.do_nothing}
        lines = [f"  {name}: {outcome!r}" for name, outcome in shown.items() if outcome is not None]
        return "\n".join([f"Evaluation, against {self.n_reference} retrained models", *lines])

    @property
    def spread(self) -> float | None:
        """How far two honest retrains are apart in ToW: differences smaller than this mean nothing."""
        control = self.retrain_vs_retrain
        return None if control is None or control.tow is None else 1 - control.tow

    def best(self, among: Sequence[str]) -> str:
        """The method with the highest ToW of those named."""
        return max(among, key=lambda name: self.methods[name].tow or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """The sections `methods`, `controls` and `reference` of `result.json`."""
        missing = {"tow": None, "tow_mia": None, "reason": ONE_REFERENCE if self.n_reference else NO_REFERENCE}
        pair = self.retrain_vs_retrain
        return {
            "methods": {name: outcome.to_dict() for name, outcome in self.methods.items()},
            "controls": {
                "do_nothing": {"tow": None, "tow_mia": None, "reason": NO_ORIGINAL}
                if self.do_nothing is None
                else self.do_nothing.to_dict(),
                "retrain_vs_retrain": missing if pair is None else pair.to_dict(),
            },
            "reference": {"models": self.n_reference}
            | (
                {}
                if self.reference is None
                else {key: value for key, value in self.reference.to_dict().items() if key not in ("tow", "tow_mia")}
                | {"shortfalls": [one.to_dict() for one in self.shortfalls]}
            ),
        }

    def to_pandas(self) -> DataFrame:
        """A row per model, controls and reference among them (column `kind`), numbers as in `Outcome`, in [0, 1].

        Numbers by memorization part are in columns such as `low_tow`. Needs pandas.
        """
        from unmem.evaluation.frames import evaluation_frame

        return evaluation_frame(self)

    def _repr_html_(self) -> str:
        from unmem.evaluation.notebook import evaluation_html

        return evaluation_html(self)


def aggregates_only(evaluation: Evaluation, n_forget: int) -> Evaluation:
    """The evaluation without what would tell about single examples: for a small forget set, all that is measured on it.

    What anybody may read, such as the files of a run, holds this one.
    """
    if n_forget >= SMALLEST_CELL:
        return evaluation

    def kept(outcome: Outcome) -> Outcome:
        accuracy = outcome.accuracy | {"forget": math.nan}
        return replace(outcome, accuracy=accuracy, mia=math.nan, parts={}, tow=None, tow_mia=None, reason=TOO_FEW)

    return replace(
        evaluation,
        methods={name: kept(outcome) for name, outcome in evaluation.methods.items()},
        do_nothing=evaluation.do_nothing and kept(evaluation.do_nothing),
        retrain_vs_retrain=evaluation.retrain_vs_retrain and kept(evaluation.retrain_vs_retrain),
        reference=evaluation.reference and kept(evaluation.reference),
    )


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

    def outcome(self, model: nn.Module, seconds: float | None = None, needed: Needed = Needed()) -> Outcome:
        """What the model shows, and how close that is to the reference; `seconds` is what it took to make."""
        return self._timed(_compare(_measure(model, self._problem, self._parts), self._target), seconds, needed)

    def _timed(self, outcome: Outcome, spent: float | None, needed: Needed = Needed()) -> Outcome:
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
