"""Batch-norm statistics are taken anew: nothing of the old ones stays."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

import unmem as um
from unmem.batchnorm import recompute_batchnorm
from unmem.data import Examples


def test_one_batch_gives_exactly_the_mean_and_variance_and_forgets_the_old() -> None:
    examples = Examples.of(np.random.default_rng(0).normal(3, 2, size=(200, 4)), np.zeros(200, dtype=int))
    layer = nn.BatchNorm1d(4)
    layer.train()
    for _ in range(5):
        layer(torch.full((8, 4), 100.0) + torch.randn(8, 4, generator=torch.Generator().manual_seed(0)))
    model = nn.Sequential(nn.Identity(), layer)
    model[0].eval()
    modes = [module.training for module in model.modules()]
    recompute_batchnorm(model, examples)
    torch.testing.assert_close(layer.running_mean, examples.inputs.mean(0))
    torch.testing.assert_close(layer.running_var, examples.inputs.var(0))
    assert [module.training for module in model.modules()] == modes


def test_statistics_are_taken_in_the_precision_of_the_recipe() -> None:
    examples = Examples.of(np.random.default_rng(0).normal(3, 2, size=(200, 4)), np.zeros(200, dtype=int))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    full, half = (copy.deepcopy(model) for _ in range(2))
    recompute_batchnorm(full, examples, recipe=um.Recipe(precision="fp32"))
    recompute_batchnorm(half, examples, recipe=um.Recipe(precision="bf16"))
    with torch.no_grad():
        exact = model[0](examples.inputs).mean(0)
        rounded = model[0].to(torch.bfloat16)(examples.inputs.bfloat16()).float().mean(0)
    torch.testing.assert_close(full[1].running_mean, exact)
    torch.testing.assert_close(half[1].running_mean, rounded, rtol=0.01, atol=0.01)
    assert not torch.equal(full[1].running_mean, half[1].running_mean)


def test_several_batches_give_the_statistics_of_all_examples() -> None:
    random = np.random.default_rng(0)
    examples = Examples.of(random.normal(3, 2, size=(1000, 4)), np.zeros(1000, dtype=int))
    model = nn.Sequential(nn.BatchNorm1d(4, momentum=0.1), nn.Dropout(0.9)).eval()
    recompute_batchnorm(model, examples, batch_size=100)
    inputs = examples.inputs
    torch.testing.assert_close(model[0].running_mean, inputs.mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model[0].running_var, inputs.var(0), rtol=0.03, atol=0.03)
    assert model[0].momentum == 0.1
    assert not model[0].training


def test_statistics_are_recomputed_by_default_and_kept_on_request() -> None:
    data = um.load("digits", limit=120)
    recipe = um.Recipe(model="small_cnn", epochs=2, batch_size=40)
    problem = um.Problem(um.train(recipe, data.train), data, data.train.ids[:20], recipe=recipe)
    kept = um.FineTune(epochs=1, batchnorm="keep")(problem, seed=0).state_dict()
    anew = um.FineTune(epochs=1)(problem, seed=0).state_dict()
    differ = {key for key in kept if not torch.equal(kept[key], anew[key])}
    assert differ
    assert all("running" in key or "num_batches" in key for key in differ)
