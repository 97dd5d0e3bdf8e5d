"""ToW and ToW-MIA: how close an unlearned model comes to retraining (Zhao et al. 2024, arXiv 2406.01257)."""

from __future__ import annotations


def tug_of_war(*gaps: float) -> float:
    """Π (1 − |gap|) over differences to the retrained model, each in [−1, 1]. 1 = no difference at all.

    ToW takes the gaps of the accuracies on the forget, retain and test sets; ToW-MIA has the gap of the membership
    attack in place of the forget accuracy. Both two-sided: forgetting too much costs as much as too little.
    """
    product = 1.0
    for gap in gaps:
        product *= 1 - abs(gap)
    return product
