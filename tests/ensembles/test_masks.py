"""Which member keeps which example."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import unmem as um
from unmem.ensembles import complementary_masks, fold_masks, leave_out_masks


@pytest.mark.parametrize(("n", "members", "keep"), [(53, 20, 0.7), (10, 7, 0.5), (200, 12, 0.9), (3, 40, 0.25)])
def test_each_example_is_left_out_of_the_same_number_of_members(n: int, members: int, keep: float) -> None:
    kept = leave_out_masks(n, members, keep=keep, seed=3)
    assert kept.shape == (members, n)
    assert kept.dtype == bool
    assert ((~kept).sum(0) == round((1 - keep) * members)).all()
    sizes = kept.sum(1)
    assert sizes.max() - sizes.min() <= 1


def test_a_unit_is_kept_or_left_out_as_a_whole() -> None:
    unit = [f"user {i * i % 13}" for i in range(60)]
    kept = leave_out_masks(60, 10, keep=0.7, seed=0, unit=unit)
    first = {name: unit.index(name) for name in unit}
    for i, name in enumerate(unit):
        assert (kept[:, i] == kept[:, first[name]]).all()
    assert ((~kept).sum(0) == 3).all()
    units_out = (~kept[:, list(first.values())]).sum(1)
    assert units_out.max() - units_out.min() <= 1
    assert len({tuple(kept[:, i]) for i in first.values()}) > 1


def test_units_may_be_numbers() -> None:
    kept = leave_out_masks(6, 4, keep=0.5, seed=0, unit=[7, 7, 7, 1, 1, 1])
    assert (kept[:, :3] == kept[:, :1]).all()
    assert (kept[:, 3:] == kept[:, 3:4]).all()


def test_left_out_masks_are_random_and_seeded() -> None:
    first, again, other = (leave_out_masks(80, 10, keep=0.7, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(("n", "members", "keep"), [(40, 400, 0.7), (40, 40, 0.5)])
def test_which_two_examples_are_left_out_together_is_chance(n: int, members: int, keep: float) -> None:
    out = ~leave_out_masks(n, members, keep=keep, seed=0)
    count, size = int(out.sum(0)[0]), out.sum(1).mean()
    together = (out.T.astype(float) @ out)[~np.eye(n, dtype=bool)]
    assert together.mean() == pytest.approx(members * size * (size - 1) / (n * (n - 1)))
    # Each example is out of `count` members; two of them at random share a hypergeometric number.
    deviation = np.sqrt(count * (count / members) * (1 - count / members) * (members - count) / (members - 1))
    assert together.std() < 1.15 * deviation
    assert together.min() > 0


@pytest.mark.parametrize(
    ("members", "keep", "what"), [(1, 0.7, "all"), (3, 0.9, "all"), (4, 0.05, "none"), (2, 0, "none")]
)
def test_masks_without_anything_to_compare_are_refused(members: int, keep: float, what: str) -> None:
    with pytest.raises(um.UserError, match=f"every example would be in {what} of them"):
        leave_out_masks(20, members, keep=keep, seed=0)


@pytest.mark.parametrize("n", [2, 30, 31])
def test_halves_come_with_their_complements(n: int) -> None:
    kept = complementary_masks(n, 8, seed=4)
    assert kept.shape == (8, n)
    assert (kept[0::2] == ~kept[1::2]).all()
    assert (kept.sum(0) == 4).all()
    assert set(kept.sum(1)) <= {n // 2, n - n // 2}
    assert (kept == complementary_masks(n, 8, seed=4)).all()


def test_pairs_of_halves_differ() -> None:
    kept = complementary_masks(30, 8, seed=4)
    assert len({tuple(row) for row in kept}) == 8
    assert (kept != complementary_masks(30, 8, seed=5)).any()


@pytest.mark.parametrize("members", [0, 1, 7])
def test_halves_need_an_even_number_of_members(members: int) -> None:
    with pytest.raises(um.UserError, match="halves come in pairs"):
        complementary_masks(20, members, seed=0)


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_leave_each_example_out_once_and_are_stratified(folds: int) -> None:
    labels = torch.tensor([0] * 31 + [1] * 17 + [2] * 9)[torch.randperm(57, generator=torch.Generator().manual_seed(0))]
    kept = fold_masks(labels, folds, seed=1)
    assert kept.shape == (folds, 57)
    assert ((~kept).sum(0) == 1).all()
    for within in (torch.ones(57, dtype=torch.bool), *(labels == c for c in range(3))):
        sizes = (~kept)[:, within.numpy()].sum(1)
        assert sizes.max() - sizes.min() <= 1
    assert (kept == fold_masks(labels, folds, seed=1)).all()
    assert (kept != fold_masks(labels, folds, seed=2)).any()


@pytest.mark.parametrize("folds", [0, 1, 6])
def test_impossible_folds_are_refused(folds: int) -> None:
    with pytest.raises(um.UserError, match="folds"):
        fold_masks(torch.tensor([0, 1, 0, 1, 0]), folds, seed=0)


def test_units_must_be_as_many_as_the_examples() -> None:
    with pytest.raises(um.UserError, match="unit"):
        leave_out_masks(40, 4, keep=0.7, seed=0, unit=["a", "b", "c"] * 13)
