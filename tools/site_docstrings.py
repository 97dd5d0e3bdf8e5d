"""What mkdocstrings reads in a docstring beside the sections of Google's style.

- `name: text` at the start of a line is an entry, as is `other: text` behind the end of its sentence. Indented lines
  continue it, and so do others as long as the line before them ends without a full stop.
- `first, second: text` describes two names.
- A public name that is also the name of a file means what the package exports, not the file.
- The text on top of a file belongs to its class, if that is the only public one and has no text of its own before its
  entries: unlearners have their formula and source there.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Alias, Class, Docstring, Extension, Function, GriffeLoader, Module, Object

NAMES = r"[A-Za-z_]\w*(?:, [A-Za-z_]\w*)*"
AT_START = re.compile(rf"({NAMES}): ")
INSIDE = re.compile(rf"(?:^|(?<=[.;?)] ))({NAMES}): ")
SHARED = re.compile(rf"( {{4}})({NAMES}): (.*)", re.DOTALL)
SECTIONS = ("Args:", "Attributes:")


class Entries(Extension):
    """Rewrites docstrings as sections of Google's style."""

    def on_package(self, *, pkg: Module, loader: GriffeLoader, **kwargs: Any) -> None:
        for one in below(pkg):
            if one.docstring is not None:
                one.docstring.value = divided(with_sections(one.docstring.value, *names_of(one)))
        for module in [one for one in below(pkg) if isinstance(one, Module)]:
            lend_text(module)
        for name in map(str, pkg.exports or ()):  # `tune` is the function, not the file tune.py that it is in
            member = pkg.members[name]
            if member.is_alias and member.is_module and name in member.members:
                pkg.set_member(name, Alias(name, member.members[name], parent=pkg))


def below(module: Module) -> list[Object]:
    """The module, and all modules, classes and functions that are defined in it."""
    found: list[Object] = [module]
    for one in module.members.values():
        if isinstance(one, Module):
            found += below(one)
        elif isinstance(one, Class):
            found += [one, *(each for each in one.members.values() if isinstance(each, Function))]
        elif isinstance(one, Function):
            found.append(one)
    return found


def names_of(one: Object) -> tuple[set[str], set[str]]:
    """What entries may be about: parameters, and the attributes that are not parameters."""
    if isinstance(one, Function):
        return {parameter.name for parameter in one.parameters}, set()
    if not isinstance(one, Class):
        return set(), set()
    init = one.all_members.get("__init__")
    attributes = {name: member for name, member in one.all_members.items() if member.is_attribute}
    if init is not None and init.is_function:
        parameters = {parameter.name for parameter in init.parameters}
    elif any("dataclass" in str(decorator.value) for each in (one, *one.mro()) for decorator in each.decorators):
        parameters = {name for name, member in attributes.items() if "property" not in member.labels}
    else:
        parameters = set()
    return parameters, attributes.keys() - parameters


def with_sections(text: str, parameters: set[str], attributes: set[str]) -> str:
    """The text with its entries in sections behind the rest."""
    lines, known = text.splitlines(), parameters | attributes
    if not known or any(line in SECTIONS for line in lines):
        return text
    rest: list[str] = []
    found: list[str] = []
    inside = False
    for at, line in enumerate(lines):
        match = AT_START.match(line)
        if match and set(match[1].split(", ")) <= known:
            found.append(line)
            inside = True
        elif inside and (line.startswith("    ") or (line and not lines[at - 1].endswith("."))):
            found[-1] += f" {line.strip()}"
        else:
            rest.append(line)
            inside = False
    entries = [one for entry in found for line in parts(entry, known) for one in for_each_name(f"    {line}")]
    of_parameters = [one for one in entries if one.split(":")[0].strip() in parameters]
    of_attributes = [one for one in entries if one not in of_parameters]
    for section, those in zip(SECTIONS, (of_parameters, of_attributes), strict=True):
        rest += ["", section, *those] if those else []
    return "\n".join(rest).strip()


def parts(entry: str, known: set[str]) -> list[str]:
    """Entries that follow one another in one line."""
    starts = [m.start() for m in INSIDE.finditer(entry) if set(m[1].split(", ")) <= known]
    return [entry[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]


def divided(text: str) -> str:
    """The text with one entry for each name."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        inside = line in SECTIONS or (inside and (not line or line.startswith(" ")))
        if inside and line.startswith("     ") and lines:  # goes on with the entry above
            lines[-1] += f"\n{line}"
        else:
            lines.append(line)
    return "\n".join(part for line in lines for part in for_each_name(line))


def for_each_name(entry: str) -> list[str]:
    match = SHARED.fullmatch(entry)
    return [f"{match[1]}{name}: {match[3]}" for name in match[2].split(", ")] if match else [entry]


def lend_text(module: Module) -> None:
    classes = [one for one in module.members.values() if isinstance(one, Class) and not one.name.startswith("_")]
    if len(classes) != 1 or module.docstring is None:
        return
    docstring = classes[0].docstring
    if docstring is None or docstring.value.startswith(SECTIONS):
        value = f"{module.docstring.value}\n\n{docstring.value if docstring else ''}".strip()
        classes[0].docstring = Docstring(value, parent=classes[0], lineno=docstring.lineno if docstring else None)
