"""What an .npz file holds beside its training set is taken or named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unmem as um
from unmem.errors import UserError


def arrays(part: str, n: int, first: int, *, ids: bool = False, x: str = "x") -> dict[str, np.ndarray]:
    """Inputs that tell their number and label."""
    numbers = np.arange(first, first + n)
    found = {f"{x}_{part}": np.stack([numbers, numbers % 3], axis=1).astype(np.float32), f"y_{part}": numbers % 3}
    return found | ({f"ids_{part}": np.array([f"i{k}" for k in numbers])} if ids else {})


def attached(part: um.Examples, *, ids: bool = False) -> bool:
    number, label = part.inputs[:].T
    named = not ids or part.ids.tolist() == [f"i{int(k)}" for k in number]
    return named and torch.equal(label.long(), part.labels)


def load(tmp_path: Path, **given: Any) -> um.Splits:
    np.savez(tmp_path / "a.npz", **given)
    return um.load(tmp_path / "a.npz")


@pytest.mark.parametrize("val", ["val", "valid", "validation", "VAL", "dev"])
@pytest.mark.parametrize("ids", [True, False])
def test_validation_arrays_are_the_holdout(tmp_path: Path, val: str, ids: bool) -> None:
    parts = [arrays(part, n, k, ids=ids) for part, n, k in (("train", 30, 0), ("test", 9, 100), (val, 6, 200))]
    splits = load(tmp_path, **parts[0], **parts[1], **parts[2])
    assert [len(part) for part in splits.parts.values()] == [30, 6, 9]
    assert all(attached(part, ids=ids) for part in splits.parts.values())
    assert splits.notes == ()


def test_arrays_that_are_not_used_are_named(tmp_path: Path) -> None:
    splits = load(tmp_path, **arrays("train", 30, 0), weights=np.ones(3), x_mean=np.ones(2))
    assert splits.notes == ("arrays of a.npz that are not used: weights, x_mean",)


def test_unlabelled_unseen_examples_are_left_out_and_training_examples_refused(tmp_path: Path) -> None:
    train, test = arrays("train", 30, 0), arrays("test", 9, 100)
    splits = load(tmp_path, **train, **test | {"y_test": np.full(9, -1)})
    assert any("test of a.npz has examples without a label" in note for note in splits.notes)
    assert all(float(part.inputs[:, 0].max()) < 30 for part in splits.parts.values())
    train["y_train"][[4, 7]] = -1
    with pytest.raises(UserError, match=r"rows 4, 7 of the training set"):
        load(tmp_path, **train, **test)


def test_a_class_that_was_never_trained_is_refused(tmp_path: Path) -> None:
    test = arrays("test", 9, 100)
    test["y_test"][0] = 5
    with pytest.raises(UserError, match=r"labels 5 in test: are classes without a training example"):
        load(tmp_path, **arrays("train", 30, 0), **test)


@pytest.mark.parametrize("more", [("val", "dev"), ("Train",)])
def test_two_names_for_one_part_are_refused(tmp_path: Path, more: tuple[str, ...]) -> None:
    given = arrays("train", 30, 0)
    for k, part in enumerate(more):
        given |= arrays(part, 9, 100 * (k + 1))
    with pytest.raises(UserError, match="are both names of a"):
        load(tmp_path, **given)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.fixed_dictionaries(
        {"train": st.integers(12, 30)},
        optional={"test": st.integers(6, 12), "val": st.integers(6, 12)},
    ),
    ids=st.lists(st.sampled_from(["train", "test", "val"]), unique=True),
    unlabelled=st.sets(st.sampled_from(["test", "val"])),
    upper=st.booleans(),
    wanted=st.sets(st.integers(0, 11), min_size=1, max_size=4),
)
def test_any_such_file_gives_the_examples_that_are_named(
    tmp_path: Path, sizes: dict[str, int], ids: list[str], unlabelled: set[str], upper: bool, wanted: set[int]
) -> None:
    given: dict[str, np.ndarray] = {}
    for part, n in sizes.items():
        given |= arrays(part, n, {"train": 0, "test": 100, "val": 200}[part], ids=part in ids, x="X" if upper else "x")
        if part in unlabelled:
            given[f"y_{part}"] = np.full(n, -1)
    splits = load(tmp_path, **given)
    names = [f"i{k}" if "train" in ids else str(k) for k in sorted(wanted)]
    there = [name for name in names if name in set(splits.train.ids)]  # the others are in the holdout or test set
    assert splits.train.take(there).inputs[:, 0].tolist() == [float(name.removeprefix("i")) for name in there]
    assert all(attached(part) for part in splits.parts.values())
    seen = sum(n for part, n in sizes.items() if part not in unlabelled)
    assert sum(map(len, splits.parts.values())) == seen
