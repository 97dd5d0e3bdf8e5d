"""Random views against cropping and flipping by hand, one image at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import unmem as um
from unmem.augmentation import augmented, draw_views
from unmem.data import Scaling
from unmem.training import Step


def by_hand(image: Tensor, down: int, right: int, flip: int, black: float) -> Tensor:
    channels, height, width = image.shape
    rows, columns = height // 8, width // 8
    padded = torch.full((channels, height + 2 * rows, width + 2 * columns), black)
    padded[:, rows : rows + height, columns : columns + width] = image
    cut = padded[:, down : down + height, right : right + width]
    return cut.flip(2) if flip else cut


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 24), (2, 5, 5)])
def test_every_image_is_cropped_and_flipped_as_drawn(shape: tuple[int, ...]) -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.rand(40, *shape)
    draws = draw_views(40, "crop-flip", shape, random)
    assert draws[:, 0].max() == 2 * (shape[1] // 8)
    assert set(draws[:, 2].tolist()) == {0, 1}
    made = augmented(images, draws, torch.tensor(-1.0))
    for image, view, (down, right, flip) in zip(images, made, draws.tolist(), strict=True):
        torch.testing.assert_close(view, by_hand(image, down, right, flip, -1.0))


def test_crop_alone_never_flips() -> None:
    draws = draw_views(200, "crop", (1, 16, 16), torch.Generator().manual_seed(1))
    assert not draws[:, 2].any()
    assert set(draws[:, 0].tolist()) == set(range(5))


class Seen(um.Observer):
    def __init__(self) -> None:
        self.inputs: list[Tensor] = []
        self.index: list[Tensor] = []

    def on_step(self, step: Step) -> None:
        self.inputs.append(step.batch.inputs)
        self.index.append(step.batch.index)


def images(n: int = 24) -> um.Examples:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (n, 1, 8, 8)).astype(np.uint8)
    return um.Examples.of(pixels, np.arange(n) % 3, scaling=Scaling(2 / 255, -1.0))


def test_training_sees_a_new_view_in_each_epoch_by_the_seed_and_pads_with_black() -> None:
    examples = images()
    recipe = um.Recipe(epochs=2, batch_size=24, lr=1e-3, augment="crop-flip")
    first, again, other = Seen(), Seen(), Seen()
    for seed, seen in ((0, first), (0, again), (1, other)):
        um.train(recipe, examples, seed=seed, observers=[seen])
    views = [x[torch.argsort(i)] for x, i in zip(first.inputs, first.index, strict=True)]  # each in the data's order
    assert not torch.equal(views[0], views[1])
    assert torch.equal(first.inputs[0], again.inputs[0])
    assert not torch.equal(first.inputs[0], other.inputs[0])
    stored = examples.batch(torch.arange(24))[0]
    for view, image in zip(views[0], stored, strict=True):
        places = [(d, r, f) for d in range(3) for r in range(3) for f in range(2)]
        assert any(torch.allclose(view, by_hand(image, *place, -1.0)) for place in places)


def test_what_is_no_image_cannot_be_augmented() -> None:
    points = um.Examples.of(np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 2)
    with pytest.raises(um.UserError, match="augment 'crop': the inputs are no images"):
        um.train(um.Recipe(model="mlp", epochs=1, augment="crop"), points)
