"""Small pieces of HTML for notebooks, made of plain values.

Colours are the notebook's own, light or dark; a chart's blue is readable on both. All text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLUE = "#3b82c4"
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 440, 130, 44, 18, 6  # of a histogram, px
_STYLE = """<style>
.unmem { font-size: 13px; line-height: 1.45; color: inherit; max-width: 900px; }
.unmem table { border-collapse: collapse; border: 0; margin: 6px 0 4px; font-size: inherit;
  font-variant-numeric: tabular-nums; }
.unmem th, .unmem td { padding: 3px 10px; border: 0; text-align: right; vertical-align: baseline; color: inherit;
  background: none; font-weight: normal; white-space: nowrap; }
.unmem thead th { border-bottom: 1px solid rgba(127, 127, 127, .6); opacity: .8; white-space: normal; }
.unmem tbody th { text-align: left; font-weight: 600; }
.unmem tr.control th { font-weight: normal; }
.unmem tr.control, .unmem tr.reference { background: rgba(127, 127, 127, .12); }
.unmem small, .unmem p.small { font-size: 12px; opacity: .8; }
.unmem p { margin: 4px 0; }
.unmem td small { display: block; font-size: 11px; }
</style>"""


def page(title: str, *pieces: str) -> str:
    """One output of a notebook; title is text, pieces are HTML."""
    head = f"<p><b>{escape(title)}</b></p>" if title else ""
    return f'<div class="unmem">{_STYLE}{head}{"".join(pieces)}</div>'


def paragraph(text: str, *, small: bool = False) -> str:
    return f'<p class="small">{escape(text)}</p>' if small else f"<p>{escape(text)}</p>"


def table(names: str, columns: Sequence[str], rows: Sequence[tuple[str, str, Sequence[str | tuple[str, str]]]]) -> str:
    """A table with the heading `names` over the first column.

    Args:
        names: What the rows are.
        columns: Headings of the other columns.
        rows: Kind (reference, control, method or empty), name, and a cell a column: text, or text and a smaller one.
    """
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        f'<tr class="{escape(kind)}"><th>{escape(name)}</th>{"".join(map(_cell, cells))}</tr>'
        for kind, name, cells in rows
    )
    return f"<table><thead><tr><th>{escape(names)}</th>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(cell: str | tuple[str, str]) -> str:
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    return f"<td>{escape(cell[0])}{f'<small>{escape(cell[1])}</small>' if cell[1] else ''}</td>"


def histogram(counts: NDArray[np.int64], edges: NDArray[np.float64], *, what: str) -> str:
    """Inline SVG. The height is the logarithm of 1 + count, because one example beside a thousand must be seen."""
    top = math.log1p(int(counts.max()))
    wide = (WIDTH - LEFT) / len(counts)
    tall = HEIGHT - BOTTOM - TOP

    def y(count: float) -> float:
        return TOP + tall * (1 - math.log1p(count) / top)

    bars = [
        f'<rect x="{LEFT + k * wide + 0.5:.1f}" y="{y(n):.1f}" width="{max(wide - 1, 0.5):.1f}" '
        f'height="{TOP + tall - y(n):.1f}" fill="{BLUE}"><title>{n:,} examples, {low:.3g} to {high:.3g}</title></rect>'
        for k, (n, low, high) in enumerate(zip(counts.tolist(), edges[:-1], edges[1:], strict=True))
        if n
    ]
    ticks = [0, *(10**k for k in range(int(math.log10(counts.max())) + 1))]
    lines = [
        f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y(n):.1f}" y2="{y(n):.1f}" stroke="currentColor" opacity=".2"/>'
        f'<text x="{LEFT - 6}" y="{y(n) + 4:.1f}" text-anchor="end">{n:,}</text>'
        for n in ticks
    ]
    ends = (
        f'<text x="{LEFT}" y="{HEIGHT - 3}">{edges[0]:.3g}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT - 3}" text-anchor="end">{edges[-1]:.3g}</text>'
        f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 3}" text-anchor="middle">more memorized →</text>'
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{escape(what)}" '
        f'fill="currentColor" font-size="11" style="max-width:100%">{"".join(lines)}{"".join(bars)}{ends}</svg>'
    )
