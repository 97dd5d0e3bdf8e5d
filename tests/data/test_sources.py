"""Readers on real files: scikit-learn's digits, and tiny .npz and IDX files that the tests write."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unmem as um
from unmem.data import pick_device
from unmem.data.builtin import DEBIAN_FASHION_MNIST, _idx, fashion_mnist
from unmem.data.npz import npz
from unmem.errors import UserError

RANDOM = np.random.default_rng(0)


def names(splits: um.Splits) -> list[set[str]]:
    return [set(part.ids) for part in (splits.train, splits.holdout, splits.test)]


# --- by name ---------------------------------------------------------------------------------------------------------


def test_digits_are_those_of_scikit_learn_under_their_row_numbers() -> None:
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    splits = um.load("digits")
    assert sum(len(part) for part in names(splits)) == len(set.union(*names(splits))) == 1797
    for part in (splits.train, splits.holdout, splits.test):
        rows = part.ids.astype(int)
        assert np.array_equal(part.inputs[:, 0].numpy(), bunch.images[rows])
        assert np.array_equal(part.labels.numpy(), bunch.target[rows])
    x, _ = splits.train.batch(torch.arange(len(splits.train)))
    assert (float(x.min()), float(x.max())) == (-1.0, 1.0)


def test_limit_takes_training_examples_only_and_is_drawn_by_the_seed() -> None:
    whole, first, same, other = (um.load("digits", limit=n, seed=s) for n, s in ((None, 0), (90, 1), (90, 1), (90, 2)))
    assert len(first.train) == 90
    assert torch.bincount(first.train.labels).tolist() == pytest.approx([9] * 10, abs=2)
    assert names(first) == names(same)
    assert names(first)[0] != names(other)[0]
    assert names(first)[0] < names(whole)[0]
    assert names(first)[1:] == names(other)[1:] == names(whole)[1:]


def test_flip_plants_wrong_labels_in_the_training_set() -> None:
    clean, noisy = um.load("digits", limit=100), um.load("digits", limit=100, flip=0.1)
    changed = clean.train.labels != noisy.train.labels
    assert set(clean.train.ids[changed.numpy()]) == set(noisy.flipped)
    assert len(noisy.flipped) == 10
    assert torch.equal(clean.test.labels, noisy.test.labels)


@pytest.mark.parametrize(
    ("name", "fix"),
    [("digit", "did you mean 'digits'"), ("cifar", "did you mean 'cifar10'"), ("zzz", "choose one of digits")],
)
def test_an_unknown_data_set_is_refused_with_the_known_ones(name: str, fix: str) -> None:
    with pytest.raises(UserError, match=fix) as refused:
        um.load(name)
    assert refused.value.field == "data"
    assert refused.value.value == name


@pytest.mark.parametrize("setting", [{"limit": 0}, {"limit": 5000}, {"flip": 0.7}, {"flip": -0.1}])
def test_settings_out_of_range_are_refused_by_name(setting: dict[str, Any]) -> None:
    with pytest.raises(UserError) as refused:
        um.load("digits", **setting)
    assert refused.value.field in setting


def test_a_folder_for_a_source_that_has_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"folder .*: digits does not use it; leave it out"):
        um.load("digits", folder=tmp_path)


def test_pick_device_names_what_is_there_and_refuses_the_rest() -> None:
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UserError, match="device 'abacus'"):
        pick_device("abacus")


# --- .npz ------------------------------------------------------------------------------------------------------------


def write(path: Path, n: int = 40, *, shape: tuple[int, ...] = (3,), **more: Any) -> str:
    arrays = {"x_train": RANDOM.normal(size=(n, *shape)), "y_train": np.arange(n) % 4} | more
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return str(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.npz"


def test_npz_without_a_test_set_is_split_in_three(file: Path) -> None:
    splits = um.load(write(file))
    assert splits.name == "mine.npz"
    assert [len(part) for part in names(splits)] == [28, 6, 6]
    assert set.union(*names(splits)) == {str(i) for i in range(40)}


def test_npz_with_a_test_set_keeps_the_training_set_and_halves_the_test_set(file: Path) -> None:
    test = {"x_test": RANDOM.normal(size=(10, 3)), "y_test": np.arange(10) % 4}
    splits = um.load(write(file, **test))
    assert [len(part) for part in names(splits)] == [40, 5, 5]
    assert splits.train.ids.tolist() == [str(i) for i in range(40)]
    assert names(splits)[1] | names(splits)[2] == {f"test-{i}" for i in range(10)}
    assert splits.test.inputs[:, 0].tolist() == [
        pytest.approx(test["x_test"][int(name.removeprefix("test-")), 0]) for name in splits.test.ids
    ]


def test_npz_ids_name_the_training_examples(file: Path) -> None:
    labels = np.arange(40) % 4
    splits = um.load(write(file, y_train=labels, ids_train=np.array([f"u{i}" for i in range(40)])))
    for part in (splits.train, splits.holdout, splits.test):
        assert part.labels.tolist() == [labels[int(name[1:])] for name in part.ids]


@pytest.mark.parametrize(
    ("shape", "seen"),
    [((5,), (5,)), ((6, 7), (1, 6, 7)), ((6, 7, 1), (1, 6, 7)), ((6, 7, 3), (3, 6, 7)), ((3, 6, 7), (3, 6, 7))],
    ids=["features", "H-W", "H-W-1", "H-W-3", "3-H-W"],
)
def test_npz_images_end_with_the_channel_first(file: Path, shape: tuple[int, ...], seen: tuple[int, ...]) -> None:
    x = RANDOM.integers(0, 256, size=(40, *shape), dtype=np.uint8)
    train = um.load(write(file, x_train=x)).train
    assert train.input_shape == seen
    for row, name in zip(train.inputs.numpy(), train.ids, strict=True):
        image = x[int(name)]
        expected = np.moveaxis(image, -1, 0) if shape[-1] in (1, 3) and len(shape) == 3 else image
        assert np.array_equal(row.squeeze(), expected.squeeze())


def test_npz_bytes_become_minus_one_to_one_and_other_numbers_stay(file: Path) -> None:
    pixels = np.tile(np.array([[0, 255]], dtype=np.uint8), (40, 1))
    x, _ = um.load(write(file, x_train=pixels)).train.batch(torch.tensor([0]))
    assert x.tolist() == [[-1.0, pytest.approx(1.0)]]
    x, _ = um.load(write(file, x_train=pixels.astype(np.int64))).train.batch(torch.tensor([0]))
    assert x.tolist() == [[0.0, 255.0]]


def test_npz_labels_may_be_a_column_as_in_keras(file: Path) -> None:
    flat = um.load(write(file, x_train=np.ones((40, 2)))).train
    column = um.load(write(file, x_train=np.ones((40, 2)), y_train=(np.arange(40) % 4)[:, None])).train
    assert column.fingerprint == flat.fingerprint


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int32", "uint64"])
def test_npz_labels_may_be_of_any_integer_type(file: Path, kind: str) -> None:
    assert um.load(write(file, y_train=(np.arange(40) % 4).astype(kind))).train.n_classes == 4


def test_npz_classes_of_the_test_set_alone_are_refused(file: Path) -> None:
    test = {"x_test": np.zeros((6, 3)), "y_test": np.array([0, 1, 2, 3, 4, 5])}
    with pytest.raises(UserError, match="labels 4, 5 in test: are classes without a training example"):
        um.load(write(file, **test))


def test_npz_ids_of_the_two_sets_may_not_clash(file: Path) -> None:
    more = {"ids_train": [f"test-{i}" for i in range(40)], "x_test": np.zeros((8, 3)), "y_test": np.arange(8) % 4}
    try:
        train, holdout, test = names(um.load(write(file, **more)))
    except UserError:
        return
    assert train.isdisjoint(holdout | test)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"x_train": None}, "has no x_train"),
        ({"y_train": None}, "has no y_train"),
        ({"x_train": None, "y_train": None, "x": np.zeros(3)}, r"has no x_train and no y_train \(it has x\)"),
        ({"x_test": np.zeros((4, 3))}, "has no y_test"),
        ({"y_test": np.zeros(4, dtype=int)}, "has no x_test"),
        ({"x_test": np.zeros((4, 5)), "y_test": np.arange(4)}, r"x_test \(5,\): x_train has shape \(3,\)"),
        ({"y_train": np.eye(4)[np.arange(40) % 4]}, "one-hot"),
        ({"y_train": np.linspace(0, 1, 40)}, "whole numbers"),
        ({"y_train": np.arange(40) - 1}, "start at 0"),
        ({"y_train": np.arange(39) % 4}, "40 inputs, 39 labels"),
        ({"y_train": np.array(["cat", "dog"] * 20)}, "labels|y_train"),
        ({"x_train": np.full((40, 3), np.nan)}, "not finite"),
        ({"x_train": np.array([["a"]] * 40)}, "inputs are numbers"),
        ({"ids_train": np.arange(39)}, "39 ids"),
        ({"ids_train": np.zeros(40, dtype=int)}, "more than once"),
        ({"ids_train": np.linspace(0, 1, 40)}, "is not an id"),
        ({"ids_train": np.array([str, int] * 20, dtype=object)}, "object arrays"),
    ],
)
def test_npz_that_cannot_be_used_is_refused(file: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        um.load(write(file, **more))


def test_npz_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data '.*none\.npz': no such file"):
        um.load(str(tmp_path / "none.npz"))


def test_a_pickle_is_refused_and_not_run(file: Path, tmp_path: Path) -> None:
    import pickle

    witness = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (witness,)

    file.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match=r"cannot be read as \.npz"):
        npz(file)
    np.savez(file, x_train=np.array([Evil()], dtype=object), y_train=[0])
    with pytest.raises(UserError, match=r"cannot be read as \.npz"):
        npz(file)
    assert not witness.exists()


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped byte", "not a zip", "a lone array"])
def test_npz_that_is_damaged_is_refused(file: Path, damage: str) -> None:
    raw = bytearray(Path(write(file)).read_bytes())
    if damage == "empty":
        raw = bytearray()
    elif damage == "truncated":
        raw = raw[: len(raw) // 2]
    elif damage == "flipped byte":
        raw[400] ^= 255
    elif damage == "not a zip":
        raw = bytearray(b"PK\x03\x04 and then nothing")
    file.write_bytes(raw)
    if damage == "a lone array":
        with file.open("wb") as out:
            np.save(out, np.zeros(3))
    with pytest.raises(UserError, match=r"cannot be read as \.npz") as refused:
        npz(file)
    assert str(file) in str(refused.value)


# --- IDX -------------------------------------------------------------------------------------------------------------


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole Fashion-MNIST but for the size of its images, 2×2; two files plain, two gzipped."""
    folder = tmp_path_factory.mktemp("fashion")
    for part, n in (("train", 60_000), ("t10k", 10_000)):
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = np.stack([labels, labels, np.arange(n) % 256, 255 - labels], axis=1).astype(np.uint8)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
        packed = gzip.compress(idx_bytes(images.reshape(n, 2, 2)), compresslevel=1)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(packed)
    return folder


