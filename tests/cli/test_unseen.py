"""Unseen examples that were seen: what a model from elsewhere was trained on is said, or asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import unmem as um
from tests.cli.commands import run
from unmem.data import Examples, Splits
from unmem.errors import UserError
from unmem.evaluation import equally_confident

RECIPE = um.Recipe(model="mlp", epochs=120)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of digits with noisy labels, and models from elsewhere: of unmem's training part, and of all of it."""
    folder = tmp_path_factory.mktemp("home")
    bunch: Any = load_digits()
    random = np.random.default_rng(0)
    labels = np.where(random.random(600) < 0.2, random.integers(0, 10, 600), bunch.target[:600])
    np.savez(folder / "d.npz", x_train=(bunch.images[:600, None] / 16).astype(np.float32), y_train=labels)
    for name, split in (("part", "70/15/15"), ("all", "none")):
        model = um.train(RECIPE, um.load(folder / "d.npz", split=split).train)
        torch.save(model.state_dict(), folder / f"{name}.pt")
    data = um.load(folder / "d.npz")
    (folder / "ids.txt").write_text("\n".join(data.train.ids[:20]))
    (folder / "unseen.txt").write_text("\n".join([*data.holdout.ids, *data.test.ids]))
    return folder


def forget(home: Path, model: str, *more: str | Path) -> int:
    asked = ["--data", home / "d.npz", "--arch", "mlp", "--epochs", "120", "--model", home / f"{model}.pt"]
    return run("forget", *asked, "--forget", home / "ids.txt", "--max-drop", "1", *more)


UNKNOWN = "which of its examples this model was never trained on is not known"
ALIKE = "as sure of its unseen examples as of its training set"


