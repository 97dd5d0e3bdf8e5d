"""Options from a file, and `unmem init`, which writes one."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.commands import run
from unmem.cli.options import DataOptions, ModelOptions, RecipeOptions, RunOptions, settings
from unmem.store import write_text

QUICK = "arch: mlp\nepochs: 2\nlimit: 200\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kept(folder: str) -> dict:
    return yaml.safe_load(Path(folder, "config.yaml").read_text())


def numbers(folder: str) -> dict:
    """All of a result but what time and place make different."""
    found = json.loads(Path(folder, "result.json").read_text())

    def timeless(value: object) -> object:
        if isinstance(value, dict):
            return {
                key: timeless(one) for key, one in value.items() if "seconds" not in key and not key.startswith("cost")
            }
        return value

    named = ("seconds", "still_carrying")  # the latter names the run folder
    return {key: timeless(one) for key, one in found.items() if key not in named}


def test_flags_come_before_the_file_and_the_file_before_defaults() -> None:
    Path("my.yaml").write_text("arch: mlp\nepochs: 5\nlimit: 200\nbatch-size: 64\nlr: 5e-2\nweight_decay: null\n")
    assert run("train", "--config", "my.yaml", "--epochs", "1", "--out", "run") == 0
    found = kept("run")
    assert (found["epochs"], found["batch_size"], found["lr"]) == (1, 64, 0.05)
    assert (found["weight_decay"], found["momentum"]) == (ModelOptions().weight_decay, 0.9)


def test_label_smoothing_comes_by_flag_or_file_into_the_recipe() -> None:
    Path("my.yaml").write_text(QUICK + "label_smoothing: 0.2\n")
    assert run("train", "--config", "my.yaml", "--out", "by-file") == 0
    assert run("train", "--config", "my.yaml", "--label-smoothing", "0.3", "--out", "by-flag") == 0
    for folder, expected in (("by-file", 0.2), ("by-flag", 0.3)):
        found = json.loads(Path(folder, "result.json").read_text())
        assert found["original"]["recipe"]["label_smoothing"] == expected
        assert kept(folder)["label_smoothing"] == expected
    assert run("train", "--config", "my.yaml", "--label-smoothing", "1", "--out", "refused") == 2


def test_the_file_of_this_folder_is_taken_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    Path("unmem.yaml").write_text(QUICK)
    assert run("train", "--out", "run") == 0
    assert "note  options from ./unmem.yaml" in capsys.readouterr().out
    assert kept("run")["epochs"] == 2
    Path("unmem.yaml").write_text("epochs: broken")
    for ignored in (["--no-config"], ["--config", "none"]):
        assert run("train", *ignored, "--out", "run") == 2
        assert "already holds a run" in capsys.readouterr().err  # and not: broken
    assert run("train", "--config", "my.yaml", "--no-config", "--out", "other") == 2
    assert "--no-config was given too" in capsys.readouterr().err


def test_toml_is_read_too() -> None:
    Path("my.toml").write_text('arch = "mlp"\nepochs = 1\nlimit = 200\n')
    assert run("train", "--config", "my.toml", "--out", "run") == 0
    assert kept("run")["epochs"] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch: 3", "my.yaml 'epoch': no command has such an option; did you mean 'epochs'?"),
        ("epochs: many", "my.yaml epochs: 'many': the value must be a whole number"),
        ("epochs: 2.5", "epochs: 2.5: the value must be a whole number"),
        ("epochs: true", "epochs: True: the value must be a whole number"),
        ("lr: [1]", "lr: a list: the value must be a number"),
        ("data: {a: 1}", "data: a mapping: the value must be text"),
        ("schedule: cosin", "the value must be one of cosine, linear, cooldown, constant"),
        ("force: sure", "force: 'sure': the value must be true or false"),
        ("epochs: 1\nepochs: 2", "'epochs': duplicate key"),
        ("batch-size: 1\nbatch_size: 2", "'batch_size': duplicate key"),
        ("- epochs", "it holds no KEY: VALUE lines"),
        ("epochs: [", "cannot be read"),
        ("1: 2", "is not the name of an option"),
        ("command: trian", "command: 'trian': no such command; did you mean 'train'?"),
        ("epochs: 1" + "0" * 5000, "cannot be read"),
    ],
)
def test_a_wrong_file_is_one_sentence(text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("my.yaml").write_text(text)
    assert run("train", "--config", "my.yaml", "--out", "run") == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
    assert not Path("run").exists()


def test_keys_of_other_commands_are_ignored() -> None:
    Path("my.yaml").write_text(QUICK + "max_drop: 1\nannex: x.csv\nfolds: 3\nmembers: 4\ncount: 5\n")
    assert run("train", "--config", "my.yaml", "--out", "run") == 0


def test_a_request_on_the_command_line_replaces_that_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("my.yaml").write_text(QUICK + "top: confidence:5\nmethod: fine-tune\nplan: true\n")
    assert run("forget", "--config", "my.yaml", "--where", "label=3", "--out", "x") == 0
    assert "20 of 200" in capsys.readouterr().out
    assert run("forget", "--config", "my.yaml", "--out", "x") == 0
    assert "5 of 200" in capsys.readouterr().out
    assert run("forget", "--config", "my.yaml", "--where", "label=3", "--top", "aum:5", "--out", "x") == 2
    assert "--top and --where are given together" in capsys.readouterr().err


def test_the_original_of_a_file_is_not_what_an_audit_judges(capsys: pytest.CaptureFixture[str]) -> None:
    Path("unmem.yaml").write_text("model: original.safetensors\n")
    assert run("audit", "--where", "label=3", "--out", "x") == 2
    assert "--model" in capsys.readouterr().err


def test_a_run_is_repeated_by_its_own_settings() -> None:
    Path("my.yaml").write_text(QUICK + "flip: 0.1\n")
    rum = ["--method", "rum", "--steps", "nothing,fine-tune", "--set", "fine-tune.epochs=1", "--max-drop", "1"]
    assert run("forget", "--config", "my.yaml", "--where", "label=3", *rum, "--out", "first") == 0
    assert run("--config", "first/config.yaml", "--out", "second") == 2  # whom it is about is not kept
    assert run("--config", "first/config.yaml", "--where", "label=3", "--out", "second") == 0
    assert run("forget", "--config", "first/config.yaml", "--where", "label=3", "--seed", "1", "--out", "third") == 0
    assert numbers("first") == numbers("second")
    assert numbers("first") != numbers("third")
    assert kept("first") == kept("second")


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("train", ["--precision", "fp32"]),
        ("score", ["--method", "confidence,holdout"]),
        ("prepare", []),
        ("scenario", ["mislabelled", "--method", "fine-tune", "--reference-seeds", "1"]),
    ],
)
def test_every_command_takes_its_settings_back(command: str, options: list[str]) -> None:
    Path("my.yaml").write_text(QUICK)
    assert run(command, *options, "--config", "my.yaml", "--out", "first") == 0
    assert run("--config", "first/config.yaml", "--out", "second") == 0
    assert numbers("first") == numbers("second")


def test_a_run_of_another_command_gives_data_and_training(capsys: pytest.CaptureFixture[str]) -> None:
    Path("my.yaml").write_text(QUICK)
    assert run("score", "--config", "my.yaml", "--method", "accuracy", "--out", "scored") == 0
    assert run("forget", "--config", "scored/config.yaml", "--top", "aum:5", "--plan", "--out", "x") == 0
    assert "train the original" in capsys.readouterr().out


def test_init_writes_defaults_that_commands_take_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init") == 0
    text = Path("unmem.yaml").read_text()
    assert yaml.safe_load(text) == settings(DataOptions(), RunOptions(), ModelOptions())
    assert "# Number of epochs.\nepochs: 30\n" in text
    assert "unmem train --out" in capsys.readouterr().out
    assert run("init") == 2
    assert "--force" in capsys.readouterr().err
    assert Path("unmem.yaml").read_text() == text
    assert run("init", "--force", "--limit", "200", "--arch", "mlp", "--epochs", "1") == 0
    assert run("train", "--out", "run") == 0
    of_a_file = settings(ModelOptions()).keys() - settings(RecipeOptions()).keys()  # such as model; not for train
    written = yaml.safe_load(Path("unmem.yaml").read_text())
    assert kept("run") == {"command": "train"} | {key: written[key] for key in written.keys() - of_a_file}


def test_init_mends_a_broken_file() -> None:
    write_text(Path("unmem.yaml"), "epochs: [")
    assert run("init", "--force") == 0
    assert yaml.safe_load(Path("unmem.yaml").read_text())["epochs"] == 30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "digit"], "did you mean 'digits'?"),
        (["--model", "none.safetensors"], "no such file"),
        (["--base", "none.safetensors"], "no such file"),
        (["--data", "none.py:made"], "no file none.py"),
        (["--data", "none/train.csv"], "no such file"),
        (["--epochs", "-1"], "epochs -1"),
        (["--file", "x.txt"], "not the name of a .yaml file"),
        (["--file", "nowhere/x.yaml"], "folder does not exist"),
    ],
)
def test_init_checks_what_it_can(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init", *arguments) == 2
    assert words in capsys.readouterr().err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "source", ["hf:owner/name", "cifar10", "mine.py:made", "package.module:made", "bought.csv", "."]
)
def test_init_takes_every_source_of_data(source: str) -> None:
    Path("mine.py").write_text("def made(): ...\n")
    Path("bought.csv").write_text("age,bought\n40,yes\n")
    label = ["--label", "bought"] if source == "bought.csv" else []
    assert run("init", "--data", source, "--model", ".", *label) == 0
    assert yaml.safe_load(Path("unmem.yaml").read_text())["data"] == source


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "no column is called label, target, class, y, labels; name one of age, bought"),
        (["--label", "buoght"], "did you mean 'bought'?"),
        (["--label", "bought", "--text", "words"], "--text 'words': no such column"),
    ],
)
def test_init_knows_the_columns_of_a_table(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bought.csv").write_text("age,bought\n40,yes\n")
    assert run("init", "--data", "bought.csv", *options) == 2
    assert words in capsys.readouterr().err


def answers(here: Path, typed: bytes) -> tuple[str, dict[str, Any]]:
    """What `unmem init` shows on a terminal and writes, given these answers."""
    driver, terminal = pty.openpty()
    os.write(driver, typed)
    command = [sys.executable, "-m", "unmem", "init"]
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, cwd=here)
    assert process.wait(timeout=120) == 0
    shown = os.read(driver, 100_000).decode()
    os.close(driver)
    os.close(terminal)
    return shown, yaml.safe_load((here / "unmem.yaml").read_text())


def test_init_asks_for_the_columns_of_a_table(here: Path) -> None:
    (here / "bought.csv").write_text("words,bought\nmore,yes\n")
    shown, found = answers(here, b"bought.csv\nlabel\nbought\nwords\n\n\n\n")
    assert "Column with the labels (words, bought): " in shown
    assert "--label 'label': no such column" in shown
    assert (found["data"], found["label"], found["text"]) == ("bought.csv", "bought", "words")


def test_init_asks_on_a_terminal(here: Path) -> None:
    shown, found = answers(here, b"digit\ndigits\n\nmlp\nmany\n7\n")
    assert "Epochs of the training [30]: " in shown
    assert "did you mean 'digits'?" in shown
    assert (found["data"], found["model"], found["arch"], found["epochs"]) == ("digits", None, "mlp", 7)
