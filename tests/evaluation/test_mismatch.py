"""A trained model behind each kind of mismatch: which one it is, is found and said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import unmem as um
from unmem.data import Examples, Scaling
from unmem.data.scaling import named_scalings
from unmem.evaluation import chance, find_mismatch, find_order, find_scaling

SCALINGS = named_scalings(3)


def pictures(n: int = 400, *, scaling: Scaling | None = SCALINGS["imagenet"]) -> um.Examples:
    """6×6 colour images of four classes: a bright edge at the top or at the left, reddish or bluish."""
    random = np.random.default_rng(0)
    labels = np.arange(n) % 4
    images = random.integers(60, 100, (n, 3, 6, 6))
    for image, label in zip(images, labels, strict=True):
        edge = image[:, :2, :] if label % 2 else image[:, :, :2]
        edge += 60
        image[0 if label < 2 else 2] += 60
    return um.Examples.of(images.astype(np.uint8), labels, scaling=scaling)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return um.train(um.Recipe(model="mlp", epochs=8, lr=0.05, batch_size=32), pictures())


def test_a_model_that_fits_its_data_is_above_chance(model: nn.Module) -> None:
    data = pictures()
    share, most = chance(data)
    assert share == 0.25
    assert most == pytest.approx(0.25 + 3 * (0.25 * 0.75 / 400) ** 0.5)
    assert (um.predict(model, data).argmax(1) == data.labels).float().mean() == 1


@pytest.mark.parametrize("given", ["raw", "unit"])
@pytest.mark.parametrize("stored", ["bytes", "shares of 1"])
def test_another_scaling_is_named(model: nn.Module, given: str, stored: str) -> None:
    data = pictures(scaling=SCALINGS[given])
    if stored != "bytes":
        data = replace(data, inputs=data.inputs / 255, scaling=named_scalings(3, full=1)[given])
    assert (um.predict(model, data).argmax(1) == data.labels).float().mean() < 0.6
    found = find_mismatch(model, data)
    assert found is not None
    assert (found.scaling, found.change, found.order) == ("imagenet", None, None)
    assert found.words() == "with --scaling imagenet it gets 100.0% right"
    assert found.fix() == "pass --scaling imagenet"


def test_a_scaling_that_costs_some_accuracy_is_told(model: nn.Module) -> None:
    data = pictures()
    dimmed = replace(data, scaling=SCALINGS["unit"])
    assert 0.3 < (um.predict(model, dimmed).argmax(1) == data.labels).float().mean() < 0.9
    found = find_scaling(model, dimmed)
    assert found is not None
    assert (found.scaling, found.accuracy) == ("imagenet", 1)
    assert find_scaling(model, data) is None
    assert find_scaling(model, replace(data, inputs=data.inputs.float(), scaling=None)) is None  # no images to scale


def test_reversed_channels_are_told(model: nn.Module) -> None:
    data = pictures()
    found = find_mismatch(model, replace(data, inputs=data.inputs.flip(1)))
    assert found is not None
    assert (found.scaling, found.order) == (None, None)
    assert found.words() == "with the channels in reverse order (BGR) it gets 100.0% right"


def test_swapped_axes_are_told(model: nn.Module) -> None:
    data = pictures()
    found = find_mismatch(model, replace(data, inputs=data.inputs.transpose(2, 3)))
    assert found is not None
    assert "height and width swapped" in found.words()


def test_an_order_of_labels_is_told_with_the_direction(model: nn.Module) -> None:
    data = pictures()
    # What the model calls 0, 1, 2, 3 is here 1, 2, 0, 3. Without colour or edges, no change to the images helps.
    order = torch.tensor([1, 2, 0, 3])
    found = find_mismatch(model, data.relabel(order[data.labels]))
    assert found is not None
    assert found.order == (2, 0, 1, 3)
    assert found.accuracy == 1
    assert "its class 2 is your class 0, its class 0 is your class 1, its class 1 is your class 2)" in found.words()
    assert found.fix() == "pass --classes 1,2,0,3"


def test_nothing_is_made_up_for_a_model_that_knows_nothing() -> None:
    data = pictures()
    for seed in range(5):
        untrained = um.train(um.Recipe(model="mlp", epochs=0), data, seed=seed)
        shuffled = data.labels[torch.randperm(400, generator=torch.Generator().manual_seed(seed))]
        assert find_mismatch(untrained, data.relabel(shuffled)) is None


def test_inputs_that_are_no_images_are_looked_at_for_labels_alone() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 5)).astype(np.float32)
    labels = x[:, :3].argmax(1)
    data = um.Examples.of(x, labels)
    model = um.train(um.Recipe(model="mlp", epochs=15, batch_size=16), data)
    found = find_mismatch(model, data.relabel((data.labels + 1) % 3))
    assert found is not None
    assert found.order == (2, 0, 1)
    assert found.scaling is None


def scrambled(order: list[int], *, skill: float = 1.0, seed: int = 0) -> tuple[nn.Module, Examples]:
    """A model that knows 600 points of 5 classes, but says them by other outputs; and a share of it by chance."""
    random = np.random.default_rng(seed)
    labels = np.arange(600) % 5
    known = np.where(random.random(600) < skill, labels, random.integers(0, 5, 600))
    inputs = np.eye(5, dtype=np.float32)[known]
    model = nn.Linear(5, 5, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.eye(5)[torch.argsort(torch.tensor(order))] * 5)
    return model, Examples.of(inputs, labels, n_classes=5)


@pytest.mark.parametrize(
    ("order", "skill", "found"),
    [
        ([0, 1, 2, 3, 4], 1.0, None),
        ([0, 1, 2, 4, 3], 1.0, (0, 1, 2, 4, 3)),  # two of five, 60% right
        ([1, 0, 2, 4, 3], 0.9, (1, 0, 2, 4, 3)),
        ([0, 1, 2, 3, 4], 0.5, None),  # weak, but its own order
        ([1, 2, 3, 4, 0], 0.2, None),  # knows nothing
    ],
)
def test_another_order_is_found_where_it_halves_the_errors(
    order: list[int], skill: float, found: tuple[int, ...] | None
) -> None:
    model, examples = scrambled(order, skill=skill)
    mismatch = find_order(model, examples)
    assert (None if mismatch is None else mismatch.order) == found
    if mismatch is not None:
        names = ["ash", "birch", "cedar", "elm", "fir"]
        assert f"pass --classes {','.join(names[k] for k in np.argsort(order))}" == mismatch.fix(names)
        assert "(elm)" in mismatch.words(names)
