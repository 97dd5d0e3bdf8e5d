"""Parse `NAME:N`, which selects N examples by a named score or file, such as `confidence:50` or `issues.csv:50`."""

from __future__ import annotations

from unmem.errors import NothingToDoError, UserError


def counted(text: str, field: str) -> tuple[str, int] | None:
    """Split `NAME:N` into the name and the number.

    Args:
        text: What the user wrote.
        field: The option that errors name.

    Returns:
        The name and N, or None if the text does not end in a colon and a whole number.

    Raises:
        UserError: The number has more than 18 digits.
        NothingToDoError: The number is 0.
    """
    name, colon, count = text.rpartition(":")
    if not colon or not name or not (count.isascii() and count.isdecimal()):
        return None
    if len(count) > 18:
        raise UserError(field, text, "asks for too many examples", "ask for fewer")
    if int(count) == 0:
        raise NothingToDoError(field, text, "asks for no example", "ask for at least one")
    return name, int(count)
