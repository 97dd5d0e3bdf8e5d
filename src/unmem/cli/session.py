"""Open a command: read and check its data, and keep the place of its results.

Texts are read by the tokenizer of the command's model, and classes have the order of that model's outputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from unmem import models
from unmem.cli import checks
from unmem.cli.console import Stage, warn
from unmem.cli.earlier import Earlier, leave_out
from unmem.cli.faults import step
from unmem.cli.options import DataOptions, OutputOptions, RunOptions
from unmem.data import Ids, Splits, holds_tokenizer, load, numbered_as, pick_device
from unmem.data.reading import Reading
from unmem.executors import check_executor
from unmem.models.transformers import PREFIX
from unmem.requests import read_ids
from unmem.store import LOGS, RunFolder, free_folder
from unmem.tracking import LogTo
from unmem.training import Observer


@dataclass(frozen=True, eq=False)
class Session:
    """One command at work.

    before: what the model forgot before, which is not in the data. work: folder for finished models, from which a
    stopped run continues; None if nothing is kept. checked: networks and bases that were found to fit the data.
    """

    command: str
    settings: dict[str, Any]
    data: Splits
    run: RunOptions = field(default_factory=RunOptions)
    before: Earlier = field(default_factory=Earlier)
    log: LogTo = field(default_factory=lambda: LogTo(()))
    work: Path | None = None
    began: float = field(default_factory=time.perf_counter)
    checked: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    @classmethod
    def open(
        cls,
        command: str,
        settings: dict[str, Any],
        data: DataOptions,
        run: RunOptions,
        *,
        keep: Callable[[Splits], Ids | None] | None = None,
        replaces: Path | None = None,
    ) -> Session:
        """Read and check the data. keep, replaces: see `earlier.leave_out`."""
        began = time.perf_counter()
        model = model_named(settings)
        check_executor(run.executor, field="--executor")
        found = _read_data(data, run, model)
        found, before = leave_out(found, None if model is None else Path(model), keep, replaces)
        with step("check the data"):
            checks.apply(checks.OF_DATA_FIRST, checks.Subject(found), warn)
        return cls(command, settings, found, run, before, began=began)

    def logged(self, stage: str, bar: Stage) -> list[Observer]:
        """Observers of the training that comes next: its bar and, with --log, the loggers, under this name."""
        return [bar, self.log.at(stage)] if self.log else [bar]


@contextmanager
def writing(
    command: str,
    settings: dict[str, Any],
    output: OutputOptions,
    data: DataOptions,
    run: RunOptions,
    *,
    keep: Callable[[Splits], Ids | None] | None = None,
    members: Path | None = None,
    keep_deleted_out: bool = False,
) -> Generator[tuple[Session, RunFolder]]:
    """Open a session and the run folder of its results, which is published at the end of the block.

    members: folder for finished members, if it is not in the run folder. keep_deleted_out: whether to leave out what
    was deleted from the files of the run that is replaced. The other arguments are those of `Session.open`.
    """
    logs = free_folder(output.out / LOGS, command)
    with (
        RunFolder(output.out, force=output.force, members=members) as folder,
        LogTo(output.log, logs, settings=settings, on_warning=warn, field="--log") as log,
    ):
        replaces = folder.path if keep_deleted_out else None
        session = Session.open(command, settings, data, run, keep=keep, replaces=replaces)
        yield replace(session, log=log, work=folder.work), folder


def _read_data(options: DataOptions, run: RunOptions, model: str | None) -> Splits:
    """Read the data, and print what the user has to know about them. model: see `model_named`."""
    with step(f"read the data {options.data}"):
        data = load(
            options.data,
            limit=options.limit,
            flip=options.flip,
            seed=run.seed,
            device=pick_device(run.device),
            **reading_of(options, model),
        )
    for note in data.notes:
        warn(note)
    data = numbered(data, options.classes, model)
    if len(data.flipped):
        warn(
            f"{len(data.flipped)} of {len(data.train):,} training labels were flipped on purpose "
            f"({options.flip:.1%}, seed {run.seed})"
        )
    return data


def model_named(settings: Mapping[str, Any]) -> str | None:
    """Path of the model that the data are for: that of --model, or the folder of --arch transformers/DIR."""
    model, arch = settings.get("model"), settings.get("arch") or ""
    return model or (arch.removeprefix(PREFIX) if arch.startswith(PREFIX) else None)


def reading_of(options: DataOptions, model: str | None) -> dict[str, Any]:
    """Fields of `Reading`; texts are read by the model's own tokenizer, unless another one is named."""
    known = {field.name for field in fields(Reading)}
    reading = {key: value for key, value in asdict(options).items() if key in known}
    ids = () if options.unseen is None else read_ids(options.unseen, field="--unseen").names
    reading["unseen"] = tuple(name.strip() for name in ids)
    if options.text is not None and options.tokenizer is None and model is not None:
        reading["tokenizer"] = _tokenizer_with(Path(model))
    return reading


def _tokenizer_with(model: Path) -> Path | None:
    """The folder of a model's tokenizer: the model itself, the folder of save_pretrained around it, or the folder that
    unmem wrote next to a file of the same name."""
    around = models.folder_of(model)
    places = [model, *([] if around is None else [around]), model.with_suffix("")]
    return next((place for place in places if holds_tokenizer(place)), None)


def numbered(data: Splits, classes: str, model: str | None) -> Splits:
    """The data with their classes in the order of the model's outputs, as far as that is known."""
    if classes:
        names = [name.strip() for name in classes.split(",")]
        return numbered_as(data, names, field="--classes", whose="it names")
    names = () if model is None else models.class_names(Path(model)) or _on_card(Path(model), data)
    if not names or not data.classes:
        return data
    ordered = numbered_as(data, names, field="--data", whose="the model has")
    if ordered.classes[: len(data.classes)] != data.classes:
        warn(f"the classes are numbered as the model does: {', '.join(names[:10])}{', …' * (len(names) > 10)}")
    return ordered


def _on_card(model: Path, data: Splits) -> tuple[str, ...]:
    """The class names on the card of a file that unmem wrote, if these data have no other classes."""
    card = models.card_of(model) if model.is_file() else None
    names = () if card is None else card.classes
    known = {name.casefold() for name in names}
    return names if len(known) == len(names) and known >= {name.casefold() for name in data.classes} else ()
