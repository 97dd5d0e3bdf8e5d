"""PyTorch data sets and functions that return them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

import unmem as um
from tests.data.files import picture
from unmem.data import Scaling, Stream
from unmem.errors import UserError

N = 30


class Listed(Dataset[Any]):
    """A map-style data set of ready items."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, k: int) -> Any:
        return self.items[k]


def points(n: int = N, first: int = 0) -> list[tuple[torch.Tensor, int]]:
    return [(torch.tensor([float(k), -float(k)]), k % 3) for k in range(first, first + n)]


def attached(part: um.Examples) -> bool:
    k = part.inputs[:, 0] if isinstance(part.inputs, torch.Tensor) else part.inputs[:][:, 0]
    return torch.equal(part.labels, k.long() % 3) and torch.equal(part.inputs[:][:, 1], -k)


@pytest.mark.parametrize("stream", ["never", "always", "auto"])
@pytest.mark.parametrize("loaders", [0, 1])
def test_a_data_set_alone_is_split_in_three(stream: Any, loaders: int) -> None:
    splits = um.load(Listed(points()), stream=stream, loaders=loaders)
    assert sum(map(len, splits.parts.values())) == N
    assert isinstance(splits.train.inputs, Stream) == (stream == "always")
    assert all(attached(part) for part in splits.parts.values())
    assert splits.train.ids.tolist() == [str(int(k)) for k in splits.train.inputs[:][:, 0]]
    assert splits.train.scaling == Scaling()


@pytest.mark.parametrize(
    "form",
    [
        lambda train, test, _: (train, test),
        lambda train, test, _: {"train": train, "test": test},
        lambda train, test, holdout: {"train": train, "test": test, "holdout": holdout},
        lambda train, test, holdout: {"train": train, "test": test, "val": holdout},
    ],
)
def test_parts_may_be_given(form: Any) -> None:
    found = form(*(Listed(points(n, first)) for n, first in ((N, 0), (12, 100), (9, 300))))
    splits = um.load(found, loaders=0)
    assert len(splits.train) == N
    assert [len(splits.holdout), len(splits.test)] == ([9, 12] if len(found) == 3 else [6, 6])
    assert all(attached(part) for part in splits.parts.values())
    assert all(name.startswith("test-") for name in splits.test.ids)


@pytest.mark.parametrize(
    "item",
    [
        lambda k: (np.array([k, -k], dtype=np.float32), np.int64(k % 3), f"u{k}"),
        lambda k: {"input": [float(k), -float(k)], "label": torch.tensor(k % 3), "id": f"u{k}"},
        lambda k: {"pixel_values": torch.tensor([k, -k]).float(), "labels": k % 3, "id": np.str_(f"u{k}")},
        lambda k: {"x": torch.tensor([k, -k]).double(), "y": k % 3, "id": f"u{k}"},
    ],
)
def test_items_may_have_several_forms(item: Any) -> None:
    splits = um.load(Listed([item(k) for k in range(N)]), loaders=0)
    assert splits.train.inputs.dtype == torch.float32
    assert all(attached(part) for part in splits.parts.values())
    assert splits.train.ids.tolist() == [f"u{int(k)}" for k in splits.train.inputs[:, 0]]


def test_names_of_classes_are_taken_where_there_are_some() -> None:
    assert um.load(Listed([(x, ("cat", "dog", "eel")[y]) for x, y in points()]), loaders=0).classes == (
        *("cat", "dog", "eel"),
    )
    named = Listed(points())
    named.classes = ["cat", "dog", "eel", "fox"]  # pyright: ignore
    splits = um.load(named, loaders=0)
    assert splits.classes == ("cat", "dog", "eel", "fox")
    assert splits.train.n_classes == 4


@pytest.mark.parametrize("stream", ["never", "always"])
def test_pillow_images_are_brought_to_one_form(stream: Any) -> None:
    items = [(Image.fromarray(picture(k % 3, k)), k % 3) for k in range(N)]
    splits = um.load(Listed(items), stream=stream, loaders=0)
    for x, name in zip(splits.train.inputs[:], splits.train.ids, strict=True):
        assert np.array_equal(np.moveaxis(x.numpy(), 0, -1), picture(int(name) % 3, int(name)))
    assert splits.train.scaling == Scaling(2 / 255, -1.0)
    assert um.load(Listed(items), size="4x5", grey=True, loaders=0).train.input_shape == (1, 4, 5)


def test_rows_of_whole_numbers_are_token_ids() -> None:
    splits = um.load(Listed([([k, 3, 0], k % 3) for k in range(N)]), loaders=0)
    assert splits.train.scaling is None
    assert splits.train.batch(torch.arange(2))[0].dtype == torch.int64


def test_tensors_of_pytorch_are_a_data_set() -> None:
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (N, 8, 8), dtype=np.uint8))
    splits = um.load(TensorDataset(x, torch.arange(N) % 3), loaders=0)
    assert splits.train.input_shape == (1, 8, 8)
    assert torch.equal(splits.train.inputs[:, 0], x[splits.train.ids.astype(int)])


def test_examples_may_be_given_as_parts() -> None:
    made = um.Examples.of(np.zeros((N, 2)), np.arange(N) % 3)
    assert len(um.load(made).train) == 21
    other = um.Examples.of(np.zeros((9, 2)), np.arange(9) % 3, ids=[f"t{k}" for k in range(9)])
    assert len(um.Splits.of("mine", made, test=other).train) == N
    with pytest.raises(UserError, match="ids '0': is in train and in test"):
        um.load((made, made))


