"""Files of a run folder: models, scores, the trace, and what every run says of itself."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from unmem import __version__, models
from unmem.cli.original import Original
from unmem.cli.session import Session
from unmem.data import Ids
from unmem.evaluation import accuracy
from unmem.memorization import Scores
from unmem.memorization import save_scores as write_scores
from unmem.models import Card
from unmem.recipe import Recipe
from unmem.store import TRACE, RunFolder
from unmem.targets import TraceRecorder
from unmem.unlearning import Problem

SCHEMA = 1
_WITH_REQUEST = ("forget", "audit")


def save_original(session: Session, folder: RunFolder, original: Original) -> None:
    """Save the original under the keys that it came with."""
    card = _card(session, original)
    folder.file("original.safetensors", lambda path: models.save(original.model, card, path))


def save_unlearned(
    session: Session,
    folder: RunFolder,
    original: Original,
    unlearned: nn.Module,
    problem: Problem,
    about: Mapping[str, str] | None = None,
) -> None:
    """Save the unlearned model; one of transformers also as a folder like that of the original.

    about: lines of the model card in that folder.
    """
    card = session.before.after(_card(session, original), problem)
    folder.file("unlearned.safetensors", lambda path: models.save(unlearned, card, path))
    source = None if original.source is None else models.folder_of(original.source)
    if source is not None:
        lines = {**(about or {}), "unmem version": __version__}
        folder.file("unlearned", lambda path: models.save_like(source, unlearned, path, lines, card))


def _card(session: Session, original: Original) -> Card:
    data = session.data
    known = original.card or Card(original.recipe.model, data.train.input_shape, data.train.n_classes)
    return replace(known, data=known.data or data.train.fingerprint, classes=data.classes)


def save_scores(session: Session, folder: RunFolder, scores: list[Scores], forgotten: Ids | tuple[()] = ()) -> None:
    """Save the table of scores, without the forgotten examples."""
    train = session.data.train
    ids = train.ids[~np.isin(train.ids, forgotten)]
    scores = [one.only(ids) for one in scores]
    labels = train.labels.cpu().numpy()[train.positions(ids)]
    folder.file("scores.parquet", lambda path: write_scores(scores, labels, path))


def save_trace(session: Session, folder: RunFolder, recorder: TraceRecorder) -> None:
    """Save the trace of the original, if its training was recorded."""
    if recorder.recorded:
        folder.file(TRACE, replace(recorder.trace, forgotten=session.before.deleted).save)


def finish(session: Session, folder: RunFolder, result: dict[str, Any], forgotten: Ids | tuple[()] = ()) -> None:
    """Write what every run folder has: `config.yaml`, `flipped.txt` where labels were planted, `result.json`.

    forgotten: ids of the request, which no file of the run names.
    """
    data, command, settings = session.data, session.command, session.settings
    conditions = command in _WITH_REQUEST and not any(map(settings.get, ("forget", "top", "issues")))
    note = "# --where is not kept, since it says whom the request is about: give it again.\n" if conditions else ""
    folder.text("config.yaml", note + yaml.safe_dump({"command": command, **settings}, sort_keys=False))
    flipped = data.flipped[~np.isin(data.flipped, forgotten)]
    if len(flipped):
        folder.text("flipped.txt", "".join(f"{name}\n" for name in flipped))
    head = {
        "schema": SCHEMA,
        "command": command,
        "settings": settings,
        "versions": versions(),
        "data": {
            "name": data.name,
            "sizes": {"train": len(data.train), "holdout": len(data.holdout), "test": len(data.test)},
            "classes": data.train.n_classes,
            "flipped": len(data.flipped),
            "fingerprint": data.train.fingerprint,
        },
        "seconds": time.perf_counter() - session.began,
    }
    folder.json("result.json", head | result)
    if session.log:
        session.log.results(result)


def described_original(session: Session, original: Original) -> dict[str, Any]:
    """The section `original`; the accuracy on a split without examples is None."""
    splits = session.data.parts.items()
    return {
        "recipe": asdict(original.recipe),
        "seconds": original.seconds,
        "accuracy": {name: accuracy(original.model, split) if len(split) else None for name, split in splits},
    } | ({} if original.fault is None else {"fault": asdict(original.fault) | {"text": original.fault.text}})


def versions() -> dict[str, str]:
    return {"unmem": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}


def facts(session: Session, recipe: Recipe, source: Path | None = None) -> dict[str, str]:
    """How the run came about, for the page. source: the file of the original, if it was not trained here."""
    data = session.data
    threads = torch.get_num_threads()
    cpu = f"{threads} CPU thread{'s' * (threads != 1)}"
    trained = recipe.words + (f", from {recipe.base}" if recipe.base else "")
    read = "" if source is None else f"read from {source}; models trained here: "
    return {
        "data": f"{data.name}: {data.sizes}",
        "model": f"{recipe.model}, {read}{trained}",
        "seed": str(recipe.seed),
        "command": f"unmem {session.command}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "hardware": f"{platform.machine()}, {cpu}, work on {data.train.device}",
    }
