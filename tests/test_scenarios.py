"""The three uses: what is planted, and that the measures see it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import unmem as um
from unmem import scenarios
from unmem.errors import UserError

DATA = um.load("digits", limit=500)
RECIPE = um.Recipe(model="small_cnn", epochs=12)


class Constant(nn.Module):
    """Always the same class."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.row = nn.Parameter(torch.eye(10)[label])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.row.expand(len(x), -1)


def test_privacy_chooses_as_many_training_examples_as_asked_for_by_the_seed() -> None:
    made = scenarios.privacy(DATA, 30, seed=1)
    assert len(set(made.forget)) == 30
    assert np.isin(made.forget, DATA.train.ids).all()
    assert list(made.forget) == list(scenarios.privacy(DATA, 30, seed=1).forget)
    assert list(made.forget) != list(scenarios.privacy(DATA, 30, seed=2).forget)
    label = int(DATA.train.labels[0])
    share = float((DATA.train.take(made.forget).labels == label).float().mean())
    assert made.measures["accuracy on them"](Constant(label)) == pytest.approx(share)


def test_mislabelled_knows_the_planted_label_and_the_true_one() -> None:
    made = scenarios.mislabelled(DATA, 0.1, seed=0)
    assert len(made.forget) == 50
    true = DATA.train.take(made.forget).labels
    assert not torch.any(made.data.train.take(made.forget).labels == true)
    for label in range(3):
        assert made.measures["says the true label"](Constant(label)) == pytest.approx(
            float((true == label).float().mean())
        )
    untouched = np.setdiff1d(DATA.train.ids, made.forget)
    assert torch.equal(made.data.train.take(untouched).labels, DATA.train.take(untouched).labels)


def test_poisoned_images_carry_the_patch_and_the_label_and_no_other_image_does() -> None:
    made = scenarios.poisoned(DATA, 0.1, target=3, seed=0)
    before, after = DATA.train.take(made.forget), made.data.train.take(made.forget)
    assert len(before) == 50
    assert not torch.any(before.labels == 3)
    assert torch.all(after.labels == 3)
    changed = (before.inputs != after.inputs).flatten(1).sum(1)
    assert 0 < int(changed.max()) <= scenarios.PATCH**2
    assert torch.all(after.inputs[..., -4:-1, -4:-1] == DATA.train.inputs.max())
    untouched = np.setdiff1d(DATA.train.ids, made.forget)
    assert torch.equal(made.data.train.take(untouched).inputs, DATA.train.take(untouched).inputs)
    assert made.measures["attack succeeds"](Constant(3)) == 1.0
    assert made.measures["attack succeeds"](Constant(4)) == 0.0


def test_the_patch_works_on_a_poisoned_model_and_not_on_a_retrained_one() -> None:
    made = scenarios.poisoned(DATA, 0.1, seed=0)
    poisoned = um.train(RECIPE, made.data.train)
    clean = um.train(RECIPE, made.data.train.drop(made.forget))
    attack = made.measures["attack succeeds"]
    assert attack(poisoned) > 0.8
    assert attack(clean) < 0.2
    assert made.measures["test accuracy"](poisoned) > 0.85


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: scenarios.privacy(DATA, 500, seed=0), "500 training examples"),
        (lambda: scenarios.privacy(DATA, 0, seed=0), "choose fewer"),
        (lambda: scenarios.mislabelled(DATA, 0.0, seed=0), "plants no wrong label"),
        (lambda: scenarios.mislabelled(um.load("digits", flip=0.1), 0.1, seed=0), "already have planted labels"),
        (lambda: scenarios.poisoned(DATA, 0.1, target=10, seed=0), "classes are 0 to 9"),
        (lambda: scenarios.poisoned(DATA, 0.8, seed=0), "would poison 400"),
        (lambda: scenarios.poisoned(DATA, 0.0, seed=0), "would poison 0"),
    ],
)
def test_what_cannot_be_planted_is_refused(make: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()  # pyright: ignore


def test_a_patch_needs_images() -> None:
    table = um.Examples.of(np.zeros((4, 5), dtype=np.float32), [0, 1, 0, 1])
    with pytest.raises(UserError, match="a patch needs images"):
        scenarios.with_patch(table)
