"""The annex of an audit: no cell of it is run by a spreadsheet, and it gives the ids back."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import unmem as um
from unmem.cli.auditing import _write_annex
from unmem.requests import checked_ids, read_ids

FORMULAS = ["=1+1", "+7", "-7", "@SUM(A1)", "\tx", "\rx", "\nx", "＝1", "＋1", "－1", "＠a"]
PLAIN = ["'=1+1", "''a", "'a", "7", "a-b", " =1", "a, b", 'say "x"', ' "a"', "x\r\ny", "d "]
RUN = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def written(path: Path, ids: list[str]) -> um.Splits:
    examples = [(np.float32([k, 1]), k % 2, name) for k, name in enumerate([*ids, "kept", "=kept"])]
    data = um.load({"train": examples}, split="none")
    asked: Any = SimpleNamespace(
        problem=SimpleNamespace(forget=data.train.take(ids)), model=torch.nn.Linear(2, 2, dtype=torch.float32)
    )
    pairs = [SimpleNamespace(forget_id=ids[0], retain_id=one) for one in ("=kept", "kept")]
    found: Any = SimpleNamespace(t={"unlearned": np.linspace(-3, 3, len(ids))})
    copies: Any = SimpleNamespace(pairs=pairs)
    _write_annex(path, asked, found, copies)
    return data


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))


def test_no_cell_is_a_formula_and_every_id_comes_back(tmp_path: Path) -> None:
    annex = tmp_path / "annex.csv"
    ids = [*FORMULAS, *PLAIN]
    data = written(annex, ids)
    rows = rows_of(annex)
    assert len(rows) == len(ids)
    for row in rows:
        assert not row["id"].startswith(RUN)
        assert not row["copies"].startswith(RUN)
        assert 0 <= float(row["confidence"]) <= 1
    assert [row["id"] for row in rows[: len(FORMULAS)]] == [f"'{name}" for name in FORMULAS]
    assert rows[0]["copies"] == "'=kept kept"
    assert float(rows[0]["t"]) == -3  # numbers stay numbers
    names = read_ids(annex).ids(data)
    assert names == ids
    assert list(checked_ids(names, data)) == ids


@pytest.mark.parametrize("header", ["id", "id,confidence"])
def test_the_column_of_ids_alone_comes_back_too(tmp_path: Path, header: str) -> None:
    annex, cut = tmp_path / "annex.csv", tmp_path / "cut.csv"
    ids = [one for one in FORMULAS if one != "=1+1"]  # beside which PLAIN has the same with a quote in front
    data = written(annex, ids)
    with cut.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows([row[name] for name in header.split(",")] for row in rows_of(annex))
    assert read_ids(cut).ids(data) == ids


def test_an_id_that_begins_with_a_quote_is_itself_in_a_users_own_file(tmp_path: Path) -> None:
    data = written(tmp_path / "annex.csv", ["=1", "'=1", "a"])
    own = tmp_path / "own.csv"
    own.write_text("id,note\n'=1,x\n=1,y\n")
    assert read_ids(own).ids(data) == ["'=1", "=1"]
