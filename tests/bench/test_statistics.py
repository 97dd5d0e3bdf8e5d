"""Intervals, equivalence and exponents against SciPy and closed forms; verdicts at their bounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from unmem.bench.claims import above, below, within
from unmem.bench.statistics import equivalent, estimate, exponent, paired


def test_the_interval_is_that_of_the_t_distribution() -> None:
    runs = [0.91, 0.94, 0.90, 0.97]
    found = estimate(runs)
    assert found is not None
    low, high = stats.t.interval(0.95, 3, loc=np.mean(runs), scale=stats.sem(runs))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.n == 4


def test_a_missing_run_leaves_no_mean() -> None:
    assert estimate([0.9, None, 0.8]) is None
    assert estimate([]) is None
    assert paired([0.9, 0.8], [0.5, None]) is None


def test_two_one_sided_tests_agree_with_scipy() -> None:
    random = np.random.default_rng(0)
    for spread in (0.001, 0.005, 0.01, 0.02, 0.04):
        runs = random.normal(0.005, spread, 6)
        found = estimate(runs.tolist())
        assert found is not None
        lower = stats.ttest_1samp(runs, -0.02, alternative="greater").pvalue  # pyright: ignore[reportAttributeAccessIssue]
        upper = stats.ttest_1samp(runs, 0.02, alternative="less").pvalue  # pyright: ignore[reportAttributeAccessIssue]
        assert equivalent(found, 0.02) == (max(lower, upper) < 0.05)


def test_a_difference_that_is_not_significant_is_not_equivalence() -> None:
    wide = estimate([-0.1, 0.1, 0.05])
    assert within(wide, 0.02) == "not seen at this size"
    assert within(estimate([0.001, 0.0, -0.001]), 0.02) == "holds"
    assert within(estimate([0.2, 0.201, 0.199]), 0.02) == "does not hold"


def test_one_run_decides_nothing() -> None:
    assert above(estimate([5.0]), 0.0) == below(estimate([-5.0]), 0.0) == "not seen at this size"


def test_a_verdict_needs_the_whole_interval_on_one_side() -> None:
    assert above(estimate([0.1, 0.11, 0.12]), 0.0) == "holds"
    assert above(estimate([-0.1, -0.11, -0.12]), 0.0) == "does not hold"
    assert above(estimate([-0.1, 0.2, 0.1]), 0.0) == "not seen at this size"
    assert below(estimate([0.1, 0.11, 0.12]), 0.2) == "holds"


def test_the_exponent_of_a_power_law_is_found() -> None:
    sizes = [1000.0, 4000.0, 16000.0, 60000.0]
    found = exponent(sizes, [3e-6 * n**1.5 for n in sizes])
    assert found is not None
    assert found.mean == pytest.approx(1.5)
    assert found.runs == pytest.approx((1.5, 1.5, 1.5))
    assert exponent(sizes[:2], [1.0, 2.0]) is None
