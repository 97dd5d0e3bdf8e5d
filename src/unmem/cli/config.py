"""One file of options: `--config FILE`, or unmem.yaml in the current folder. Flags come first, then the file.

A file that was only found in the current folder comes from whoever made the folder, who need not be the user: it may
not choose code to run, allow pickles or replace files (`needs_asking`).
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from cyclopts import App, Argument, ArgumentCollection
from cyclopts.config import Dict

from unmem.cli.options import DataOptions, ModelOptions, OutputOptions, RunOptions, SelectOptions
from unmem.cli.terminal import console
from unmem.errors import Phrase, UserError, nearest

DEFAULT = Path("unmem.yaml")
NONE = "none"
COMMAND = "command"  # the key by which a run folder's config.yaml names what made it
_FIX = "write one KEY: VALUE a line, as unmem init does"
# What every command understands the same way. A file of another command gives these alone.
_SHARED = frozenset(
    field.name for kind in (DataOptions, RunOptions, ModelOptions, OutputOptions) for field in fields(kind)
)
# A request on the command line replaces that of the file, whatever its kind.
_REQUEST = ("top", *(field.name for field in fields(SelectOptions) if field.name != "dedupe"))
# Texts that are lists in effect, separated by commas; run folders keep them as lists.
_JOINED = ("method", "steps")


@dataclass(frozen=True)
class ConfigFile:
    """The options in a file; cyclopts calls it once the command line is parsed, to fill what was not given there.

    program: all commands. asked: whether --config named it.
    """

    path: Path
    program: App
    asked: bool

    @classmethod
    def find(cls, config: str | None, program: App, *, ignore: bool) -> ConfigFile | None:
        """The file that --config names, else ./unmem.yaml if there is one, else none."""
        if ignore and config not in (None, NONE):
            raise UserError("--config", config, "--no-config was given too", "leave one of them out")
        if ignore or config == NONE:
            return None
        if config is not None:
            return cls(Path(config), program, True)
        return cls(DEFAULT, program, False) if DEFAULT.is_file() else None

    @cached_property
    def values(self) -> dict[str, Any]:
        return read_config(self.path)

    @property
    def command(self) -> str | None:
        """The command that made the file, if it says so."""
        name = self.values.get(COMMAND)
        if name is not None and name not in (known := [name for name, _ in _commands(self.program)]):
            raise UserError(str(self.path), Phrase(f"{COMMAND}: {_shown(name)}"), "no such command", _near(name, known))
        return name

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        if commands[0] == "init":  # makes such a file
            return
        known = _options(arguments)
        self._refuse_unknown({COMMAND, *known})
        made_by = self.command
        given = {key for key, argument in known.items() if argument.tokens}
        replaced = {*given, *(_REQUEST if given & set(_REQUEST) else ())}
        taken = {
            key: option_value(self.path, key, value, known[key].hint)
            for key, value in self.values.items()
            if key in known and value is not None and _means_the_same(key, commands[0], made_by)
        }
        taken = {key: value for key, value in taken.items() if key not in replaced}
        if not self.asked:
            self._refuse_unasked(taken)
        if taken and not self.asked:
            console.item("note", f"options from ./{self.path} (--no-config leaves it out)", style="yellow")
        nested: dict[str, Any] = taken
        for name in reversed(commands):
            nested = {name: nested}
        Dict(nested, source=str(self.path))(app, commands, arguments)

    def _refuse_unasked(self, taken: dict[str, Any]) -> None:
        """Whoever made this folder wrote the file: without --config it may not run code or replace files."""
        bold = [f"{key}: {_shown(value)}" for key, value in taken.items() if needs_asking(key, value)]
        if bold:
            raise UserError(
                f"./{self.path}",
                Phrase(", ".join(bold)),
                "can run code or replace files, and nobody named the file",
                f"pass --config {self.path} if you trust it, or give such options on the command line",
            )

    def _refuse_unknown(self, here: set[str]) -> None:
        if self.values.keys() <= here:
            return
        known = {COMMAND, *(key for _, app in _commands(self.program) for key in _options_of(app))}
        for key in self.values:
            if key not in known:
                raise UserError(str(self.path), key, "no command has such an option", _near(key, sorted(known)))


def needs_asking(key: str, value: Any) -> bool:
    """Whether an option runs code, reads pickles or replaces files: what a file that was only found may not do."""
    if key in ("unsafe_load", "force"):
        return value is True
    if key in ("preprocess", "annex"):
        return value is not None
    if key not in ("arch", "data") or ":" not in str(value):
        return False
    # These load PyTorch, which takes a second.
    if key == "arch":
        from unmem.models import runs_code
    else:
        from unmem.data import runs_code
    return runs_code(str(value))


def _means_the_same(key: str, command: str, made_by: str | None) -> bool:
    """Whether the key of a file, made by a command or by hand, is what this command calls so."""
    if made_by == command:
        return True
    if command == "audit" and key == "model":  # there the unlearned one, everywhere else the original
        return False
    return made_by is None or key in _SHARED


def _near(name: object, known: list[str]) -> str:
    close = nearest(str(name), known)
    return close if close.startswith("did") or len(known) < 12 else "see unmem COMMAND --help for those there are"


def read_config(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML or TOML file, `-` in keys read as `_`. Raises `UserError` for anything else."""
    name = str(path)
    try:
        if not path.is_file():
            problem = "a folder, not a file" if path.is_dir() else "no such file"
            raise UserError("--config", name, problem, "name a YAML file, or make one with unmem init")
        text = path.read_text(encoding="utf-8-sig")
        pairs = _toml(text) if path.suffix.lower() == ".toml" else _yaml(text)
    except UserError:
        raise
    except (OSError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError, LookupError) as error:
        raise UserError("--config", name, f"cannot be read ({_reason(error)})", _FIX) from error
    found: dict[str, Any] = {}
    for raw, value in pairs:
        if not isinstance(raw, str):
            raise UserError(name, Phrase(_shown(raw)), "is not the name of an option", _FIX)
        key = raw.replace("-", "_")
        if key in found:
            raise UserError(name, key, "duplicate key", "keep one of them")
        found[key] = value
    return found


