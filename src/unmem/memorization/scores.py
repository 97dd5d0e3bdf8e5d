"""`Scores`: one number per example id, larger = more memorized; what scores give, and RUM and reports take."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unmem.data import Ids, as_ids, find_ids
from unmem.errors import UserError, nearest
from unmem.extras import imported
from unmem.plainfiles import open_plain
from unmem.store import atomic_path
from unmem.tables import Column, Row, Table, markup

if TYPE_CHECKING:
    from pandas import DataFrame

Values = NDArray[np.float64]
USUAL_BINS, MOST_BINS = 32, 45
QUANTILES = {"lowest": 0.0, "5%": 0.05, "25%": 0.25, "median": 0.5, "75%": 0.75, "95%": 0.95, "highest": 1.0}


@dataclass(frozen=True, eq=False)
class Scores:
    """A memorization score of N examples.

    Attributes:
        name: Name of the score.
        ids: [N] example ids.
        values: [N] float64, larger = more memorized; NaN where undefined.
        error: [N] float64 standard errors, or None.
        settings: What determined the values, for files and reports.
    """

    name: str
    ids: Ids
    values: Values
    error: Values | None = None
    settings: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.values):
            raise UserError("scores", self.name, f"{len(self.ids)} ids but {len(self.values)} values", "give one each")
        if len(np.unique(self.ids)) < len(self.ids):
            raise UserError("scores", self.name, "an id is there more than once", "give each id once")

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        """Ids and single values are personal data, so they are left out."""
        undefined = int(np.isnan(self.values).sum())
        return f"Scores({self.name!r}, {len(self):,} examples{f', {undefined:,} without a value' * bool(undefined)})"

    def of(self, ids: Iterable[object]) -> Values:
        """Return the values of these examples, in the order given. An id without a score raises `UserError`."""
        wanted = as_ids(ids)
        if len(self) == 0:
            raise UserError("scores", self.name, "there is no value at all", "score some examples first")
        found, missing = find_ids(wanted, self.ids)
        if missing.any():
            raise UserError(
                "scores",
                self.name,
                f"has no value for {int(missing.sum()):,} of the ids, such as {str(wanted[missing][0])!r}",
                "score the same training set that the ids are from",
            )
        return self.values[found]

    def only(self, ids: Ids) -> Scores:
        """Return the score of these examples, in the order given. An id without a score raises `UserError`."""
        found, _ = find_ids(ids, self.ids)
        return replace(self, ids=ids, values=self.of(ids), error=None if self.error is None else self.error[found])

    def top(self, n: int) -> Ids:
        """Return the ids of the n most memorized examples, most memorized first, without those that have no value."""
        return self._ranked(n)[::-1][:n]

    def bottom(self, n: int) -> Ids:
        """Return the ids of the n least memorized examples, least memorized first."""
        return self._ranked(n)[:n]

    def parts(self, k: int, *, among: Iterable[object] | None = None) -> list[Ids]:
        """Divide examples into groups of equal size.

        Ties are broken by id, so the order of the ids has no effect.

        Args:
            k: Number of groups. Their sizes differ by at most one.
            among: Ids to divide. None divides all examples.

        Returns:
            The ids of each group, least memorized group first.
        """
        chosen, values = self._defined(among)
        if not 1 <= k <= len(chosen):
            raise UserError("parts", k, f"cannot cut {len(chosen)} examples in {k} parts", "ask for fewer parts")
        return list(np.array_split(chosen[np.lexsort((chosen, values))], k))

    def cut(self, thresholds: Sequence[float], *, among: Iterable[object] | None = None) -> list[Ids]:
        """Divide examples into groups at thresholds.

        Args:
            thresholds: Increasing values. An example at a threshold belongs to the group above it.
            among: Ids to divide. None divides all examples.

        Returns:
            The ids of each group, one group more than thresholds, least memorized first. A group may be empty.
        """
        if sorted(set(thresholds)) != list(thresholds):
            raise UserError("thresholds", thresholds, "must rise from one to the next", "sort them and name each once")
        chosen, values = self._defined(among)
        part = np.searchsorted(np.asarray(thresholds), values, side="right")
        return [chosen[part == k] for k in range(len(thresholds) + 1)]

    def groups(self, n: int, *, middle: float | None = None) -> dict[str, Ids]:
        """Choose three disjoint forget sets as in the papers: low, medium and high memorization.

        Args:
            n: Size of each set.
            middle: Value around which the medium set lies. None is the median, which suits proxies on any scale; 0.5
                suits exact memorization, as in the code of arXiv 2410.16516.

        Returns:
            Ids by group: the n lowest, the n nearest to the middle, the n highest.
        """
        ranked = self._ranked(3 * n)
        low, rest, high = ranked[:n], ranked[n : len(ranked) - n], ranked[len(ranked) - n :]
        centre = float(np.nanmedian(self.values)) if middle is None else middle
        distance = np.abs(self.of(rest) - centre)
        nearest_first = np.argsort(distance, kind="stable")[:n]
        return {"low": low, "medium": rest[np.sort(nearest_first)], "high": high}

    def shuffled(self, *, seed: int) -> Scores:
        """Assign the same values to the ids at random: a score without information, as a control."""
        order = np.random.default_rng(seed).permutation(len(self))
        settings = {"shuffled": self.name, "seed": seed}
        return Scores("shuffle", self.ids, self.values[order], settings=settings)

    def auroc(self, positives: Iterable[object]) -> float:
        """Return the AUROC of finding `positives` by large values.

        Args:
            positives: Ids to find.

        Returns:
            The probability that a positive has a larger value than another example; ties count one half. 0.5 = chance,
            1 = all positives rank highest. NaN if there are no positives.
        """
        from unmem.metrics import roc_auc

        defined, marked = ~np.isnan(self.values), np.isin(self.ids, as_ids(positives))
        sides = self.values[defined & marked], self.values[defined & ~marked]
        return roc_auc(*sides) if len(sides[0]) and len(sides[1]) else float("nan")

    def to_pandas(self) -> DataFrame:
        """Return a data frame with the ids as index, a column with the score's name, and `<name>-error` if errors are
        known.

        Frames of several scores can be joined by id. Requires pandas.
        """
        columns = {self.name: self.values} | ({} if self.error is None else {f"{self.name}-error": self.error})
        pandas = imported("pandas", field="Scores.to_pandas")
        return pandas.DataFrame(columns, index=pandas.Index(self.ids.tolist(), name="id"))

    def bin_edges(self) -> NDArray[np.float64]:
        """Return the edges of equal bins for a histogram of the finite values, of which there must be at least one.

        A score with few evenly spaced values, such as a share of epochs, gets one bin per value.
        """
        finite = self.values[np.isfinite(self.values)]
        distinct = np.unique(finite.round(9))
        if len(distinct) == 1:
            return np.histogram_bin_edges(finite, bins=1)
        steps = round(float((distinct[-1] - distinct[0]) / np.diff(distinct).min()))
        return np.histogram_bin_edges(finite, bins=steps + 1 if steps < MOST_BINS else USUAL_BINS)

    def table(self) -> Table:
        """Return quantiles of the values and, if known, of their standard errors."""
        rows = {"value": self.values, **({} if self.error is None else {"standard error": self.error})}
        columns = [Column(name, name, "short") for name in QUANTILES]
        levels = list(QUANTILES.values())
        found = {name: np.quantile(one[~np.isnan(one)], levels).tolist() for name, one in rows.items()}
        return Table(columns, [Row(name, dict(zip(QUANTILES, one, strict=True))) for name, one in found.items()])

    def _repr_html_(self) -> str:
        title, missing = f"{self.name}: {len(self):,} examples", int(np.isnan(self.values).sum())
        said = [markup.paragraph(f"{missing:,} of them have no value.")] if missing else []
        if missing == len(self):
            return markup.page(title, *said)
        counts, edges = np.histogram(self.values[~np.isnan(self.values)], bins=self.bin_edges())
        return markup.page(
            title,
            *said,
            markup.histogram(counts.astype(np.int64), edges, what=f"Histogram of the score {self.name}"),
            self.table().to_html(),
            markup.paragraph("Larger = more memorized. Height: number of examples, log scale.", small=True),
        )

    def _defined(self, among: Iterable[object] | None) -> tuple[Ids, Values]:
        """The ids chosen and their values, all of which must be there."""
        chosen = self.ids if among is None else as_ids(among)
        values = self.of(chosen)
        if np.isnan(values).any():
            raise UserError(
                "scores", self.name, "some of these examples have no value (NaN)", "use a score defined for all of them"
            )
        return chosen, values

    def _ranked(self, at_least: int) -> Ids:
        """Ids with a value, least memorized first; ties in the order of the examples."""
        defined = np.flatnonzero(~np.isnan(self.values))
        if not 1 <= at_least <= len(defined):
            raise UserError(
                "n", at_least, f"score {self.name!r} has a value for {len(defined):,} examples", "ask for fewer"
            )
        return self.ids[defined[np.argsort(self.values[defined], kind="stable")]]


def save_scores(scores: list[Scores], labels: NDArray[np.int64], path: str | Path) -> None:
    """Write scores to one parquet table: id, label, a column per score, and `<name>-error` where errors are known.

    Args:
        scores: Scores of the same ids in the same order.
        labels: [N] labels of these examples.
        path: The file. The settings go into its schema metadata, under "unmem".

    Raises:
        UserError: The scores are of different examples, or the number of labels differs.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if any(not np.array_equal(s.ids, scores[0].ids) for s in scores):
        raise UserError("scores", [s.name for s in scores], "are not of the same examples", "save them apart")
    if len(labels) != len(scores[0]):
        raise UserError("labels", len(labels), f"there are {len(scores[0])} scored examples", "give one label each")
    columns: dict[str, Any] = {"id": scores[0].ids, "label": labels}
    for s in scores:
        columns[s.name] = s.values
        if s.error is not None:
            columns[f"{s.name}-error"] = s.error
    settings = json.dumps({s.name: s.settings for s in scores})
    table: Any = pa.table(columns).replace_schema_metadata({"unmem": settings})
    with atomic_path(Path(path)) as temporary:
        pq.write_table(table, temporary)


