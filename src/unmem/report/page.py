"""`Report`: outcomes and scores as one HTML file without external resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from unmem.data import Examples, Ids
from unmem.evaluation import Audit, Evaluation
from unmem.evaluation.outcome import DO_NOTHING, RETRAINED
from unmem.memorization import Scores
from unmem.report import charts, reading
from unmem.report.gallery import gallery
from unmem.report.libraries import PageError, chart_libraries
from unmem.store import write_text
from unmem.tables import Column, Row, Table

_CONTROLS = ("before", RETRAINED, DO_NOTHING)  # rows of the measures of a scenario


def _no_ids() -> Ids:
    return np.array([], dtype=np.str_)


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """The results of one run. Shows aggregates only, and inputs only of the examples passed as `gallery`."""

    title: str
    """Such as "Forgetting 90 of 1,258 examples"."""
    lead: Sequence[str] = ()
    """Plain sentences under the title: what was done, planted labels, seed, flags."""
    warnings: Sequence[str] = ()
    """Sentences on what makes the results below doubtful. Those of the evaluation are added."""
    evaluation: Evaluation | None = None
    """Methods beside the controls they are read against."""
    audit: Audit | None = None
    """All the evidence on one model, above the evaluation that it rests on."""
    measures: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    """Further shares by model and by what was measured, such as how often an attack succeeds."""
    scores: Sequence[Scores] = ()
    """Memorization scores, a histogram each."""
    flipped: Ids = field(default_factory=_no_ids)
    """Ids of planted wrong labels: counted apart in the histograms."""
    against: str | None = None
    """Name of the score that the others are drawn against."""
    gallery: Examples | None = None
    """Examples whose pictures may be shown, the most and least memorized by the first score. Never forgotten ones."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """Method name to a plain line that explains it."""
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Settings and versions, shown small at the end."""

    def html(self) -> str:
        """The page.

        Raises:
            PageError: The chart renderer failed, or memory is too small.
        """
        try:
            return self._html()
        except MemoryError as error:
            raise PageError.because("out of memory") from error

    def _html(self) -> str:
        from markupsafe import Markup

        shown = _Shown()
        return _template().render(
            title=self.title,
            lead=self.lead,
            warnings=[*self.warnings, *_shortfalls(self.evaluation)],
            facts=self.facts,
            audit=None if self.audit is None else _audit(self.audit, shown),
            measures=_measures(self.measures),
            evaluation=None if self.evaluation is None else _evaluation(self.evaluation, self.labels, shown),
            scores=_scores(self.scores, self.flipped, shown),
            pairs=_pairs(self.scores, self.against, self.flipped, shown),
            gallery=gallery(self.scores[0], self.gallery, self.flipped) if self.gallery and self.scores else {},
            gallery_score=self.scores[0].name if self.scores else "",
            specs=shown.specs,
            config=charts.CONFIG,
            colours=charts.COLOURS,
            font=charts.FONT,
            libraries=Markup(chart_libraries()) if shown.specs else "",
        )

    def save(self, path: str | Path) -> None:
        """Write the page atomically."""
        write_text(Path(path), self.html())


class _Shown:
    """The charts on the page, each under the id of the element it is drawn in."""

    def __init__(self) -> None:
        self.specs: dict[str, charts.Spec] = {}

    def add(self, panel: charts.Panel) -> dict[str, str]:
        element = f"chart-{len(self.specs) + 1}"
        self.specs[element] = panel.spec
        return {"title": panel.title, "note": panel.note, "element": element}


def _shortfalls(evaluation: Evaluation | None) -> list[str]:
    texts = [] if evaluation is None else [one.text for one in evaluation.shortfalls]
    return [f"{text[0].upper()}{text[1:]}." for text in texts]


def _evaluation(evaluation: Evaluation, labels: Mapping[str, str], shown: _Shown) -> dict[str, Any]:
    parts, small = charts.by_part(evaluation)
    return {
        "headline": reading.headline(evaluation),
        "limits": reading.limits(evaluation),
        "table": evaluation.table(explained=labels),
        "banded": evaluation.retrain_vs_retrain is not None,
        "compared": evaluation.reference is not None,
        "closeness": [shown.add(panel) for panel in charts.closeness(evaluation)],
        "parts": [shown.add(panel) for panel in parts],
        "small": small,
    }


def _measures(measures: Mapping[str, Mapping[str, float]]) -> Table | None:
    if not measures:
        return None
    columns = [Column(name, name, "percent") for name in next(iter(measures.values()))]
    rows = [Row(name, row, "control" if name in _CONTROLS else "method") for name, row in measures.items()]
    return Table(columns, rows, names="model")


def _audit(audit: Audit, shown: _Shown) -> dict[str, Any]:
    return {
        "verdicts": audit.verdicts,
        "forecast": audit.forecast,
        "table": audit.table().filled(),
        "alarms": [shown.add(panel) for panel in charts.alarms(audit)],
        "tests": [found for one in audit.evidence.values() if (found := one.tests()).rows],
        "missing": audit.missing,
    }


def _scores(scores: Sequence[Scores], flipped: Ids, shown: _Shown) -> dict[str, Any] | None:
    if not scores:
        return None
    drawn = [(score.name, charts.histogram(score, flipped)) for score in scores]
    return {
        "panels": [shown.add(panel) for _, panel in drawn if panel is not None],
        "empty": [name for name, panel in drawn if panel is None],
        "legend": charts.legend(flipped, scores),
    }


def _pairs(scores: Sequence[Scores], against: str | None, flipped: Ids, shown: _Shown) -> list[dict[str, str]]:
    """Every other score against the one named, or against the first; nothing to draw for fewer than two."""
    if len(scores) < 2:
        return []
    base = next((s for s in scores if s.name == against), scores[0])
    panels = [charts.scatter(base, other, flipped) for other in scores if other is not base]
    return [shown.add(panel) for panel in panels if panel is not None]


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # `tojson` escapes <, > and &, so no text can close the script; NaN would not be JSON and must fail here.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    return environment.from_string(files("unmem.report").joinpath("page.html.jinja").read_text(encoding="utf-8"))
