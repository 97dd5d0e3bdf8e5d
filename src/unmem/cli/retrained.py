"""Retrained models that are there already: found again by all that determines them, so that none is trained twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unmem import __version__, models
from unmem.models import Card
from unmem.models.transformers import PREFIX as TRANSFORMERS
from unmem.store import RunFolder, retrained_in, retrained_name
from unmem.training import precision_for
from unmem.unlearning import Problem

Found = dict[int, tuple[nn.Module, float]]  # by seed: the model and the seconds that its training took
_SECONDS = "seconds"


def what_makes(problem: Problem, seed: int) -> dict[str, Any]:
    """All that determines the model retrained for a request with this seed, as plain values."""
    recipe, retain = problem.recipe, problem.retain
    source = models.source_of(recipe.model, recipe.base, input_shape=retain.input_shape, n_classes=retain.n_classes)
    precision = precision_for(recipe, retain.device, images=len(retain.input_shape) == 3)
    known = asdict(replace(recipe, seed=0, precision=precision))
    if str(recipe.model).startswith(TRANSFORMERS):
        known["model"] = TRANSFORMERS  # the source is of its config, wherever that lies
    return {
        "recipe": known,
        "source": source,
        "seed": seed,
        "data": retain.fingerprint,
        "device": retain.device.type,
        "versions": {"unmem": __version__, "torch": str(torch.__version__)},
    }


def find(problem: Problem, seeds: Sequence[int], folders: Sequence[Path]) -> Found:
    """The models for these seeds that an earlier run left in one of the folders."""
    files = [path for folder in dict.fromkeys(folders) for path in retrained_in(folder)]
    cards = {path: card for path in files if (card := models.card_of(path)) is not None and card.made is not None}
    found: Found = {}
    for seed in seeds if cards else ():
        wanted = what_makes(problem, seed)
        path = next((path for path, card in cards.items() if _without_seconds(card) == wanted), None)
        if path is not None:
            found[seed] = _read(path, problem), float((cards[path].made or {})[_SECONDS])
    return found


def save(folder: RunFolder, problem: Problem, found: Found) -> None:
    """Keep the models in a run folder, so that later runs use them and other models can be judged against the same."""
    train = problem.data.train
    classes = problem.data.classes
    card = Card(problem.recipe.model, train.input_shape, train.n_classes, train.fingerprint, classes=classes)
    for k, (seed, (model, seconds)) in enumerate(found.items(), 1):
        made = what_makes(problem, seed) | {_SECONDS: seconds}
        folder.file(retrained_name(k), partial(models.save, model, replace(card, made=made)))


def _without_seconds(card: Card) -> dict[str, Any]:
    return {key: value for key, value in (card.made or {}).items() if key != _SECONDS}


def _read(path: Path, problem: Problem) -> nn.Module:
    train = problem.data.train
    arch, shape, classes = problem.recipe.model, train.input_shape, train.n_classes
    return models.load(path, arch=arch, input_shape=shape, n_classes=classes)[0].to(train.device).eval()
