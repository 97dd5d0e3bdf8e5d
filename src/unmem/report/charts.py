"""The charts of the page, as Vega-Lite specifications made with Altair; binning is all that is computed here.

No id ever enters a specification: a chart holds method names, shares and counts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unmem.data import Ids
from unmem.evaluation import Audit, Evaluation, Outcome, Part
from unmem.evaluation.outcome import DO_NOTHING, RETRAINED
from unmem.evaluation.reasons import SMALLEST_CELL
from unmem.memorization import Scores

if TYPE_CHECKING:
    import altair as alt

Spec = dict[str, Any]

# Blue, vermillion and greys after Okabe and Ito: told apart with every common colour blindness, and in grey print.
COLOURS = {
    "ink": "#1d2433",
    "muted": "#5b6475",
    "faint": "#e4e7ec",
    "method": "#0b5c99",
    "planted": "#d55e00",
    "other": "#b3bac6",
    "band": "#a9d6bf",
}
FONT = "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif"
# Given to every chart by the page, so that it is in the file once.
CONFIG: Spec = {
    "background": None,
    "font": FONT,
    "padding": {"left": 0, "right": 2, "top": 8, "bottom": 4},
    "view": {"stroke": None},
    "axis": {
        "domain": False,
        "ticks": False,
        "gridColor": COLOURS["faint"],
        "labelColor": COLOURS["ink"],
        "labelFontSize": 12,
        "labelPadding": 8,
        "titleColor": COLOURS["muted"],
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    },
    "axisX": {"labelColor": COLOURS["muted"], "labelPadding": 6},
}
CELLS = 30  # a side, of a chart of one score against another
OTHER, PLANTED = "other", "planted wrong label"


@dataclass(frozen=True)
class Panel:
    """A chart and what stands above it; `note` is plain text, small."""

    title: str
    note: str
    spec: Spec


def closeness(evaluation: Evaluation) -> list[Panel]:
    """ToW and ToW-MIA: a row per method and one for doing nothing, the null band shaded. Empty without a reference."""
    control, rows = evaluation.retrain_vs_retrain, _rows(evaluation)
    drawn = {
        "ToW": ({name: o.tow for name, o in rows.items()}, control.tow if control else None),
        "ToW-MIA": ({name: o.tow_mia for name, o in rows.items()}, control.tow_mia if control else None),
    }
    known = [v for values, edge in drawn.values() for v in (*values.values(), edge) if v is not None]
    ticks = _tenths(min(known, default=0.0))
    return [
        Panel(name, _band_note(edge), _dots(values, 1.0, ticks, "{:.3f}", f"{name} by method", band=_to_one(edge)))
        for name, (values, edge) in drawn.items()
        if any(value is not None for value in values.values())
    ]


def by_part(evaluation: Evaluation) -> tuple[list[Panel], list[str]]:
    """Accuracy on the forget examples of each memorization part, and a sentence for each part that is too small."""
    panels, small = list[Panel](), list[str]()
    rows = _rows(evaluation)
    for name, part in next(iter(rows.values())).parts.items() if rows else ():
        if part.n < SMALLEST_CELL:
            small.append(f"Part “{name}” has {part.n} examples, too few to show (fewer than {SMALLEST_CELL}).")
            continue
        cells = {row: outcome.parts.get(name) for row, outcome in rows.items()}
        target = evaluation.reference.parts[name].accuracy if evaluation.reference else None
        panels.append(_part_panel(name, part.n, target, cells))
    return panels, small


def alarms(audit: Audit) -> list[Panel]:
    """Shares of the forget set known too well and too badly: a row per model, what honest models show shaded."""
    tests = {name: one.test for name, one in audit.evidence.items()}
    tests[DO_NOTHING] = None if audit.do_nothing is None else audit.do_nothing.test
    tests |= {f"{RETRAINED} {k + 1}": one.test for k, one in enumerate(audit.retrained)}
    known = {name: test for name, test in tests.items() if test is not None}
    if not known:
        return []
    sides = {
        "known too well": {name: test.under for name, test in known.items()},
        "known too badly": {name: test.over for name, test in known.items()},
    }
    top = max(side.share for found in sides.values() for side in found.values())
    ticks = [k / 10 for k in range(math.ceil(10 * max(top, 0.1)) + 1)]
    return [
        Panel(
            title,
            f"honest models: up to {next(iter(found.values())).limit:.1%}",
            _dots(
                {name: side.share for name, side in found.items()},
                None,
                ticks if len(ticks) < 7 else ticks[::2],
                "{:.1%}",
                f"Share of the forget set {title}, by model",
                band=(0.0, next(iter(found.values())).limit),
            ),
        )
        for title, found in sides.items()
    ]


def histogram(scores: Scores, flipped: Ids) -> Panel | None:
    """Counts of training examples by score, those with planted wrong labels in front. None if nothing has a value."""
    finite = np.isfinite(scores.values)
    values, planted = scores.values[finite], np.isin(scores.ids[finite], flipped)
    if not len(values):
        return None
    edges = scores.bin_edges()
    # Planted bars are narrow and in front, from the same zero: stacks could not be read on a logarithmic axis.
    bars = _bars(values[~planted], edges, 0.0, OTHER) + _bars(values[planted], edges, 0.25, PLANTED)
    notes = list[str]()
    if planted.any():
        auroc = scores.auroc(flipped)
        notes.append("AUROC –" if math.isnan(auroc) else f"AUROC {auroc:.3f}")
    if len(values) < len(scores):
        notes.append(f"{len(scores) - len(values):,} without a value")
    return Panel(scores.name, " · ".join(notes), _rectangles(bars, scores.name))


def scatter(first: Scores, second: Scores, flipped: Ids) -> Panel | None:
    """One score against another: counts of examples by cell, and of those with planted wrong labels.

    Cells and not dots, since a dot would be about a single example. None if no example has both values.
    """
    import altair as alt

    values = second.of(first.ids)
    known = np.isfinite(first.values) & np.isfinite(values)
    if not known.any():
        return None
    planted = np.isin(first.ids, flipped)[known]
    x, y = first.values[known], values[known]
    edges = [np.linspace(one.min(), one.max() + (one.max() == one.min()), CELLS + 1) for one in (x, y)]
    cells = _cells_of(x[~planted], y[~planted], edges, OTHER) + _cells_of(x[planted], y[planted], edges, PLANTED)
    shapes = {"x": (first.name, edges[0]), "y": (second.name, edges[1])}
    axes: dict[str, Any] = {
        axis: {
            "scale": alt.Scale(domain=[float(one[0]), float(one[-1])], nice=False, zero=False),
            "axis": alt.Axis(title=f"{name} →", titleAnchor="end", tickCount=5),
        }
        for axis, (name, one) in shapes.items()
    }
    data = alt.Data(values=cells)
    base: Any = alt.Chart(data, description=f"{second.name} against {first.name}, counts by cell").encode(
        x=alt.X("x:Q", **axes["x"]), y=alt.Y("y:Q", **axes["y"])
    )
    most = max((cell["n"] for cell in cells if cell["kind"] == OTHER), default=1)
    shade = alt.Scale(type="log", domain=[1, max(2, most)], range=["#dbe7f1", COLOURS["method"]])
    size = alt.Scale(type="sqrt", domain=[0, max(2, most)], range=[18, 110])
    others = (
        base.transform_filter(alt.datum.kind == OTHER)
        .mark_rect()
        .encode(x2="x2:Q", y2="y2:Q", color=alt.Color("n:Q", scale=shade, legend=None))
    )
    marked = (
        base.transform_filter(alt.datum.kind == PLANTED)
        .mark_circle(color=COLOURS["planted"], opacity=0.8)
        .encode(x="mx:Q", y="my:Q", size=alt.Size("n:Q", scale=size, legend=None))
    )
    note = f"{int(known.sum()):,} examples; the darker a cell, the more (up to {most:,})"
    return Panel(f"{second.name} against {first.name}", note, _plain((others + marked).properties(height=220)))


def _cells_of(x: NDArray[Any], y: NDArray[Any], edges: Sequence[NDArray[Any]], kind: str) -> list[dict[str, Any]]:
    """The cells of a grid that hold something, with their borders, middles and counts."""
    counts = np.histogram2d(x, y, bins=list(edges))[0] if len(x) else np.zeros((CELLS, CELLS))
    found: list[dict[str, Any]] = []
    for i, j in np.argwhere(counts > 0).tolist():
        (left, right), (low, high) = ([float(f"{v:.4g}") for v in edges[k][c : c + 2]] for k, c in ((0, i), (1, j)))
        middle = {"mx": (left + right) / 2, "my": (low + high) / 2}
        found.append({"x": left, "x2": right, "y": low, "y2": high, **middle, "n": int(counts[i, j]), "kind": kind})
    return found


def legend(flipped: Ids, scores: Sequence[Scores]) -> list[tuple[str, str]]:
    """Colour and text of the histograms' legend; empty when no planted label is among the scored examples."""
    planted = max((int(np.isin(score.ids, flipped).sum()) for score in scores), default=0)
    return [("planted", f"{PLANTED} ({planted:,})"), ("other", "other training examples")] if planted else []


