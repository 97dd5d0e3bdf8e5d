"""`audit`: all the evidence that the models at hand allow, and what is missing for the rest.

Every number of a model stands beside the same number of two controls: the original, which forgot nothing, and retrained
models, which never knew. Where an input is not there, what it would have given is listed with what it would cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from unmem.data import Ids
from unmem.ensembles import Ensemble
from unmem.evaluation.attacks import Attack, attacks
from unmem.evaluation.distance import prediction_distance
from unmem.evaluation.forecast import Forecast, forecast
from unmem.evaluation.klom import klom
from unmem.evaluation.membership import accuracy
from unmem.evaluation.outcome import SMALLEST_CELL, Evaluation, evaluate
from unmem.evaluation.relearning import Relearning, relearn
from unmem.evaluation.signals import Signals, log_odds_of
from unmem.evaluation.single_model import Judge, SingleModelTest
from unmem.evaluation.verdict import Verdict, damaged, from_accuracies, from_forecast, from_test, unknown
from unmem.memorization import CrossFit
from unmem.training import predict
from unmem.unlearning import Problem

if TYPE_CHECKING:
    from pandas import DataFrame

Real = NDArray[np.float64]
MEMBERS = 40  # enough for the tests of single examples
_FREE = ("seed", "precision")  # of a recipe: what may differ between members and the model


@dataclass(frozen=True)
class Evidence:
    """What was seen of one model; None for what could not be had.

    test: the single-model test on the forget set; parts: on each memorization part. attacks: by signal, see `Attack`.
    distance: mean symmetric KL, in nats, to the predictions of retrained models on the forget set; 0 = the same.
    relearning: see there. klom: mean over the forget set, of this and further runs of the method against retrained
    models; klom_control: the same of as many retrained models.
    """

    test: SingleModelTest | None
    parts: dict[str, SingleModelTest | None]
    attacks: dict[str, Attack]
    distance: float | None
    relearning: Relearning | None
    klom: float | None = None
    klom_control: float | None = None

    def _repr_html_(self) -> str:
        from unmem.evaluation.notebook import evidence_html

        return evidence_html(self)


@dataclass(frozen=True)
class Missing:
    """What could not be had, what it needs, and about what that costs in trainings of the original (None: nothing but
    the file)."""

    what: str
    needs: str
    cost: float | None


@dataclass(frozen=True, eq=False)
class Audit:
    """evaluation: accuracies and ToW. evidence: by model audited. do_nothing: the same for the original, None if it is
    not at hand. retrained: for each retrained model. verdicts: by model audited. notes: what weakens
    them. t: of each forget example in the order of the request, by model: about single persons, and so in no report."""

    evaluation: Evaluation
    evidence: dict[str, Evidence]
    do_nothing: Evidence | None
    retrained: tuple[Evidence, ...]
    verdicts: dict[str, Verdict]
    forecast: Forecast | None
    missing: tuple[Missing, ...]
    notes: tuple[str, ...]
    t: dict[str, Real]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `result.json`: aggregates only."""
        return self.evaluation.to_dict() | {
            "evidence": {name: _plain(one) for name, one in self.evidence.items()},
            "evidence_controls": {
                "do_nothing": None if self.do_nothing is None else _plain(self.do_nothing),
                "retrained": [_plain(one) for one in self.retrained],
            },
            "verdicts": {name: asdict(one) for name, one in self.verdicts.items()},
            "forecast": None if self.forecast is None else asdict(self.forecast),
            "missing": [asdict(one) for one in self.missing],
            "notes": list(self.notes),
        }

    def to_pandas(self) -> DataFrame:
        """A row per model (column `kind`: method, control or reference), a column per number of its evidence.

        Intervals are in columns such as `auc_confidence_low`. Aggregates only. Needs pandas.
        """
        from unmem.evaluation.frames import audit_frame

        return audit_frame(self)

    def _repr_html_(self) -> str:
        from unmem.evaluation.notebook import audit_html

        return audit_html(self)


