"""Each input that is refused: its sentence, its exit code, and that nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import unmem as um
from tests.cli.test_commands import run

DATA = ["--limit", "200"]
FORGET = ["forget", *DATA, "--method", "fine-tune"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By name: requests, data sets and models that are wrong in one way each."""
    folder = tmp_path_factory.mktemp("bad")
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
        "some": train[:20],
    }
    for name, names in ids.items():
        (folder / name).write_text("\n".join(names))
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
    corrupt = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    corrupt[7] = np.nan
    np.savez(folder / "nan.npz", x_train=corrupt, y_train=np.arange(60) % 3, ids_train=np.arange(100, 160))
    (folder / "twelve.txt").write_text(str(um.load(str(folder / "twelve.npz")).train.ids[0]))
    assert run("train", *DATA, "--arch", "mlp", "--epochs", "3", "--out", folder / "run") == 0
    assert run("train", *DATA, "--arch", "mlp", "--epochs", "0", "--out", folder / "raw") == 0
    state = load_file(folder / "run" / "original.safetensors")
    first, *rest = state
    save_file({key: state[key] for key in rest}, folder / "missing.safetensors")
    save_file(state | {"extra": state[first].clone()}, folder / "unexpected.safetensors")
    (folder / "model.pt").write_bytes(b"\x80\x04N.")
    found = {path.name: path for path in folder.iterdir()}
    return found | {name: folder / name / "original.safetensors" for name in ("run", "raw")}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([*FORGET, "--forget", "{duplicate}"], 2, ["more than once", "(1 such)", "--dedupe"]),
        ([*FORGET, "--forget", "{unknown}"], 2, ["'nobody'", "not an id", "(1 such)", "such as"]),
        ([*FORGET, "--forget", "{negative}"], 2, ["'-1'", "not an id", "such as"]),
        ([*FORGET, "--forget", "{fraction}"], 2, [".0'", "not an id", "such as"]),
        ([*FORGET, "--forget", "{test}"], 2, ["id of the test set", "(2 such)"]),
        ([*FORGET, "--forget", "{holdout}"], 2, ["id of the holdout set", "(2 such)"]),
        ([*FORGET, "--forget", "{empty}"], 3, ["empty"]),
        ([*FORGET, "--forget", "{everything}"], 2, ["whole training set"]),
        ([*FORGET, "--top", "confidence:0"], 3, ["asks for no example"]),
        ([*FORGET, "--top", "confidence:200"], 2, ["there are 200 training examples"]),
        ([*FORGET, "--where", "site=oslo"], 2, ["no column 'site'", "id, label"]),
        ([*FORGET, "--where", "label=77"], 3, ["holds for no training example"]),
        ([*FORGET, "--where", "label"], 2, ["COLUMN=VALUE"]),
        ([*FORGET, "--issues", "{some}"], 2, ["positions"]),
        ([*FORGET, "--issues", "{run}"], 2, ["--issues", "cannot be read"]),
        ([*FORGET, "--forget", "{some}", "--where", "label=3"], 2, ["--forget and --where are given together"]),
        (["audit", *DATA, "--model", "{run}", "--forget", "{unknown}"], 2, ["'nobody'", "not an id"]),
        (["audit", *DATA, "--model", "{run}"], 2, ["exactly one of --forget FILE", "--issues FILE"]),
        (
            ["forget", "--data", "{twelve.npz}", "--model", "{run}", "--forget", "{twelve.txt}", "--method", "nothing"],
            2,
            ["10 outputs", "labels go up to 11"],
        ),
        (["train", "--data", "{onehot.npz}"], 2, ["labels of shape", "not one-hot or multi-label", "argmax"]),
        (["train", "--data", "{multilabel.npz}"], 2, ["labels of shape", "not one-hot or multi-label"]),
        (["train", "--data", "{regression.npz}"], 2, ["class indices are whole numbers", "regression"]),
        (["train", "--data", "{text.npz}"], 2, ["text is no class index"]),
        (["train", "--data", "{nan.npz}"], 2, ["inputs of id '107'", "not finite numbers (1 such"]),
        ([*FORGET, "--forget", "{some}", "--model", "{model.pt}"], 2, ["model.pt", "safetensors"]),
        (
            [*FORGET, "--forget", "{some}", "--model", "{missing.safetensors}", "--arch", "mlp"],
            2,
            ["weights are not those of mlp", "1 missing"],
        ),
        ([*FORGET, "--forget", "{some}", "--model", "{unexpected.safetensors}", "--arch", "mlp"], 2, ["extra"]),
        ([*FORGET, "--forget", "{some}", "--model", "{raw}"], 2, ["no more than chance", "--arch"]),
    ],
)
def test_a_bad_input_is_refused(
    files: dict[str, Path],
    arguments: list[str],
    code: int,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(files[text[1:-1]]) if text.startswith("{") else text for text in arguments]
    capsys.readouterr()
    assert run(*given, "--out", tmp_path / "deep" / "out") == code
    message = capsys.readouterr().err
    assert message.startswith("unmem: ")
    assert message.count("\n") == 1
    for word in words:
        assert word in message
    assert list(tmp_path.iterdir()) == []


def test_repeated_ids_are_taken_once_if_asked(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*FORGET, "--forget", files["duplicate"], "--dedupe", "--plan", "--out", tmp_path / "out") == 0
    assert "2 of 200" in capsys.readouterr().out
