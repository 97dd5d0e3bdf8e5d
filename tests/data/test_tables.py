"""CSV and parquet files, with features computed a second time from the columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import csv, parquet

import unmem as um
from unmem.errors import UserError

N = 40


def columns(**more: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    made = {
        "id": [f"u{k:03}" for k in random.permutation(N)],
        "age": random.integers(18, 90, N),
        "income": random.normal(1e6, 1e5, N).round(2),
        "town": [("Ulm", "Köln", "Bonn")[k % 3] for k in range(N)],
        "member": (np.arange(N) % 5 == 0),
        "label": [("no", "yes")[k % 2] for k in range(N)],
    } | more
    return {name: values for name, values in made.items() if values is not None}


def write(path: Path, **more: Any) -> Path:
    table = pa.table({name: pa.array(values) for name, values in columns(**more).items()})
    (parquet.write_table if path.suffix == ".parquet" else csv.write_csv)(table, path)
    return path


@pytest.fixture(params=["csv", "parquet"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"people.{request.param}"


def features(splits: um.Splits, ids: np.ndarray) -> np.ndarray:
    """As the documentation has it: quantities by the training part's moments, texts and truth values one-hot."""
    of = columns()
    rows = {name: k for k, name in enumerate(of["id"])}
    train, chosen = ([rows[name] for name in some] for some in (splits.train.ids, ids))
    quantities = [
        (np.asarray(of[name])[chosen] - np.asarray(of[name])[train].mean()) / np.asarray(of[name])[train].std()
        for name in ("age", "income")
    ]
    towns = [np.asarray(of["town"])[chosen] == town for town in ("Bonn", "Köln", "Ulm")]
    members = [np.asarray(of["member"])[chosen] == value for value in (False, True)]
    return np.stack([*quantities, *towns, *members], axis=1)


def test_a_table_becomes_features_labels_and_ids(file: Path) -> None:
    splits = um.load(write(file))
    assert splits.name == file.name
    assert splits.classes == ("no", "yes")
    assert [len(part) for part in splits.parts.values()] == [28, 6, 6]
    labels = dict(zip(columns()["id"], columns()["label"], strict=True))
    for part in splits.parts.values():
        assert part.inputs[:].numpy() == pytest.approx(features(splits, part.ids), abs=1e-5)
        assert [splits.classes[label] for label in part.labels.tolist()] == [labels[name] for name in part.ids]
    x, _ = splits.train.batch(torch.arange(28))
    assert torch.equal(x, splits.train.inputs)


def test_all_columns_are_carried_along(file: Path) -> None:
    train = um.load(write(file), drop="town, age").train.at(np.array([4, 1]))
    assert train.inputs.shape == (2, 3)
    assert set(train.columns) == {"id", "age", "income", "town", "member", "label"}
    assert train.columns["id"].tolist() == train.ids.tolist()
    rows = [columns()["id"].index(name) for name in train.ids]
    for name in ("age", "town", "label", "member"):
        typed = [np.asarray(columns()[name])[row].item() for row in rows]
        written = [{True: "true", False: "false"}.get(one, str(one)) for one in typed]  # as in the file
        assert train.columns[name].tolist() == (written if file.suffix == ".csv" else typed)


