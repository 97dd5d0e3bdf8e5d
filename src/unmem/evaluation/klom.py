"""KLoM, the KL divergence of margins (Georgiev et al. 2024, arXiv 2410.23232).

KLoM compares many models of an unlearning *procedure* with retrained models. It does not evaluate one released model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unmem.errors import Phrase, UserError

Real = NDArray[np.float64]

LIMIT = (
    100.0  # margins are clipped here, as in the authors' code: an infinite margin would make the bins infinitely wide
)


def klom(
    unlearned: NDArray[np.floating], retrained: NDArray[np.floating], *, bins: int = 20, floor: float = 1e-5
) -> Real:
    """Compute KL(unlearned ‖ retrained) of the binned margins of each example.

    Bins of equal width span both sets of models together, per example, including the right edge. With p and q the
    shares in the bins, the value is Σ p log(p / max(q, floor)) over p > 0. It is at most log(1/floor), 11.51 nats by
    default, if all unlearned models are in one bin and no retrained one is. Margins that are all equal give 0.

    Shares of few models are noisy: two sets of 10 retrained models differ by about 5.6 nats, of 100 by 0.35, of 1,000
    by 0.02 (Gaussian margins, 20 bins). So also report the value of retrained against further retrained models, at the
    same N and M. The authors' code normalises the floored q, which changes values by at most bins · floor, and omits
    the largest margin, on the right edge, which changes 0.35 to 0.34 and gives 0 or NaN for constant margins.

    Args:
        unlearned: [N, n] margins (log-odds of the label) of n examples under N unlearned models.
        retrained: [M, n] margins of the same examples under M retrained models.
        bins: Number of bins.
        floor: Smallest share q that is divided by.

    Returns:
        [n] float64, in nats; larger = farther from retraining.

    Raises:
        UserError: The shapes do not match, or margins are NaN.
    """
    _check(unlearned, retrained, bins, floor)
    margins = np.concatenate([unlearned, retrained]).astype(np.float64).clip(-LIMIT, LIMIT)
    low, span = margins.min(0), np.ptp(margins, axis=0)
    share = (margins - low) / np.where(span > 0, span, 1)
    place = np.minimum((share * bins).astype(np.int64), bins - 1)
    p, q = _shares(place[: len(unlearned)], bins), _shares(place[len(unlearned) :], bins)
    # Terms with p = 0 are 0: they become 0 · log 1.
    divergence = (p * np.log(np.where(p > 0, p, 1) / np.where(p > 0, np.maximum(q, floor), 1))).sum(1)
    return np.maximum(divergence, 0)  # with the floor, q sums to slightly more than 1


def _shares(place: NDArray[np.int64], bins: int) -> Real:
    """Return the share of models in each bin, [n, bins], from the bin of each model, [models, n]."""
    models, n = place.shape
    counts = np.bincount((place + bins * np.arange(n)).ravel(), minlength=n * bins)
    return counts.reshape(n, bins) / models


def _check(unlearned: NDArray[np.floating], retrained: NDArray[np.floating], bins: int, floor: float) -> None:
    shapes = Phrase(f"of shapes {unlearned.shape} and {retrained.shape}")
    if unlearned.ndim != 2 or retrained.ndim != 2 or unlearned.shape[1] != retrained.shape[1]:
        raise UserError("margins", shapes, "are not of the same examples", "give a row for each model, same columns")
    if len(unlearned) == 0 or len(retrained) == 0:
        raise UserError("margins", shapes, "there is nothing to compare", "give one model or more of each kind")
    if np.isnan(unlearned).any() or np.isnan(retrained).any():
        raise UserError("margins", None, "some are undefined (NaN)", "leave out the models that failed")
    if bins < 1 or not 0 < floor < 1:
        raise UserError("bins, floor", (bins, floor), "no bin, or no share", "give 1 bin or more, and 0 < floor < 1")
