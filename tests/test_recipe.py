"""The recipe: learning rates in closed form, and values that make no training are refused."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from unmem.errors import UserError
from unmem.recipe import Recipe


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.25, 0.5, 0.75, 1.0])
def test_schedules_are_their_formulas(progress: float) -> None:
    def at(schedule: Any) -> float:
        return Recipe(lr=0.3, schedule=schedule).lr_at(progress)

    assert at("constant") == 0.3
    assert at("linear") == pytest.approx(0.3 * (1 - progress))
    assert at("cosine") == pytest.approx(0.3 * math.cos(math.pi * progress / 2) ** 2)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_falling_schedules_start_at_the_peak_and_end_at_zero(schedule: Any) -> None:
    rates = [Recipe(lr=0.2, schedule=schedule).lr_at(i / 10) for i in range(11)]
    assert rates[0] == 0.2
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", -1),
        ("epochs", math.nan),
        ("batch_size", 1),
        ("batch_size", 0),
        ("momentum", -0.1),
        ("momentum", math.nan),
        ("weight_decay", -1e-4),
        ("label_smoothing", -0.1),
        ("label_smoothing", 1.0),
        ("label_smoothing", math.nan),
        ("lr", 0.0),
        ("lr", -0.1),
        ("lr", math.nan),
        ("lr", math.inf),
        ("schedule", "cosin"),
        ("precision", "fp16"),
        ("augment", "flip"),
        ("compile", "yes"),
    ],
)
def test_values_that_make_no_training_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(UserError) as refused:
        Recipe(**{field: value})
    assert refused.value.field == field
    assert str(value) in str(refused.value)


def test_label_smoothing_is_named_only_where_there_is_some() -> None:
    assert Recipe(epochs=3, lr=0.2, batch_size=64).words == "3 epochs of SGD, lr 0.2, batch size 64"
    assert Recipe(label_smoothing=0.1).words.endswith(", label smoothing 0.1")


def test_a_recipe_is_a_value() -> None:
    assert Recipe(lr=0.05) == Recipe(lr=0.05)
    assert len({Recipe(), Recipe(), Recipe(seed=1)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().lr = 1.0


@pytest.mark.parametrize(("epochs", "said"), [(0, "0 epochs"), (1, "1 epoch"), (30, "30 epochs")])
def test_how_long_it_trains_is_said_in_words(epochs: int, said: str) -> None:
    recipe = Recipe(epochs=epochs)
    assert recipe.passes == said
    assert recipe.words.startswith(f"{said} of SGD")
