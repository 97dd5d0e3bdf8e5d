"""The evidence on one model of an audit, and the signals that it gives for the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unmem.data import Ids
from unmem.ensembles import Ensemble
from unmem.evaluation import verdict
from unmem.evaluation.attacks import attacks
from unmem.evaluation.distance import prediction_distance
from unmem.evaluation.evidence import Evidence
from unmem.evaluation.forecast import Forecast
from unmem.evaluation.log_odds import MemberLogOdds
from unmem.evaluation.logits import accuracy, correct, model_logits
from unmem.evaluation.outcome import Evaluation
from unmem.evaluation.reasons import SMALLEST_CELL
from unmem.evaluation.relearning import ConfidenceChange, Relearning, relearn, relearning
from unmem.evaluation.single_model import TAIL, Judge, SingleModelTest
from unmem.evaluation.verdict import Signal
from unmem.unlearning import Problem

Real = NDArray[np.float64]
TAUGHT = 0.5  # share of a class in the forget set above which members, which kept most of it, cannot judge
_JUDGED_BY = ("lira", "lira-online", "rmia")  # attacks that judge each example by its own difficulty


class Witness:
    """Measures the evidence of one model after another; what they share is measured once."""

    def __init__(
        self,
        problem: Problem,
        reference: Sequence[nn.Module],
        members: Ensemble | None,
        parts: Mapping[str, Ids],
        relearning: bool,
        seed: int,
    ) -> None:
        self.problem, self.reference, self.relearning, self.seed = problem, reference, relearning, seed
        self.cells = {name: problem.forget.positions(ids) for name, ids in parts.items()}
        self.signals = None if members is None else MemberLogOdds.of(members, problem.forget.ids)
        self.judge = None if self.signals is None else Judge.make(self.signals)
        self.log_probs = [_log_probs(model, problem) for model in reference]
        self._members = members
        self.retrained_t = [] if self.judge is None else [self.t(model) for model in reference]
        self.rises: list[ConfidenceChange] = (
            [relearn(model, problem, seed=seed) for model in reference] if relearning else []
        )

    @property
    def level(self) -> float:
        """Of each side and set: the forget set, its groups and relearning share the level of the verdict."""
        groups = sum(len(cell) >= SMALLEST_CELL for cell in self.cells.values())
        return TAIL / (1 + groups + bool(self.rises))

    @cached_property
    def honest(self) -> tuple[Evidence, ...]:
        """Of each retrained model, against the others."""
        return tuple(self.evidence(model, without=k) for k, model in enumerate(self.reference))

    def evidence(self, model: nn.Module, *, without: int | None = None) -> Evidence:
        """without: the place of this very model among the retrained ones."""
        others = [k for k in range(len(self.reference)) if k != without]
        distances = [self.log_probs[k] for k in others]
        test, parts = self._tests(model, others)
        return Evidence(
            test=test,
            parts=parts,
            attacks=attacks(model, self.problem, self.signals, seed=self.seed),
            distance=float(prediction_distance(_log_probs(model, self.problem), distances).mean()) if others else None,
            relearning=self._relearned(model, others, without) if self.relearning else None,
        )

    def t(self, model: nn.Module) -> Real:
        if self.judge is None or self.signals is None:
            raise ValueError("there are no members")
        observed = self.signals.model_log_odds(model, self.problem.forget, self.problem.holdout)
        return self.judge.t(observed, damaged=self.damage(model) is not None)

    def damage(self, model: nn.Module) -> Signal | None:
        """Whether the model is wrong about unseen examples of the classes that are left in the retain set."""
        members = self._members
        if members is None or members.unseen is None:
            return None
        left = torch.bincount(self.problem.retain.labels, minlength=self.problem.retain.n_classes) > 0
        kept = left[self.problem.holdout.labels].cpu().numpy()
        if not kept.any():
            return None
        ours = float(correct(model, self.problem.holdout)[kept].mean())
        return verdict.from_damage(ours, members.unseen.correct[:, kept].mean(1))

    def _tests(
        self, model: nn.Module, others: Sequence[int]
    ) -> tuple[SingleModelTest | None, dict[str, SingleModelTest | None]]:
        judge = self.judge
        if judge is None or len(self.problem.forget) < SMALLEST_CELL:
            return None, {}
        t, honest = self.t(model), [self.retrained_t[k] for k in others]
        return judge.test(t, level=self.level, retrained=honest), {
            name: judge.test(t, cell, level=self.level, retrained=honest) if len(cell) >= SMALLEST_CELL else None
            for name, cell in self.cells.items()
        }

    def _relearned(self, model: nn.Module, others: Sequence[int], without: int | None) -> Relearning:
        ours = relearn(model, self.problem, seed=self.seed) if without is None else self.rises[without]
        return relearning(ours, [self.rises[k] for k in others])


@dataclass(frozen=True, eq=False)
class Judged:
    """Turns the evidence of a model into signals for its verdict, by comparison with the controls."""

    problem: Problem
    evaluation: Evaluation
    witness: Witness
    do_nothing: Evidence | None
    expected: Forecast | None

    def signals(self, evidence: Evidence, model: nn.Module, forget_accuracy: float) -> list[Signal]:
        """All signals about one model, the strongest first."""
        return [
            *self._test(evidence),
            *self._accuracies(forget_accuracy),
            *(
                verdict.from_attack(name, evidence.attacks[name], [one.attacks[name] for one in self.witness.honest])
                for name in _JUDGED_BY
                if name in evidence.attacks
            ),
            *self._relearning(evidence),
            *(one for one in [self.witness.damage(model)] if one is not None),
        ]

    def _test(self, evidence: Evidence) -> Iterator[Signal]:
        if evidence.test is None:
            return
        nothing = self.do_nothing
        relearned = evidence.relearning.p if evidence.relearning is not None and self.witness.reference else None
        yield verdict.from_test(
            evidence.test,
            evidence.parts,
            do_nothing=None if nothing is None else _tests_of(nothing),
            relearned=relearned,
            over_untestable=None if self.witness.reference else _taught(self.problem),
            alone=not self.witness.reference,
        )

    def _accuracies(self, ours: float) -> Iterator[Signal]:
        n = len(self.problem.forget)
        original = self.evaluation.do_nothing
        nothing = None if original is None else original.accuracy["forget"]
        if self.witness.reference:
            theirs = [accuracy(model, self.problem.forget) for model in self.witness.reference]
            yield verdict.from_accuracies(ours, theirs, n, do_nothing=nothing)
        taught = _taught(self.problem)
        if self.expected is not None and taught:
            yield Signal(verdict.FORECAST, "cannot say", taught)
        elif self.expected is not None:
            yield verdict.from_forecast(ours, self.expected, do_nothing=nothing)

    def _relearning(self, evidence: Evidence) -> Iterator[Signal]:
        if evidence.relearning is not None:
            retrained = len(self.witness.reference)
            yield verdict.from_relearning(evidence.relearning, retrained=retrained, level=self.witness.level)


def _tests_of(evidence: Evidence) -> dict[str, SingleModelTest] | None:
    if evidence.test is None:
        return None
    return {"": evidence.test} | {name: one for name, one in evidence.parts.items() if one is not None}


def _taught(problem: Problem) -> str | None:
    """Why members cannot see over-forgetting of this set: it holds most of a class, which they kept most of."""
    train = problem.data.train
    had = torch.bincount(train.labels, minlength=train.n_classes)
    gone = torch.bincount(problem.forget.labels, minlength=train.n_classes)
    most = [k for k in range(train.n_classes) if gone[k] >= SMALLEST_CELL and gone[k] > TAUGHT * had[k]]
    if not most:
        return None
    named = ", ".join(map(problem.data.title, most))
    return (
        f"the forget set holds most of class {named}, of which the members kept a large part: they cannot show how "
        "badly a model without it should know it; retrained models can"
    )


def _log_probs(model: nn.Module, problem: Problem) -> Real:
    found: Real = model_logits(model, problem.forget).double().log_softmax(1).cpu().numpy()
    return found
