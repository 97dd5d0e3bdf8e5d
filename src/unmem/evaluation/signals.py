"""What models say of the forget set and of unseen examples: log-odds of labels and classes, from one model and from
ensemble members."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import nn

from unmem.data import Examples, Ids, find_ids
from unmem.ensembles import Ensemble, Pairs
from unmem.errors import UserError
from unmem.evaluation.answers import answered, answers
from unmem.predictions import label_log_odds

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]
FEWEST_OUT = 3  # members that must have left an example out: from fewer there is no spread


@dataclass(frozen=True, eq=False)
class Said:
    """What one model says.

    Attributes:
        forget: [n] log-odds of the label of each forget example.
        controls: [P] log-odds of each pair of an unseen example and a class.
    """

    forget: Real
    controls: Real


@dataclass(frozen=True, eq=False)
class Signals:
    """The members' side.

    Attributes:
        phi: [K, n] log-odds of the label of each forget example.
        out: [K, n], True where the member was not trained on the example.
        unseen: [K, m] log-odds of the label of examples that no member was trained on.
        controls: [K, P] log-odds of unseen examples and classes, see `unmem.ensembles.controls`. By default the labels
            alone, which say nothing of wrong labels.
        pairs: the examples and classes of `controls`, None where only labels are known.
    """

    phi: Real
    out: Mask
    unseen: Real
    controls: Real = field(default_factory=lambda: np.empty((0, 0)))
    pairs: Pairs | None = None

    def __post_init__(self) -> None:
        if self.controls.size == 0:
            object.__setattr__(self, "controls", self.unseen)

    @classmethod
    def of(cls, members: Ensemble, ids: Ids) -> Signals:
        """The part of an ensemble that speaks of these examples.

        Raises:
            UserError: the members cannot judge these examples.
        """
        where = positions(members, ids)
        if members.unseen is None:
            raise UserError("members", len(members), "know no unseen examples", "train them with unseen=data.holdout")
        out = ~members.kept[:, where]
        few = int((out.sum(0) < FEWEST_OUT).sum())
        if few:
            raise UserError(
                "members",
                len(members),
                f"{few:,} of the forget examples were left out by fewer than {FEWEST_OUT} of them",
                "train more members on balanced subsets",
            )
        unseen = members.unseen.phi.astype(np.float64)
        controls = unseen if members.controls is None else members.controls.astype(np.float64)
        return cls(members.train.phi[:, where].astype(np.float64), out, unseen, controls, members.pairs)

    def said_by(self, model: nn.Module, forget: Examples, unseen: Examples) -> Said:
        """What a model says of the same examples, pair by pair."""
        if self.pairs is None:
            return Said(log_odds_of(model, forget), log_odds_of(model, unseen))
        asked, pairs = self.pairs.asked(unseen)
        return Said(log_odds_of(model, forget), pairs.log_odds(answers(model, asked)))


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
    found: Real = (
        answered(model, examples, lambda logits, labels: [label_log_odds(logits.double(), labels)])[0].cpu().numpy()
    )
    return found
