"""`Table`: results as data, which become text, HTML, Markdown, CSV, LaTeX, a data frame or a dictionary."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from unmem.extras import imported
from unmem.plaintext import spreadsheet_text
from unmem.tables import markup

if TYPE_CHECKING:
    from pandas import DataFrame

Value = float | int | str | None
Kind = Literal["reference", "control", "method", "total", ""]
Better = Literal["higher", "lower", "as the reference", ""]
Format = Literal["text", "count", "percent", "change", "decimals", "number", "tenths", "seconds", "short"]
MISSING = "–"


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


_FORMS: dict[Format, Callable[[Any], str]] = {
    "text": str,
    "count": "{:,}".format,
    "percent": "{:.1%}".format,
    "change": "{:+.1%}".format,
    "decimals": "{:.3f}".format,
    "number": "{:.2f}".format,
    "tenths": "{:,.1f}".format,
    "seconds": _seconds,
    "short": "{:.3g}".format,
}


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: Its name in dictionaries, data frames and CSV.
        title: Its heading.
        format: How its values are formatted.
        unit: Unit of its values, such as "trainings"; empty for shares and counts.
        better: Which values are better; empty if neither.
        explained: One plain line about its meaning.
        short: A heading for narrow tables; empty: `title`.
        shown: Whether tables for readers include it. Dictionaries, data frames and CSV have every column.
    """

    key: str
    title: str
    format: Format = "text"
    unit: str = ""
    better: Better = ""
    explained: str = ""
    short: str = ""
    shown: bool = True

    def text(self, value: Value) -> str:
        """Return the value as readers see it."""
        return MISSING if value is None else _FORMS[self.format](value)


@dataclass(frozen=True)
class Row:
    """The values of one row, by the keys of columns.

    Attributes:
        name: Name of the row, unique in the table.
        values: None is a missing number. A key that is absent stands for a number that would be meaningless.
        kind: Whether the row is a method, a control or the reference.
        reasons: Why values are missing.
        intervals: Lower and upper end of values that have an interval.
        explained: One plain line about the row.
        label: The name as readers see it; empty: `name`.
    """

    name: str
    values: Mapping[str, Value]
    kind: Kind = ""
    reasons: Mapping[str, str] = field(default_factory=dict[str, str])
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    explained: str = ""
    label: str = ""

    @property
    def title(self) -> str:
        """The name as readers see it."""
        return self.label or self.name


