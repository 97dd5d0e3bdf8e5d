"""What a column of a table is: a quantity or categories. What is neither for sure is refused, with what decides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unmem.data.cells import (
    SHOWN,
    Mask,
    among,
    as_numbers,
    distinct,
    is_text,
    matching,
    quoted,
    replaced,
    rows_of,
    shown,
    trimmed,
)
from unmem.data.reading import Reading
from unmem.errors import Phrase, UserError

MOST_CATEGORIES = 100
MOST_MARKS = 3  # of missing values that are written in more ways, a user knows more than we
LARGEST = 3.4e38  # what a model's input can hold
MISSING, UNKNOWN = -1, -2  # in the place of a category
_EXACT = 2**53  # whole numbers up to here keep all of their digits
# In a column of numbers, these stand for a missing one; among categories they are categories like any.
MISSING_TEXTS = (
    *("NA", "N/A", "n/a", "NaN", "nan", "NAN", "-nan", "#N/A", "<NA>"),
    *("null", "NULL", "Null", "none", "None", "NONE"),
)
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_INFINITE = r"^[+-]?(inf|Inf|INF|infinity|Infinity)$"
_LIKE_NUMBER = r"^\(?[+-]?\s*[$€£¥]?\s*[+-]?(\d[\d.,'\s\x{a0}\x{202f}]*|[.,]\d+)\s*[$€£¥%]?\s*\)?$"
_DATE = r"^\d{1,4}([-/.])\d{1,2}[-/.]\d{1,4}([ T]\d{1,2}:\d{2}.*)?$|^\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?$"
# By decimal separator: digits in groups of three, and what separates the groups.
_GROUPED = {
    ".": (r"^[+-]?(\d{1,3}([,'\s\x{a0}\x{202f}]\d{3})+|\d+|)(\.\d*)?([eE][+-]?\d+)?$", r"[,'\s\x{a0}\x{202f}]"),
    ",": (r"^[+-]?(\d{1,3}([.'\s\x{a0}\x{202f}]\d{3})+|\d+|)(,\d*)?([eE][+-]?\d+)?$", r"[.'\s\x{a0}\x{202f}]"),
}
_UNIT = r"^([+-]?)\s*([$€£¥]?)\s*(.*?)\s*([$€£¥%]?)$"


@dataclass(frozen=True, eq=False)
class Quantity:
    """values: [N] numbers, NaN where missing. missing_texts: How missing values were written. notes: For the user."""

    values: NDArray[np.float64]
    missing_texts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def take(self, rows: NDArray[np.int64]) -> Quantity:
        return replace(self, values=self.values[rows])

    @property
    def missing(self) -> Mask:
        return np.isnan(self.values)


@dataclass(frozen=True, eq=False)
class Categories:
    """names: Of the categories, in order. codes: [N] which of them, −1 where missing, −2 for one that is not known."""

    names: tuple[str, ...]
    codes: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    def take(self, rows: NDArray[np.int64]) -> Categories:
        return replace(self, codes=self.codes[rows])

    @property
    def missing(self) -> Mask:
        return self.codes == MISSING

    def known_in(self, n_rows: int, name: str) -> Categories:
        """With the categories of the first `n_rows` alone: those of the training table, which a model can learn."""
        known = np.unique(self.codes[:n_rows][self.codes[:n_rows] >= 0])
        if len(known) == len(self.names):
            return self
        there = np.isin(self.codes, known)
        codes = np.where(there, np.searchsorted(known, self.codes), np.where(self.missing, MISSING, UNKNOWN))
        new = [repr(one) for k, one in enumerate(self.names) if k not in known]
        note = f"column {name!r}: {', '.join(new[:SHOWN])} only in unseen tables, count as none of the categories"
        return Categories(tuple(self.names[k] for k in known), codes, (*self.notes, note))


def feature(name: str, column: Any, how: Reading) -> Quantity | Categories:
    """What the values of a column are.

    Raises:
        UserError: They are dates, lists, text without end, or a mixture of numbers and other texts.
    """
    kind = column.type
    if pa.types.is_boolean(kind):
        return _truth_values(column)
    if is_text(kind):
        return _of_texts(name, column, how)
    if pa.types.is_null(kind):
        return Quantity(np.full(len(column), np.nan))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        if name in how.categorical:
            return _categories(name, column, how, named=True)
        return _of_numbers(name, column, how)
    raise _fault(name, f"is of type {kind}", f"turn it into numbers, or --drop {quoted(name)}")


def missing_cells(column: Any, how: Reading) -> Mask:
    """Which cells of a column of texts have no value: null, empty, or one of the texts that stand for a missing one."""
    return among(trimmed(column), ["", *how.missing_texts])


def _of_texts(name: str, column: Any, how: Reading) -> Quantity | Categories:
    if name in how.categorical:
        return _categories(name, column, how, named=True)
    texts = trimmed(column)
    missing = missing_cells(column, how)
    numbers = _numbers(texts, how.decimal)
    usual = among(texts, MISSING_TEXTS) & ~missing
    is_number = ~np.isnan(numbers) & ~missing
    rest = rows_of(texts, ~(missing | usual | is_number))
    if len(rest) == 0 and (is_number.any() or len(distinct(rows_of(texts, usual))) < 2):
        _check_range(name, numbers, is_number, texts)
        written = tuple(sorted(set(distinct(rows_of(texts, ~is_number))) - {""}))
        return Quantity(np.where(is_number, numbers, np.nan), written, _codes_note(name, texts, is_number))
    if len(rest) and not is_number.any() and matching(rest, _DATE).all():
        raise _fault(name, f"holds dates or times, such as {rest[0].as_py()!r}", _drop_or_categories(name))
    if is_number.any() or matching(rest, _LIKE_NUMBER).any():
        raise _mixture(name, rest, int(is_number.sum()), how)
    return _categories(name, column, how)


def _numbers(texts: Any, decimal: str | None) -> NDArray[np.float64]:
    """[N] the numbers that the texts are, NaN where they are none."""
    if decimal is not None:
        texts = _without_groups(texts, decimal)
    return as_numbers(texts, matching(texts, _NUMBER) | matching(texts, _INFINITE))


def _without_groups(texts: Any, decimal: str) -> Any:
    """Texts such as "$1,000.50" as Python writes them: "1000.50". Those that are no numbers come out without digits.

    One unit for the whole column can stand before or behind; percent signs must be everywhere or nowhere.
    """
    pattern, groups = _GROUPED[decimal]
    bare, units = replaced(texts, _UNIT, r"\1\3"), replaced(texts, _UNIT, r"\2\4")
    good = matching(bare, pattern) & matching(bare, r"\d")
    known = distinct(rows_of(units, good))
    if len([one for one in known if one]) > 1 or ("%" in known and len(known) > 1):
        good &= among(units, [""])
    bare = replaced(bare, groups, "")
    bare = replaced(bare, ",", ".") if decimal == "," else bare
    return pa.array(np.where(good, bare.to_numpy(zero_copy_only=False), ""), pa.string())


def _mixture(name: str, rest: Any, numbers: int, how: Reading) -> UserError:
    """The error of a column in which some texts are numbers, or look like it, and others are not."""
    what = f"{numbers:,} numbers, and " if numbers else ""
    texts, column = distinct(rest), quoted(name)
    fixes = [f"--categories {column} if they are categories", f"--drop {column}"]
    if len(texts) <= MOST_MARKS:
        fixes.insert(0, f"--missing {','.join(map(quoted, texts))} for no value")
    if how.decimal is None and matching(rest, _LIKE_NUMBER).any():
        fixes = ["--decimal , if a comma is the decimal sign", "--decimal . if it separates thousands", *fixes[-2:]]
    return _fault(name, f"holds {what}{len(rest):,} texts that are none: {shown(rest)}", f"pass {', or '.join(fixes)}")


def _check_range(name: str, numbers: NDArray[np.float64], is_number: Mask, texts: Any) -> None:
    _check_finite(name, numbers[is_number], int((matching(texts, _INFINITE) & is_number).sum()))
    whole = matching(texts, r"^[+-]?\d+$") & is_number
    long = np.flatnonzero(whole & (np.abs(numbers) > _EXACT))
    if len(long):
        raise _too_long(name, len(long), texts[int(long[0])].as_py())


def _check_finite(name: str, values: NDArray[np.float64], infinite: int) -> None:
    if infinite:
        raise _fault(name, f"has {infinite:,} infinite values", "fill or drop them")
    large = int((np.abs(values) > LARGEST).sum())
    if large:
        raise _fault(name, f"has {large:,} values beyond ±{LARGEST:.1e}, which a model cannot take", "rescale them")


def _too_long(name: str, count: int, example: object) -> UserError:
    return _fault(
        name,
        f"has {count:,} whole numbers of so many digits that some would be lost, such as {example}",
        f"pass --id {quoted(name)} if they are ids, or --drop {quoted(name)}",
    )


def _codes_note(name: str, texts: Any, is_number: Mask) -> tuple[str, ...]:
    """A word on codes such as 01234, which look like numbers."""
    codes = rows_of(texts, matching(texts, r"^0\d+$") & is_number)
    if len(codes) == 0:
        return ()
    return (f"column {name!r} has leading zeros ({shown(codes)}) and is read as numbers (--categories for codes)",)


def _of_numbers(name: str, column: Any, how: Reading) -> Quantity:
    values = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64).copy()
    for text in how.missing_texts:
        found = _numbers(pa.array([text]), None)[0]
        values[values == found] = np.nan
    _check_finite(name, values, int(np.isinf(values).sum()))
    if pa.types.is_integer(column.type) and (np.abs(values) > _EXACT).any():
        where = np.flatnonzero(np.abs(values) > _EXACT)
        raise _too_long(name, len(where), column[int(where[0])].as_py())
    return Quantity(values)


def _truth_values(column: Any) -> Categories:
    codes = np.asarray(column.cast(pa.int8()).fill_null(-1).to_numpy(), dtype=np.int64)
    there = sorted({int(code) for code in codes if code >= 0})
    return Categories(tuple(str(bool(one)) for one in there), np.where(codes < 0, -1, np.searchsorted(there, codes)))


def _categories(name: str, column: Any, how: Reading, *, named: bool = False) -> Categories:
    """named: The user says that they are categories, so that more of them are believed."""
    texts = column.cast(pa.string())
    missing = missing_cells(texts, how)
    values = np.array([text or "" for text in texts.to_pylist()], dtype=object)
    names, codes = np.unique(values[~missing].astype(np.str_), return_inverse=True)
    if len(names) > (max(MOST_CATEGORIES, len(values) // 2) if named else MOST_CATEGORIES):
        fix = f"pass --drop {quoted(name)}, or name it by --text or --id"
        raise _fault(name, f"has {len(names):,} different texts, too many for categories", fix)
    whole = np.full(len(values), -1, dtype=np.int64)
    whole[~missing] = codes
    usual = rows_of(texts, among(texts, MISSING_TEXTS) & ~missing)
    note = f"column {name!r}: {shown(usual)} is a category like any (--missing takes it for no value)"
    return Categories(tuple(names.tolist()), whole, (note,) if len(usual) else ())


def _drop_or_categories(name: str) -> str:
    return f"pass --drop {quoted(name)}, or --categories {quoted(name)}"


def _fault(name: str, problem: str, fix: str) -> UserError:
    return UserError("data", Phrase(f"column {name!r}"), problem, fix)
