"""What a network is: results of another one are never taken for its own, whatever it was that changed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import unmem as um
from tests.helpers import point_splits
from unmem import models
from unmem.ensembles import files

NET = """
import json
from pathlib import Path
from torch import nn
import helper
from parts.head import head

class Net(nn.Module):
    scale = 1.0

    def __init__(self, n_classes):
        super().__init__()
        width = json.loads((Path(__file__).parent / "width.json").read_text())
        self.body = nn.Linear(4, width)
        self.head = head(width, n_classes)

    def forward(self, x):
        return self.head(helper.activation(self.body(x)) * self.scale)

def make(n_classes):
    return Net(n_classes)
"""
HELPER = "import torch\nimport deeper\n\ndef activation(x):\n    return torch.relu(x) + deeper.shift\n"
FILES = {
    "net.py": NET,
    "helper.py": HELPER,
    "deeper.py": "shift = 0.0\n",
    "parts/__init__.py": "",
    "parts/head.py": "from torch import nn\nfrom .size import bias\n\n"
    "def head(a, b):\n    return nn.Linear(a, b, bias=bias)\n",
    "parts/size.py": "bias = True\n",
    "width.json": "6",
    "stranger.py": "shift = 5\n",
}
RECIPE = {"epochs": 1, "batch_size": 16}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path / "net.py"


def known(place: Path) -> str | None:
    return models.source_of(f"{place}:make", input_shape=(4,), n_classes=3)


def answers(place: Path) -> torch.Tensor:
    with torch.no_grad():
        return models.build(f"{place}:make", (4,), 3, seed=0)(torch.linspace(-1, 1, 8).view(2, 4))


CHANGES = [
    ("net.py", "scale = 1.0", "scale = 2.0"),
    ("helper.py", "torch.relu", "torch.tanh"),
    ("deeper.py", "0.0", "1.0"),  # what an import imports
    ("parts/head.py", "nn.Linear(a, b", "nn.Linear(a, b, dtype=None"),
    ("parts/size.py", "True", "False"),  # a part of a package
    ("width.json", "6", "7"),  # nothing that is imported: the network that is built tells
]


@pytest.mark.parametrize(("file", "old", "new"), CHANGES, ids=[name for name, _, _ in CHANGES])
def test_an_edit_makes_another_network_at_once(file: str, old: str, new: str, place: Path) -> None:
    before, said = known(place), answers(place)
    changed = place.parent / file
    changed.write_text(changed.read_text().replace(old, new))
    assert known(place) != before
    if "dtype" not in new:
        assert not torch.equal(answers(place), said)  # and it is that one which is built
    changed.write_text(FILES[file])
    assert known(place) == before
    assert torch.equal(answers(place), said)


def test_a_file_that_it_does_not_import_changes_nothing(place: Path) -> None:
    before = known(place)
    (place.parent / "stranger.py").write_text("shift = 6\n")
    assert known(place) == before


def test_it_is_the_same_in_another_process(place: Path) -> None:
    code = f"from unmem import models; print(models.source_of({f'{place}:make'!r}, input_shape=(4,), n_classes=3))"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == known(place)


def test_members_of_a_network_whose_helper_was_edited_are_trained_anew(place: Path, tmp_path: Path) -> None:
    data, folder = point_splits(40), tmp_path / "members"
    recipe, kept = um.Recipe(model=f"{place}:make", **RECIPE), np.ones((2, 40), dtype=bool)
    first = um.train_members(recipe, data.train, kept, folder=folder)
    again = um.train_members(recipe, data.train, kept, folder=folder)
    assert np.array_equal(first.train.phi, again.train.phi)
    assert len(list(files.members_in(folder))) == 2
    (place.parent / "helper.py").write_text(HELPER.replace("relu", "tanh"))
    other = um.train_members(recipe, data.train, kept, folder=folder)
    assert not np.array_equal(first.train.phi, other.train.phi)


class Wide(nn.Linear):
    pass


class Shifted(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 1


class Padded(nn.Linear):
    def get_extra_state(self) -> object:
        return {"padding": 1}

    def set_extra_state(self, state: object) -> None: ...


def drawn(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make()


def test_layers_code_weights_and_extra_state_each_count() -> None:
    kinds: list[Callable[[], nn.Module]] = [
        lambda: nn.Linear(4, 3),
        lambda: nn.Linear(4, 3, bias=False),
        lambda: Wide(4, 3),
        lambda: Shifted(4, 3),
        lambda: Padded(4, 3),
        lambda: nn.Sequential(nn.Linear(4, 3)),
        lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.1)),
        lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.2)),
    ]
    found = [models.identity(drawn(kind)) for kind in kinds]
    assert len(set(found)) == len(kinds)
    assert found == [models.identity(drawn(kind)) for kind in kinds]
    other = drawn(kinds[0])
    with torch.no_grad():
        other.get_parameter("weight")[0, 0] += 1e-3
    assert models.identity(other) != found[0]
