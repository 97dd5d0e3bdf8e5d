"""`Reading`: how a source is to be read, the same for all kinds of sources."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from unmem.data.loaders import LOADERS
from unmem.data.parting import Parting
from unmem.errors import UserError, nearest, one_of, whole_number

Streaming = Literal["auto", "always", "never"]
Decimal = Literal[".", ","]
Impute = Literal["median", "refuse"]
MAX_LENGTH = 128
_ANYWHERE = ("loaders", "split", "unseen")  # mean something for every kind of source


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What can be said of a source; each kind of source uses some of it and refuses the rest.

    folder: where the files of a set with a name lie.
    size: images are resized to this height and width: "32", "32x48" or a number.
    grey: images become grey; without it they do only where all of them are. rgb: grey images get three channels.
    label, id: the columns that hold the class and the id of an example; by default, columns with the usual names. The
        id "none" numbers the rows.
    drop: columns that are no features, separated by commas or in a list.
    test: a second table, of unseen examples.
    categories: columns of categories, whatever they look like. missing: texts that stand for a missing value. Both
        separated by commas or in a list.
    impute: what becomes of missing values: "median" of the training rows for numbers, a category of their own for
        others; or "refuse".
    decimal: the decimal sign of the numbers in a table; the other one, spaces and apostrophes then separate groups of
        three digits. By default it is a point, and nothing separates groups.
    prepared: whether the numbers of a table are as the model takes them, and are not standardised; None: by what they
        look like. preprocess: FILE.py:NAME, a fitted transformer or a function, which makes the inputs of a table.
    text: the column to classify by. tokenizer: a folder or tokenizer.json. max_length: tokens that are kept of a text.
    scaling: a name or MEAN/SD, see `named_scalings`.
    stream: read inputs when they are needed; "auto" where they would take over a quarter of the free memory.
    loaders: processes that read.
    split: shares of training, holdout and test examples where the source holds one set, such as "70/15/15"; "none": all
        of it is training data. unseen: ids of examples that no model was trained on, instead.
    """

    folder: str | Path | None = None
    size: str | int | None = None
    grey: bool = False
    rgb: bool = False
    label: str | None = None
    id: str | None = None
    drop: str | Iterable[str] = ()
    test: str | Path | None = None
    categories: str | Iterable[str] = ()
    missing: str | Iterable[str] = ()
    impute: Impute = "median"
    decimal: Decimal | None = None
    prepared: bool | None = None
    preprocess: str | None = None
    text: str | None = None
    tokenizer: str | Path | None = None
    max_length: int = MAX_LENGTH
    scaling: str | None = None
    stream: Streaming = "auto"
    loaders: int = LOADERS
    split: str | None = None
    unseen: Sequence[str] = ()

    def __post_init__(self) -> None:
        one_of("stream", self.stream, get_args(Streaming))
        one_of("impute", self.impute, get_args(Impute))
        if self.decimal is not None:
            one_of("decimal", self.decimal, get_args(Decimal))
        for name, value, least in (("loaders", self.loaders, 0), ("max_length", self.max_length, 1)):
            whole_number(name, value)
            if value < least:
                raise UserError(
                    name, value, f"must be {least} or more", f"leave it out, or give one such as {least + 1}"
                )
        if self.prepared not in (True, False, None):
            raise UserError("prepared", self.prepared, "is neither true nor false", "give True, False or None")
        _ = self.height_and_width
        for name in ("prepared", "text"):
            if self.preprocess is not None and getattr(self, name) is not None:
                raise UserError(name, getattr(self, name), "is given beside preprocess", "leave one of them out")
        _ = self.parting
        if self.grey and self.rgb:
            raise UserError("rgb", True, "images cannot be grey and colour", "leave out one of --grey and --rgb")

    @property
    def parting(self) -> Parting:
        return Parting.of(self.split, self.unseen)

    @property
    def mode(self) -> Literal["RGB", "L"] | None:
        """What images become; None: grey where all of them are."""
        return "L" if self.grey else "RGB" if self.rgb else None

    @property
    def height_and_width(self) -> tuple[int, int] | None:
        if self.size is None:
            return None
        sides = str(self.size).lower().split("x")
        if len(sides) > 2 or not all(map(_is_side, sides)):
            raise UserError("size", self.size, "is no height or HEIGHTxWIDTH", "give one such as 32 or 32x48")
        return int(sides[0]), int(sides[-1])

    @property
    def dropped(self) -> tuple[str, ...]:
        return _listed("drop", self.drop)

    @property
    def categorical(self) -> tuple[str, ...]:
        return _listed("categories", self.categories)

    @property
    def missing_texts(self) -> tuple[str, ...]:
        return _listed("missing", self.missing)

    def only(self, kind: str, *used: str) -> None:
        """Refuse what was said and means nothing for this kind of source."""
        for one in fields(self):
            value = getattr(self, one.name)
            if (
                one.name in (*used, "loaders", "split", "unseen")
                or value == one.default
                or (one.name, value) == ("stream", "never")
            ):
                continue
            if one.name in ("drop", "categories", "missing") and not _listed(one.name, value):
                continue
            raise UserError(one.name, value, f"{kind} does not use it", "leave it out")


def _listed(field: str, names: str | Iterable[str]) -> tuple[str, ...]:
    """Names in a list, or separated by commas; those that hold a comma or a line break are in quotation marks."""
    try:
        found = next(csv.reader([names], skipinitialspace=True), []) if isinstance(names, str) else names
    except csv.Error as error:
        fix = "put names that hold a line break in quotation marks"
        raise UserError(field, names, f"is not a list of names separated by commas ({error})", fix) from error
    return tuple(name.strip() for name in found if name.strip())


def _is_side(text: str) -> bool:
    digits = text.strip()
    return digits.isdecimal() and len(digits) < 7 and int(digits) > 0


def known_column(field: str, name: str, columns: list[str]) -> str:
    """The name, if there is such a column."""
    if name not in columns:
        raise UserError(field, name, "no such column", nearest(name, columns))
    return name
