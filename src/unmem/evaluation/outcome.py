"""Outcomes: measurements of unlearned models, of retrained models and of the two controls, on one problem."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from unmem.evaluation.reasons import (
    NO_COST,
    NO_ORIGINAL,
    NO_OWN_TOW,
    NO_REFERENCE,
    NO_SECONDS,
    ONE_REFERENCE,
    SMALLEST_CELL,
    TOO_FEW,
)
from unmem.evaluation.soundness import Shortfall
from unmem.tables import Column, Row, Table, markup
from unmem.tables.table import Kind, Value

if TYPE_CHECKING:
    from pandas import DataFrame

RETRAINED, RETRAIN_VS_RETRAIN, DO_NOTHING = "retrained", "one retrain vs another", "do nothing"  # names of rows

COLUMNS = (
    Column(
        *("forget", "forget set", "percent"),
        better="as the reference",
        explained="Accuracy on the examples to forget. Retrained models were not trained on them.",
        short="forget",
    ),
    Column(
        *("retain", "retain set", "percent"),
        better="as the reference",
        explained="Accuracy on the training examples that were kept.",
        short="retain",
    ),
    Column(
        *("test", "test set", "percent"),
        better="as the reference",
        explained="Accuracy on test examples; no model here was trained on them.",
        short="test",
    ),
    Column(
        *("mia", "called unseen (MIA)", "percent"),
        better="as the reference",
        explained="Share of the forget set that a membership inference attack classifies as unseen.",
    ),
    Column(
        *("tow", "ToW", "decimals"),
        better="higher",
        explained="Closeness to retraining by the three accuracies: the product of 1 − |difference|. "
        "1 = same as retraining.",
    ),
    Column(
        *("tow_mia", "ToW-MIA", "decimals"),
        better="higher",
        explained="The same, with the attack in place of the accuracy on the forget set.",
    ),
    Column("seconds", "seconds", "seconds", unit="s", better="lower", explained="Time to make the model."),
    Column(
        *("cost", "cost", "number"),
        unit="trainings",
        better="lower",
        explained="Time to make the model, in trainings of the original; 1 = as long as training it.",
    ),
    Column(
        *("cost_all_told", "total cost", "number"),
        unit="trainings",
        better="lower",
        explained="Cost including the targets, scores and tuning that the method needed, from this or earlier runs.",
        short="total\ncost",
    ),
)
_TIMES = ("seconds", "cost", "cost_all_told")


@dataclass(frozen=True)
class Part:
    """Measurements on the forget examples of one memorization group.

    Attributes:
        n: Number of examples.
        accuracy: Accuracy on them, or None.
        mia: Share of them that the membership attack classifies as unseen, or None.
        tow, tow_mia: ToW and ToW-MIA on this group alone.
    """

    n: int
    accuracy: float | None
    mia: float | None
    tow: float | None = None
    tow_mia: float | None = None

    @property
    def values(self) -> dict[str, Value]:
        """The measurements by the suffixes of their column keys."""
        return {"n": self.n, "forget": self.accuracy, "mia": self.mia, "tow": self.tow, "tow_mia": self.tow_mia}


@dataclass(frozen=True)
class Needed:
    """The cost of a method besides the run that made its model: targets, scores, tuning.

    Attributes:
        seconds: Time spent on them in this run.
        trainings: The same in trainings of the original, counted from passes over examples. Used if the time of a
            training is not known.
        before: Cost in earlier runs, in trainings of the original.
        unlearning: Cost of the run that made the model, in trainings, counted from passes as well.
    """

    seconds: float = 0.0
    trainings: float = 0.0
    before: float = 0.0
    unlearning: float | None = None


@dataclass(frozen=True)
class Outcome:
    """Measurements of one model on one problem. All shares are in [0, 1].

    Attributes:
        accuracy: Accuracy on the "forget", "retain" and "test" sets; NaN for an empty set.
        mia: Share of the forget set that the membership attack classifies as unseen; NaN without unseen examples.
        parts: The same per memorization group.
        tow: Closeness to the retrained models (ToW), 1 = the same; None without retrained models.
        tow_mia: ToW-MIA, likewise.
        reason: Why a number is missing, or None.
        seconds: Time to make the model.
        cost: The same in trainings of the original.
        cost_all_told: Cost including everything that the method needed, whether made in this run or before.
    """

    accuracy: dict[str, float]
    mia: float
    parts: dict[str, Part]
    tow: float | None = None
    tow_mia: float | None = None
    reason: str | None = None
    seconds: float | None = None
    cost: float | None = None
    cost_all_told: float | None = None

    def __repr__(self) -> str:
        known = [f"{name} {value:.1%}" for name, value in self.accuracy.items() if not math.isnan(value)]
        scores = (("ToW", self.tow), ("ToW-MIA", self.tow_mia))
        known += [f"{name} {value:.3f}" for name, value in scores if value is not None]
        return f"Outcome({', '.join(known)})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values as in `result.json`, with `reason` only if a number is missing."""
        values = asdict(self)
        values["accuracy"] = {key: _none_if_nan(value) for key, value in self.accuracy.items()}
        values["mia"] = _none_if_nan(self.mia)
        if self.reason is None:
            del values["reason"]
        return values

    @property
    def values(self) -> dict[str, Value]:
        """The numbers by the keys of `COLUMNS` and of memorization groups, such as `low_tow`, without NaN."""
        found: dict[str, Value] = {
            **self.accuracy,
            "mia": self.mia,
            "tow": self.tow,
            "tow_mia": self.tow_mia,
            "seconds": self.seconds,
            "cost": self.cost,
            "cost_all_told": self.cost_all_told,
        }
        for name, group in self.parts.items():
            found |= {f"{name}_{key}": value for key, value in group.values.items()}
        return {key: value for key, value in found.items() if not (isinstance(value, float) and math.isnan(value))}

    def row(self, name: str, kind: Kind = "method", *, why_no_tow: str = NO_REFERENCE) -> Row:
        """Return a row of `COLUMNS`. `why_no_tow` is the reason for a missing ToW if the outcome has none."""
        no_tow = self.reason or why_no_tow
        no_cost = NO_SECONDS if self.seconds is None else NO_COST
        reasons = {"tow": no_tow, "tow_mia": no_tow, "seconds": NO_SECONDS, "cost": no_cost, "cost_all_told": no_cost}
        return Row(name, self.values, kind, reasons)

    def _repr_html_(self) -> str:
        name = "this model"
        return markup.page(
            "One model",
            _readable(Table(COLUMNS, [self.row(name)])).to_html(),
            _group_html(_group_table([(name, "method", self)])),
            markup.paragraph(
                "Compare it with retraining and with doing nothing, which the evaluation contains.", small=True
            ),
        )


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


