"""Unlearners by name, for the command line; fields are set by text such as "alpha=0.95"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from unmem.cli.early import check_methods
from unmem.errors import UserError, nearest
from unmem.memorization import Scores
from unmem.targets import Targets
from unmem.unlearning import RUM, Choice, Matching, Unlearner
from unmem.unlearning.auto import Auto
from unmem.unlearning.methods import METHODS

AUTO = Auto.name
_RUM_FIELDS: dict[str, Any] = {"order": "", "pending": "", "thresholds": ()}
_NOT_TEXT = ("targets",)
# Stands in while nothing but the fields of a method is looked at.
_NO_TARGETS = Targets("none", np.empty(0, dtype="<U1"), np.empty(0, dtype=np.float32))


@dataclass(frozen=True)
class Planned:
    """A method whose names and fields were checked; the unlearner itself comes once what it needs is there.

    For "auto" it is that of the matching; `taken` gives that of the choice.
    """

    name: str
    needs_scores: bool
    needs_targets: bool
    make: Callable[[Scores | None, Targets | None], Unlearner]  # without targets: only to look at


def plan(method: str, steps: Sequence[str], fields_text: Sequence[str]) -> Planned:
    """Check names and fields now, before any work.

    steps: for "rum", the method of each part. fields_text: "FIELD=VALUE" for the method, or "STEP.FIELD=VALUE" for a
    step of RUM.
    """
    check_methods([method])
    if method == AUTO:  # the fields are those of the method that it takes, unless it retrains
        return replace(plan(Matching.name, (), fields_text), name=AUTO)
    values = parse_fields(fields_text, default=method)
    running = {method, *steps} if method == RUM.name else {method}
    for stray in sorted(values.keys() - running):
        raise UserError("--set", stray, "that method does not run here", f"name one of {', '.join(sorted(running))}")
    if method != RUM.name:
        _one(method, values, None)  # refuses bad values
        return Planned(method, False, method == Matching.name, lambda _, targets: _one(method, values, targets))
    for step in steps:
        if step not in METHODS:
            raise UserError("--steps", step, "no such method", nearest(step, list(METHODS)))
    given = _converted_fields(RUM.name, _RUM_FIELDS, values)
    for step in steps:
        _one(step, values, None)

    def made(scores: Scores | None, targets: Targets | None) -> Unlearner:
        if scores is None:
            raise ValueError("RUM needs scores")
        return RUM(scores, [_one(step, values, targets) for step in steps], **given)

    return Planned(method, True, Matching.name in steps, made)


def taken(choice: Choice) -> Planned:
    """What auto took, with the fields that were set for it."""
    if choice.taken.source is None:
        return Planned(choice.taken.method, False, False, lambda _scores, _targets: choice.unlearner)
    matching = choice.matching
    return Planned(choice.taken.method, False, True, lambda _, targets: _with_targets(matching, targets))


def _with_targets(matching: Matching, targets: Targets | None) -> Matching:
    return replace(matching, targets=_NO_TARGETS if targets is None else targets)


def parse_fields(texts: Sequence[str], *, default: str) -> dict[str, dict[str, str]]:
    """["alpha=0.9", "fine-tune.lr=0.05"] -> {default: {"alpha": "0.9"}, "fine-tune": {"lr": "0.05"}}."""
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError("--set", text, "is not FIELD=VALUE", "write for example --set alpha=0.95")
        method, _, field = name.strip().rpartition(".")
        found.setdefault(method or default, {})[field] = value.strip()
    return found


def known_fields(method: str) -> dict[str, Any]:
    """The fields of a method that text can set, with their defaults."""
    kind: Any = METHODS[method]
    return {field.name: field.default for field in fields(kind) if field.name not in _NOT_TEXT}


def _one(method: str, values: dict[str, dict[str, str]], targets: Targets | None) -> Unlearner:
    given = _converted_fields(method, known_fields(method), values)
    if method != Matching.name:
        return METHODS[method](**given)
    return Matching(targets=_NO_TARGETS if targets is None else targets, **given)


def _converted_fields(method: str, defaults: dict[str, Any], values: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The fields given for `method`, as values of the type of their defaults."""
    given = values.get(method, {})
    for name in given:
        if name not in defaults:
            fix = nearest(name, list(defaults)) if defaults else "leave it out: this method has no fields"
            raise UserError("--set", name, f"{method} has no such field", fix)
    return {name: _converted(f"{method}.{name}", text, defaults[name]) for name, text in given.items()}


def _converted(field: str, text: str, default: object) -> object:
    """The text in the type of the default; None stands for a number that a rule sets, a tuple for several numbers."""
    if isinstance(default, str):
        return text
    if isinstance(default, tuple):
        return tuple(_number(field, one, whole=False) for one in text.split(","))
    return _number(field, text, whole=isinstance(default, int), either=default is None)


def _number(field: str, text: str, *, whole: bool, either: bool = False) -> float:
    try:
        return int(text) if whole or (either and text.isdecimal()) else float(text)
    except ValueError as error:
        kind = "a whole number" if whole else "a number"
        raise UserError("--set", f"{field}={text}", f"must be {kind}", "correct the value") from error
