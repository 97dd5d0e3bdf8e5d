"""Unlearners by name, for the command line; fields are set by text such as "alpha=0.95"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from unmem.errors import UserError, nearest
from unmem.memorization import Scores
from unmem.unlearning import RUM, FineTune, NegGradPlus, Nothing, Retrain, Unlearner

METHODS: dict[str, Callable[..., Unlearner]] = {kind.name: kind for kind in (Nothing, Retrain, FineTune, NegGradPlus)}
RUM_STEPS = ("nothing", "fine-tune", "neggrad+")


def check_names(method: str, steps: Sequence[str]) -> None:
    """Refuse unknown names before any work is done."""
    if method not in (*METHODS, RUM.name):
        raise UserError("--method", method, "no such method", nearest(method, [*METHODS, RUM.name]))
    for step in steps:
        if step not in METHODS:
            raise UserError("--steps", step, "no such method", nearest(step, list(METHODS)))


def make(method: str, *, steps: Sequence[str], scores: Scores | None, fields_text: Sequence[str]) -> Unlearner:
    """The unlearner called `method`; for "rum", over `steps` refined by `scores`.

    fields_text: "FIELD=VALUE" for the method, or "METHOD.FIELD=VALUE" for one step of RUM.
    """
    values = parse_fields(fields_text, default=method)
    unused = values.keys() - ({method, *steps} if method == RUM.name else {method})
    if unused:
        raise UserError(
            "--set", sorted(unused)[0], "that method does not run here", "name the method or one of --steps"
        )
    if method != RUM.name:
        return _one(method, values)
    if scores is None:
        raise ValueError("rum needs scores")
    rum: dict[str, Any] = {
        name: _converted(RUM.name, name, text, RUM.__dataclass_fields__[name].default)
        for name, text in values.get(RUM.name, {}).items()
        if _known(RUM.name, name, ["order", "pending"])
    }
    return RUM(scores, [_one(step, values) for step in steps], **rum)


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
    defaults = {field.name: field.default for field in fields(kind)}  # None where a rule sets a number
    given = {
        name: _converted(method, name, text, defaults[name])
        for name, text in values.get(method, {}).items()
        if _known(method, name, list(defaults))
    }
    return kind(**given)


def _known(method: str, name: str, known: list[str]) -> bool:
    if name not in known:
        fix = nearest(name, known) if known else "leave it out: this method has no fields"
        raise UserError("--set", name, f"{method} has no such field", fix)
    return True


def _converted(method: str, name: str, text: str, default: object) -> object:
    """The text as a number where it is one; the field's own check says whether it fits."""
    if isinstance(default, str):
        return text
    try:
        return int(text) if isinstance(default, int) else float(text)
    except ValueError as error:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise UserError("--set", f"{method}.{name}={text}", f"must be {kind}", "correct the value") from error
