"""Splits are stratified, disjoint, complete, seeded, and do not depend on the order of the rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import unmem as um
from tests.helpers import point_splits, shuffled
from unmem.data import Examples, stratified_sample, stratified_split
from unmem.errors import UserError

SHARES = (0.7, 0.2, 0.1)


@pytest.fixture(scope="module")
def lopsided() -> Examples:
    """Three classes of 600, 60 and 30, sorted by class; each input is the number in the id."""
    labels = np.repeat([0, 1, 2], [600, 60, 30])
    return Examples.of(np.arange(690, dtype=np.float32)[:, None], labels)


def test_split_is_disjoint_and_complete(lopsided: Examples) -> None:
    parts = stratified_split(lopsided, SHARES, seed=3)
    together = [name for part in parts for name in part.ids]
    assert len(together) == len(set(together)) == 690
    assert [len(part) for part in parts] == [483, 138, 69]


def test_split_keeps_ids_attached(lopsided: Examples) -> None:
    for part in stratified_split(lopsided, SHARES, seed=3):
        whole = lopsided.take(part.ids)
        assert part.inputs[:, 0].tolist() == [float(name) for name in part.ids]
        assert torch.equal(part.labels, whole.labels)


@pytest.mark.parametrize("seed", range(5))
def test_each_part_has_the_class_proportions_of_the_whole(lopsided: Examples, seed: int) -> None:
    for part, share in zip(stratified_split(lopsided, SHARES, seed=seed), SHARES, strict=True):
        counts = torch.bincount(part.labels, minlength=3).numpy()
        assert np.abs(counts - share * np.array([600, 60, 30])).max() < 2


@pytest.mark.parametrize("seed", range(5))
def test_each_sample_has_the_class_proportions_of_the_whole(lopsided: Examples, seed: int) -> None:
    sample = stratified_sample(lopsided, 69, seed=seed)
    assert len(sample) == 69
    assert np.abs(torch.bincount(sample.labels, minlength=3).numpy() - [60, 6, 3]).max() < 2


def test_a_sample_of_few_has_every_class() -> None:
    balanced = Examples.of(np.zeros((50, 1)), np.repeat(np.arange(5), 10))
    for seed in range(10):
        assert torch.bincount(stratified_sample(balanced, 5, seed=seed).labels).tolist() == [1] * 5


def test_classes_of_one_example_have_each_place_equally_often() -> None:
    """Each place of a sample is drawn, not given by the number of a class: 10 classes, of which 3 are taken."""
    alone = Examples.of(np.zeros((10, 1)), np.arange(10))
    taken = np.zeros(10)
    for seed in range(1000):
        taken[stratified_sample(alone, 3, seed=seed).labels.numpy()] += 1
    assert np.abs(taken - 300).max() < 4.5 * np.sqrt(1000 * 0.3 * 0.7)


def test_split_does_not_depend_on_the_order_of_rows(lopsided: Examples) -> None:
    first = stratified_split(lopsided, SHARES, seed=1)
    second = stratified_split(shuffled(lopsided), SHARES, seed=1)
    assert [set(part.ids) for part in first] == [set(part.ids) for part in second]


def test_sample_does_not_depend_on_the_order_of_rows(lopsided: Examples) -> None:
    first, second = (stratified_sample(e, 50, seed=1) for e in (lopsided, shuffled(lopsided)))
    assert set(first.ids) == set(second.ids)


def test_split_is_drawn_by_its_seed(lopsided: Examples) -> None:
    again, same, other = (stratified_split(lopsided, SHARES, seed=seed)[2] for seed in (1, 1, 2))
    assert again.fingerprint == same.fingerprint
    assert set(again.ids) != set(other.ids)


@pytest.mark.parametrize("shares", [(0.5, 0.4), (1.2, -0.2), (1.0, 0.0)])
def test_shares_that_make_no_split_are_refused(lopsided: Examples, shares: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="sum to 1"):
        stratified_split(lopsided, shares, seed=0)


@pytest.mark.parametrize("n", [0, -1, 691])
def test_a_sample_of_an_impossible_size_is_refused(lopsided: Examples, n: int) -> None:
    with pytest.raises(UserError, match=f"limit {n}: there are 690"):
        stratified_sample(lopsided, n, seed=0)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_flips_change_exactly_the_share_and_always_to_another_class(share: float) -> None:
    clean = point_splits(200)
    noisy = um.flip_labels(clean, share, seed=0)
    changed = noisy.train.labels != clean.train.labels
    assert int(changed.sum()) == len(noisy.flipped) == round(share * 200)
    assert set(noisy.flipped) == set(clean.train.ids[changed.numpy()])
    assert int(noisy.train.labels.min()) >= 0
    assert int(noisy.train.labels.max()) < 3


def test_flips_reach_every_other_class() -> None:
    clean = point_splits(600, classes=4)
    noisy = um.flip_labels(clean, 0.5, seed=0)
    before, after = (s.train.take(noisy.flipped).labels for s in (clean, noisy))
    moves = torch.bincount((after - before) % 4, minlength=4).tolist()
    assert moves[0] == 0
    assert all(70 < count < 130 for count in moves[1:])


def test_flips_touch_nothing_but_training_labels() -> None:
    clean = point_splits()
    before = [part.labels.clone() for part in (clean.train, clean.holdout, clean.test)]
    noisy = um.flip_labels(clean, 0.2, seed=0)
    assert torch.equal(noisy.train.inputs, clean.train.inputs)
    assert noisy.train.ids.tolist() == clean.train.ids.tolist()
    assert noisy.holdout is clean.holdout
    assert noisy.test is clean.test
    assert [part.labels.tolist() for part in (clean.train, clean.holdout, clean.test)] == [y.tolist() for y in before]


def test_flips_are_drawn_by_their_seed() -> None:
    clean = point_splits()
    again, same, other = (um.flip_labels(clean, 0.2, seed=seed) for seed in (1, 1, 2))
    assert again.train.fingerprint == same.train.fingerprint
    assert set(again.flipped) != set(other.flipped)


@pytest.mark.parametrize("share", [-0.1, 0.6, float("nan")])
def test_an_impossible_share_of_flips_is_refused(share: float) -> None:
    with pytest.raises(UserError, match=r"flip .*between 0 and 0\.5"):
        um.flip_labels(point_splits(), share, seed=0)
