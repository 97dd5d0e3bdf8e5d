"""Calibration: from the log-odds of a weaker model to those that the original would have on unseen examples.

A short teacher, or an early epoch, is less sure than a finished model. Both can be asked about the holdout, which
neither has seen. Let x(j, c) and y(j, c) be their log-odds log p_c − log(1 − p_c) of class c on holdout example j.
Three kinds of forget example are told apart by how their log-odds x_i are distributed:

    right      the label is the class that unseen examples like it have; on the holdout, x(j, label of j)
    wrong      the label is some other class, as planted wrong labels are; on the holdout, x(j, c) of all others
    selected   neither explains it: the set was selected for being hard, and lies flat between the two

Their shares π are fitted to the forget set by EM, which also gives v_i, the chance that the label of example i is a
wrong one. With weights w(j, c) from π_right and π_wrong,

    iso   = argmin over non-decreasing m of Σ_{j, c} w(j, c) (m(x(j, c)) − y(j, c))²
    qq    = F_y⁻¹ ∘ F_x, with F_x and F_y the weighted distribution functions of x and y
    φ_i   = v_i · iso(x_i) + (1 − v_i) · qq(x_i)

Regression predicts means, which scatter less than what they are means of: of a set of which an unseen model gets 88%
right it would predict more than 90% to be right. The quantile map keeps the distribution, and with it how many
examples of a set are known. Wrong labels lie far on one side, where nothing is to be counted and the mean is the better
prediction. y is cut at ± log 9999: beyond, log-odds say no more of a probability and would dominate the means.
Sources: isotonic calibration, Zadrozny & Elkan 2002; EM for class shares, Saerens et al. 2002. New here: the target is
another model's log-odds instead of frequencies, and the weights follow the forget set.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from unmem.data import Examples
from unmem.data.splits import stratified_sample
from unmem.predictions import accuracy_of, class_log_odds, label_log_odds, of_others
from unmem.targets.types import Float32, Request, Targets
from unmem.training import predict

Float64 = NDArray[np.float64]

# With fewer holdout examples than this, some draws of them made targets worse than without calibration; with more than
# MOST, targets hardly improved (docs/unlearning.md).
SMALLEST = 50
MOST = 1000
LIMIT = float(np.log(9999))  # ten times the odds of 99.9%, where audits cut: a target at their cut is not pulled inside
BINS = 20
QUANTILES = 400
ROUNDS = 300
KINDS = ("right", "wrong", "selected")


@dataclass(frozen=True, eq=False)
class Calibration:
    """A map of log-odds, fitted on the holdout for one forget set.

    Attributes:
        knots: [K] float64, log-odds of the weaker model, increasing.
        values: [K] float64, log-odds of the original there by iso, non-decreasing. Linear between knots, constant
            outside.
        quantiles: [2, QUANTILES] float64, quantiles of the log-odds of the weaker model and of the original.
        shares: The shares of right, wrong and selected examples in the forget set, which sum to 1.
        edges: [BINS − 1] float64, increasing. wrong: [BINS] float64, the chance v of a wrong label in each bin.
        error: [BINS] float64, root mean square of (map − log-odds of the original) on the holdout in each bin.
    """

    knots: Float64
    values: Float64
    quantiles: Float64
    shares: tuple[float, float, float]
    edges: Float64
    wrong: Float64
    error: Float64

    @classmethod
    def fit(cls, weak: Tensor, original: Tensor, labels: Tensor, asked: Float32, *, odds: bool = False) -> Calibration:
        """Fit the map.

        Args:
            weak: [M, C] log-probabilities or logits of the weaker model on the holdout.
            original: [M, C] the same of the original.
            labels: [M] labels of the holdout.
            asked: [n] log-odds of the label by the weaker model on the forget set.
            odds: Whether `weak` are log-odds of each class already.
        """
        x, y = (
            weak.double().cpu().numpy() if odds else class_log_odds(weak),
            np.clip(class_log_odds(original), -LIMIT, LIMIT),
        )
        own = _own(labels, x.shape[1])
        edges = np.linspace(np.median(x[~own]), max(np.median(x[own]), np.median(x[~own]) + 1e-6), BINS - 1)
        shares, wrong = _shares(x, own, asked.astype(np.float64), edges)
        weights = np.where(own, shares[0] / own.sum(), shares[1] / (~own).sum()) + 1e-12
        from sklearn.isotonic import IsotonicRegression  # here, since it takes a third of a second

        fitted = IsotonicRegression(out_of_bounds="clip").fit(x.ravel(), y.ravel(), sample_weight=weights.ravel())
        found = cls(
            np.asarray(fitted.X_thresholds_, np.float64),
            np.asarray(fitted.y_thresholds_, np.float64),
            np.stack([_quantiles(x, weights), _quantiles(y, weights)]),
            shares,
            edges,
            wrong,
            np.zeros(BINS),
        )
        return replace(found, error=found._error(x, y, weights))

    def __call__(self, x: NDArray[Any]) -> Float32:
        """The calibrated log-odds, float32 of the same shape."""
        chance = self.wrong[self._bin(x)]
        found = chance * np.interp(x, self.knots, self.values) + (1 - chance) * np.interp(x, *self.quantiles)
        return np.clip(found, -LIMIT, LIMIT).astype(np.float32)

    def error_of(self, x: NDArray[Any]) -> Float32:
        """Expected size of the difference between calibrated log-odds and those of one model like the original."""
        return self.error[self._bin(x)].astype(np.float32)

    def _bin(self, x: NDArray[Any]) -> NDArray[np.int64]:
        return np.searchsorted(self.edges, x)

    def _error(self, x: Float64, y: Float64, weights: Float64) -> Float64:
        at, squares = self._bin(x).ravel(), (self(x).astype(np.float64) - y).ravel() ** 2
        weights = weights.ravel()
        total, weight = (np.bincount(at, part, minlength=BINS) for part in (weights * squares, weights))
        one = weights.mean()  # a pair of average size in each bin, so that no bin is empty
        return np.sqrt((total + one * total.sum() / weight.sum()) / (weight + one))


@dataclass(frozen=True, eq=False)
class Label:
    """What is known of the labels of n examples alone. phi: [n] float32, log-odds. rival: as in `Targets`."""

    phi: Float32
    rival: Float32


Asked = Tensor | Label


def _own(labels: Tensor, classes: int) -> NDArray[np.bool_]:
    """[M, C], True at the label."""
    return np.arange(classes) == labels.cpu().numpy()[:, None]


def _shares(
    x: Float64, own: NDArray[np.bool_], asked: Float64, edges: Float64
) -> tuple[tuple[float, float, float], Float64]:
    """EM for the shares of the three kinds, and the chance of a wrong label in each bin."""
    flat = np.ones(BINS)
    flat[[0, -1]] = 0  # beyond the typical wrong and the typical right there is nothing to select
    density = np.stack([_histogram(x[own], edges), _histogram(x[~own], edges), flat / flat.sum()])
    counts = np.bincount(np.searchsorted(edges, asked), minlength=BINS)
    shares = np.full(3, 1 / 3)
    for _ in range(ROUNDS):
        chance = shares[:, None] * density / (shares @ density)
        shares = ((chance * counts).sum(1) + 1) / (counts.sum() + 3)  # one example of each kind beforehand
    chance = shares[:, None] * density / (shares @ density)
    right, wrong, selected = shares.tolist()
    return (right, wrong, selected), chance[1]


def _quantiles(values: Float64, weights: Float64) -> Float64:
    """[QUANTILES] of a weighted sample, each value in the middle of its weight."""
    order = np.argsort(values, axis=None)
    sizes = weights.ravel()[order]
    levels = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
    return np.interp((np.arange(QUANTILES) + 0.5) / QUANTILES, levels, values.ravel()[order])


def _histogram(values: Float64, edges: Float64) -> Float64:
    """Shares of the values in each bin, none of them 0."""
    counts = np.bincount(np.searchsorted(edges, values), minlength=BINS) + 0.5
    return counts / counts.sum()


def calibrating(holdout: Examples, most: int) -> Examples:
    """The holdout examples that calibrate: a stratified sample if there are more than `most`."""
    return holdout if len(holdout) <= most else stratified_sample(holdout, most, seed=0)


def calibrated(
    source: str, problem: Request, asked: Asked, unseen: Examples, checked: Tensor, settings: dict[str, Any]
) -> Targets:
    """Targets of the forget set from what a weaker model predicts for it and for unseen examples.

    Args:
        source: The name of the source.
        problem: The request.
        asked: [n, C] log-probabilities of `problem.forget` by the weaker model, or what is known of its labels alone.
        unseen: M holdout examples.
        checked: [M, C] log-probabilities of these by the weaker model; log-odds of each class if `asked` is of labels
            alone.
        settings: What determined them.
    """
    labels, ids = problem.forget.labels, problem.forget.ids
    alone = isinstance(asked, Label)
    phi, rival = (
        (asked.phi, asked.rival) if alone else (label_log_odds(asked.double(), labels).float().cpu().numpy(), None)
    )
    facts = settings | {"data": problem.retain.fingerprint, "calibrated_on": len(unseen)}
    if len(unseen) < SMALLEST:
        said = (
            f"the holdout has {len(unseen)} examples, too few to calibrate the {source} ({SMALLEST} are needed): "
            "its predictions are used as they are"
        )
        known = None if alone else asked.float().cpu().numpy()
        return Targets(source, ids, phi, known, settings=facts, notes=(said,), rival=rival)
    original = predict(problem.model, unseen)
    fitted = Calibration.fit(checked, original, unseen.labels, phi, odds=alone)
    goal = fitted(phi)
    ours, theirs = accuracy_of(checked, unseen.labels), accuracy_of(original, unseen.labels)
    facts |= {"kinds": dict(zip(KINDS, fitted.shares, strict=True)), "unseen_accuracy": ours}
    return Targets(
        source,
        ids,
        goal,
        None if alone else with_label(asked, labels, goal),
        fitted.error_of(phi),
        settings=facts,
        notes=_short_of(source, ours, theirs, problem.forget.n_classes),
        rival=rival,
    )


def _short_of(source: str, ours: float, theirs: float, classes: int) -> tuple[str, ...]:
    """A warning if the weaker model did not come half of the way from chance to the original."""
    if ours - 1 / classes >= (theirs - 1 / classes) / 2:
        return ()
    return (
        f"the {source} gets {ours:.1%} of the unseen examples right and the original {theirs:.1%}: its targets may be "
        "far off; give it more epochs",
    )


def with_label(log_probs: Tensor, labels: Tensor, phi: Float32) -> Float32:
    """Log-probabilities [N, C] with the log-odds `phi` for the label and the other classes in their proportions."""
    goal = torch.from_numpy(phi).to(log_probs.device).double()
    others = of_others(log_probs.double(), labels).log_softmax(1)
    found = others + logsigmoid(-goal)[:, None]
    return found.scatter(1, labels[:, None], logsigmoid(goal)[:, None]).float().cpu().numpy()
