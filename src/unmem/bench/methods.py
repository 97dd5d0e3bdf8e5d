"""The unlearners of a plan, made from their entries."""

from __future__ import annotations

from unmem.bench.own import is_own, own_unlearner
from unmem.bench.plan import Method
from unmem.errors import UserError, nearest
from unmem.memorization import Scores
from unmem.targets import Source, Targets
from unmem.unlearning import RUM, Matching, Unlearner
from unmem.unlearning.methods import METHODS

PARTS = 3  # RUM parts of RUM^F


def unlearner(method: Method, *, scores: Scores | None = None, targets: Targets | Source | None = None) -> Unlearner:
    """Make an unlearner.

    Args:
        method: The entry of the plan.
        scores: Scores that refine the forget set, for rum.
        targets: Targets of matching, or None for its default.

    Raises:
        UserError: There is no such method, or it has no such field.
    """
    if method.method == RUM.name:
        if scores is None:
            raise UserError("methods", method.title, "has no scores to refine by", "list it under refined")
        steps = [unlearner(step, targets=targets) for step in method.steps]
        return RUM(scores, steps * PARTS if len(steps) == 1 else steps, **method.fields)
    if is_own(method.method):
        return own_unlearner(method.method, method.fields)
    if method.method not in METHODS:
        raise UserError("methods", method.method, "no such method", nearest(method.method, [*METHODS, RUM.name]))
    fields = dict(method.fields)
    if method.method == Matching.name and targets is not None:
        fields["targets"] = targets
    try:
        return METHODS[method.method](**fields)
    except TypeError as error:
        raise UserError("methods", method.title, f"has no such field ({error})", "see unmem forget --help") from error
