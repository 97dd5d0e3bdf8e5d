"""Fixtures around a model that fits its training set, wrong labels and all; for the tests that look at memorization."""

from __future__ import annotations

import pytest
from torch import nn

import unmem as um


@pytest.fixture(scope="session")
def recipe() -> um.Recipe:
    return um.Recipe(model="mlp", epochs=15, batch_size=32)


@pytest.fixture(scope="session")
def digits() -> um.Splits:
    """200 training digits, 20 of them with a planted wrong label."""
    return um.load("digits", limit=200, flip=0.1)


@pytest.fixture(scope="session")
def watched(digits: um.Splits, recipe: um.Recipe) -> tuple[nn.Module, um.LearningEvents]:
    """An mlp that fits `digits`, and the learning events of its training."""
    events = um.LearningEvents()
    return um.train(recipe, digits.train, observers=[events]), events


@pytest.fixture(scope="session")
def model(watched: tuple[nn.Module, um.LearningEvents]) -> nn.Module:
    return watched[0]


@pytest.fixture(scope="session")
def problem(model: nn.Module, digits: um.Splits, recipe: um.Recipe) -> um.Problem:
    return um.Problem(model, digits, digits.train.ids[:40], recipe=recipe)
