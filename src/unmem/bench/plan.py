"""The plan of a benchmark: a YAML file that says what is run, read into frozen dataclasses.

A plan has the name of its preset, entries that hold for every size, and entries per size, which replace them:

    preset: proxies
    scores: [confidence, curvature]
    sizes:
      tiny:
        setups: {digits: {data: {source: digits, limit: 300}, recipe: {model: mlp, epochs: 5}}}
        seeds: [0, 1]
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from unmem.data import Splits, load
from unmem.errors import UserError, nearest, one_of
from unmem.recipe import Recipe

SIZES = ("tiny", "small", "paper")
PLANS = files("unmem.bench") / "plans"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Data:
    """A data set.

    Attributes:
        source: As in `unmem.load`.
        limit: Number of training examples, or None for all.
        flip: Share of the training labels that are flipped on purpose.
        reading: Further arguments of `unmem.load`, such as `size` or `text`.
    """

    source: str
    limit: int | None = None
    flip: float = 0.0
    reading: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def load(self, *, device: str = "cpu") -> Splits:
        """Read the data."""
        return load(self.source, limit=self.limit, flip=self.flip, device=device, **self.reading)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A data set with the network and the training that are used on it.

    Attributes:
        data: The data set.
        recipe: How the original is trained, without its seed.
    """

    data: Data
    recipe: Recipe

    def recipe_of(self, seed: int) -> Recipe:
        """Return the recipe of the original with this seed."""
        return replace(self.recipe, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Method:
    """An unlearner of a plan.

    Attributes:
        method: Its name, as on the command line, or FILE.py:NAME of a class of your own.
        fields: Its fields; for rum, those of RUM itself.
        steps: For rum: a method per RUM part, from the least memorized; one for all parts is RUM^F.
        name: Its name in tables; empty: made from `method`.
    """

    method: str
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    steps: Sequence[Method] = ()
    name: str = ""

    @property
    def title(self) -> str:
        """Its name in tables."""
        if self.name or not self.steps:
            return self.name or self.method
        names = list(dict.fromkeys(step.method for step in self.steps))
        return f"RUM^F {names[0]}" if len(names) == 1 else f"RUM ({', '.join(names)})"


def read_plan(source: str, size: str, kinds: Mapping[str, type[T]]) -> tuple[str, T, dict[str, Any]]:
    """Read a plan.

    Args:
        source: Name of a preset, or path of a YAML file.
        size: One of the sizes in the file.
        kinds: The dataclass of the plan of each preset.

    Returns:
        The name of the preset, its plan, and the same plan as plain values.

    Raises:
        UserError: There is no such preset, file, size or entry, or an entry has the wrong type.
    """
    text = _text(source, list(kinds))
    values = _mapping(text, source)
    preset = values.pop("preset", source)
    if preset not in kinds:
        raise UserError("preset", preset, "no such preset", nearest(str(preset), list(kinds)))
    sizes = values.pop("sizes", {})
    if size not in sizes:
        raise UserError("size", size, f"{source} has no such size", f"choose one of {', '.join(sizes) or 'none'}")
    resolved = values | sizes[size]
    return preset, build(kinds[preset], resolved, source), resolved


def _text(source: str, presets: list[str]) -> str:
    if source in presets:
        return (PLANS / f"{source}.yaml").read_text(encoding="utf-8")
    path = Path(source)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise UserError("preset", source, "no such preset", f"{nearest(source, presets)} Or give a .yaml file")
    if not path.is_file():
        raise UserError("preset", source, "no such file", "check the path")
    return path.read_text(encoding="utf-8")


def _mapping(text: str, source: str) -> dict[str, Any]:
    import yaml

    try:
        values: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError("preset", source, f"is not valid YAML ({error})", "correct the file") from error
    if not isinstance(values, dict):
        raise UserError("preset", source, "is not a mapping", "start it with preset: NAME")
    return values  # pyright: ignore[reportUnknownVariableType] (checked by `build`)


def build(kind: type[T], values: Any, where: str) -> T:
    """Build a dataclass from plain values, checking names and types on the way.

    Args:
        kind: The dataclass. Its fields may be dataclasses, sequences and mappings of them, and plain values.
        values: A mapping of its fields.
        where: Place of the values, for errors.
    """
    if not isinstance(values, Mapping):
        raise UserError("plan", where, f"must be a mapping, not {values!r}", "see the plan of a preset")
    hints = get_type_hints(kind)
    known = [one.name for one in fields(kind)]  # pyright: ignore[reportArgumentType]
    for name in values:
        if name not in known:
            raise UserError("plan", where, f"there is no entry {name!r}", nearest(str(name), known))
    for one in fields(kind):  # pyright: ignore[reportArgumentType]
        if one.name not in values and one.default is MISSING and one.default_factory is MISSING:
            raise UserError("plan", where, f"the entry {one.name} is missing", "add it")
    return kind(**{name: _typed(hints[name], value, f"{where}: {name}") for name, value in values.items()})


def _typed(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = [one for one in arguments if one is not type(None)]
        return None if value is None and type(None) in arguments else _typed(inner[0], value, where)
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        # A method may be written as its name alone.
        return build(hint, {"method": value} if hint is Method and isinstance(value, str) else value, where)
    if origin is Literal:
        one_of(where, value, arguments)
        return value
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise UserError("plan", where, f"must be a mapping, not {value!r}", "see the plan of a preset")
        return {key: _typed(arguments[1], one, f"{where}: {key}") for key, one in value.items()}
    if origin is not None and issubclass(origin, Sequence):
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise UserError("plan", where, f"must be a list, not {value!r}", "write it as [a, b]")
        return tuple(_typed(arguments[0], one, f"{where}, entry {k + 1}") for k, one in enumerate(value))
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise UserError("plan", where, f"must be of type {hint.__name__}, not {value!r}", "correct the value")
    return value
