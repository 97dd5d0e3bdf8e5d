"""What is wrong with options by themselves: said at once, before PyTorch is loaded, which takes seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from unmem.cli.options import OutputOptions, SelectOptions
from unmem.counted import counted
from unmem.errors import UserError, nearest
from unmem.store import RunFolder

# By name, in the order in which messages list them; tests hold them against the classes and functions themselves.
METHOD_NAMES = (
    *("nothing", "retrain", "fine-tune", "l1-sparse", "neggrad", "neggrad+", "scrub", "random-label", "salun"),
    *("influence", "bad-teacher", "ssd", "matching", "rum", "auto"),
)
SCORE_NAMES = (
    *("confidence", "max-confidence", "entropy", "accuracy", "el2n", "aum", "loss", "forgetting", "late-gain"),
    *("late-fit", "holdout", "curvature", "crossfit", "crossfit-gap", "crossfit-fit", "ensemble", "feldman"),
    "feldman-confidence",
)
_REQUESTS = {"forget": "FILE", "top": "SCORE:N", "where": "COLUMN=VALUE", "issues": "FILE"}
# Options that name a file or folder to read, and what to do where there is none.
_CHECK = "check the path"
_READ = {
    **dict.fromkeys(("forget", "unseen", "model", "original", "scores"), _CHECK),
    "crossfit": "make one with unmem prepare",
    "trace": "record one with unmem train",
}
# Options that name a file of a run, and that file's name in the run folder.
_IN_RUN = {"scores": "scores.parquet", "crossfit": "crossfit.npz", "trace": "trace.npz"}
# Numbers whose wrong values nothing else would name, or only after much work.
_AT_LEAST = {"workers": 1, "max_drop": 0, "budget": 0}
_SUFFIXES = (".npz", ".csv", ".tsv", ".parquet")


def check_early(output: OutputOptions, *options: Any) -> None:
    """Refuse files that are not there, numbers that are none, a run folder that is taken, and a request that says
    nothing or too much."""
    for one in options:
        for field in fields(one):
            _check_file(field.name, getattr(one, field.name))
            _check_number(field.name, getattr(one, field.name))
        if isinstance(one, SelectOptions) and kind_of_request(one) == "top":
            parse_top(getattr(one, "top"))  # noqa: B009 (only some commands have it)
    RunFolder(output.out, force=output.force).check()


def _check_file(name: str, value: object) -> None:
    if name in _READ and isinstance(value, Path) and str(value) != "-" and not value.exists():
        raise UserError(f"--{name}", str(value), "no such file", _READ[name])
    if name in _IN_RUN and isinstance(value, Path) and value.is_dir():
        inside = value / _IN_RUN[name]
        raise UserError(
            f"--{name}", str(value), "a folder, not a file", f"give {inside}" if inside.exists() else _READ[name]
        )
    if name == "data" and isinstance(value, str) and value.endswith(_SUFFIXES) and not Path(value).exists():
        raise UserError("data", value, "no such file", _CHECK)


def _check_number(name: str, value: object) -> None:
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(option, value, "must be a finite number", "correct it, or leave it out")
    least = _AT_LEAST.get(name)
    if least is not None and isinstance(value, int | float) and value < least:
        raise UserError(option, value, f"must be {least} or more", "correct it, or leave it out")


def check_used(request: Any) -> None:
    """Refuse options of `unmem forget` that the chosen method does not use, instead of ignoring them.

    Every method uses --crossfit, --trace and --members, from which the forgotten examples are deleted, and --scores,
    which is listed among the files that still hold them.
    """
    rum = request.method == "rum" or (request.method == "auto" and bool(request.steps or request.score))
    with_targets = rum or request.method in ("auto", "matching") or request.tune
    unused = (
        ("steps", request.steps, rum, "pass --method rum"),
        ("score", request.score, rum, "pass --method rum"),
        ("targets", None if request.targets == "auto" else request.targets, with_targets, "pass --method matching"),
    )
    for name, value, used, instead in unused:
        if value is not None and not used:
            problem = f"--method {request.method} does not use it"
            raise UserError(f"--{name}", str(value), problem, f"leave it out, or {instead}")
    if request.budget is not None and not request.tune:
        raise UserError(
            "--budget", request.budget, "it limits --tune, which is not given", "leave it out, or pass --tune"
        )


def check_methods(names: Iterable[str], field: str = "--method") -> None:
    """Refuse names of methods that do not exist."""
    for name in names:
        if name not in METHOD_NAMES:
            raise UserError(field, name, "no such method", nearest(name, list(METHOD_NAMES)))


def check_scores(names: Iterable[str], field: str) -> None:
    """Refuse names of scores that do not exist; + joins two."""
    for name in [part for joined in names for part in joined.split("+")]:
        if name not in SCORE_NAMES:
            raise UserError(field, name, "no such score", nearest(name, list(SCORE_NAMES)))


def kind_of_request(options: SelectOptions) -> str:
    """Which of the options says what is meant: exactly one of them."""
    known = {kind: getattr(options, kind) for kind in _REQUESTS if hasattr(options, kind)}
    given = [kind for kind, value in known.items() if value not in (None, ())]
    if len(given) > 1:
        both = " and ".join(f"--{kind}" for kind in given)
        raise UserError(f"--{given[0]}", str(known[given[0]]), f"{both} are given together", "choose one of them")
    if not given:
        listed = ", ".join(f"--{kind} {_REQUESTS[kind]}" for kind in known)
        raise UserError("--forget", None, f"exactly one of {listed} is needed", "say which examples are meant")
    return given[0]


def parse_top(text: str) -> tuple[str, int]:
    """ "confidence:50" -> the score's name and a number of examples."""
    found = counted(text, "--top")
    if found is None:
        raise UserError("--top", text, "is not SCORE:N", "write for example --top confidence:50")
    return found
