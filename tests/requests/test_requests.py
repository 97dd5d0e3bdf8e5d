"""Requests: ids from files of every kind, conditions on columns, and label issues."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import unmem as um
from tests.helpers import point_splits
from unmem.data import Examples, Splits
from unmem.errors import NothingToDoError, UserError
from unmem.requests import checked_ids, ids_where, parse_condition, read_ids, read_issues
from unmem.requests.ids import as_called

USERS = (
    *("7", "07", "007", " 7", "1e5", "100000", "12345678901234567890", "12345678901234567891"),
    *("None", "NA", "", "nan"),
)


@pytest.fixture
def data() -> Splits:
    splits = point_splits()
    columns = {
        "site": np.array(["oslo", "bergen"] * 30),
        "age": np.arange(60),
        "dose": (np.arange(60) / 10).astype(np.float32),
        "adult": np.arange(60) >= 18,
        "user": np.array([*USERS, *["other"] * (60 - len(USERS))], dtype=object),
        "holes": np.array([None, float("nan")] * 30, dtype=object),
        "long": 12345678901234566 + np.arange(60),  # neighbours are one number in float64
    }
    return replace(splits, train=replace(splits.train, columns=columns))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ids.txt", "\n  17\n\nb 4\n"),
        ("ids", "17\nb 4"),
        ("ids.csv", "17\nb 4\n"),
        ("ids.csv", "id\n17\n\nb 4\n"),
        ("ids.csv", "\ufeff,name,ID\n0,x,17\n1,y,b 4\n"),
        ("ids.csv", 'name;id\n"a;b";17\nc;b 4\n'),
        ("ids.csv", '"why", "id"\n"x", "17"\n"y, z", "b 4"\n'),
        ("ids.csv", 'id;why\r17;"a,b,c"\rb 4;"d,e,f"\r'),
        ("ids.tsv", "\tid\n0\t17\n1\tb 4\n"),
        ("ids.json", '["17", "b 4"]'),
        ("ids.json", '[17, "b 4"]'),
        ("ids.json", '{"why": "asked", "ids": ["17", "b 4"]}'),
        ("ids.json", '[{"id": 17, "x": 1}, {"id": "b 4", "x": 2}]'),
        ("ids.out", ' [17, "b 4"]'),
    ],
)
def test_ids_are_read_from_text_csv_and_json(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert as_called(read_ids(tmp_path / name).names, {"17", "b 4"}, field="ids") == ["17", "b 4"]


def test_spaces_around_an_id_count_where_they_tell_ids_apart() -> None:
    known = {"a", " a", "b ", "c"}
    assert as_called(["a", " a", "b", " c "], known, field="ids") == ["a", " a", "b ", "c"]
    assert as_called(["d "], known, field="ids") == ["d"]
    with pytest.raises(UserError, match="'a ': may be any of ' a', 'a'; write the spaces"):
        as_called(["a "], known, field="ids")


def test_spaces_of_ids_stay_where_a_text_beside_them_quotes_something(tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text('id,why\n c,"asked: ""this"", ""that"""\n')
    assert read_ids(tmp_path / "ids.csv").names == [" c"]


@pytest.mark.parametrize("columns", [{"id": [17, 4], "label": [0, 1]}, {"who": ["17", "4"]}])
@pytest.mark.parametrize("name", ["ids.parquet", "ids"])
def test_ids_are_read_from_parquet(columns: dict[str, list[object]], name: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / name)
    assert read_ids(tmp_path / name).names == ["17", "4"]