def _rows(evaluation: Evaluation) -> dict[str, Outcome]:
    nothing = {} if evaluation.do_nothing is None else {DO_NOTHING: evaluation.do_nothing}
    return {**evaluation.methods, **nothing}


def _band_note(edge: float | None) -> str:
    return "no null band: it needs two retrained models" if edge is None else f"null band {edge:.3f} to 1"


def _to_one(edge: float | None) -> tuple[float, float] | None:
    return None if edge is None else (edge, 1.0)


def _tenths(low: float) -> list[float]:
    """Tenths from just below `low` to 1; from far below, every second one and from 0."""
    first = math.floor(10 * low)
    return [k / 10 for k in (range(first, 11) if first > 4 else range(0, 11, 2))]


def _part_panel(name: str, n: int, target: float | None, cells: Mapping[str, Part | None]) -> Panel:
    values = {row: None if cell is None else cell.accuracy for row, cell in cells.items()}
    retrained = "" if target is None else f" · retrained {target:.1%}"
    what = f"Accuracy on the forget examples of part {name}, by method"
    return Panel(name, f"{n} examples{retrained}", _dots(values, target, [0, 0.5, 1], "{:.1%}", what))


def _dots(
    values: Mapping[str, float | None],
    target: float | None,
    ticks: Sequence[float],
    label: str,
    what: str,
    *,
    band: tuple[float, float] | None = None,
) -> Spec:
    """A row per name, a dot at its value, a thin line from the dot to the target: its length is what one reads.

    ticks: of the axis, which spans them. label: how the value is written at the right. band: shaded.
    The row of doing nothing has another shape, so that it is told apart without colour.
    """
    import altair as alt

    scale = alt.Scale(domain=[ticks[0], ticks[-1]], nice=False, zero=False)
    axis = alt.Axis(values=list(ticks), format=".0%" if "%" in label else ".1f")

    def x(column: str) -> alt.X:
        return alt.X(f"{column}:Q", title=None, scale=scale, axis=axis)

    layers: list[Any] = []
    if band is not None:
        span = alt.Chart(alt.Data(values=[{"low": band[0], "high": band[1]}]))
        layers.append(span.mark_rect(color=COLOURS["band"]).encode(x=x("low"), x2="high"))
    if target is not None:
        line = alt.Chart(alt.Data(values=[{"target": target}]))
        layers.append(line.mark_rule(color=COLOURS["ink"], strokeWidth=1.5).encode(x=x("target")))
    layers += _row_marks(alt, values, target, label, x("value"))
    chart: Any = alt.layer(*layers, description=what).resolve_axis(y="independent")
    return _plain(chart.properties(height=28 * len(values)))


