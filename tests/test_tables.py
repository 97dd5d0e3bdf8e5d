"""One table, in every form that it takes."""

from __future__ import annotations

import csv
import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmem.plaintext import plain_text
from unmem.tables import Column, Row, Table

COLUMNS = (
    Column("forget", "forget set", "percent", better="as the reference"),
    Column("tow", "ToW", "decimals", better="higher"),
    Column("auc", "AUC", "decimals"),
    Column("n", "examples", "count", shown=False),
)
WHY = "needs a retrained model"
TABLE = Table(
    COLUMNS,
    [
        Row("retrained", {"forget": 0.6667, "tow": None}, "reference", {"tow": WHY}, label="retrained (the goal)"),
        Row("a|b_c", {"forget": 0.7, "tow": 0.98349, "auc": 0.61, "n": 1234}, "method", intervals={"auc": (0.5, 0.7)}),
        Row("=cmd()", {"forget": None, "tow": None}, "control", {"tow": WHY}),
    ],
    names="model",
    notes=["Three models."],
)


def test_a_cell_is_a_number_a_reason_or_nothing() -> None:
    first, second, third = map(TABLE.cells, TABLE.rows)
    assert [(cell.text, cell.mark) for cell in first] == [("66.7%", ""), ("–", "a"), ("", "")]
    assert [(cell.text, cell.interval) for cell in second] == [
        ("70.0%", ""),
        ("0.983", ""),
        ("0.610", "0.500 to 0.700"),
    ]
    assert [(cell.text, cell.mark) for cell in third] == [("–", ""), ("–", "a"), ("", "")]
    assert TABLE.reasons == [("a", WHY)]


def test_a_filled_table_has_no_row_and_no_column_without_a_value() -> None:
    found = Table(COLUMNS, [TABLE.rows[0], TABLE.rows[2]]).filled()
    assert [row.name for row in found.rows] == ["retrained"]
    assert [column.key for column in found.columns] == ["forget"]
    assert [column.key for column in TABLE.filled().columns] == ["forget", "tow", "auc", "n"]
    assert [column.key for column in TABLE.only(["tow", "forget"]).columns] == ["tow", "forget"]
    assert TABLE.row("a|b_c") is TABLE.rows[1]
    with pytest.raises(KeyError):
        TABLE.row("retrained (the goal)")


def test_a_dictionary_has_every_column_and_the_ends_of_intervals() -> None:
    assert TABLE.to_dict()["a|b_c"] == {
        "forget": 0.7,
        "tow": 0.98349,
        "auc": 0.61,
        "auc_low": 0.5,
        "auc_high": 0.7,
        "n": 1234,
    }
    assert TABLE.to_dict()["retrained"] == dict.fromkeys(("tow", "auc", "auc_low", "auc_high", "n")) | {
        "forget": 0.6667
    }


def test_a_data_frame_is_the_dictionary_with_nan() -> None:
    frame = TABLE.to_pandas()
    assert frame.index.tolist() == ["retrained", "a|b_c", "=cmd()"]
    assert frame["kind"].tolist() == ["reference", "method", "control"]
    assert {kind.name for kind in frame.drop(columns="kind").dtypes} == {"float64"}
    for name, row in TABLE.to_dict().items():
        for key, value in row.items():
            assert frame.loc[name, key] == pytest.approx(math.nan if value is None else value, nan_ok=True)


def test_markdown_escapes_what_would_break_a_row() -> None:
    assert TABLE.to_markdown().splitlines() == [
        "| model | forget set | ToW | AUC |",
        "|---|---|---|---|",
        "| *retrained (the goal)* | 66.7% | – (a) |  |",
        r"| a\|b\_c | 70.0% | 0.983 | 0.610 |",
        "| *=cmd()* | – | – (a) |  |",
        "",
        "(a) needs a retrained model",
        "",
        "Three models.",
    ]


def test_latex_is_a_tabular_of_booktabs() -> None:
    lines = TABLE.to_latex().splitlines()
    assert lines[:4] == [r"\begin{tabular}{lrrr}", r"\toprule", r"model & forget set & ToW & AUC \\", r"\midrule"]
    assert lines[5] == r"a|b\_c & 70.0\% & 0.983 & 0.610 \\"
    assert lines[7:9] == [r"\bottomrule", r"\end{tabular}"]
    assert all(line.startswith("%") for line in lines[9:])


def test_html_marks_kinds_and_escapes_names() -> None:
    html = Table(COLUMNS, [Row("<b>", {"tow": 1.0}, "control")], names="model").to_html()
    assert '<tr class="control"><th>&lt;b&gt;</th>' in html
    assert "<td>1.000</td>" in html
    assert "needs a retrained model" in TABLE._repr_html_()


@given(st.lists(st.text(max_size=20), unique=True, min_size=1, max_size=5), st.data())
def test_csv_has_full_precision_and_no_formulas(names: list[str], data: st.DataObject) -> None:
    values = data.draw(st.lists(st.floats(allow_nan=False), min_size=len(names), max_size=len(names)))
    rows = [Row(name, {"tow": value}) for name, value in zip(names, values, strict=True)]
    head, *body = csv.reader(io.StringIO(Table(COLUMNS, rows, names="model").to_csv(), newline=""))
    assert head == ["model", "kind", "forget", "tow", "auc", "n"]
    assert [float(row[3]) for row in body] == values
    assert not any(row[0].startswith(("=", "+", "-", "@")) for row in body)
    assert [plain_text(row[0]) for row in body] == names


def test_csv_has_the_ends_of_intervals() -> None:
    head, *body = csv.reader(io.StringIO(TABLE.to_csv()))
    assert head == ["model", "kind", "forget", "tow", "auc", "auc_low", "auc_high", "n"]
    assert body[1] == ["a|b_c", "method", "0.7", "0.98349", "0.61", "0.5", "0.7", "1234"]
    assert body[2][0] == "'=cmd()"
