"""Requests one after another: what was forgotten stays forgotten, and its rows may be deleted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import unmem as um
from tests.cli.commands import run
from unmem import models
from unmem.models import Forgotten

RECIPE = ["--arch", "mlp", "--epochs", "60", "--batch-size", "32"]
METHODS = (
    *("retrain", "fine-tune", "l1-sparse", "neggrad", "neggrad+", "scrub", "random-label", "salun", "influence"),
    *("bad-teacher", "ssd", "rum", "matching"),
)
DEFAULT = ("auto", "fine-tune")
SIZE = 12  # of a request


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits of which 60 have a wrong label, as arrays with ids, a model that knows them, and five requests."""
    folder = tmp_path_factory.mktemp("again")
    data = um.load("digits", limit=500, flip=0.12)
    write(folder / "d.npz", data)
    for k in range(5):
        (folder / f"{k}.txt").write_text("\n".join(data.flipped[SIZE * k : SIZE * (k + 1)]))
    assert run("train", "--data", folder / "d.npz", *RECIPE, "--out", folder / "train") == 0
    return folder


@pytest.fixture(scope="module")
def first(home: Path) -> Path:
    """The model after the first request."""
    return forget(home, 0, home / "train" / "original.safetensors", home / "first")


def write(path: Path, data: um.Splits, without: Any = ()) -> None:
    train = data.train.drop(without) if len(without) else data.train
    arrays: dict[str, Any] = {}
    for name, part in (("train", train), ("test", data.test), ("val", data.holdout)):
        inputs, labels = part.batch(torch.arange(len(part)))
        arrays |= {f"x_{name}": inputs.numpy(), f"y_{name}": labels.numpy(), f"ids_{name}": part.ids}
    np.savez(path, **arrays)


def named(home: Path, k: int) -> list[str]:
    return (home / f"{k}.txt").read_text().split()


def planted(model: Path, home: Path) -> float:
    """Share of the first request that a model says the planted label of."""
    train = um.load(home / "d.npz").train
    net, _ = models.load(model, arch=None, input_shape=train.input_shape, n_classes=10)
    asked = train.take(named(home, 0))
    return float((um.predict(net, asked).argmax(1) == asked.labels).float().mean())


def forget(home: Path, k: int, model: Path, out: Path, *more: str | Path, data: str = "d.npz") -> Path:
    given = ["--data", home / data, *RECIPE, "--model", model, "--forget", home / f"{k}.txt", "--max-drop", "1"]
    assert run("forget", *given, *more, "--out", out) == 0
    return out / "unlearned.safetensors"


@pytest.mark.parametrize(
    "method",
    [*DEFAULT, *(pytest.param(one, marks=pytest.mark.slow) for one in METHODS if one not in DEFAULT)],
)
def test_the_first_request_stays_forgotten_through_five(method: str, home: Path, tmp_path: Path) -> None:
    model = home / "train" / "original.safetensors"
    assert planted(model, home) > 0.6
    levels: list[float] = []
    for k in range(5):
        model = forget(home, k, model, tmp_path / str(k), "--method", method)
        levels.append(planted(model, home))
    data = um.load(home / "d.npz")
    recipe = um.Recipe(model="mlp", epochs=60, batch_size=32)
    retrained = um.train(recipe, data.train.drop([name for k in range(5) for name in named(home, k)]), seed=7)
    asked = data.train.take(named(home, 0))
    honest = float((um.predict(retrained, asked).argmax(1) == asked.labels).float().mean())
    assert max(levels[1:]) <= max(levels[0], honest) + 2.5 / SIZE  # two examples and a half


def test_it_comes_back_if_it_is_trained_on_again(home: Path, first: Path, tmp_path: Path) -> None:
    """What the card prevents: the same two requests with a file that does not say what it forgot."""
    torch.save(load_file(first), tmp_path / "silent.pt")
    silent = forget(home, 1, tmp_path / "silent.pt", tmp_path / "1", "--method", "fine-tune")
    said = forget(home, 1, first, tmp_path / "2", "--method", "fine-tune")
    assert planted(silent, home) > planted(said, home) + 3 / SIZE


def test_the_card_names_nobody_and_knows_everybody(home: Path, first: Path, tmp_path: Path) -> None:
    original = home / "train" / "original.safetensors"
    second = forget(home, 1, first, tmp_path / "1")
    none, some, ledger = (getattr(models.said_by(path), "forgotten") for path in (original, first, second))  # noqa: B009
    assert none is None
    assert isinstance(ledger, Forgotten)
    assert [len(some), len(ledger)] == [SIZE, 2 * SIZE]
    train = um.load(home / "d.npz").train
    marked = train.ids[ledger.marks(train.ids.tolist())]
    assert sorted(marked) == sorted(named(home, 0) + named(home, 1))
    for name in (*named(home, 0), *named(home, 1)):
        assert f'"{name}"' not in json.dumps(ledger.hashes)
    # The same run gives the same file.
    again = forget(home, 0, original, tmp_path / "again")
    assert again.read_bytes() == first.read_bytes()


