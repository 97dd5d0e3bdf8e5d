"""`unmem init`: a file of options to start from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Argument, Group, Parameter

from unmem.cli.config import DEFAULT, key_of, needs_asking
from unmem.cli.options import DataOptions, Flag, ModelOptions, RunOptions, settings
from unmem.cli.terminal import ask, console, is_attended
from unmem.errors import UserError

_FILE = Group("File", sort_key=0)
_HEAD = """\
# Options of all unmem commands that run in this folder. Those on the command line come first, and --no-config leaves
# this file out. null stands for what an option is by default. With code of your own in it (arch, data, preprocess), or
# unsafe_load, it must be named: --config unmem.yaml.
"""
_WIDTH = 118


def init(
    *,
    file: Annotated[Path, Parameter(group=_FILE)] = DEFAULT,
    force: Annotated[Flag, Parameter(group=_FILE)] = False,
    data: DataOptions | None = None,
    run: RunOptions | None = None,
    model: ModelOptions | None = None,
) -> None:
    """Write a file of options, from those given here or from answers to a few questions.

    Asks on a terminal if no option is given; else, what is not given is written with its default.

    Parameters
    ----------
    file
        File to write. Commands find unmem.yaml in the current folder by themselves; one that names code of your own
        must be passed as --config unmem.yaml.
    force
        Replace the file, if there is one.
    """
    from unmem.store import write_text

    _check_place(file, force=force)
    ask = data is None and run is None and model is None and is_attended()
    chosen, started, run = data or DataOptions(), model or ModelOptions(), run or RunOptions()
    if ask:
        chosen, started = _asked(chosen, started)
    for problem in _problems(chosen, started):
        raise problem
    values = settings(chosen, run, started)
    write_text(file, _written(values))
    bold = any(needs_asking(key, value) for key, value in values.items())
    with_it = f" --config {shlex.quote(str(file))}" if bold or file != DEFAULT else ""
    console.print(f"  Wrote {file}. Next:", soft_wrap=True)
    work = "train" if started.model is None else "forget --forget ids.txt"
    console.print(f"  unmem {work}{with_it} --out runs/first", soft_wrap=True)


def _check_place(file: Path, *, force: bool) -> None:
    if file.is_dir() or file.suffix.lower() not in (".yaml", ".yml"):
        raise UserError("--file", str(file), "is not the name of a .yaml file", "name one such as unmem.yaml")
    if not file.parent.is_dir():
        raise UserError("--file", str(file), "its folder does not exist", "make the folder first")
    if file.exists() and not force:
        raise UserError("--file", str(file), "exists already", "choose another name, or pass --force to replace it")


def _problems(data: DataOptions, model: ModelOptions) -> Iterator[UserError]:
    """What can be seen to be wrong without reading data or model."""
    yield from _source_problems(data.data)
    yield from _column_problems(data)
    if data.folder is not None and not data.folder.is_dir():
        yield UserError("--folder", str(data.folder), "no such folder", "check the path")
    for name, path in (("--model", model.model), ("--base", model.base)):
        if path is not None and not path.exists():
            yield UserError(name, str(path), "no such file or folder", "check the path, or leave it out")
    try:
        model.recipe(arch=model.arch or "mlp", seed=0)
    except UserError as error:
        yield error


def _source_problems(source: str) -> Iterator[UserError]:
    """Whether there can be such a source; what is on a hub or in a module is not looked up."""
    from unmem.data.sources import KNOWN
    from unmem.errors import nearest

    where = source.rpartition(":")[0]
    if Path(source).exists() or (where and not where.endswith(".py")):  # a path, hf:NAME, or package.module:function
        return
    if where and not Path(where).is_file():
        yield UserError("--data", source, f"no file {where}", "check the path")
    elif not where and source not in KNOWN:
        yield UserError("--data", source, "no such file and no data set of that name", nearest(source, list(KNOWN)))


def _column_problems(data: DataOptions) -> Iterator[UserError]:
    """Whether a table has the columns that are named, and one with the classes."""
    from unmem.data.reading import Reading, known_column
    from unmem.data.tablelabels import LABEL_NAMES, usual_label

    columns = _columns(data.data)
    if not columns:
        return
    if data.label is None and usual_label(columns) is None:
        listed = ", ".join(columns)
        yield UserError("--label", None, f"no column is called {', '.join(LABEL_NAMES)}", f"name one of {listed}")
    how = Reading(drop=data.drop, categories=data.categories)
    listed = [*(("--drop", one) for one in how.dropped), *(("--categories", one) for one in how.categorical)]
    for name, column in (("--label", data.label), ("--text", data.text), ("--id", data.id), *listed):
        if column is None or (name == "--id" and column == "none"):
            continue
        try:
            known_column(name, column, columns)
        except UserError as error:
            yield error


def _asked(data: DataOptions, model: ModelOptions) -> tuple[DataOptions, ModelOptions]:
    """The answers; an empty one takes the default. What cannot be is asked again."""
    from unmem.data.tablelabels import usual_label

    data = _answered("Data set, file or folder", "data", data, model)[0]
    columns = _columns(data.data)
    if columns:
        data = replace(data, label=usual_label(columns))
        data = _answered(f"Column with the labels ({', '.join(columns)})", "label", data, model)[0]
        data = _answered("Column of texts to classify by (empty: by the other columns)", "text", data, model)[0]
    data, model = _answered("File or folder of the finished model (empty: train one)", "model", data, model)
    data, model = _answered("Network (empty: by the data, or by the model file)", "arch", data, model)
    return _answered("Epochs of the training", "epochs", data, model)


def _answered(question: str, key: str, data: DataOptions, model: ModelOptions) -> tuple[DataOptions, ModelOptions]:
    while True:
        default = getattr(data if hasattr(data, key) else model, key)
        shown = "" if default is None else f" [{default}]"
        text = ask(f"{question}{shown}: ")
        value: Any = text or default
        if text and key == "epochs":
            value = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1
        if text and key == "model":
            value = Path(text).expanduser()
        new = (replace(data, **{key: value}), model) if hasattr(data, key) else (data, replace(model, **{key: value}))
        found = next((one for one in _problems(*new) if one.field.strip("-") == key), None)
        if found is None:
            return new
        if not text:
            raise found
        console.print(f"  {found}", soft_wrap=True)


def _columns(data: str) -> list[str]:
    """The columns of a table; none of anything else."""
    from unmem.data.tablefiles import is_table, table_columns

    path = Path(data)
    try:
        return table_columns(path) if is_table(path) else []
    except (OSError, ValueError):
        return []


def _written(values: dict[str, Any]) -> str:
    """The file: each option with its help above it, in the groups of `--help`."""
    import textwrap

    import yaml

    lines = [_HEAD]
    group = ""
    for key, argument in _described().items():
        name = argument.parameter.group[0].name  # pyright: ignore[reportOptionalSubscript, reportAttributeAccessIssue, reportIndexIssue]
        if name != group:
            lines.append(f"\n# {name}\n")
            group = name
        lines += textwrap.wrap(argument.parameter.help or "", _WIDTH, initial_indent="# ", subsequent_indent="# ")
        lines.append(yaml.safe_dump({key: values[key]}, allow_unicode=True, width=10**6).rstrip("\n") + "\n")
    return "\n".join(lines)


def _described() -> dict[str, Argument]:
    """By key, the options of data, run, training and model, with their help."""

    def options(
        *, data: DataOptions = DataOptions(), run: RunOptions = RunOptions(), model: ModelOptions = ModelOptions()
    ) -> None: ...

    known = settings(DataOptions(), RunOptions(), ModelOptions())
    arguments = App(default_command=options).assemble_argument_collection(parse_docstring=True)
    found = {key_of(argument): argument for argument in arguments if argument.name.startswith("--")}
    return {key: argument for key, argument in found.items() if key in known}
