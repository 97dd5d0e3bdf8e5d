"""The one table of a run, for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping

from unmem.cli.fitting import Fitted
from unmem.evaluation import Audit, Evaluation, Outcome
from unmem.evaluation.evidence_rows import EVIDENCE, evidence_rows
from unmem.evaluation.rows import reference_name

COLUMNS = ("", "forget", "retain", "test", "ToW", "ToW-MIA", "cost", "cost,\nall told")


def outcome_table(evaluation: Evaluation, names: Mapping[str, str]) -> Fitted:
    """Methods between the two controls; `names` maps a method's key to what a reader should see. A column only where
    something has a number."""
    rows: list[list[str]] = []
    if evaluation.reference is not None:
        rows.append(_row(reference_name(evaluation), evaluation.reference))
    if evaluation.retrain_vs_retrain is not None:
        rows.append(_row("  one retrain vs another", evaluation.retrain_vs_retrain, accuracies=False))
    rows += [_row(names.get(key, key), outcome) for key, outcome in evaluation.methods.items()]
    if evaluation.do_nothing is not None:
        rows.append(_row("do nothing", evaluation.do_nothing))
    return Fitted.filled(COLUMNS, rows)


def evidence_table(audit: Audit) -> Fitted:
    """What was seen of each model, in words a reader can check; a column only where something has a number."""
    rows = evidence_rows(audit)
    shown = [title for title in EVIDENCE if any(row[title] is not None for row in rows.values())]
    return Fitted(("", *shown), [[name, *(row[title] or "" for title in shown)] for name, row in rows.items()])


def _row(name: str, outcome: Outcome, *, accuracies: bool = True) -> list[str]:
    shares = [_share(outcome.accuracy[key]) if accuracies else "" for key in ("forget", "retain", "test")]
    return [name, *shares, _number(outcome.tow), _number(outcome.tow_mia), *_costs(outcome)]


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _costs(outcome: Outcome) -> list[str]:
    return ["" if cost is None else f"{cost:.2f}" for cost in (outcome.cost, outcome.cost_all_told)]