def test_forgotten_rows_may_be_deleted_all_or_some(
    home: Path, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = um.load(home / "d.npz")
    write(home / "fewer.npz", data, named(home, 0))
    write(home / "some.npz", data, named(home, 0)[:5])
    write(home / "other.npz", data, named(home, 1)[:1])
    capsys.readouterr()
    whole = forget(home, 1, first, tmp_path / "1")
    assert "12 examples that this model forgot before are left out" in capsys.readouterr().out
    fewer = forget(home, 1, first, tmp_path / "2", data="fewer.npz")
    assert "12 examples that this model forgot before are no longer in the data" in capsys.readouterr().out
    some = forget(home, 1, first, tmp_path / "3", data="some.npz")
    assert fewer.read_bytes() == whole.read_bytes() == some.read_bytes()
    given = ["--data", home / "other.npz", *RECIPE, "--model", first, "--forget", home / "2.txt"]
    assert run("forget", *given, "--out", tmp_path / "4") == 2
    assert "trained on other examples than these" in capsys.readouterr().err


def test_what_is_forgotten_already_is_said(
    home: Path, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", home / "d.npz", *RECIPE, "--model", first, "--max-drop", "1"]
    capsys.readouterr()
    assert run("forget", *given, "--forget", home / "0.txt", "--out", tmp_path / "1") == 3
    assert "this model forgot all 12 of them before" in capsys.readouterr().err
    (tmp_path / "both.txt").write_text("\n".join(named(home, 0)[:2] + named(home, 1)))
    assert run("forget", *given, "--forget", tmp_path / "both.txt", "--out", tmp_path / "2") == 0
    assert "2 of 14 examples of the request were forgotten by this model before" in capsys.readouterr().out
    assert json.loads((tmp_path / "2" / "result.json").read_text())["forget"]["n"] == SIZE


def test_every_command_leaves_out_what_was_forgotten(
    home: Path, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second = forget(home, 1, first, tmp_path / "1", "--reference", "retrain")
    capsys.readouterr()
    data = ["--data", home / "d.npz", *RECIPE]
    left = "12 examples that this model forgot before are left out"
    assert run("score", *data, "--model", first, "--method", "curvature", "--out", tmp_path / "score") == 0
    assert left in capsys.readouterr().out
    assert not set(named(home, 0)) & set(um.load_scores(tmp_path / "score" / "scores.parquet").ids)
    assert run("prepare", *data, "--model", first, "--out", tmp_path / "prepare") == 0
    assert left in capsys.readouterr().out
    assert run("check", *data, "--model", first, "--forget", home / "1.txt") == 0
    assert left in " ".join(capsys.readouterr().out.split())
    # An audit of the second request is of data without the first; one of the first keeps it, and leaves out the second.
    for k, model, original in ((1, second, first), (0, second, home / "train" / "original.safetensors")):
        out = tmp_path / f"audit{k}"
        asked = ["--model", model, "--original", original, "--forget", home / f"{k}.txt", "--no-relearning"]
        assert run("audit", *data, *asked, "--out", out) == 0
        assert left in capsys.readouterr().out
        assert json.loads((out / "result.json").read_text())["forget"]["n"] == SIZE


def test_what_was_prepared_before_a_request_is_refused_after_it(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its models were trained on what is to stay forgotten."""
    data = ["--data", home / "d.npz", *RECIPE]
    original = home / "train" / "original.safetensors"
    assert run("prepare", *data, "--model", original, "--out", tmp_path / "prepare") == 0
    crossfit = ["--crossfit", tmp_path / "prepare" / "crossfit.npz"]
    first = forget(home, 0, original, tmp_path / "0", *crossfit)
    capsys.readouterr()
    asked = [*data, "--forget", home / "1.txt", *crossfit]
    assert run("forget", *asked, "--model", first, "--out", tmp_path / "1") == 2
    assert "made from other examples than these" in capsys.readouterr().err
    # Starting from the original again brings the first request back, and that is said.
    assert run("forget", *asked, "--model", original, "--out", tmp_path / "2") == 0
    assert "12 other examples were forgotten by way of" in capsys.readouterr().out
