"""Each input that is refused or flagged: its sentence, its exit code, and that nothing is lost.

The id of a case says what is wrong. In order: ids (duplicate, unknown, negative, no whole number, of unseen examples),
requests (empty, everything, no such column), labels (more than the outputs, one-hot, multi-label, regression, text),
inputs (no number, corrupt image), model files (pickles, keys), originals at chance (untrained, another scaling, order
of channels or of labels). Below the table: what is flagged and goes on, batch norm, and the guard.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import unmem as um
from tests.cli.test_commands import run
from tests.data.files import image_tree
from unmem import models

DATA = ["--limit", "200"]
FORGET = ["forget", *DATA, "--method", "fine-tune"]
SOME = [*FORGET, "--forget", "{some}"]
COLOURS = ["forget", "--data", "{colours}", "--where", "label=0", "--method", "nothing", "--arch", "mlp"]
NETS = """
from torch import nn

class Dropped(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.2, training=True)

def dropped():
    return nn.Sequential(nn.Flatten(), Dropped(), nn.Linear(64, 10))

def frozen():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))
    net[1].weight.requires_grad_(False)
    return net
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By name: requests, data sets and models that are wrong in one way each."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "nets.py").write_text(NETS)
    _write_requests(folder)
    _write_data(folder)
    for name, epochs in (("run", "8"), ("raw", "0")):
        recipe = ["--arch", "mlp", "--batch-size", "32", "--epochs", epochs]
        assert run("train", *DATA, *recipe, "--out", folder / name) == 0
    _write_models(folder)
    found = {path.name: path for path in folder.iterdir()}
    return found | {name: folder / name / "original.safetensors" for name in ("run", "raw")}


def _write_requests(folder: Path) -> None:
    data = um.load("digits", limit=200)
    train = data.train.ids.tolist()
    ids = {
        "duplicate": [train[0], train[1], train[0]],
        "unknown": [train[0], "nobody"],
        "negative": ["-1"],
        "fraction": [f"{train[0]}.0"],
        "test": data.test.ids[:2].tolist(),
        "holdout": data.holdout.ids[:2].tolist(),
        "empty": ["# nobody"],
        "everything": train,
        "few": train[:3],
        "some": train[:20],
        "most": train[:120],
    }
    for name, names in ids.items():
        (folder / name).write_text("\n".join(names))


def _write_data(folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, size=(60, 8, 8), dtype=np.uint8)
    labels = {
        "twelve": np.arange(60) % 12,
        "onehot": np.eye(10, dtype=np.int64)[np.arange(60) % 10],
        "multilabel": np.ones((60, 3), dtype=np.int64),
        "regression": np.linspace(0, 1, 60),
        "text": np.array(["cat", "dog"] * 30),
    }
    for name, y in labels.items():
        np.savez(folder / f"{name}.npz", x_train=images, y_train=y)
    (folder / "twelve.txt").write_text(str(um.load(str(folder / "twelve.npz")).train.ids[0]))
    numbers = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    numbers[7] = np.nan
    np.savez(folder / "nan.npz", x_train=numbers, y_train=np.arange(60) % 3, ids_train=np.arange(100, 160))
    broken = image_tree(folder / "broken") / "dog" / "004.png"
    broken.write_bytes(broken.read_bytes()[:70])
    # Blue and a little darker, red and a little brighter.
    for name, colour in (("blue", (207, 217, 227)), ("red", (250, 240, 230))):
        (folder / "colours" / name).mkdir(parents=True)
        for k in range(40):
            pixels = np.random.default_rng(k).integers(-3, 4, size=(4, 4, 3)) + colour
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "colours" / name / f"{k:02}.png")


def _write_models(folder: Path) -> None:
    state = load_file(folder / "run" / "original.safetensors")
    first, *rest = state
    save_file({key: state[key] for key in rest}, folder / "missing.safetensors")
    save_file(state | {"extra": state[first].clone()}, folder / "unexpected.safetensors")
    order = (torch.arange(10) + 1) % 10
    save_file(state | {key: state[key][order] for key in ("5.weight", "5.bias")}, folder / "order.safetensors")
    for name in ("none.pt", "pickle.safetensors"):
        (folder / name).write_bytes(b"\x80\x04N.")
    torch.save(torch.nn.Flatten(), folder / "whole.pt")
    pixel = torch.ones(3, 4, 4) / 48
    colour = torch.tensor([-1.0, 0.0, 1.0])[:, None, None] * pixel
    save_file(_two_classes(colour, 0.0), folder / "bgr.safetensors")
    save_file(_two_classes(pixel, 0.895), folder / "unit.safetensors")


