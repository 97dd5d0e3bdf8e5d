"""Calibration: from the log-odds of a weaker model to those of the original, learned where neither saw the examples.

A short teacher, or an early epoch, is less sure than a finished model. On the holdout both can be asked, and

    map = argmin over non-decreasing m of Σ_{i in holdout} Σ_c (m(φ_weak(i, c)) − φ_original(i, c))²

with φ(i, c) = log p_c(x_i) − log(1 − p_c(x_i)) is isotonic regression. It runs over all classes of each example, not
the label alone, so that the map also covers classes that are wrong for an example, as a wrong label is.
Source: isotonic calibration, Zadrozny & Elkan 2002; here its target is another model's log-odds instead of frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from torch import Tensor

from unmem.targets.types import Float32, class_log_odds

Float64 = NDArray[np.float64]

SMALLEST = 30
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Calibration:
    """A monotone map of log-odds.

    Attributes:
        knots: [K] float64, log-odds of the weaker model, increasing.
        values: [K] float64, log-odds of the original there, non-decreasing. Linear between knots, constant outside.
        error: [K] float64, root mean square error of the map near each knot, on examples it was not fitted on.
        n: Holdout examples that it was fitted on.
    """

    knots: Float64
    values: Float64
    error: Float64
    n: int

    @classmethod
    def fit(cls, weak: Tensor, original: Tensor) -> Calibration:
        """Fit the map on the holdout.

        Args:
            weak: [M, C] log-probabilities or logits of the weaker model.
            original: [M, C] the same of the original.
        """
        x, y = class_log_odds(weak), class_log_odds(original)
        knots, values = _isotonic(x, y)
        return cls(knots, values, _error_at(knots, x, y), len(x))

    def __call__(self, phi: NDArray[Any]) -> Float32:
        """The calibrated log-odds."""
        return np.interp(phi, self.knots, self.values).astype(np.float32)

    def error_of(self, phi: NDArray[Any]) -> Float32:
        """Expected size of the error of the calibrated log-odds, from the log-odds of the weaker model."""
        return np.interp(phi, self.knots, self.error).astype(np.float32)


def _isotonic(x: Float64, y: Float64) -> tuple[Float64, Float64]:
    """Knots and values of the non-decreasing least-squares fit through all pairs."""
    fitted = IsotonicRegression(out_of_bounds="clip").fit(x.ravel(), y.ravel())
    return np.asarray(fitted.X_thresholds_, np.float64), np.asarray(fitted.y_thresholds_, np.float64)


def _error_at(knots: Float64, x: Float64, y: Float64) -> Float64:
    """Root mean square residual near each knot: each fold of examples is judged by the map of the other folds."""
    fold = np.arange(len(x)) % FOLDS
    squares = np.empty_like(x)
    for k in range(min(FOLDS, len(x))):
        here = fold == k
        fitted = _isotonic(x[~here], y[~here])
        squares[here] = (np.interp(x[here], *fitted) - y[here]) ** 2
    order = np.argsort(x.ravel(), kind="stable")
    at, found = x.ravel()[order], squares.ravel()[order]
    # The mean over the nearest tenth of the pairs, as a running mean.
    width = max(1, len(at) // 10)
    total = np.concatenate([[0.0], np.cumsum(found)])
    centre = np.searchsorted(at, knots)
    low = np.clip(centre - width // 2, 0, len(at) - width)
    return np.sqrt((total[low + width] - total[low]) / width)


def with_label(log_probs: Tensor, labels: Tensor, phi: Float32) -> Float32:
    """Log-probabilities [N, C] with the log-odds `phi` for the label and the other classes in their proportions."""
    goal = torch.from_numpy(phi).to(log_probs.device).double()
    others = log_probs.double().scatter(1, labels[:, None], float("-inf")).log_softmax(1)
    found = others + torch.nn.functional.logsigmoid(-goal)[:, None]
    return found.scatter(1, labels[:, None], torch.nn.functional.logsigmoid(goal)[:, None]).float().cpu().numpy()
