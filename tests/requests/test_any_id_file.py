"""Files of ids and of issues drawn at random: the examples taken are those named, or the answer is a sentence."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import unmem as um
from unmem.errors import UserError
from unmem.requests import checked_ids, read_ids, read_issues

CASES = int(os.environ.get("UNMEM_CASES", "25"))  # by property
RANDOM = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=CASES < 500)

# What differs in a letter, or looks like another line, a comment, a number or the name of a column.
TRICKY = (
    *("7", "07", "007", "7.0", "7.", "+7", "1e3", "1000", "1_000", "1,000", "NaN", "None", "null", "true", "True"),
    *("#7", "# 7", "##", "a b", "a  b", "a\tb", "a,b", "a;b", 'a"b', "'a'", "ids", "id", "[1]", "{}", "PAR1"),
    *("a\u2028b", "a\x0bb", "a\x85b", "a", "b", " c", "c", "c ", "\u00a0d", "d", "é", "e\u0301"),
    *("-1", "12345678901234567890", "12345678901234567891"),
)
N = 24


def loaded(ids: list[str]) -> um.Splits:
    """The mark of an example is its number."""
    features = np.arange(len(ids), dtype=np.float32)[:, None]
    return um.load({"train": [(features[k], k % 2, name) for k, name in enumerate(ids)]}, split="none")


def marks(data: um.Splits, names: list[str] | np.ndarray) -> list[int]:
    inputs, _ = data.train.take(names).batch(np.arange(len(names)))
    return inputs[:, 0].int().tolist()


def as_text(names: list[str], end: str, bom: str) -> bytes:
    return (bom + "".join(name + end for name in names)).encode()


# What stands beside an id, and has nothing to say about it.
BESIDE = ("x", "", " ", 'he said, "no"', "a,b,c,d,e,f", "a;b;c;d;e;f", "\t\t\t\t", "two\nlines", "id", '"')


def as_csv(names: list[str], header: list[str], form: Any, beside: list[str], bom: str) -> bytes:
    text = io.StringIO(newline="")
    separator, quoting, end = form
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=end)
    writer.writerow(header)
    writer.writerows(
        [
            [name if cell.lower() in ("id", "ids") else other for cell in header]
            for name, other in zip(names, beside, strict=True)
        ]
    )
    return (bom + text.getvalue()).encode()


@st.composite
def files(draw: st.DrawFn, names: list[str]) -> tuple[str, bytes]:
    kind = draw(st.sampled_from([".txt", "", ".csv", ".json", ".parquet", ".npy"]))
    bom = draw(st.sampled_from(["", "\ufeff"]))
    if kind in (".txt", ""):
        return kind, as_text(names, draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"])), bom)
    if kind == ".csv":
        headers = [["id"], ["ID", "why"], ["ids"], ["id", "a", "b"], ["", "id"], ["why", "Id"]]
        header = draw(st.sampled_from(headers))
        separator = draw(st.sampled_from(",;\t")) if len(header) > 1 else ","  # which nothing else could tell
        end = draw(st.sampled_from(["\r\n", "\n", "\r"]))
        form = separator, 1 if end == "\r" else draw(st.sampled_from([0, 1])), end  # csv leaves "\n" bare beside "\r"
        beside = draw(st.lists(st.sampled_from(BESIDE), min_size=len(names), max_size=len(names)))
        return kind, as_csv(names, header, form, beside, bom)
    if kind == ".json":
        made = draw(st.sampled_from([names, {"ids": names}, [{"id": name, "n": 1} for name in names]]))
        return kind, (bom + json.dumps(made, ensure_ascii=draw(st.booleans()))).encode()
    held = io.BytesIO()
    if kind == ".parquet":
        ids = pa.array(names, draw(st.sampled_from([pa.string(), pa.large_string()])))
        ids = ids.dictionary_encode() if draw(st.booleans()) else ids
        parquet.write_table(pa.table({"id": ids, "n": list(range(len(names)))}), held)
    else:
        np.save(held, np.array(names, dtype=np.str_))
    return kind, held.getvalue()


@RANDOM
@given(data=st.data())
def test_the_examples_taken_are_those_named(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    ids = data.draw(st.permutations([*TRICKY, *(f"u{k}" for k in range(6))]))[:N]
    splits = loaded(ids)
    named = data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=5, unique=True))
    suffix, raw = data.draw(files(named))
    path = tmp_path_factory.mktemp("any") / f"request{suffix}"
    path.write_bytes(raw)
    if suffix == "" and looks_otherwise(raw):
        with contextlib.suppress(UserError):
            read_ids(path).ids(splits)
        return
    taken = checked_ids(read_ids(path).ids(splits), splits)
    assert marks(splits, taken) == [ids.index(name) for name in named]


@RANDOM
@given(data=st.data())
def test_ids_that_are_unknown_or_repeated_are_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ids = data.draw(st.permutations([*TRICKY, *(f"u{k}" for k in range(6))]))[:N]
    splits = loaded(ids)
    stripped = {name.strip() for name in ids}
    unknown = [name for name in (*TRICKY, "u99", "#99") if name.strip() not in stripped]
    named = data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=4, unique=True))
    stray = data.draw(st.sampled_from([*unknown, named[0]]))
    named.insert(data.draw(st.integers(0, len(named))), stray)
    suffix, raw = data.draw(files(named))
    if suffix == "" and looks_otherwise(raw):
        return
    path = tmp_path_factory.mktemp("any") / f"request{suffix}"
    path.write_bytes(raw)
    comment = suffix in (".txt", "") and is_comment(stray, ids)
    with contextlib.nullcontext() if comment else pytest.raises(UserError):
        taken = checked_ids(read_ids(path).ids(splits), splits)
        assert marks(splits, taken) == [ids.index(name) for name in named if name != stray]
    if stray in ids:
        taken = checked_ids(read_ids(path).ids(splits), splits, dedupe=True)
        assert marks(splits, taken) == [ids.index(name) for name in dict.fromkeys(named)]


def is_comment(line: str, ids: list[str]) -> bool:
    """Where ids begin with #, a comment has a space behind it, or another #."""
    if not line.startswith("#") or line in ids:
        return False
    return line[1:2] in (" ", "\t", "#", "") or not any(name.startswith("#") for name in ids)


