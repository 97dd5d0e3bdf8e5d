"""Verdicts from the evidence of an audit: two-sided, with the smallest detectable effect.

Each kind of evidence becomes a `Signal` with one of the results under-forgotten, over-forgotten, both, neither or
"cannot say". The result is "neither" only if the same test of the original would give "under-forgotten"; a test that
does not detect the original has too little power. The verdict follows the strongest available signal:

    single examples against members  →  accuracy against retrained models  →  accuracy against its forecast

and, in addition, relearning. The level is 2.5% on each side in total: Holm's rule is applied to the p-values of the
forget set, of its memorization groups and of relearning. If the result of the strongest signal is "neither" and another
signal contradicts it, the verdict is inconclusive and states the contradiction. A finding, in contrast, remains, and
the contradiction is added to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import nct, norm
from scipy.stats import t as student

from unmem.evaluation.attacks import Attack
from unmem.evaluation.forecast import Forecast
from unmem.evaluation.relearning import Relearning
from unmem.evaluation.single_model import POWER, SHIFT_SD, TAIL, Side, SingleModelTest

Finding = Literal["residual influence found", "over-forgetting found", "both found", "none found", "inconclusive"]
Result = Literal["under-forgotten", "over-forgotten", "both", "neither", "cannot say"]
MIN_EXAMPLES = 20  # forget examples for a verdict from accuracies
DAMAGE_LEVEL = 0.001  # probability that an undamaged model as weak as a member is classified as damaged
MIN_COVERED = 0.9  # share of the forget examples that controls must cover


@dataclass(frozen=True)
class Signal:
    """One kind of evidence about one model.

    Attributes:
        name: Kind of evidence.
        result: Direction of the deviation from a model that was not trained on the forget set, if any.
        text: Reason, in a clause.
        numbers: Numbers on which the result is based.
    """

    name: str
    result: Result
    text: str
    numbers: dict[str, float | None] = field(default_factory=dict[str, "float | None"])

    @property
    def directions(self) -> frozenset[str]:
        if self.result == "both":
            return frozenset({"under-forgotten", "over-forgotten"})
        return frozenset({self.result}) & {"under-forgotten", "over-forgotten"}


@dataclass(frozen=True)
class Verdict:
    """Verdict on one model.

    Attributes:
        finding: One of five findings.
        text: The finding in a sentence, with the smallest detectable effect.
        basis: Names of the signals on which the finding is based.
        signals: All signals.
        contradictions: Evidence against the finding, or reasons why the verdict is inconclusive.
    """

    finding: Finding
    text: str
    basis: str
    signals: tuple[Signal, ...] = ()
    contradictions: tuple[str, ...] = ()


def decide(signals: Sequence[Signal], *, broken: str | None = None) -> Verdict:
    """Return the verdict from all signals, the strongest first; see the head of the file.

    If models that were trained for comparison fall short of the original, `broken` names them.
    """
    signals = tuple(signals)
    if broken is not None:
        return Verdict("inconclusive", f"inconclusive: {broken}", "inadequate comparison models", signals, (broken,))
    strongest = next((one for one in signals if one.name in _STRENGTH and one.result != "cannot say"), None)
    extra = [one for one in signals if one.name == RELEARNING and one.result == "under-forgotten"]
    found = frozenset[str]().union(*(one.directions for one in [strongest, *extra] if one is not None))
    if found:
        return _found(found, strongest, extra, signals)
    against = [f"{one.name}: {one.text}" for one in signals if one.directions or one.name == DAMAGED]
    if strongest is None:
        reasons = [one.text for one in signals if one.name in _STRENGTH] or [NOTHING_TO_COMPARE]
        text = f"inconclusive (too little power): {'; '.join(reasons)}"
        return Verdict("inconclusive", text, "no evidence with enough power", signals, tuple(against))
    if against:
        text = f"inconclusive: no effect found ({strongest.name}), but {'; '.join(against)}"
        return Verdict("inconclusive", text, strongest.name, signals, tuple(against))
    return Verdict("none found", f"none found ({strongest.text})", strongest.name, signals)


def _found(
    found: frozenset[str], strongest: Signal | None, extra: Sequence[Signal], signals: tuple[Signal, ...]
) -> Verdict:
    basis = [one for one in [strongest, *extra] if one is not None and one.directions]
    if len(found) == 2:
        finding: Finding = "both found"
        head = "residual influence and over-forgetting found"
    else:
        finding = "residual influence found" if "under-forgotten" in found else "over-forgetting found"
        head = finding
    against = [
        f"{one.name}: {one.text}"
        for one in signals
        if one not in basis and (one.directions - found or one.name == DAMAGED)
    ]
    text = f"{head}: {'; '.join(one.text for one in basis)}"
    text += "".join(f"; yet {one}" for one in against)
    return Verdict(finding, text, " and ".join(one.name for one in basis), signals, tuple(against))


TEST, ACCURACY, FORECAST = "single-model test", "forget accuracy against retrained models", "forget accuracy forecast"
RELEARNING, DAMAGED = "relearning", "damage"
_STRENGTH = (TEST, ACCURACY, FORECAST)
NOTHING_TO_COMPARE = "there are no members, no retrained models and no forecast to compare with"


def from_test(
    test: SingleModelTest,
    groups: Mapping[str, SingleModelTest | None],
    *,
    do_nothing: Mapping[str, SingleModelTest] | None = None,
    relearned: float | None = None,
    over_untestable: str | None = None,
    alone: bool = False,
) -> Signal:
    """Return the signal of the single-model test on the whole forget set and on its memorization groups.

    Args:
        test: Test of the whole set.
        groups: Test of each group; None where it is too small.
        do_nothing: The same tests of the original, with the whole set under "". Without them the result of the IN
            members is used instead.
        relearned: p-value of relearning, which shares the level.
        over_untestable: Reason why members cannot show over-forgetting of this set, or None.
        alone: Whether there are no retrained models.
    """
    tests = {"": test} | {name: one for name, one in groups.items() if one is not None}
    under = holm({name: one.under.p for name, one in tests.items()} | _optional(RELEARNING, relearned), TAIL) - {
        RELEARNING
    }
    over = frozenset[str]() if over_untestable else holm({name: one.over.p for name, one in tests.items()}, TAIL)
    numbers: dict[str, float | None] = {
        "n": float(test.n),
        "under": test.under.share,
        "under_p": test.under.p,
        "over": test.over.share,
        "over_p": test.over.p,
        "smallest_detectable_under": test.under.detectable,
        "smallest_detectable_over": test.over.detectable,
        "do_nothing": test.nothing if do_nothing is None else do_nothing[""].under.share,
    }
    if under or over:
        better = [_side_text(name, tests[name].n, tests[name].under, "better") for name in tests if name in under][:1]
        worse = [_side_text(name, tests[name].n, tests[name].over, "worse") for name in tests if name in over][:1]
        if worse and alone:
            worse[0] += (
                "; if they help to predict each other (one person, copies, a trigger), confirm it with retrained models"
            )
        result: Result = "both" if under and over else "under-forgotten" if under else "over-forgotten"
        return Signal(TEST, result, "; ".join(better + worse), numbers)
    if test.covered < MIN_COVERED:
        text = f"no unseen examples are similar to {_percent(1 - test.covered)} of the {test.n:,} forget examples"
        return Signal(TEST, "cannot say", text, numbers)
    if do_nothing is not None:
        shared = _optional(RELEARNING, None if relearned is None else 1.0)  # the level is shared as for the model
        detected = holm({name: one.under.p for name, one in do_nothing.items()} | shared, TAIL)
        if not detected:
            text = (
                f"of these {test.n:,} examples the original, which forgot nothing, has "
                f"{_percent(do_nothing[''].under.share)} under-forgotten, and the limit is {_percent(test.under.limit)}"
            )
            return Signal(TEST, "cannot say", text, numbers)
    elif test.blind:
        least = "no share" if test.under.detectable is None else f"only {_percent(test.under.detectable)} or more"
        shows = "an unknown share" if test.nothing is None else _percent(test.nothing)
        text = (
            f"of these {test.n:,} examples a model that forgot nothing would have {shows} under-forgotten, "
            f"and this run can detect {least}"
        )
        return Signal(TEST, "cannot say", text, numbers)
    if over_untestable:
        return Signal(TEST, "cannot say", over_untestable, numbers)
    over_text = "" if test.over.detectable is None else f", or {_percent(test.over.detectable)} over-forgotten"
    text = (
        f"smallest detectable effect: {_percent(test.under.detectable)} of the {test.n:,} examples under-forgotten"
        f"{over_text}; doing nothing shows {_percent(numbers['do_nothing'])}"
    )
    return Signal(TEST, "neither", text, numbers)


def holm(p: Mapping[str, float], level: float) -> frozenset[str]:
    """Return the hypotheses that are rejected at a common level by Holm's step-down rule (Holm 1979)."""
    rejected: set[str] = set()
    for k, (name, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        if not value < level / (len(p) - k):
            break
        rejected.add(name)
    return frozenset(rejected)


def from_accuracies(ours: float, retrained: Sequence[float], n: int, *, do_nothing: float | None = None) -> Signal:
    """Return the signal of the accuracy on the n forget examples against that of at least two retrained models.

    `do_nothing` is the accuracy of the original. Without it, the largest possible gap is used instead.
    """
    if n < MIN_EXAMPLES:
        return Signal(ACCURACY, "cannot say", f"accuracies need {MIN_EXAMPLES} forget examples, and there are {n}")
    if len(retrained) < 2:
        return Signal(ACCURACY, "cannot say", "one retrained model does not show how much retrained models differ")
    m, mean = len(retrained), float(np.mean(retrained))
    # A difference of one example must not be significant, even if the retrained models agree completely.
    spread = max(float(np.std(retrained, ddof=1)), np.sqrt(mean * (1 - mean) / n), 1 / n) * np.sqrt(1 + 1 / m)
    limit = float(student.ppf(1 - TAIL, m - 1)) * spread
    smallest = smallest_gap(m) * spread
    than = f"that of {m} retrained models ({_percent(mean)})"
    advice = "retrain 4 or 5 models, or use members"
    return _by_gap(ACCURACY, ours, mean, (limit, limit), smallest, do_nothing, than, advice)


def smallest_gap(m: int) -> float:
    """Return the smallest gap that a t-test against m models detects with `POWER`, in standard deviations of a
    difference.
    """
    point = float(student.ppf(1 - TAIL, m - 1))
    low, high = point, 60 * point
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if float(nct.sf(point, m - 1, middle)) >= POWER else (middle, high)
    return high


def from_forecast(ours: float, expected: Forecast, *, do_nothing: float | None = None) -> Signal:
    """Return the signal of the accuracy on the forget set against its forecast."""
    if expected.n < MIN_EXAMPLES:
        text = f"the forecast needs {MIN_EXAMPLES} forget examples, and there are {expected.n}"
        return Signal(FORECAST, "cannot say", text)
    limits = (expected.accuracy - expected.low, expected.high - expected.accuracy)
    than = f"its forecast ({_percent(expected.accuracy)}, {_percent(expected.low)} to {_percent(expected.high)})"
    advice = "use members or retrained models"
    # 1.96 standard deviations to the limit, and 0.84 beyond it for a power of 80%.
    smallest = limits[1] * (1 + 0.84 / 1.96)
    return _by_gap(FORECAST, ours, expected.accuracy, limits, smallest, do_nothing, than, advice)


def _by_gap(
    name: str,
    ours: float,
    goal: float,
    limits: tuple[float, float],
    smallest: float,
    do_nothing: float | None,
    than: str,
    advice: str,
) -> Signal:
    """Return the signal of a gap to the goal; `limits` are the largest insignificant gaps below and above it."""
    gap, below, above = ours - goal, *limits
    largest = (1.0 if do_nothing is None else do_nothing) - goal
    numbers: dict[str, float | None] = {
        "accuracy": ours, "expected": goal, "limit_below": below, "limit_above": above,
        "smallest_detectable": smallest, "do_nothing": do_nothing,
    }  # fmt: skip
    if gap > above or -gap > below:
        result: Result = "under-forgotten" if gap > 0 else "over-forgotten"
        side = "above" if gap > 0 else "below"
        return Signal(name, result, f"accuracy on the forget set, {_percent(ours)}, is {side} {than}", numbers)
    if smallest > largest:
        shows = "the largest possible gap" if do_nothing is None else "the gap of the original"
        least = f"{smallest:.1%}" if smallest <= 1 else "more than 100%"
        text = (
            f"the smallest detectable gap in accuracy on the forget set is {least}, and {shows} is "
            f"{max(0.0, largest):.1%}: {advice}"
        )
        return Signal(name, "cannot say", text, numbers)
    text = f"smallest detectable effect: {smallest:.1%} in accuracy on the forget set"
    text += "" if do_nothing is None else f"; doing nothing shows {largest:.1%}"
    return Signal(name, "neither", text, numbers)


def from_attack(name: str, ours: Attack, retrained: Sequence[Attack]) -> Signal:
    """Return the signal of a membership attack by members, compared with the same attack on retrained models."""
    # Members were trained on fewer examples than the model. The resulting shift d alone gives an AUC of Φ(d/√2).
    floor = max(0.5, *(one.high for one in retrained)) if retrained else float(norm.cdf(SHIFT_SD / np.sqrt(2)))
    numbers: dict[str, float | None] = {"auc": ours.auc, "low": ours.low, "high": ours.high}
    if ours.low > floor:
        limit = "the limit" if not retrained else "the limit for retrained models"
        text = f"{name} distinguishes forget examples from unseen ones (AUC {ours.auc:.3f}, above {limit} {floor:.3f})"
        return Signal(name, "under-forgotten", text, numbers)
    return Signal(name, "neither", f"AUC {ours.auc:.3f} ({ours.low:.3f} to {ours.high:.3f})", numbers)


def from_relearning(ours: Relearning, *, retrained: int, level: float) -> Signal:
    """Return the signal of relearning.

    Without retrained models it is not a finding, because unseen examples differ from the forget set. But it contradicts
    the verdict "none found".
    """
    name = RELEARNING if retrained else f"{RELEARNING} beside unseen examples"
    control = "retrained models" if retrained else "unseen examples"
    numbers = {"rise": ours.rise, "expected": ours.expected, "p": ours.p}
    if ours.p is None or ours.expected is None:
        return Signal(name, "cannot say", "there is no comparison", numbers)
    if ours.p < level:
        text = (
            f"after brief training on the retain set, confidence on the forget set changes by {ours.rise:+.1%}, "
            f"for {control} by {ours.expected:+.1%}"
        )
        return Signal(name, "under-forgotten", text, numbers)
    return Signal(name, "neither", f"{ours.rise:+.1%}, for {control} {ours.expected:+.1%}", numbers)


def from_damage(ours: float, members: NDArray[np.float64]) -> Signal | None:
    """Return a signal if the accuracy on unseen examples is far below that of the K members.

    Such a model is also wrong about the forget set, so the absence of under-forgotten examples is not evidence.
    """
    k, mean = len(members), float(members.mean())
    spread = max(float(members.std(ddof=1)), 1e-3) * np.sqrt(1 + 1 / k)
    if k < 2 or ours >= mean - float(student.ppf(1 - DAMAGE_LEVEL, k - 1)) * spread:
        return None
    text = f"the model is damaged: accuracy on unseen examples is {_percent(ours)}, that of members {_percent(mean)}"
    return Signal(DAMAGED, "cannot say", text, {"unseen_accuracy": ours, "members": mean})


def numbers_of(signals: Iterable[Signal]) -> dict[str, dict[str, float | str | None]]:
    """Return the result and the numbers of each signal, for `result.json`."""
    return {one.name: {"says": one.result, **one.numbers} for one in signals}


def _optional(name: str, value: float | None) -> dict[str, float]:
    return {} if value is None else {name: value}


def _side_text(where: str, n: int, side: Side, way: str) -> str:
    inside = f" in the {where} group" if where else ""
    return (
        f"{_percent(side.share)} of {n:,} examples{inside} are predicted {way} than by models not trained on them "
        f"(expected {_percent(side.expected)}, limit {_percent(side.limit)})"
    )


def _percent(value: float | None) -> str:
    return "no share" if value is None else f"{value:.1%}"
