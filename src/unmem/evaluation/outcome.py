"""What models show on one problem: numbers of unlearned models beside retrained ones and the two controls."""

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
        explained="Accuracy on the examples to forget. Retrained models never saw them.",
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
        explained="Cost with the targets, scores and tuning that the method needed, whenever they were made.",
        short="total\ncost",
    ),
)
_TIMES = ("seconds", "cost", "cost_all_told")


@dataclass(frozen=True)
class Part:
    """The forget examples of one memorization part: accuracy and share called unseen, and ToW on this part alone."""

    n: int
    accuracy: float | None
    mia: float | None
    tow: float | None = None
    tow_mia: float | None = None

    @property
    def values(self) -> dict[str, Value]:
        """By the end of the key of its column."""
        return {"n": self.n, "forget": self.accuracy, "mia": self.mia, "tow": self.tow, "tow_mia": self.tow_mia}


@dataclass(frozen=True)
class Needed:
    """What a method needed besides the run that made its model: targets, scores, tuning.

    Attributes:
        seconds: What it took in this run.
        trainings: The same in trainings of the original, counted from passes over examples. Used where the time of a
            training is not known.
        before: What was made for it in earlier runs, in trainings of the original.
        unlearning: The run that made the model, in trainings, counted likewise.
    """

    seconds: float = 0.0
    trainings: float = 0.0
    before: float = 0.0
    unlearning: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What one model shows on one problem. All shares are in [0, 1].

    accuracy: on the forget, retain and test sets. mia: share of the forget set that the attack calls unseen. Both are
        NaN where there are no unseen examples.
    tow, tow_mia: closeness to the retrained reference, 1 = the same; None without a reference (`reason` says so).
    parts: the same by memorization part. seconds, cost: of making the model; cost in trainings of the original.
    cost_all_told: cost with everything that the method needed and that was made for it, in this run or before.
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
        """Plain values, as in `result.json`; `reason` only where a number is missing."""
        values = asdict(self)
        values["accuracy"] = {key: _known(value) for key, value in self.accuracy.items()}
        values["mia"] = _known(self.mia)
        if self.reason is None:
            del values["reason"]
        return values

    @property
    def values(self) -> dict[str, Value]:
        """By the keys of `COLUMNS`, and those of memorization parts, such as `low_tow`; none that is NaN."""
        found: dict[str, Value] = {
            **self.accuracy,
            "mia": self.mia,
            "tow": self.tow,
            "tow_mia": self.tow_mia,
            "seconds": self.seconds,
            "cost": self.cost,
            "cost_all_told": self.cost_all_told,
        }
        for name, part in self.parts.items():
            found |= {f"{name}_{key}": value for key, value in part.values.items()}
        return {key: value for key, value in found.items() if not (isinstance(value, float) and math.isnan(value))}

    def row(self, name: str, kind: Kind = "method", *, why_no_tow: str = NO_REFERENCE) -> Row:
        """A row of `COLUMNS`. why_no_tow: unless the outcome itself knows."""
        no_tow = self.reason or why_no_tow
        no_cost = NO_SECONDS if self.seconds is None else NO_COST
        reasons = {"tow": no_tow, "tow_mia": no_tow, "seconds": NO_SECONDS, "cost": no_cost, "cost_all_told": no_cost}
        return Row(name, self.values, kind, reasons)

    def _repr_html_(self) -> str:
        name = "this model"
        return markup.page(
            "One model",
            _readable(Table(COLUMNS, [self.row(name)])).to_html(),
            _by_part_html(_by_part([(name, "method", self)])),
            markup.paragraph(
                "Read it beside retraining and doing nothing: they are in the evaluation it is from.", small=True
            ),
        )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


