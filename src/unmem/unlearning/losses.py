"""Losses that several unlearners share."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def divergence(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · mean over the batch of KL(teacher ‖ student), from logits [B, C] each."""
    target = (teacher / temperature).log_softmax(1)
    ours = (student.float() / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(ours, target, reduction="batchmean", log_target=True)


def label_log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """phi = log p_y − log(1 − p_y), [B], as a function that gradients pass through; from logits [B, C]."""
    z = logits.float()
    own = z.gather(1, labels[:, None])[:, 0]
    return own - z.scatter(1, labels[:, None], float("-inf")).logsumexp(1)
