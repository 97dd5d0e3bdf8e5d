"""`audit`: all the evidence that the models at hand allow, and what is missing for the rest.

Every number of a model stands beside the same number of two controls: the original, which forgot nothing, and retrained
models, which never knew. Where an input is not there, what it would have given is listed with what it would cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unmem.data import Ids
from unmem.ensembles import Ensemble
from unmem.evaluation.attacks import attacks
from unmem.evaluation.distance import prediction_distance
from unmem.evaluation.evaluate import evaluate
from unmem.evaluation.evidence import Evidence, columns_of, mean_values
from unmem.evaluation.forecast import Forecast, forecast
from unmem.evaluation.klom import klom
from unmem.evaluation.log_odds import MemberLogOdds, log_odds_of
from unmem.evaluation.logits import accuracy, correct, model_logits
from unmem.evaluation.outcome import DO_NOTHING, RETRAINED, Evaluation, aggregates_only
from unmem.evaluation.reasons import SMALLEST_CELL, TOO_FEW
from unmem.evaluation.relearning import ConfidenceChange, Relearning, relearn, relearning
from unmem.evaluation.single_model import TAIL, Judge, SingleModelTest
from unmem.evaluation.soundness import Shortfall, baseline, shortfalls_of
from unmem.evaluation.verdict import (
    FORECAST,
    Signal,
    Verdict,
    decide,
    from_accuracies,
    from_attack,
    from_damage,
    from_forecast,
    from_relearning,
    from_test,
    numbers_of,
)
from unmem.memorization import CrossFit
from unmem.tables import Column, Row, Table, markup
from unmem.targets import ShortTeacher, Source, Targets
from unmem.unlearning import Problem

if TYPE_CHECKING:
    from pandas import DataFrame

Real = NDArray[np.float64]
MEMBERS = 40  # enough for the tests of single examples
TAUGHT = 0.5  # share of a class in the forget set from which on members, which kept most of it, are no judges
_JUDGED_BY = ("lira", "lira-online", "rmia")  # attacks that judge each example by its own difficulty
ANNEX = "--annex has a row for each"
_FREE = ("seed", "precision")  # of a recipe: what may differ between members and the model


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
    them. shortfalls: members and fold models that do not reach the original; retrained models that do not are in the
    evaluation. t: of each forget example in the order of the request, by model: personal data, and so in no report."""

    evaluation: Evaluation
    evidence: dict[str, Evidence]
    do_nothing: Evidence | None
    retrained: tuple[Evidence, ...]
    verdicts: dict[str, Verdict]
    forecast: Forecast | None
    missing: tuple[Missing, ...]
    notes: tuple[str, ...]
    t: dict[str, Real]
    shortfalls: tuple[Shortfall, ...] = ()

    def __repr__(self) -> str:
        """A line per verdict, then the evaluation."""
        said = [f"  {name}: {verdict.text}" for name, verdict in self.verdicts.items()]
        return "\n".join(["Audit", *said, repr(self.evaluation)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `result.json`: aggregates only."""
        return self.evaluation.to_dict() | {
            "evidence": {name: _plain(one) for name, one in self.evidence.items()},
            "evidence_controls": {
                "do_nothing": None if self.do_nothing is None else _plain(self.do_nothing),
                "retrained": [_plain(one) for one in self.retrained],
            },
            "verdicts": {name: _said(one) for name, one in self.verdicts.items()},
            "forecast": None if self.forecast is None else asdict(self.forecast),
            "missing": [asdict(one) for one in self.missing],
            "notes": list(self.notes),
            "warnings": [one.to_dict() for one in self.shortfalls],
            **(_the_one(next(iter(self.verdicts.values()))) if len(self.verdicts) == 1 else {}),
        }

    def aggregates(self, n_forget: int) -> Audit:
        """Without what would tell about single examples: of a small forget set, nothing that is measured on it."""
        if n_forget >= SMALLEST_CELL:
            return self
        nothing = Evidence(test=None, parts={}, attacks={}, distance=None, relearning=None)
        missing = Missing("all that is measured on the forget set", f"{SMALLEST_CELL} forget examples; {ANNEX}", None)
        return replace(
            self,
            evaluation=aggregates_only(self.evaluation, n_forget),
            evidence=dict.fromkeys(self.evidence, nothing),
            do_nothing=None if self.do_nothing is None else nothing,
            retrained=tuple(nothing for _ in self.retrained),
            verdicts={name: decide([Signal(FORECAST, "cannot say", TOO_FEW)]) for name in self.verdicts},
            forecast=None,
            missing=(missing, *self.missing),
        )

    def table(self) -> Table:
        """A row for each model: the mean of the retrained ones, the audited ones, doing nothing."""
        rows = list(self._rows().values())
        if self.retrained:
            control = next((one.klom_control for one in self.evidence.values()), None)
            names = {row.name: row for row in self.evaluation.table().rows}
            values = [one.values | {"klom": control} for one in self.retrained]
            rows.insert(0, Row(RETRAINED, mean_values(values), "reference", label=names[RETRAINED].label))
        return Table(self._columns(), rows, names="model")

    def to_pandas(self) -> DataFrame:
        """A row per model (column `kind`: method, control or reference), a column per number of its evidence.

        Each retrained model has its own row. Intervals are in columns such as `auc_confidence_low`. Aggregates only.
        Needs pandas.
        """
        each = [one.row(f"{RETRAINED} {k}", "reference") for k, one in enumerate(self.retrained, 1)]
        rows = [*each, *self._rows().values()]
        found = [replace(row, values={**row.values, "finding": self._finding(row.name)}) for row in rows]
        columns = [Column("finding", "finding"), *self._columns()]
        return Table(columns, found, names="model").to_pandas()

    def _rows(self) -> dict[str, Row]:
        rows = {name: one.row(name) for name, one in self.evidence.items()}
        return rows | ({} if self.do_nothing is None else {DO_NOTHING: self.do_nothing.row(DO_NOTHING, "control")})

    def _columns(self) -> list[Column]:
        known = [*self.evidence.values(), *self.retrained, *([] if self.do_nothing is None else [self.do_nothing])]
        return columns_of(known)

    def _finding(self, name: str) -> str | None:
        return self.verdicts[name].finding if name in self.verdicts else None

    def _repr_html_(self) -> str:
        verdicts = [
            markup.paragraph(f"{name}: {verdict.text}. By: {verdict.basis}.") for name, verdict in self.verdicts.items()
        ]
        forecast = self.forecast
        if forecast is not None:
            verdicts.append(
                markup.paragraph(
                    f"A model retrained without them is expected to get {forecast.accuracy:.1%} of the forget set "
                    f"right ({forecast.low:.1%} to {forecast.high:.1%})."
                )
            )
        unseen = [
            f"Not seen: {one.what}; that needs {one.needs}"
            + ("." if one.cost is None else f", about {one.cost:.3g} trainings.")
            for one in self.missing
        ]
        return markup.page(
            f"Audit of {', '.join(self.evidence)}",
            *verdicts,
            self.table().filled().to_html(),
            *[one.tests_html(name) for name, one in self.evidence.items()],
            self.evaluation._repr_html_(),  # pyright: ignore[reportPrivateUsage]
            *[markup.paragraph(text, small=True) for text in [*self.notes, *unseen]],
        )


def audit(
    models: Mapping[str, nn.Module],
    problem: Problem,
    *,
    reference: Sequence[nn.Module] = (),
    members: Ensemble | None = None,
    crossfit: CrossFit | None = None,
    targets: Targets | Source | None = None,
    parts: Mapping[str, Ids] | None = None,
    runs: Mapping[str, Sequence[nn.Module]] | None = None,
    relearning: bool = True,
    seed: int = 0,
) -> Audit:
    """Judge unlearned models by all that is at hand; what is not at hand is listed and stops nothing.

    reference: models retrained without the forget set. members: an ensemble that knows unseen examples and neither
    picked nor refined the forget set. crossfit: for the forecast, where there are no members. targets: for the forecast
    in place of either; a source makes them first. parts: ids of forget examples by memorization part. runs: for KLoM,
    further models that the same method made. A problem without the original gives no forecast and no control that does
    nothing; the first of the models then stands in for it, to see whether the models trained for comparison are sound.
    """
    evaluation = evaluate(models, problem, reference=reference, parts=parts)
    witness = _Witness(problem, reference, members, parts or {}, relearning, seed)
    source = next((one for one in (targets, members, crossfit) if one is not None), None)
    expected = None if problem.original is None else _forecast(problem, source, seed)
    further = runs or {}
    evidence = {
        name: replace(witness.evidence(model), **_klom([model, *further.get(name, ())], reference, problem))
        for name, model in models.items()
    }
    do_nothing = None if problem.original is None else witness.evidence(problem.original)
    judged = _Judged(problem, evaluation, witness, do_nothing, expected)
    doubts = _shortfalls(problem, members, crossfit, stand_in=next(iter(models.values()), None))
    broken = "; ".join(one.claim for one in (*evaluation.shortfalls, *doubts)) or None
    return Audit(
        evaluation=evaluation,
        evidence=evidence,
        do_nothing=do_nothing,
        retrained=witness.honest,
        verdicts={
            name: decide(judged.signals(one, models[name], evaluation.methods[name].accuracy["forget"]), broken=broken)
            for name, one in evidence.items()
        },
        forecast=expected,
        missing=tuple(_missing(problem, len(reference), members, expected, evidence)),
        notes=tuple(_notes(problem, members)),
        shortfalls=doubts,
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
        said = self.signals.model_log_odds(model, self.problem.forget, self.problem.holdout)
        return self.judge.t(said, damaged=self.damage(model) is not None)

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
        return from_damage(ours, members.unseen.correct[:, kept].mean(1))

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
class _Judged:
    """What the evidence on each model is held against."""

    problem: Problem
    evaluation: Evaluation
    witness: _Witness
    do_nothing: Evidence | None
    expected: Forecast | None

    def signals(self, evidence: Evidence, model: nn.Module, forget_accuracy: float) -> list[Signal]:
        """All that speaks of one model, the strongest first."""
        return [
            *self._test(evidence),
            *self._accuracies(forget_accuracy),
            *(
                from_attack(name, evidence.attacks[name], [one.attacks[name] for one in self.witness.honest])
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
        yield from_test(
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
            yield from_accuracies(ours, theirs, n, do_nothing=nothing)
        taught = _taught(self.problem)
        if self.expected is not None and taught:
            yield Signal(FORECAST, "cannot say", taught)
        elif self.expected is not None:
            yield from_forecast(ours, self.expected, do_nothing=nothing)

    def _relearning(self, evidence: Evidence) -> Iterator[Signal]:
        if evidence.relearning is not None:
            retrained = len(self.witness.reference)
            yield from_relearning(evidence.relearning, retrained=retrained, level=self.witness.level)


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


def _shortfalls(
    problem: Problem, members: Ensemble | None, crossfit: CrossFit | None, *, stand_in: nn.Module | None
) -> tuple[Shortfall, ...]:
    """Members and fold models that do not reach the original, or the audited model in its place."""
    made = [one for one in (members, crossfit) if one is not None]
    reach, than = baseline(problem, stand_in)
    return () if reach is None else shortfalls_of(reach, made, problem.data, than=than)


def _said(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain values."""
    return asdict(verdict) | {"signals": numbers_of(verdict.signals)}


def _the_one(verdict: Verdict) -> dict[str, Any]:
    """The verdict on the only model that was audited, on top of `result.json`."""
    return {
        "verdict": verdict.finding,
        "signals": numbers_of(verdict.signals),
        "contradictions": list(verdict.contradictions),
    }


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
    found: Real = model_logits(model, problem.forget).double().log_softmax(1).cpu().numpy()
    return found


def _forecast(problem: Problem, source: CrossFit | Ensemble | Targets | Source | None, seed: int) -> Forecast | None:
    if source is None:
        return None
    made = source(problem, seed=seed) if isinstance(source, Source) else source
    return forecast(made, problem.forget, unseen_accuracy=accuracy(problem.model, problem.holdout))


def _missing(
    problem: Problem,
    reference: int,
    members: Ensemble | None,
    expected: Forecast | None,
    evidence: Mapping[str, Evidence],
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
        needs = "the original model, and targets by a short teacher"
        if problem.original is not None:
            needs = "targets by a short teacher"
        yield Missing("forecast of the forget accuracy", needs, ShortTeacher().cost(problem))
    if problem.original is None:
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
