"""Tables of the benchmarks: runs that disagree are shown one by one, and others as a mean with its interval."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

from tests.helpers import benchmarks


@pytest.fixture
def of() -> Iterator[Any]:
    with benchmarks() as load:
        yield load


def test_an_interval_keeps_its_runs(of: Any) -> None:
    found = of("common").interval([0.9, 0.95, 0.98])
    half = student.ppf(0.975, 2) * np.std([0.9, 0.95, 0.98], ddof=1) / np.sqrt(3)
    assert found["runs"] == [0.9, 0.95, 0.98]
    assert (found["low"], found["high"]) == pytest.approx((0.943333 - half, 0.943333 + half), abs=1e-5)
    assert of("common").interval([0.9, None]) is None
    assert of("common").interval([0.9]) is None


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_usual_spread_is_that_of_single_runs_whatever_some_rows_do(of: Any, n: int) -> None:
    random = np.random.default_rng(0)
    rows = [of("common").interval(list(random.normal(0.9, 0.02, n))) for _ in range(2_000)]
    assert of("common").usual_spread([*rows, None], 0.001) == pytest.approx(0.02, rel=0.06)
    broken = [of("common").interval([0.9, *[0.1] * (n - 1)]) for _ in range(100)]
    assert of("common").usual_spread([*rows, *broken], 0.001) < 0.023
    assert of("common").usual_spread([of("common").interval([0.5, 0.5])], 0.001) == 0.001


def test_of_rows_that_scatter_alike_one_in_a_thousand_is_called_apart(of: Any) -> None:
    random, common, found = np.random.default_rng(1), of("common"), []
    for _ in range(1_500):
        rows = [common.interval(list(random.normal(0.9, 0.02, 3))) for _ in range(8)]
        spread = common.usual_spread(rows, 0.001)
        found += [common.disagree(row, spread) for row in rows]
    assert 0 < np.mean(found) < 0.002


def test_a_cell_shows_the_runs_where_one_broke_down(of: Any) -> None:
    common = of("common")
    fine, broken = common.interval([0.971, 0.975, 0.98]), common.interval([0.312, 0.971, 0.98])
    assert common.cell(fine, 0.005) == f"0.975 ± {fine['high'] - fine['mean']:.3f}"
    assert common.cell(broken, 0.005) == "0.312, 0.971, 0.980"
    assert common.cell(broken, 0.005, ".1%") == "31.2%, 97.1%, 98.0%"
    assert common.cell(fine, 0.005, ".1%", half=False) == "97.5%"
    assert common.cell(fine, 0.005, ".1%") == f"97.5 ± {fine['high'] - fine['mean']:.1%}"
    assert common.cell(None, 0.005) == "–"
    old = {"mean": 0.754, "low": -0.1, "high": 1.6, "n": 3}  # a result of before, which kept no runs
    assert common.cell(old, 0.005) == "0.754 ± 0.846"


def test_tables_show_the_runs_of_broken_cells_alone(of: Any) -> None:
    interval, runs = of("common").interval, [0.946, 0.951, 0.953]

    def row(broken: bool) -> dict[str, Any]:
        low = [0.2, *runs[1:]] if broken else runs
        return {"accuracy on them": interval(runs), "test accuracy": interval(low)}

    lines = of("scenarios").table({f"method {k}": row(k == 3) for k in range(7)}).split("\n")[2:]
    assert [line.count("±") for line in lines] == [2, 2, 2, 1, 2, 2, 2]
    assert "| 20.0%, 9" in lines[3]

    def measured(broken: bool) -> dict[str, Any]:
        low = [0.2, *runs[1:]] if broken else runs
        under = [0.4, 0.02, 0.03] if broken else [0.02, 0.03, 0.025]
        numbers = {
            "tow": low,
            "tow_mia": runs,
            "under": under,
            "over": [0.0, 0.0, 0.01],
            "cost": [0.1] * 3,
            "all_told": [0.2] * 3,
        }
        parts = {"low": 0.9, "medium": 0.8, "high": 0.7}
        accuracy = {"retain": 0.99, "test": 0.9}
        return {name: interval(found) for name, found in numbers.items()} | {"parts": parts, "accuracy": accuracy}

    rows = {name: measured(name == "neggrad+") for name in ("retrain", "nothing", "scrub", "salun", "neggrad+")}
    lines = of("unlearning").table({"rows": rows}).split("\n")[2:]
    assert [line.count("±") for line in lines] == [2, 2, 2, 2, 1]
    assert "| neggrad+ | 0.200, 0.9" in lines[4]
    assert "| 40.0%, 2.0%, 3.0% | 0.3% |" in lines[4]
    assert "| 2.5% | 0.3% |" in lines[0]


def test_an_exponent_of_growth_is_that_beyond_the_start(of: Any) -> None:
    growth = of("growth")
    sizes = [100_000, 300_000, 1_000_000]
    assert growth.exponent(sizes, [4 + 3e-5 * n for n in sizes], 4.0) == pytest.approx(1)
    assert growth.exponent(sizes, [4 + 3e-10 * n**2 for n in sizes], 4.0) == pytest.approx(2)
    assert growth.exponent(sizes, [4.0, 4.1, 5.0], 4.0) is None
    runs = {name: {"seconds": 9.0, "processor": 5.0, "bytes": 10**9} for name in growth.COMMANDS}
    found = {str(n): runs for n in (growth.START, *sizes)}
    lines = growth.table(growth.FULL["10 classes"], found).split("\n")
    assert lines[2] == "| check | 5 s, 1.00 GB | 5 s, 1.00 GB | 5 s, 1.00 GB | – | – |"
    assert len(lines) == 2 + len(growth.COMMANDS)
