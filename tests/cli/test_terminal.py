"""What users and files name is printed as plain text: neither markup nor an escape sequence in it has an effect."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import unicodedata
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

import unmem as um
from unmem.cli.app import main
from unmem.cli.console import Listing, alarm, stage, warn
from unmem.cli.fitting import Fitted
from unmem.cli.terminal import Terminal, ask, complain, console, guarded, message
from unmem.errors import UserError
from unmem.plaintext import visible

CASES = int(os.environ.get("UNMEM_CASES", "5"))  # by property
RANDOM = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=CASES < 500)
SOURCE = Path(um.__file__).parent
TERMINAL = SOURCE / "cli" / "terminal.py"

NASTY = [
    "x[/bold]1",
    "[red]",
    "[/]",
    "[link=https://example.org]a[/link]",
    ":smile:",
    "a\x1b[2J\x1b[31mb",
    "\x1b]0;title\x07",
    "\x1b]8;;https://example.org\x1b\\here\x1b]8;;\x1b\\",
    "\x9b2J",
    "over\rwritten",
    "back\b\b\bspaced",
    "a\nunmem: all is well",
    "exe.\u202etxt",
    "\u2066\u2069\u200e\ufeff",
    "a\u2028b",
    'it\'s "quoted" \\ {}',
    "имя 名前 é 👩‍🔬",
    " spaces ",
]
# Neither / nor the null character can be in the name of a file; it must not be a part of the path such as "..".
_piece = st.sampled_from(NASTY) | st.text(
    st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=9
)
_name = st.lists(_piece, min_size=1, max_size=3).map("".join).map(lambda text: text.replace("/", "|")[:60])
_file = _name.filter(lambda name: name not in (".", "..") and name[0] not in "-." and len(name.encode()) < 200)


def acts(text: str) -> list[str]:
    """The characters in what was printed that a terminal obeys, but for line breaks."""
    bidi = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return [one for one in text if (unicodedata.category(one) in ("Cc", "Cs") and one != "\n") or one in bidi]


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """The exit code of a command, and what it prints."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(one) for one in arguments])
        except SystemExit as ended:
            return int(ended.code or 0), out.getvalue(), err.getvalue()
    raise AssertionError("main returns by SystemExit")


# --- the one place ---


