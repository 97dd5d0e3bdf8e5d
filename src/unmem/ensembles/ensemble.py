"""`Ensemble`: outputs of models trained on subsets of one training set, for every example, seen or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmem.data import Ids
from unmem.ensembles.controls import Pairs
from unmem.ensembles.masks import Mask
from unmem.predictions import probability

Real = NDArray[np.float32]
_COLUMNS = 8192  # examples whose logits are averaged at a time


@dataclass(frozen=True, eq=False)
class Outputs:
    """Outputs of K models on N examples.

    Attributes:
        ids: [N] example ids.
        labels: [N] int64.
        phi: [K, N] float32, log-odds of the label, log p_y − log(1 − p_y), computed in float64 from the logits.
        margin: [K, N] float32, log p_y − log max_{k≠y} p_k.
        prediction: [K, N] int16, the class with the largest logit.
    """

    ids: Ids
    labels: NDArray[np.int64]
    phi: Real
    margin: Real
    prediction: NDArray[np.int16]

    def __repr__(self) -> str:
        return f"Outputs({self.phi.shape[0]:,} models, {self.phi.shape[1]:,} examples)"

    @property
    def correct(self) -> Mask:
        return self.prediction == self.labels

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Probability of the label, [K, N] float64."""
        return probability(self.phi)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """K models (members) trained on subsets of the same N examples.

    Attributes:
        kept: [K, N] bool, the examples that each member was trained on.
        train: Outputs on the N examples, whether a member was trained on them or not.
        unseen: Outputs on examples that no member was trained on, or None.
        seeds: Seed of each member.
        seconds: Training time of each member.
        settings: What determined the members, as plain values.
        logits: [K, N, C] float32, or None.
        seconds_before: Seconds that earlier runs spent on members that were reused, including those that `members` did
            not choose, for the number of threads of this process.
        controls: [K, P] log-odds of the `pairs` of unseen examples and classes (see `controls.py`); only with `unseen`.
        pairs: These pairs.
    """

    kept: Mask
    train: Outputs
    unseen: Outputs | None
    seeds: tuple[int, ...]
    seconds: tuple[float, ...]
    settings: dict[str, Any]
    logits: Real | None = None
    seconds_before: float = 0.0
    controls: Real | None = None
    pairs: Pairs | None = None

    def __len__(self) -> int:
        return len(self.kept)

    def __repr__(self) -> str:
        return f"Ensemble({len(self):,} members, {self.kept.shape[1]:,} examples)"

    def members(self, chosen: Sequence[int] | NDArray[np.int64]) -> Ensemble:
        """Return the ensemble of some members. Use disjoint halves if one selects examples and the other judges."""
        index = np.asarray(chosen)
        return replace(
            self,
            kept=self.kept[index],
            train=_rows(self.train, index),
            unseen=None if self.unseen is None else _rows(self.unseen, index),
            seeds=tuple(self.seeds[i] for i in index),
            seconds=tuple(self.seconds[i] for i in index),
            logits=None if self.logits is None else self.logits[index],
            controls=None if self.controls is None else self.controls[index],
        )

    def mean_log_probs(self, weights: NDArray[np.float64], where: NDArray[np.int64]) -> Real | None:
        """Logarithm of the weighted mean probability of each class over the members.

        Args:
            weights: [K, n], how much each member counts for each example; they sum to 1 over the members.
            where: [n] positions of the examples.

        Returns:
            [n, C] float32, or None if no logits were kept.
        """
        from scipy.special import log_softmax

        if self.logits is None:
            return None
        found = np.empty((len(where), self.logits.shape[2]), np.float32)
        for start in range(0, len(where), _COLUMNS):
            part = slice(start, start + _COLUMNS)
            probs = np.exp(log_softmax(self.logits[:, where[part]], axis=2))
            mean = np.einsum("kn,knc->nc", weights[:, part], probs)
            found[part] = np.log(np.maximum(mean, np.finfo(np.float32).tiny))
        return found


def _rows(outputs: Outputs, index: NDArray[Any]) -> Outputs:
    return replace(outputs, phi=outputs.phi[index], margin=outputs.margin[index], prediction=outputs.prediction[index])
