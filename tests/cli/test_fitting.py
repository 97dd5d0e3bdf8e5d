"""Tables of the terminal: every number whole, at any width."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import unmem as um
from unmem.cli.app import main
from unmem.cli.fitting import IN_TERMINAL, Fitted
from unmem.evaluation.outcome import COLUMNS
from unmem.tables import Column, Row, Table

NAMES = [
    "retrained (falls short)",
    "one retrain vs another",
    "matching (auto)",
    "RUM^F (NegGrad+) [a, b]",
    "do nothing",
]
NUMBERS = ["100.0%", "0.123", "-12.5%", "+10.2%", "1234.50", ""]


def printed(table: Fitted, width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(table)
    return stream.getvalue().splitlines()


def wide(columns: int) -> Fitted:
    titles = ["", *(f"column {k}" for k in range(columns))]
    rows = [[name, *(f"{k}{NUMBERS[(k + j) % 5]}" for k in range(columns))] for j, name in enumerate(NAMES)]
    return Fitted(titles, rows)


@pytest.mark.parametrize("width", [20, 30, 40, 79, 80, 120, 400])
@pytest.mark.parametrize("columns", [1, 3, 7, 8, 20])
def test_every_number_is_whole_and_in_the_line_of_its_name(columns: int, width: int) -> None:
    table = wide(columns)
    lines = printed(table, width)
    assert max(map(len, lines)) <= width
    assert "…" not in "\n".join(lines)
    words = " ".join(lines).split()
    for row in table.rows:
        for cell in row[1:]:
            assert cell in words
    if width >= 40:  # no name is broken up
        for row in table.rows:
            own = [line for line in lines if line.startswith(row[0])]
            assert [cell for line in own for cell in line.removeprefix(row[0]).split()] == list(row[1:])


def test_a_column_without_a_number_is_left_out() -> None:
    columns = [Column("tow", "ToW", "decimals"), Column("cost", "total cost", "number", short="cost")]
    rows = [Row("a method", {"tow": None, "cost": 0.3}), Row("b", {"cost": 0.0}), Row("c", {"tow": None})]
    table = Fitted.of(Table(columns, rows, names="method"))
    assert (table.titles, table.rows) == (["method", "cost"], [["a method", "0.30"], ["b", "0.00"]])


def test_a_table_without_any_number_is_not_printed() -> None:
    columns = [Column("tow", "ToW", "decimals")]
    assert printed(Fitted.of(Table(columns, [Row("a method", {"tow": None})], names="model")), 80) == []


def test_what_fits_stays_one_table() -> None:
    assert len(printed(wide(3), 80)) == 1 + len(NAMES)
    gap, blocks = wide(8).blocks(80)
    assert (gap, [len(block) for block in blocks]) == (2, [5, 3])


def test_the_table_of_outcomes_fits_eighty_columns() -> None:
    values = {"forget": 1.0, "retain": 1.0, "test": 1.0, "tow": 0.123, "tow_mia": 0.123, "cost": 10.0}
    rows = [Row(name, values | {"cost_all_told": 10.0}) for name in NAMES]
    table = Fitted.of(Table(COLUMNS, rows).only(IN_TERMINAL))
    assert len(table.blocks(80)[1]) == 1
    assert max(map(len, printed(table, 80))) <= 80


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.text("ab 漢[]", max_size=30), min_size=4, max_size=4), min_size=1, max_size=4),
    st.integers(min_value=60, max_value=200),
)
def test_no_text_of_a_column_is_cut(rows: list[list[str]], width: int) -> None:
    titles = ["", "one", "two", "three"]
    shown = "".join(printed(Fitted(titles, rows), width))
    assert "…" not in shown
    for row in rows:
        for cell in row[1:]:
            assert cell.strip() in shown


def test_an_audit_in_a_log_shows_all_of_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a log has it: no terminal, and no width but the usual 80."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)

    def unmem(*arguments: str) -> list[str]:
        with pytest.raises(SystemExit) as stopped:
            main(list(arguments))
        assert stopped.value.code == 0
        return capsys.readouterr().out.splitlines()

    small = ["--limit", "150", "--arch", "mlp", "--epochs", "8"]
    Path("ids.txt").write_text("\n".join(um.load("digits", limit=150).train.ids[:25]))
    model = ["--model", "train/original.safetensors"]
    unmem("train", *small, "--out", "train")
    unmem("score", *small, *model, "--method", "ensemble", "--members", "8", "--work", "members", "--out", "score")
    judged = [*model, "--original", model[1], "--members", "members", "--reference", "retrain"]
    shown = unmem("audit", *small, *judged, "--forget", "ids.txt", "--out", "audit")
    rows = [line for line in shown if line.startswith(("unlearned", "do nothing", "retrained"))]
    assert len(rows) >= 6
    assert max(map(len, rows)) <= 80
    assert not any("…" in line for line in rows)
    for title in ("under-forgotten", "over-forgotten", "AUC", "LiRA", "RMIA", "distance", "relearned"):
        assert any(title in line for line in shown), title
    numbers = [word for line in rows for word in line.split() if re.match(r"[+-]?\d", word)]
    assert all(re.fullmatch(r"[+-]?\d+\.\d+%?", word) for word in numbers)
    evidence = json.loads(Path("audit/result.json").read_text())["evidence"]["unlearned"]
    values = [evidence["distance"], *(evidence["attacks"][name]["auc"] for name in ("confidence", "lira", "rmia"))]
    for value in values:
        assert any(f"{value:.3f}" in line.split() for line in rows)
