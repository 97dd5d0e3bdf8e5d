"""Many trainings on subsets of one training set: members that saw an example beside members that did not."""

from unmem.ensembles.controls import Pairs, pairs_of
from unmem.ensembles.ensemble import Ensemble, Outputs
from unmem.ensembles.masks import Mask, complementary_masks, fold_masks, leave_out_masks
from unmem.ensembles.members import read_members, train_members

__all__ = [
    "Ensemble",
    "Mask",
    "Outputs",
    "Pairs",
    "complementary_masks",
    "fold_masks",
    "leave_out_masks",
    "pairs_of",
    "read_members",
    "train_members",
]
