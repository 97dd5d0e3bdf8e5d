"""Losses that several unlearners share."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def divergence(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · mean over the batch of KL(teacher ‖ student), from logits [B, C] each."""
    target = (teacher / temperature).log_softmax(1)
    ours = (student.float() / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(ours, target, reduction="batchmean", log_target=True)
