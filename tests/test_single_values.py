"""Batches of one example with batch norm: the running statistics serve, and nothing ends in a traceback."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import unmem as um
from tests.helpers import point_splits, state_of
from unmem.training import single_values


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def test_a_single_value_is_normalised_by_the_running_statistics() -> None:
    model, x = network(), torch.randn(5, 4)
    model.train()
    model(x)
    before = state_of(model)
    with single_values(model):
        assert model.training
        alone = model(x[:1])
        assert model[1].training
        several = model(x)
    assert torch.equal(alone, model.eval()(x[:1])) is False  # the batch of five has moved the statistics since
    model.load_state_dict(before)
    assert torch.equal(alone, model.eval()(x[:1]))
    model.train()
    assert torch.equal(several, model(x))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model(x[:1])


@pytest.mark.parametrize("method", [um.NegGrad(), um.NegGradPlus(), um.SCRUB(), um.FineTune(), um.SalUn(), um.Matching])
@pytest.mark.parametrize("batch_size", [2, 16])
def test_one_forgotten_example_and_batch_norm(method: um.Unlearner | type, batch_size: int) -> None:
    data = point_splits(41)
    recipe = um.Recipe(model="mlp", epochs=2, batch_size=batch_size, lr=0.01)
    model = um.fit(network(), data.train, recipe, seed=0)
    problem = um.Problem(model, data, data.train.ids[:1], recipe=recipe)
    if isinstance(method, type):
        method = um.Matching(targets=um.ShortTeacher(), epochs=1)
    forgot = method(problem, seed=0)
    assert um.predict(forgot, data.test).isfinite().all()
