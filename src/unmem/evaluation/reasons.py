"""Why a number is missing, in the words that every table and report has."""

from __future__ import annotations

# Below this many examples a share would tell about single persons, and says nothing about the set anyway.
SMALLEST_CELL = 10
NO_REFERENCE = "needs a retrained model to compare with"
NO_UNSEEN = "needs unseen examples, and all of the data are training data"
ONE_REFERENCE = "needs two retrained models"
NO_ORIGINAL = "needs the original model"
TOO_FEW = f"the forget set has fewer than {SMALLEST_CELL} examples, and would tell about single ones"
