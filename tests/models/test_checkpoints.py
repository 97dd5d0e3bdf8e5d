"""Weights in the files that people have, recognised, repaired, and written again as they came."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.helpers import same_state, state_of
from unmem import models
from unmem.errors import UserError

SHAPE, CLASSES = (1, 8, 8), 10
State = dict[str, Tensor]


@pytest.fixture
def model() -> nn.Module:
    return models.build("mlp", SHAPE, CLASSES, seed=5)


def load(path: Path, arch: str | None = "mlp", **options: Any) -> tuple[nn.Module, models.Card]:
    return models.load(path, arch=arch, input_shape=SHAPE, n_classes=CLASSES, **options)


@pytest.mark.parametrize("suffix", ["pt", "pth", "bin", "ckpt"])
@pytest.mark.parametrize(
    "packed",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "pytorch-lightning_version": "2.0"},
        lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        lambda state: {"model_state_dict": state, "loss": torch.tensor(0.1)},
        lambda state: {"net": state, "acc": 93.0},
        lambda state: {"state_dict": {"model": state}},
    ],
    ids=["plain", "lightning", "model", "script", "cifar", "twice"],
)
def test_weights_are_found_in_what_people_save(
    packed: Callable[[State], Any], suffix: str, model: nn.Module, tmp_path: Path
) -> None:
    file = tmp_path / f"model.{suffix}"
    torch.save(packed(state_of(model)), file)
    loaded, card = load(file)
    assert same_state(state_of(loaded), state_of(model))
    assert card == models.Card("mlp", SHAPE, CLASSES)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "model.net."])
@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_prefixes_are_taken_off_and_put_back(prefix: str, name: str, model: nn.Module, tmp_path: Path) -> None:
    file = tmp_path / name
    state = {prefix + key: value for key, value in state_of(model).items()}
    torch.save(state, file) if file.suffix == ".pt" else save_file(state, file)
    loaded, card = load(file, None)
    assert same_state(state_of(loaded), state_of(model))
    again = tmp_path / "again.safetensors"
    models.save(loaded, card, again)
    written = load_file(again)
    assert dict.fromkeys(state, True) == {key: torch.equal(written[key], value) for key, value in state.items()}
    assert load(again, None)[1] == card


def test_a_network_whose_own_keys_look_like_a_prefix_keeps_them(tmp_path: Path) -> None:
    source = tmp_path / "wrapped.py"
    source.write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, n):\n"
        "        super().__init__()\n"
        "        self.model = nn.Linear(64, n)\n"
        "    def forward(self, x): return self.model(x.flatten(1))\n"
        "def make(shape, n): return Net(n)\n"
    )
    file = tmp_path / "a.pt"
    torch.save({"module.model.weight": torch.ones(12, 64), "module.model.bias": torch.zeros(12)}, file)
    loaded, card = load(file, f"{source}:make")
    assert (card.prefix, card.n_classes) == ("module.", 12)
    assert list(loaded.state_dict()) == ["model.weight", "model.bias"]


@pytest.mark.parametrize("name", ["torchvision/resnet18", "torchvision/resnet18-3x3", "cifar/resnet18"])
def test_a_known_network_is_recognised_with_its_stem_and_outputs(name: str, tmp_path: Path) -> None:
    shape = (3, 32, 32)
    state = state_of(models.constructor(name)(shape, 12))
    file = tmp_path / "model.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, file)
    told: list[str] = []
    loaded, card = models.load(file, arch=None, input_shape=shape, n_classes=CLASSES, on_warning=told.append)
    assert card == models.Card(name, shape, 12, prefix="module.")
    assert same_state(state_of(loaded), state)
    assert len(told) == 1
    assert name in told[0]


def test_nothing_is_said_of_what_was_named(model: nn.Module, tmp_path: Path) -> None:
    torch.save(state_of(model), tmp_path / "a.pt")
    told: list[str] = []
    load(tmp_path / "a.pt", "mlp", on_warning=told.append)
    assert told == []


def test_fewer_outputs_than_classes_are_refused_naming_both(tmp_path: Path) -> None:
    torch.save(state_of(models.build("mlp", SHAPE, 5, seed=0)), tmp_path / "a.pt")
    with pytest.raises(UserError, match="has 5 outputs, but labels go up to 9, which needs 10"):
        load(tmp_path / "a.pt")


def test_keys_and_shapes_that_do_not_fit_are_named(model: nn.Module, tmp_path: Path) -> None:
    state = state_of(model)
    torch.save({f"module.{key}": value for key, value in state.items() if key != "3.bias"}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"not those of mlp: 1 missing \(3\.bias"):
        load(tmp_path / "a.pt")
    torch.save(state | {"1.weight": torch.zeros(256, 63)}, tmp_path / "b.pt")
    with pytest.raises(UserError, match=r"1\.weight has shape \(256, 63\).*needs \(256, 64\)"):
        load(tmp_path / "b.pt")


@pytest.mark.parametrize(
    "found", [3, [torch.zeros(2)], {"epoch": 1}, {}], ids=["number", "list", "no-weights", "empty"]
)
def test_a_file_without_weights_is_refused(found: Any, tmp_path: Path) -> None:
    torch.save(found, tmp_path / "a.pt")
    with pytest.raises(UserError, match="holds no weights, but a"):
        load(tmp_path / "a.pt")


@pytest.mark.parametrize("raw", [b"", b"junk", b"PK\x03\x04junk"])
def test_a_damaged_file_is_refused(raw: bytes, model: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(raw)
    with pytest.raises(UserError, match=r"cannot be read as a file of torch\.save"):
        load(tmp_path / "a.pt")
    torch.save(state_of(model), tmp_path / "b.pt")
    (tmp_path / "b.pt").write_bytes((tmp_path / "b.pt").read_bytes()[:-300])
    with pytest.raises(UserError, match=r"cannot be read as a file of torch\.save"):
        load(tmp_path / "b.pt", unsafe=True)


class Ran:
    """Leaves a trace if it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.witness,)


