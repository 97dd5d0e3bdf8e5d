"""Public names are documented: each has a summary, and every parameter or field of its own has an entry.

The entries are in Google style, so that the API reference and editors can read them.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any

import docstring_parser
import pytest

import unmem as um

NAMES = [name for name in um.__all__ if not name.startswith("_")]


def documented(text: str) -> set[str]:
    parsed = docstring_parser.parse(text, style=docstring_parser.DocstringStyle.GOOGLE)
    return {name.strip(" *") for entry in parsed.params for name in entry.arg_name.split(",")}


def own_fields(kind: type) -> set[str]:
    """Public fields written in the body of the class, without those that have a docstring below them."""
    body: list[Any] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body  # pyright: ignore
    fields = {one.target.id: k for k, one in enumerate(body) if isinstance(one, ast.AnnAssign)}  # pyright: ignore
    below = {name for name, k in fields.items() if k + 1 < len(body) and is_text(body[k + 1])}
    constants = {name for name in fields if "ClassVar" in str(inspect.get_annotations(kind).get(name))}
    return {name for name in fields.keys() - below - constants if not name.startswith("_")}


def is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def parameters(function: Any) -> set[str]:
    return {name for name in inspect.signature(function).parameters if name not in ("self", "cls")}


@pytest.mark.parametrize("name", NAMES)
def test_public_names_document_every_parameter_and_field(name: str) -> None:
    thing: Any = getattr(um, name)
    text: str = vars(thing).get("__doc__") or "" if inspect.isclass(thing) else thing.__doc__ or ""
    assert text.strip(), "no docstring"
    assert not text.split("\n")[0].startswith("Defaults"), "the first line says what it does"
    if not inspect.isclass(thing):
        assert not parameters(thing) - documented(text)
        return
    expected = own_fields(thing)
    made_by_hand = not hasattr(thing, "__dataclass_fields__") and not getattr(thing, "_is_protocol", False)
    if "__init__" in vars(thing) and made_by_hand:
        expected |= parameters(vars(thing)["__init__"])
    assert not expected - documented(text)
