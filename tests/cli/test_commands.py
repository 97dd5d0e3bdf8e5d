"""The command line as a user meets it: exit codes, sentences on stderr, and what is left on disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.torch import load_file

import unmem as um
from tests.helpers import started
from unmem.cli.app import main

QUICK = ["--arch", "mlp", "--epochs", "8", "--limit", "300"]
RUM = ["--method", "rum"]
LONGER = ["--arch", "mlp", "--epochs", "20", "--limit", "300"]


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    code = stopped.value.code
    assert isinstance(code, int)
    return code


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def data() -> um.Splits:
    return um.load("digits", limit=300)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train") / "original"
    assert run("train", *QUICK, "--out", folder) == 0
    return folder


@pytest.fixture
def request_file(tmp_path: Path, data: um.Splits) -> Path:
    path = tmp_path / "forget.txt"
    path.write_text("# asked to be deleted\n\n" + "\n".join(data.train.ids[:24]) + "\n")
    return path


def test_train_leaves_a_model_that_can_be_used_and_what_made_it(trained: Path) -> None:
    found = result(trained)
    assert next(iter(found)) == "schema"
    assert found["schema"] == 1
    assert found["command"] == "train"
    assert found["data"]["name"] == "digits"
    assert found["data"]["sizes"]["train"] == 300
    assert found["original"]["accuracy"]["train"] > 0.5
    assert yaml.safe_load((trained / "config.yaml").read_text())["epochs"] == 8
    assert load_file(trained / "original.safetensors")["1.weight"].shape == (256, 64)
    assert sorted(path.name for path in trained.iterdir()) == [
        "config.yaml",
        "original.safetensors",
        "result.json",
        "trace.npz",
    ]


def test_score_writes_a_column_per_score_and_the_planted_labels(tmp_path: Path) -> None:
    out = tmp_path / "scores"
    assert run("score", *LONGER, "--flip", "0.1", "--method", "confidence,accuracy", "--out", out) == 0
    table = pq.read_table(out / "scores.parquet")
    assert table.column_names == ["id", "label", "confidence", "accuracy"]
    planted = um.load("digits", limit=300, flip=0.1).flipped
    assert (out / "flipped.txt").read_text().split() == list(planted)
    scores = um.load_scores(out / "scores.parquet", "confidence")
    entry = result(out)["scores"]["confidence"]
    assert entry["auroc_flipped"] == pytest.approx(scores.auroc(planted), abs=1e-12)
    assert entry["auroc_flipped"] > 0.8
    assert (out / "report.html").stat().st_size > 10_000


def test_forget_without_reference_says_why_numbers_are_missing(
    trained: Path, request_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "forgot"
    model = trained / "original.safetensors"
    arguments = ["--limit", "300", "--model", model, "--forget", request_file, "--method", "neggrad+"]
    assert run("forget", *arguments, "--max-drop", "1", "--out", out) == 0
    outcome = result(out)["methods"]["neggrad+"]
    assert outcome["tow"] is None
    assert "retrained" in outcome["reason"]
    assert result(out)["controls"]["retrain_vs_retrain"]["tow"] is None
    before, after = load_file(out / "original.safetensors"), load_file(out / "unlearned.safetensors")
    assert all(np.array_equal(before[key], value) for key, value in load_file(model).items())
    assert any(not np.array_equal(before[key], after[key]) for key in before)


def test_forget_the_top_of_a_score_by_rum_against_retraining(tmp_path: Path) -> None:
    out = tmp_path / "forgot"
    options = ["--top", "confidence:30", "--method", "rum", "--steps", "nothing,fine-tune,neggrad+"]
    options += ["--set", "fine-tune.epochs=2", "neggrad+.alpha=0.9", "--reference", "retrain", "--max-drop", "1"]
    assert run("forget", *QUICK, *options, "--out", out) == 0
    found = result(out)
    assert found["unlearner"]["steps"][1]["epochs"] == 2
    assert found["unlearner"]["steps"][2]["alpha"] == 0.9
    assert 0 < found["methods"]["rum"]["tow"] <= 1
    assert [part["n"] for part in found["methods"]["rum"]["parts"].values()] == [10, 10, 10]
    assert found["controls"]["do_nothing"]["accuracy"]["forget"] >= found["reference"]["accuracy"]["forget"]
    assert 0 < found["controls"]["retrain_vs_retrain"]["tow"] <= 1


def test_scores_of_an_earlier_run_refine_a_later_request(tmp_path: Path, request_file: Path) -> None:
    scored = tmp_path / "scored"
    assert run("score", *QUICK, "--out", scored) == 0
    known = ["--model", scored / "original.safetensors", "--scores", scored / "scores.parquet"]
    steps = ["--steps", "nothing,nothing", "--forget", request_file]
    assert run("forget", "--limit", "300", *known, *steps, "--out", tmp_path / "forgot") == 0
    assert run("forget", "--limit", "299", *known, *steps, "--out", tmp_path / "other") == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["forget", "--forget", "{missing}"], ["no such file"]),
        (["forget"], ["--forget FILE", "--top SCORE:N"]),
        (["forget", "--top", "confidence:5", "--scores", "{folder}"], ["a folder, not a file", "check the path"]),
        (
            ["forget", "--top", "confidence:5", "--crossfit", "{run}"],
            ["a folder, not a file; give", "run/crossfit.npz"],
        ),
        (["forget", "--where", "label=3", "--method", "nothing", "--steps", "bogus"], ["nothing does not use it"]),
        (["forget", "--where", "label=3", "--method", "scrub", "--score", "blah"], ["--score 'blah'", "--method rum"]),
        (["forget", "--where", "label=3", "--method", "ssd", "--targets", "teacher"], ["--method matching"]),
        (["forget", "--where", "label=3", "--budget", "3"], ["--tune, which is not given"]),
        (["forget", "--top", "confidense:5"], ["did you mean 'confidence'?"]),
        (["forget", "--top", "confidence"], ["SCORE:N"]),
        (["forget", "--top", "confidence:5", "--method", "scrubb"], ["no such method"]),
        (["forget", "--top", "confidence:5", "--steps", "nothin"], ["did you mean 'nothing'?"]),
        (["forget", "--top", "confidence:5", *RUM, "--set", "fine-tune.lrr=1"], ["did you mean 'lr'?"]),
        (["forget", "--top", "confidence:5", *RUM, "--set", "fine-tune.lr=x"], ["must be a number"]),
        (["forget", "--top", "confidence:5", "--set", "lr"], ["FIELD=VALUE"]),
        (["forget", "--forget", "{twice}", "--model", "{pickle}", "--method", "fine-tune"], ["more than once"]),
        (["score", "--method", "accuracy,feldmann"], ["'feldmann'"]),
        (["score", "--model", "{pickle}", "--method", "aum"], ["while the original trains", "choose holdout"]),
        (["train", "--data", "digit"], ["did you mean 'digits'?"]),
        (["train", "--data", "{missing}.npz"], ["no such file"]),
        (["train", "--data", "fashion-mnist", "--folder", "{nowhere}"], ["nowhere", "dataset-fashion-mnist"]),
        (["train", "--limit", "5000"], ["limit 5000", "1,258"]),
        (["train", "--arch", "resnet81"], ["did you mean 'resnet18'?"]),
        (["train", "--device", "warp"], ["device 'warp'"]),
        (["train", "--lr", "-1"], ["lr -1.0"]),
        (["train", "--lr", "1e9", *QUICK], ["not a finite number", "lower rate"]),
        (["train", "--limt", "5"], ["Did you mean --limit?"]),
        (["train", "--epochs", "many"], ["--epochs"]),
        (["trian"], ['Did you mean "train"?']),
    ],
)
def test_a_wrong_input_is_one_sentence_and_leaves_nothing_behind(
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "twice").write_text("17\n17\n")
    (tmp_path / "pickle").write_bytes(b"\x80\x04N.")
    for name in ("folder", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "run" / "crossfit.npz").touch()
    paths = {name: str(tmp_path / name) for name in ("twice", "pickle", "missing", "nowhere", "folder", "run")}
    before = sorted(tmp_path.iterdir())
    out = tmp_path / "deep" / "out"
    assert run(*(text.format(**paths) for text in arguments), "--out", out) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("unmem: ")
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err
    assert sorted(tmp_path.iterdir()) == before


def test_a_model_of_other_data_is_refused(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = trained / "original.safetensors"
    options = ["--model", model, "--top", "confidence:9", "--scores", tmp_path / "none", "--method", "fine-tune"]
    assert run("forget", *options, "--out", tmp_path / "out") == 2
    assert "no such file" in capsys.readouterr().err
    (tmp_path / "ids.txt").write_text(um.load("digits").train.ids[0])
    ask = ["--forget", tmp_path / "ids.txt", "--method", "fine-tune", "--out", tmp_path / "out"]
    assert run("forget", "--model", model, *ask) == 2
    assert "trained on other examples" in capsys.readouterr().err


def test_a_finished_run_is_replaced_only_by_force(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = trained / "my notes.txt"
    mine.write_text("keep")
    before = (trained / "result.json").read_bytes()
    assert run("train", *QUICK, "--seed", "1", "--out", trained) == 2
    assert "--force" in capsys.readouterr().err
    assert (trained / "result.json").read_bytes() == before
    assert run("train", *QUICK, "--out", trained, "--force") == 0
    assert mine.read_text() == "keep"
    mine.unlink()


def test_a_folder_that_cannot_be_made_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run("train", *QUICK, "--out", tmp_path / "file" / "run") == 2
    assert "cannot be written" in capsys.readouterr().err


TELLS = """
from pathlib import Path
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.steps = nn.Linear(64, 10), 0

    def forward(self, x):
        self.steps += 1
        if self.steps == 50:
            Path({path!r}).touch()
        return self.layer(x.flatten(1))

