"""Whether the examples that a request names can be forgotten at all."""

from __future__ import annotations

import numpy as np

from unmem.data import Ids, Splits
from unmem.errors import NothingToDoError, Phrase, UnseenExampleError, UserError


def check_request(ids: Ids, data: Splits) -> None:
    """Refuse a request that is empty, unknown, of unseen examples, or of everything; needs no model."""
    if len(ids) == 0:
        raise NothingToDoError("forget", None, "the forget set is empty", "name at least one training example")
    for part, examples in (("holdout", data.holdout), ("test", data.test)):
        unseen = ids[np.isin(ids, examples.ids)]
        if len(unseen):
            raise UnseenExampleError(
                "forget",
                str(unseen[0]),
                f"an id of the {part} set, which the model was never trained on ({len(unseen)} such)",
                "only training examples can be forgotten",
            )
    data.train.positions(ids, field="forget")
    if len(ids) == len(data.train):
        raise UserError(
            "forget",
            Phrase(f"{len(ids):,} ids"),
            "the forget set is the whole training set, nothing would be left to learn from",
            "delete the model instead",
        )
