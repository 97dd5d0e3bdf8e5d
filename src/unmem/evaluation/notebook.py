"""Evaluations and audits as a notebook shows them: small tables, every number beside its controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmem.evaluation.evidence_rows import EVIDENCE, PART_COLUMNS, evidence_rows, one_row, part_rows
from unmem.evaluation.rows import COLUMNS, Notes, Row, outcome_row, rows
from unmem.html import page, paragraph, table

if TYPE_CHECKING:
    from unmem.evaluation.audit import Audit, Evidence
    from unmem.evaluation.outcome import Evaluation, Outcome, Part

_ATTACKS = {"AUC": "confidence", "LiRA": "lira", "RMIA": "rmia"}  # column -> signal whose interval it has


def evaluation_html(evaluation: Evaluation) -> str:
    notes = Notes()
    found = rows(evaluation, {}, notes)
    spread = evaluation.spread
    pieces = [*[paragraph(f"Warning: {one.text}.") for one in evaluation.shortfalls], _numbers(found, notes)]
    if spread is not None:
        pieces.append(
            paragraph(f"Two honest retrains differ by {spread:.3f} in ToW: smaller differences mean nothing.")
        )
    methods = {name: ("method", outcome) for name, outcome in evaluation.methods.items()}
    reference = {} if evaluation.reference is None else {"Retrained": ("reference", evaluation.reference)}
    nothing = {} if evaluation.do_nothing is None else {"do nothing": ("control", evaluation.do_nothing)}
    return page(
        f"{len(methods):,} unlearned model{'s' * (len(methods) != 1)}, {evaluation.n_reference} retrained",
        *pieces,
        _parts({**reference, **methods, **nothing}),
    )


def outcome_html(outcome: Outcome) -> str:
    notes = Notes()
    row = outcome_row("this model", outcome, notes)
    return page(
        "One model",
        _numbers([row], notes),
        _parts({"this model": ("method", outcome)}),
        paragraph("Read it beside retraining and doing nothing: they are in the evaluation it is from.", small=True),
    )


def audit_html(audit: Audit) -> str:
    verdicts = [paragraph(f"{name}: {verdict.text}. By: {verdict.basis}.") for name, verdict in audit.verdicts.items()]
    forecast = audit.forecast
    if forecast is not None:
        verdicts.append(
            paragraph(
                f"A model retrained without them is expected to get {forecast.accuracy:.1%} of the forget set right "
                f"({forecast.low:.1%} to {forecast.high:.1%})."
            )
        )
    unseen = [
        f"Not seen: {one.what}; that needs {one.needs}"
        + ("." if one.cost is None else f", about {one.cost:.3g} trainings.")
        for one in audit.missing
    ]
    tests = [
        paragraph(f"Known too well and too badly, {name}:")
        + table(PART_COLUMNS, [("", k, v) for k, v in found.items()])
        for name, one in audit.evidence.items()
        if (found := part_rows(one))
    ]
    return page(
        f"Audit of {', '.join(audit.evidence)}",
        *verdicts,
        _evidence(audit),
        *tests,
        evaluation_html(audit.evaluation),
        *[paragraph(text, small=True) for text in [*audit.notes, *unseen]],
    )


def evidence_html(evidence: Evidence) -> str:
    row = one_row(evidence)
    shown = {title: text for title, text in row.items() if text is not None}
    found = part_rows(evidence)
    return page(
        "Evidence on one model",
        table(list(shown), [("method", "this model", [(shown[t], _interval(evidence, t)) for t in shown])]),
        table(PART_COLUMNS, [("", name, cells) for name, cells in found.items()]) if found else "",
        paragraph("Read it beside the original and retrained models: they are in the audit it is from.", small=True),
    )


def _numbers(found: list[Row], notes: Notes) -> str:
    """The table, without seconds and cost where none is known, and the reasons for what is missing."""
    titles = list(COLUMNS)
    shown = [
        k
        for k, title in enumerate(titles)
        if title not in ("seconds", "cost", "cost, all told")
        or any(row.cells[k].text not in ("", "–") for row in found)
    ]
    body = [(row.kind, row.name, [f"{row.cells[k].text}{_raised(row.cells[k].mark)}" for k in shown]) for row in found]
    used = {row.cells[k].mark for row in found for k in shown}
    reasons = [f"({mark}) {reason}" for mark, reason in notes.listed() if mark in used]
    return table([titles[k] for k in shown], body) + (paragraph("; ".join(reasons), small=True) if reasons else "")


def _raised(mark: str) -> str:
    return f" ({mark})" if mark else ""


def _parts(outcomes: dict[str, tuple[str, Outcome]]) -> str:
    """Accuracy on the forget examples by memorization part."""
    sizes = next((outcome.parts for _, outcome in outcomes.values()), {})
    if not sizes:
        return ""
    columns = [f"{name} ({part.n:,})" for name, part in sizes.items()]
    body = [
        (kind, name, [_part(outcome.parts.get(part)) for part in sizes]) for name, (kind, outcome) in outcomes.items()
    ]
    return paragraph("Accuracy on the forget set by memorization part:") + table(columns, body)


def _part(part: Part | None) -> str:
    return "–" if part is None or part.accuracy is None else f"{part.accuracy:.1%}"


def _evidence(audit: Audit) -> str:
    found = evidence_rows(audit)
    shown = [title for title in EVIDENCE if any(row[title] is not None for row in found.values())]
    single = {**audit.evidence, **({} if audit.do_nothing is None else {"do nothing": audit.do_nothing})}
    body = [
        (
            "method" if name in audit.evidence else "control",
            name,
            [(row[title] or "–", _interval(single[name], title) if name in single else "") for title in shown],
        )
        for name, row in found.items()
    ]
    return table(shown, body)


def _interval(evidence: Evidence, title: str) -> str:
    """The 95% interval of an attack's AUC, where it is one."""
    attack = evidence.attacks.get(_ATTACKS.get(title, ""))
    return "" if attack is None else f"{attack.low:.3f} to {attack.high:.3f}"