def _printers(path: Path) -> list[str]:
    """What a file has that prints by itself, or makes texts of rich that may hold markup."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name) and node.id in ("print", "input"):
            found.append(f"{node.id} in line {node.lineno}")
        elif isinstance(node, ast.Attribute) and (
            node.attr in ("from_markup", "showwarning") or ast.unparse(node) in ("sys.stdout", "sys.stderr")
        ):
            found.append(f".{node.attr} in line {node.lineno}")
        elif isinstance(node, ast.keyword) and node.arg == "markup" and ast.unparse(node.value) != "False":
            found.append(f"markup in line {node.value.lineno}")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rich"):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] == "rich"]
    return found


# Tables make their cells with `plain`, bars have titles made by `visible`: the tests below look at what they print.
ALLOWED = {
    "cli/console.py": (
        *("rich.console.Console", "rich.console.ConsoleOptions", "rich.console.RenderResult", "rich.table.Table"),
        *(f"rich.progress.{name}" for name in ("BarColumn", "MofNCompleteColumn", "Progress", "TextColumn")),
        "rich.progress.TimeRemainingColumn",
    ),
    "cli/fitting.py": (
        *("rich.console.Console", "rich.console.ConsoleOptions", "rich.console.RenderResult", "rich.table.Table"),
        *("rich.text.Text", "rich.cells.cell_len"),
    ),
}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_is_printed_around_the_terminal(path: Path) -> None:
    if path != TERMINAL:
        assert [*_printers(path)] == [
            one for one in _printers(path) if one in ALLOWED.get(path.relative_to(SOURCE).as_posix(), ())
        ]


def test_the_rule_sees_what_prints(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        "import sys\nfrom rich import print as show\nprint('a')\nsys.stderr.write('b')\nText.from_markup('c')\n"
        "rich.print('[red]')\nConsole(markup=True)\nimport rich.panel\n"
    )
    assert len(_printers(file)) == 6


# --- every way to print ---


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("colours", [False, True])
def test_a_text_is_printed_as_it_is_or_escaped(
    text: str, colours: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if colours:
        monkeypatch.setattr(console, "rich", Console(force_terminal=True, markup=False, emoji=False, highlight=False))
    wide = "  " + text
    console.print(wide, style="bold", soft_wrap=True)
    warn(text)
    alarm(text)
    with stage(text) as bar:
        bar.on_member(1, 2)
        bar.note = text
    console.print(Listing([(text, f"{text} "), ("refused", text)]))
    console.print(Fitted((text, f"{text}!"), [[text, text]], total=True))
    complain(UserError("--forget", text, text, text))
    said = capsys.readouterr()
    ours = (
        re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", said.out) if colours else said.out
    )  # styles and bars are unmem's own
    assert acts(ours) == []
    assert acts(said.err) == []
    assert ours.count(visible(text).strip()) >= 8
    assert said.err.count("\n") == 1
    if not colours:
        assert said.out.startswith(f"  {visible(text)}\n  note  {visible(text)}\n  warning  {visible(text)}\n")


def test_questions_are_plain_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(" yes \n"))
    assert ask("Column (\x1b[2J[red])") == "yes"
    assert ask("Column (\x1b[2J[red])") == ""
    assert capsys.readouterr().out == "Column (\\x1b[2J[red])" * 2


def test_warnings_and_log_messages_of_libraries_are_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.lastResort.formatter if logging.lastResort else None
    with warnings.catch_warnings(), guarded():
        warnings.simplefilter("always")
        warnings.warn("the file \x1b[2J[red]", stacklevel=1)
    with guarded():
        record = logging.LogRecord("a", logging.WARNING, "", 0, "the column %s", ("\x1b]0;x\x07",), None)
        assert logging.lastResort is not None
        assert logging.lastResort.format(record) == "the column \\x1b]0;x\\x07"
    assert logging.lastResort.formatter is before
    assert capsys.readouterr().err == "UserWarning: the file \\x1b[2J[red]\n"


def test_lines_of_a_message_stay_lines_and_those_of_a_value_do_not() -> None:
    assert message("two faults:\n  one\n  two") == "two faults:\n  one\n  two"
    assert message("id 'a\nunmem: done'") == "id 'a\\nunmem: done'"


@given(st.text())
def test_what_is_visible_acts_on_nothing_and_is_visible_as_it_is(text: str) -> None:
    shown = visible(text)
    assert acts(shown) == []
    assert "\n" not in shown
    assert visible(shown) == shown
    if all(character.isprintable() for character in text):
        assert shown == text


def test_an_encoding_without_a_character_is_no_fault(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unmem", "store", "ls", "é…"]
    ended = subprocess.run(
        command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, cwd=tmp_path, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr.startswith(b"unmem: folder '\\xe9\\u2026': holds no members")


# --- through commands ---


def _data(place: Path, ids: list[str]) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    x = (random.normal(size=(60, 4)) + 3 * np.eye(4)[labels]).astype(np.float32)
    names = [*ids, *(f"row {k}" for k in range(60 - len(ids)))]
    np.savez(place, x_train=x, y_train=labels, ids_train=np.array(names), **{"other [red]\x1b[2J": x[:1]})


@RANDOM
@given(folder=_file, ids=st.lists(_name.filter(lambda name: "\0" not in name), min_size=3, max_size=6, unique=True))
def test_runs_print_paths_as_they_are_and_ids_escaped(folder: str, ids: list[str]) -> None:
    with TemporaryDirectory() as place:
        root = Path(place) / folder
        root.mkdir()
        _data(root / "data.npz", ids)
        out = root / folder
        small = ["--data", root / "data.npz", "--arch", "mlp", "--epochs", "2", "--batch-size", "16"]
        code, said, error = run("train", *small, "--out", out)
        assert (code, error) == (0, "")
        assert said.endswith(f"  Model: {visible(out)}/original.safetensors\n")
        assert "other [red]\\x1b[2J" in said
        assert acts(said) == []
        (root / "ids.json").write_text(json.dumps([*ids, "unknown " + ids[0]]))
        code, said, error = run("forget", *small, "--forget", root / "ids.json", "--out", root / "forgot")
        assert code == 2
        assert acts(said + error) == []
        assert error.count("\n") == 1
        assert "unknown " in error


@RANDOM
@given(columns=st.lists(_name, min_size=2, max_size=4, unique=True), label=_name)
def test_columns_and_classes_are_printed_escaped(columns: list[str], label: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with TemporaryDirectory() as place:
        file = Path(place) / "data.parquet"
        rows = {name: [float(k + len(name)) for k in range(40)] for name in columns}
        pq.write_table(pa.table({**rows, "label": [label, "other"] * 20, "text [/]": ["a", "b"] * 20}), file)
        for more in ([], ["--drop", columns[0]], ["--label", label], ["--where", f"{columns[0]}=1"]):
            code, said, error = run("check", "--data", file, *more)
            assert code in (0, 2, 3)
            assert acts(said + error) == []


def test_the_end_of_a_run_in_a_folder_that_looks_like_markup(tmp_path: Path) -> None:
    for name in ("x[/bold]1", "[red] a b", "名前 [link]"):
        out = tmp_path / name
        code, said, _ = run("train", "--limit", "60", "--arch", "mlp", "--epochs", "1", "--out", out)
        assert code == 0
        assert f"  Model: {out}/original.safetensors\n" in said


def test_an_interrupt_and_a_fault_name_paths_escaped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt("kept in a\x1b[2J[red]")

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a\x1b[2J[red]")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for work, code in ((stop, 130), (fail, 1)):
        monkeypatch.setattr("unmem.cli.session.load", work)
        found, said, error = run("train", "--out", tmp_path / "out")
        assert (found, acts(said + error)) == (code, [])
        assert "a\\x1b[2J[red]" in error
    assert all(acts(log.read_text()) == [] for log in tmp_path.glob("*.log"))


def test_a_console_of_its_own_does_not_read_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().print("[bold]a[/]")
    assert capsys.readouterr().out == "[bold]a[/]\n"
