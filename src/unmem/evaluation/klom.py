"""KLoM, the divergence of margins (Georgiev et al. 2024, arXiv 2410.23232): does a *procedure* of unlearning give the
models that retraining gives? It judges many unlearned models at once, not the one that ships."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unmem.errors import Phrase, UserError

Real = NDArray[np.float64]

LIMIT = 100.0  # margins are cut here, as in the authors' code: an infinite one would leave no bins to tell others apart


def klom(
    unlearned: NDArray[np.floating], retrained: NDArray[np.floating], *, bins: int = 20, floor: float = 1e-5
) -> Real:
    """KL(unlearned ‖ retrained) of the binned margins of each example, [n] float64 in nats; larger = farther.

    unlearned: [N, n] margins, log-odds of the label, of N unlearned models; retrained: [M, n] of M retrained ones. Bins
    of equal width span both together, example by example, the last one with its right edge. With p and q the shares in
    the bins, Σ p log(p / max(q, floor)) over p > 0: at most log(1/floor), 11.51 nats, where all unlearned models are in
    one bin and no retrained one is. Margins that are all equal give 0.

    Shares of few models are noisy, and a bin that by chance has no retrained model costs as much as one that could have
    none: two honest sets of 10 differ by about 5.6 nats, of 100 by 0.35, of 1,000 by 0.02 (Gaussian margins, 20 bins).
    So the value of retrained against further retrained models, at the same N and M, must be printed beside it.
    The authors' code scales the floored q to sum 1, which moves no value by more than bins · floor, and leaves out the
    largest margin, on the right edge: that makes 0.35 a 0.34, and a value of 0 or NaN where margins are constant.
    """
    _check(unlearned, retrained, bins, floor)
    margins = np.concatenate([unlearned, retrained]).astype(np.float64).clip(-LIMIT, LIMIT)
    low, span = margins.min(0), np.ptp(margins, axis=0)
    share = (margins - low) / np.where(span > 0, span, 1)
    place = np.minimum((share * bins).astype(np.int64), bins - 1)
    p, q = _shares(place[: len(unlearned)], bins), _shares(place[len(unlearned) :], bins)
    # Where p is 0 the logarithm is of 1, whatever q.
    divergence = (p * np.log(np.where(p > 0, p, 1) / np.where(p > 0, np.maximum(q, floor), 1))).sum(1)
    return np.maximum(divergence, 0)  # floors make q sum to a little over 1


def _shares(place: NDArray[np.int64], bins: int) -> Real:
    """Share of models in each bin, [n, bins], from the bin of each model, [models, n]."""
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