def _two_classes(weight: torch.Tensor, threshold: float) -> dict[str, torch.Tensor]:
    """The state of an mlp that says 1 where the weighted sum of the pixels is above the threshold, and 0 elsewhere."""
    state = {
        key: torch.zeros_like(value) for key, value in models.build("mlp", (3, 4, 4), 2, seed=0).state_dict().items()
    }
    for unit, sign in enumerate((-1, 1)):
        state["1.weight"][unit] = 1000 * sign * weight.flatten()
        state["1.bias"][unit] = -1000 * sign * threshold
        state["3.weight"][unit, unit] = state["5.weight"][unit, unit] = 1
    return state


def _filled(arguments: list[str], files: dict[str, Path]) -> list[str]:
    return [
        str(files[text[1:-1]]) if text.startswith("{") else text.replace("NETS", str(files["nets.py"]))
        for text in arguments
    ]


def case(name: str, arguments: list[str], words: list[str], code: int = 2) -> Any:
    return pytest.param(arguments, words, code, id=name)


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        # ids
        case("duplicate", [*FORGET, "--forget", "{duplicate}"], ["more than once", "(1 such)", "--dedupe"]),
        case("unknown", [*FORGET, "--forget", "{unknown}"], ["'nobody'", "not an id", "(1 such)", "such as"]),
        case("negative", [*FORGET, "--forget", "{negative}"], ["'-1'", "not an id", "such as"]),
        case("no whole number", [*FORGET, "--forget", "{fraction}"], [".0'", "not an id", "such as"]),
        case("of the test set", [*FORGET, "--forget", "{test}"], ["id of the test set", "(2 such)", "never trained"]),
        case("of the holdout", [*FORGET, "--forget", "{holdout}"], ["id of the holdout set", "(2 such)"]),
        case("audit", ["audit", *DATA, "--model", "{run}", "--forget", "{unknown}"], ["'nobody'", "not an id"]),
        # requests
        case("empty", [*FORGET, "--forget", "{empty}"], ["empty"], 3),
        case("empty top", [*FORGET, "--top", "confidence:0"], ["asks for no example"], 3),
        case("empty where", [*FORGET, "--where", "label=77"], ["matches no training example"], 3),
        case("everything", [*FORGET, "--forget", "{everything}"], ["whole training set", "delete the model"]),
        case("top of everything", [*FORGET, "--top", "confidence:200"], ["there are 200 training examples"]),
        case("no such column", [*FORGET, "--where", "site=oslo"], ["no column 'site'", "id, label"]),
        case("no condition", [*FORGET, "--where", "label"], ["COLUMN=VALUE"]),
        case("issues of a model", [*FORGET, "--issues", "{run}"], ["--issues", "cannot be read"]),
        case("two requests", [*SOME, "--where", "label=3"], ["--forget and --where are given together"]),
        case("no request", ["audit", *DATA, "--model", "{run}"], ["exactly one of --forget FILE", "--issues FILE"]),
        # labels
        case(
            "more than the outputs",
            ["forget", "--data", "{twelve.npz}", "--model", "{run}", "--forget", "{twelve.txt}", "--method", "nothing"],
            ["10 outputs", "labels go up to 11"],
        ),
        case("one-hot", ["train", "--data", "{onehot.npz}"], ["labels of shape", "not one-hot", "argmax"]),
        case("multi-label", ["train", "--data", "{multilabel.npz}"], ["labels of shape", "one-hot or multi-label"]),
        case("regression", ["train", "--data", "{regression.npz}"], ["class indices are whole numbers", "regression"]),
        case("text", ["train", "--data", "{text.npz}"], ["labels must be integer class indices"]),
        # inputs
        case("no number", ["train", "--data", "{nan.npz}"], ["inputs of id '107'", "not finite numbers (1 such"]),
        case("corrupt image", ["train", "--data", "{broken}"], ["'dog/004.png'", "is no whole image", "repair it"]),
        case(
            "corrupt image of a stream",
            ["train", "--data", "{broken}", "--stream", "always", "--loaders", "0", "--epochs", "1"],
            ["'dog/004.png'", "is no whole image"],
        ),
        # model files
        case("pickle", [*SOME, "--model", "{whole.pt}"], ["more than weights", "Flatten", "--unsafe-load"]),
        case("pickle of nothing", [*SOME, "--model", "{none.pt}"], ["none.pt", "file of torch.save", "safetensors"]),
        case("pickle by another name", [*SOME, "--model", "{pickle.safetensors}"], ["not a .safetensors", "run code"]),
        case(
            "missing keys",
            [*SOME, "--model", "{missing.safetensors}", "--arch", "mlp"],
            ["weights are not those of mlp", "1 missing (1.bias, …)"],
        ),
        case(
            "unexpected keys",
            [*SOME, "--model", "{unexpected.safetensors}", "--arch", "mlp"],
            ["weights are not those of mlp", "1 unexpected (extra, …)"],
        ),
        # originals at chance on their own training data
        case("untrained", [*SOME, "--model", "{raw}"], ["no more than chance (10.5%)", "--arch", "label order"]),
        case(
            "another scaling",
            [*COLOURS, "--model", "{unit.safetensors}"],
            ["no more than chance", "with --scaling unit it gets 100.0% right; pass --scaling unit"],
        ),
        case(
            "channels in another order",
            [*COLOURS, "--model", "{bgr.safetensors}"],
            ["no more than chance", "with the channels in reverse order (BGR) it gets 100.0% right"],
        ),
        case(
            "labels in another order",
            [*SOME, "--model", "{order.safetensors}"],
            [
                "no more than chance",
                "its class 9 is your class 0, its class 0 is your class 1",
                "pass --classes 1,2,3,4,5,6,7,8,9,0",
            ],
        ),
    ],
)
def test_a_bad_input_is_refused(
    files: dict[str, Path],
    arguments: list[str],
    words: list[str],
    code: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = _filled(arguments, files)
    capsys.readouterr()
    assert run(*given, "--out", tmp_path / "deep" / "out") == code
    said = capsys.readouterr()
    assert said.err.startswith("unmem: ")
    assert said.err.count("\n") == 1
    for word in words:
        assert word in said.err
    assert "done" not in said.out  # before any training
    assert list(tmp_path.iterdir()) == []


def test_repeated_ids_are_taken_once_if_asked(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*FORGET, "--forget", files["duplicate"], "--dedupe", "--plan", "--out", tmp_path / "out") == 0
    assert "2 of 200" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        pytest.param(["--forget", "{few}", "--model", "{run}"], "with fewer than 20, accuracies say", id="few"),
        pytest.param(["--forget", "{most}", "--model", "{run}"], "60% of the training data: retraining is", id="most"),
        pytest.param(["--where", "label=3", "--model", "{run}"], "no example of class 3 is left", id="whole class"),
        pytest.param(["--forget", "{some}", "--arch", "NETS:frozen"], "some parameters are frozen", id="frozen"),
        pytest.param(
            ["--forget", "{some}", "--arch", "NETS:dropped"], "answers the same inputs differently", id="random"
        ),
    ],
)
def test_what_is_unusual_is_flagged_and_goes_on(
    files: dict[str, Path], arguments: list[str], flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*_filled(arguments, files), "--epochs", "3", "--max-drop", "1", "--out", str(tmp_path / "out")]
    assert run(*FORGET, *given) == 0
    assert any(line.startswith("  note  ") and flag in line for line in capsys.readouterr().out.splitlines())
    assert any(flag in one for one in json.loads((tmp_path / "out" / "result.json").read_text())["forget"]["flags"])
    assert (tmp_path / "out" / "unlearned.safetensors").is_file()


