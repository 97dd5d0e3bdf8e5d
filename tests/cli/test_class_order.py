"""Which output means which class: by the model's own names, by --classes, and by what the model gets right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import unmem as um
from unmem import models
from unmem.cli import session
from unmem.cli.app import main
from unmem.data import Splits, numbered_as
from unmem.errors import UserError

NAMES = ["ash", "birch", "cedar", "elm", "fir"]


def frame(n: int = 200) -> pd.DataFrame:
    """Rows that say which of five trees they are."""
    random = np.random.default_rng(0)
    kind = np.arange(n) % 5
    values = np.eye(5)[kind] * 3 + random.normal(size=(n, 5))
    made = pd.DataFrame(values, columns=[f"x{k}" for k in range(5)])
    return made.assign(id=[f"t{k}" for k in range(n)], label=[NAMES[k] for k in kind])


def loaded() -> Splits:
    return um.load(frame(), id="id", label="label")


def labels_of(data: Splits) -> dict[str, str]:
    """By id, the name that the class number of an example stands for."""
    parts = data.parts.values()
    return {i: data.classes[y] for part in parts for i, y in zip(part.ids, part.labels.tolist(), strict=True)}


@pytest.mark.parametrize(
    "names",
    [NAMES, NAMES[::-1], ["fir", "ash", "elm", "birch", "cedar"], ["Fir", "ASH", "elm", "Birch", "cedar"]],
)
def test_every_example_keeps_the_name_of_its_class(names: list[str]) -> None:
    data = numbered_as(loaded(), names, field="--classes", whose="it names")
    assert data.classes == tuple(names)
    assert {i: name.casefold() for i, name in labels_of(data).items()} == labels_of(loaded())


def test_a_model_may_have_classes_that_the_data_have_not() -> None:
    data = numbered_as(loaded(), ["oak", *NAMES], field="--data", whose="the model has")
    assert data.train.n_classes == data.test.n_classes == 6
    assert 0 not in data.train.labels
    assert labels_of(data) == labels_of(loaded())


def test_numbers_count_in_the_order_of_the_names() -> None:
    data = um.load((np.eye(3, dtype=np.float32)[np.arange(60) % 3], np.arange(60) % 3))
    named = numbered_as(data, ["x", "y", "z"], field="--classes", whose="it names")
    assert named.classes == ("x", "y", "z")
    assert torch.equal(named.train.labels, data.train.labels)
    with pytest.raises(UserError, match="it names 2 classes, the data have 3"):
        numbered_as(data, ["x", "y"], field="--classes", whose="it names")


def test_numbers_in_another_order_are_the_order_of_the_outputs() -> None:
    data = um.load((np.eye(3, dtype=np.float32)[np.arange(60) % 3], np.arange(60) % 3))
    moved = numbered_as(data, ["2", "0", "1"], field="--classes", whose="it names")
    assert moved.classes == ("2", "0", "1")
    assert torch.equal(moved.train.labels, torch.tensor([1, 2, 0])[data.train.labels])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (NAMES[:4], "fir.*a class of the data that is not among those of the model .ash, birch, cedar, elm."),
        ([*NAMES[:4], "oak"], "'fir': a class of the data"),
        ([*NAMES, "Elm"], "a name is there twice"),
    ],
)
def test_names_that_do_not_fit_are_refused(names: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        numbered_as(loaded(), names, field="--data", whose="the model has")


def folder_with(names: dict[str, str] | None, folder: Path) -> Path:
    folder.mkdir()
    config = {"model_type": "bert"} | ({} if names is None else {"id2label": names})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ({"0": "neg", "1": "pos"}, ("neg", "pos")),
        ({"10": "k", "2": "c", "1": "b"}, ("b", "c", "k")),  # by number, not as text
        ({"0": "LABEL_0", "1": "LABEL_1"}, ()),  # nobody named them
        (None, ()),
        ({"a": "b"}, ()),
    ],
)
def test_the_names_of_a_models_outputs(names: dict[str, str] | None, found: tuple[str, ...], tmp_path: Path) -> None:
    folder = folder_with(names, tmp_path / "model")
    assert models.class_names(folder) == models.class_names(folder / "model.safetensors") == found


def test_the_order_of_a_model_is_that_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(session, "warn", said.append)
    folder = folder_with({str(k): name for k, name in enumerate(NAMES[::-1])}, tmp_path / "model")
    data = session.numbered(loaded(), "", str(folder))
    assert data.classes == tuple(NAMES[::-1])
    assert labels_of(data) == labels_of(loaded())
    assert said == ["the classes are numbered as the model does: fir, elm, cedar, birch, ash"]
    # What the user says goes before what the model says.
    assert session.numbered(loaded(), ",".join(NAMES), str(folder)).classes == tuple(NAMES)
    other = folder_with({"0": "yes", "1": "no"}, tmp_path / "other")
    with pytest.raises(UserError, match=r"not among those of the model .yes, no.*--classes in the order"):
        session.numbered(loaded(), "", str(other))


def test_a_model_with_two_classes_exchanged_is_refused_until_they_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame().to_csv(tmp_path / "trees.csv", index=False)
    data, theirs = loaded(), ["ash", "birch", "elm", "cedar", "fir"]
    recipe = um.Recipe(model="mlp", epochs=30, batch_size=32)
    trained = um.train(recipe, numbered_as(data, theirs, field="", whose="").train, seed=0)
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    (tmp_path / "ids.txt").write_text("\n".join(data.train.ids[:5]))
    asked = ["forget", "--data", tmp_path / "trees.csv", "--model", tmp_path / "model.pt", "--arch", "mlp"]
    asked += ["--forget", tmp_path / "ids.txt", "--method", "fine-tune", "--max-drop", "1", "--split", "70/15/15"]

    def run(*more: str | Path) -> int:
        with pytest.raises(SystemExit) as stopped:
            main([str(one) for one in (*asked, *more)])
        assert isinstance(stopped.value.code, int)
        return stopped.value.code

    assert run("--out", tmp_path / "refused") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "its class 3 is your class 2 (cedar), its class 2 is your class 3 (elm)" in said
    assert f"pass --classes {','.join(theirs)}" in said
    assert run("--classes", ",".join(theirs), "--out", tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "result.json").read_text())
    assert found["original"]["accuracy"]["train"] > 0.9
    # What unmem wrote says in which order it is, and is read so without a word.
    asked = ["check", "--data", tmp_path / "trees.csv", "--model", tmp_path / "out" / "unlearned.safetensors"]
    assert run() == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the classes are numbered as the model does: ash, birch, elm, cedar, fir" in said


def test_a_file_of_unmem_says_the_order_unless_the_data_have_other_classes(tmp_path: Path) -> None:
    file, train = tmp_path / "model.safetensors", loaded().train
    network = models.build("mlp", train.input_shape, 5, seed=0)
    for names, expected in (
        (NAMES[::-1], NAMES[::-1]),
        ([], NAMES),
        (["oak", "Ash", "birch", "cedar", "elm"], NAMES),  # of other data: fir is not among them
        ([*NAMES[::-1], "Fir"], NAMES),  # two names that are the same but for capitals
    ):
        models.save(network, models.Card("mlp", train.input_shape, 5, classes=tuple(names)), file)
        assert session.numbered(loaded(), "", str(file)).classes == tuple(expected)
