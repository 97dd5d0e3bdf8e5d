"""Data frames and arrays: source × situation × outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import unmem as um
from unmem.errors import UserError

pd = pytest.importorskip("pandas")
N = 20
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(5, 3, size=(N, 3))
NAMES = np.array(["no", "yes"])
Y = np.arange(N) % 2


def frame(**more: Any) -> Any:
    return pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "town": ["Ulm", "Bonn"] * 10, "label": NAMES[Y]} | more)


def polars(found: Any) -> Any:
    return pytest.importorskip("polars").from_pandas(found)


FRAMES: dict[str, Callable[[Any], Any]] = {"pandas": lambda one: one, "pyarrow": pa.Table.from_pandas, "polars": polars}


@pytest.fixture(params=list(FRAMES))
def kind(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return FRAMES[request.param]


def features(rows: np.ndarray, train: np.ndarray) -> np.ndarray:
    numbers = (X[rows, :2] - X[train, :2].mean(0)) / X[train, :2].std(0)
    towns = np.array([["Ulm", "Bonn"][k % 2] for k in rows])
    return np.column_stack([numbers, towns == "Bonn", towns == "Ulm"])


def check(splits: um.Splits, row_of: Callable[[str], int] = int) -> None:
    train = np.array([row_of(name) for name in splits.train.ids])
    for part in splits.parts.values():
        rows = np.array([row_of(name) for name in part.ids])
        assert part.inputs.numpy() == pytest.approx(features(rows, train), abs=1e-5)
        assert part.labels.tolist() == Y[rows].tolist()
    assert splits.classes == ("no", "yes")


def test_a_frame_is_read_as_a_table(kind: Callable[[Any], Any]) -> None:
    check(um.load(kind(frame())))


def test_ids_are_a_column_or_the_index() -> None:
    shuffled = [(7 * k) % N + 50 for k in range(N)]
    back = {str(name): row for row, name in enumerate(shuffled)}
    check(um.load(frame(id=shuffled)), back.__getitem__)
    check(um.load(frame().set_axis(shuffled)), back.__getitem__)
    check(um.load(frame().set_axis(pd.Index(shuffled, name="patient"))), back.__getitem__)
    text = pd.Index([f"p{one}" for one in shuffled])
    check(um.load(frame().set_axis(text)), lambda name: back[name[1:]])


def test_slices_keep_their_index() -> None:
    rest = um.load((frame().iloc[4:], frame().iloc[:4]))
    assert set(rest.train.ids) == {str(k) for k in range(4, N)}
    shuffled = frame().sample(frac=1, random_state=1)
    check(um.load({"train": shuffled.iloc[:14], "test": shuffled.iloc[14:]}))


def test_test_frames_and_functions_that_give_frames(kind: Callable[[Any], Any], tmp_path: Any) -> None:
    splits = um.load((kind(frame()), kind(frame())))
    assert [len(part) for part in splits.parts.values()] == [20, 10, 10]
    assert all(name.startswith("test-") for name in splits.test.ids)
    (tmp_path / "mine.py").write_text(
        "import pandas as pd\ndef made():\n    return pd.DataFrame({'x': range(20), 'label': [0, 1] * 10})\n"
    )
    assert um.load(f"{tmp_path}/mine.py:made").train.input_shape == (1,)


def test_a_pandas_category_is_a_category(kind: Callable[[Any], Any]) -> None:
    splits = um.load(kind(frame(grade=pd.Categorical(["1", "2"] * 10))))
    assert splits.train.input_shape == (6,)


def test_the_order_of_a_categorical_label_is_the_users() -> None:
    label = pd.Categorical(NAMES[Y], categories=["yes", "no", "never"])
    for splits in (um.load(frame(label=label)), um.load((frame(label=label), frame(label=label)))):
        assert splits.classes == ("yes", "no", "never")
        rows = [int(name) for name in splits.train.ids]
        assert splits.train.labels.tolist() == [1 - Y[row] for row in rows]


@pytest.mark.parametrize(
    ("made", "how", "said"),
    [
        (
            lambda: frame(mixed=[1.5, "?"] * 10),
            {},
            r"column 'mixed': holds 10 numbers, and 10 texts that are none: '\?'",
        ),
        (lambda: frame(inner=[[1], [2]] * 10), {}, "column 'inner': is of type list"),
        (lambda: frame(z=[object()] * 20), {}, "the data frame cannot be read"),
        (lambda: frame(when=pd.Timestamp("2020-01-01")), {}, "column 'when': is of type timestamp"),
        (
            lambda: pd.concat([frame(), frame()[["a"]]], axis=1),
            {},
            "column 'a': is there more than once|cannot be read",
        ),
        (lambda: frame().set_axis([0] * N), {}, "looks like an index, but 19 of its values are repetitions"),
        (lambda: frame().drop(columns="label"), {}, "name the one with the classes"),
        (frame, {"size": 3}, "a data frame does not use it"),
        (lambda: frame().iloc[:5], {}, "5 examples: cannot be split 70/15/15; give at least 6"),
        (lambda: (frame(), frame().iloc[:1]), {}, "1 example: cannot be cut into a holdout and a test set"),
        (lambda: (frame(), frame(label="new")), {}, "'new' in test: are classes without a training example"),
        (lambda: (frame().drop(columns="label"), Y[:5]), {}, "20 inputs, 5 labels"),
        (lambda: (frame().drop(columns="label"), pd.Series(Y).iloc[::-1]), {}, "have another index than the inputs"),
        (lambda: X, {}, r"arrays of inputs have no labels; give \(X, y\)"),
        (lambda: frame().iloc[:0], {}, "train table of data: has no rows"),
        (lambda: (frame(), frame().iloc[:0]), {}, "test table of data: has no rows"),
        (lambda: (X, Y[:5]), {}, "20 inputs, 5 labels"),
        (lambda: (X, np.eye(2)[Y]), {}, "one-hot or multi-label"),
        (lambda: (X, Y + 0.5), {}, "regression targets"),
        (lambda: (X[:, 0], Y), {}, r"of shape \(20,\) in train: have one dimension"),
        (lambda: (X.astype(str), Y), {}, "inputs are numbers"),
        (lambda: (np.where(X > 9, np.nan, X), Y), {}, "not finite numbers"),
        (lambda: (X, [None, *Y[1:].tolist()]), {}, "of rows 0 of the training set: are missing"),
        (lambda: ((X, Y), (X, Y + 5)), {}, "are classes without a training example"),
        (lambda: ((X, Y), (X[:, :2], Y)), {}, "those of the training set are"),
        (lambda: (X[:5], Y[:5]), {}, "5 examples: cannot be split"),
        (lambda: ((X, Y), (X[:1], Y[:1])), {}, "1 example: cannot be cut"),
    ],
)
def test_what_cannot_be_used_is_refused(made: Callable[[], Any], how: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        um.load(made(), **how)


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [
        (X, Y),
        (torch.tensor(X), torch.tensor(Y)),
        (X, Y.tolist()),
        (X.tolist(), Y.tolist()),
        (X, NAMES[Y]),
        (X, NAMES[Y].astype(object)),
        (X, NAMES[Y].tolist()),
        (X, pd.Series(Y)),
        (X, Y[:, None]),
        (X.astype(np.float16), Y),
    ],
    ids=str,
)
def test_arrays_reach_the_model_as_they_are(inputs: Any, labels: Any) -> None:
    for splits in (um.load((inputs, labels)), um.load({"train": (inputs, labels), "test": (inputs, labels)})):
        for part in splits.parts.values():
            rows = [int(name.removeprefix("test-")) for name in part.ids]
            x, y = part.batch(torch.arange(len(part)))
            assert torch.equal(x, torch.as_tensor(np.asarray(inputs)).float()[rows])
            assert y.tolist() == Y[rows].tolist()


def test_bytes_are_images_from_minus_1_to_1() -> None:
    pixels = RANDOM.integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
    train = um.load((pixels, Y)).train
    x, _ = train.batch(torch.arange(len(train)))
    wanted = np.moveaxis(pixels, -1, 1)[[int(name) for name in train.ids]] / 127.5 - 1
    assert x.numpy() == pytest.approx(wanted, abs=1e-6)


def test_inputs_in_a_frame_and_labels_apart(kind: Callable[[Any], Any]) -> None:
    inputs = kind(frame().drop(columns="label"))
    check(um.load((inputs, NAMES[Y])))
    check(um.load((inputs, pd.Series(NAMES[Y]))))
    check(um.load((inputs, NAMES[Y].tolist())))
    assert [len(one) for one in um.load(((inputs, Y), (inputs, Y))).parts.values()] == [20, 10, 10]


@pytest.mark.parametrize("bare", [[-1] * N, [None] * N])
def test_unseen_arrays_without_labels_are_left_out(bare: list[Any]) -> None:
    splits = um.load(((X, Y), (X, bare)))
    assert [len(part) for part in splits.parts.values()] == [14, 3, 3]
    assert "test of data has examples without a label" in " ".join(splits.notes)


def test_a_tuple_of_lists_of_items_is_a_training_and_a_test_set() -> None:
    items = [(X[k].tolist(), int(Y[k])) for k in range(N)]
    splits = um.load((items, items))
    assert [len(part) for part in splits.parts.values()] == [20, 10, 10]