def make():
    return Net()
"""


def said_in_file(arguments: list[str], file: Path) -> None:
    """A command whose errors go to a file."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY), 2)
    main(arguments)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_half_written(stop: signal.Signals, tmp_path: Path) -> None:
    out, begun, said = tmp_path / "run", tmp_path / "begun", tmp_path / "said"
    (tmp_path / "nets.py").write_text(TELLS.format(path=str(begun)))
    options = ["--arch", f"{tmp_path}/nets.py:make", "--epochs", "100000", "--out", str(out)]
    process = started(said_in_file, ["train", *options], said)
    try:
        deadline = time.monotonic() + 60
        while not begun.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert out.exists()
        os.kill(process.pid, stop)
        process.join(60)
    finally:
        process.kill()
        process.join()
    assert process.exitcode == 130
    assert said.read_text().strip() == "unmem: interrupted; nothing was written."
    assert not out.exists()


def test_help_is_quick_and_each_command_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("demo", "train", "score", "forget", "audit", "init"):
        assert run(command, "--help") == 0
        assert f"Example: unmem {command}" in capsys.readouterr().out
    pages = (
        "import sys\nfrom unmem.cli.app import main\nfor command in sys.argv[1:]:\n    try: main([command, '--help'])\n"
    )
    pages += (
        "    except SystemExit as end: assert end.code == 0\nprint({'torch', 'numpy', 'sklearn'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", pages, "train", "forget", "init", "audit"]
    shown = subprocess.check_output(command, text=True)
    assert shown.count("Example: unmem ") == 4
    assert shown.splitlines()[-1] == "set()"


def test_the_list_of_commands_is_the_same_with_and_without_their_files(capsys: pytest.CaptureFixture[str]) -> None:
    """It comes from summaries; with another option beside it, from the docstrings of the commands."""
    shown: list[list[str]] = []
    for options in ([], ["--help"], ["-h"], ["--no-config", "--help"]):
        assert run(*options) == 0
        shown.append([line.rstrip() for line in capsys.readouterr().out.splitlines()])
    assert "Usage: unmem COMMAND [OPTIONS]" in shown[0]
    assert shown[1:] == [shown[0]] * 3


def test_the_list_of_commands_is_shown_without_their_files() -> None:
    page = "import sys\nfrom unmem.cli.app import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    page += "print([name for name in sys.modules if name.startswith(('unmem.cli.', 'unmem.store', 'markdown_it'))])"
    shown = subprocess.check_output([sys.executable, "-c", page], text=True)
    assert shown.splitlines()[-1] == "['unmem.cli.terminal', 'unmem.cli.faults', 'unmem.cli.app']"
