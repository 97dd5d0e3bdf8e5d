"""Which examples positions, rows and index columns mean, for every source and way to split it.

Each table of data has the ids 1, 2, … in the order of its rows, and an input that says which row it was: an example is
known by what it holds, not by where the reader put it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unmem as um
from unmem.cli import request
from unmem.data import Splits
from unmem.errors import NothingToDoError, UserError
from unmem.requests import read_ids, read_issues

N = 40


def frame(rows: int = N, *, first: int = 0, shuffled: bool = False) -> pd.DataFrame:
    """Rows with ids from 1 and a marker from 0; shuffled: the ids are no longer in the order of the rows."""
    row = np.arange(first, first + rows)
    made = pd.DataFrame({"id": row + 1, "marker": row * 10.0, "noise": np.sin(row), "label": row % 2})
    return made.sample(frac=1, random_state=0) if shuffled else made


def table(folder: Path, suffix: str, *, own_test: bool, shuffled: bool) -> Splits:
    made = frame(shuffled=shuffled)
    path, extra = folder / f"train{suffix}", {}
    write(made, path)
    if own_test:
        write(frame(20, first=N), folder / f"test{suffix}")
        extra = {"test": str(folder / f"test{suffix}")}
    return um.load(path, id="id", label="label", prepared=True, **extra)


def write(made: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".parquet":
        made.to_parquet(path, index=False)
    else:
        made.to_csv(path, index=False)


def npz(folder: Path, _: str, *, own_test: bool, shuffled: bool) -> Splits:
    made = frame(shuffled=shuffled)

    def arrays(one: pd.DataFrame, part: str) -> dict[str, np.ndarray]:
        x = one[["marker", "noise"]].to_numpy(np.float32)
        return {f"x_{part}": x, f"y_{part}": one["label"].to_numpy(), f"ids_{part}": one["id"].to_numpy()}

    found = arrays(made, "train") | (arrays(frame(20, first=N), "test") if own_test else {})
    np.savez(folder / "data.npz", **found)
    return um.load(folder / "data.npz")


class Rows(torch.utils.data.Dataset[tuple[torch.Tensor, int, str]]):
    def __init__(self, made: pd.DataFrame) -> None:
        self.made = made

    def __len__(self) -> int:
        return len(self.made)

    def __getitem__(self, k: int) -> tuple[torch.Tensor, int, str]:
        if k >= len(self):
            raise IndexError
        row = self.made.iloc[k]
        return torch.tensor([row["marker"], row["noise"]], dtype=torch.float32), int(row["label"]), str(int(row["id"]))


def pytorch(_: Path, __: str, *, own_test: bool, shuffled: bool) -> Splits:
    made = frame(shuffled=shuffled)
    return um.load((Rows(made), Rows(frame(20, first=N))) if own_test else Rows(made))


def pandas(_: Path, __: str, *, own_test: bool, shuffled: bool) -> Splits:
    made = frame(shuffled=shuffled)
    how = {"id": "id", "label": "label", "prepared": True}
    return um.load((made, frame(20, first=N)), **how) if own_test else um.load(made, **how)


Source = Callable[..., Splits]
SOURCES = [(table, ".csv"), (table, ".parquet"), (npz, ""), (pytorch, ""), (pandas, "")]
every_source = pytest.mark.parametrize(("source", "suffix"), SOURCES, ids=lambda one: getattr(one, "__name__", one))
every_split = pytest.mark.parametrize("own_test", [False, True], ids=["split here", "own test"])
every_order = pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "shuffled"])


def markers(data: Splits, names: list[str]) -> list[float]:
    """What the examples of these ids hold."""
    found = {
        name: float(x[0]) for part in data.parts.values() for name, x in zip(part.ids, part.inputs[:], strict=True)
    }
    return [found[name] for name in names]


def write_issues(form: str, folder: Path, flagged: list[int], made: pd.DataFrame) -> Path:
    """The same issues, of rows of the file, in each form that cleanlab and its users write."""
    flags = np.isin(np.arange(len(made)), flagged)
    rows = pd.DataFrame({"is_label_issue": flags, "label_quality": np.where(flags, 0.1, 0.9)})
    path = folder / f"issues.{'npy' if form in ('mask', 'positions') else 'json' if form == 'list' else 'csv'}"
    if form == "mask":
        np.save(path, flags)
    elif form == "positions":
        np.save(path, np.array(flagged))
    elif form == "list":
        path.write_text(json.dumps(flags.tolist()))
    elif form == "rows":
        rows.to_csv(path, index=False)
    elif form == "sorted with its index":
        rows.sort_values("label_quality", kind="stable").to_csv(path)
    else:
        rows.assign(id=made["id"].to_numpy()).to_csv(path, index=False)
    return path


@every_source
@every_split
@every_order
@pytest.mark.parametrize("form", ["mask", "positions", "list", "rows", "sorted with its index", "ids"])
def test_rows_mean_the_rows_of_the_users_own_file(
    source: Source, suffix: str, own_test: bool, shuffled: bool, form: str, tmp_path: Path
) -> None:
    data, made = source(tmp_path, suffix, own_test=own_test, shuffled=shuffled), frame(shuffled=shuffled)
    flagged = [1, 4, 9, 22, 31]
    path = write_issues(form, tmp_path, flagged, made)
    names = read_issues(str(path)).names(data)
    assert markers(data, names) == made["marker"].iloc[flagged].tolist()


def test_an_index_that_can_only_be_positions_or_only_ids_is_taken_as_that(tmp_path: Path) -> None:
    made = frame().assign(id=[f"p{k}" for k in range(N)])
    write(made, tmp_path / "train.csv")
    data = um.load(tmp_path / "train.csv", id="id", label="label", prepared=True)
    path = write_issues("sorted with its index", tmp_path, [2, 30], made)
    assert markers(data, read_issues(str(path)).names(data)) == [20.0, 300.0]
    rows = pd.DataFrame({"is_label_issue": [True, False, True]}, index=pd.Index(["p7", "p8", "p30"]))
    rows.to_csv(tmp_path / "named.csv")
    assert markers(data, read_issues(str(tmp_path / "named.csv")).names(data)) == [70.0, 300.0]
    rows.index = pd.Index(["p7", "p8", "stray"])
    rows.to_csv(tmp_path / "named.csv")
    with pytest.raises(UserError, match="'stray', which is neither an id nor a position"):
        read_issues(str(tmp_path / "named.csv")).names(data)


def test_an_index_that_may_be_ids_or_positions_is_refused(tmp_path: Path) -> None:
    """The ids 1 to 40 of 40 rows: the rows with the index 2 and 5 may be the examples 2 and 5, or 3 and 6."""
    data = table(tmp_path, ".csv", own_test=False, shuffled=False)
    pd.DataFrame({"is_label_issue": [True, True]}, index=pd.Index([2, 5])).to_csv(tmp_path / "issues.csv")
    with pytest.raises(UserError, match="may be ids or positions"):
        read_issues(str(tmp_path / "issues.csv")).names(data)


def test_row_numbers_as_ids_are_positions_in_the_whole_file(tmp_path: Path) -> None:
    """Without a column of ids both meanings of an index are the same."""
    write(frame().drop(columns="id"), tmp_path / "train.csv")
    data = um.load(tmp_path / "train.csv", label="label", prepared=True)
    path = write_issues("sorted with its index", tmp_path, [5, 12], frame())
    assert markers(data, read_issues(str(path)).names(data)) == [50.0, 120.0]


@given(st.permutations(list(range(1, N + 1))), st.sets(st.integers(0, N - 1), min_size=1), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_order_of_ids_gives_the_flagged_rows(
    tmp_path_factory: pytest.TempPathFactory, ids: list[int], flagged: set[int], as_mask: bool
) -> None:
    folder = tmp_path_factory.mktemp("order")
    made = frame().assign(id=ids)
    write(made, folder / "train.csv")
    data = um.load(folder / "train.csv", id="id", label="label", prepared=True)
    path = write_issues("mask" if as_mask else "positions", folder, sorted(flagged), made)
    assert markers(data, read_issues(str(path)).names(data)) == [10.0 * k for k in sorted(flagged)]


def test_a_file_with_as_many_rows_as_the_training_part_of_a_split_file_is_refused(tmp_path: Path) -> None:
    data = table(tmp_path, ".csv", own_test=False, shuffled=False)
    np.save(tmp_path / "mask.npy", np.ones(len(data.train), dtype=bool))
    with pytest.raises(UserError, match=f"has {len(data.train)} rows, but train.csv has {N} examples"):
        read_issues(str(tmp_path / "mask.npy")).names(data)


def test_issues_of_unseen_examples_are_nothing_to_forget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(request, "warn", said.append)
    data = table(tmp_path, ".csv", own_test=False, shuffled=False)
    unseen, seen = data.holdout.ids.tolist(), data.train.ids.tolist()
    assert request.trained_on([*unseen, *seen[:2]], data) == seen[:2]
    assert said == [f"{len(unseen)} of the issues are of the holdout or the test set: nothing to forget there"]
    with pytest.raises(NothingToDoError, match="flags no training example"):
        request.trained_on(unseen, data)
    limited = um.load(tmp_path / "train.csv", id="id", label="label", prepared=True, limit=10)
    kept = limited.train.ids.tolist()
    assert request.trained_on([*kept, *[name for name in seen if name not in kept]], limited) == kept
    assert said[-1] == f"{len(seen) - len(kept)} of the issues are of examples that --limit leaves out"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("# asked by mail\n#7\n3\n", ["#7", "3"]),  # a comment, and an id that begins like one
        ("#7\n#8\n", ["#7", "#8"]),
        ("# nothing\n\n", []),
        ("## 9\n#\n#9\n", ["#9"]),  # no id here, and no comment where ids begin so: refused later
    ],
)
def test_a_line_is_a_comment_only_if_no_example_is_called_that(text: str, ids: list[str], tmp_path: Path) -> None:
    names = ["#7", "#8", "3", *(f"x{k}" for k in range(37))]
    write(frame().assign(id=names), tmp_path / "train.csv")
    data = um.load(tmp_path / "train.csv", id="id", label="label", prepared=True)
    (tmp_path / "ids.txt").write_text(text)
    assert read_ids(tmp_path / "ids.txt").ids(data) == ids
