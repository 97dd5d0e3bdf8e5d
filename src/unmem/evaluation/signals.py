"""What models say of the forget set and of unseen examples: log-odds of the label, from one model and from members."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from unmem.data import Examples, Ids, find_ids
from unmem.ensembles import Ensemble, log_odds
from unmem.errors import UserError
from unmem.training import predict

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Signals:
    """The members' side. phi: [K, n] log-odds of the forget examples. out: [K, n], which members left them out.
    unseen: [K, m] log-odds of examples that no member was trained on."""

    phi: Real
    out: Mask
    unseen: Real

    @classmethod
    def of(cls, members: Ensemble, ids: Ids) -> Signals:
        """The part of an ensemble that speaks of these examples. Raises `UserError` if it cannot judge them."""
        where = positions(members, ids)
        if members.unseen is None:
            raise UserError("members", len(members), "know no unseen examples", "train them with unseen=data.holdout")
        out = ~members.kept[:, where]
        few = int((out.sum(0) < 3).sum())
        if few:
            raise UserError(
                "members",
                len(members),
                f"{few:,} of the forget examples were left out by fewer than 3 of them",
                "train more members on balanced subsets",
            )
        return cls(members.train.phi[:, where].astype(np.float64), out, members.unseen.phi.astype(np.float64))

    def without(self, member: int) -> Signals:
        """All members but one."""
        rest = np.arange(len(self.phi)) != member
        return Signals(self.phi[rest], self.out[rest], self.unseen[rest])


def positions(members: Ensemble, ids: Ids) -> NDArray[np.int64]:
    """Where the members' training set has these examples."""
    found, missing = find_ids(ids, members.train.ids)
    if missing.any():
        raise UserError(
            "members",
            len(members),
            f"were trained on other examples: {int(missing.sum()):,} of the forget set are unknown to them",
            "use members of the training set that the original was trained on",
        )
    return found


def log_odds_of(model: nn.Module, examples: Examples) -> Real:
    """log p_y − log(1 − p_y) of each example, [n] float64."""
    found: Real = log_odds(predict(model, examples), examples.labels)[0].cpu().numpy()
    return found