def _row_marks(alt: Any, values: Mapping[str, float | None], target: float | None, label: str, x: Any) -> list[Any]:
    """Distance lines, dots with the names at the left, and the written values at the right."""

    def y(**axis: Any) -> Any:
        drawn = alt.Axis(title=None, grid=False, **axis) if axis else None
        return alt.Y("row:N", scale=alt.Scale(domain=list(values), padding=0.5), sort=None, axis=drawn)

    control = alt.datum["row"] == DO_NOTHING
    known = [{"row": name, "value": v, "target": target} for name, v in values.items() if v is not None]
    base = alt.Chart(alt.Data(values=known))
    distances = base.mark_rule(color=COLOURS["muted"], opacity=0.55).encode(x=x, x2="target", y=y())
    dots = base.mark_point(filled=True, size=100, opacity=1).encode(
        x=x,
        y=y(labelLimit=150, labelPadding=12, orient="left"),
        shape=alt.when(control).then(alt.value("diamond")).otherwise(alt.value("circle")),
        color=alt.when(control).then(alt.value(COLOURS["muted"])).otherwise(alt.value(COLOURS["method"])),
    )
    # The labels of a second axis, because the layout leaves room for those and not for text beside marks.
    written = json.dumps({name: "–" if v is None else label.format(v) for name, v in values.items()})
    right = y(orient="right", labelExpr=f"({written})[datum.value]", labelPadding=12)
    numbers = base.mark_point(opacity=0).encode(x=x, y=right)
    return [distances, dots, numbers] if target is not None else [dots, numbers]


