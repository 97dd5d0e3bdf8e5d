"""Membership attacks on one model: can its forget examples be told from examples that it never saw?

AUC 0.5 says that they cannot, above that they are still known, below that they are more surprising than unseen ones.
A forget set that was picked by memorization is harder than the unseen examples to begin with: then read the attacks
that judge each example by its own difficulty (LiRA, and RMIA in part), and every attack beside a retrained model's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn

from unmem.evaluation.lira import lira
from unmem.evaluation.rmia import rmia
from unmem.evaluation.roc import auc_interval, roc_auc, tpr_at
from unmem.evaluation.signals import Signals, log_odds_of
from unmem.unlearning import Problem

Real = NDArray[np.float64]
FALSE_ALARMS = {"1%": 0.01, "0.1%": 0.001}


@dataclass(frozen=True)
class Attack:
    """auc, low, high: the area under the curve with its 95% interval, for telling examples from unseen ones.
    tpr: share of the examples that are found at 1% and 0.1% false alarms; None where so few were not to be counted."""

    auc: float
    low: float
    high: float
    tpr: dict[str, float | None]


def attacks(model: nn.Module, problem: Problem, members: Signals | None, *, seed: int = 0) -> dict[str, Attack]:
    """By signal; unseen examples are the holdout, so that the test set serves the accuracies alone.

    confidence: the probability of the label. confidence, retain set: the same for the retain set, which shows what the
    attack can see at all. lira: log-odds against the members that left the example out. lira-online: against members
    with and without it, compared with what members that left it out score themselves. rmia: see there.
    """
    forget, retain, unseen = (log_odds_of(model, one) for one in (problem.forget, problem.retain, problem.holdout))
    found = {"confidence": against(forget, unseen), "confidence, retain set": against(retain, unseen)}
    return found if members is None else found | _by_members(forget, unseen, members, seed)


def against(examples: Real, unseen: Real) -> Attack:
    """One attack from its scores, larger = more likely a member."""
    examples, unseen = examples[np.isfinite(examples)], unseen[np.isfinite(unseen)]
    low, high = auc_interval(examples, unseen)
    tpr = {
        name: tpr_at(examples, unseen, fpr) if len(unseen) * fpr >= 1 else None for name, fpr in FALSE_ALARMS.items()
    }
    return Attack(roc_auc(examples, unseen), low, high, tpr)


def _by_members(forget: Real, unseen: Real, members: Signals, seed: int) -> dict[str, Attack]:
    nobody = np.zeros(members.unseen.shape, dtype=bool)
    offline = [
        lira(ours, theirs, kept, mode="offline", variance="shrunk")
        for ours, theirs, kept in ((forget, members.phi, ~members.out), (unseen, members.unseen, nobody))
    ]
    return {
        "lira": against(*offline),
        "lira-online": against(_online(forget, members), _online_null(members)),
        "rmia": _rmia(forget, unseen, members, seed),
    }


def _online(phi: Real, members: Signals) -> Real:
    return lira(phi, members.phi, ~members.out, mode="online", variance="shrunk")


def _online_null(members: Signals) -> Real:
    """Scores of members on the examples that they left out, each against the other members."""
    scores = [_online(members.phi[k], members.without(k))[members.out[k]] for k in range(len(members.phi))]
    return np.concatenate(scores)


def _rmia(forget: Real, unseen: Real, members: Signals, seed: int) -> Attack:
    """One half of the unseen examples is the population, the other is told from the forget set."""
    order = np.random.default_rng(seed).permutation(len(unseen))
    population, others = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    z = expit(unseen[population]), expit(members.unseen[:, population])
    nobody = np.zeros((len(members.unseen), len(others)), dtype=bool)
    return against(
        rmia(expit(forget), expit(members.phi), ~members.out, *z),
        rmia(expit(unseen[others]), expit(members.unseen[:, others]), nobody, *z),
    )
