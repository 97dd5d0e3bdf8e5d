"""`unmem check`: what is understood and what looks wrong, without training; and that other commands heed the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import unmem as um
from tests.cli.commands import run
from unmem.requests import shared_inputs

MODEL = "model.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits in an .npz file of 300 training and 200 test examples, a model of them, and a request."""
    folder = tmp_path_factory.mktemp("check")
    digits = um.load("digits")
    x = np.concatenate([15 * part.inputs.numpy()[:, 0] for part in digits.parts.values()])
    y = np.concatenate([part.labels.numpy() for part in digits.parts.values()])
    np.savez(folder / "data.npz", x_train=x[:300], y_train=y[:300], x_test=x[1500:1700], y_test=y[1500:1700])
    options = ["--data", folder / "data.npz", "--arch", "mlp", "--epochs", "20", "--scaling", "symmetric"]
    assert run("train", *options, "--out", folder / "train") == 0
    (folder / "train" / "original.safetensors").rename(folder / MODEL)
    (folder / "ids.txt").write_text("\n".join(map(str, range(30))))
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("data.npz", MODEL, "ids.txt"):
        (tmp_path / name).write_bytes((made / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Case:
    """change: what is done to the files. options: beside --data and --model. says: in the list, line breaks apart.
    code: the exit code. doubts: whether anything looks wrong."""

    says: list[str]
    change: Callable[[Path], None] = lambda _: None
    options: list[str] = field(default_factory=list)
    model: list[str] = field(default_factory=lambda: ["--model", MODEL])
    code: int = 0
    doubts: bool = False


def arrays(place: Path, **changed: Callable[[dict[str, np.ndarray]], np.ndarray]) -> None:
    held = dict(np.load(place / "data.npz"))
    np.savez(place / "data.npz", **held | {name: make(held) for name, make in changed.items()})


def without_card(place: Path) -> None:
    save_file(load_file(place / MODEL), place / MODEL)


def with_other_order(place: Path) -> None:
    """The model of another numbering of the classes: outputs 0 and 1 change places."""
    state = load_file(place / MODEL)
    order = torch.tensor([1, 0, *range(2, 10)])
    last = [name for name, value in state.items() if value.shape[0] == 10]
    save_file(
        {name: value[order].contiguous() if name in last else value for name, value in state.items()}, place / MODEL
    )


def shared(held: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([held["x_train"][:7], held["x_test"][7:]])


MLP = ["--arch", "mlp"]
CASES = {
    "fine": Case(
        [
            "data data.npz: 300 training, 100 holdout, 100 test examples",
            "ids numbers in the order of the source, from 0 to 299",
            "classes 10, in the order of the outputs: 0 (",
            "images of 1 x 8 x 8, stored as uint8; the model sees -1 to ",
            "no unseen example is an exact copy of a training example",
            "mlp in model.safetensors, 85,002 parameters; trained by unmem on these examples",
            "it gets right 100.0% of training, ",
            "Nothing looks wrong.",
        ]
    ),
    "request": Case(["request 30 of 300 training examples; by class 0 ("], options=["--forget", "ids.txt"]),
    "no-model": Case(["model small_cnn, 57,594 parameters, to be trained here"], model=[]),
    "own-ids": Case(
        ["ids those of the source, such as n0, n1, n2"],
        lambda place: arrays(place, ids_train=lambda held: np.array([f"n{k}" for k in range(len(held["y_train"]))])),
        model=[],
    ),
    "few": Case(
        ["the forget set has 3 examples: with fewer than 20"],
        lambda place: (place / "ids.txt").write_text("0\n1\n2") and None,
        options=["--forget", "ids.txt"],
        doubts=True,
    ),
    "one": Case(
        ["the forget set has 1 example: with fewer than 20"],
        lambda place: (place / "ids.txt").write_text("5") and None,
        options=["--forget", "ids.txt"],
        doubts=True,
    ),
    "copies-between-splits": Case(
        ["inputs of the test set are exact copies of training inputs: they are not unseen"],
        lambda place: arrays(place, x_test=shared),
        doubts=True,
        model=[],
    ),
    "copy-between-splits": Case(
        ["1 of 100 inputs of the holdout is an exact copy of a training input: it is not unseen"],
        lambda place: arrays(place, x_test=lambda held: np.concatenate([held["x_train"][:1], held["x_test"][1:]])),
        doubts=True,
        model=[],
    ),
    "copies-of-the-request": Case(
        ["10 retained examples are copies of forget examples, and such copies preserve their influence"],
        lambda place: arrays(
            place,
            x_train=lambda held: np.concatenate([held["x_train"], held["x_train"][:10]]),
            y_train=lambda held: np.concatenate([held["y_train"], held["y_train"][:10]]),
        ),
        options=["--forget", "ids.txt"],
        doubts=True,
        model=[],
    ),
    "copy-of-the-request": Case(
        ["1 retained example is a copy of forget examples, and such copies preserve their influence"],
        lambda place: arrays(
            place,
            x_train=lambda held: np.concatenate([held["x_train"], held["x_train"][:1]]),
            y_train=lambda held: np.concatenate([held["y_train"], held["y_train"][:1]]),
        ),
        options=["--forget", "ids.txt"],
        doubts=True,
        model=[],
    ),
    "class-without-examples": Case(
        ["no training example has the class 4: its output is never trained"],
        lambda place: arrays(
            place,
            y_train=lambda held: np.where(held["y_train"] == 4, 5, held["y_train"]),
            y_test=lambda held: np.where(held["y_test"] == 4, 5, held["y_test"]),
        ),
        doubts=True,
        model=[],
    ),
    "class-of-the-test-set-alone": Case(
        ["refused labels 10 in test: are classes without a training example"],
        lambda place: arrays(place, y_test=lambda held: np.where(np.arange(200) == 3, 10, held["y_test"])),
        code=2,
        doubts=True,
        model=[],
    ),
    "class-never-tested": Case(
        ["the test set has no example of the class 9", "the holdout has no example of the class 9"],
        lambda place: arrays(place, y_test=lambda held: held["y_test"] % 9),
        doubts=True,
        model=[],
    ),
    "constant-images": Case(
        ["300 of 300 training inputs hold one value throughout"],
        lambda place: arrays(place, x_train=lambda held: np.full_like(held["x_train"], 255)),
        doubts=True,
        model=[],
    ),
    "large-numbers": Case(
        ["inputs reach 255, where networks expect numbers near 1"],
        lambda place: arrays(place, x_train=lambda held: 255.0 * (held["x_train"] > 120).astype(np.float32)),
        doubts=True,
        model=MLP,
    ),
    "from-elsewhere": Case(
        ["the file does not say on what data", "it gets right 100.0% of training"],
        without_card,
        model=["--model", MODEL, *MLP],
    ),
    "other-order": Case(
        ["refused --model 'model.safetensors': it gets", "of its own training examples right"],
        with_other_order,
        model=["--model", MODEL, *MLP],
        code=2,
        doubts=True,
    ),
    "other-data": Case(
        ["it was trained on other examples than these"], options=["--limit", "100"], code=2, doubts=True
    ),
    "two-errors": Case(
        ["refused --model 'none.pt': no such file", "--forget 'none.txt': no such file", "data data.npz: 300 training"],
        model=["--model", "none.pt"],
        options=["--forget", "none.txt"],
        code=2,
        doubts=True,
    ),
    "unknown-ids": Case(
        ["not an id of these 300 training examples"],
        lambda place: (place / "ids.txt").write_text("nobody") and None,
        options=["--forget", "ids.txt"],
        code=2,
        doubts=True,
    ),
    "empty-request": Case(
        ["the request is empty"],
        lambda place: (place / "ids.txt").write_text("") and None,
        options=["--forget", "ids.txt"],
        code=3,
        doubts=True,
    ),
    "no-data": Case(
        ["refused data 'nowhere.npz': no such file"], options=["--data", "nowhere.npz"], code=2, doubts=True
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_list_says_what_was_understood_and_what_looks_wrong(
    name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    case.change(place)
    data = [] if "--data" in case.options else ["--data", "data.npz"]
    scaling = [] if name == "large-numbers" else ["--scaling", "symmetric"]
    before = {path.name for path in place.iterdir()}
    assert run("check", *data, *scaling, *case.model, *case.options) == case.code
    said = capsys.readouterr()
    shown = " ".join(said.out.split())
    for text in case.says:
        assert text in shown, said.out
    assert max(map(len, said.out.splitlines())) <= 80
    assert ("What looks wrong" in shown) == case.doubts, said.out
    assert ("Nothing looks wrong" in shown) == (not case.doubts)
    assert bool(said.err) == (case.code != 0)
    assert {path.name for path in place.iterdir()} == before


@pytest.mark.parametrize("command", ["check", "forget"])
def test_a_scaling_that_costs_a_model_from_elsewhere_accuracy_is_doubted(
    command: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without_card(place)
    out = ["--method", "fine-tune", "--epochs", "1", "--max-drop", "1", "--out", place / "out"]
    more = [] if command == "check" else out
    for scaling, doubted in (("unit", True), ("symmetric", False)):
        asked = ["--data", "data.npz", "--model", MODEL, *MLP, "--forget", "ids.txt", "--scaling", scaling]
        assert run(command, *asked, *more, *(["--force"] if more and not doubted else [])) == 0
        shown = " ".join(capsys.readouterr().out.split())
        said = "with --scaling symmetric it gets 100.0% right of a sample of its training examples"
        assert (said in shown) == doubted, shown


@pytest.mark.parametrize("name", ["copies-between-splits", "class-never-tested"])
@pytest.mark.parametrize("command", ["score", "forget"])
def test_a_command_says_the_same_doubts_first(
    command: str, name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    case.change(place)
    asked = {"score": ["--method", "confidence"], "forget": ["--forget", "ids.txt", "--max-drop", "1"]}[command]
    options = ["--data", "data.npz", "--scaling", "symmetric", *MLP, "--epochs", "2", "--out", place / "out"]
    assert run(command, *asked, *options) == 0
    shown = capsys.readouterr().out
    assert any(line.startswith("  note  ") and case.says[0] in line for line in shown.splitlines())
    assert shown.index(case.says[0]) < shown.index("Train the original")


def test_a_set_without_a_word_on_its_split_is_refused_as_forget_does(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without_card(place)
    held = dict(np.load(place / "data.npz"))
    np.savez(place / "data.npz", x_train=held["x_train"], y_train=held["y_train"])
    options = ["--data", "data.npz", "--scaling", "symmetric", "--model", MODEL, *MLP]
    splits = um.load(place / "data.npz")
    (place / "ids.txt").write_text("\n".join(splits.train.ids[:5]))
    assert run("check", *options) == 2
    said = capsys.readouterr()
    assert run("forget", *options, "--forget", "ids.txt", "--out", place / "out") == 2
    assert capsys.readouterr().err == said.err
    assert "which of its examples this model was never trained on is not known" in said.err
    assert run("check", *options, "--split", "none") == 0
    assert "all of the data are training data" in " ".join(capsys.readouterr().out.split())


def test_inputs_that_two_sets_share_are_counted_whatever_their_order() -> None:
    random = np.random.default_rng(0)
    x = random.integers(0, 4, (60, 3)).astype(np.float32)
    first, second = um.Examples.of(x[:20], np.zeros(20, int)), um.Examples.of(x[20:], np.zeros(40, int))
    expected = [any((row == other).all() for other in x[20:]) for row in x[:20]]
    assert 0 < sum(expected) < 20
    assert shared_inputs(first, second).tolist() == expected
    assert shared_inputs(first.at(np.arange(0)), second).tolist() == []