def _bars(values: NDArray[np.float64], edges: NDArray[np.float64], inset: float, kind: str) -> list[dict[str, Any]]:
    """The bins that hold something; `inset` is the share of a bin's width left free on either side."""
    counts, _ = np.histogram(values, bins=edges)
    margin = inset * float(edges[1] - edges[0])
    bins = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    return [
        {
            "from": low + margin,
            "to": high - margin,
            "range": f"{low:.3g} to {high:.3g}",
            "n": n,
            "zero": 0,
            "kind": kind,
        }
        for low, high, n in bins
        if n
    ]


def _rectangles(bars: Sequence[Mapping[str, Any]], name: str) -> Spec:
    import altair as alt

    top = max(bar["n"] for bar in bars)
    # Symlog, because one planted label beside a thousand ordinary examples must be seen, and log cannot show 0.
    scale = alt.Scale(type="symlog", constant=1, domain=[0, top * 1.15], nice=False)
    ticks = [0, *(10**k for k in range(int(math.log10(top)) + 1))]
    colour = alt.Scale(domain=[OTHER, PLANTED], range=[COLOURS["other"], COLOURS["planted"]])
    more = alt.Axis(title="more memorized →", titleAnchor="end", tickCount=5, grid=False)
    chart = alt.Chart(alt.Data(values=bars), description=f"Histogram of the score {name}").mark_rect(stroke="white")
    encoded: Any = chart.encode(
        x=alt.X("from:Q", scale=alt.Scale(nice=False, zero=False), axis=more),
        x2="to",
        y=alt.Y("n:Q", scale=scale, axis=alt.Axis(values=ticks, title="examples (log scale)", format=",d")),
        y2="zero",
        color=alt.Color("kind:N", scale=colour, legend=None),
        strokeWidth=alt.value(0.5),
        tooltip=[
            alt.Tooltip("n:Q", title="examples", format=",d"),
            alt.Tooltip("kind:N", title="which"),
            alt.Tooltip("range:N", title=name),
        ],
    )
    return _plain(encoded.properties(height=170))


def _plain(chart: Any) -> Spec:
    """As wide as its place, without what the page gives once for all charts and without the address of the schema."""
    spec: Spec = chart.properties(width="container").to_dict()
    return {key: value for key, value in spec.items() if key not in ("$schema", "config")}
