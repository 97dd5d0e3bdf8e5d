"""`Parting`: how a source that holds one set of examples becomes training, holdout and test examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unmem.errors import UserError

Shares = tuple[float, float, float]
USUAL: Shares = (0.70, 0.15, 0.15)
NONE = "none"
_FIX = "write for example 70/15/15, or none if all of it is training data"


@dataclass(frozen=True)
class Parting:
    """What is done with a single set of examples.

    Attributes:
        shares: Of the training, holdout and test examples; None: all of it is training data.
        unseen: Ids of examples that no model was trained on, which become the holdout and the test set instead.
        asked: Whether the user said any of it.
    """

    shares: Shares | None = USUAL
    unseen: tuple[str, ...] = ()
    asked: bool = False

    @classmethod
    def of(cls, split: str | None, unseen: Sequence[str] = ()) -> Parting:
        """By the words of the user: "70/15/15", "none", or nothing, and the ids of unseen examples.

        Raises:
            UserError: They are no shares, or both are given.
        """
        if split is not None and unseen:
            raise UserError("split", split, "is given beside unseen examples", "leave one of them out")
        if split is None or split == NONE:
            return cls(USUAL if split is None else None, tuple(unseen), split is not None or len(unseen) > 0)
        try:
            first, second, third = (float(one) for one in str(split).split("/"))
        except ValueError as error:
            raise UserError("split", split, "is not TRAIN/HOLDOUT/TEST", _FIX) from error
        total = first + second + third
        if not (min(first, second, third) > 0 and abs(total - 100) < 1e-6):
            raise UserError("split", split, "must be positive numbers that sum to 100", _FIX)
        return cls((first / 100, second / 100, third / 100), asked=True)


USUAL_PARTING = Parting()
