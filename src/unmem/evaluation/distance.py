"""Distance between the predictions of a model and those of retrained models, per example."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from unmem.errors import Phrase, UserError
from unmem.predictions import symmetric_kl

Real = NDArray[np.float64]

LOWEST = float(np.log(np.finfo(np.float64).tiny))  # −708, log of the smallest normal float64


def prediction_distance(log_probs: Real, reference: Real | Sequence[Real]) -> Real:
    """Compute ½ KL(p‖q) + ½ KL(q‖p) of each example.

    Args:
        log_probs: [n, C] log-probabilities of the model.
        reference: [n, C] log-probabilities of another model, or of several as a sequence or [R, n, C].

    Returns:
        [n] float64 in nats, averaged over the reference models; 0 = the same prediction. Log-probabilities below −708,
        including −∞, are set to −708, so that the distance stays finite if one model rules out a class.
    """
    ours = np.asarray(log_probs, dtype=np.float64)
    alone = isinstance(reference, np.ndarray) and reference.ndim == 2
    others = [np.asarray(one, dtype=np.float64) for one in ([reference] if alone else reference)]
    _check(ours, others)
    return np.mean([_distance(ours, one) for one in others], axis=0)


def _distance(logp: Real, logq: Real) -> Real:
    return symmetric_kl(*(torch.from_numpy(np.maximum(one, LOWEST)) for one in (logp, logq))).numpy()


def _check(ours: Real, others: list[Real]) -> None:
    if not others:
        raise UserError("reference", None, "there is no model to compare with", "give the predictions of one or more")
    for one in others:
        if ours.ndim != 2 or one.shape != ours.shape:
            shapes = Phrase(f"of shape {one.shape}")
            raise UserError("reference", shapes, f"does not fit {ours.shape}", "use the same examples and classes")
    for name, values in (("log_probs", ours), *(("reference", one) for one in others)):
        # `not (… < …)` rejects NaN, too. Large values are clipped to prevent overflow in exp.
        if not (np.abs(np.exp(np.minimum(values, 1)).sum(1) - 1) < 1e-3).all():
            raise UserError(name, None, "the probabilities of some row do not sum to 1", "take log_softmax of logits")
