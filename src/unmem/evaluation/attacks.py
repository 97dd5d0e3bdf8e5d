"""Membership attacks on one model: can its forget examples be told from examples that it never saw?

AUC 0.5 says that they cannot, above that they are still known, below that they are more surprising than unseen ones.
A forget set that was picked by memorization is harder than the unseen examples to begin with: then read the attacks
that judge each example by its own difficulty (LiRA, and RMIA in part), and every attack beside a retrained model's.

Forget examples and unseen ones are scored by the same procedure, or the scores would differ for a model that never saw
either. About 30% of the K members left a forget example out, whereas all K never saw an unseen one. A mean and a
spread from fewer members give scores with heavier tails. So each unseen example gets the membership column of a forget
example, drawn at random, and only the members that are OUT in that column score it. LiRA online takes its negatives
from the members: a member that left an example out is scored by the other members, so the model is scored without one
OUT member of each example, drawn at random, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from unmem.evaluation.lira import lira
from unmem.evaluation.rmia import ratios
from unmem.evaluation.signals import Signals, log_odds_of
from unmem.metrics import auc_interval, roc_auc, tpr_at
from unmem.predictions import probability
from unmem.unlearning import Problem

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]
FALSE_ALARMS = {"1%": 0.01, "0.1%": 0.001}


@dataclass(frozen=True)
class Attack:
    """auc, low, high: the area under the curve with its 95% interval, for telling examples from unseen ones.
    tpr: share of the examples above the threshold for 1% and 0.1% false alarms; None where there are too few unseen
    examples for such a threshold. The expected share for a model that saw neither side is at most that rate.
    """

    auc: float
    low: float
    high: float
    tpr: dict[str, float | None]


def attacks(model: nn.Module, problem: Problem, members: Signals | None, *, seed: int = 0) -> dict[str, Attack]:
    """By signal; unseen examples are the holdout, so that the test set serves the accuracies alone.

    confidence: the probability of the label. confidence, retain set: the same for the retain set, which shows what the
    attack can see at all. lira: log-odds against the members that left the example out. lira-online: against members
    with and without it, compared with what members that left it out score themselves. rmia: offline, ranked by ratio.
    """
    forget, retain, unseen = (log_odds_of(model, one) for one in (problem.forget, problem.retain, problem.holdout))
    found = {"confidence": against(forget, unseen), "confidence, retain set": against(retain, unseen)}
    return found if members is None else found | by_members(forget, unseen, members, seed=seed)


def against(examples: Real, unseen: Real) -> Attack:
    """One attack from its scores, larger = more likely a member."""
    examples, unseen = examples[np.isfinite(examples)], unseen[np.isfinite(unseen)]
    low, high = auc_interval(examples, unseen)
    return Attack(
        roc_auc(examples, unseen), low, high, {name: _tpr(examples, unseen, fpr) for name, fpr in FALSE_ALARMS.items()}
    )


def _tpr(examples: Real, unseen: Real, fpr: float) -> float | None:
    """The share of examples above a threshold that a further unseen example exceeds with a chance of at most `fpr`.

    With k of the m unseen scores above the threshold, which is itself one of them, that chance is (k + 1)/(m + 1).
    """
    m = len(unseen)
    allowed = int(np.floor(round(fpr * (m + 1), 9))) - 1
    return tpr_at(examples, unseen, allowed / m) if allowed >= 0 else None


def by_members(forget: Real, unseen: Real, members: Signals, *, seed: int = 0) -> dict[str, Attack]:
    """LiRA offline and online, and RMIA offline, on one model.

    Args:
        forget: [n] log-odds of the forget examples under the model.
        unseen: [m] log-odds of the unseen examples under the model.
        members: the members' log-odds of the same examples, in the same order.
        seed: decides which members score which unseen example.

    Returns:
        The attacks by signal: `lira`, `lira-online`, `rmia`; without those that the members cannot score.
    """
    dealt = deal_columns(members.out, len(unseen), seed=seed)
    offline = [
        lira(ours, theirs, ~out, mode="offline", variance="shrunk")
        for ours, theirs, out in ((forget, members.phi, members.out), (unseen, members.unseen, dealt))
    ]
    scores = {
        "lira": (offline[0], offline[1]),
        "lira-online": (_online(forget, *_one_out_less(members, seed)), _online_null(members)),
        "rmia": (
            ratios(probability(forget), probability(members.phi), ~members.out),
            ratios(probability(unseen), probability(members.unseen), ~dealt),
        ),
    }
    # Members that were trained on none of the examples, or on all of them, leave an attack without scores.
    some = {name: both for name, both in scores.items() if all(np.isfinite(one).any() for one in both)}
    return {name: against(*both) for name, both in some.items()}


def deal_columns(out: Mask, m: int, *, seed: int) -> Mask:
    """OUT columns for m unseen examples, [K, m]: those of the forget examples, [K, n], in random order.

    Each column is used as often as any other, or once more. Any further difference would be one between the two sides.
    """
    random = np.random.default_rng([seed, 1])
    columns = np.resize(random.permutation(out.shape[1]), m)
    return out[:, random.permutation(columns)]


def _online(phi: Real, theirs: Real, out: Mask) -> Real:
    return lira(phi, theirs, ~out, mode="online", variance="shrunk")


def _online_null(members: Signals) -> Real:
    """Scores of members on the examples that they left out, each against the other members."""
    every = np.arange(len(members.phi))
    return np.concatenate(
        [_online(members.phi[k], members.phi[every != k], members.out[every != k])[members.out[k]] for k in every]
    )


def _one_out_less(members: Signals, seed: int) -> tuple[Real, Mask]:
    """Log-odds and OUT columns, [K − 1, n] each, without one OUT member of each example, drawn at random."""
    k, n = members.out.shape
    drawn = np.where(members.out, np.random.default_rng([seed, 2]).random((k, n)), -1).argmax(0)
    rest = np.arange(k - 1)[:, None] + (np.arange(k - 1)[:, None] >= drawn)
    return np.take_along_axis(members.phi, rest, 0), np.take_along_axis(members.out, rest, 0)
