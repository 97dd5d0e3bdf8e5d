"""RMIA, the robust membership inference attack (Zarifzadeh et al. 2024, arXiv 2312.03262), with an ensemble as
reference models.

The attack compares the confidence in an example x, relative to that of other models, with the same for population
examples z:

    score(x) = share of z with ratio(x) / ratio(z) ≥ γ,    ratio(x) = p(x) / p̄(x)

p is the confidence of the attacked model in the label. p̄ is that of a model that was trained on the example with
probability ½. For a fixed population the score increases with the ratio, so `ratios` alone determine the ROC curve,
without the ties of the score.
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
SMALLEST = 1e-100  # of p̄, so that the ratio is defined if all models assign probability 0


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
    """Compute the RMIA score of each example.

    Args:
        p: [n] probability of the label under the attacked model.
        members_p: [K, n] probability of the label under the members.
        kept: [K, n] bool, True where the member was trained on the example.
        population: [m] like p, for population examples on which neither the model nor any member was trained, and
            which are not among the n examples.
        members_population: [K, m] like members_p, for the population examples.
        mode: online = p̄ is the average of the mean over IN members and the mean over OUT members. offline = only OUT
            members; the IN mean is approximated as a · p_out + 1 − a, so p̄ = ½ ((1 + a) p_out + 1 − a). No member was
            trained on any z, so p̄(z) has the offline form in both modes.
        gamma: Threshold γ of the ratios. The paper's code uses 2 in both modes (for CIFAR-10, at a temperature of 2);
            the authors' later tool, Privacy Meter, uses 1.
        a: Slope of the approximation. 0 = a model is certain about its training examples; 1 = training on an example
            has no effect. 0.3 in the paper's code for CIFAR-10, 0.33 in LeakPro; a guess for other data, which could be
            tuned on members. If training on an example has less effect than a implies, hard examples have low offline
            scores whether they are members or not. Low scores are then not evidence that they were forgotten.

    Returns:
        [n] float64 in [0, 1], larger = more likely a member. NaN where a required side has no member. At γ = 1 a z with
        the same ratio counts; in the authors' code, which uses > instead of ≥, it does not.
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
    """Compute the offline ratio p / p̄ of each example. The arguments are those of `rmia`.

    Returns:
        [n] float64, ≥ 0, larger = more likely a member; NaN without OUT members.
    """
    return _ratios(p, members_p, kept, "p", "offline", a)


def _ratios(
    p: NDArray[np.floating], members_p: NDArray[np.floating], kept: Mask, name: str, mode: Mode, a: float
) -> Real:
    _check(p, members_p, kept, name, mode)
    return np.asarray(p, dtype=np.float64) / _typical(members_p, kept, mode, a)


def _typical(p: NDArray[np.floating], kept: Mask, mode: Mode, a: float) -> Real:
    """Return p̄ of each example, [n]; NaN where a required side has no member."""
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