PLAIN_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 30) | st.floats() | st.sampled_from([*TRICKY[:8], "is_label_issue"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "ids", "is_label_issue", "label_quality", "", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def wrong_types(draw: st.DrawFn) -> tuple[str, bytes]:
    """Files that can be read, with columns of any type."""
    if draw(st.booleans()):
        return ".json", json.dumps(draw(PLAIN_JSON)).encode()
    held = io.BytesIO()
    kinds = [pa.int64(), pa.float64(), pa.bool_(), pa.binary(), pa.date32(), pa.null(), pa.list_(pa.int8())]
    kinds += [pa.uint64(), pa.decimal128(5, 2), pa.timestamp("ns"), pa.float16(), pa.duration("s"), pa.time64("ns")]
    if draw(st.booleans()):
        names = draw(st.lists(st.sampled_from(["id", "is_label_issue", "label_quality", "x"]), min_size=1, max_size=3))
        made = {name: column(draw(st.sampled_from(kinds)), draw(st.booleans())) for name in names}
        parquet.write_table(pa.table(made), held)
        return ".parquet", held.getvalue()
    types = ["bool", "int8", "uint64", "float32", "U3", "S3", "M8[ns]", "M8[s]", "m8[s]", "complex64", "V4"]
    np.save(held, np.zeros(draw(st.sampled_from([(0,), (3,), (), (2, 2)])), dtype=draw(st.sampled_from(types))))
    return ".npy", held.getvalue()


def column(kind: Any, nulls: bool) -> Any:
    """Three nulls, or three values that are no text."""
    if nulls or pa.types.is_null(kind):
        return pa.nulls(3, kind)
    if pa.types.is_list(kind):
        return pa.array([[1], [], [2]], kind)
    if pa.types.is_binary(kind):
        return pa.array([b"7", b"u1", b"\xff"], kind)
    if pa.types.is_boolean(kind):
        return pa.array([True, False, True])
    if pa.types.is_decimal(kind) or pa.types.is_floating(kind):
        return pa.array([7, 1, 2]).cast(pa.float64()).cast(kind)
    if pa.types.is_date32(kind) or pa.types.is_time64(kind) or pa.types.is_timestamp(kind):
        return pa.array([7, 1, 2], pa.int32() if pa.types.is_date32(kind) else pa.int64()).cast(kind)
    return pa.array([7, 1, 2], pa.int64()).cast(kind)


def looks_otherwise(raw: bytes) -> bool:
    """Whether a file without a suffix starts as JSON or parquet does."""
    return raw.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"[", b"{", b"PAR1"))


