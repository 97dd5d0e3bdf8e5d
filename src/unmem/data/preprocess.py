"""A user's own way from the columns of a table to inputs: a fitted transformer of scikit-learn, or a function."""

from __future__ import annotations

import inspect
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyarrow import csv

from unmem.data.modules import module_at
from unmem.data.reading import Reading
from unmem.errors import UserError, nearest
from unmem.extras import imported

FIELD = "preprocess"


def preprocessed(table: Any, features: list[str], how: Reading, *, written: bool) -> NDArray[Any]:
    """[N, …] inputs, in the order of the rows.

    A transformer gets the columns that it was fitted on, a function those that are neither label, id nor dropped, in a
    pandas data frame.

    Args:
        table: A pyarrow table.
        features: The columns that are neither label, id nor dropped.
        how: Names the transformer or function, and how a file is to be read.
        written: All cells are texts, which are to be read as `pandas.read_csv` reads them.
    """
    source = str(how.preprocess)
    step = _step(source)
    frame = _frame(table, how, written=written)
    given = frame[_columns(source, step, features, list(frame.columns))]
    try:
        found = _applied(step, given)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            FIELD, source, f"failed ({reason})", f"it gets the columns {', '.join(given.columns)}"
        ) from error
    return _checked(source, found, given)


def _step(source: str) -> Any:
    """What the name after the colon stands for; a function without parameters is called for it."""
    where, _, name = source.rpartition(":")
    try:
        module = module_at(where)
        if not hasattr(module, name):
            known = [key for key in vars(module) if not key.startswith("_")]
            raise UserError(FIELD, source, f"{name!r} is no name there", nearest(name, known))
        found = getattr(module, name)
        if callable(found) and not hasattr(found, "transform") and _parameters(found) == 0:
            found = found()
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(FIELD, source, f"cannot be had ({reason})", "write FILE.py:NAME") from error
    if not (callable(found) or hasattr(found, "transform")):
        what = f"is a {type(found).__name__}"
        raise UserError(FIELD, source, what, "name a fitted transformer, or a function of a data frame")
    return found


def _parameters(function: Any) -> int:
    """How many arguments a function needs."""
    needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    return len([p for p in needed if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)])


def _frame(table: Any, how: Reading, *, written: bool) -> Any:
    pandas = imported("pandas", field=FIELD)
    if not written:
        return table.to_pandas(ignore_metadata=True)
    raw = io.BytesIO()
    csv.write_csv(table, raw, csv.WriteOptions(quoting_style="all_valid"))
    raw.seek(0)
    thousands = {None: None, ",": ".", ".": ","}[how.decimal]
    marks = list(how.missing_texts)
    return pandas.read_csv(raw, decimal=how.decimal or ".", thousands=thousands, na_values=marks, low_memory=False)


def _columns(source: str, step: Any, features: list[str], names: list[str]) -> list[str]:
    fitted = getattr(step, "feature_names_in_", None)
    if fitted is None:
        return features
    lacking = [str(name) for name in fitted if name not in names]
    if lacking:
        raise UserError(
            FIELD, source, f"was fitted on columns that are not there: {', '.join(lacking)}", "use the table it is for"
        )
    return [str(name) for name in fitted]


def _applied(step: Any, frame: Any) -> Any:
    if not hasattr(step, "transform"):
        return step(frame)
    return step.transform(frame if hasattr(step, "feature_names_in_") else frame.to_numpy())


def _checked(source: str, found: Any, given: Any) -> NDArray[Any]:
    """The inputs as an array; one row of it for each row of the table, in the same order."""
    index = getattr(found, "index", None)
    if index is not None and hasattr(found, "columns") and list(index) != list(given.index):
        raise UserError(FIELD, source, "gives other rows, or another order of them", "keep all rows as they come")
    found = found.toarray() if hasattr(found, "toarray") else found
    found = found.detach().cpu() if hasattr(found, "detach") else found
    try:
        inputs = np.asarray(found)
        inputs = inputs if inputs.dtype == np.uint8 else inputs.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(FIELD, source, f"does not give numbers ({error})", "return an array of numbers") from error
    if inputs.ndim < 2 or len(inputs) != len(given):
        what = f"gives an array of shape {inputs.shape} for {len(given):,} rows"
        raise UserError(FIELD, source, what, "return one row of numbers for each row of the table")
    bad = int((~np.isfinite(inputs.reshape(len(inputs), -1)).all(axis=1)).sum())
    if bad:
        raise UserError(FIELD, source, f"leaves {bad:,} rows with missing or infinite numbers", "fill them in there")
    return inputs


def of_parts(tables: list[Any], features: list[str], how: Reading, *, written: bool) -> NDArray[Any]:
    """The same for several tables, one after the other. Each is taken by itself, as a user does with two files."""
    found = [preprocessed(one, features, how, written=written) for one in tables]
    shapes = {one.shape[1:] for one in found}
    if len(shapes) > 1:
        raise UserError(
            FIELD, str(how.preprocess), f"gives inputs of different shapes: {shapes}", "use what the training rows have"
        )
    return np.concatenate(found)
