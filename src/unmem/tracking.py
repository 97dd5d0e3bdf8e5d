"""`LogTo`: log trainings and results to TensorBoard, W&B, MLflow or a logger object.

accelerate.tracking (Hugging Face) gives the three one interface, so this module does not depend on their clients.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from unmem.data import Examples
from unmem.errors import UserError, one_of
from unmem.extras import require
from unmem.recipe import Recipe
from unmem.training import Observer, Step

LOGGERS = ("tensorboard", "wandb", "mlflow")
PROJECT = "unmem"
_SETTINGS = ("settings", "recipe", "unlearner", "unlearners")  # parts of a result that say how it was made
_NOT_IN_NAMES = re.compile(r"[^\w\-./ ]")  # what MLflow refuses in the name of a metric


class Logger(Protocol):
    """Receives numbers: a W&B run, a tracker of accelerate, or any object with this method."""

    def log(self, values: dict[str, float], step: int) -> object: ...


class LogTo(Observer):
    """An observer that logs the training loss, learning rate and seconds of each epoch, and the results at the end.

    A step is an epoch, counted over all trainings. Losses are read once per epoch, so that the loop never waits.
    Loggers given by name are started by the first training and ended by `close`, or at the end of a `with` block. A
    logger object belongs to the caller: it is not started or ended, and its errors are raised.

    Args:
        to: "tensorboard", "wandb" or "mlflow", several of them separated by commas, or any object with `log(values,
            step)`.
        folder: Folder for the files of TensorBoard and W&B.
        settings: Settings of the run, for loggers that store them.
        on_warning: Called with a sentence when a logger given by name fails; the work continues without it.
        field: Name of the option for errors.
    """

    def __init__(
        self,
        to: str | Logger | Sequence[str | Logger],
        folder: str | Path = "logs",
        *,
        settings: Mapping[str, Any] | None = None,
        on_warning: Callable[[str], None] = warnings.warn,
        field: str = "LogTo",
    ) -> None:
        self._stage = "train"
        self._settings = settings or {}
        self._folder, self._on_warning, self._field = Path(folder), on_warning, field
        self._names: list[str] = []
        self._loggers: list[Logger] = []
        for one in cast("Sequence[str | Logger]", [to] if isinstance(to, str) or hasattr(to, "log") else to):
            if isinstance(one, str):
                self._names += [name.strip() for name in one.split(",") if name.strip()]
            else:
                self._loggers.append(one)
        for name in self._names:
            _check(name, field)
        self._started: dict[str, Any] | None = None
        self._step = 0
        self._losses: list[torch.Tensor] = []
        self._sizes: list[int] = []
        self._lr = 0.0
        self._began = 0.0

    def __bool__(self) -> bool:
        return bool(self._names or self._loggers)

    def __enter__(self) -> LogTo:
        return self

    def at(self, stage: str) -> LogTo:
        """Begin the names of the numbers from now on with `stage`, the name of what is trained next."""
        self._stage = stage
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        self.close()

    def on_start(self, examples: Examples, recipe: Recipe) -> None:
        self._start()
        self._losses.clear()
        self._sizes.clear()
        self._began = time.perf_counter()

    def on_step(self, step: Step) -> None:
        self._losses.append(step.loss)
        self._sizes.append(len(step.batch.index))
        self._lr = step.lr

    def on_epoch(self, epoch: int, model: nn.Module) -> None:
        losses = torch.stack(self._losses).double().cpu().numpy()
        mean = float(np.average(losses, weights=self._sizes))
        now = time.perf_counter()
        self._step += 1
        self._log({"loss": mean, "lr": self._lr, "seconds": now - self._began}, prefix=f"{self._stage}/")
        self._losses.clear()
        self._sizes.clear()
        self._began = time.perf_counter()

    def results(self, result: Mapping[str, Any]) -> None:
        """Log the numbers of a result, such as `evaluation.to_dict()`, under their paths, such as "methods/rum/tow"."""
        self._log(dict(flat(result)))

    def close(self) -> None:
        """End the loggers that this object started, so that their files are complete."""
        self._try(lambda tracker: tracker.finish())
        self._started = None

    def _log(self, values: Mapping[str, float], *, prefix: str = "") -> None:
        named = {_NOT_IN_NAMES.sub("_", f"{prefix}{name}"): value for name, value in values.items()}
        self._start()
        self._try(lambda tracker: tracker.log(named, step=self._step))
        for logger in self._loggers:
            logger.log(named, step=self._step)

    def _start(self) -> None:
        """Start the named loggers when they are first needed, so that a refused run leaves no files."""
        if self._started is not None:
            return
        self._started = {}
        for name in self._names:
            try:
                self._started[name] = _tracker(name, self._folder, self._settings)
            except Exception as error:  # of whatever kind its client raises: no login, no network, no place
                raise UserError(
                    self._field, name, f"could not be started ({error})", "check that logger's own settings"
                ) from error

    def _try(self, use: Callable[[Any], object]) -> None:
        """Use each started logger. One that fails is dropped, because a failing logger must not end the run."""
        for name, tracker in list((self._started or {}).items()):
            try:
                use(tracker)
            except Exception as error:
                self._on_warning(f"{name} failed and gets no more numbers ({error})")
                del (self._started or {})[name]


def flat(result: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield path and value of each number in nested results, without text, lists, settings and missing values.

    >>> dict(flat({"methods": {"rum": {"tow": 0.99, "reason": "", "settings": {"lr": 0.1}}}}))
    {'methods/rum/tow': 0.99}
    """
    for key, value in result.items():
        if isinstance(value, Mapping) and key not in _SETTINGS:
            yield from flat(cast("Mapping[str, Any]", value), f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value)


def _check(name: str, field: str) -> None:
    """Refuse an unknown logger, and one that is not installed."""
    one_of(field, name, LOGGERS)
    for package in ("accelerate", name):
        require(package, field=field, value=name)


def _tracker(name: str, folder: Path, settings: Mapping[str, Any]) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    folder.mkdir(parents=True, exist_ok=True)
    if name == "tensorboard":  # keeps no settings: its way to do so makes a second run beside each run
        tracker = LOGGER_TYPE_TO_CLASS[name](folder.name, logging_dir=folder.parent)
        tracker.start()
        return tracker
    options: dict[str, Any] = {"dir": str(folder)} if name == "wandb" else {}
    tracker = LOGGER_TYPE_TO_CLASS[name](PROJECT, **options)
    tracker.start()
    tracker.store_init_configuration({key: _plain(value) for key, value in settings.items()})
    return tracker


def _plain(value: Any) -> bool | int | float | str | None:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
