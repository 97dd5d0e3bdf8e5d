"""Text from users and files, made safe to print: whatever could act on a terminal is shown as an escape sequence."""

from __future__ import annotations

import unicodedata

# Control characters, lone surrogates (bytes of a file name that are not UTF-8), line and paragraph separators, and
# format characters, such as those that reverse the order of what follows.
_UNSAFE = {"Cc", "Cs", "Zl", "Zp", "Cf"}
_JOINERS = "\u200c\u200d"  # parts of words in Persian and Indic scripts, and of emoji: harmless
# What a spreadsheet takes for the beginning of a formula. Full-width signs too, as OWASP lists them.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'", "＝", "＋", "－", "＠")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: object) -> str:
    """The text on one line, with the characters that a terminal would obey or hide as Python writes them.

    Printable characters of all scripts, square brackets, spaces and backslashes stay, so that a path can be copied.

    >>> visible("weights [v2].pt"), visible("a\\x1b[2Jb\\nc")
    ('weights [v2].pt', 'a\\\\x1b[2Jb\\\\nc')
    """
    said = str(text)
    return said if said.isascii() and said.isprintable() else "".join(map(_visible, said))


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE or character in _JOINERS:
        return character
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def spreadsheet_text(value: str) -> str:
    """A text for a cell of a CSV file, such that no spreadsheet runs it as a formula.

    One that begins like a formula gets a single quote in front, as OWASP advises, and so does one that begins with a
    quote: thus `plain_text` gives every text back.
    """
    return f"'{value}" if value.startswith(_FORMULA) else value


def plain_text(cell: str) -> str:
    """The text that `spreadsheet_text` made into this cell."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell
