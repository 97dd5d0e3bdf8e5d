"""Quantities computed from logits: accuracy, probability, log-odds, margin and symmetric KL divergence.

Functions of tensors return tensors on the same device. They are differentiable, except for `hits` and `accuracy_of`.
"""

from __future__ import annotations

from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@overload
def hits(rows: Tensor, labels: Tensor) -> Tensor: ...
@overload
def hits(rows: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> NDArray[np.bool_]: ...
def hits(rows: Any, labels: Any) -> Any:
    """Return whether the largest entry of each row [N, C] is that of its label, [N] bool."""
    return rows.argmax(1) == labels


def accuracy_of(rows: Tensor, labels: Tensor) -> float:
    """Return the share of the rows [N, C] whose largest entry is that of the label, in [0, 1].

    >>> import torch
    >>> accuracy_of(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
    0.5
    """
    return float(hits(rows, labels).double().mean())


def of_label(rows: Tensor, labels: Tensor) -> Tensor:
    """Return the entry of the label in each row [N, C], [N]."""
    return rows.gather(1, labels[:, None])[:, 0]


def of_others(rows: Tensor, labels: Tensor) -> Tensor:
    """Return the rows [N, C] with −∞ in place of the entry of the label."""
    return rows.scatter(1, labels[:, None], float("-inf"))


def label_log_odds(rows: Tensor, labels: Tensor) -> Tensor:
    """Return phi = log p_y − log(1 − p_y), [N] in the dtype of the rows, from logits or log-probabilities [N, C]."""
    return of_label(rows, labels) - of_others(rows, labels).logsumexp(1)


def margin(rows: Tensor, labels: Tensor) -> Tensor:
    """Return log p_y − log max_{k≠y} p_k, [N] in the dtype of the rows, from logits or log-probabilities [N, C]."""
    return of_label(rows, labels) - of_others(rows, labels).amax(1)


def log_odds(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return `label_log_odds` and `margin`, [N] float64 each, from logits [N, C]."""
    z = logits.double()
    return label_log_odds(z, labels), margin(z, labels)


def class_log_odds(rows: Tensor) -> NDArray[np.float64]:
    """Return log p_c − log(1 − p_c) of every class, [N, C], from logits or log-probabilities [N, C].

    >>> import torch
    >>> class_log_odds(torch.tensor([[0.25, 0.75]]).log()).round(3)
    array([[-1.099,  1.099]])
    """
    z = rows.double().log_softmax(1)
    top = z.argmax(1, keepdim=True)
    # 1 − p loses precision for p near 1. Only the largest probability can be near 1, so there the others are summed.
    rest = (-z.exp().clamp(max=1 - 1e-12)).log1p()
    rest = rest.scatter(1, top, z.scatter(1, top, float("-inf")).logsumexp(1, keepdim=True))
    found: NDArray[np.float64] = (z - rest).cpu().numpy()
    return found


def label_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the confidence, the softmax probability of the label, [N] float64, from logits [N, C]."""
    return of_label(logits.double().softmax(1), labels)


def probability(phi: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the probabilities for log-odds, in float64 and of the same shape.

    >>> probability(np.array([0.0, 40.0])).tolist()
    [0.5, 1.0]
    """
    from scipy.special import expit

    found: NDArray[np.float64] = expit(phi.astype(np.float64))
    return found


def confidence(
    labels: NDArray[np.int64], phi: NDArray[np.float32], log_probs: NDArray[np.float32] | None
) -> NDArray[np.float64]:
    """Return the probability of the label, [N] float64, from log-probabilities [N, C] or else from phi [N]."""
    if log_probs is None:
        return probability(phi)
    return np.exp(log_probs[np.arange(len(log_probs)), labels].astype(np.float64))


def symmetric_kl(logp: Tensor, logq: Tensor) -> Tensor:
    """Return ½ KL(p‖q) + ½ KL(q‖p), [N] in nats, from log-probabilities [N, C] each; 0 = the same prediction."""
    return 0.5 * ((logp.exp() - logq.exp()) * (logp - logq)).sum(1)
