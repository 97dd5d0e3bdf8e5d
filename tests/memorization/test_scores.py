from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from unmem.errors import UserError
from unmem.memorization import Scores, load_scores, save_scores

NAN = float("nan")


def scored(values: list[float], name: str = "s", **more: object) -> Scores:
    ids = np.array([f"i{k}" for k in range(len(values))])
    return Scores(name, ids, np.array(values), **more)


def test_top_and_bottom_leave_out_what_has_no_value() -> None:
    scores = scored([0.2, NAN, 0.9, 0.5])
    assert list(scores.top(2)) == ["i2", "i3"]
    assert list(scores.bottom(2)) == ["i0", "i3"]
    with pytest.raises(UserError, match="has a value for 3 examples"):
        scores.top(4)


def test_values_come_in_the_order_asked_for() -> None:
    scores = scored([0.2, 0.1, 0.9])
    assert scores.of(["i2", "i0"]).tolist() == [0.9, 0.2]
    with pytest.raises(UserError, match="such as 'x'"):
        scores.of(["i0", "x"])
    with pytest.raises(UserError, match="no value for 1"):
        scores.of(["zzz"])


def test_parts_are_equal_and_ordered() -> None:
    scores = scored([5, 1, 4, 2, 3, 0, 6])
    assert [list(part) for part in scores.parts(3)] == [["i5", "i1", "i3"], ["i4", "i2"], ["i0", "i6"]]
    assert [list(part) for part in scores.parts(2, among=["i0", "i5"])] == [["i5"], ["i0"]]
    with pytest.raises(UserError, match="in 3 parts"):
        scores.parts(3, among=["i0", "i5"])
    with pytest.raises(UserError, match="no value"):
        scored([1, NAN]).parts(2)


def test_groups_are_the_ends_and_the_nearest_to_the_median() -> None:
    values = [0, 1, 2, 50, 51, 52, 53, 98, 99, 100, NAN]
    groups = scored(values).groups(2)
    assert {name: sorted(ids) for name, ids in groups.items()} == {
        "low": ["i0", "i1"],
        "medium": ["i4", "i5"],  # the median is 51.5
        "high": ["i8", "i9"],
    }
    with pytest.raises(UserError, match="10 examples"):
        scored(values).groups(4)


def test_auroc_is_that_of_scikit_learn_with_ties() -> None:
    random = np.random.default_rng(0)
    values = random.integers(0, 6, 200).astype(float)
    marked = random.random(200) < 0.2
    scores = scored(list(values))
    assert scores.auroc(scores.ids[marked]) == pytest.approx(roc_auc_score(marked, values))
    assert np.isnan(scores.auroc([]))


def test_a_file_gives_back_values_errors_and_settings(tmp_path: Path) -> None:
    first = scored([0.5, NAN, 0.25], "mem", error=np.array([0.1, NAN, 0.2]), settings={"members": 3})
    second = scored([1.0, 2.0, 3.0], "loss")
    path = tmp_path / "scores.parquet"
    save_scores([first, second], np.array([1, 0, 2]), path)
    assert pq.read_table(path).column_names == ["id", "label", "mem", "mem-error", "loss"]
    found = load_scores(path, "mem")
    assert list(found.ids) == list(first.ids)
    np.testing.assert_array_equal(found.values, first.values)
    np.testing.assert_array_equal(found.error, first.error)
    assert found.settings == {"members": 3}
    with pytest.raises(UserError, match="choose one of mem, loss"):
        load_scores(path)
    with pytest.raises(UserError, match="did you mean 'loss'"):
        load_scores(path, "lost")


def test_files_that_hold_no_scores_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no table")
    pq.write_table(pa.table({"id": ["a"], "v": [1.0]}), tmp_path / "other")
    for name, words in (("none", "no such file"), ("text", "not a parquet table"), ("other", "not a table of scores")):
        with pytest.raises(UserError, match=words):
            load_scores(tmp_path / name)


def test_scores_of_different_examples_do_not_share_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not of the same examples"):
        save_scores([scored([1, 2]), scored([1, 2, 3])], np.array([0, 0]), tmp_path / "x")