def test_a_pickle_is_refused_and_not_run_unless_the_user_says_so(model: nn.Module, tmp_path: Path) -> None:
    witness, file = tmp_path / "ran", tmp_path / "a.pt"
    torch.save({"state_dict": state_of(model), "evil": Ran(witness)}, file)
    with pytest.raises(UserError, match=r"holds more than weights.*--unsafe-load"):
        load(file)
    assert not witness.exists()
    assert same_state(state_of(load(file, unsafe=True)[0]), state_of(model))
    assert witness.exists()


@pytest.mark.parametrize("packed", [lambda model: model, lambda model: {"model": model, "args": argparse.Namespace()}])
def test_a_whole_module_gives_its_state_if_the_user_says_so(
    packed: Callable[[nn.Module], Any], model: nn.Module, tmp_path: Path
) -> None:
    torch.save(packed(model), tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"holds more than weights \(.*\).*--unsafe-load"):
        load(tmp_path / "a.pt")
    assert same_state(state_of(load(tmp_path / "a.pt", unsafe=True)[0]), state_of(model))


def test_weights_that_layers_share_are_written_for_each_and_may_be_read_from_one(tmp_path: Path) -> None:
    source = tmp_path / "tied.py"
    source.write_text(
        "from torch import nn\n"
        "def make(n_classes):\n"
        "    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, n_classes))\n"
        "    model[2].weight = model[1].weight\n"
        "    return model\n"
    )
    arch = f"{source}:make"
    tied = models.build(arch, SHAPE, CLASSES, seed=2)
    file = tmp_path / "tied.safetensors"
    models.save(tied, models.Card(arch, SHAPE, CLASSES), file)
    written = load_file(file)
    assert torch.equal(written["1.weight"], written["2.weight"])
    assert same_state(state_of(load(file, arch)[0]), state_of(tied))
    once = {key: value for key, value in written.items() if key != "2.weight"}
    save_file(once, tmp_path / "once.safetensors")
    assert same_state(state_of(load(tmp_path / "once.safetensors", arch)[0]), state_of(tied))