@pytest.mark.parametrize(
    ("model", "said", "code", "words"),
    [
        ("part", [], 2, [UNKNOWN, "--test FILE or --unseen IDS", "--split none"]),
        ("all", [], 2, [UNKNOWN]),
        ("part", ["--split", "70/15/15"], 0, []),
        ("part", ["--unseen", "{home}/unseen.txt"], 0, []),
        ("all", ["--split", "70/15/15"], 0, [ALIKE]),  # a wrong word is noticed
        ("all", ["--split", "none"], 0, ["there is no ToW, no attack"]),
        ("part", ["--split", "70/20"], 2, ["is not TRAIN/HOLDOUT/TEST"]),
        ("part", ["--split", "50/50/50"], 2, ["sum to 100"]),
        ("part", ["--split", "none", "--unseen", "{home}/unseen.txt"], 2, ["leave one of them out"]),
        ("part", ["--unseen", "{home}/ids.txt"], 2, ["the model was never trained on"]),  # what is to be forgotten
    ],
)
def test_a_finished_model_and_one_file(
    home: Path, model: str, said: list[str], code: int, words: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = [one.format(home=home) for one in said]
    assert forget(home, model, *given, "--out", tmp_path / "out") == code
    shown = capsys.readouterr()
    told = " ".join((shown.out + shown.err).split())
    assert all(word in told for word in words)
    assert (ALIKE in told) == (ALIKE in words)
    assert (tmp_path / "out").exists() == (code == 0)


def test_a_split_that_nobody_confirmed_decides_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An id that unmem would have drawn for the holdout may well be one that the model was trained on."""
    drawn = um.load(home / "d.npz").holdout.ids[:3]
    (home / "drawn.txt").write_text("\n".join(drawn))
    for command in ("forget", "audit"):
        asked = ["--data", home / "d.npz", "--arch", "mlp", "--model", home / "all.pt"]
        assert run(command, *asked, "--forget", home / "drawn.txt", "--out", home / "drawn") == 2
        assert UNKNOWN in capsys.readouterr().err


def test_an_audit_needs_unseen_examples(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--data", home / "d.npz", "--arch", "mlp", "--model", home / "all.pt", "--split", "none"]
    assert run("audit", *asked, "--forget", home / "ids.txt", "--out", home / "alone") == 2
    assert "an audit compares with unseen examples, and there are none" in capsys.readouterr().err


def test_without_unseen_examples_nothing_is_said_of_them(home: Path, tmp_path: Path) -> None:
    more = ["--split", "none", "--reference", "retrain", "--reference-seeds", "1"]
    assert forget(home, "all", *more, "--out", tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "result.json").read_text())
    assert found["data"]["sizes"] == {"train": 600, "holdout": 0, "test": 0}
    outcome = found["methods"]["auto"]
    assert (outcome["accuracy"]["test"], outcome["mia"], outcome["tow"], outcome["tow_mia"]) == (None,) * 4
    assert outcome["reason"] == "needs unseen examples, but all examples are training examples"
    assert outcome["accuracy"]["forget"] is not None
    assert found["guard"]["fell"] is False
    page = (tmp_path / "out" / "report.html").read_text().split("<script>")[0]
    assert "nan" not in page
    asked = ["--data", home / "d.npz", "--arch", "mlp", "--model", home / "all.pt", "--split", "none"]
    assert run("audit", *asked, "--forget", home / "ids.txt", "--out", tmp_path / "audit") == 2


def test_what_unmem_trained_needs_no_word(home: Path, tmp_path: Path) -> None:
    asked = ["--data", home / "d.npz", "--arch", "mlp", "--epochs", "10"]
    assert run("train", *asked, "--out", tmp_path / "run") == 0
    model = tmp_path / "run" / "original.safetensors"
    more = ["--forget", home / "ids.txt", "--max-drop", "1", "--out", tmp_path / "out"]
    assert run("forget", *asked, "--model", model, *more) == 0


def parts(data: Splits) -> tuple[set[str], set[str], set[str]]:
    return tuple(set(part.ids.tolist()) for part in data.parts.values())  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("split", ["80/10/10", "34/33/33", "98/1/1"])
def test_shares_are_as_asked(split: str, home: Path) -> None:
    data = um.load(home / "d.npz", split=split)
    found = [len(part) / 6 for part in data.parts.values()]
    assert found == pytest.approx([float(one) for one in split.split("/")], abs=0.5)
    assert data.split_here


def test_unseen_ids_are_apart_from_the_training_set(home: Path) -> None:
    ids = tuple(f"{k}" for k in range(0, 600, 5))
    data = um.load(home / "d.npz", unseen=ids)
    train, holdout, test = parts(data)
    assert holdout | test == set(ids)
    assert len(holdout) == len(test) == 60
    assert train == {str(k) for k in range(600)} - set(ids)
    assert not data.split_here
    with pytest.raises(UserError, match=r"unseen .*'x'"):
        um.load(home / "d.npz", unseen=("x",))


def test_data_with_a_test_set_of_their_own_are_not_split(home: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(home / "d.npz"))
    np.savez(tmp_path / "own.npz", **arrays, x_test=arrays["x_train"][:40], y_test=arrays["y_train"][:40])
    with pytest.raises(UserError, match="has unseen examples of its own"):
        um.load(tmp_path / "own.npz", split="70/15/15")


def test_seen_alike_is_a_matter_of_standard_errors(home: Path) -> None:
    data = um.load(home / "d.npz")
    part = um.train(RECIPE, data.train)
    assert not equally_confident(part, data.train, data.holdout)
    assert equally_confident(part, data.train, data.train)


def test_few_unseen_examples_that_a_model_knows_worse_do_not_pass_for_seen() -> None:
    """As of a table with two unseen sets of 110 rows: each alone says less than both."""

    def examples(n: int, sure: float, prefix: str) -> Examples:
        margins = np.random.default_rng(n).normal(size=n)
        margins = 3 * (margins - margins.mean()) / margins.std() + sure
        inputs = np.stack([margins, np.zeros(n)], 1).astype(np.float32)
        return Examples.of(inputs, np.zeros(n, int), ids=[f"{prefix}{k}" for k in range(n)], n_classes=2)

    train, holdout, test = examples(600, 2.8, ""), examples(110, 2.2, "h"), examples(109, 2.2, "t")
    model = torch.nn.Identity()
    assert equally_confident(model, train, holdout)  # 1.9 standard errors
    assert not equally_confident(model, train, holdout, test)  # 2.5
    assert equally_confident(model, train, examples(220, 2.5, "u"))  # 1.3


def test_a_share_that_falls_is_seen_behind_log_odds_far_out() -> None:
    def examples(right: float, prefix: str) -> Examples:
        margins = np.full(500, 1.0)
        margins[int(500 * right) :] = -1.0
        margins[:3] = 400.0  # of an example that the model is far too sure of
        inputs = np.stack([margins, np.zeros(500)], 1).astype(np.float32)
        return Examples.of(inputs, np.zeros(500, int), ids=[f"{prefix}{k}" for k in range(500)], n_classes=2)

    model = torch.nn.Identity()
    assert not equally_confident(model, examples(0.85, ""), examples(0.75, "u"))
    assert equally_confident(model, examples(0.85, ""), examples(0.84, "u"))
