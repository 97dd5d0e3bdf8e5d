"""Models as users bring them to the command line, and as they get them back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import unmem as um
from tests.cli.test_commands import run
from tests.models.bert import save_bert, sentences
from unmem import models
from unmem.cli.options import ModelOptions
from unmem.cli.original import read_model, read_original, recipe_of
from unmem.cli.saving import save_unlearned
from unmem.cli.session import Session
from unmem.errors import UserError
from unmem.store import RunFolder

QUICK = ["--limit", "300", "--epochs", "8", "--split", "70/15/15"]


@pytest.fixture(scope="module")
def data() -> um.Splits:
    return um.load("digits", limit=300)


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory, data: um.Splits) -> Path:
    """A folder with net.py, request.txt, and model.ckpt: a training script's checkpoint of a network compiled there."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "net.py").write_text(
        "from torch import nn\n"
        "def make(input_shape, n_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, n_classes))\n"
    )
    (folder / "request.txt").write_text("\n".join(data.train.ids[:24]))
    model = um.train(um.Recipe(model=f"{folder}/net.py:make", epochs=8), data.train)
    state = {f"_orig_mod.{key}": value for key, value in model.state_dict().items()}
    torch.save({"model": state, "epoch": 8}, folder / "model.ckpt")
    return folder


def test_a_checkpoint_of_a_network_of_ones_own_is_unlearned_and_keeps_its_keys(mine: Path, tmp_path: Path) -> None:
    known = ["--model", mine / "model.ckpt", "--arch", f"{mine}/net.py:make", "--forget", mine / "request.txt"]
    options = ["--method", "neggrad+", "--reference", "retrain", "--executor", "processes", "--workers", "1"]
    assert run("forget", *QUICK, *known, *options, "--max-drop", "1", "--out", tmp_path / "out") == 0
    before = torch.load(mine / "model.ckpt", weights_only=True)["model"]
    after = load_file(tmp_path / "out" / "unlearned.safetensors")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert all(
        torch.equal(before[key], value) for key, value in load_file(tmp_path / "out/original.safetensors").items()
    )
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert 0 < result["methods"]["neggrad+"]["tow"] <= 1
    files = ["--model", tmp_path / "out/unlearned.safetensors", "--original", mine / "model.ckpt"]
    asked = ["--forget", mine / "request.txt", "--arch", f"{mine}/net.py:make"]
    assert run("audit", *QUICK, *files, *asked, "--no-relearning", "--out", tmp_path / "audit") == 0


