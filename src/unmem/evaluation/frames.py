"""Evaluations and audits as data frames: one row a model, controls among them, numbers that are missing as NaN."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from unmem.extras import imported
from unmem.html import without_missing

if TYPE_CHECKING:
    from pandas import DataFrame

    from unmem.evaluation.audit import Audit, Evidence
    from unmem.evaluation.outcome import Evaluation, Outcome

DO_NOTHING = "do nothing"
Numbers = dict[str, float | None]


def evaluation_frame(evaluation: Evaluation) -> DataFrame:
    pandas = imported("pandas", field="Evaluation.to_pandas")
    rows = [
        {"model": name, "kind": kind} | without_missing(_outcome(outcome))
        for name, kind, outcome in _outcomes(evaluation)
    ]
    return pandas.DataFrame(rows).set_index("model")


def audit_frame(audit: Audit) -> DataFrame:
    pandas = imported("pandas", field="Audit.to_pandas")
    rows = [
        {"model": name, "kind": kind, "finding": None if kind != "method" else audit.verdicts[name].finding}
        | without_missing(_evidence(evidence))
        for name, kind, evidence in _witnessed(audit)
    ]
    return pandas.DataFrame(rows).set_index("model")


def _outcomes(evaluation: Evaluation) -> Iterator[tuple[str, str, Outcome]]:
    if evaluation.reference is not None:
        yield "retrained", "reference", evaluation.reference
    if evaluation.retrain_vs_retrain is not None:
        yield "retrain against retrain", "control", evaluation.retrain_vs_retrain
    for name, outcome in evaluation.methods.items():
        yield name, "method", outcome
    if evaluation.do_nothing is not None:
        yield DO_NOTHING, "control", evaluation.do_nothing


def _witnessed(audit: Audit) -> Iterator[tuple[str, str, Evidence]]:
    for name, evidence in audit.evidence.items():
        yield name, "method", evidence
    if audit.do_nothing is not None:
        yield DO_NOTHING, "control", audit.do_nothing
    for k, evidence in enumerate(audit.retrained, 1):
        yield f"retrained {k}", "reference", evidence


def _outcome(outcome: Outcome) -> Numbers:
    values: Numbers = {
        **outcome.accuracy,
        "mia": outcome.mia,
        "tow": outcome.tow,
        "tow_mia": outcome.tow_mia,
        "seconds": outcome.seconds,
        "cost": outcome.cost,
        "cost_all_told": outcome.cost_all_told,
    }
    for name, part in outcome.parts.items():
        values |= {f"{name}_n": part.n, f"{name}_forget": part.accuracy, f"{name}_mia": part.mia}
        values |= {f"{name}_tow": part.tow, f"{name}_tow_mia": part.tow_mia}
    return values


def _evidence(one: Evidence) -> Numbers:
    values: Numbers = {}
    if one.test is not None:
        for side, found in (("too_well", one.test.under), ("too_badly", one.test.over)):
            values |= {side: found.share, f"{side}_limit": found.limit, f"{side}_p": found.p}
    for name, attack in one.attacks.items():
        column = f"auc_{re.sub('[^a-z]+', '_', name)}"
        values |= {column: attack.auc, f"{column}_low": attack.low, f"{column}_high": attack.high}
    values |= {"distance": one.distance, "klom": one.klom, "klom_control": one.klom_control}
    return values | {"comes_back": None if one.relearning is None else one.relearning.rise}