def load_scores(path: str | Path, name: str | None = None) -> Scores:
    """Read one score from a table that `save_scores` wrote.

    Args:
        path: The file.
        name: Name of the score. May be left out if the file holds only one.

    Returns:
        The score.

    Raises:
        UserError: The file is missing or damaged, or has no such score.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        raise UserError("--scores", str(path), "no such file", "check the path")
    fix = "give a scores.parquet of unmem"
    try:
        with open_plain(path) as file:
            table: Any = pq.ParquetFile(file).read()
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError) as error:
        raise UserError("--scores", str(path), "not a parquet table", fix) from error
    settings = _settings_in((table.schema.metadata or {}).get(b"unmem", b"{}"))
    if settings is None:
        raise UserError("--scores", str(path), "its description of the scores cannot be read", fix)
    known = list(settings)
    if "id" not in table.column_names or not known:
        raise UserError("--scores", str(path), "not a table of scores", fix)
    if name is None and len(known) > 1:
        raise UserError("--score", None, f"{path} holds several scores", f"choose one of {', '.join(known)}")
    chosen = name or known[0]
    if chosen not in known:
        raise UserError("--score", chosen, f"not in {path}", nearest(chosen, known))
    error = f"{chosen}-error"
    try:
        ids = table["id"].cast(pa.string())
        if ids.null_count:
            raise UserError("--scores", str(path), f"{ids.null_count:,} of its rows have no id", fix)
        return Scores(
            chosen,
            np.array(ids.to_pylist(), dtype=np.str_),
            _numbers(table, chosen, path),
            _numbers(table, error, path) if error in table.column_names else None,
            settings[chosen],
        )
    except (pa.ArrowException, KeyError, UnicodeError) as fault:
        raise UserError("--scores", str(path), f"cannot be read ({' '.join(str(fault).split())[:200]})", fix) from fault
    except UserError as fault:
        if fault.field == "scores":
            raise UserError("--scores", str(path), fault.problem, fix) from fault
        raise


def _settings_in(raw: bytes) -> dict[str, dict[str, Any]] | None:
    """What a table says of its scores, by name; None if it cannot be read."""
    try:
        found: Any = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    right = isinstance(found, dict) and all(isinstance(one, dict) for one in found.values())  # pyright: ignore
    return found if right else None  # pyright: ignore[reportUnknownVariableType]


def _numbers(table: Any, name: str, path: Path) -> Values:
    """A column of numbers as float64, NaN where there is none."""
    import pyarrow as pa

    fix = "give a scores.parquet of unmem"
    if table.column_names.count(name) != 1:
        raise UserError("--scores", str(path), f"has {table.column_names.count(name)} columns {name!r}", fix)
    column = table[name]
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise UserError("--scores", str(path), f"column {name!r} is of type {column.type}, not numbers", fix)
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
