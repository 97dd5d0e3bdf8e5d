"""Models that are there already: found again by all that determines them, so that none is trained twice.

Retrained models stay in the run folders of `--reference retrain`. The original of a run that was stopped is in its work
folder, with what was recorded of its training, and so are the models that it had retrained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unmem import __version__, models
from unmem.cli.console import warn
from unmem.data import Examples, Splits
from unmem.errors import disk_fault
from unmem.models import Card
from unmem.models.transformers import PREFIX as TRANSFORMERS
from unmem.plainfiles import read_npz
from unmem.recipe import Recipe
from unmem.store import RunFolder, retrained_in, retrained_name, save_arrays
from unmem.training import Recorder, precision_for
from unmem.unlearning import Problem

Found = dict[int, tuple[nn.Module, float]]  # by seed: the model and the seconds that its training took
ORIGINAL, _RECORDED = "original.safetensors", "recorded.npz"  # in a work folder
_SECONDS, _WATCHED = "seconds", "watched"


def what_makes(recipe: Recipe, examples: Examples, seed: int) -> dict[str, Any]:
    """All that determines a model trained on these examples with this seed, as plain values."""
    source = models.source_of(recipe.model, recipe.base, input_shape=examples.input_shape, n_classes=examples.n_classes)
    precision = precision_for(recipe, examples.device, images=len(examples.input_shape) == 3)
    known = asdict(replace(recipe, seed=0, precision=precision))
    if str(recipe.model).startswith(TRANSFORMERS):
        known["model"] = TRANSFORMERS  # the source is of its config, wherever that is
    return {
        "recipe": known,
        "source": source,
        "seed": seed,
        "data": examples.fingerprint,
        "device": examples.device.type,
        "versions": {"unmem": __version__, "torch": str(torch.__version__)},
    }


def find(problem: Problem, seeds: Sequence[int], folders: Sequence[Path]) -> Found:
    """The retrained models for these seeds that an earlier run left in one of the folders."""
    files = [path for folder in dict.fromkeys(folders) for path in retrained_in(folder)]
    cards = {path: card for path in files if (card := models.card_of(path)) is not None and card.made is not None}
    found: Found = {}
    for seed in seeds if cards else ():
        wanted = what_makes(problem.recipe, problem.retain, seed)
        path = next((path for path, card in cards.items() if _without_seconds(card) == wanted), None)
        if path is not None:
            found[seed] = (
                _read(path, problem.recipe.model, problem.data.train),
                float((cards[path].made or {})[_SECONDS]),
            )
    return found


def save(folder: RunFolder, problem: Problem, found: Found) -> None:
    """Keep the models in a run folder, so that later runs use them and other models can be judged against the same."""
    for k, (seed, (model, seconds)) in enumerate(found.items(), 1):
        card = _card_of_retrained(problem, seed, seconds)
        folder.file(retrained_name(k), partial(models.save, model, card))


def keep_retrained(work: Path, problem: Problem, seed: int, model: nn.Module, seconds: float) -> None:
    """Keep one for a rerun, in case this run is stopped."""
    used = [int(path.stem.split("-")[1]) for path in retrained_in(work)] if work.is_dir() else []
    card = _card_of_retrained(problem, seed, seconds)
    _kept(work, retrained_name(max(used, default=0) + 1), partial(models.save, model, card))


def find_original(
    work: Path, recipe: Recipe, data: Splits, recorders: Mapping[str, Recorder]
) -> tuple[nn.Module, float] | None:
    """The original that a stopped run trained, and its seconds; the recorders are then as after its training."""
    path, recorded = work / ORIGINAL, work / _RECORDED
    card = models.card_of(path)
    wanted = what_makes(recipe, data.train, recipe.seed)
    if card is None or _without_seconds(card) != wanted | {_WATCHED: _watched(data, recorders)}:
        return None
    try:
        arrays = read_npz(recorded)
        model = _read(path, recipe.model, data.train)
        for name, one in recorders.items():
            own = {key.removeprefix(f"{name}."): value for key, value in arrays.items() if key.startswith(f"{name}.")}
            one.take_up(data.train, recipe, own)
    except (OSError, ValueError, KeyError, RuntimeError):
        return None
    return model, float((card.made or {})[_SECONDS])


def keep_original(
    work: Path, recipe: Recipe, data: Splits, recorders: Mapping[str, Recorder], model: nn.Module, seconds: float
) -> None:
    """Keep the original for a rerun, in case this run is stopped. recorders: what watched its training, by name."""
    made = what_makes(recipe, data.train, recipe.seed) | {_WATCHED: _watched(data, recorders), _SECONDS: seconds}
    card = _card(recipe, data, made)
    arrays = {f"{name}.{key}": value for name, one in recorders.items() for key, value in one.recorded_state().items()}
    if _kept(work, _RECORDED, lambda path: save_arrays(path, arrays, {})):  # first: a model that is there has them
        _kept(work, ORIGINAL, partial(models.save, model, card))


def _kept(work: Path, name: str, write: Callable[[Path], object]) -> bool:
    """Whether it could be kept; a disk that is full does not end the run here."""
    try:
        work.mkdir(parents=True, exist_ok=True)  # parents: they may have been removed while the model was trained
        write(work / name)
    except Exception as error:
        fault = disk_fault(error)
        if fault is None:
            raise
        warn(f"{name} cannot be kept for a rerun ({fault}); the run goes on")
        return False
    return True


def _watched(data: Splits, recorders: Mapping[str, Recorder]) -> dict[str, Any]:
    """What was recorded besides the model, and on which unseen examples."""
    return {"by": sorted(recorders), "unseen": data.holdout.fingerprint if len(data.holdout) else None}


def _card_of_retrained(problem: Problem, seed: int, seconds: float) -> Card:
    made = what_makes(problem.recipe, problem.retain, seed) | {_SECONDS: seconds}
    return _card(problem.recipe, problem.data, made)


def _card(recipe: Recipe, data: Splits, made: dict[str, Any]) -> Card:
    train = data.train
    return Card(recipe.model, train.input_shape, train.n_classes, train.fingerprint, made=made, classes=data.classes)


def _without_seconds(card: Card) -> dict[str, Any]:
    return {key: value for key, value in (card.made or {}).items() if key != _SECONDS}


def _read(path: Path, arch: str, train: Examples) -> nn.Module:
    shape, classes = train.input_shape, train.n_classes
    return models.load(path, arch=arch, input_shape=shape, n_classes=classes)[0].to(train.device).eval()