def test_fashion_mnist_is_read_from_its_four_files(fashion: Path) -> None:
    splits = um.load("fashion-mnist", folder=fashion)
    assert [len(part) for part in names(splits)] == [60_000, 5_000, 5_000]
    assert splits.train.input_shape == (1, 2, 2)
    assert splits.train.ids[[0, -1]].tolist() == ["0", "59999"]
    for part in (splits.train, splits.holdout, splits.test):
        assert torch.equal(part.inputs[:, 0, 0, 0].long(), part.labels)
        assert part.inputs[:, 0, 1, 0].tolist() == [int(i.removeprefix("test-")) % 256 for i in part.ids]


def test_fashion_mnist_is_scaled_by_its_own_mean_and_deviation(fashion: Path) -> None:
    x, _ = fashion_mnist(fashion).train.batch(torch.tensor([255]))
    assert float(x[0, 0, 1, 0]) == pytest.approx((1 - 0.2860) / 0.3530, abs=1e-4)


def test_fashion_mnist_missing_names_the_folder_and_the_package(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        um.load("fashion-mnist", folder=tmp_path / "nowhere")
    said = str(refused.value)
    assert str(tmp_path / "nowhere") in said
    assert "dataset-fashion-mnist" in said
    assert str(DEBIAN_FASHION_MNIST) in said


def test_a_file_of_another_data_set_under_the_name_of_fashion_mnist_is_named(fashion: Path, tmp_path: Path) -> None:
    for path in fashion.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(60, np.uint8)))
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte has 60 entries, and Fashion-MNIST 10,000"):
        fashion_mnist(tmp_path)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_give_back_their_bytes(tmp_path: Path, shape: tuple[int, ...], packed: bool) -> None:
    array = RANDOM.integers(0, 256, size=shape, dtype=np.uint8)
    raw = idx_bytes(array)
    (tmp_path / ("some.gz" if packed else "some")).write_bytes(gzip.compress(raw) if packed else raw)
    assert np.array_equal(_idx(tmp_path, "some"), array)


WHOLE = idx_bytes(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("some", b""),
        ("some", WHOLE[:6]),
        ("some", WHOLE[:9]),
        ("some", WHOLE[:-1]),
        ("some", WHOLE + b"!"),
        ("some", b"\0\0\x0d" + WHOLE[3:]),
        ("some.gz", gzip.compress(WHOLE[:-1])),
        ("some.gz", gzip.compress(WHOLE)[:-6]),
        ("some.gz", b"not gzip"),
    ],
    ids=["empty", "header", "sizes", "body", "longer", "floats", "gz-body", "gz-cut", "gz-not"],
)
def test_idx_files_that_are_not_whole_are_refused(tmp_path: Path, name: str, raw: bytes) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(UserError, match="not a whole IDX file") as refused:
        _idx(tmp_path, "some")
    assert str(tmp_path / name) in str(refused.value)
