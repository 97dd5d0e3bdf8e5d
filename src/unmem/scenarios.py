"""Three use cases of unlearning as ready experiments. The data are modified, so that the correct result is known.

- privacy: deletion requests for random examples. The model should treat them like unseen examples.
- mislabelled: some labels are wrong. They should be forgotten, and test accuracy should recover.
- poisoned: some training images have a patch and the attacker's label (Gu et al. 2017, arXiv 1708.06733). The patch
  should have no effect after unlearning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from unmem.data import Examples, Ids, Positions, Splits, flip_labels
from unmem.errors import UserError, whole_number
from unmem.evaluation import accuracy
from unmem.predictions import accuracy_of
from unmem.training import predict

Measure = Callable[[nn.Module], float]
PATCH = 3  # pixels on a side, at the lower right


@dataclass(frozen=True, eq=False)
class Scenario:
    """A use case with modified data.

    Attributes:
        name: Name of the use case.
        data: Data on which the original is trained.
        forget: Ids to forget.
        measures: Functions by name that return a number in [0, 1] for a model. They show whether the purpose is
            achieved, compared with the original and with retrained models.
        explained: Description for reports.
    """

    name: str
    data: Splits
    forget: Ids
    measures: dict[str, Measure]
    explained: str

    def __repr__(self) -> str:
        return f"Scenario({self.name!r}, {self.data.name!r}, forget {len(self.forget):,} examples)"


def privacy(data: Splits, count: int, *, seed: int) -> Scenario:
    """Request the deletion of `count` random training examples."""
    whole_number("count", count)
    if not 1 <= count < len(data.train):
        raise UserError("count", count, f"there are {len(data.train):,} training examples", "choose fewer than that")
    chosen = np.random.default_rng(seed).choice(data.train.ids, count, replace=False)
    forget = data.train.take(chosen)
    measures: dict[str, Measure] = {"accuracy on them": lambda model: accuracy(model, forget)}
    measures |= _utility(data)
    return Scenario("privacy", data, chosen, measures, f"{count:,} random training examples must be forgotten.")


def mislabelled(data: Splits, share: float, *, seed: int) -> Scenario:
    """Replace a share of the training labels by wrong labels, and request to forget these examples."""
    if len(data.flipped):
        raise UserError("flip", None, "these data already have planted labels", "load them without")
    planted = flip_labels(data, share, seed=seed)
    if len(planted.flipped) == 0:
        raise UserError("share", share, "plants no wrong label", "give a larger one")
    wrong, true = planted.train.take(planted.flipped), data.train.take(planted.flipped)
    measures: dict[str, Measure] = {
        "says the planted label": lambda model: accuracy(model, wrong),
        "says the true label": lambda model: accuracy(model, true),
    }
    words = f"{len(wrong):,} training examples ({share:.1%}) have wrong labels and must be forgotten."
    return Scenario("mislabelled", planted, planted.flipped, measures | _utility(planted), words)


def poisoned(data: Splits, share: float, *, target: int = 0, seed: int) -> Scenario:
    """Add a patch and the label `target` to a share of the training images from all other classes."""
    train = data.train
    whole_number("target", target)
    if not 0 <= target < train.n_classes:
        raise UserError("target", target, f"classes are 0 to {train.n_classes - 1}", "name one of them")
    others = np.flatnonzero(train.labels.cpu().numpy() != target)
    count = round(share * len(train))
    if not 1 <= count <= len(others) / 2:
        raise UserError("share", share, f"would poison {count:,} of {len(others):,} images", "give one such as 0.03")
    chosen = np.sort(np.random.default_rng(seed).choice(others, count, replace=False))
    labels = train.labels.clone()
    labels[torch.as_tensor(chosen, device=train.device)] = target
    planted = replace(data, train=with_patch(train, chosen).relabel(labels))
    victims = with_patch(data.test.at(data.test.labels.cpu().numpy() != target))
    measures: dict[str, Measure] = {"attack succeeds": lambda model: _share_classified_as(model, victims, target)}
    words = f"{count:,} training images ({share:.1%}) have a patch and the label {target} and must be forgotten."
    return Scenario("poisoned", planted, train.ids[chosen], measures | _utility(planted), words)


def with_patch(examples: Examples, rows: Positions | None = None, *, size: int = PATCH) -> Examples:
    """Return the images with a bright square at the lower right, in all rows or in the given ones."""
    if len(examples.input_shape) != 3 or min(examples.input_shape[1:]) <= 2 * size:
        raise UserError("data", examples.input_shape, "a patch needs images", "use image data")
    patched = partial(_patched, size=size, brightness=examples.inputs.max().item())
    chosen: Positions = np.arange(len(examples)) if rows is None else rows
    if not isinstance(examples.inputs, Tensor):
        return examples.with_inputs(examples.inputs.changed(patched, chosen))
    inputs = examples.inputs.clone()
    index = torch.as_tensor(chosen, device=examples.device)
    inputs[index] = patched(inputs[index])
    return examples.with_inputs(inputs)


def _patched(images: Tensor, *, size: int, brightness: float) -> Tensor:
    new = images.clone()
    new[..., -size - 1 : -1, -size - 1 : -1] = brightness
    return new


def _utility(data: Splits) -> dict[str, Measure]:
    return {"test accuracy": lambda model: accuracy(model, data.test)}


def _share_classified_as(model: nn.Module, examples: Examples, label: int) -> float:
    return accuracy_of(predict(model, examples), torch.full_like(examples.labels, label))
