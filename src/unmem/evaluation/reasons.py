"""Reasons for missing numbers, in the words that tables and reports show."""

from __future__ import annotations

# A share of fewer examples would reveal single persons, and is too noisy to describe the set.
SMALLEST_CELL = 10
NO_REFERENCE = "needs a retrained model to compare with"
NO_UNSEEN = "needs unseen examples, and all of the data are training data"
ONE_REFERENCE = "needs two retrained models"
NO_ORIGINAL = "needs the original model"
TOO_FEW = f"the forget set has fewer than {SMALLEST_CELL} examples, and would tell about single ones"
NO_OWN_TOW = "the reference itself: the others are compared with it"
NO_SECONDS = "time was not recorded"
NO_COST = "needs the time that training the original took"
