"""Groups and AUROC where they are easiest to get wrong: skewed values, and examples without a value."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from unmem.memorization import Scores

NAN = float("nan")


def scored(values: list[float]) -> Scores:
    return Scores("s", np.array([f"i{k}" for k in range(len(values))]), np.array(values))


def test_groups_are_disjoint_where_the_nearest_to_the_median_are_also_the_lowest() -> None:
    groups = scored([0.0] * 8 + [0.9, 0.95, 1.0]).groups(3)
    together = [name for group in groups.values() for name in group]
    assert len(together) == len(set(together)) == 9


def test_the_medium_group_is_nearest_to_the_median_and_not_to_the_mean() -> None:
    groups = scored([0, 1, 2, 3, 4, 5, 6, 7, 1000.0]).groups(1)
    assert {name: group.tolist() for name, group in groups.items()} == {"low": ["i0"], "medium": ["i4"], "high": ["i8"]}


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_that_of_scikit_learn_on_the_examples_that_have_a_value(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, 6, 60).astype(float)  # many ties
    values[random.choice(60, 15, replace=False)] = NAN
    marked = random.random(60) < 0.3
    scores, defined = scored(values.tolist()), ~np.isnan(values)
    expected = roc_auc_score(marked[defined], values[defined])
    assert scores.auroc(scores.ids[marked]) == pytest.approx(expected)
    order = random.permutation(60)
    permuted = Scores("s", scores.ids[order], scores.values[order])
    assert permuted.auroc(scores.ids[marked]) == pytest.approx(expected)
