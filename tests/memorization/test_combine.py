from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

import unmem as um
from unmem.memorization import rank_average

IDS = np.array(["d", "a", "c", "b", "f", "e"])


def scores(name: str, values: list[float]) -> um.Scores:
    return um.Scores(name, IDS, np.array(values), settings={"of": name})


FIRST = scores("first", [5, 1, 1, 4, 2, 9])
SECOND = scores("second", [-3, 0.5, 0.1, 0.1, 0.1, 7])
THIRD = scores("third", [0, 1, 2, 3, 4, 5])


def test_the_mean_of_the_ranks_is_that_of_scipy() -> None:
    found = rank_average([FIRST, SECOND, THIRD])
    ranks = [rankdata(s.values) / 6 for s in (FIRST, SECOND, THIRD)]
    np.testing.assert_allclose(found.values, np.mean(ranks, axis=0))
    assert found.values.max() == 1  # the last is on top in all three
    assert found.values.min() > 0
    assert list(found.ids) == list(IDS)
    assert found.name == "first+second+third"
    assert found.settings["combines"] == ["first", "second", "third"]
    assert found.settings["settings"]["second"] == {"of": "second"}
    assert rank_average([FIRST, SECOND], name="both").name == "both"


def test_any_rising_scale_gives_the_same() -> None:
    scaled = scores("first", list(np.exp(3 * FIRST.values)))
    np.testing.assert_array_equal(rank_average([FIRST, SECOND]).values, rank_average([scaled, SECOND]).values)


def test_examples_are_matched_by_id() -> None:
    order = np.array([3, 0, 5, 1, 2, 4])
    mixed = um.Scores("second", IDS[order], SECOND.values[order])
    found = rank_average([FIRST, mixed])
    assert list(found.ids) == list(IDS)
    np.testing.assert_array_equal(found.values, rank_average([FIRST, SECOND]).values)
    turned = rank_average([mixed, FIRST])
    assert list(turned.ids) == list(IDS[order])
    np.testing.assert_array_equal(turned.of(IDS), found.values)


def test_an_example_without_one_value_has_none_and_takes_no_rank() -> None:
    holes = scores("holes", [np.nan, 1, 2, 3, 4, 5])
    more = scores("more", [1, 2, np.nan, 9, 4, 5])
    found = rank_average([holes, more, FIRST]).values
    assert np.isnan(found).tolist() == [True, False, True, False, False, False]
    left = ~np.isnan(found)
    ranks = [rankdata(s.values[left]) / 4 for s in (holes, more, FIRST)]
    np.testing.assert_allclose(found[left], np.mean(ranks, axis=0))


def test_without_any_value_all_is_undefined() -> None:
    nothing = scores("nothing", [np.nan] * 6)
    assert np.isnan(rank_average([FIRST, nothing]).values).all()


def test_one_score_is_no_combination() -> None:
    with pytest.raises(um.UserError, match="two or more"):
        rank_average([FIRST])


def test_a_score_of_fewer_examples_is_refused() -> None:
    with pytest.raises(um.UserError, match="has no value for 2 of the ids"):
        rank_average([FIRST, um.Scores("short", IDS[:4], FIRST.values[:4])])


def test_a_score_of_more_examples_is_refused() -> None:
    with pytest.raises(um.UserError):
        rank_average([um.Scores("short", IDS[:4], FIRST.values[:4]), FIRST])
