"""Tables drawn at random, and three properties.

The examples that are forgotten are those that are named; the inputs that a model sees are those that plain NumPy
computes; and whatever a file holds, the answer is data or a `UserError`.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import gzip
import io
import os
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import unmem as um
from unmem.errors import UserError
from unmem.requests import checked_ids, ids_where, parse_condition, read_ids

CASES = int(os.environ.get("UNMEM_CASES", "25"))  # by property
RANDOM = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=CASES < 1000)

# What differs in a letter, and is one for a careless reader.
TRICKY = (
    *("7", "07", "007", "7.0", " 7", "1e5", "100000", "1e+05", "12345678901234567890", "12345678901234567891"),
    *("None", "none", "NA", "nan", "NaN", "null", "", "true", "True", "a,b", 'a"b', "a;b", "a\tb", "#7", "é", "-1"),
)
WORDS = st.text(alphabet="abcxyzÄß ,;'\"\t\n#=", min_size=1, max_size=5).map(lambda text: "w" + text)
NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 3)) | st.integers(-1000, 1000).map(float)


@dataclass
class Drawn:
    """A table as it was made. cells: the columns, as they are written. features: what plain code knows of them."""

    cells: dict[str, list[str]]
    labels: list[str]
    ids: list[str] | None
    marks: list[str]
    features: list[tuple[str, list[Any]]]

    @property
    def n(self) -> int:
        return len(self.labels)

    def row_of(self, name: str) -> int:
        return int(name) if self.ids is None else self.ids.index(name)


@st.composite
def tables(draw: st.DrawFn) -> Drawn:
    n = draw(st.integers(8, 24))
    labels = [
        *["w no", "w yes"] * 3,
        *draw(st.lists(st.sampled_from(["w no", "w yes"]), min_size=n - 6, max_size=n - 6)),
    ]
    cells: dict[str, list[str]] = {}
    ids = None
    name = draw(st.sampled_from([None, "id", "Unnamed: 0", "", "ID", "patient_id"]))
    if name is not None:
        pool = [one for one in TRICKY if one.strip() == one and one != ""] + [f"u{k}" for k in range(24)]
        ids = draw(st.permutations(pool))[:n]
        cells[name] = ids
    marks = draw(st.lists(st.sampled_from(TRICKY), min_size=n, max_size=n))
    cells["mark"] = marks
    features: list[tuple[str, list[Any]]] = []
    for k in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["number", "words"]))
        holes = draw(st.lists(st.booleans(), min_size=n, max_size=n)) if draw(st.booleans()) else [False] * n
        values = draw(st.lists(NUMBERS if kind == "number" else WORDS, min_size=n, max_size=n))
        values = [None if hole else value for hole, value in zip(holes, values, strict=True)]
        missing = draw(st.sampled_from(["", "NA", "nan"])) if kind == "number" else ""
        cells[f"f{k}"] = [missing if one is None else repr(one) if kind == "number" else one for one in values]
        features.append((kind, values))
    cells["label"] = labels
    return Drawn(cells, labels, ids, marks, features)


def write(made: Drawn, folder: Path, form: tuple[str, str, str]) -> Path:
    suffix, separator, encoding = form
    path = folder / f"x{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pa.table(made.cells), path)
        return path
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(made.cells)
        writer.writerows(zip(*made.cells.values(), strict=True))
    return path


FORMS = st.sampled_from(
    [(".csv", one, "utf-8") for one in ",;\t|"]
    + [(".csv", ",", "utf-16"), (".CSV", ";", "latin-1"), (".tsv", "\t", "utf-8"), (".parquet", "", "")]
)


def plain(made: Drawn, rows: list[int], train: list[int]) -> np.ndarray:
    """The inputs by the rules of the documentation, a column at a time."""
    pieces: list[np.ndarray] = []
    for kind, values in made.features:
        missing = np.array([one is None for one in values])
        if missing[train].all():
            continue
        if kind == "number":
            numbers = np.array([np.nan if one is None else one for one in values], dtype=float)
            numbers[missing] = np.median(numbers[[k for k in train if not missing[k]]])
            mean, sd = numbers[train].mean(), numbers[train].std()
            constant = len(set(numbers[train].tolist())) == 1
            pieces.append(np.zeros(made.n) if constant else (numbers - mean) / sd)
        else:
            names = sorted({one for one in values if one is not None})
            pieces += [np.array([one == name for one in values]) for name in names]
        if missing[train].any():
            pieces.append(missing)
    return np.stack(pieces, axis=1)[rows].astype(float)


@RANDOM
@given(made=tables(), form=FORMS)
def test_inputs_labels_and_ids_are_those_of_the_table(
    made: Drawn, form: tuple[str, str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(made, tmp_path_factory.mktemp("any"), form)
    if all(one is None for _, values in made.features for one in values):
        return
    splits = um.load(path, drop="mark", prepared=False)
    seen: list[int] = []
    train = [made.row_of(str(name)) for name in splits.train.ids]
    for part in splits.parts.values():
        rows = [made.row_of(str(name)) for name in part.ids]
        assert part.inputs.numpy() == pytest.approx(plain(made, rows, train), rel=1e-5, abs=1e-4)
        assert [splits.classes[k] for k in part.labels] == [made.labels[row] for row in rows]
        seen += rows
    assert sorted(seen) == list(range(made.n))


@RANDOM
@given(made=tables(), form=FORMS, pick=st.integers(0, 6))
def test_the_examples_named_are_the_ones_meant(
    made: Drawn, form: tuple[str, str, str], pick: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    made.cells["f"] = [str(k / 7) for k in range(made.n)]  # a feature at least
    path = write(made, folder, form)
    splits = um.load(path, drop="mark", test=path)
    train = splits.train
    mark = made.marks[pick]
    chosen = ids_where(train, [parse_condition(f"mark={mark}")])
    assert sorted(made.row_of(name) for name in chosen) == [k for k, one in enumerate(made.marks) if one == mark]
    names = train.ids.tolist()[: pick + 1]
    (folder / "ids.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    taken = train.take(checked_ids(read_ids(folder / "ids.txt").ids(splits), splits))
    assert taken.columns["mark"].tolist() == [made.marks[made.row_of(name)] for name in names]


ANY_CELL = st.sampled_from([*TRICKY, "1", "2.5", "$1,000", "?", "1e400", "inf", "2020-01-01", "5%", "1,5"]) | st.text(
    max_size=6
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "label": st.sampled_from(["label", "a", "nope"]),
        "id": st.sampled_from(["id", "a", "none", "nope"]),
        "drop": st.sampled_from(["a", "a,b", "nope"]),
        "categories": st.sampled_from(["a", "label", "b,id"]),
        "missing": st.sampled_from(["?", "1", "?,NA,-1", ","]),
        "impute": st.just("refuse"),
        "decimal": st.sampled_from([",", "."]),
        "prepared": st.booleans(),
    },
)


ANY_VALUE = ANY_CELL | st.sampled_from(
    [
        *(None, float("nan"), float("inf"), 0, 1, 2**70, -1, True, 1.5, 1e300, b"x", Decimal("1.5")),
        *((1, 2), [1], {"a": 1}, datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1), complex(1, 2), object),
    ]
)
NAMES = st.lists(st.sampled_from(["a", "b", "id", "", "Unnamed: 0", "c d", '"', "é", "label "]), min_size=1, max_size=4)


def columns_of(draw: Any, value: st.SearchStrategy[Any]) -> dict[str, list[Any]]:
    """Columns that make sense in most draws, so that what comes after reading is reached."""
    n = draw(st.integers(6, 14))
    sensible = st.sampled_from(["0", "1", "x", "2.5", "NA"])
    found = {
        name: draw(st.lists(draw(st.sampled_from([value, sensible])), min_size=n, max_size=n)) for name in draw(NAMES)
    }
    classes = draw(st.sampled_from([["u", "v"], ["0", "1"], ["-1", "1"], ["NA", "x"], ["", "x"], ["1.5", "2"]]))
    return found | {"label": [classes[k % 2] for k in range(n)]}


def answer(source: Any, how: dict[str, Any]) -> None:
    """Whatever the source holds: data that a model can take, or a sentence for the user."""
    try:
        splits = um.load(source, **how)
    except UserError:
        return
    for part in splits.parts.values():
        assert len(part) == len(part.ids) > 0
        assert np.isfinite(part.inputs.numpy()).all()


@RANDOM
@given(data=st.data(), how=OPTIONS)
def test_whatever_a_file_holds_the_answer_is_data_or_a_sentence(
    data: st.DataObject, how: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / data.draw(st.sampled_from(["x.csv", "x.tsv", "x.CSV.gz", "x.parquet"]))
    cells = columns_of(data.draw, ANY_CELL)
    if path.suffix == ".parquet":
        kinds = [pa.string(), pa.float64(), pa.int64(), pa.bool_(), pa.date32(), pa.list_(pa.int8()), pa.null()]
        kinds += [pa.decimal128(5, 2), pa.large_string(), pa.binary(), pa.uint64(), pa.float16(), pa.time32("s")]
        table = pa.table({name: pa.array(values, pa.string()) for name, values in cells.items()})
        parquet.write_table(table.append_column("t", pa.nulls(len(table), data.draw(st.sampled_from(kinds)))), path)
    else:
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=data.draw(st.sampled_from(",;\t")))
        writer.writerows([cells, *zip(*cells.values(), strict=True)])
        path.write_bytes(text.getvalue().encode("utf-8", errors="replace"))
    if data.draw(st.integers(0, 3)) == 0:
        raw = bytearray(path.read_bytes())
        for place, byte in data.draw(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3)):
            raw[place % len(raw)] = byte
        path.write_bytes(raw)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    answer(path, how)


@RANDOM
@given(data=st.data(), how=OPTIONS)
def test_whatever_a_data_frame_holds_the_answer_is_data_or_a_sentence(data: st.DataObject, how: dict[str, Any]) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {name: pd.Series(values, dtype=object) for name, values in columns_of(data.draw, ANY_VALUE).items()}
    )
    for name in frame.columns:
        kind = data.draw(st.sampled_from([None, None, "category", "string", "float64"]))
        if kind is not None:
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                frame[name] = frame[name].astype(kind)
    answer(frame, how)
    answer((frame, frame["label"]), how)
    answer((frame.drop(columns="label"), frame["label"].tolist()), how | {"label": None})
