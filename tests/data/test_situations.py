"""Tables as people have them: source × situation × outcome.

A row of a list below is one situation. Add yours where it belongs.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import unmem as um
from unmem.errors import UserError

N = 20


def csv(path: Path, columns: dict[str, list[Any]], *, separator: str = ",", encoding: str = "utf-8") -> Path:
    """Every cell as it is given, without quotation marks."""
    lines = [separator.join(columns), *(separator.join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    raw = ("\n".join(lines) + "\n").encode(encoding)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def table(**more: Any) -> dict[str, list[Any]]:
    """Twenty rows of two classes, with a feature and what else is given; None leaves a column out."""
    made = {"x": [k / 2 for k in range(N)], "label": ["no", "yes"] * (N // 2)} | more
    return {name: list(values) for name, values in made.items() if values is not None}


def cycled(*values: Any) -> list[Any]:
    return [values[k % len(values)] for k in range(N)]


def by_number(splits: um.Splits) -> dict[str, list[float]]:
    """By id, the inputs."""
    return {name: x for part in splits.parts.values() for name, x in zip(part.ids, part.inputs.tolist(), strict=True)}


# --- An index column is no feature, and may be the id

SHUFFLED = [str((7 * k) % N + 100) for k in range(N)]


@pytest.mark.parametrize(
    ("name", "how", "ids"),
    [
        ("Unnamed: 0", {}, SHUFFLED),
        ("", {}, SHUFFLED),
        ("__index_level_0__", {}, SHUFFLED),
        ("idx", {}, SHUFFLED),
        ("index", {}, SHUFFLED),
        ("Id", {}, SHUFFLED),
        ("ID", {}, SHUFFLED),
        ("row_id", {}, SHUFFLED),
        ("rownames", {}, SHUFFLED),
        ("PassengerId", {}, SHUFFLED),
        ("customer_id", {}, SHUFFLED),
        ("ID", {"id": "none"}, list(map(str, range(N)))),
        ("ID", {"drop": "ID"}, list(map(str, range(N)))),
        ("ID", {"id": "ID"}, SHUFFLED),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_index_is_the_id_and_no_feature(tmp_path: Path, suffix: str, name: str, how: Any, ids: list[str]) -> None:
    columns = {name: SHUFFLED} | table()
    path = tmp_path / f"x.{suffix}"
    if suffix == "csv":
        csv(path, columns)
    else:
        parquet.write_table(pa.table(columns), path)
    splits = um.load(path, **how)
    assert splits.train.input_shape == (1,)
    rows = dict(zip(ids, table()["x"], strict=True))
    for part in splits.parts.values():
        assert [rows[one] for one in part.ids] == [float(x) for x in part.columns["x"]]
    said = " ".join(splits.notes)
    assert (name in said) == ("drop" not in how and how.get("id") != "ID")


@pytest.mark.parametrize("name", ["Unnamed: 0", "index", "ID"])
@pytest.mark.parametrize(
    ("values", "said"),
    [
        (cycled(*range(10)), "10 of its values are repetitions"),
        (["", *range(1, N)], "1 of its cells are empty"),
    ],
)
def test_an_index_that_is_no_id_is_refused_until_the_user_decides(
    tmp_path: Path, name: str, values: list[Any], said: str
) -> None:
    path = csv(tmp_path / "x.csv", {name: values} | table())
    with pytest.raises(UserError, match=rf"id {name!r}: looks like an index, but {said}.*--id none.*--drop"):
        um.load(path)
    for how in ({"id": "none"}, {"drop": name}):
        splits = um.load(path, **how)
        assert splits.train.input_shape == (1,)
        assert set(by_number(splits)) == set(map(str, range(N)))


def test_of_two_indices_the_one_called_id_is_taken(tmp_path: Path) -> None:
    path = csv(tmp_path / "x.csv", {"Unnamed: 0": list(range(N)), "id": SHUFFLED} | table())
    splits = um.load(path)
    assert set(by_number(splits)) == set(SHUFFLED)
    assert splits.train.input_shape == (1,)
    assert "no features: 'Unnamed: 0'" in " ".join(splits.notes)


def test_a_repeated_column_that_ends_in_id_is_a_feature_with_a_note(tmp_path: Path) -> None:
    splits = um.load(csv(tmp_path / "x.csv", table(shop_id=cycled(1, 2, 3))))
    assert splits.train.input_shape == (2,)
    assert "'shop_id'" in " ".join(splits.notes)


# --- Ids and conditions to the letter

LETTERS = ["7", "07", "007", "1e5", "100000", "12345678901234567890", "12345678901234567891", "None", "NA", "nan"]


def test_ids_stay_as_they_are_written(tmp_path: Path) -> None:
    ids = [*LETTERS, *(f"u{k}" for k in range(N - len(LETTERS)))]
    splits = um.load(csv(tmp_path / "x.csv", {"id": ids} | table()))
    assert set(by_number(splits)) == set(ids)


@pytest.mark.parametrize("value", [*LETTERS, ""])
def test_a_condition_takes_the_rows_with_these_letters(tmp_path: Path, value: str) -> None:
    from unmem.requests import ids_where, parse_condition

    users = [*LETTERS, "", "", *LETTERS[:8]]
    path = csv(tmp_path / "x.csv", table(user=users))
    splits = um.load(path, drop="user", test=csv(tmp_path / "test.csv", table(user=users)))
    chosen = ids_where(splits.train, [parse_condition(f"user={value}")])
    assert [int(one) for one in chosen] == [k for k, user in enumerate(users) if user == value]


# --- Files


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("x.csv", {}),
        ("x.CSV", {}),
        ("x.csv.gz", {}),
        ("x.csv", {"separator": ";"}),
        ("x.csv", {"separator": "\t"}),
        ("x.csv", {"separator": "|"}),
        ("x.tsv", {"separator": "\t"}),
        ("x.tsv.gz", {"separator": "\t"}),
        ("x.csv", {"encoding": "utf-8-sig"}),
        ("x.csv", {"encoding": "latin-1"}),
        ("x.csv", {"encoding": "utf-16"}),
    ],
)
def test_every_form_of_a_file_is_read_alike(tmp_path: Path, name: str, form: dict[str, str]) -> None:
    columns = {"id": SHUFFLED} | table(town=cycled("Köln", "Orléans", "Ulm"), y=cycled("1.5", "-2", "3e1"))
    plain = um.load(csv(tmp_path / "plain.csv", columns), label="label")
    (tmp_path / "other").mkdir()
    other = um.load(csv(tmp_path / "other" / name, columns, **form), label="label")
    assert by_number(other) == by_number(plain)
    assert other.train.columns["town"].tolist() == plain.train.columns["town"].tolist()
    assert any("cp1252" in note for note in other.notes) == (form.get("encoding") == "latin-1")


def test_a_decimal_comma_is_read_where_it_is_said(tmp_path: Path) -> None:
    values = ["1,5", "2", "-0,25", "1.000,5"] * 5
    path = csv(tmp_path / "x.csv", table(price=values, x=None), separator=";")
    with pytest.raises(UserError, match=r"column 'price'.*15 texts.*'1,5' \(5\).*--decimal ,"):
        um.load(path)
    inputs = by_number(um.load(path, decimal=",", test=path))
    numbers = np.array([1.5, 2, -0.25, 1000.5] * 5)
    wanted = (numbers - numbers.mean()) / numbers.std()
    assert [inputs[str(k)][0] for k in range(N)] == pytest.approx(wanted.tolist(), abs=1e-6)


def test_a_folder_of_parquet_parts_is_one_table_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    (folder / ".part-0.parquet.crc").touch()
    for k in range(11):
        rows = {"x": [2.0 * k, 2.0 * k + 1], "label": ["a", "b"]}
        parquet.write_table(pa.table(rows), folder / f"part-{k}.parquet")
    splits = um.load(folder)
    for part in splits.parts.values():
        assert [float(name) for name in part.ids] == part.columns["x"].tolist()
    assert "11 files are read as one table" in " ".join(splits.notes)


def test_parquet_files_named_after_parts_are_these(tmp_path: Path) -> None:
    for name, first in (("train-00000-of-00002", 0), ("train-00001-of-00002", N), ("test-00000-of-00001", 2 * N)):
        rows = table(x=[float(first + k) for k in range(N)])
        parquet.write_table(pa.table(rows), tmp_path / f"{name}.parquet")
    splits = um.load(tmp_path)
    assert sorted(splits.train.columns["x"]) == [float(k) for k in range(2 * N)]
    unseen = [*splits.test.columns["x"], *splits.holdout.columns["x"]]
    assert sorted(unseen) == [float(k) for k in range(2 * N, 3 * N)]
    parquet.write_table(pa.table(table()), tmp_path / "more.parquet")
    with pytest.raises(UserError, match=r"more\.parquet is of no part"):
        um.load(tmp_path)


def test_a_folder_of_csv_files_is_read_by_their_names(tmp_path: Path) -> None:
    csv(tmp_path / "train.csv", table())
    csv(tmp_path / "test.csv", table(x=range(100, 100 + N)), separator=";")
    (tmp_path / "readme.txt").touch()
    splits = um.load(tmp_path)
    assert [len(part) for part in splits.parts.values()] == [20, 10, 10]
    assert min(int(x) for x in splits.test.columns["x"]) >= 100
    (tmp_path / "test.csv").rename(tmp_path / "cities.csv")
    with pytest.raises(UserError, match=r"cities\.csv is of no part"):
        um.load(tmp_path)


def test_tables_of_different_things_are_not_one(tmp_path: Path) -> None:
    parquet.write_table(pa.table(table()), tmp_path / "cats.parquet")
    parquet.write_table(pa.table(table(y=range(N))), tmp_path / "dogs.parquet")
    with pytest.raises(UserError, match=r"dogs\.parquet has other columns than cats\.parquet"):
        um.load(tmp_path)


def test_a_csv_that_happens_to_lie_in_a_folder_is_no_data_set(tmp_path: Path) -> None:
    csv(tmp_path / "cats.csv", table())
    with pytest.raises(UserError, match="has no class folders"):
        um.load(tmp_path)


def test_a_table_beside_folders_of_classes_is_no_data_set(tmp_path: Path) -> None:
    csv(tmp_path / "labels.csv", table())
    (tmp_path / "cats").mkdir()
    with pytest.raises(UserError, match="class"):
        um.load(tmp_path)


@pytest.mark.parametrize("first", ["", "sep=;\n"])
def test_spaces_in_the_header_and_a_line_for_excel_do_not_count(tmp_path: Path, first: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(first + "x; label\n" + "".join(f"{k}; {'ab'[k % 2]}\n" for k in range(N)))
    assert um.load(path).train.input_shape == (1,)


def test_a_column_that_counts_the_rows_is_named(tmp_path: Path) -> None:
    splits = um.load(csv(tmp_path / "x.csv", table(sample=SHUFFLED)))
    assert "though they count the rows: 'sample'" in " ".join(splits.notes)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_column_name_twice_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    names, values = ["x", "x", "label"], [list(range(N)), list(range(N)), ["a", "b"] * 10]
    if suffix == "csv":
        path.write_text(",".join(names) + "\n" + "".join(f"{k},{k},a\n" for k in range(N)))
    else:
        parquet.write_table(pa.Table.from_arrays([pa.array(one) for one in values], names=names), path)
    with pytest.raises(UserError, match=r"column 'x' of .*: is there more than once"):
        um.load(path)


def test_trailing_columns_of_a_spreadsheet_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("x,label,,\n" + "".join(f"{k},{'ab'[k % 2]},,\n" for k in range(N)))
    splits = um.load(path)
    assert splits.train.input_shape == (1,)
    assert "2 columns of x.csv without a name" in " ".join(splits.notes)


# --- What is a number, and what is missing


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            cycled("1", "2", "?"),
            r"holds 14 numbers, and 6 texts that are none: '\?' \(6\); pass --missing '\?' .*--categories value",
        ),
        (cycled("$1,000", "$2,500"), r"'\$1,000' \(10\).*--decimal \. if it separates thousands"),
        (cycled("1,5", "2,5"), r"'1,5' \(10\).*--decimal , if a comma is the decimal sign"),
        (cycled("1,000", "2000"), r"holds 10 numbers, and 10 texts.*'1,000'"),
        (cycled("5%", "10%"), r"'5%' \(10\)"),
        (cycled("1", "2", "3+"), r"'3\+' \(6\).*--categories value"),
        (cycled("2020-01-31", "2021-02-01"), "holds dates or times, such as '2020-01-31'"),
        (cycled("12:30", "13:45"), "holds dates or times"),
        (cycled("1", "1e400"), r"10 values beyond"),
        (cycled("1", "1e39"), r"10 values beyond"),
        (cycled("1", "inf"), r"10 infinite values"),
        (cycled("1", "12345678901234567891"), "10 whole numbers of so many digits"),
    ],
)
def test_what_is_no_number_for_sure_is_refused_with_what_decides(tmp_path: Path, values: list[str], said: str) -> None:
    separator = ";" if any("," in one for one in values) else ","
    with pytest.raises(UserError, match=rf"column 'value'.*{said}"):
        um.load(csv(tmp_path / "x.csv", table(value=values), separator=separator))


@pytest.mark.parametrize(
    ("values", "how", "numbers"),
    [
        (cycled("$1,000", "$2,500.5"), {"decimal": "."}, cycled(1000, 2500.5)),
        (cycled("1'000", "2 500"), {"decimal": "."}, cycled(1000, 2500)),
        (cycled("5%", "10%"), {"decimal": "."}, cycled(5, 10)),
        (cycled("1.234", "5.678"), {"decimal": ","}, cycled(1234, 5678)),
        (cycled("1.234", "5.678"), {}, cycled(1.234, 5.678)),
        (cycled(" 1 ", "+2", ".5", "5.", "1E2"), {}, cycled(1, 2, 0.5, 5, 100)),
        (cycled("007", "10"), {}, cycled(7, 10)),
    ],
)
def test_numbers_are_read_as_the_options_say(tmp_path: Path, values: list[str], how: Any, numbers: list[float]) -> None:
    path = csv(tmp_path / "x.csv", table(value=values, x=None), separator=";")
    inputs = by_number(um.load(path, test=path, **how))
    wanted = (np.array(numbers) - np.mean(numbers)) / np.std(numbers)
    assert [inputs[str(k)][0] for k in range(N)] == pytest.approx(wanted.tolist(), abs=1e-6)


@pytest.mark.parametrize("values", [cycled("5%", "0.05"), cycled("$5", "€5"), cycled("1,00", "2")])
def test_numbers_of_different_units_are_refused(tmp_path: Path, values: list[str]) -> None:
    with pytest.raises(UserError, match="column 'value'"):
        um.load(csv(tmp_path / "x.csv", table(value=values), separator=";"), decimal=".")


@pytest.mark.parametrize("values", [cycled("1", "2", "3+"), cycled("1", "2"), cycled("2020-01-31", "?")])
def test_columns_that_are_said_to_be_categories_are(tmp_path: Path, values: list[str]) -> None:
    path = csv(tmp_path / "x.csv", table(value=values, x=None))
    inputs = by_number(um.load(path, categories="value", test=path))
    names = sorted(set(values))
    assert [inputs[str(k)] for k in range(N)] == [[float(one == value) for one in names] for value in values]


MISSING = [
    ("csv", cycled("1", "", "4"), {}),
    ("csv", cycled("1", "NA", "4"), {}),
    ("csv", cycled("1", "NaN", "4"), {}),
    ("csv", cycled("1", "None", "4"), {}),
    ("csv", cycled("1", "?", "4"), {"missing": "?"}),
    ("csv", cycled("1", "-999", "4"), {"missing": "?,-999"}),
    ("parquet", cycled(1.0, None, 4.0), {}),
    ("parquet", cycled(1.0, float("nan"), 4.0), {}),
    ("parquet", cycled(1, None, 4), {}),
    ("parquet", cycled(1, -999, 4), {"missing": "-999"}),
    ("parquet", cycled("1", None, "4"), {}),
]


@pytest.mark.parametrize(("suffix", "values", "how"), MISSING)
def test_missing_numbers_become_the_median_beside_an_indicator(
    tmp_path: Path, suffix: str, values: list[Any], how: dict[str, str]
) -> None:
    path = tmp_path / f"x.{suffix}"
    columns = table(value=values, x=None)
    if suffix == "csv":
        csv(path, columns)
    else:
        parquet.write_table(pa.table(columns), path)
    splits = um.load(path, test=path, **how)
    numbers = np.array(cycled(1.0, np.nan, 4.0))
    missing = np.isnan(numbers)
    numbers[missing] = np.median(numbers[~missing])
    wanted = np.stack([(numbers - numbers.mean()) / numbers.std(), missing], axis=1)
    inputs = by_number(splits)
    assert np.array([inputs[str(k)] for k in range(N)]) == pytest.approx(wanted, abs=1e-6)
    assert "'value' (14" in " ".join(splits.notes)
    with pytest.raises(UserError, match=r"column 'value': has 7 missing values.*--impute median"):
        um.load(path, impute="refuse", **how)


@pytest.mark.parametrize(
    ("suffix", "missing", "how"),
    [("csv", "", {}), ("csv", "?", {"missing": "?"}), ("parquet", None, {})],
)
def test_missing_categories_are_one_of_their_own(tmp_path: Path, suffix: str, missing: Any, how: Any) -> None:
    path, columns = tmp_path / f"x.{suffix}", table(value=cycled("b", missing, "a"), x=None)
    if suffix == "csv":
        csv(path, columns)
    else:
        parquet.write_table(pa.table(columns), path)
    inputs = by_number(um.load(path, test=path, **how))
    assert [inputs[str(k)] for k in range(3)] == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_the_training_rows_alone_decide_what_a_missing_value_becomes(tmp_path: Path) -> None:
    train = csv(tmp_path / "x.csv", table(value=cycled("1", "3")))
    test = csv(tmp_path / "test.csv", table(value=cycled("", "100")))
    splits = um.load(train, test=test)
    assert splits.train.input_shape == (2,)  # no training row lacks it: there is no indicator to learn
    inputs = by_number(splits)
    assert inputs["test-0"][1] == 0  # (2 − 2) / 1
    assert inputs["test-1"][1] == 98


def test_a_column_without_any_value_is_left_out(tmp_path: Path) -> None:
    splits = um.load(csv(tmp_path / "x.csv", table(value=cycled(""))))
    assert splits.train.input_shape == (1,)
    assert "no training row has a value there: 'value'" in " ".join(splits.notes)


def test_all_faults_of_a_table_are_in_one_message(tmp_path: Path) -> None:
    columns = {
        "ID": cycled("a", "b"),
        **table(price=cycled("$1", "$2"), when=cycled("2020-01-01"), size=cycled("1", "?"), label=["", *"ab" * 9, "a"]),
    }
    with pytest.raises(UserError) as refused:
        um.load(csv(tmp_path / "x.csv", columns), drop="colour")
    said = str(refused.value)
    assert "has 6 faults" in said
    for part in ("'ID'", "'price'", "'when'", "'size'", "'label'", "drop 'colour'"):
        assert part in said


# --- Labels


@pytest.mark.parametrize(
    ("suffix", "labels", "classes", "first"),
    [
        ("csv", cycled("NA", "EU"), ("EU", "NA"), [1, 0]),
        ("csv", cycled("None", "some"), ("None", "some"), [0, 1]),
        ("csv", cycled("1", "0"), (), [1, 0]),
        ("csv", cycled("01", "10", "2"), ("01", "2", "10"), [0, 2, 1]),
        ("csv", cycled("true", "false"), ("false", "true"), [1, 0]),
        ("parquet", cycled("NA", "EU"), ("EU", "NA"), [1, 0]),
    ],
)
def test_classes_are_what_is_written(
    tmp_path: Path, suffix: str, labels: list[str], classes: tuple[str, ...], first: list[int]
) -> None:
    path = tmp_path / f"x.{suffix}"
    if suffix == "csv":
        csv(path, table(label=labels))
    else:
        parquet.write_table(pa.table(table(label=labels)), path)
    splits = um.load(path, test=path)
    assert splits.classes == classes
    assert splits.train.labels.tolist()[: len(first)] == first


@pytest.mark.parametrize(
    ("suffix", "labels"),
    [
        ("csv", cycled("-1")),
        ("csv", cycled("")),
        ("csv", ["", *cycled("0", "1")[1:]]),
        ("parquet", cycled(-1)),
        ("parquet", [None, *cycled(0, 1)[1:]]),
        ("parquet", [float("nan"), *cycled(0.0, 1.0)[1:]]),
        ("csv", None),
        ("parquet", None),
    ],
)
def test_a_test_table_without_labels_is_left_out(tmp_path: Path, suffix: str, labels: list[Any] | None) -> None:
    paths = tmp_path / f"x.{suffix}", tmp_path / f"test.{suffix}"
    for path, values in zip(paths, (cycled(0, 1), labels), strict=True):
        if suffix == "csv":
            csv(path, table(label=values))
        else:
            parquet.write_table(pa.table(table(label=values)), path)
    splits = um.load(paths[0], test=paths[1])
    assert [len(part) for part in splits.parts.values()] == [14, 3, 3]
    assert "the test table of x" in " ".join(splits.notes)


@pytest.mark.parametrize(
    ("train", "test", "how", "said"),
    [
        (["", *cycled("a", "b")[1:]], None, {}, r"column 'label': has 1 missing values \(rows 0, counted from 0\)"),
        (["?", *cycled("a", "b")[1:]], None, {"missing": "?"}, r"column 'label': has 1 missing values"),
        (
            ["NA", *cycled("0", "1")[1:]],
            None,
            {},
            r"column 'label': holds numbers, and 'NA' \(1\); pass --missing NA if",
        ),
        (cycled("-1", "0"), None, {}, "labels -1: class indices start at 0"),
        (cycled("0.5", "0.1"), None, {}, "regression targets"),
        (cycled("a", "b"), cycled("a", "c"), {}, "labels 'c' in test: are classes without a training example"),
        (cycled("0", "1"), cycled("0", "2"), {}, "labels 2 in test: are classes without a training example"),
    ],
)
def test_labels_that_cannot_be_trained_are_refused(
    tmp_path: Path, train: list[str], test: list[str] | None, how: dict[str, Any], said: str
) -> None:
    path = csv(tmp_path / "x.csv", table(label=train))
    if test is not None:
        how = how | {"test": csv(tmp_path / "test.csv", table(label=test))}
    with pytest.raises(UserError, match=said):
        um.load(path, **how)


# --- Numbers that are prepared already, and the user's own preprocessing

RAW = np.random.default_rng(0).gamma(2.0, 3.0, size=(400, 3))
FLAG = (np.arange(400) % 3 == 0).astype(int)


def as_table(path: Path, matrix: np.ndarray, **more: Any) -> Path:
    columns = {"id": [str(1000 + k) for k in range(len(matrix))]}
    columns |= {f"x{k}": matrix[:, k].tolist() for k in range(matrix.shape[1])} | more
    columns["label"] = ["a", "b"] * (len(matrix) // 2)
    return csv(path, columns)


def standardised(matrix: np.ndarray, by: np.ndarray) -> np.ndarray:
    return (matrix - by.mean(0)) / by.std(0)


STANDARD = standardised(RAW, RAW)
BETWEEN = (RAW - RAW.min(0)) / (RAW.max(0) - RAW.min(0))


@pytest.mark.parametrize(
    ("matrix", "how", "kept", "said"),
    [
        (RAW, {}, False, "are standardised"),
        (RAW, {"prepared": True}, True, "as they are"),
        (STANDARD, {}, True, "mean 0 and deviation 1"),
        (STANDARD, {"prepared": False}, False, "are standardised"),
        (standardised(RAW, RAW[:200]), {}, True, "mean 0 and deviation 1"),
        (BETWEEN, {}, True, "between 0 and 1"),
        (2 * BETWEEN - 1, {}, True, "between -1 and 1"),
        (BETWEEN * 0.5, {}, False, "are standardised"),
        (np.concatenate([STANDARD[:, :2], RAW[:, 2:]], axis=1), {}, False, "are standardised"),
    ],
)
@pytest.mark.parametrize("flag", [False, True], ids=["", "with a 0/1 column"])
@pytest.mark.parametrize("split", ["by unmem", "by the user"])
def test_prepared_numbers_reach_the_model_as_they_are(
    tmp_path: Path, matrix: np.ndarray, how: Any, kept: bool, said: str, flag: bool, split: str
) -> None:
    path = as_table(tmp_path / "x.csv", matrix, **({"flag": FLAG.tolist()} if flag else {}))
    whole = np.column_stack([matrix, FLAG]) if flag else matrix
    if split == "by the user":
        how = how | {"test": as_table(tmp_path / "test.csv", matrix + 1, **({"flag": FLAG.tolist()} if flag else {}))}
    splits = um.load(path, **how)
    rows = [int(name) - 1000 for name in splits.train.ids]
    wanted = whole[rows] if kept else standardised(whole[rows], whole[rows])
    assert splits.train.inputs.numpy() == pytest.approx(wanted, abs=1e-5)
    assert said in " ".join(splits.notes)


OWN = """
import numpy as np, pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

