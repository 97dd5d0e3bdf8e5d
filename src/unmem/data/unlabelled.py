"""Examples without a label, and unseen examples of classes that were never trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unmem.data.examples import Examples
from unmem.errors import Phrase, UserError

SHOWN = 5


def is_missing(label: Any) -> bool:
    """None, NaN and -1, which stand for "no label" in public test sets."""
    return label is None or (isinstance(label, int | float | np.number) and bool(label != label or label == -1))


def unlabelled(labels: Any) -> list[int]:
    """The rows without a label."""
    values = np.asarray(labels)
    if values.ndim == 1 and values.dtype.kind in "iu":
        return np.flatnonzero(values == -1).tolist() if values.dtype.kind == "i" else []
    return [row for row, label in enumerate(values.tolist()) if is_missing(label)]


def check_train(rows: list[int]) -> None:
    """Refuse training examples without a label, by their rows."""
    if rows:
        more = ", …" if len(rows) > SHOWN else ""
        raise UserError(
            "labels",
            Phrase(f"of rows {', '.join(map(str, rows[:SHOWN]))}{more} of the training set"),
            f"are missing ({len(rows):,} such, counted from 0); class indices start at 0",
            "label or leave out these examples, or number the classes from 0",
        )


def check_classes(parts: Mapping[str, Examples], names: Sequence[str] = ()) -> None:
    """Refuse unseen examples of a class without a training example: its output would never be trained.

    names: Of the classes, if they have some.
    """
    known = set(parts["train"].labels.unique().tolist())
    for name, part in parts.items():
        new = sorted(set(part.labels.unique().tolist()) - known)
        if new:
            raise UserError(
                "labels",
                Phrase(f"{', '.join(repr(names[k]) if names else str(k) for k in new[:SHOWN])} in {name}"),
                "are classes without a training example",
                "leave out their examples, or train on some",
            )
