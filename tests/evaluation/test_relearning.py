"""Retain-only relearning: the hidden comes back, the unknown does not."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import unmem as um
from tests.helpers import same_state, state_of
from unmem.evaluation.relearning import relearn

RECIPE = um.Recipe(model="mlp", epochs=60, batch_size=32)


@pytest.fixture(scope="module")
def problem() -> um.Problem:
    data = um.load("digits", limit=400, flip=0.1)
    return um.Problem(um.train(RECIPE, data.train), data, data.flipped, recipe=RECIPE)


def hidden(problem: um.Problem) -> torch.nn.Module:
    """The original with its last bias moved, so that it answers something else while all knowledge is there."""
    model = copy.deepcopy(problem.model)
    with torch.no_grad():
        list(model.parameters())[-1].add_(torch.linspace(-6, 6, 10))
    return model


def test_what_was_only_hidden_comes_back_and_what_was_never_known_does_not(problem: um.Problem) -> None:
    masked = relearn(hidden(problem), problem)
    retrained = relearn(um.train(RECIPE, problem.retain, seed=5), problem)
    assert masked.before < relearn(problem.model, problem).before - 0.1
    assert masked.rise > 0.05
    assert retrained.rise < 0.03
    assert masked.rise > 3 * abs(retrained.rise)


def test_the_model_is_left_as_it_was_and_before_is_its_confidence(problem: um.Problem) -> None:
    before = state_of(problem.model)
    found = relearn(problem.model, problem)
    assert same_state(before, state_of(problem.model))
    probs = um.predict(problem.model, problem.forget).softmax(1)
    own = probs[torch.arange(len(probs)), problem.forget.labels]
    assert found.before == pytest.approx(float(np.mean(own.numpy())), rel=1e-6)
    assert found == relearn(problem.model, problem)  # seeded