def test_the_order_of_the_rows_changes_nothing_where_ids_are_given(file: Path) -> None:
    def loaded() -> um.Splits:
        return um.load(file, limit=10, seed=3)

    write(file)
    first = loaded()
    order = np.random.default_rng(5).permutation(N)
    write(file, **{name: np.asarray(values)[order] for name, values in columns().items()})
    second = loaded()
    for one, other in zip(first.parts.values(), second.parts.values(), strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.fingerprint == other.fingerprint


def test_without_an_id_column_ids_are_row_numbers(file: Path) -> None:
    splits = um.load(write(file, id=None))
    assert {int(name) for part in splits.parts.values() for name in part.ids} == set(range(N))
    for name, age in zip(splits.train.ids, splits.train.columns["age"], strict=True):
        assert columns()["age"][int(name)] == int(age)


def test_ids_of_a_csv_stay_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("key,x,y\n" + "".join(f"{k:03},{k},{k % 2}\n" for k in range(20)))
    splits = um.load(path, id="key")
    assert "007" in {name for part in splits.parts.values() for name in part.ids}
    assert splits.classes == ()


def test_a_second_file_is_the_unseen_set(file: Path, tmp_path: Path) -> None:
    test = write(tmp_path / f"test{file.suffix}", id=[f"t{k}" for k in range(N)], town=["Ulm", "Kiel"] * (N // 2))
    splits = um.load(write(file), test=test)
    assert [len(part) for part in splits.parts.values()] == [40, 20, 20]
    assert all(name.startswith("t") for name in [*splits.holdout.ids, *splits.test.ids])
    assert splits.train.input_shape == (2 + 3 + 2,)  # Kiel is only in the second file: a model cannot learn it
    kiel = [row for row, town in enumerate(splits.test.columns["town"]) if town == "Kiel"]
    assert kiel
    assert not splits.test.inputs[kiel, 2:5].any()
    assert "'Kiel' only in unseen tables" in " ".join(splits.notes)


def test_ids_of_the_second_file_get_a_prefix_where_they_clash(file: Path) -> None:
    splits = um.load(write(file), test=file)
    assert all(name.startswith("test-u") for name in splits.test.ids)
    rowed = um.load(write(file, id=None), test=file)
    assert all(name.startswith("test-") for name in rowed.test.ids)


def test_a_constant_column_is_0_and_does_not_divide_by_0(file: Path) -> None:
    train = um.load(write(file, age=np.full(N, 0.1))).train
    assert not train.inputs[:, 0].any()


@pytest.mark.parametrize("name", ["label", "target", "class", "y"])
def test_usual_names_of_labels_are_found(file: Path, name: str) -> None:
    assert um.load(write(file, **({"label": None} | {name: np.arange(N) % 4}))).train.n_classes == 4


REFUSE = {"impute": "refuse"}


def holed(values: list[Any], count: int = 3) -> list[Any]:
    return [None] * count + list(values)[count:]


@pytest.mark.parametrize(
    ("more", "setting", "said"),
    [
        ({"label": None}, {}, "name the one with the classes by --label: id, age, income, town, member"),
        ({}, {"label": "lable"}, "label 'lable': no such column; did you mean 'label'"),
        ({}, {"id": "ids"}, "id 'ids': no such column; did you mean 'id'"),
        ({}, {"drop": "aeg"}, "drop 'aeg': no such column; did you mean 'age'"),
        ({}, {"text": "words"}, "text 'words': no such column"),
        ({"age": holed(range(N))}, REFUSE, "column 'age': has 3 missing values; fill or drop them"),
        ({"income": [float("nan")] * 2 + [1.0] * (N - 2)}, REFUSE, "column 'income': has 2 missing values"),
        ({"income": [float("inf")] + [1.0] * (N - 1)}, {}, "column 'income': has 1 infinite values"),
        ({"town": holed(["Ulm"] * N)}, REFUSE, "column 'town': has 3 missing values"),
        ({"label": holed(["a", "b"] * (N // 2))}, {}, "column 'label': has 3 missing values"),
        ({"id": holed([f"u{k}" for k in range(N)])}, {}, "column 'id': has 3 missing values"),
        ({"id": ["a"] * N}, {}, "ids 'a': the id is there more than once"),
        ({"label": np.linspace(0, 1, N)}, {}, "regression targets are no classes"),
        ({"label": np.arange(N) % 3 - 1}, {}, "labels -1: class indices start at 0"),
        ({"label": np.arange(N) * 1000}, {}, "there would be 39,001 classes for 40 examples"),
        ({"label": [1] * N}, {}, "labels 1: is the only class"),
        ({"label": ["one"] * N}, {}, "is the only class"),
        ({}, {"drop": "age,income,town,member"}, "has no feature columns"),
        ({}, {"test": "nowhere.csv"}, "test 'nowhere.csv': no such file"),
        ({}, {"size": "32"}, "size '32': a table does not use it"),
        ({}, {"stream": "always"}, "stream 'always': a table does not use it"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(
    file: Path, more: dict[str, Any], setting: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        um.load(write(file, **more), **setting)


def test_too_many_texts_are_no_categories(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"y": [k % 2 for k in range(202)], "name": [f"n{k // 2}" for k in range(202)]}), path)
    with pytest.raises(UserError, match=r"column 'name': has 101 different texts.*--drop name"):
        um.load(path)
    parquet.write_table(pa.table({"y": [k % 2 for k in range(200)], "name": [f"n{k // 2}" for k in range(200)]}), path)
    assert um.load(path).train.input_shape == (100,)


@pytest.mark.parametrize("labels", [[[1, 0], [0, 1]] * 20, [[1], [0, 1]] * 20], ids=["one-hot", "multi-label"])
def test_lists_are_no_labels(tmp_path: Path, labels: list[list[int]]) -> None:
    with pytest.raises(UserError, match="one-hot or multi-label"):
        um.load(write(tmp_path / "x.parquet", label=labels))


def test_columns_of_the_two_files_must_agree(file: Path, tmp_path: Path) -> None:
    write(file)
    with pytest.raises(UserError, match="test 'age': is a column of the training set alone"):
        um.load(file, test=write(tmp_path / f"a{file.suffix}", age=None))
    said = {
        ".csv": r"column 'town': holds 40 numbers, and 40 texts that are none: 'Ulm' \(14\)",
        ".parquet": r"data 'town': is a column of (string and double|double and string)",
    }
    with pytest.raises(UserError, match=said[file.suffix]):
        um.load(file, test=write(tmp_path / f"b{file.suffix}", town=np.linspace(0, 1, N)))
    assert um.load(file, test=write(tmp_path / f"c{file.suffix}", age=None), drop="age").train.n_classes == 2


def test_numbers_are_no_texts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="text 'age': is a column of type int64; name a column of texts"):
        um.load(write(tmp_path / "x.parquet"), text="age")


def test_dates_are_no_features(tmp_path: Path) -> None:
    import datetime

    with pytest.raises(UserError, match=r"column 'age': is of type date32.*--drop age"):
        um.load(write(tmp_path / "x.parquet", age=[datetime.date(2020, 1, 1)] * N))


@pytest.mark.parametrize("raw", [b"", b"PAR1 and then nothing", b"a,b\n1\n2,3,4\n", b"\xff\xfe\x00y\n"])
def test_damaged_files_are_refused(file: Path, raw: bytes) -> None:
    file.write_bytes(raw)
    with pytest.raises(UserError) as refused:
        um.load(file, label="b")
    assert refused.value.field in ("data", "label")


def test_a_name_close_to_a_known_one_is_offered() -> None:
    with pytest.raises(UserError, match="did you mean 'cifar100'"):
        um.load("cifar-100")
    with pytest.raises(UserError, match=r"data 'no/such/place': no such file or folder"):
        um.load("no/such/place")
