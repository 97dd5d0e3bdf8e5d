"""Membership inference attacks on one model: do they distinguish its forget examples from unseen examples?

An AUC of 0.5 means that they do not. Above 0.5 the forget examples are still memorized; below 0.5 the model predicts
them worse than unseen examples. A forget set chosen by memorization is harder than the unseen examples from the start.
In that case use the attacks that account for the difficulty of each example (LiRA, and RMIA in part), and compare each
attack with the same attack on a retrained model.

Forget examples and unseen examples are scored by the same procedure. Otherwise the scores would differ even for a model
that was trained on neither. About 30% of the K members were not trained on a given forget example, whereas none of the
K was trained on an unseen example. A mean and a standard deviation from fewer members give scores with heavier tails.
So each unseen example is assigned the membership column of a random forget example, and only the members that are OUT
in that column score it. LiRA online uses the members as negatives: a member that was not trained on an example is
scored by the other members. So the model is scored without one random OUT member per example, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from unmem.evaluation.lira import lira
from unmem.evaluation.log_odds import MemberLogOdds, log_odds_of
from unmem.evaluation.rmia import ratios
from unmem.metrics import auc_interval, roc_auc, tpr_at
from unmem.predictions import probability
from unmem.unlearning import Problem

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]
FALSE_ALARMS = {"1%": 0.01, "0.1%": 0.001}


@dataclass(frozen=True)
class Attack:
    """Result of one attack that separates examples from unseen examples.

    Attributes:
        auc: Area under the ROC curve.
        low, high: 95% interval of the AUC.
        tpr: True positive rate at false positive rates of 1% and 0.1%; None if there are too few unseen examples for
            such a threshold. For a model that was trained on neither side its expectation is at most that rate.
    """

    auc: float
    low: float
    high: float
    tpr: dict[str, float | None]


def attacks(model: nn.Module, problem: Problem, members: MemberLogOdds | None, *, seed: int = 0) -> dict[str, Attack]:
    """Run the attacks on a model. The holdout provides the unseen examples, so the test set is used for accuracy only.

    Returns:
        Attacks by name. "confidence": by the probability of the label. "confidence, retain set": the same for the
        retain set, which shows the sensitivity of the attack. With members also "lira": log-odds against OUT members;
        "lira-online": against IN and OUT members, compared with the scores of OUT members; "rmia": offline, ranked by
        the ratio.
    """
    forget, retain, unseen = (log_odds_of(model, one) for one in (problem.forget, problem.retain, problem.holdout))
    found = {
        "confidence": attack_from_scores(forget, unseen),
        "confidence, retain set": attack_from_scores(retain, unseen),
    }
    return found if members is None else found | member_attacks(forget, unseen, members, seed=seed)


def attack_from_scores(examples: Real, unseen: Real) -> Attack:
    """Evaluate an attack from its scores; larger = more likely a member."""
    examples, unseen = examples[np.isfinite(examples)], unseen[np.isfinite(unseen)]
    low, high = auc_interval(examples, unseen)
    return Attack(
        roc_auc(examples, unseen), low, high, {name: _tpr(examples, unseen, fpr) for name, fpr in FALSE_ALARMS.items()}
    )


def _tpr(examples: Real, unseen: Real, fpr: float) -> float | None:
    """Return the share of examples above a threshold that a new unseen example exceeds with probability ≤ `fpr`.

    The threshold is one of the m unseen scores. If k of them exceed it, that probability is (k + 1)/(m + 1).
    """
    m = len(unseen)
    allowed = int(np.floor(round(fpr * (m + 1), 9))) - 1
    return tpr_at(examples, unseen, allowed / m) if allowed >= 0 else None


def member_attacks(forget: Real, unseen: Real, members: MemberLogOdds, *, seed: int = 0) -> dict[str, Attack]:
    """Run LiRA offline and online, and RMIA offline, from log-odds of forget [n] and unseen [m] examples.

    `members` has log-odds of the same examples in the same order; `seed` determines which members score which unseen
    example. The result omits attacks without scores.
    """
    assigned = assign_columns(members.out, len(unseen), seed=seed)
    offline = [
        lira(ours, theirs, ~out, mode="offline", variance="shrunk")
        for ours, theirs, out in ((forget, members.phi, members.out), (unseen, members.unseen, assigned))
    ]
    scores = {
        "lira": (offline[0], offline[1]),
        "lira-online": (_online(forget, *_one_out_less(members, seed)), _online_null(members)),
        "rmia": (
            ratios(probability(forget), probability(members.phi), ~members.out),
            ratios(probability(unseen), probability(members.unseen), ~assigned),
        ),
    }
    # If the members were trained on none or on all of the examples, an attack has no scores.
    some = {name: both for name, both in scores.items() if all(np.isfinite(one).any() for one in both)}
    return {name: attack_from_scores(*both) for name, both in some.items()}


def assign_columns(out: Mask, m: int, *, seed: int) -> Mask:
    """Assign the OUT columns of the forget examples, [K, n], to m unseen examples in random order, [K, m].

    The numbers of uses of two columns differ by at most one, so that both sides are treated alike.
    """
    random = np.random.default_rng([seed, 1])
    columns = np.resize(random.permutation(out.shape[1]), m)
    return out[:, random.permutation(columns)]


def _online(phi: Real, theirs: Real, out: Mask) -> Real:
    return lira(phi, theirs, ~out, mode="online", variance="shrunk")


def _online_null(members: MemberLogOdds) -> Real:
    """Score each member against the other members, on the examples that it was not trained on."""
    every = np.arange(len(members.phi))
    return np.concatenate(
        [_online(members.phi[k], members.phi[every != k], members.out[every != k])[members.out[k]] for k in every]
    )


def _one_out_less(members: MemberLogOdds, seed: int) -> tuple[Real, Mask]:
    """Return log-odds and OUT columns, [K − 1, n] each, without one random OUT member per example."""
    k, n = members.out.shape
    drawn = np.where(members.out, np.random.default_rng([seed, 2]).random((k, n)), -1).argmax(0)
    rest = np.arange(k - 1)[:, None] + (np.arange(k - 1)[:, None] >= drawn)
    return np.take_along_axis(members.phi, rest, 0), np.take_along_axis(members.out, rest, 0)
