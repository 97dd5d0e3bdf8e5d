"""Tables that fit a terminal or a log: columns that find no room go below, and no number is ever cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as Grid
from rich.text import Text

from unmem.cli.terminal import plain
from unmem.plaintext import visible
from unmem.tables import Table
from unmem.tables.table import MISSING

# What the terminal shows of an evaluation: the columns that fit a line of 80 characters.
IN_TERMINAL = ("forget", "retain", "test", "tow", "tow_mia", "cost", "cost_all_told")
GAPS = (2, 1)  # blanks between columns: as many as there is room for


@dataclass(frozen=True)
class Fitted:
    """A table as text, to be printed by rich.

    Attributes:
        titles: Of the columns; the first column names the rows, and stands before each block of others.
        rows: A text for each column.
        total: Whether the last row sums up the others.
    """

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: bool = False

    @classmethod
    def of(cls, table: Table) -> Fitted:
        """The rows and columns that have a value."""
        found = table.filled()
        rows = [[row.title, *("" if c.text == MISSING else c.text for c in found.cells(row))] for row in found.rows]
        titles = [found.names, *(column.short or column.title for column in found.shown)]
        return cls(titles, rows, total=bool(found.rows) and found.rows[-1].kind == "total")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.rows:
            return
        gap, blocks = self.blocks(options.max_width)
        for k, columns in enumerate(blocks):
            if k:
                yield ""
            yield self._table(columns, options.max_width, gap)

    def blocks(self, width: int) -> tuple[int, list[list[int]]]:
        """The blanks between columns, and the columns after the first, by number, in as many blocks as it takes."""
        ways = [(gap, list(self._blocks(width, gap))) for gap in GAPS]
        return min(ways, key=lambda way: len(way[1]))

    def _blocks(self, width: int, gap: int) -> Iterator[list[int]]:
        room = width - self._names(width, gap)
        block: list[int] = []
        for column in range(1, len(self.titles)):
            needed = sum(self._width(one) + gap for one in (*block, column))
            if block and needed > room:
                yield block
                block = []
            block.append(column)
        yield block

    def _names(self, width: int, gap: int) -> int:
        """The width of the first column: names that are too long for a number next to them go on in the next line."""
        widest = max((self._width(column) + gap for column in range(1, len(self.titles))), default=0)
        return min(self._width(0), max(width - widest, 1))

    def _width(self, column: int) -> int:
        texts = [*self.titles[column].split("\n"), *(row[column] for row in self.rows)]
        return max(cell_len(visible(text)) for text in texts)

    def _table(self, columns: Sequence[int], width: int, gap: int) -> Grid:
        table = Grid(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
        table.add_column(_cell(self.titles[0]), max_width=self._names(width, gap), overflow="fold")
        for column in columns:
            table.add_column(_cell(self.titles[column]), justify="right", no_wrap=True, min_width=self._width(column))
        for row in self.rows:
            style = "bold" if self.total and row is self.rows[-1] else None
            table.add_row(*[plain(row[column]) for column in (0, *columns)], style=style)
        return table


def _cell(title: str) -> Text:
    """A title, whose lines stay lines: no title comes from a user."""
    return Text("\n").join(map(plain, title.split("\n")))
