"""The exact score: memorization by subsampled leave-out trainings (Feldman 2020; Feldman & Zhang 2020).

    mem(i) = P[f(x_i) = y_i | i in]  −  P[f(x_i) = y_i | i out]

over models trained on random subsets of share r. The estimate is memorization at training size r·N, not N.

The standard error of a share x/n is √(p̃ (1 − p̃)/(n − ½)) with p̃ = (x + 2)/(n + 4): two successes and two failures
are added to those seen (Agresti & Coull 1998). The plain share would give an error of 0 where all members agree, which
is the usual case, although a few members cannot exclude a chance of some percent. Agresti & Coull also move the centre
of the interval. Here it stays at the plain difference, so the divisor is smaller than their n + 4: with n − ½ the
interval value ± 1.96 · error covers the truth with a probability of at least 0.91, and of 0.95 on average, by
enumeration over chances in and out from 0.001 to 1 and over 1 to 280 members a side.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unmem.ensembles import Ensemble
from unmem.errors import UserError
from unmem.memorization.scores import Scores
from unmem.predictions import probability

Measure = Literal["correct", "confidence"]
_COLUMNS = 2048


def feldman(ensemble: Ensemble, *, measure: Measure = "correct", name: str | None = None) -> Scores:
    """Estimate memorization and its standard error from an ensemble of leave-out trainings.

    Args:
        ensemble: Members trained on random subsets.
        measure: "correct" is Feldman & Zhang's definition, a difference in accuracy, with the standard error of two
            binomial proportions. "confidence" is the difference in the mean probability of the label: a different
            quantity, less noisy with few members. Its standard error is that of two means, which is too small if few
            members differ from the rest.
        name: Name of the score. None is "feldman", or "feldman-confidence".

    Returns:
        Scores in [−1, 1], larger = more memorized; NaN for an example that no member, or every member, was trained on.
    """
    inside, outside = _Moments(ensemble, ensemble.kept, measure), _Moments(ensemble, ~ensemble.kept, measure)
    error = np.sqrt(inside.error2 + outside.error2)
    settings = ensemble.settings | {"measure": measure, "kept": float(ensemble.kept.mean())}
    chosen = name or ("feldman" if measure == "correct" else "feldman-confidence")
    return Scores(chosen, ensemble.train.ids, inside.mean - outside.mean, error, settings)


def influence_matrix(ensemble: Ensemble) -> NDArray[np.float32]:
    """Estimate the influence of each training example on each unseen one, P[correct on j | i in] − P[correct on j | i
    out].

    The matrix takes 4·N·M bytes. If that is too much, use an ensemble with fewer unseen examples.

    Args:
        ensemble: Members with outputs on unseen examples.

    Returns:
        [N, M] float32 in [−1, 1]; NaN rows for examples that no member, or every member, was trained on.

    Raises:
        UserError: The ensemble has no outputs on unseen examples.
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
    """Estimate how well the memorization estimate agrees with itself.

    The members are split into random halves, and the Spearman correlation ρ of their estimates is stepped up to all
    members by the Spearman–Brown formula 2ρ / (1 + ρ). Its square root is about the highest correlation that any other
    score can have with this estimate.

    Args:
        ensemble: Members trained on random subsets.
        measure: As in `feldman`.
        repeats: Number of splits to average over.
        seed: Seed of the splits.

    Returns:
        The mean over the splits, at most 1.
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
    """Mean and squared standard error over the members where `where` holds, [N] each; NaN where it never does.

    Computed in float64 and around the mean, because squares of confidences near 1 would cancel. The error of a mean
    confidence is NaN if only one member contributes.
    """

    def __init__(self, ensemble: Ensemble, where: NDArray[np.bool_], measure: Measure) -> None:
        count, n = where.sum(0).astype(np.float64), where.shape[1]
        total, squares = np.empty(n), np.empty(n)
        with np.errstate(invalid="ignore", divide="ignore"):
            for start in range(0, n, _COLUMNS):  # in pieces, or the products would take as much memory as the members
                part = slice(start, start + _COLUMNS)
                values, chosen = _values(ensemble, measure, part), where[:, part]
                total[part] = np.where(chosen, values, 0).sum(0)
                squares[part] = np.where(chosen, (values - total[part] / count[part]) ** 2, 0).sum(0)
            self.mean = total / count
            sample = squares / (count - 1) / count
        share = (total + 2) / (count + 4)
        counted = share * (1 - share) / (count - 0.5)
        self.error2 = (
            np.where(count > 0, counted, np.nan) if measure == "correct" else np.where(count > 1, sample, np.nan)
        )


def _values(ensemble: Ensemble, measure: Measure, part: slice) -> NDArray[np.float64]:
    """Whether each member is right, or its probability of the label, for some of the examples."""
    if measure == "correct":
        return (ensemble.train.prediction[:, part] == ensemble.train.labels[part]).astype(np.float64)
    return probability(ensemble.train.phi[:, part])
