from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmem.evaluation import tug_of_war

gap = st.floats(-1, 1)


def test_by_hand() -> None:
    assert tug_of_war(0.1, -0.2, 0.05) == pytest.approx(0.9 * 0.8 * 0.95)
    assert tug_of_war(0, 0, 0) == 1
    assert tug_of_war(1, 0, 0) == 0


@given(gap, gap, gap)
def test_symmetric_and_falling_with_each_gap(a: float, b: float, c: float) -> None:
    value = tug_of_war(a, b, c)
    assert 0 <= value <= 1
    assert value == tug_of_war(-a, -b, -c)
    assert tug_of_war(a / 2, b, c) >= value
