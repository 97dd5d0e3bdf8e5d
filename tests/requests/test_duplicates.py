"""Copies of forget examples among the retained: planted ones are found, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import unmem as um
from unmem.requests import find_copies

DATA = um.load("digits")
FORGET = DATA.train.at(np.arange(150))
RETAIN = DATA.train.at(np.arange(150, len(DATA.train)))
TOP = int(DATA.train.inputs.max())


def planted(change: Callable[[Tensor], Tensor], *, count: int = 60, label: int = 0) -> um.Examples:
    """The retain set with changed copies of the first forget examples, under ids of their own."""
    x = change(FORGET.inputs[:count].float()).round().clamp(0, TOP).to(RETAIN.inputs.dtype)
    labels = (FORGET.labels[:count] + label) % 10
    return replace(
        RETAIN,
        inputs=torch.cat([x, RETAIN.inputs]),
        labels=torch.cat([labels, RETAIN.labels]),
        ids=np.concatenate([np.char.add("copy", FORGET.ids[:count]), RETAIN.ids]),
    )


def noise(share: float) -> Callable[[Tensor], Tensor]:
    random = torch.Generator().manual_seed(0)
    return lambda x: x + torch.randn(x.shape, generator=random) * TOP * share


def test_real_digits_hold_no_copies_and_none_are_found() -> None:
    """False alarms: none among 150 × 1,108 pairs, of which thousands are of one class."""
    raw = DATA.train.inputs.flatten(1).numpy()
    assert len(np.unique(raw, axis=0)) == len(raw)
    assert len(find_copies(FORGET, RETAIN, unseen=DATA.holdout)) == 0


def test_exact_copies_are_all_found_and_said_to_be_exact() -> None:
    found = find_copies(FORGET, planted(lambda x: x), unseen=DATA.holdout)
    assert {(one.forget_id, one.retain_id, one.kind) for one in found.pairs} == {
        (name, f"copy{name}", "exact") for name in FORGET.ids[:60].tolist()
    }
    assert all(one.distance == 0 and one.same_label for one in found.pairs)
    assert found.counts == {"forget_examples_with_copies": 60, "exact": 60, "near": 0, "with_another_label": 0}
    assert set(found.retain_ids) == {f"copy{name}" for name in FORGET.ids[:60]}


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (noise(0.01), 0.95),
        (noise(0.03), 0.9),
        (lambda x: x * 0.9, 0.95),
        (lambda x: x * 0.7 + 2, 0.9),
        (lambda x: torch.roll(x, 1, dims=-1), 0.9),
        (
            lambda x: torch.roll(x, -1, dims=-1),
            0.9,
        ),  # digits fill their images from top to bottom, not from side to side
    ],
    ids=["noise 1%", "noise 3%", "darker", "less contrast", "right", "left"],
)
def test_near_copies_are_found_and_only_they(change: Callable[[Tensor], Tensor], least: float) -> None:
    found = find_copies(FORGET, planted(change), unseen=DATA.holdout)
    true = [one for one in found.pairs if one.retain_id == f"copy{one.forget_id}"]
    assert len(true) >= least * 60
    assert len(true) == len(found)
    assert all(0 <= one.distance < 1 for one in found.pairs)


def test_a_copy_under_another_label_is_said_to_be_one() -> None:
    found = find_copies(FORGET, planted(lambda x: x, count=5, label=3), unseen=DATA.holdout)
    assert found.counts["with_another_label"] == 5


def test_one_example_may_have_several_copies_of_both_kinds() -> None:
    both = planted(lambda x: x, count=1)
    near = planted(lambda x: x * 0.9, count=1)
    retain = replace(
        both,
        inputs=torch.cat([both.inputs, near.inputs[:1]]),
        labels=torch.cat([both.labels, near.labels[:1]]),
        ids=np.concatenate([both.ids, ["another"]]),
    )
    found = find_copies(FORGET, retain, unseen=DATA.holdout)
    assert [one.kind for one in found.pairs] == ["exact", "near"]
    assert len(found.retain_ids) == 2
    assert found.counts["forget_examples_with_copies"] == 1


def test_order_changes_nothing() -> None:
    retain, random = planted(noise(0.02)), np.random.default_rng(0)
    mixed = retain.at(random.permutation(len(retain)))
    first = find_copies(FORGET, retain, unseen=DATA.holdout)
    second = find_copies(FORGET.at(random.permutation(len(FORGET))), mixed, unseen=DATA.holdout)
    assert {(a.forget_id, a.retain_id) for a in first.pairs} == {(a.forget_id, a.retain_id) for a in second.pairs}


def test_tables_are_compared_as_they_are() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 8)).astype(np.float32)
    x[200:210] = x[:10] + 1e-3
    x[210] = x[10]
    every = um.Examples.of(x, random.integers(0, 2, 300), n_classes=2)
    forget, retain, unseen = (every.at(np.arange(*ends)) for ends in ((0, 50), (200, 300), (50, 200)))
    found = find_copies(forget, retain, unseen=unseen)
    assert {(one.forget_id, one.retain_id) for one in found.pairs} == {(str(i), str(200 + i)) for i in range(11)}
    assert found.counts["exact"] == 1


def test_a_near_copy_is_within_half_the_distance_of_the_nearest_hundredth() -> None:
    """Unseen examples at 1, 2, …, 101 from the one retained example: a hundredth of them is within 2."""

    def on_a_line(places: list[float], prefix: str) -> um.Examples:
        names = [f"{prefix}{k}" for k in range(len(places))]
        return um.Examples.of(np.float32(places)[:, None], [0] * len(places), ids=names, n_classes=2)

    unseen = on_a_line([-float(k) for k in range(1, 102)], "u")
    found = find_copies(on_a_line([0.98, 1.02, -0.99, -1.01], "f"), on_a_line([0.0], "r"), unseen=unseen)
    assert {one.forget_id: one.distance for one in found.pairs} == pytest.approx({"f0": 0.98, "f2": 0.99})
