"""What an audit saw of one model, as numbers and as rows of tables."""

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
        explained="Share of the forget set that the model knows better than models that never saw it can explain.",
    ),
    Column("under_limit", "under-forgotten: alarm above", "percent", shown=False),
    Column("under_p", "under-forgotten: p", "short", shown=False),
    Column(
        *("over", "over-forgotten", "percent"),
        better="as the reference",
        explained="Share that it knows worse. Nominal for both: 2.5%.",
    ),
    Column("over_limit", "over-forgotten: alarm above", "percent", shown=False),
    Column("over_p", "over-forgotten: p", "short", shown=False),
    Column(
        *("auc_confidence", "AUC", "decimals"),
        better="as the reference",
        explained="How well an attack tells forget examples from unseen ones by confidence. 0.5 = as if unseen.",
    ),
    Column(
        *("auc_lira", "LiRA", "decimals"),
        better="as the reference",
        explained="The same, each example judged by members that never saw it.",
    ),
    Column(
        *("auc_rmia", "RMIA", "decimals"),
        better="as the reference",
        explained="The same, against a population of unseen examples.",
    ),
    Column(
        *("distance", "distance", "decimals"),
        unit="nats",
        better="lower",
        explained="Mean symmetric KL divergence, in nats, from the predictions of retrained models.",
    ),
    Column(
        *("klom", "KLoM", "decimals"),
        better="as the reference",
        explained="Distance between margins of several runs of the method and of retrained models, beside that of as "
        "many retrained models: from few runs it is never 0.",
    ),
    Column("klom_control", "KLoM of retrained models", "decimals", shown=False),
    Column(
        *("relearned", "relearned", "change"),
        better="as the reference",
        explained="Rise of the mean confidence on the forget set after a little training on the retain set.",
    ),
)
# Of the tests of the forget set and its memorization groups.
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
    """What was seen of one model; None for what could not be had.

    test: the single-model test on the forget set; parts: on each memorization part. attacks: by signal, see `Attack`.
    distance: mean symmetric KL, in nats, to the predictions of retrained models on the forget set; 0 = the same.
    relearning: see there. klom: mean over the forget set, of this and further runs of the method against retrained
    models; klom_control: the same of as many retrained models.
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
        """By the keys of `COLUMNS`, and those of further attacks, such as `auc_lira_online`."""
        found: dict[str, Value] = {column.key: None for column in COLUMNS}
        if self.test is not None:
            for key, side in (("under", self.test.under), ("over", self.test.over)):
                found |= {key: side.share, f"{key}_limit": side.limit, f"{key}_p": side.p}
        found |= {_key(name): attack.auc for name, attack in self.attacks.items()}
        found |= {"distance": self.distance, "klom": self.klom, "klom_control": self.klom_control}
        return found | {"relearned": None if self.relearning is None else self.relearning.rise}

    def row(self, name: str, kind: Kind = "method") -> Row:
        """A row of `columns_of`."""
        intervals = {_key(name): (attack.low, attack.high) for name, attack in self.attacks.items()}
        return Row(name, self.values, kind, intervals=intervals)

    def tests(self) -> Table:
        """A row for all of the forget set and for each memorization group, with what its test could have seen."""
        known = {"all of them": self.test, **self.parts}
        return Table(TESTS, [_test_row(name, test) for name, test in known.items() if test is not None])

    def tests_html(self, name: str) -> str:
        """The same for a notebook, under a line; empty without tests. name: of the model."""
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
                "Read it beside the original and retrained models: they are in the audit it is from.", small=True
            ),
        )


def columns_of(found: Sequence[Evidence]) -> list[Column]:
    """`COLUMNS`, and one for each further attack, which tables for readers leave out."""
    known = {column.key for column in COLUMNS}
    names = dict.fromkeys(name for one in found for name in one.attacks)
    more = [Column(_key(name), f"AUC, {name}", "decimals", shown=False) for name in names if _key(name) not in known]
    return [*COLUMNS, *more]


def mean_values(rows: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    """The mean of each number over the models for which it is known."""
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