@dataclass(frozen=True)
class Evaluation:
    """Outcomes of several methods, with the reference and the controls to compare them with.

    Attributes:
        methods: Outcome by name of the method.
        do_nothing: The unchanged original; None if the problem has none.
        retrain_vs_retrain: Each retrained model against the mean of the others, averaged; None with fewer than two.
        reference: The mean of the retrained models, or None.
        n_reference: Number of retrained models.
        shortfalls: Retrained models that fall far short of the original, so that ToW does not measure unlearning.
    """

    methods: dict[str, Outcome]
    do_nothing: Outcome | None
    retrain_vs_retrain: Outcome | None
    reference: Outcome | None
    n_reference: int
    shortfalls: tuple[Shortfall, ...] = ()

    def __repr__(self) -> str:
        lines = [f"  {name}: {outcome!r}" for name, _, outcome in self.outcomes()]
        return "\n".join([f"Evaluation, against {self.n_reference} retrained models", *lines])

    @property
    def spread(self) -> float | None:
        """The distance between two retrained models in ToW. Smaller differences are not meaningful."""
        control = self.retrain_vs_retrain
        return None if control is None or control.tow is None else 1 - control.tow

    def best(self, among: Sequence[str]) -> str:
        """Return the method with the highest ToW among those named."""
        return max(among, key=lambda name: self.methods[name].tow or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return the sections `methods`, `controls` and `reference` of `result.json`."""
        missing = {"tow": None, "tow_mia": None, "reason": ONE_REFERENCE if self.n_reference else NO_REFERENCE}
        pair = self.retrain_vs_retrain
        return {
            "methods": {name: outcome.to_dict() for name, outcome in self.methods.items()},
            "controls": {
                "do_nothing": {"tow": None, "tow_mia": None, "reason": NO_ORIGINAL}
                if self.do_nothing is None
                else self.do_nothing.to_dict(),
                "retrain_vs_retrain": missing if pair is None else pair.to_dict(),
            },
            "reference": {"models": self.n_reference}
            | (
                {}
                if self.reference is None
                else {key: value for key, value in self.reference.to_dict().items() if key not in ("tow", "tow_mia")}
                | {"shortfalls": [one.to_dict() for one in self.shortfalls]}
            ),
        }

    def outcomes(self) -> list[tuple[str, Kind, Outcome]]:
        """Return name, kind and outcome of all models, in the order in which they are always shown."""
        known: list[tuple[str, Kind, Outcome | None]] = [
            (RETRAINED, "reference", self.reference),
            (RETRAIN_VS_RETRAIN, "control", self.retrain_vs_retrain),
            *((name, "method", outcome) for name, outcome in self.methods.items()),
            (DO_NOTHING, "control", self.do_nothing),
        ]
        return [(name, kind, outcome) for name, kind, outcome in known if outcome is not None]

    def table(self, labels: Mapping[str, str] | None = None, explained: Mapping[str, str] | None = None) -> Table:
        """Return a row per model: the retrained models, retraining against itself, the methods, doing nothing.

        Args:
            labels: Names of methods for readers.
            explained: One line about each method.
        """
        labels, explained = labels or {}, explained or {}
        rows = [self._retrained_row(), self._spread_row()]
        for name, outcome in self.methods.items():
            rows.append(replace(outcome.row(name), label=labels.get(name, ""), explained=explained.get(name, "")))
        if self.do_nothing is not None:
            line = "control: the original model, unchanged"
            rows.append(replace(self.do_nothing.row(DO_NOTHING, "control"), explained=line))
        return Table([*COLUMNS, *self._group_columns()], rows, names="model")

    def by_part(self) -> Table:
        """Return the accuracy on each memorization group of the forget set, a row per model."""
        return _group_table([one for one in self.outcomes() if one[2] is not self.retrain_vs_retrain])

    def to_pandas(self) -> DataFrame:
        """Return a data frame with a row per model; the column `kind` distinguishes methods, controls and reference.

        Numbers are as in `Outcome`. Those per memorization group are in columns such as `low_tow`. Requires pandas.
        """
        found = self.table()
        return found.filled(keep=[column.key for column in found.columns]).to_pandas()

    def _repr_html_(self) -> str:
        pieces = [markup.paragraph(f"Warning: {one.text}.") for one in self.shortfalls]
        pieces.append(_readable(self.table()).to_html())
        if self.spread is not None:
            text = f"Two retrained models differ by {self.spread:.3f} in ToW: smaller differences are not meaningful."
            pieces.append(markup.paragraph(text))
        n = len(self.methods)
        title = f"{n:,} unlearned model{'s' * (n != 1)}, {self.n_reference} retrained"
        return markup.page(title, *pieces, _group_html(self.by_part()))

    def _retrained_row(self) -> Row:
        if self.reference is None:
            reasons = {column.key: NO_REFERENCE for column in COLUMNS}
            return Row(RETRAINED, dict.fromkeys(reasons), "reference", reasons, explained="reference: none was made")
        n = self.n_reference
        line = "reference: one model" if n == 1 else f"reference: mean of {n} models"
        if self.shortfalls:
            line += "; far short of the original"
        goal = "falls short" if self.shortfalls else "the goal"
        row = self.reference.row(RETRAINED, "reference", why_no_tow=NO_OWN_TOW)
        return replace(row, label=f"{RETRAINED} ({goal})", explained=line)

    def _spread_row(self) -> Row:
        """Return a row with ToW only, because the accuracies are those of the reference."""
        pair = self.retrain_vs_retrain
        why_none = ONE_REFERENCE if self.n_reference else NO_REFERENCE
        values = {} if pair is None else pair.values
        kept = {key: values.get(key) for key in ("tow", "tow_mia")}
        of_groups = {key: value for key, value in values.items() if key.endswith(("_tow", "_tow_mia"))}
        reasons = dict.fromkeys(kept, (pair and pair.reason) or why_none)
        explained = "control: score of a retrained model"
        return Row(RETRAIN_VS_RETRAIN, kept | of_groups, "control", reasons, explained=explained)

    def _group_columns(self) -> list[Column]:
        """Columns of the data frame for each memorization group."""
        return [
            Column(f"{name}_{key}", f"{name}: {key}", "count" if key == "n" else "percent", shown=False)
            for name, group in _groups(self.outcomes()).items()
            for key in group.values
        ]


def _readable(table: Table) -> Table:
    """Omit seconds and cost where all values are unknown."""
    known = {column.key for column in table.filled().columns}
    return table.only([c.key for c in table.columns if c.key not in _TIMES or c.key in known])


def _groups(outcomes: Sequence[tuple[str, Kind, Outcome]]) -> dict[str, Part]:
    """Return the memorization groups of the first model; they are the same for all models."""
    return outcomes[0][2].parts if outcomes else {}


def _group_table(outcomes: Sequence[tuple[str, Kind, Outcome]]) -> Table:
    groups = _groups(outcomes)
    columns = [
        Column(name, f"{name} ({group.n:,})", "percent", better="as the reference") for name, group in groups.items()
    ]
    rows = [
        Row(name, {key: one.parts[key].accuracy if key in one.parts else None for key in groups}, kind)
        for name, kind, one in outcomes
    ]
    return Table(columns, rows, names="model")


def _group_html(found: Table) -> str:
    if not found.columns:
        return ""
    return markup.paragraph("Accuracy on the forget set by memorization group:") + found.to_html()


def aggregates_only(evaluation: Evaluation, n_forget: int) -> Evaluation:
    """Return the evaluation without numbers that could reveal single examples.

    For a small forget set, these are all numbers measured on it. Published files contain this form.
    """
    if n_forget >= SMALLEST_CELL:
        return evaluation

    def kept(outcome: Outcome) -> Outcome:
        accuracy = outcome.accuracy | {"forget": math.nan}
        return replace(outcome, accuracy=accuracy, mia=math.nan, parts={}, tow=None, tow_mia=None, reason=TOO_FEW)

    return replace(
        evaluation,
        methods={name: kept(outcome) for name, outcome in evaluation.methods.items()},
        do_nothing=evaluation.do_nothing and kept(evaluation.do_nothing),
        retrain_vs_retrain=evaluation.retrain_vs_retrain and kept(evaluation.retrain_vs_retrain),
        reference=evaluation.reference and kept(evaluation.reference),
    )
