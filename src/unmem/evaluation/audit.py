"""`audit`: all the evidence that the given models allow, and what is missing for the rest.

Every number of a model is compared with that of two controls: the original, which forgot nothing, and retrained models,
which never knew. A number whose input is missing is listed with the cost of that input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from unmem.data import Ids
from unmem.ensembles import Ensemble
from unmem.evaluation.evaluate import evaluate
from unmem.evaluation.evidence import Evidence, columns_of, mean_values
from unmem.evaluation.forecast import Forecast, forecast
from unmem.evaluation.klom import klom
from unmem.evaluation.log_odds import log_odds_of
from unmem.evaluation.logits import accuracy
from unmem.evaluation.outcome import DO_NOTHING, RETRAINED, Evaluation, aggregates_only
from unmem.evaluation.reasons import SMALLEST_CELL, TOO_FEW
from unmem.evaluation.soundness import Shortfall, baseline, shortfalls_of
from unmem.evaluation.verdict import FORECAST, Signal, Verdict, decide, numbers_of
from unmem.evaluation.witness import Judged, Real, Witness
from unmem.memorization import CrossFit
from unmem.tables import Column, Row, Table, markup
from unmem.targets import ShortTeacher, Source, Targets
from unmem.unlearning import Problem

if TYPE_CHECKING:
    from pandas import DataFrame

MEMBERS = 40  # enough for the tests of single examples
ANNEX = "--annex has a row for each"
_FREE = ("seed", "precision")  # of a recipe: what may differ between members and the model


@dataclass(frozen=True)
class Missing:
    """A number that could not be measured, what it needs, and about what that costs in trainings of the original
    (None: nothing but the file)."""

    what: str
    needs: str
    cost: float | None

    @property
    def text(self) -> str:
        cost = "" if self.cost is None else f", about {self.cost:.3g} trainings"
        return f"Not seen: {self.what}; that needs {self.needs}{cost}."


@dataclass(frozen=True, eq=False)
class Audit:
    """Everything that was measured of the audited models, and the verdicts.

    Attributes:
        evaluation: Accuracies and ToW.
        evidence: Evidence by name of the audited model.
        do_nothing: The same for the original, or None if it is not available.
        retrained: The same for each retrained model.
        verdicts: Verdict by name of the audited model.
        forecast: Forecast of the forget accuracy, or None.
        missing: Evidence that could not be had, with what it needs.
        notes: What weakens the verdicts, one sentence each.
        t: Student's t of each forget example, in the order of the request, by name of the model. It is personal data,
            so no report has it.
        shortfalls: Members and fold models that do not reach the accuracy of the original.
    """

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
        verdicts = [f"  {name}: {verdict.text}" for name, verdict in self.verdicts.items()]
        return "\n".join(["Audit", *verdicts, repr(self.evaluation)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `result.json`: aggregates only."""
        verdicts = {name: asdict(one) | {"signals": numbers_of(one.signals)} for name, one in self.verdicts.items()}
        found = self.evaluation.to_dict() | {
            "evidence": {name: asdict(one) for name, one in self.evidence.items()},
            "evidence_controls": {
                "do_nothing": None if self.do_nothing is None else asdict(self.do_nothing),
                "retrained": [asdict(one) for one in self.retrained],
            },
            "verdicts": verdicts,
            "forecast": None if self.forecast is None else asdict(self.forecast),
            "missing": [asdict(one) for one in self.missing],
            "notes": list(self.notes),
            "warnings": [one.to_dict() for one in self.shortfalls],
        }
        if len(self.verdicts) == 1:
            (only,) = verdicts.values()
            found |= {"verdict": only["finding"], "signals": only["signals"]}
            found["contradictions"] = list(only["contradictions"])
        return found

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
        findings = {name: verdict.finding for name, verdict in self.verdicts.items()}
        found = [replace(row, values={**row.values, "finding": findings.get(row.name)}) for row in rows]
        columns = [Column("finding", "finding"), *self._columns()]
        return Table(columns, found, names="model").to_pandas()

    def _rows(self) -> dict[str, Row]:
        rows = {name: one.row(name) for name, one in self.evidence.items()}
        return rows | ({} if self.do_nothing is None else {DO_NOTHING: self.do_nothing.row(DO_NOTHING, "control")})

    def _columns(self) -> list[Column]:
        known = [*self.evidence.values(), *self.retrained, *([] if self.do_nothing is None else [self.do_nothing])]
        return columns_of(known)

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
        return markup.page(
            f"Audit of {', '.join(self.evidence)}",
            *verdicts,
            self.table().filled().to_html(),
            *[one.tests_html(name) for name, one in self.evidence.items()],
            self.evaluation._repr_html_(),  # pyright: ignore[reportPrivateUsage]
            *[markup.paragraph(text, small=True) for text in [*self.notes, *(one.text for one in self.missing)]],
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
    """Judge unlearned models by all evidence that is available. Missing evidence is listed and stops nothing.

    Args:
        models: Models by name.
        problem: The request. Without its original there is no forecast and no control that does nothing, and the first
            of the models takes its place in checking whether the models trained for comparison are sound.
        reference: Models retrained without the forget set.
        members: An ensemble with outputs on unseen examples that neither picked nor refined the forget set.
        crossfit: For the forecast, if there are no members.
        targets: For the forecast in place of either; a source makes them first.
        parts: Ids of forget examples per memorization group.
        runs: For KLoM, further models of the same method, by name.
        relearning: Whether to measure what a little training on the retain set brings back.
        seed: Seed of attacks and relearning.

    Returns:
        The evidence and a verdict per model.
    """
    evaluation = evaluate(models, problem, reference=reference, parts=parts)
    witness = Witness(problem, reference, members, parts or {}, relearning, seed)
    source = next((one for one in (targets, members, crossfit) if one is not None), None)
    expected = None if problem.original is None else _forecast(problem, source, seed)
    further = runs or {}
    evidence = {
        name: replace(witness.evidence(model), **_klom([model, *further.get(name, ())], reference, problem))
        for name, model in models.items()
    }
    do_nothing = None if problem.original is None else witness.evidence(problem.original)
    judged = Judged(problem, evaluation, witness, do_nothing, expected)
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


def _shortfalls(
    problem: Problem, members: Ensemble | None, crossfit: CrossFit | None, *, stand_in: nn.Module | None
) -> tuple[Shortfall, ...]:
    """Members and fold models that do not reach the original, or the audited model in its place."""
    made = [one for one in (members, crossfit) if one is not None]
    reach, than = baseline(problem, stand_in)
    return () if reach is None else shortfalls_of(reach, made, problem.data, than=than)


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
