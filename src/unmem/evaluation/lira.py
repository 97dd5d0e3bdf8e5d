"""LiRA, the likelihood-ratio attack (Carlini et al. 2022, arXiv 2112.03570), with an ensemble as shadow models.

For each example, an ensemble member is IN if it was trained on the example, and OUT otherwise. Over members, the
log-odds of the label are approximately Gaussian, with a mean and a standard deviation per example. The attack tests
whether the log-odds of the attacked model come from the IN or from the OUT Gaussian.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from unmem.errors import Phrase, UserError, one_of

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]
Mode = Literal["online", "offline"]
Variance = Literal["per-example", "shared", "shrunk"]

LIMIT = float(np.log(999))  # the log-odds of 99.9%
NU0 = 4.0  # prior degrees of freedom of the pooled variance in shrunken variances
MIN_SPREAD = 1e-3  # smallest standard deviation of log-odds, for members with identical predictions


def lira(
    phi: NDArray[np.floating],
    members_phi: NDArray[np.floating],
    kept: Mask,
    *,
    mode: Mode = "online",
    variance: Variance = "shrunk",
) -> Real:
    """Compute the LiRA score of each example.

    Args:
        phi: [n] log-odds of the label, log p_y − log(1 − p_y), under the attacked model. Clipped by `clip_log_odds`.
        members_phi: [K, n] log-odds under the members, clipped as well.
        kept: [K, n] bool, True where the member was trained on the example.
        mode: online = log N(phi; μ_in, s_in²) − log N(phi; μ_out, s_out²). offline = log Φ((phi − μ_out)/s_out), which
            is one-sided and uses only OUT members; an example need not have IN members.
        variance: per-example = own variance of each example, with n − 1 in the denominator. shared = one variance per
            side, pooled over all examples around the mean of each (the paper's code uses the overall mean). shrunk =
            (ν₀ · pooled + (n − 1) · own)/(ν₀ + n − 1) with ν₀ = `NU0` (Smyth 2004).

    Returns:
        [n] float64, larger = more likely a member. NaN where a required side has fewer than 2 members, or none if the
        variance is shared.
    """
    one_of("mode", mode, get_args(Mode))
    one_of("variance", variance, get_args(Variance))
    _check(phi, members_phi, kept, mode)
    ours, theirs = clip_log_odds(phi), clip_log_odds(members_phi)
    mean_out, spread_out = _gaussians(theirs, ~kept, variance)
    z = (ours - mean_out) / spread_out
    if mode == "offline":
        return np.asarray(norm.logcdf(z), dtype=np.float64)
    mean_in, spread_in = _gaussians(theirs, kept, variance)
    return 0.5 * (z**2 - ((ours - mean_in) / spread_in) ** 2) + np.log(spread_out / spread_in)


def clip_log_odds(phi: NDArray[np.floating], limit: float = LIMIT) -> Real:
    """Clip log-odds of any shape at ± limit and return them as float64; NaN stays.

    Log-odds beyond 99.9% grow with training time while the probability hardly changes. Without clipping they would
    dominate means and variances.
    """
    return np.asarray(phi, dtype=np.float64).clip(-limit, limit)


def _gaussians(phi: Real, side: Mask, variance: Variance) -> tuple[Real, Real]:
    """Return mean and standard deviation, [n] each, over the members of one side; NaN where there are too few."""
    n = side.sum(0)
    mean = _divide(np.where(side, phi, 0).sum(0), n)
    squares = np.where(side, (phi - mean) ** 2, 0).sum(0)
    own = _divide(squares, n - 1)
    pooled = _divide(squares.sum(), (n - 1)[n > 1].sum())
    if variance == "shared":
        own = np.broadcast_to(pooled, own.shape)
    elif variance == "shrunk":
        own = (NU0 * pooled + (n - 1) * own) / (NU0 + n - 1)
    return mean, np.maximum(np.sqrt(own), MIN_SPREAD)


def _divide(above: NDArray[np.floating], below: NDArray[np.integer]) -> Real:
    """Return above / below, or NaN where below is not positive."""
    counted = np.where(below > 0, below, np.nan)
    return np.asarray(above / counted, dtype=np.float64)


def _check(phi: NDArray[np.floating], members_phi: NDArray[np.floating], kept: Mask, mode: Mode) -> None:
    if kept.dtype != np.bool_:
        raise UserError("kept", Phrase(f"of {kept.dtype}"), "must say True or False for each example", "give booleans")
    if phi.ndim != 1 or kept.ndim != 2 or members_phi.shape != kept.shape or kept.shape[1:] != phi.shape:
        raise UserError(
            "members_phi",
            Phrase(f"of shape {members_phi.shape}"),
            f"does not fit phi {phi.shape} and kept {kept.shape}",
            "give a row for each member and a column for each example",
        )
    used = ~kept if mode == "offline" else np.ones_like(kept)
    if np.isnan(phi).any() or np.isnan(members_phi[used]).any():
        raise UserError("log-odds", None, "some are undefined (NaN)", "train the models that failed again")
