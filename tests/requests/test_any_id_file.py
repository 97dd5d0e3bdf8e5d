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


def as_csv(names: list[str], header: list[str], separator: str, quoting: int, bom: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, quoting=quoting)
    writer.writerow(header)
    writer.writerows([[name, *["x"] * (len(header) - 1)] for name in names])
    return (bom + text.getvalue()).encode()


@st.composite
def files(draw: st.DrawFn, names: list[str]) -> tuple[str, bytes]:
    kind = draw(st.sampled_from([".txt", "", ".csv", ".json", ".parquet", ".npy"]))
    bom = draw(st.sampled_from(["", "\ufeff"]))
    if kind in (".txt", ""):
        return kind, as_text(names, draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"])), bom)
    if kind == ".csv":
        header = draw(st.sampled_from([["id"], ["ID", "why"], ["ids"], ["id", "a", "b"]]))
        separator = draw(st.sampled_from(",;\t")) if len(header) > 1 else ","  # which nothing else could tell
        return kind, as_csv(names, header, separator, draw(st.sampled_from([0, 1])), bom)
    if kind == ".json":
        made = draw(st.sampled_from([names, {"ids": names}, [{"id": name, "n": 1} for name in names]]))
        return kind, (bom + json.dumps(made, ensure_ascii=draw(st.booleans()))).encode()
    held = io.BytesIO()
    if kind == ".parquet":
        parquet.write_table(pa.table({"id": names, "n": list(range(len(names)))}), held)
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


def looks_otherwise(raw: bytes) -> bool:
    """Whether a file without a suffix starts as JSON or parquet does."""
    return raw.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"[", b"{", b"PAR1"))


@RANDOM
@given(
    raw=st.binary(max_size=60) | st.text(max_size=40).map(str.encode),
    suffix=st.sampled_from(["", ".txt", ".csv", ".json", ".parquet", ".npy"]),
)
def test_whatever_a_file_holds_the_answer_is_ids_of_the_data_or_a_sentence(
    raw: bytes, suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
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