def test_how_a_checkpoint_was_trained_is_not_known(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few.txt"
    few.write_text("\n".join((mine / "request.txt").read_text().splitlines()[:9]))
    known = ["--model", mine / "model.ckpt", "--arch", f"{mine}/net.py:make", "--forget", few]
    assert run("forget", *QUICK, *known, "--method", "fine-tune", "--max-drop", "1", "--out", tmp_path / "out") == 0
    assert (
        "models trained here use 8 epochs of SGD, lr 0.1, batch size 128 (--epochs, --optimizer"
        in capsys.readouterr().out
    )
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<p>The forget set has 9 examples: with fewer than 20, accuracies say little about it.</p>" in page
    assert f"read from {mine}/model.ckpt; models trained here: 8 epochs of SGD" in page
    again = ["--model", tmp_path / "out" / "unlearned.safetensors", "--arch", f"{mine}/net.py:make"]
    assert run("forget", *QUICK, *again, "--where", "label=3", "--method", "nothing", "--out", tmp_path / "again") == 0
    assert "how it was trained" not in capsys.readouterr().out


def test_a_pickle_needs_the_flag(data: um.Splits, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = um.train(um.Recipe(model="mlp", epochs=8), data.train)
    torch.save(whole, tmp_path / "whole.pt")
    options = ["--model", tmp_path / "whole.pt", "--method", "holdout", "--out", tmp_path / "out"]
    assert run("score", *QUICK, *options) == 2
    assert "--unsafe-load" in capsys.readouterr().err
    assert run("score", *QUICK, *options, "--unsafe-load") == 0
    assert "keys and shapes of mlp" in capsys.readouterr().out


def test_a_model_at_chance_is_told_why(data: um.Splits, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = um.train(um.Recipe(model="mlp", epochs=8), data.train)
    with torch.no_grad():
        last: Any = model[-1]
        order = (torch.arange(10) + 1) % 10
        last.weight.copy_(last.weight[order])
        last.bias.copy_(last.bias[order])
    card = models.Card("mlp", data.train.input_shape, 10)
    models.save(model, card, tmp_path / "other.safetensors")
    options = ["--model", tmp_path / "other.safetensors", "--method", "holdout", "--out", tmp_path / "out"]
    assert run("score", *QUICK, *options) == 2
    said = capsys.readouterr().err
    assert "no more than chance" in said
    assert "its class 9 is your class 0, its class 0 is your class 1" in said
    assert not (tmp_path / "out").exists()


def test_the_plan_is_of_the_network_in_the_file(tmp_path: Path, data: um.Splits) -> None:
    session = Session("forget", {}, data)
    models.save(nn.Identity(), models.Card("vit", (1, 8, 8), 10), tmp_path / "a.safetensors")
    assert recipe_of(session, ModelOptions(model=tmp_path / "a.safetensors")).model == "vit"
    assert recipe_of(session, ModelOptions(model=tmp_path / "a.safetensors", arch="mlp")).model == "mlp"
    assert recipe_of(session, ModelOptions()).model == "small_cnn"


def test_the_plan_reads_the_network_that_a_checkpoint_is_known_by(
    tmp_path: Path, data: um.Splits, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(models.build("mlp", data.train.input_shape, 10, seed=0).state_dict(), tmp_path / "a.pth")
    options = ["--model", tmp_path / "a.pth", "--where", "label=3", "--method", "fine-tune", "--plan", "--out", "x"]
    assert run("forget", *QUICK, *options) == 0
    assert "is loaded as such" in capsys.readouterr().out


def test_a_text_model_is_read_from_its_folder_and_written_as_one(tmp_path: Path) -> None:
    data = sentences()
    folder = save_bert(tmp_path / "bert")
    model, _ = models.load(folder, arch=None, input_shape=data.train.input_shape, n_classes=3)
    um.fit(model, data.train, um.Recipe(epochs=6, lr=0.1, batch_size=8), seed=0)
    models.save_like(folder, model, tmp_path / "trained", {})
    (tmp_path / "trained" / "tokenizer.json").write_text("{}")

    session = Session("forget", {}, data)
    options = ModelOptions(model=tmp_path / "trained", epochs=6, batch_size=8)
    original = read_original(session, options)
    assert original is not None
    assert original.recipe.model == recipe_of(session, options).model == f"transformers/{tmp_path / 'trained'}"
    problem = um.Problem(original.model, data, data.train.ids[:6], recipe=original.recipe)
    unlearned = um.NegGradPlus(epochs=1)(problem, seed=0)
    with RunFolder(tmp_path / "out") as out:
        save_unlearned(session, out, original, unlearned, problem, {"method": "neggrad+"})
    names = {path.name for path in (tmp_path / "out" / "unlearned").iterdir()}
    assert names == {"README.md", "config.json", "model.safetensors", "tokenizer.json", "unmem.json"}
    said = [models.said_by(tmp_path / "out" / name) for name in ("unlearned", "unlearned.safetensors")]
    assert [one is not None and one.forgotten is not None and len(one.forgotten) for one in said] == [6, 6]
    readme = (tmp_path / "out/unlearned/README.md").read_text()
    assert "| method | neggrad+ |" in readme
    assert f"| unmem version | {um.__version__} |" in readme
    expected = um.predict(unlearned, data.test)
    for path in (tmp_path / "out/unlearned", tmp_path / "out/unlearned.safetensors"):
        again = read_model(session, path, ModelOptions())
        assert torch.equal(um.predict(again.model, data.test), expected)
    assert np.isfinite(expected.numpy()).all()


def test_there_is_no_usual_network_for_token_ids() -> None:
    with pytest.raises(UserError, match="no usual network for token ids; pass transformers/DIR"):
        recipe_of(Session("train", {}, sentences()), ModelOptions())


def test_retraining_from_a_base_is_said_and_not_from_the_model_itself(
    tmp_path: Path, data: um.Splits, capsys: pytest.CaptureFixture[str]
) -> None:
    classes, shape = data.train.n_classes, data.train.input_shape
    for name, outputs in (("base", classes + 2), ("mine", classes)):
        model = models.build("mlp", shape, outputs, seed=3)
        models.save(model, models.Card("mlp", shape, outputs), tmp_path / f"{name}.safetensors")
    session = Session("forget", {}, data)
    options = ModelOptions(base=tmp_path / "base.safetensors", epochs=1)
    file = tmp_path / "mine.safetensors"
    recipe = read_model(session, file, options).recipe
    assert recipe.base == str(tmp_path / "base.safetensors")
    assert recipe_of(session, replace(options, arch="mlp")) == recipe
    assert capsys.readouterr().out.count("but for 5.weight and 1 more: these are drawn at random") == 1
    with pytest.raises(UserError, match="is the model itself"):
        read_model(session, file, replace(options, base=file))