def test_batch_norm_statistics_are_those_of_the_retain_set(files: dict[str, Path], tmp_path: Path) -> None:
    options = ["--forget", files["some"], "--epochs", "1", "--max-drop", "1", "--precision", "fp32"]
    assert run(*FORGET, *options, "--out", tmp_path / "out") == 0
    train = um.load("digits", limit=200).train
    inputs, _ = train.drop(files["some"].read_text().split()).batch(torch.arange(180))
    state = load_file(tmp_path / "out" / "unlearned.safetensors")
    seen = F.conv2d(inputs, state["0.weight"], padding=1)
    torch.testing.assert_close(state["1.running_mean"], seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state["1.running_var"], seen.transpose(0, 1).flatten(1).var(1), rtol=1e-4, atol=1e-5)


def test_a_fall_in_utility_ends_with_4_and_keeps_both_models(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, out = files["run"].read_bytes(), tmp_path / "broken"
    options = [*DATA, "--model", files["run"], "--forget", files["some"]]
    ruin = ["--method", "neggrad+", "--set", "alpha=0.4", "lr=0.05", "epochs=4"]
    assert run("forget", *options, *ruin, "--out", out) == 4
    said = capsys.readouterr().out
    assert "accuracy on the holdout fell from" in said
    assert "--max-drop 0.05" in said
    given, kept, unlearned = (
        load_file(path) for path in (files["run"], out / "original.safetensors", out / "unlearned.safetensors")
    )
    assert all(torch.equal(given[key], kept[key]) for key in given)
    assert any(not torch.equal(given[key], unlearned[key]) for key in given)
    assert files["run"].read_bytes() == before
    assert json.loads((out / "result.json").read_text())["guard"]["fell"] is True
