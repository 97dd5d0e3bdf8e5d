"""`Recipe(model=function)`: functions instead of the names of networks."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import unmem as um
from unmem.errors import UserError
from unmem.models.names import source_of

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)


def linear(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    return nn.Linear(input_shape[0], n_classes)


def hidden(width: int, n_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, n_classes))


def of_width(width: int) -> Any:
    return lambda n_classes: hidden(width, n_classes)


class Net(nn.Linear):
    def __init__(self, num_classes: int) -> None:
        super().__init__(4, num_classes)


def recipe(model: Any) -> um.Recipe:
    return um.Recipe(model=model, epochs=2, batch_size=16)


MODELS = [
    linear,
    Net,
    lambda input_shape, n_classes: nn.Linear(input_shape[0], n_classes),
    partial(hidden, 8),
    of_width(5),
]


@pytest.mark.parametrize("model", MODELS, ids=["function", "class", "lambda", "partial", "closure"])
def test_a_function_trains_as_a_network(model: Any) -> None:
    data = um.load((X, Y))
    one = recipe(model)
    trained = um.train(one, data.train, seed=0)
    assert torch.equal(*(next(m.parameters()) for m in (trained, um.train(one, data.train, seed=0))))
    problem = um.Problem(trained, data, data.train.ids[:3], recipe=one)
    forgotten = um.Retrain()(problem, seed=1)
    assert [p.shape for p in forgotten.parameters()] == [p.shape for p in trained.parameters()]
    assert source_of(one.model)
    for other in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
        assert other == one
        assert source_of(other.model) == source_of(one.model)
        assert torch.equal(*(next(m.parameters()) for m in (trained, um.train(other, data.train, seed=0))))
    assert json.loads(json.dumps(asdict(one)))["model"] == one.model


def test_a_function_of_this_file_is_named_by_its_module() -> None:
    assert recipe(linear).model == "tests.models.test_own_functions:linear"
    assert recipe(recipe(linear).model).model == recipe(linear).model


def test_functions_of_other_effect_have_other_sources() -> None:
    models = [
        of_width(5),
        of_width(6),
        partial(hidden, 8),
        partial(hidden, 9),
        linear,
        lambda n_classes: nn.Linear(4, n_classes),
    ]
    assert len({source_of(recipe(model).model) for model in models}) == len(models)


def test_members_are_trained_in_other_processes() -> None:
    data = um.load((X, Y))
    masks = um.complementary_masks(len(data.train), 2, seed=0)
    found = [
        um.train_members(recipe(of_width(5)), data.train, masks, executor=how, workers=1)
        for how in ("serial", "processes")
    ]
    assert np.array_equal(*(one.train.phi for one in found))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Linear(4, 2), "model 'Linear': is no name of a network, and no function that makes one"),
        (7, "model 'int': is no name of a network"),
        (None, "model 'NoneType'"),
    ],
)
def test_what_makes_no_network_is_refused(model: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        recipe(model)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda n_classes: n_classes, "its function gave a int"),
        (lambda: nn.Linear(3, 3), "inputs|shape|fit|mat1"),
        (lambda a, b, c: a + b + c, "its function needs a, b, c"),
    ],
)
def test_functions_that_do_not_work_are_refused(model: Any, said: str) -> None:
    with pytest.raises((UserError, RuntimeError), match=said):
        um.train(recipe(model), um.load((X, Y)).train, seed=0)
