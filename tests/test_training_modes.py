"""Train mode in every epoch, whatever an observer did to the model, and dropout drawn from the seed of the run."""

from __future__ import annotations

import torch
from torch import nn

import unmem as um
from tests.helpers import points, same_state, state_of

RECIPE = um.Recipe(epochs=3, batch_size=16)


def dropout_model() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 32), nn.Dropout(0.5), nn.Linear(32, 3))
    for number, p in enumerate(model.parameters()):
        nn.init.uniform_(p, -1, 1, generator=torch.Generator().manual_seed(number))
    return model.eval()


class Modes(um.Observer):
    def __init__(self, model: nn.Module) -> None:
        self.model, self.seen = model, list[bool]()

    def on_step(self, step: object) -> None:
        self.seen.append(all(module.training for module in self.model.modules()))

    def on_epoch(self, epoch: int, model: nn.Module) -> None:
        model.eval()


def test_every_epoch_trains_in_train_mode_and_the_run_ends_in_evaluation_mode() -> None:
    model = dropout_model()
    modes = Modes(model)
    um.fit(model, points(40), RECIPE, seed=0, observers=[modes])
    assert modes.seen == [True] * 9
    assert not any(module.training for module in model.modules())


def test_dropout_is_drawn_from_the_seed_and_not_from_the_global_state() -> None:
    found = []
    for seed, outside in ((1, 5), (1, 6), (2, 5)):
        torch.manual_seed(outside)
        found.append(state_of(um.fit(dropout_model(), points(40), RECIPE, seed=seed)))
    first, same, other = found
    assert same_state(first, same)
    assert not same_state(first, other)