@RANDOM
@given(
    made=st.tuples(
        st.sampled_from(["", ".txt", ".csv", ".json", ".parquet", ".npy"]),
        st.binary(max_size=60) | st.text(max_size=40).map(str.encode),
    )
    | wrong_types()
)
def test_whatever_a_file_holds_the_answer_is_ids_of_the_data_or_a_sentence(
    made: tuple[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    suffix, raw = made
    splits = loaded([*TRICKY[:10], *(f"u{k}" for k in range(6))])
    path = tmp_path_factory.mktemp("any") / f"request{suffix}"
    path.write_bytes(raw)
    for read in (lambda: checked_ids(read_ids(path).ids(splits), splits), lambda: read_issues(str(path)).names(splits)):
        try:
            taken = list(read())
        except UserError:
            continue
        assert set(taken) <= set(splits.train.ids.tolist())


@RANDOM
@given(data=st.data())
def test_issues_by_row_are_the_rows_of_the_users_file(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    n = data.draw(st.integers(12, 40))
    ids = data.draw(st.permutations([str(k) for k in range(1, n + 1)]))
    folder = tmp_path_factory.mktemp("any")
    rows = [{"id": name, "x": str(k / 7), "label": "yn"[k % 2]} for k, name in enumerate(ids)]
    (folder / "x.csv").write_bytes(table(rows))
    splits = um.load(folder / "x.csv", split=data.draw(st.sampled_from(["none", "70/15/15"])))
    flags = data.draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any))
    form = data.draw(st.sampled_from(["flags", "ids", "indices", "index"]))
    flagged = [k for k in range(n) if flags[k]]
    if form == "indices":
        path = folder / "issues.txt"
        path.write_text("".join(f"{k}\n" for k in flagged))
    else:
        path = folder / "issues.csv"
        named = [{"flags": {}, "ids": {"id": ids[k]}, "index": {"": str(k)}}[form] for k in range(n)]
        path.write_bytes(
            table([first | {"is_label_issue": str(flag)} for first, flag in zip(named, flags, strict=True)])
        )
    issues = read_issues(str(path))
    if form == "index":  # 0 … n − 1 beside the ids 1 … n
        with contextlib.suppress(UserError):
            assert issues.names(splits) == [ids[k] for k in flagged]
    else:
        assert issues.names(splits) == [ids[k] for k in flagged]


def table(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


@RANDOM
@given(data=st.data())
def test_the_worst_issues_are_those_of_the_least_quality(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ids = data.draw(st.permutations([*TRICKY, *(f"u{k}" for k in range(6))]))[:N]
    splits = loaded(ids)
    rows = data.draw(st.permutations(range(N)))[: data.draw(st.integers(1, N))]
    quality = data.draw(st.lists(st.sampled_from([0.0, 1e-9, 0.1, 0.25, 0.5, 1.0]), min_size=N, max_size=N))
    flags = data.draw(st.lists(st.booleans(), min_size=N, max_size=N))
    flagged = sorted((row for row in rows if flags[row]), key=quality.__getitem__)
    wanted = data.draw(st.none() | st.integers(1, N))
    rows_of_file = [{"id": ids[row], "is_label_issue": flags[row], "label_quality": quality[row]} for row in rows]
    path = tmp_path_factory.mktemp("any") / data.draw(st.sampled_from(["i.csv", "i.json", "i.parquet"]))
    if path.suffix == ".csv":
        path.write_bytes(table(rows_of_file))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows_of_file))
    else:
        parquet.write_table(pa.Table.from_pylist(rows_of_file), path)
    issues = read_issues(str(path) if wanted is None else f"{path}:{wanted}")
    if not flagged or (wanted or 0) > len(flagged):
        with pytest.raises(UserError):
            issues.names(splits)
    else:
        assert issues.names(splits) == [ids[row] for row in flagged[:wanted]]
