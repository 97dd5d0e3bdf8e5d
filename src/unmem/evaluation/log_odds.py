"""Log-odds of labels and classes on the forget set and on unseen examples, of one model and of ensemble members."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import nn

from unmem.data import Examples, Ids, find_ids
from unmem.ensembles import Ensemble, Pairs
from unmem.errors import UserError
from unmem.evaluation.logits import model_logits, reduced_logits
from unmem.predictions import label_log_odds

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]
MIN_OUT = 3  # OUT members per example: fewer do not show the variance


@dataclass(frozen=True, eq=False)
class LogOdds:
    """Log-odds of one model.

    Attributes:
        forget: [n] log-odds of the label of each forget example.
        controls: [P] log-odds of each control, a pair of an unseen example and a class.
    """

    forget: Real
    controls: Real


@dataclass(frozen=True, eq=False)
class MemberLogOdds:
    """Log-odds of K ensemble members.

    Attributes:
        phi: [K, n] log-odds of the label of each forget example.
        out: [K, n] bool, True where the member was not trained on the example.
        unseen: [K, m] log-odds of the label of unseen examples, on which no member was trained.
        controls: [K, P] log-odds of pairs of an unseen example and a class, see `unmem.ensembles.controls`. By default
            these are `unseen`, which does not cover wrong labels.
        pairs: Examples and classes of `controls`; None if `controls` are `unseen`.
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
    def of(cls, members: Ensemble, ids: Ids) -> MemberLogOdds:
        """Return the log-odds of an ensemble for these examples.

        Raises:
            UserError: The ensemble lacks unseen examples, the training examples, or enough OUT members.
        """
        where = positions(members, ids)
        if members.unseen is None:
            raise UserError("members", len(members), "know no unseen examples", "train them with unseen=data.holdout")
        out = ~members.kept[:, where]
        few = int((out.sum(0) < MIN_OUT).sum())
        if few:
            raise UserError(
                "members",
                len(members),
                f"{few:,} of the forget examples were left out by fewer than {MIN_OUT} of them",
                "train more members on balanced subsets",
            )
        unseen = members.unseen.phi.astype(np.float64)
        controls = unseen if members.controls is None else members.controls.astype(np.float64)
        return cls(members.train.phi[:, where].astype(np.float64), out, unseen, controls, members.pairs)

    def model_log_odds(self, model: nn.Module, forget: Examples, unseen: Examples) -> LogOdds:
        """Return the log-odds of a model for the same examples and pairs."""
        if self.pairs is None:
            return LogOdds(log_odds_of(model, forget), log_odds_of(model, unseen))
        asked, pairs = self.pairs.asked(unseen)
        return LogOdds(log_odds_of(model, forget), pairs.log_odds(model_logits(model, asked)))


def positions(members: Ensemble, ids: Ids) -> NDArray[np.int64]:
    """Return the positions of these examples in the training set of the members."""
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
    """Return log p_y − log(1 − p_y) of each example, [n] float64."""
    found: Real = (
        reduced_logits(model, examples, lambda logits, labels: [label_log_odds(logits.double(), labels)])[0]
        .cpu()
        .numpy()
    )
    return found
