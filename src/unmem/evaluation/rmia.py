"""RMIA, the robust attack (Zarifzadeh et al. 2024, arXiv 2312.03262), with an ensemble as reference models.

Is the model surer of x than models in general are, and more so than it is of population examples z?

    score(x) = share of z with ratio(x) / ratio(z) ≥ γ,    ratio(x) = p(x) / p̄(x)

p: confidence in the label of the model attacked; p̄: that of a model which was as likely trained on the example as not.
For one population the score rises with the ratio, so `ratios` alone give the ROC curve, without the ties of the score.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from unmem.errors import Phrase, UserError, one_of

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]
Mode = Literal["online", "offline"]

GAMMA = 1.0
SLOPE = 0.33
SMALLEST = 1e-100  # of p̄, so that an example that is impossible to every model has a ratio


def rmia(
    p: NDArray[np.floating],
    members_p: NDArray[np.floating],
    kept: Mask,
    population: NDArray[np.floating],
    members_population: NDArray[np.floating],
    *,
    mode: Mode = "offline",
    gamma: float = GAMMA,
    a: float = SLOPE,
) -> Real:
    """How likely each example was trained on, [n] float64 in [0, 1]; larger = more likely a member.

    p: [n] probability of the label under the model attacked. members_p: [K, n] of the members. kept: [K, n] bool, True
    where the member was trained on the example. population, members_population: [m] and [K, m], the same for examples z
    that neither the model nor any member was trained on, and that are not among the examples.

    mode: online = p̄ is the mean of the IN members' mean and the OUT members' mean, equal in weight however many each
        has. offline = OUT members alone, with the IN mean taken as a · p_out + 1 − a, so p̄ = ½ ((1 + a) p_out + 1 − a).
        No member was trained on any z, so p̄(z) has the offline form in both modes.
    gamma: how much surer than of z. The paper's code has 2 in both modes (for CIFAR-10, at a temperature of 2), the
        authors' later tool, Privacy Meter, 1.
    a: 0 = a model is sure of what it was trained on; 1 = training on it changes nothing. 0.3 in the paper's code for
        CIFAR-10, 0.33 in LeakPro; a guess for other data, and to be tuned on members if at all. Where training on an
        example changes less than a says, offline scores of hard examples are low, seen or not: they are then no sign
        that these were forgotten.

    NaN where a side that is needed has no member. At γ = 1 a z with the same ratio counts; in the authors' code, which
    has > for ≥, it does not.
    """
    one_of("mode", mode, get_args(Mode))
    if not (gamma > 0 and 0 <= a <= 1):
        raise UserError("gamma, a", (gamma, a), "must be above 0, and from 0 to 1", "leave them as they are")
    ours = _ratios(p, members_p, kept, "p", mode, a)
    if len(population) == 0 or len(members_population) == 0:
        raise UserError("population", None, "there are no population examples to compare with", "give some")
    nobody = np.zeros(members_population.shape, dtype=bool)
    others = _ratios(population, members_population, nobody, "population", "offline", a)
    at_least = np.searchsorted(np.sort(others), ours / gamma, side="right") / len(others)
    return np.where(np.isnan(ours), np.nan, at_least)


def ratios(p: NDArray[np.floating], members_p: NDArray[np.floating], kept: Mask, *, a: float = SLOPE) -> Real:
    """Ratio p / p̄ of each example, offline: [n] float64, ≥ 0; larger = more likely a member.

    Args:
        p: [n] probability of the label under the model attacked.
        members_p: [K, n] the same of the members.
        kept: [K, n] bool, True where a member does not count, since it was trained on the example.
        a: see `rmia`.

    Returns:
        The ratios, NaN where no member counts.
    """
    return _ratios(p, members_p, kept, "p", "offline", a)


def _ratios(
    p: NDArray[np.floating], members_p: NDArray[np.floating], kept: Mask, name: str, mode: Mode, a: float
) -> Real:
    _check(p, members_p, kept, name, mode)
    return np.asarray(p, dtype=np.float64) / _typical(members_p, kept, mode, a)


def _typical(p: NDArray[np.floating], kept: Mask, mode: Mode, a: float) -> Real:
    """p̄ of each example, [n]; NaN where there is no member to know it from."""
    p_out = _mean(p, ~kept)
    p_in = _mean(p, kept) if mode == "online" else a * p_out + 1 - a
    return np.maximum((p_in + p_out) / 2, SMALLEST)


def _mean(p: NDArray[np.floating], side: Mask) -> Real:
    n = side.sum(0)
    return np.where(side, p, 0).astype(np.float64).sum(0) / np.where(n > 0, n, np.nan)


def _check(p: NDArray[np.floating], members_p: NDArray[np.floating], kept: Mask, name: str, mode: Mode) -> None:
    if kept.dtype != np.bool_:
        raise UserError("kept", Phrase(f"of {kept.dtype}"), "must say True or False for each example", "give booleans")
    if p.ndim != 1 or kept.ndim != 2 or members_p.shape != kept.shape or kept.shape[1:] != p.shape:
        raise UserError(
            f"members_{name}",
            Phrase(f"of shape {members_p.shape}"),
            f"does not fit {name} {p.shape} and the members {kept.shape}",
            "give a row for each member and a column for each example",
        )
    used = np.concatenate([p, members_p[~kept if mode == "offline" else np.ones_like(kept)]])
    if not ((used >= 0) & (used <= 1)).all():
        raise UserError(name, None, "some are no probabilities from 0 to 1", "give confidences, not logits or log-odds")
