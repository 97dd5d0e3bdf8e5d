"""Unlearners by name, for the command line; fields are set by text such as "alpha=0.95"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from unmem.errors import UserError, nearest
from unmem.memorization import Scores
from unmem.unlearning import RUM, FineTune, NegGradPlus, Nothing, Retrain, Unlearner

METHODS: dict[str, Callable[..., Unlearner]] = {kind.name: kind for kind in (Nothing, Retrain, FineTune, NegGradPlus)}


def plan(method: str, steps: Sequence[str], fields_text: Sequence[str]) -> Callable[[Scores | None], Unlearner]:
    """Check names and fields now, before any work; the unlearner itself comes once its scores are there.

    steps: for "rum", the method of each part. fields_text: "FIELD=VALUE" for the method, or "STEP.FIELD=VALUE" for a
    step of RUM.
    """
    if method not in (*METHODS, RUM.name):
        raise UserError("--method", method, "no such method", nearest(method, [*METHODS, RUM.name]))
    values = parse_fields(fields_text, default=method)
    running = {method, *steps} if method == RUM.name else {method}
    for stray in sorted(values.keys() - running):
        raise UserError("--set", stray, "that method does not run here", f"name one of {', '.join(sorted(running))}")
    if method != RUM.name:
        unlearner = _one(method, values)
        return lambda _: unlearner
    for step in steps:
        if step not in METHODS:
            raise UserError("--steps", step, "no such method", nearest(step, list(METHODS)))
    parts = [_one(step, values) for step in steps]
    given = _converted_fields(RUM.name, {"order": "", "pending": ""}, values)
    return lambda scores: RUM(_present(scores), parts, **given)


def _present(scores: Scores | None) -> Scores:
    if scores is None:
        raise ValueError("RUM needs scores")
    return scores


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


def _one(method: str, values: dict[str, dict[str, str]]) -> Unlearner:
    kind: Any = METHODS[method]
    return kind(**_converted_fields(method, {field.name: field.default for field in fields(kind)}, values))


def _converted_fields(method: str, defaults: dict[str, Any], values: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The fields given for `method`, as values of the type of their defaults."""
    given = values.get(method, {})
    for name in given:
        if name not in defaults:
            fix = nearest(name, list(defaults)) if defaults else "leave it out: this method has no fields"
            raise UserError("--set", name, f"{method} has no such field", fix)
    return {name: _converted(f"{method}.{name}", text, defaults[name]) for name, text in given.items()}


def _converted(field: str, text: str, default: object) -> object:
    """The text in the type of the default; None stands for a number that a rule sets."""
    if isinstance(default, str):
        return text
    whole = isinstance(default, int)
    try:
        return int(text) if whole else float(text)
    except ValueError as error:
        kind = "a whole number" if whole else "a number"
        raise UserError("--set", f"{field}={text}", f"must be {kind}", "correct the value") from error
