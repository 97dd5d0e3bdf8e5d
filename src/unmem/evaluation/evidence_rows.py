"""The evidence of an audit as text: a row per model, a column per kind of evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from unmem.evaluation.rows import reference_name
from unmem.evaluation.single_model import SingleModelTest

if TYPE_CHECKING:
    from unmem.evaluation.audit import Audit, Evidence

# Heading of each column, and what it means in one plain line.
EVIDENCE = {
    "too well": "Share of the forget set that the model knows better than models that never saw it can explain.",
    "too badly": "Share that it knows worse. Nominal for both: 2.5%.",
    "AUC": "How well an attack tells forget examples from unseen ones by confidence. 0.5 = as if unseen.",
    "LiRA": "The same, each example judged by members that never saw it.",
    "RMIA": "The same, against a population of unseen examples.",
    "distance": "Mean symmetric KL divergence, in nats, from the predictions of retrained models.",
    "KLoM": "Distance between margins of several runs of the method and of retrained models, beside that of as many "
    "retrained models: from few runs it is never 0.",
    "comes back": "Rise of the mean confidence on the forget set after a little training on the retain set.",
}


def evidence_rows(audit: Audit) -> dict[str, dict[str, str | None]]:
    """By model, the text of each column; None where there is no number. Retrained models are shown by their mean."""
    rows = {name: _texts([one]) for name, one in audit.evidence.items()}
    control = next((one.klom_control for one in audit.evidence.values()), None)
    if audit.do_nothing is not None:
        rows["do nothing"] = _texts([audit.do_nothing])
    if audit.retrained:
        rows[reference_name(audit.evaluation)] = _texts([replace(one, klom=control) for one in audit.retrained])
    return rows


def one_row(evidence: Evidence) -> dict[str, str | None]:
    """The same for one model alone."""
    return _texts([evidence])


PART_COLUMNS = (
    *("examples", "known too well", "alarm above", "would have seen", "doing nothing shows"),
    *("known too badly", "alarm above", "would have seen"),
)


def part_rows(evidence: Evidence) -> dict[str, list[str]]:
    """By part of the forget set, and for all of it, the text of each of `PART_COLUMNS`."""
    tests = {"all of them": evidence.test, **evidence.parts}
    return {name: _part_texts(test) for name, test in tests.items() if test is not None}


def _part_texts(test: SingleModelTest) -> list[str]:
    under = (test.under.share, test.under.limit, test.under.detectable, test.nothing)
    over = (test.over.share, test.over.limit, test.over.detectable)
    return [f"{test.n:,}", *["–" if value is None else f"{value:.1%}" for value in (*under, *over)]]


def _texts(found: Sequence[Evidence]) -> dict[str, str | None]:
    values = dict(zip(EVIDENCE, zip(*[_numbers(one) for one in found], strict=True), strict=True))
    return {title: _mean(title, column) for title, column in values.items()}


def _numbers(one: Evidence) -> tuple[float | None, ...]:
    auc = {name: attack.auc for name, attack in one.attacks.items()}
    test = one.test
    return (
        None if test is None else test.under.share,
        None if test is None else test.over.share,
        auc.get("confidence"),
        auc.get("lira"),
        auc.get("rmia"),
        one.distance,
        one.klom,
        None if one.relearning is None else one.relearning.rise,
    )


def _mean(title: str, column: Sequence[float | None]) -> str | None:
    known = [value for value in column if value is not None]
    if not known:
        return None
    mean = float(np.mean(known))
    if title == "comes back":
        return f"{mean:+.1%}"
    return f"{mean:.1%}" if title in ("too well", "too badly") else f"{mean:.3f}"