def audit(
    models: Mapping[str, nn.Module],
    problem: Problem,
    *,
    reference: Sequence[nn.Module] = (),
    members: Ensemble | None = None,
    crossfit: CrossFit | None = None,
    parts: Mapping[str, Ids] | None = None,
    runs: Mapping[str, Sequence[nn.Module]] | None = None,
    original: bool = True,
    relearning: bool = True,
    seed: int = 0,
) -> Audit:
    """Judge unlearned models by all that is at hand; what is not at hand is listed and stops nothing.

    reference: models retrained without the forget set. members: an ensemble that knows unseen examples and neither
    picked nor refined the forget set. crossfit: for the forecast, where there are no members. parts: ids of forget
    examples by memorization part. runs: for KLoM, further models that the same method made. original: whether
    `problem.model` is the original; if not, it only stands in.
    """
    evaluation = evaluate(models, problem, reference=reference, parts=parts, original=original)
    witness = _Witness(problem, reference, members, parts or {}, relearning, seed)
    expected = _forecast(problem, members, crossfit, original=original)
    truth = [accuracy(model, problem.forget) for model in reference]
    further = runs or {}
    evidence = {
        name: replace(witness.evidence(model), **_klom([model, *further.get(name, ())], reference, problem))
        for name, model in models.items()
    }
    honest = tuple(witness.evidence(model, without=k) for k, model in enumerate(reference))
    return Audit(
        evaluation=evaluation,
        evidence=evidence,
        do_nothing=witness.evidence(problem.model) if original else None,
        retrained=honest,
        verdicts={
            name: witness.doubt(
                models[name],
                _verdict(
                    one, honest, evaluation.methods[name].accuracy["forget"], truth, expected, len(problem.forget)
                ),
            )
            for name, one in evidence.items()
        },
        forecast=expected,
        missing=tuple(_missing(problem, len(reference), members, expected, evidence, original=original)),
        notes=tuple(_notes(problem, members)),
        t={} if witness.judge is None else {name: witness.t(model) for name, model in models.items()},
    )


class _Witness:
    """What is measured once and then serves every model."""

    def __init__(
        self,
        problem: Problem,
        reference: Sequence[nn.Module],
        members: Ensemble | None,
        parts: Mapping[str, Ids],
        relearning: bool,
        seed: int,
    ) -> None:
        self.problem, self.relearning, self.seed = problem, relearning, seed
        self.cells = {name: problem.forget.positions(ids) for name, ids in parts.items()}
        self.signals = None if members is None else Signals.of(members, problem.forget.ids)
        self.judge = None if self.signals is None else Judge.make(self.signals)
        self.sound = None if members is None or members.unseen is None else members.unseen.correct.mean(1)
        self.reference = [_log_probs(model, problem) for model in reference]

    def evidence(self, model: nn.Module, *, without: int | None = None) -> Evidence:
        """without: the place of this very model among the retrained ones."""
        others = [probs for k, probs in enumerate(self.reference) if k != without]
        enough = self.judge is not None and len(self.problem.forget) >= SMALLEST_CELL
        return Evidence(
            test=self._test(self.t(model), None) if enough else None,
            parts={name: self._test(self.t(model), cell) for name, cell in self.cells.items()} if enough else {},
            attacks=attacks(model, self.problem, self.signals, seed=self.seed),
            distance=float(prediction_distance(_log_probs(model, self.problem), others).mean()) if others else None,
            relearning=relearn(model, self.problem, seed=self.seed) if self.relearning else None,
        )

    def doubt(self, model: nn.Module, verdict: Verdict) -> Verdict:
        """The verdict, weakened where the model is wrong about everything."""
        if self.sound is None:
            return verdict
        return damaged(verdict, accuracy(model, self.problem.holdout), self.sound)

    def t(self, model: nn.Module) -> Real:
        if self.judge is None:
            raise ValueError("there are no members")
        return self.judge.t(*(log_odds_of(model, examples) for examples in (self.problem.forget, self.problem.holdout)))

    def _test(self, t: Real, cell: NDArray[np.int64] | None) -> SingleModelTest | None:
        if self.judge is None or (cell is not None and len(cell) < SMALLEST_CELL):
            return None
        return self.judge.test(t, cell)


