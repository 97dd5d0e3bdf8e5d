"""What the evidence allows to say, in words: two-sided, with what could have been seen, and never that all is well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from unmem.evaluation.forecast import Forecast
from unmem.evaluation.single_model import POWER, TAIL, Side, SingleModelTest

Finding = Literal[
    "residual influence", "over-forgetting", "residual influence and over-forgetting", "none", "too little"
]
FEWEST = 20  # forget examples for a verdict on the set from accuracies
DAMAGE = 0.001  # chance that an honest model as weak as a member is called damaged


@dataclass(frozen=True)
class Verdict:
    """finding: what was found. text: the same in a sentence, with the smallest effect that would have been seen.
    basis: the evidence it rests on."""

    finding: Finding
    text: str
    basis: str


def from_test(
    test: SingleModelTest,
    parts: Mapping[str, SingleModelTest | None],
    retrained: Sequence[SingleModelTest] = (),
) -> Verdict:
    """From the single-model test on the whole forget set and on its parts.

    Each counts at its share of the level, so that many parts do not raise the chance of a false alarm. retrained: the
    same test on retrained models; where it raises an alarm for one of them too, and the model at hand is not clearly
    beyond that, it says nothing about the model.
    """
    basis = "single-model test against members that never saw the examples"
    named = {"": test} | {f" in the {name} part": one for name, one in parts.items() if one is not None}
    level = TAIL / len(named)
    found = {
        "better": [_side(where, one.n, one.under, "better") for where, one in named.items() if one.under.p < level],
        "worse": [_side(where, one.n, one.over, "worse") for where, one in named.items() if one.over.p < level],
    }
    fooled = {
        "better": _no_worse_than(test.n, test.under, [one.under for one in retrained]),
        "worse": _no_worse_than(test.n, test.over, [one.over for one in retrained]),
    }
    if any(found[way] and fooled[way] for way in found):
        text = (
            "inconclusive: the test calls retrained models wrong as well, so these members cannot judge this forget "
            "set; they helped to pick it, or learned from the rest of it"
        )
        return Verdict("too little", text, basis)
    if found["better"] or found["worse"]:
        finding = _finding(bool(found["better"]), bool(found["worse"]))
        return Verdict(finding, _found(finding, [sides[0] for sides in found.values() if sides]), basis)
    if test.blind:
        seen = "none" if test.under.detectable is None else f"no less than {_share(test.under.detectable)}"
        return Verdict(
            "too little",
            f"inconclusive (too little power): of these {test.n:,} examples a model that forgot nothing would show "
            f"{_share(test.nothing)}, and this run could have seen {seen}",
            basis,
        )
    return Verdict(
        "none",
        f"none found (smallest effect this run could have seen: {_share(test.under.detectable)} of the {test.n:,} "
        f"examples still known, or {_share(test.over.detectable)} over-forgotten; doing nothing would have shown "
        f"{_share(test.nothing)})",
        basis,
    )


def damaged(verdict: Verdict, ours: float, members: NDArray[np.float64]) -> Verdict:
    """The verdict on a model whose accuracy on unseen examples is `ours`, where members have these.

    A model that is wrong about everything is also wrong about the forget set. The test takes off what the model gets
    wrong everywhere, so that no alarm says nothing then; an alarm still stands.
    """
    k, mean = len(members), float(members.mean())
    spread = float(members.std(ddof=1)) * np.sqrt(1 + 1 / k)
    if ours >= mean - float(student.ppf(1 - DAMAGE, k - 1)) * spread:
        return verdict
    said = f"the model is damaged: {_share(ours)} right on unseen examples, where members have {_share(mean)}"
    if verdict.finding == "none":
        text = f"inconclusive: {said}, so that what it says of the forget set is no evidence"
        return replace(verdict, finding="too little", text=text)
    return replace(verdict, text=f"{verdict.text}; {said}")


def _no_worse_than(n: int, side: Side, honest: Sequence[Side]) -> bool:
    """Whether an honest model alarms on this side, and the share is within two standard errors of its share."""
    worst = max((one.share for one in honest if one.alarm), default=None)
    return worst is not None and side.share <= worst + 2 * np.sqrt(worst * (1 - worst) / n)


def _side(where: str, n: int, side: Side, way: str) -> str:
    return (
        f"{_share(side.share)} of {n:,} are known {way}{where} than models that never saw them can explain "
        f"({_share(side.expected)} expected)"
    )


def from_accuracies(ours: float, retrained: Sequence[float], n: int) -> Verdict:
    """From the accuracy on the forget set against that of at least two retrained models."""
    basis = f"forget accuracy against {len(retrained)} retrained models"
    if n < FEWEST:
        return Verdict("too little", f"inconclusive (too little power): {n} examples are fewer than {FEWEST}", basis)
    m, mean = len(retrained), float(np.mean(retrained))
    # One example more or less must never count as a difference, however much the retrained models agree.
    spread = max(float(np.std(retrained, ddof=1)), np.sqrt(mean * (1 - mean) / n), 1 / n) * np.sqrt(1 + 1 / m)
    limit = float(student.ppf(1 - TAIL, m - 1)) * spread
    smallest = limit + float(student.ppf(POWER, m - 1)) * spread
    return _by_gap(ours - mean, limit, smallest, f"that of retrained models ({_share(mean)})", ours, basis)


def from_forecast(ours: float, expected: Forecast) -> Verdict:
    """From the accuracy on the forget set against its forecast."""
    basis = f"forget accuracy against its forecast by {expected.source}"
    if expected.n < FEWEST:
        text = f"inconclusive (too little power): {expected.n} examples are fewer than {FEWEST}"
        return Verdict("too little", text, basis)
    gap = ours - expected.accuracy
    limit = expected.high - expected.accuracy if gap > 0 else expected.accuracy - expected.low
    words = f"its forecast ({_share(expected.accuracy)}, {_share(expected.low)} to {_share(expected.high)})"
    return _by_gap(gap, limit, limit * (1 + 0.84 / 1.96), words, ours, basis)


def unknown() -> Verdict:
    """Where nothing is there to compare with."""
    text = (
        "inconclusive (too little power): there are no members, no two retrained models and no forecast to compare with"
    )
    return Verdict("too little", text, "nothing but the model itself")


def _by_gap(gap: float, limit: float, smallest: float, than: str, ours: float, basis: str) -> Verdict:
    if abs(gap) > limit:
        side = "above" if gap > 0 else "below"
        finding = _finding(gap > 0, gap < 0)
        return Verdict(
            finding, _found(finding, [f"accuracy on the forget set, {_share(ours)}, is {side} {than}"]), basis
        )
    text = f"none found (smallest effect this run could have seen: {smallest:.1%} in accuracy on the forget set)"
    return Verdict("none", text, basis)


def _finding(under: bool, over: bool) -> Finding:
    if under and over:
        return "residual influence and over-forgetting"
    return "residual influence" if under else "over-forgetting"


def _found(finding: Finding, said: list[str]) -> str:
    return f"{finding} found: {'; '.join(said)}"


def _share(value: float | None) -> str:
    return "no share" if value is None else f"{value:.1%}"
