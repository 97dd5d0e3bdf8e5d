"""Reasons for missing numbers, as shown in tables and reports."""

from __future__ import annotations

# A share of fewer examples could reveal information about single persons, and is too noisy to describe the set.
SMALLEST_CELL = 10
NO_REFERENCE = "needs a retrained model to compare with"
NO_UNSEEN = "needs unseen examples, but all examples are training examples"
ONE_REFERENCE = "needs two retrained models"
NO_ORIGINAL = "needs the original model"
TOO_FEW = f"the forget set has fewer than {SMALLEST_CELL} examples, so results on it could reveal single examples"
NO_OWN_TOW = "is the reference of the comparison"
NO_SECONDS = "the time was not recorded"
NO_COST = "needs the training time of the original"