def _klom(made: Sequence[nn.Module], reference: Sequence[nn.Module], problem: Problem) -> dict[str, float | None]:
    """KLoM of a method and its control: the same retrained models against as many other retrained ones."""
    n = min(len(made), len(reference) // 2)
    if n < 2:
        return {}
    ours, theirs, others = (
        np.stack([log_odds_of(model, problem.forget) for model in models])
        for models in (made[:n], reference[:n], reference[n:])
    )
    return {"klom": float(klom(ours, others).mean()), "klom_control": float(klom(theirs, others).mean())}


def _log_probs(model: nn.Module, problem: Problem) -> Real:
    found: Real = predict(model, problem.forget).double().log_softmax(1).cpu().numpy()
    return found


def _forecast(
    problem: Problem, members: Ensemble | None, crossfit: CrossFit | None, *, original: bool
) -> Forecast | None:
    source = members if members is not None else crossfit
    if source is None or not original:
        return None
    return forecast(source, problem.forget, unseen_accuracy=accuracy(problem.model, problem.holdout))


def _verdict(
    evidence: Evidence,
    honest: Sequence[Evidence],
    forget_accuracy: float,
    retrained: Sequence[float],
    expected: Forecast | None,
    n: int,
) -> Verdict:
    """By the strongest evidence at hand: single examples, then retrained models, then the forecast."""
    if evidence.test is not None:
        return from_test(evidence.test, evidence.parts, [one.test for one in honest if one.test is not None])
    if len(retrained) > 1:
        return from_accuracies(forget_accuracy, retrained, n)
    if expected is not None:
        return from_forecast(forget_accuracy, expected)
    return unknown()


def _missing(
    problem: Problem,
    reference: int,
    members: Ensemble | None,
    expected: Forecast | None,
    evidence: Mapping[str, Evidence],
    *,
    original: bool,
) -> Iterator[Missing]:
    share = len(problem.retain) / len(problem.data.train)
    if members is None:
        yield Missing(
            "test of single examples, LiRA and RMIA", f"an ensemble of about {MEMBERS} members", 0.7 * MEMBERS
        )
    elif len(problem.forget) < SMALLEST_CELL:
        yield Missing("test of single examples", f"{SMALLEST_CELL} forget examples; fewer tell about persons", None)
    if reference == 0:
        yield Missing("ToW, ToW-MIA and the distance to retraining", "a retrained model", share)
    if reference < 2:
        yield Missing(
            "what two honest retrains score against each other", "two retrained models", (2 - reference) * share
        )
    if all(one.klom is None for one in evidence.values()):
        yield Missing(
            "KLoM, which judges a method and not a model", "two runs of it and four retrained models", 4 * share
        )
    if expected is None:
        needs = "a cross-fit" if original else "the original model, and a cross-fit or members"
        yield Missing("forecast of the forget accuracy", needs, 1.0)
    if not original:
        yield Missing("what doing nothing would show", "the original model", None)


def _notes(problem: Problem, members: Ensemble | None) -> Iterator[str]:
    theirs = {} if members is None else members.settings.get("recipe", {})
    ours = asdict(problem.recipe)
    shared = [key for key in ours if key in theirs and key not in _FREE and theirs[key] != ours[key]]
    differ = [f"{key} {theirs[key]} instead of {ours[key]}" for key in shared]
    if differ:
        yield f"the members were trained by another recipe ({', '.join(differ)}): their test may be unfair"


def _plain(evidence: Evidence) -> dict[str, Any]:
    return asdict(evidence)
