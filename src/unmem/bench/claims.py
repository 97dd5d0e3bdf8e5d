"""Claims that a benchmark tests, each with its figure, interval and verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from unmem.bench.statistics import Estimate, equivalent
from unmem.tables import Column, Row, Table

Verdict = Literal["holds", "does not hold", "not seen at this size"]


@dataclass(frozen=True)
class Claim:
    """One claim and what the runs show about it.

    Attributes:
        key: Short name of the claim, unique in a result.
        text: The claim, as a sentence.
        where: Setup, forget set and protocol that it was tested on.
        measure: What the figure is, such as "ToW of RUM minus ToW of vanilla".
        figure: The figure with its interval, or None if it could not be measured.
        verdict: Whether the claim holds. "not seen at this size" means that the interval includes both answers.
    """

    key: str
    text: str
    where: str
    measure: str
    figure: Estimate | None
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        figure = None if self.figure is None else self.figure.to_dict()
        return {
            "key": self.key,
            "claim": self.text,
            "where": self.where,
            "measure": self.measure,
            "figure": figure,
            "verdict": self.verdict,
        }


def above(figure: Estimate | None, bound: float) -> Verdict:
    """Judge "the figure is above the bound" by the 95% interval of the figure."""
    if figure is None or figure.n < 2:
        return "not seen at this size"
    if figure.low > bound:
        return "holds"
    return "does not hold" if figure.high < bound else "not seen at this size"


def below(figure: Estimate | None, bound: float) -> Verdict:
    """Judge "the figure is below the bound" by the 95% interval of the figure."""
    if figure is None or figure.n < 2:
        return "not seen at this size"
    if figure.high < bound:
        return "holds"
    return "does not hold" if figure.low > bound else "not seen at this size"


def within(figure: Estimate | None, margin: float) -> Verdict:
    """Judge "the figure is within ±margin" by two one-sided tests at 5% each."""
    if figure is None or figure.n < 2:
        return "not seen at this size"
    if equivalent(figure, margin):
        return "holds"
    outside = figure.low > margin or figure.high < -margin
    return "does not hold" if outside else "not seen at this size"


def table(claims: Sequence[Claim]) -> Table:
    """Return a row per claim."""
    columns = [
        Column("claim", "claim"),
        Column("where", "where"),
        Column("measure", "measure"),
        Column("figure", "figure", "decimals"),
        Column("n", "n", "count"),
        Column("verdict", "verdict"),
    ]
    return Table(columns, [_row(claim) for claim in claims], names="key")


def _row(claim: Claim) -> Row:
    values = {"claim": claim.text, "where": claim.where, "measure": claim.measure, "verdict": claim.verdict}
    figure = claim.figure
    if figure is None:
        return Row(claim.key, {**values, "figure": None, "n": None}, reasons={"figure": "not measured"})
    intervals = {"figure": (figure.low, figure.high)} if figure.n > 1 else {}
    return Row(claim.key, {**values, "figure": figure.mean, "n": figure.n}, intervals=intervals)
