"""Networks of the user's own: found, called by their signature, the same in every process."""

from __future__ import annotations

import copy
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import unmem as um
from tests.helpers import point_splits, same_state, state_of
from unmem import models
from unmem.ensembles import files
from unmem.errors import UserError
from unmem.unlearning.retrain import retrain_all

SOURCE = """
from torch import nn
from beside import width

class Net(nn.Module):
    def __init__(self, features, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, classes))

    def forward(self, x):
        return {"logits": self.layers(x)}

def make(input_shape, n_classes):
    return Net(input_shape[0], n_classes)

def by_position(shape, how_many, scale=1):
    return Net(shape[0], how_many)

def classes(num_classes=1000):
    return Net(4, num_classes)

def n(*, n_classes):
    return Net(4, n_classes)

def fixed():
    return Net(4, 3)

def anything(**options):
    return Net(4, **{"classes": options["num_classes"]})

def three(a, b, c):
    return None

def text():
    return "no module"

def broken():
    raise RuntimeError("out of luck")
"""
SHAPE = (4,)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("width = 8\n")
    (tmp_path / "net.py").write_text(SOURCE)
    return tmp_path / "net.py"


@pytest.mark.parametrize("name", ["make", "by_position", "classes", "n", "fixed", "anything"])
def test_a_function_is_called_by_its_signature(name: str, place: Path) -> None:
    model = models.build(f"{place}:{name}", SHAPE, 3, seed=0)
    assert model(torch.zeros(2, 4)).shape == (2, 3)
    assert list(model.state_dict()) == [f"layers.{k}.{part}" for k in (0, 2) for part in ("weight", "bias")]
    assert same_state(state_of(model), state_of(models.build(f"{place}:{name}", SHAPE, 3, seed=0)))
    assert not same_state(state_of(model), state_of(models.build(f"{place}:{name}", SHAPE, 3, seed=1)))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("three", r"needs a, b, c; give it the parameters \(input_shape, n_classes\)"),
        ("text", "gave a str; return an nn.Module"),
        ("broken", r"failed \(RuntimeError: out of luck\)"),
        ("maek", "'maek' is no function there; did you mean 'make'"),
    ],
)
def test_what_is_no_maker_of_networks_is_refused(name: str, said: str, place: Path) -> None:
    with pytest.raises(UserError, match=said):
        models.build(f"{place}:{name}", SHAPE, 3, seed=0)


def test_files_and_modules_that_cannot_be_imported_are_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import nowhere_to_be_found")
    for name, said in (
        (f"{tmp_path}/none.py:make", "no such file"),
        (f"{wrong}:make", "cannot be imported.*nowhere_to_be_found"),
        ("no_such_package.nets:make", "cannot be imported"),
    ):
        with pytest.raises(UserError, match=said):
            models.build(name, SHAPE, 3, seed=0)


def test_a_module_in_the_folder_of_the_command_is_found(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.parent)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    place.rename(place.with_name("nets_of_mine.py"))
    assert models.build("nets_of_mine:make", SHAPE, 3, seed=0)(torch.zeros(1, 4)).shape == (1, 3)
    del sys.modules["nets_of_mine"], sys.modules["beside"]


def test_what_a_file_imports_is_what_lies_beside_it_and_not_beside_another(tmp_path: Path) -> None:
    sizes: list[int] = []
    for width in (5, 7):
        folder = tmp_path / str(width)
        folder.mkdir()
        (folder / "beside.py").write_text(f"width = {width}\n")
        (folder / "net.py").write_text(SOURCE)
        sizes.append(len(models.build(f"{folder}/net.py:make", SHAPE, 3, seed=0).state_dict()["layers.0.bias"]))
    assert sizes == [5, 7]


def test_a_package_beside_a_file_is_not_that_beside_another(tmp_path: Path) -> None:
    sizes: list[int] = []
    for width in (5, 7):
        package = tmp_path / str(width) / "beside_in_parts"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("from beside_in_parts.sizes import width\n")
        (package / "sizes.py").write_text(f"width = {width}\n")
        file = package.with_name("net.py")
        file.write_text(SOURCE.replace("from beside", "from beside_in_parts"))
        sizes.append(len(models.build(f"{file}:make", SHAPE, 3, seed=0).state_dict()["layers.0.bias"]))
    assert sizes == [5, 7]


def test_outputs_that_are_no_logits_are_refused(tmp_path: Path) -> None:
    (tmp_path / "flat.py").write_text("from torch import nn\ndef make(): return nn.Flatten(0)\n")
    with pytest.raises(UserError, match=r"gives of shape \(8,\), not logits"):
        models.build(f"{tmp_path}/flat.py:make", SHAPE, 3, seed=0)(torch.zeros(2, 4))


def test_it_is_copied_pickled_saved_and_loaded(place: Path, tmp_path: Path) -> None:
    name = f"{place}:make"
    model = models.build(name, SHAPE, 5, seed=1)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same_state(state_of(other), state_of(model))
    file = tmp_path / "model.safetensors"
    models.save(model, models.Card(name, SHAPE, 5), file)
    loaded, card = models.load(file, arch=name, input_shape=SHAPE, n_classes=3)
    assert (card.arch, card.n_classes) == (name, 5)
    assert same_state(state_of(loaded), state_of(model))


def test_members_and_retrained_models_are_trained_in_processes(place: Path, tmp_path: Path) -> None:
    data = point_splits(40)
    recipe = um.Recipe(model=f"{place}:make", epochs=2, batch_size=8)
    kept = np.ones((2, 40), dtype=bool)
    kept[:, :5] = False
    folder = tmp_path / "members"
    unseen_by_this_process: Any = nn.Linear(4, 3)
    problem = um.Problem(unseen_by_this_process, data, data.train.ids[:5], recipe=recipe)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = um.train_members(recipe, data.train, kept, executor=pool, folder=folder)
        (model,), _ = retrain_all(problem, [1], executor=pool)
    assert same_state(state_of(model), state_of(um.Retrain()(problem, seed=1)))
    here = um.train_members(recipe, data.train, kept)
    assert np.array_equal(there.train.phi, here.train.phi)
    # Members of another version of the file are others.
    found = list(files.members_in(folder))
    built = partial(models.source_of, recipe.model, input_shape=data.train.input_shape, n_classes=3)
    assert [one.about["source"] for one in found] == [built()] * 2
    place.write_text(SOURCE + "\n# changed\n")
    assert found[0].about["source"] != built()
