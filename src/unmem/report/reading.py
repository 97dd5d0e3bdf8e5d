"""What the evaluation says, in sentences that hold for whatever numbers came out, and claim no more than was seen."""

from __future__ import annotations

from unmem.evaluation import Evaluation
from unmem.evaluation.reasons import NO_REFERENCE, ONE_REFERENCE


def headline(evaluation: Evaluation) -> list[str]:
    """The method nearest to retraining, beside the null band and beside doing nothing; the shortest answer first."""
    if not evaluation.methods:
        return ["No method was run; the table shows the controls alone."]
    best = evaluation.best(list(evaluation.methods))
    if evaluation.methods[best].tow is None:
        return [f"How close a method comes to retraining is not known: that {NO_REFERENCE}."]
    doubts = [
        f"How close a method comes to retraining cannot be judged here: {one.claim}." for one in evaluation.shortfalls
    ]
    return [*doubts, _nearest(evaluation, best), *_bands(evaluation, best), *_accuracy(evaluation, best)]


def limits(evaluation: Evaluation) -> str:
    """What weakens the headline, in one sentence; empty if there is nothing to weaken."""
    weak = list[str]()
    if evaluation.n_reference > 1:
        weak.append(f"the band rests on {evaluation.n_reference} retrained models")
    if len(evaluation.methods) > 1 and evaluation.reference is not None:
        weak.append("the method named here was picked by these same numbers, which favours it")
    text = "; ".join(weak)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _nearest(evaluation: Evaluation, best: str) -> str:
    n, reached, nothing = (
        len(evaluation.methods),
        evaluation.methods[best].tow,
        evaluation.do_nothing and evaluation.do_nothing.tow,
    )
    ours = f"{best} has a ToW of" if n == 1 else f"Of {n} methods, {best} came closest to retraining by ToW, with"
    beside = "" if nothing is None else f"; doing nothing scores {nothing:.3f}"
    return f"{ours} {reached:.3f}, where 1 is the same as retraining{beside}."


def _bands(evaluation: Evaluation, best: str) -> list[str]:
    control, nothing, method = evaluation.retrain_vs_retrain, evaluation.do_nothing, evaluation.methods[best]
    if control is None:
        return [f"How close an honest retrain would come is not known: that {ONE_REFERENCE}."]
    measures = (
        ("ToW", method.tow, control.tow, nothing and nothing.tow),
        ("ToW-MIA", method.tow_mia, control.tow_mia, nothing and nothing.tow_mia),
    )
    return [
        f"{name}: retrain against retrain scores {edge:.3f}; {best} at {ours:.3f} is {_place(ours, edge)}."
        f"{_beside_nothing(ours, edge, idle)}"
        for name, ours, edge, idle in measures
        if ours is not None and edge is not None
    ]


def _place(value: float, edge: float) -> str:
    if value >= edge:
        return "inside the band: not distinguishable from retraining at this resolution"
    gap = edge - value
    return f"below the band, by {gap:.3f}" if gap >= 0.001 else "below the band, by less than 0.001"


def _beside_nothing(value: float, edge: float, nothing: float | None) -> str:
    if nothing is None:
        return ""
    if nothing >= edge:
        return " Doing nothing is inside the band too, so this number cannot tell it from unlearning here."
    if value <= nothing:
        return f" It is not above doing nothing ({nothing:.3f})."
    if value - nothing <= 1 - edge:
        return f" It is above doing nothing ({nothing:.3f}) by no more than honest retrains differ."
    return ""


def _accuracy(evaluation: Evaluation, best: str) -> list[str]:
    """The accuracy behind ToW, because it says in which direction the method is off."""
    if evaluation.reference is None:
        return []
    retrained = "the retrained model" if evaluation.n_reference == 1 else "retrained models"
    found = [
        f"{best} is right on {evaluation.methods[best].accuracy['forget']:.1%}",
        f"{retrained} on {evaluation.reference.accuracy['forget']:.1%}",
    ]
    if evaluation.do_nothing is not None:
        found.append(f"the original model on {evaluation.do_nothing.accuracy['forget']:.1%}")
    return [f"On the forget set {', '.join(found)}."]