def option_value(path: Path, key: str, value: Any, hint: Any) -> Any:
    """The value as the command line would have it: text, a truth value, or a list of texts."""
    if key in _JOINED and isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = ",".join(value)
    parts = _parts(hint)
    value = _switch(value, parts)
    if any(_fits(value, part) for part in parts):
        return value if isinstance(value, bool) else _texts(value)
    needed = " or ".join(_needed(part) for part in parts)
    raise UserError(
        str(path),
        Phrase(f"{key}: {_shown(value)}"),
        f"the value must be {needed}",
        "correct it, or leave the line out",
    )


def _switch(value: Any, parts: tuple[Any, ...]) -> Any:
    """`on` and `off` where they are choices: YAML reads both, without quotes, as truth values."""
    word = {True: "on", False: "off"}[value] if isinstance(value, bool) else None
    is_choice = any(get_origin(part) is Literal and word in get_args(part) for part in parts)
    return word if is_choice else value


def _yaml(text: str) -> list[tuple[Any, Any]]:
    """Pairs in their order, repeated keys too."""
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return []
        if not isinstance(node, yaml.MappingNode):
            raise ValueError("it holds no KEY: VALUE lines")
        loader.flatten_mapping(node)
        return [tuple(loader.construct_object(part, deep=True) for part in pair) for pair in node.value]
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _toml(text: str) -> list[tuple[Any, Any]]:
    import tomllib

    return list(tomllib.loads(text).items())


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError | MemoryError):
        return "it is too deep or too large"
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())[:200]


def _options(arguments: ArgumentCollection) -> dict[str, Any]:
    """By key, the arguments of a command that have a name."""
    return {key_of(argument): argument for argument in arguments if argument.name.startswith("--")}


def key_of(argument: Argument) -> str:
    """`--batch-size` -> "batch_size"."""
    return argument.name.lstrip("-").replace("-", "_")


def _options_of(command: App) -> list[str]:
    return [] if command.default_command is None else list(_options(command.assemble_argument_collection()))


def _commands(program: App) -> Iterator[tuple[str, App]]:
    """All commands by name, those of `store` too."""
    for name in program:
        if not name.startswith("-"):
            yield name, program[name]
            yield from _commands(program[name])


def _parts(hint: Any) -> tuple[Any, ...]:
    """The types that a hint allows, None apart."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(part for one in get_args(hint) for part in _parts(one))
    return () if hint in (None, type(None)) else (hint,)


def _shown(value: Any) -> str:
    """A value of a file as part of a sentence; lists may hold themselves, so that nothing of them is shown."""
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict | set):
        return "a mapping"
    if isinstance(value, int) and abs(value) >= 10**80:  # Python refuses to write very long ones
        return "a huge number"
    return repr(value)[:80]


def _texts(value: Any) -> Any:
    return [str(one) for one in value] if isinstance(value, list) else str(value)


def _fits(value: Any, part: Any) -> bool:
    """Whether the value of a file can stand for an option of this type."""
    if part is bool:
        return isinstance(value, bool)
    if part in (int, float):
        return _is_number(value, part)
    if get_origin(part) is tuple and isinstance(value, list):
        return all(_is_text(one) for one in value)
    if get_origin(part) is Literal:
        return value in get_args(part)
    return _is_text(value)


def _needed(part: Any) -> str:
    if get_origin(part) is Literal:
        return f"one of {', '.join(map(str, get_args(part)))}"
    return _NAMES.get(get_origin(part) or part, "text")


_NAMES = {bool: "true or false", int: "a whole number", float: "a number", tuple: "a list of texts", Path: "a path"}


def _is_number(value: Any, kind: Callable[[str], float]) -> bool:
    """Whether the value is such a number, or text for one: YAML takes 1e-3 for text."""
    if not _is_text(value):
        return False
    try:
        kind(str(value))
    except ValueError:
        return False
    return True


def _is_text(value: Any) -> bool:
    """Whether the value can be written on a command line: text or a number, which may be a name too."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    return not (isinstance(value, int) and abs(value) >= 10**80) and "\0" not in str(value)