FRAME = pd.read_csv({train!r})
NUMBERS = make_pipeline(SimpleImputer(strategy="mean"), StandardScaler())
FITTED = make_column_transformer(
    (NUMBERS, ["age"]), (OneHotEncoder(handle_unknown="ignore"), ["town"])).fit(FRAME)
ON_ARRAYS = StandardScaler().fit(FRAME[["age", "fare"]].to_numpy())
UNFITTED = StandardScaler()
NUMBER = 3

def made():
    return FITTED

def function(frame):
    assert list(frame.columns) == ["age", "fare", "town"], list(frame.columns)
    return np.stack([frame.age.fillna(0) / 100, frame.town == "Ulm"], axis=1)

def sorting(frame):
    return frame[["fare"]].sort_values("fare", ascending=False)

def dropping(frame):
    return frame[["age"]].dropna()

def holes(frame):
    return frame[["age"]]

def flat(frame):
    return frame.fare

def words(frame):
    return frame[["town"]]

def failing(frame):
    raise KeyError("sex")
"""


def people(path: Path, start: int) -> Path:
    return csv(
        path,
        {
            "Unnamed: 0": [(7 * k) % N + start for k in range(N)],
            "age": cycled("31", "", "NA", "40.5"),
            "fare": [str(k + start) for k in range(N)],
            "town": cycled("Ulm", "Bonn", "NA"),
            "label": ["no", "yes"] * (N // 2),
        },
    )


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, Path, Path]:
    train, test = people(tmp_path / "train.csv", 0), people(tmp_path / "test.csv", 100)
    file = tmp_path / "prep.py"
    file.write_text(OWN.format(train=str(train)))
    return file, train, test


@pytest.mark.parametrize("name", ["FITTED", "made", "function", "ON_ARRAYS"])
def test_inputs_are_those_of_the_users_own_preprocessing(own: tuple[Path, Path, Path], name: str) -> None:
    pd = pytest.importorskip("pandas")
    file, train, test = own
    drop = "town" if name == "ON_ARRAYS" else ""
    if name == "ON_ARRAYS":  # without a hole
        for path in (train, test):
            path.write_text(path.read_text().replace(",NA,", ",1,").replace(",,", ",2,"))
    splits = um.load(train, test=test, preprocess=f"{file}:{name}", drop=drop)
    from unmem.data import module_at

    module = module_at(str(file))
    step = {"made": module.FITTED}.get(name, getattr(module, name))
    for path, parts in ((train, [splits.train]), (test, [splits.holdout, splits.test])):
        frame = pd.read_csv(path)
        features = frame[["age", "fare", "town"]].drop(columns=[drop] if drop else [])
        if name == "ON_ARRAYS":
            features = features.to_numpy()
        made = step(features) if name == "function" else step.transform(features)
        wanted = dict(zip(frame["Unnamed: 0"].astype(str), np.asarray(made, dtype=float), strict=True))
        for part in parts:
            assert part.inputs.numpy() == pytest.approx(np.stack([wanted[one] for one in part.ids]), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "'nothing' is no name there"),
        ("fnction", "'fnction' is no name there; did you mean 'function'"),
        ("NUMBER", "is a int; name a fitted transformer"),
        ("UNFITTED", "failed .*NotFittedError"),
        ("sorting", "gives other rows, or another order of them"),
        ("dropping", "gives other rows"),
        ("holes", "leaves 10 rows with missing"),
        ("flat", r"gives an array of shape \(20,\) for 20 rows"),
        ("words", "does not give numbers"),
        ("failing", "failed .*'sex'.*it gets the columns age, fare, town"),
    ],
)
def test_preprocessing_that_cannot_be_used_is_refused(own: tuple[Path, Path, Path], name: str, said: str) -> None:
    file, train, _ = own
    with pytest.raises(UserError, match=rf"preprocess '.*:{name}': {said}"):
        um.load(train, preprocess=f"{file}:{name}")


def test_a_transformer_of_other_columns_is_refused(own: tuple[Path, Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fitted on columns that are not there: .*age, fare, town"):
        um.load(csv(tmp_path / "x.csv", table()), preprocess=f"{own[0]}:FITTED")
    with pytest.raises(UserError, match="prepared True: is given beside preprocess"):
        um.load(own[1], preprocess=f"{own[0]}:FITTED", prepared=True)
