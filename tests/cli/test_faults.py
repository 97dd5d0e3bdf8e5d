"""Errors that nobody foresaw end in one sentence, and those that options alone show are said at once."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import unmem as um
from tests.cli.commands import run
from unmem.cli import methods
from unmem.cli.early import METHOD_NAMES, SCORE_NAMES
from unmem.cli.faults import step, step_of
from unmem.memorization.by_name import SCORES

# A network that passes every check before a training, and fails in the midst of it.
BROKEN = """
from torch import nn
class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.layer, self.steps = nn.Linear(64, n), 0
    def forward(self, x):
        self.steps += self.training
        if self.steps > {last}:
            raise {error}
        return self.layer(x.flatten(1))
def make(shape, n):
    return Net(n)
"""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("ZeroDivisionError('no such number')", "ZeroDivisionError: no such number"),
        ("LookupError('a line\\nand another')", "LookupError: a line and another"),
        ("AssertionError", "AssertionError"),
    ],
)
def test_a_fault_names_the_step_and_the_input_and_keeps_the_traceback(
    error: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    Path("net.py").write_text(BROKEN.format(error=error, last=30))
    assert run("train", "--limit", "200", "--arch", "net.py:make", "--out", "it's out") == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "Traceback" not in said
    assert "at the step: Train the original (net.py:make" in said
    assert f"({told})" in said
    assert "unmem train --limit 200 --arch net.py:make --out 'it'\"'\"'s out'" in said
    found = re.search(r"the traceback is in (\S+\.log),", said)
    assert found is not None
    log = Path(found[1]).read_text()
    assert "Traceback (most recent call last)" in log
    assert "in forward" in log
    assert f"unmem {um.__version__}, Python 3." in log
    assert "torch " in log
    assert not Path("it's out").exists()


def test_the_innermost_step_is_told() -> None:
    with pytest.raises(KeyError) as raised, step("outer"), step("inner"):
        raise KeyError
    assert step_of(raised.value) == "inner"
    assert step_of(KeyError()) is None


def test_output_that_nobody_reads_is_no_fault(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unmem", "train", "--limit", "100", "--arch", "mlp", "--epochs", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, "--out", tmp_path / "out"], text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        code = process.wait()
    assert (code, said) == (141, "")


# --- what options alone show ---

CASES = {
    "no-request": (["forget"], "exactly one of --forget FILE"),
    "missing-ids": (["forget", "--forget", "nobody.txt"], "--forget 'nobody.txt': no such file; check the path."),
    "missing-data": (["train", "--data", "no.csv"], "data 'no.csv': no such file; check the path."),
    "missing-model": (["score", "--model", "no.pt"], "--model 'no.pt': no such file; check the path."),
    "missing-audited": (["audit", "--model", "no.pt", "--forget", "ids"], "--model 'no.pt': no such file"),
    "missing-scores": (["forget", "--forget", "ids", "--scores", "s.parquet"], "--scores 's.parquet': no such file"),
    "missing-crossfit": (["forget", "--forget", "ids", "--crossfit", "c.npz"], "no such file; make one with unmem"),
    "unknown-method": (["forget", "--forget", "ids", "--method", "retrian"], "did you mean 'retrain'?"),
    "unknown-score": (["score", "--method", "confidense"], "did you mean 'confidence'?"),
    "unknown-top": (["forget", "--top", "confidence"], "is not SCORE:N"),
    "no-models": (["forget", "--forget", "ids", "--reference", "retrain", "--reference-seeds", "-2"], "1 or more"),
    "no-number": (["forget", "--forget", "ids", "--max-drop", "nan"], "--max-drop nan: must be a finite number"),
    "below-zero": (["forget", "--forget", "ids", "--max-drop", "-0.1"], "--max-drop -0.1: must be 0 or more"),
    "no-workers": (["train", "--workers", "0"], "--workers 0: must be 1 or more"),
    "no-budget": (["forget", "--forget", "ids", "--tune", "--budget", "-1"], "--budget -1.0: must be 0 or more"),
    "no-threshold": (["score", "--threshold", "inf"], "--threshold inf: must be a finite number"),
    "taken": (["train", "--out", "taken"], "already holds a run (result.json)"),
    "unknown-option": (["forget", "--bogus"], "--bogus"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_options_alone_show_is_said_before_pytorch_is_loaded(name: str, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "result.json").write_text("{}")
    (tmp_path / "ids").write_text("1")
    arguments, said = CASES[name]
    out = [] if "--out" in arguments else ["--out", "out"]
    code = "import sys; sys.modules['torch'] = None; from unmem.cli.app import main; main(sys.argv[1:])"
    began = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments, *out], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert said in ended.stderr
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert time.perf_counter() - began < 5


def test_the_names_that_are_known_without_pytorch_are_those_that_there_are() -> None:
    assert (*methods.METHODS, um.RUM.name, methods.AUTO) == METHOD_NAMES
    assert SCORE_NAMES == SCORES


@pytest.mark.parametrize("command", [["demo"], ["train", "--limit", "100"], ["check"]])
def test_a_negative_seed_is_no_fault(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = [] if command == ["check"] else ["--out", tmp_path / "out"]
    assert run(*command, "--seed", "-4", *out) == 2
    assert "seed -4: must be a finite number, 0 or more" in capsys.readouterr().err
