"""What commands print while they work."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from unmem.cli import console
from unmem.cli.console import Listing, sentences, stage


def test_how_far_members_are_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "EVERY", 0)
    monkeypatch.setattr(console, "TAKEN_UP", 0)
    title = "Cross-fit: 2 models, each without one part of the training set"
    with stage(title) as bar:
        bar.on_member(1, 2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"  {title}: 1 of 2, ")
    assert lines[0].endswith(" left")


def test_notes_become_sentences() -> None:
    assert sentences(["some are frozen", "no class is left"]) == ["Some are frozen.", "No class is left."]


def test_lines_of_a_text_are_rows_of_their_own() -> None:
    stream = io.StringIO()
    table = Listing([("refused", "two faults:\n  one that is longer than a line of the terminal has room for\n  two")])
    Console(file=stream, width=50).print(table)
    assert [line.rstrip() for line in stream.getvalue().splitlines()] == [
        "    refused two faults:",
        "            one that is longer than a line of the",
        "            terminal has room for",
        "            two",
    ]
