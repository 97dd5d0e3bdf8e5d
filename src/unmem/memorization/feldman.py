"""The exact score: memorization by subsampled leave-out trainings (Feldman 2020; Feldman & Zhang 2020).

    mem(i) = P[f(x_i) = y_i | i in]  −  P[f(x_i) = y_i | i out]

over models trained on random subsets of share r. The estimate is memorization at training size r·N, not N.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unmem.ensembles import Ensemble
from unmem.errors import UserError
from unmem.memorization.scores import Scores

Measure = Literal["correct", "confidence"]
_COLUMNS = 4096


def feldman(ensemble: Ensemble, *, measure: Measure = "correct", name: str | None = None) -> Scores:
    """Memorization of each training example, with its standard error; NaN for one never left in or never left out.

    measure: "correct" is Feldman & Zhang's estimand, the difference in accuracy, with the error of two binomial shares;
        "confidence" is the difference in the mean probability of the label, another estimand, less noisy where few
        members decide. Both lie in [−1, 1]; larger = more memorized.
    """
    values = ensemble.train.correct if measure == "correct" else ensemble.train.confidence
    inside, outside = _Moments(values, ensemble.kept), _Moments(values, ~ensemble.kept)
    error = np.sqrt(_variance(inside, measure) / inside.count + _variance(outside, measure) / outside.count)
    settings = ensemble.settings | {"measure": measure, "kept": float(ensemble.kept.mean())}
    chosen = name or ("feldman" if measure == "correct" else "feldman-confidence")
    return Scores(chosen, ensemble.train.ids, inside.mean - outside.mean, error, settings)


def influence(ensemble: Ensemble) -> NDArray[np.float32]:
    """Influence of each training example on each unseen one, [N, M]: P[correct on j | i in] − P[correct on j | i out].

    NaN rows for training examples never left in or never left out. Takes 4·N·M bytes; pass an ensemble of few unseen
    examples, or choose columns of `ensemble.unseen` first, when that is too much.
    """
    if ensemble.unseen is None:
        raise UserError("unseen", None, "the members kept no outputs on unseen examples", "train them with unseen=...")
    correct = ensemble.unseen.correct.astype(np.float32)
    kept = ensemble.kept.astype(np.float32)
    n_in = kept.sum(0)[:, None]
    n_out = len(ensemble) - n_in
    with np.errstate(invalid="ignore", divide="ignore"):
        return (kept.T @ correct) / n_in - ((1 - kept).T @ correct) / n_out


def reliability(ensemble: Ensemble, *, measure: Measure = "correct", repeats: int = 20, seed: int = 0) -> float:
    """How well the estimate agrees with itself: Spearman between random halves of the members, stepped up to all.

    The mean over `repeats` splits, by the Spearman–Brown formula 2ρ / (1 + ρ): the ceiling for any other score's
    agreement with this one is about its square root.
    """
    from scipy.stats import spearmanr

    if len(ensemble) < 4:
        raise UserError("members", len(ensemble), "halves of fewer than two members say nothing", "train more members")
    random = np.random.default_rng(seed)
    found: list[float] = []
    for _ in range(repeats):
        order = random.permutation(len(ensemble))
        first, second = (feldman(ensemble.members(half), measure=measure).values for half in np.array_split(order, 2))
        both = ~(np.isnan(first) | np.isnan(second))
        result: Any = spearmanr(first[both], second[both])
        found.append(float(result.statistic))
    rho = float(np.mean(found))
    return 2 * rho / (1 + rho)


class _Moments:
    """Mean and variance over the members where `where` holds, per example; NaN where it never does."""

    def __init__(self, values: NDArray[Any], where: NDArray[np.bool_]) -> None:
        n = where.shape[1]
        self.count, self.mean, square = where.sum(0).astype(np.float64), np.empty(n), np.empty(n)
        with np.errstate(invalid="ignore", divide="ignore"):
            for start in range(0, n, _COLUMNS):  # in pieces, or the products would take as much memory as the members
                part = slice(start, start + _COLUMNS)
                chosen = values[:, part].astype(np.float32) * where[:, part]
                self.mean[part] = chosen.sum(0, dtype=np.float64) / self.count[part]
                square[part] = (chosen**2).sum(0, dtype=np.float64) / self.count[part]
            self.variance = np.maximum(square - self.mean**2, 0)


def _variance(moments: _Moments, measure: Measure) -> NDArray[np.float64]:
    """p(1 − p) for shares; the unbiased sample variance for confidences, NaN from a single member."""
    if measure == "correct":
        return moments.mean * (1 - moments.mean)
    return moments.variance * moments.count / np.where(moments.count > 1, moments.count - 1, np.nan)