@dataclass(frozen=True)
class Evaluation:
    """Outcomes by method name, beside the controls and the reference they are read against.

    reference: the mean of the retrained models, or None. do_nothing: the original model as it is;
    None if the problem has none.
    retrain_vs_retrain: each retrained model against the mean of the others, averaged: what an honest retrain scores.
    shortfalls: whether retrained models fall far short of the original, so that ToW is no measure of unlearning.
    """

    methods: dict[str, Outcome]
    do_nothing: Outcome | None
    retrain_vs_retrain: Outcome | None
    reference: Outcome | None
    n_reference: int
    shortfalls: tuple[Shortfall, ...] = ()

    def __repr__(self) -> str:
        """A line per model."""
        lines = [f"  {name}: {outcome!r}" for name, _, outcome in self.outcomes()]
        return "\n".join([f"Evaluation, against {self.n_reference} retrained models", *lines])

    @property
    def spread(self) -> float | None:
        """How far two honest retrains are apart in ToW: differences smaller than this mean nothing."""
        control = self.retrain_vs_retrain
        return None if control is None or control.tow is None else 1 - control.tow

    def best(self, among: Sequence[str]) -> str:
        """The method with the highest ToW of those named."""
        return max(among, key=lambda name: self.methods[name].tow or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """The sections `methods`, `controls` and `reference` of `result.json`."""
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
        """Name, kind and outcome of all models that were measured, in the order in which they are always shown."""
        known: list[tuple[str, Kind, Outcome | None]] = [
            (RETRAINED, "reference", self.reference),
            (RETRAIN_VS_RETRAIN, "control", self.retrain_vs_retrain),
            *((name, "method", outcome) for name, outcome in self.methods.items()),
            (DO_NOTHING, "control", self.do_nothing),
        ]
        return [(name, kind, outcome) for name, kind, outcome in known if outcome is not None]

    def table(self, labels: Mapping[str, str] | None = None, explained: Mapping[str, str] | None = None) -> Table:
        """A row for each model: the retrained ones, what they score against each other, the methods, doing nothing.

        Args:
            labels: How readers see the names of methods.
            explained: A line about each method.
        """
        labels, explained = labels or {}, explained or {}
        rows = [self._retrained_row(), self._spread_row()]
        for name, outcome in self.methods.items():
            rows.append(replace(outcome.row(name), label=labels.get(name, ""), explained=explained.get(name, "")))
        if self.do_nothing is not None:
            line = "control: the original model, as it is"
            rows.append(replace(self.do_nothing.row(DO_NOTHING, "control"), explained=line))
        return Table([*COLUMNS, *self._part_columns()], rows, names="model")

    def by_part(self) -> Table:
        """Accuracy on the forget examples of each memorization part, a row for each model."""
        return _by_part([one for one in self.outcomes() if one[2] is not self.retrain_vs_retrain])

    def to_pandas(self) -> DataFrame:
        """A row per model, controls and reference among them (column `kind`), numbers as in `Outcome`, in [0, 1].

        Numbers by memorization part are in columns such as `low_tow`. Needs pandas.
        """
        found = self.table()
        return found.filled(keep=[column.key for column in found.columns]).to_pandas()

    def _repr_html_(self) -> str:
        pieces = [markup.paragraph(f"Warning: {one.text}.") for one in self.shortfalls]
        pieces.append(_readable(self.table()).to_html())
        if self.spread is not None:
            pieces.append(
                markup.paragraph(
                    f"Two honest retrains differ by {self.spread:.3f} in ToW: smaller differences mean nothing."
                )
            )
        n = len(self.methods)
        title = f"{n:,} unlearned model{'s' * (n != 1)}, {self.n_reference} retrained"
        return markup.page(title, *pieces, _by_part_html(self.by_part()))

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
        """ToW alone: the accuracies would repeat those of the reference."""
        pair = self.retrain_vs_retrain
        why_none = ONE_REFERENCE if self.n_reference else NO_REFERENCE
        values = {} if pair is None else pair.values
        kept = {key: values.get(key) for key in ("tow", "tow_mia")}
        of_parts = {key: value for key, value in values.items() if key.endswith(("_tow", "_tow_mia"))}
        reasons = dict.fromkeys(kept, (pair and pair.reason) or why_none)
        explained = "control: what an honest retrain scores"
        return Row(RETRAIN_VS_RETRAIN, kept | of_parts, "control", reasons, explained=explained)

    def _part_columns(self) -> list[Column]:
        """Of the data frame: what is said of each memorization part."""
        return [
            Column(f"{name}_{key}", f"{name}: {key}", "count" if key == "n" else "percent", shown=False)
            for name, part in _parts(self.outcomes()).items()
            for key in part.values
        ]


def _readable(table: Table) -> Table:
    """Without seconds and cost where none is known."""
    known = {column.key for column in table.filled().columns}
    return table.only([c.key for c in table.columns if c.key not in _TIMES or c.key in known])


def _parts(outcomes: Sequence[tuple[str, Kind, Outcome]]) -> dict[str, Part]:
    """The memorization parts of the first model: those of all are the same."""
    return outcomes[0][2].parts if outcomes else {}


def _by_part(outcomes: Sequence[tuple[str, Kind, Outcome]]) -> Table:
    parts = _parts(outcomes)
    columns = [
        Column(name, f"{name} ({part.n:,})", "percent", better="as the reference") for name, part in parts.items()
    ]
    rows = [
        Row(name, {part: outcome.parts[part].accuracy if part in outcome.parts else None for part in parts}, kind)
        for name, kind, outcome in outcomes
    ]
    return Table(columns, rows, names="model")


def _by_part_html(found: Table) -> str:
    if not found.columns:
        return ""
    return markup.paragraph("Accuracy on the forget set by memorization part:") + found.to_html()


def aggregates_only(evaluation: Evaluation, n_forget: int) -> Evaluation:
    """The evaluation without what would tell about single examples: for a small forget set, all that is measured on it.

    What anybody may read, such as the files of a run, holds this one.
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
