"""Networks are drawn from their seed; model files are whole, safe, and of the model that they are loaded as."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.helpers import same_state, state_of
from unmem import models
from unmem.errors import UserError
from unmem.models import Card

SHAPE, CLASSES = (1, 8, 8), 10
NAMES = [name for name in models.MODELS if name != "vgg16"]  # vgg16 needs larger images


def built(name: str = "mlp", seed: int = 0, classes: int = CLASSES) -> nn.Module:
    return models.build(name, SHAPE, classes, seed=seed)


def load(path: Path, arch: str | None = None, *, shape: tuple[int, ...] = SHAPE, classes: int = CLASSES) -> nn.Module:
    return models.load(path, arch=arch, input_shape=shape, n_classes=classes)[0]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("name", NAMES)
def test_networks_map_a_batch_to_logits(name: str) -> None:
    assert built(name).eval()(torch.zeros(3, *SHAPE)).shape == (3, CLASSES)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_drawn_from_the_seed(name: str) -> None:
    first, same, other = (state_of(built(name, seed)) for seed in (1, 1, 2))
    assert same_state(first, same)
    assert not same_state(first, other)


def test_building_leaves_the_global_random_state(random_state: torch.Tensor) -> None:
    built()
    assert torch.equal(torch.get_rng_state(), random_state)


def test_mlp_takes_inputs_of_any_shape() -> None:
    assert models.build("mlp", (7,), 3, seed=0)(torch.zeros(2, 7)).shape == (2, 3)


@pytest.mark.parametrize("name", ["small_cnn", "resnet18"])
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 10, 13)])
def test_networks_for_images_take_any_size(name: str, shape: tuple[int, ...]) -> None:
    assert models.build(name, shape, 3, seed=0).eval()(torch.zeros(2, *shape)).shape == (2, 3)


def test_resnet18_is_the_published_one_but_for_its_stem() -> None:
    model = models.build("resnet18", (3, 32, 32), 10, seed=0)
    # 11,689,512 published for 1000 classes and a 7×7 stem; here 10 classes and 3×3.
    expected = 11_689_512 - 990 * 513 - 64 * 3 * (49 - 9)
    assert sum(p.numel() for p in model.parameters()) == expected
    assert model[:3](torch.zeros(1, 3, 32, 32)).shape == (1, 64, 32, 32)


@pytest.mark.parametrize("width", [8, 64])
def test_resnet18_has_as_many_channels_as_its_width_says(width: int) -> None:
    model = models.resnet18((3, 16, 16), 5, width=width)
    assert model[:4](torch.zeros(2, 3, 16, 16)).shape == (2, width, 16, 16)
    assert model[:-1](torch.zeros(2, 3, 16, 16)).shape == (2, 8 * width)


def test_an_unknown_network_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="model 'small-cnn': no such network; did you mean 'small_cnn'"):
        built("small-cnn")


@pytest.mark.parametrize(("name", "shape"), [("small_cnn", (7,)), ("small_cnn", (1, 3, 8)), ("resnet18", (8, 8))])
def test_networks_for_images_refuse_other_inputs(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="use mlp") as refused:
        models.build(name, shape, 2, seed=0)
    assert str(shape) in str(refused.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_comes_back_bit_for_bit_with_its_card(name: str, file: Path) -> None:
    model = built(name, seed=5).to(memory_format=torch.channels_last)
    card = Card(name, SHAPE, CLASSES, data="abc")
    models.save(model, card, file)
    loaded, read = models.load(file, arch=None, input_shape=SHAPE, n_classes=CLASSES)
    assert read == card
    assert same_state(state_of(loaded), state_of(model))


@pytest.mark.parametrize("name", NAMES)
def test_a_state_without_a_card_is_loaded_by_the_name_of_its_network(name: str, file: Path) -> None:
    model = built(name, seed=5)
    save_file(state_of(model), file)
    loaded, card = models.load(file, arch=name, input_shape=SHAPE, n_classes=CLASSES)
    assert same_state(state_of(loaded), state_of(model))
    assert card == Card(name, SHAPE, CLASSES, data=None)


def test_a_state_that_nobody_knows_needs_a_name(file: Path) -> None:
    save_file(state_of(nn.Linear(64, 10)), file)
    with pytest.raises(UserError, match=r"--arch: .*does not say which network.* mlp, small_cnn, resnet18"):
        load(file)


def test_saving_over_a_file_that_fails_keeps_the_old_one(file: Path) -> None:
    models.save(built(), Card("mlp", SHAPE, CLASSES), file)
    before = file.read_bytes()
    unwritable: Any = object()
    with pytest.raises(TypeError, match="not JSON serializable"):
        models.save(built(), Card("mlp", SHAPE, CLASSES, data=unwritable), file)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_more_outputs_than_labels_are_fine_and_stay(file: Path) -> None:
    models.save(built(classes=12), Card("mlp", SHAPE, 12), file)
    assert load(file)(torch.zeros(1, *SHAPE)).shape == (1, 12)


def test_fewer_outputs_than_labels_are_refused_naming_both(file: Path) -> None:
    models.save(built(classes=5), Card("mlp", SHAPE, 5), file)
    with pytest.raises(UserError, match="has 5 outputs, but labels go up to 9, which needs 10") as refused:
        load(file)
    assert str(file) in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--model '.*none': no such file"):
        load(tmp_path / "none", "mlp")


@pytest.mark.parametrize("raw", [b"", b"junk", b"\x10\0\0\0\0\0\0\0{"])
def test_a_file_that_is_not_safetensors_is_refused(file: Path, raw: bytes) -> None:
    file.write_bytes(raw)
    with pytest.raises(UserError, match=r"not a \.safetensors file"):
        load(file, "mlp")


def test_a_truncated_file_is_refused(file: Path) -> None:
    models.save(built(), Card("mlp", SHAPE, CLASSES), file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"not a \.safetensors file"):
        load(file)


def test_a_pickle_is_refused_and_not_run(file: Path, tmp_path: Path) -> None:
    witness = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (witness,)

    torch.save({"0.weight": Evil()}, file)
    with pytest.raises(UserError, match="pickles can run code and are refused"):
        load(file, "mlp")
    assert not witness.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("5.bias"), r"1 missing \(5\.bias"),
        (lambda state: state.update(extra=torch.zeros(2)), r"1 unexpected \(extra"),
        (lambda state: state.update({"x.bias": state.pop("5.bias")}), r"1 missing \(5\.bias.*1 unexpected \(x\.bias"),
        (
            lambda state: state.update({"1.weight": torch.zeros(256, 63)}),
            r"1\.weight has shape \(256, 63\).*needs \(256, 64\)",
        ),
    ],
    ids=["missing", "unexpected", "renamed", "shape"],
)
def test_weights_of_another_model_are_refused_by_name(file: Path, change: Any, said: str) -> None:
    state = state_of(built())
    change(state)
    card = json.dumps({"arch": "mlp", "input_shape": SHAPE, "n_classes": CLASSES})
    save_file(state, file, metadata={"unmem": card})
    with pytest.raises(UserError, match=said):
        load(file)


def test_another_network_than_the_file_says_is_refused(file: Path) -> None:
    models.save(built("mlp"), Card("mlp", SHAPE, CLASSES), file)
    with pytest.raises(UserError, match="not those of small_cnn"):
        load(file, "small_cnn")


def test_inputs_of_another_shape_are_refused(file: Path) -> None:
    models.save(built("mlp"), Card("mlp", SHAPE, CLASSES), file)
    with pytest.raises(UserError, match="model and the data belong together"):
        load(file, shape=(1, 9, 9))


@pytest.mark.parametrize("card", ["{not json", "{}", "[]", '{"arch": "mlp"}'])
def test_a_card_that_cannot_be_read_is_refused(file: Path, card: str) -> None:
    save_file(state_of(built()), file, metadata={"unmem": card})
    with pytest.raises(UserError, match="--model"):
        load(file)


def test_a_file_holds_plain_tensors_that_others_can_read(file: Path) -> None:
    model = built()
    models.save(model, Card("mlp", SHAPE, CLASSES), file)
    assert same_state({key: load_file(file)[key] for key in model.state_dict()}, state_of(model))
