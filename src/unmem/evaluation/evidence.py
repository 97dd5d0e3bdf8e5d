"""Evidence of an audit about one model, as numbers and as table rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unmem.evaluation.attacks import Attack
from unmem.evaluation.relearning import Relearning
from unmem.evaluation.single_model import SingleModelTest
from unmem.tables import Column, Row, Table, markup
from unmem.tables.table import Kind, Value

COLUMNS = (
    Column(
        *("under", "under-forgotten", "percent"),
        better="as the reference",
        explained="Share of the forget set that the model predicts better than models not trained on it do.",
    ),
    Column("under_limit", "under-forgotten: alarm above", "percent", shown=False),
    Column("under_p", "under-forgotten: p", "short", shown=False),
    Column(
        *("over", "over-forgotten", "percent"),
        better="as the reference",
        explained="Share that it predicts worse. Nominal for both: 2.5%.",
    ),
    Column("over_limit", "over-forgotten: alarm above", "percent", shown=False),
    Column("over_p", "over-forgotten: p", "short", shown=False),
    Column(
        *("auc_confidence", "AUC", "decimals"),
        better="as the reference",
        explained="AUC of an attack that separates forget examples from unseen ones by confidence. 0.5 = chance.",
    ),
    Column(
        *("auc_lira", "LiRA", "decimals"),
        better="as the reference",
        explained="The same, by log-odds relative to ensemble members that were not trained on the example.",
    ),
    Column(
        *("auc_rmia", "RMIA", "decimals"),
        better="as the reference",
        explained="The same, by confidence relative to ensemble members.",
    ),
    Column(
        *("distance", "distance", "decimals"),
        unit="nats",
        better="lower",
        explained="Mean symmetric KL divergence, in nats, between its predictions and those of retrained models.",
    ),
    Column(
        *("klom", "KLoM", "decimals"),
        better="as the reference",
        explained="KL divergence between the margins of several runs of the method and of retrained models. With few "
        "runs it is never 0: compare it with the value for as many retrained models.",
    ),
    Column("klom_control", "KLoM of retrained models", "decimals", shown=False),
    Column(
        *("relearned", "relearned", "change"),
        better="as the reference",
        explained="Increase of the mean confidence on the forget set after brief training on the retain set.",
    ),
)
# Columns of the single-model tests on the forget set and its memorization groups.
TESTS = (
    Column("n", "examples", "count"),
    Column("under", "under-forgotten", "percent"),
    Column("under_limit", "alarm above", "percent"),
    Column("under_detectable", "smallest detectable", "percent"),
    Column("nothing", "doing nothing shows", "percent"),
    Column("over", "over-forgotten", "percent"),
    Column("over_limit", "alarm above", "percent"),
    Column("over_detectable", "smallest detectable", "percent"),
)


@dataclass(frozen=True)
class Evidence:
    """Evidence about one model; None where an input is missing.

    Attributes:
        test: Single-model test on the whole forget set.
        parts: The same test per memorization group.
        attacks: Membership attacks by name.
        distance: Mean symmetric KL divergence on the forget set, in nats, from retrained models; 0 = the same.
        relearning: Change of the confidence after training on the retain set.
        klom: Mean KLoM over the forget set, of this and further runs of the method against retrained models.
        klom_control: The same for as many retrained models.
    """

    test: SingleModelTest | None
    parts: dict[str, SingleModelTest | None]
    attacks: dict[str, Attack]
    distance: float | None
    relearning: Relearning | None
    klom: float | None = None
    klom_control: float | None = None

    @property
    def values(self) -> dict[str, Value]:
        """Numbers by the keys of `COLUMNS` and of further attacks, such as `auc_lira_online`."""
        found: dict[str, Value] = {column.key: None for column in COLUMNS}
        if self.test is not None:
            for key, side in (("under", self.test.under), ("over", self.test.over)):
                found |= {key: side.share, f"{key}_limit": side.limit, f"{key}_p": side.p}
        found |= {_key(name): attack.auc for name, attack in self.attacks.items()}
        found |= {"distance": self.distance, "klom": self.klom, "klom_control": self.klom_control}
        return found | {"relearned": None if self.relearning is None else self.relearning.rise}

    def row(self, name: str, kind: Kind = "method") -> Row:
        """Return a row of `columns_of`."""
        intervals = {_key(name): (attack.low, attack.high) for name, attack in self.attacks.items()}
        return Row(name, self.values, kind, intervals=intervals)

    def tests(self) -> Table:
        """Return a row for the whole forget set and for each memorization group, with the detectable shares."""
        known = {"all of them": self.test, **self.parts}
        return Table(TESTS, [_test_row(name, test) for name, test in known.items() if test is not None])

    def tests_html(self, name: str) -> str:
        """Return `tests` as HTML under a heading with the name of the model; empty without tests."""
        found = self.tests()
        line = markup.paragraph(f"Under- and over-forgotten, {name}:")
        return line + found.to_html() if found.rows else ""

    def __repr__(self) -> str:
        row = self.row("")
        shown = Table(COLUMNS, [row]).filled()
        return f"Evidence({', '.join(f'{cell.title} {cell.text}' for cell in shown.cells(row))})"

    def _repr_html_(self) -> str:
        return markup.page(
            "Evidence on one model",
            Table(columns_of([self]), [self.row("this model")]).filled().to_html(),
            self.tests().to_html() if self.tests().rows else "",
            markup.paragraph(
                "Compare it with the original and with retrained models, which the audit contains.", small=True
            ),
        )


def columns_of(found: Sequence[Evidence]) -> list[Column]:
    """Return `COLUMNS` and a column for each further attack, which printed tables omit."""
    known = {column.key for column in COLUMNS}
    names = dict.fromkeys(name for one in found for name in one.attacks)
    more = [Column(_key(name), f"AUC, {name}", "decimals", shown=False) for name in names if _key(name) not in known]
    return [*COLUMNS, *more]


def mean_values(rows: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    """Return the mean of each number over the models for which it is known."""
    found: dict[str, Value] = {}
    for key in rows[0]:
        numbers = [value for row in rows if isinstance(value := row.get(key), float | int)]
        found[key] = float(np.mean(numbers)) if numbers else None
    return found


def _key(attack: str) -> str:
    return f"auc_{re.sub('[^a-z]+', '_', attack)}"


def _test_row(name: str, test: SingleModelTest) -> Row:
    sides = {"under": test.under, "over": test.over}
    values: dict[str, Value] = {"n": test.n, "nothing": test.nothing}
    for key, side in sides.items():
        values |= {key: side.share, f"{key}_limit": side.limit, f"{key}_detectable": side.detectable}
    return Row(name, values)
