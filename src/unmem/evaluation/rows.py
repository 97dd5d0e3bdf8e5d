"""An evaluation as text: a row per model, a cell per number, a note for every number that is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unmem.evaluation.reasons import NO_REFERENCE, ONE_REFERENCE

if TYPE_CHECKING:
    from unmem.evaluation.outcome import Evaluation, Outcome

# Heading of each column, and what it means in one plain line.
COLUMNS = {
    "forget set": "Accuracy on the examples to forget. Retrained models never saw them.",
    "retain set": "Accuracy on the training examples that were kept.",
    "test set": "Accuracy on test examples; no model here was trained on them.",
    "called unseen (MIA)": "Share of the forget set that a membership inference attack takes for never seen.",
    "ToW": "Closeness to retraining by the three accuracies: the product of 1 − |difference|. 1 = same as retraining.",
    "ToW-MIA": "The same, with the attack in place of the accuracy on the forget set.",
    "seconds": "Time to make the model.",
    "cost": "Time to make the model, in trainings of the original; 1 = as long as training it.",
    "cost, all told": "Cost with the targets, scores and tuning that the method needed, whenever they were made.",
}
NO_OWN_TOW = "the reference itself: the others are compared with it"
NO_SECONDS = "time was not recorded"
NO_COST = "needs the time that training the original took"


@dataclass(frozen=True)
class Cell:
    """A number as text, or "–" with the mark of the note that says why; empty text where a number makes no sense."""

    label: str
    text: str
    mark: str = ""


@dataclass(frozen=True)
class Row:
    """kind: "reference", "control" or "method". explained: one plain line under the name, or empty."""

    name: str
    explained: str
    kind: str
    cells: list[Cell]


@dataclass
class Notes:
    """Reasons, each with the letter it goes by."""

    reasons: list[str] = field(default_factory=list[str])

    def mark(self, reason: str) -> str:
        if reason not in self.reasons:
            self.reasons.append(reason)
        return chr(ord("a") + self.reasons.index(reason))

    def listed(self) -> list[tuple[str, str]]:
        return [(self.mark(reason), reason) for reason in self.reasons]


def rows(evaluation: Evaluation, explained: Mapping[str, str], notes: Notes) -> list[Row]:
    """Reference, control, methods, control. Reasons for missing numbers are added to `notes`."""
    n = evaluation.n_reference
    table = [
        Row(
            "Retrained",
            _reference_line(n) + "; far short of the original" * bool(evaluation.shortfalls),
            "reference",
            _cells(evaluation.reference, notes, tow=NO_OWN_TOW if n else NO_REFERENCE),
        ),
        Row(
            "retrain against retrain",
            "control: what an honest retrain scores",
            "control",
            _cells(evaluation.retrain_vs_retrain, notes, tow=ONE_REFERENCE if n else NO_REFERENCE, only_tow=True),
        ),
    ]
    for name, outcome in evaluation.methods.items():
        table.append(Row(name, explained.get(name, ""), "method", _cells(outcome, notes)))
    if evaluation.do_nothing is None:
        return table
    nothing = _cells(evaluation.do_nothing, notes)
    return [*table, Row("do nothing", "control: the original model, as it is", "control", nothing)]


def reference_name(evaluation: Evaluation) -> str:
    """Name of the row of the retrained models: they are the goal only if they reach the original."""
    return "retrained (falls short)" if evaluation.shortfalls else "retrained (the goal)"


def outcome_row(name: str, outcome: Outcome, notes: Notes) -> Row:
    """One model alone."""
    return Row(name, "", "method", _cells(outcome, notes))


def _reference_line(n: int) -> str:
    if n == 0:
        return "reference: none was made"
    return "reference: one model" if n == 1 else f"reference: mean of {n} models"


def _cells(outcome: Outcome | None, notes: Notes, *, tow: str = NO_REFERENCE, only_tow: bool = False) -> list[Cell]:
    """tow: why ToW is missing, unless the outcome knows. only_tow: leave out what would repeat the reference."""
    if outcome is None:
        numbers = [None] * len(COLUMNS)
        reasons = [NO_REFERENCE] * 4 + [tow] * 2 + [NO_REFERENCE] * 3
    else:
        numbers = [
            *(_percent(outcome.accuracy[key]) for key in ("forget", "retain", "test")),
            _percent(outcome.mia),
            *(None if value is None else f"{value:.3f}" for value in (outcome.tow, outcome.tow_mia)),
            None if outcome.seconds is None else _seconds(outcome.seconds),
            *(None if value is None else f"{value:.2f}" for value in (outcome.cost, outcome.cost_all_told)),
        ]
        no_tow = outcome.reason or tow
        no_cost = NO_SECONDS if outcome.seconds is None else NO_COST
        reasons = [""] * 4 + [no_tow] * 2 + [NO_SECONDS] + [no_cost] * 2
    return [
        Cell(label, "") if only_tow and not label.startswith("ToW") else _cell(label, number, reason, notes)
        for label, number, reason in zip(COLUMNS, numbers, reasons, strict=True)
    ]


def _cell(label: str, number: str | None, reason: str, notes: Notes) -> Cell:
    return Cell(label, "–", notes.mark(reason)) if number is None else Cell(label, number)


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{share:.1%}"


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