@dataclass(frozen=True)
class Cell:
    """A value as readers see it.

    Attributes:
        title: Heading of its column.
        text: The value.
        mark: Mark of the reason for a missing value, or empty.
        interval: Its interval, or empty.
    """

    title: str
    text: str
    mark: str = ""
    interval: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of values under columns.

    Attributes:
        columns: The columns in order, without that of the row names.
        rows: The rows in order.
        names: What a row is, such as "model".
        notes: Sentences under the table.
    """

    columns: Sequence[Column]
    rows: Sequence[Row]
    names: str = ""
    notes: Sequence[str] = ()

    # --- parts of it ----------------------------------------------------------------------------------------------

    def only(self, keys: Iterable[str]) -> Table:
        """Return the table with these columns, in this order."""
        by_key = {column.key: column for column in self.columns}
        return replace(self, columns=[by_key[key] for key in keys])

    def filled(self, *, keep: Iterable[str] = ()) -> Table:
        """Return the table without rows and columns that have no value, except for the columns with the keys `keep`."""
        rows = [row for row in self.rows if any(value is not None for value in row.values.values())]
        kept = {key for row in rows for key, value in row.values.items() if value is not None} | set(keep)
        return replace(self, rows=rows, columns=[column for column in self.columns if column.key in kept])

    def row(self, name: str) -> Row:
        """Return the row of this name.

        Raises:
            KeyError: There is none.
        """
        found = next((row for row in self.rows if row.name == name), None)
        if found is None:
            raise KeyError(name)
        return found

    @property
    def shown(self) -> list[Column]:
        """The columns that readers see."""
        return [column for column in self.columns if column.shown]

    def cells(self, row: Row) -> list[Cell]:
        """Return the cells of a row, as readers see them."""
        marks = {reason: mark for mark, reason in self.reasons}
        return [_cell(row, column, marks) for column in self.shown]

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """The marks of missing numbers and the reasons that they stand for."""
        keys = [column.key for column in self.shown]
        found = [row.reasons[key] for row in self.rows for key in keys if _excused(row, key)]
        return [(chr(ord("a") + k), reason) for k, reason in enumerate(dict.fromkeys(found))]

    # --- what it becomes ------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, dict[str, Value]]:
        """Return the values of each row by column key, by row name."""
        return {row.name: self._values(row) for row in self.rows}

    def to_pandas(self) -> DataFrame:
        """Return a data frame with a row per row and its kind; missing numbers are NaN. Requires pandas."""
        pandas = imported("pandas", field="to_pandas")
        texts = {column.key for column in self.columns if column.format == "text"}
        rows = [
            {self.names or "name": row.name, "kind": row.kind}
            | {key: _for_frame(value, text=key in texts) for key, value in self._values(row).items()}
            for row in self.rows
        ]
        return pandas.DataFrame(rows).set_index(self.names or "name")

    def to_markdown(self) -> str:
        """Return a table in GitHub-flavoured Markdown, with the names of controls in italics."""
        head = [self.names, *(column.title for column in self.shown)]
        lines = [_piped(head), "|" + "---|" * len(head)]
        for row in self.rows:
            name = f"*{_markdown(row.title)}*" if row.kind in ("control", "reference") else _markdown(row.title)
            lines.append(_piped([name, *(_markdown(_marked(cell)) for cell in self.cells(row))], escaped=True))
        return "\n".join([*lines, *self._below()]) + "\n"

    def to_csv(self) -> str:
        """Return all columns by key, in full precision; a missing number is an empty cell."""
        file = io.StringIO()
        writer = csv.writer(file)
        writer.writerow([self.names or "name", "kind", *self._values(Row("", {}))])
        for row in self.rows:
            cells = [row.name, row.kind, *self._values(row).values()]
            writer.writerow([spreadsheet_text(cell) if isinstance(cell, str) else cell for cell in cells])
        return file.getvalue()

    def to_latex(self) -> str:
        """Return a `tabular` with the rules of the package booktabs."""
        head = [self.names, *(column.title for column in self.shown)]
        lines = [
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            _latex_line(head),
            r"\midrule",
            *(_latex_line([row.title, *(_marked(cell) for cell in self.cells(row))]) for row in self.rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        return "\n".join([*lines, *(f"% {line}" for line in self._below())]) + "\n"

    def to_html(self) -> str:
        """Return a `<table>` and its notes, for a page of `markup`."""
        cells = [[(_marked(cell), cell.interval) for cell in self.cells(row)] for row in self.rows]
        rows = [(row.kind, row.title, own) for row, own in zip(self.rows, cells, strict=True)]
        found = markup.table(self.names, [column.title for column in self.shown], rows)
        return found + "".join(markup.paragraph(line, small=True) for line in self._below() if line)

    def _repr_html_(self) -> str:
        return markup.page("", self.to_html())

    def _below(self) -> list[str]:
        reasons = "; ".join(f"({mark}) {reason}" for mark, reason in self.reasons)
        return [line for note in (reasons, *self.notes) if note for line in ("", note)]

    def _values(self, row: Row) -> dict[str, Value]:
        """By the keys of the columns, and of the ends of intervals."""
        found: dict[str, Value] = {}
        for column in self.columns:
            found[column.key] = row.values.get(column.key)
            if any(column.key in one.intervals for one in self.rows):
                low, high = row.intervals.get(column.key, (None, None))
                found |= {f"{column.key}_low": low, f"{column.key}_high": high}
        return found


def _cell(row: Row, column: Column, marks: Mapping[str, str]) -> Cell:
    """marks: of reasons, by reason."""
    if column.key not in row.values:
        return Cell(column.title, "")
    mark = marks[row.reasons[column.key]] if _excused(row, column.key) else ""
    ends = row.intervals.get(column.key)
    beside = "" if ends is None else f"{column.text(ends[0])} to {column.text(ends[1])}"
    return Cell(column.title, column.text(row.values[column.key]), mark, beside)


def _excused(row: Row, key: str) -> bool:
    """Whether a number is missing for a reason."""
    return key in row.reasons and key in row.values and row.values[key] is None


def _for_frame(value: Value, *, text: bool) -> Value:
    """NaN where there is no number, so that columns stay numeric."""
    return value if text else math.nan if value is None else value


def _marked(cell: Cell) -> str:
    return f"{cell.text} ({cell.mark})" if cell.mark else cell.text


def _markdown(text: str) -> str:
    for sign in ("\\", "|", "*", "_", "`", "<", "["):
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")


def _piped(cells: Sequence[str], *, escaped: bool = False) -> str:
    return f"| {' | '.join(cells if escaped else map(_markdown, cells))} |"


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "−": "$-$"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join("".join(_LATEX.get(sign, sign) for sign in cell) for cell in cells) + r" \\"