@pytest.mark.parametrize("text", ["17\n4\n", '["17", 4]', '{"ids": [17, 4]}'])
def test_ids_are_read_from_standard_input(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert read_ids("-").names == ["17", "4"]


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("ids.csv", b"idd,x\n1,2\n", "no column id .* did you mean 'idd'"),
        ("ids.csv", b"id,x\n1,2\n3\n", "line 3 has 1 cells"),
        ("ids.csv", b"id,id\n1,2\n", "column 'id' more than once"),
        ("ids.json", b'["1", ', "cannot be read as JSON"),
        ("ids.json", b"5", "neither a list nor an object"),
        ("ids.json", b"[1.5]", "float is not an id"),
        ("ids.json", b'{"ids": [1], "ids": [2]}', "name 'ids' more than once"),
        ("ids.json", b"[null]", "NoneType is not an id"),
        ("ids.json", b'[1, {"id": 2}]', "mixes objects"),
        ("ids.json", b"[" * 100_000, "too deep"),
        ("ids.parquet", b"PAR1 and nothing else", "cannot be read as parquet"),
        ("ids.txt", b"1\n\xff\n", "not UTF-8"),
        ("ids.txt", b"1\0\n", "NUL"),
    ],
)
def test_a_file_without_ids_is_refused(name: str, raw: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(UserError, match=words):
        read_ids(tmp_path / name)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a folder"):
        read_ids(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        read_ids(tmp_path / "none")


def test_ids_are_checked_against_the_data(data: Splits) -> None:
    assert checked_ids(["7", "3"], data).tolist() == ["7", "3"]
    with pytest.raises(UserError, match=r"'3': the id is there more than once \(2 such\).*--dedupe"):
        checked_ids(["3", "3", "7", "5", "7"], data)
    assert checked_ids(["3", "3", "7", "3"], data, dedupe=True).tolist() == ["3", "7"]
    example = str(data.train.ids[0])
    with pytest.raises(UserError, match=rf"'-1': not an id of these 60 training examples \(2 such\).*'{example}'"):
        checked_ids(["3", "-1", "3.0"], data)
    with pytest.raises(UserError, match="id of the test set"):
        checked_ids([str(data.test.ids[0])], data)
    with pytest.raises(UserError, match="whole training set"):
        checked_ids(data.train.ids.tolist(), data)
    with pytest.raises(NothingToDoError):
        checked_ids([], data)


def test_a_huge_line_among_many_costs_no_memory(data: Splits) -> None:
    with pytest.raises(UserError, match="not an id"):  # as an array of text this would take 400 GB
        checked_ids(["x" * 1_000_000, *map(str, range(100_000))], data)


def where(train: Examples, *conditions: str) -> list[str]:
    return ids_where(train, [parse_condition(text) for text in conditions]).tolist()


@pytest.mark.parametrize(
    ("condition", "chosen"),
    [
        ("site=oslo", range(0, 60, 2)),
        ("age=17", [17]),
        ("age = 17", [17]),
        ("dose=0.3", [3]),
        ("dose=3.0", [30]),
        ("dose=3", [30]),
        ("user=7", [0]),
        ("user=07", [1]),
        ("user=007", [2]),
        ("user= 7", [3]),
        ("user=1e5", [4]),
        ("user=100000", [5]),
        ("user=12345678901234567890", [6]),
        ("user=12345678901234567891", [7]),
        ("user=None", [8]),
        ("user=NA", [9]),
        ("user=", [10]),
        ("user=nan", [11]),
        ("long=12345678901234567", [1]),
        ("adult=true", range(18, 60)),
        ("adult=False", range(18)),
    ],
)
def test_a_condition_compares_values_to_the_letter(data: Splits, condition: str, chosen: list[int]) -> None:
    assert where(data.train, condition) == data.train.ids[list(chosen)].tolist()


def test_conditions_hold_together_and_know_id_and_label(data: Splits) -> None:
    train = data.train
    name = str(train.ids[5])
    assert where(train, f"id={name}") == [name]
    assert where(train, "label=2") == train.ids[(train.labels == 2).numpy()].tolist()
    assert where(train, "site=oslo", "age=4") == [train.ids[4]]
    some = train.at(np.array([9, 4]))  # columns go along
    assert where(some, "age=4") == [train.ids[4]]


@pytest.mark.parametrize(
    ("conditions", "kind", "words"),
    [
        (["sit=oslo"], UserError, "no column 'sit'; did you mean 'site'"),
        (["site"], UserError, "COLUMN=VALUE"),
        (["=oslo"], UserError, "COLUMN=VALUE"),
        (["age=17.0"], NothingToDoError, "matches no training example"),
        (["age=017"], NothingToDoError, "matches no training example"),
        (["dose=3e-1"], NothingToDoError, "matches no training example"),
        (["adult=1"], NothingToDoError, "matches no training example"),
        (["holes=None"], NothingToDoError, "matches no training example"),
        (["holes=nan"], NothingToDoError, "matches no training example"),
        (["site=rome"], NothingToDoError, "matches no training example.*'oslo'"),
        (["age=" + "9" * 400], NothingToDoError, "matches no"),
        (["dose=" + "9" * 400], NothingToDoError, "matches no"),
        (["site=oslo", "age=5"], NothingToDoError, "all conditions"),
    ],
)
def test_a_condition_that_cannot_be_is_refused(
    data: Splits, conditions: list[str], kind: type[UserError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        where(data.train, *conditions)


def issues(data: Splits, file: Path, worst: str = "") -> list[str]:
    return read_issues(f"{file}{worst}").names(data)


def test_issues_by_id_and_the_worst_of_them(data: Splits, tmp_path: Path) -> None:
    file = tmp_path / "issues.csv"
    file.write_text("id,is_label_issue,label_quality\n4,True,0.3\n9,False,0.1\n7,true,0.2\n5,1,0.4\n")
    assert issues(data, file) == ["7", "4", "5"]
    assert issues(data, file, ":2") == ["7", "4"]
    with pytest.raises(UserError, match="only 3 examples are flagged"):
        issues(data, file, ":4")
    with pytest.raises(NothingToDoError, match="asks for no example"):
        issues(data, file, ":0")


def test_issues_in_the_order_of_the_training_set(data: Splits, tmp_path: Path) -> None:
    flags = np.zeros(60, dtype=bool)
    flags[[3, 40]] = True
    expected = data.train.ids[flags].tolist()
    np.save(tmp_path / "mask.npy", flags)
    pq.write_table(pa.table({"is_label_issue": flags}), tmp_path / "mask.parquet")
    (tmp_path / "mask.csv").write_text(",is_label_issue\n" + "".join(f"{k},{flag}\n" for k, flag in enumerate(flags)))
    (tmp_path / "list.csv").write_text("is_label_issue\n" + "".join(f"{flag}\n" for flag in flags))
    (tmp_path / "mask.json").write_text(json.dumps(flags.tolist()))
    (tmp_path / "pandas.json").write_text(json.dumps({"is_label_issue": dict(enumerate(flags.tolist()))}))
    for name in ("mask.npy", "mask.parquet", "list.csv", "mask.json", "pandas.json"):
        assert issues(data, tmp_path / name) == expected, name
    # The ids of these data are the numbers 0 to 59 in another order, so that the first column may mean either.
    with pytest.raises(UserError, match="may be ids or positions"):
        issues(data, tmp_path / "mask.csv")
    np.save(tmp_path / "short.npy", flags[:50])
    with pytest.raises(UserError, match=r"50 rows, but the training set of .* has 60 examples"):
        issues(data, tmp_path / "short.npy")
    with pytest.raises(UserError, match="no column label_quality"):
        issues(data, tmp_path / "mask.npy", ":1")
    np.save(tmp_path / "none.npy", np.zeros(60, dtype=bool))
    with pytest.raises(NothingToDoError, match="flags no example"):
        issues(data, tmp_path / "none.npy")


def test_positions_of_data_without_an_order_are_refused(data: Splits, tmp_path: Path) -> None:
    np.save(tmp_path / "found.npy", np.array([41, 3]))
    assert issues(data, tmp_path / "found.npy") == data.train.ids[[41, 3]].tolist()
    with pytest.raises(UserError, match="has no order in which to count"):
        issues(replace(data, order=data.train.ids[:0]), tmp_path / "found.npy")
    for wrong in ([3, 60], [-1]):
        np.save(tmp_path / "found.npy", np.array(wrong))
        with pytest.raises(UserError, match=r"lists position .* has the positions 0 to 59"):
            issues(data, tmp_path / "found.npy")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,flag\n3,True\n", "no column is_label_issue"),
        ("id,is_label_issue\n3,maybe\n", "entry 1 is 'maybe', which is no is_label_issue"),
        ("id,is_label_issue,label_quality\n3,True,bad\n", "entry 1 is 'bad', which is no label_quality"),
    ],
)
def test_a_table_without_issues_is_refused(text: str, words: str, data: Splits, tmp_path: Path) -> None:
    (tmp_path / "issues.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        issues(data, tmp_path / "issues.csv")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("/home/ada/pets/train/cat/1.png", "train/cat/1.png"),  # absolute
        ("./train/cat/1.png", "train/cat/1.png"),
        ("train\\cat\\1.png", "train/cat/1.png"),
        ("cat/1.png", "train/cat/1.png"),  # below the folder of the part
        ("dog/2.png", "train/dog/2.png"),
        ("3.png", None),  # of two classes
        ("cat/9.png", None),
    ],
)
def test_a_path_that_begins_otherwise_is_refused_with_the_id_that_is_meant(name: str, meant: str | None) -> None:
    ids = [f"train/{kind}/{k}.png" for kind in ("cat", "dog") for k in range(8)]
    x = np.arange(32, dtype=np.float32).reshape(16, 2)
    train = Examples.of(x, np.arange(16) % 2, ids=ids, scaling=None)
    data = Splits("pets", train, *(replace(train, ids=np.array([f"{p}{k}" for k in range(16)])) for p in "ht"))
    said = f"write '{meant}', as it is called" if meant else "use ids of the data set, such as"
    with pytest.raises(UserError, match=said):
        checked_ids([name], data)


def test_a_label_is_asked_for_by_name_or_number() -> None:
    x = np.arange(60, dtype=np.float32).reshape(30, 2)
    data = um.load((x, np.array(["cat", "dog", "eel"])[np.arange(30) % 3]))
    for text, k in (("label=cat", 0), ("label=eel", 2), ("label=1", 1)):
        found = ids_where(data.train, [parse_condition(text)], classes=data.classes)
        assert set(found) == set(data.train.ids[data.train.labels.numpy() == k])
    # Where a class is called like a number, that is its name.
    turned = replace(data, classes=("2", "1", "0"))
    found = ids_where(turned.train, [parse_condition("label=2")], classes=turned.classes)
    assert set(found) == set(data.train.ids[data.train.labels.numpy() == 0])
    with pytest.raises(NothingToDoError, match=r"label=cow.*: matches no training example; .*('cat'|'dog'|'eel')"):
        ids_where(data.train, [parse_condition("label=cow")], classes=data.classes)
