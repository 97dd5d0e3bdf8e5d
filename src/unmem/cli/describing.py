"""Sections of `result.json` and facts of the page that commands share."""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from unmem import __version__
from unmem.cli.original import Original
from unmem.cli.session import Session
from unmem.evaluation import accuracy
from unmem.memorization import Scores
from unmem.recipe import Recipe


def described_original(session: Session, original: Original) -> dict[str, Any]:
    """The section `original`; the accuracy on a split without examples is None."""
    splits = session.data.parts.items()
    return {
        "recipe": asdict(original.recipe),
        "seconds": original.seconds,
        "accuracy": {name: accuracy(original.model, split) if len(split) else None for name, split in splits},
    } | ({} if original.fault is None else {"fault": asdict(original.fault) | {"text": original.fault.text}})


def described_score(session: Session, scores: Scores, seconds: float, original: Original) -> dict[str, Any]:
    """The entry of one score; `seconds` is what it took beyond the training of the original."""
    entry: dict[str, Any] = {"seconds": seconds, "settings": scores.settings}
    if original.seconds:
        entry["cost"] = seconds / original.seconds
    else:
        entry |= {"cost": None, "reason": "the original was not trained here, so its training time is not known"}
    if len(session.data.flipped):
        entry["auroc_flipped"] = scores.auroc(session.data.flipped)
    return entry


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