def test_random_transforms_are_noticed() -> None:
    class Noisy(Listed):
        def __getitem__(self, k: int) -> Any:
            x, y = self.items[k]
            return x + torch.rand(2), y

    assert any("another input each time" in note for note in um.load(Noisy(points()), loaders=0).notes)
    assert um.load(Listed(points()), loaders=0).notes == ()


def bad(k: int, **changed: Any) -> Any:
    x, y = points()[k]
    return (changed.get("x", x), changed.get("y", y), *changed.get("rest", ()))


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([bad(k, y=[0, 1, 0]) for k in range(N)], "one-hot or multi-label"),
        ([bad(k, y=torch.eye(3)[k % 3]) for k in range(N)], "one-hot or multi-label"),
        ([bad(k, y=0.5 * k) for k in range(N)], "regression targets"),
        (
            [bad(k, y=k % 3 - 1) for k in range(N)],
            r"labels of rows 0, 3.* of the training set: are missing .*class indices start at 0",
        ),
        ([bad(k, y=1) for k in range(N)], "is the only class"),
        ([bad(k, rest=("same",)) for k in range(N)], "the id is there more than once"),
        ([bad(k, rest=(0.5 * k,)) for k in range(N)], "float is not an id"),
        ([*points(N - 1), (torch.zeros(3), 0)], r"inputs of id '29': of shape \(3,\).*the first one is \(2,\)"),
        ([*points(N - 1), (torch.zeros(2).double(), 0)], "inputs of id '29'"),
        ([*points(N - 1), (torch.tensor([float("nan"), 0.0]), 0)], "inputs of id '29': not finite numbers"),
        ([torch.zeros(2)] * N, "is no item with a label"),
        ([{"label": 1}] * N, r"items have no input \(they have label\)"),
        ([*points(N - 1), (None, 0)], "data '29': cannot be read"),
        ([(Image.new("RGB", (4, 4 + (k == 5))), k % 3) for k in range(N)], "data '5': is 5x4, the first one 4x4"),
        ([(Image.new("RGB" if k == 5 else "L", (4, 4)), k % 3) for k in range(N)], "data '5': is a colour image"),
        ([], "train has no examples"),
    ],
)
@pytest.mark.parametrize("loaders", [0])
def test_items_that_cannot_be_used_are_refused(items: list[Any], said: str, loaders: int) -> None:
    with pytest.raises(UserError, match=said):
        um.load(Listed(items), loaders=loaders)


def test_data_sets_without_numbers_are_refused() -> None:
    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield from points()

    with pytest.raises(UserError, match="give a map-style"):
        um.load(Endless())


# --- by the name of a function ---------------------------------------------------------------------------------------

CODE = """
import torch
from torch.utils.data import TensorDataset

def made(n=30, first=0):
    k = torch.arange(first, first + n)
    return TensorDataset(torch.stack([k, -k], 1).float(), k % 3)

def both():
    return made(), made(12, 100)

def by_split(split):
    return made() if split == "train" else made(12, 100)

def fails():
    raise RuntimeError("no such disk")

number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_own_data.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "my_own_data.py"


@pytest.mark.parametrize("where", ["file", "module"])
def test_a_function_is_called_for_the_data(module: Path, where: str) -> None:
    source = str(module) if where == "file" else "my_own_data"
    alone, both, split = (um.load(f"{source}:{name}", loaders=0) for name in ("made", "both", "by_split"))
    assert (alone.name, both.name) == ("made", "both")
    assert (len(alone.train), len(both.train), len(split.train)) == (21, 30, 30)
    assert all(attached(part) for splits in (alone, both, split) for part in splits.parts.values())
    assert both.test.ids.tolist() == split.test.ids.tolist()


def test_a_file_that_was_changed_is_read_anew(module: Path) -> None:
    before = um.load(f"{module}:made", loaders=0)
    module.write_text(CODE.replace("n=30", "n=60"))
    after = um.load(f"{module}:made", loaders=0)
    assert (len(before.train), len(after.train)) == (21, 42)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my_own_data:fails", r"failed \(RuntimeError: no such disk\)"),
        ("my_own_data:nothing", "has no function nothing"),
        ("my_own_data:number", "has no function number"),
        ("no_such_module_here:made", "no_such_module_here cannot be imported"),
        ("nowhere.py:made", "nowhere.py cannot be imported"),
    ],
)
@pytest.mark.usefixtures("module")
def test_functions_that_give_no_data_are_refused(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        um.load(name)
    assert refused.value.field == "data"


@pytest.mark.parametrize("stream", ["never", "always"])
@pytest.mark.parametrize("missing", [-1, None])
def test_a_part_without_labels_is_left_out_and_training_items_are_named(missing: int | None, stream: Any) -> None:
    bare = [(x, missing) for x, _ in points(12, 100)]
    splits = um.load({"train": Listed(points()), "test": Listed(bare)}, stream=stream, loaders=0)
    assert sum(map(len, splits.parts.values())) == N
    assert any("test of data has examples without a label" in note for note in splits.notes)
    items: list[Any] = points()
    items[4] = (items[4][0], missing)
    with pytest.raises(UserError, match="rows 4 of the training set"):
        um.load(Listed(items), stream=stream, loaders=0)


def test_the_first_item_that_fails_is_named() -> None:
    class Broken(Listed):
        def __getitem__(self, k: int) -> Any:
            raise OSError("disk")

    with pytest.raises(UserError, match=r"data '0': cannot be read \(OSError: disk\)"):
        um.load(Broken(points()), loaders=0)
