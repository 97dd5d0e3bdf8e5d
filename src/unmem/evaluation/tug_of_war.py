"""ToW and ToW-MIA: how close an unlearned model comes to retraining (Zhao et al. 2024, arXiv 2406.01257)."""

from __future__ import annotations


def tug_of_war(*gaps: float) -> float:
    """Compute Π (1 − |gap|), the closeness to retraining.

    ToW takes the gaps in accuracy on the forget, retain and test sets. ToW-MIA takes the gap of the membership attack
    in place of the forget accuracy. Both are two-sided: forgetting too much costs as much as forgetting too little.

    Args:
        *gaps: Differences to the retrained model, each in [−1, 1].

    Returns:
        A number in [0, 1]; 1 = no difference.
    """
    product = 1.0
    for gap in gaps:
        product *= 1 - abs(gap)
    return product
