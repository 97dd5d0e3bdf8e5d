"""Built-in networks and those with the keys of other code: shapes, published sizes, and the same function."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.helpers import same_state, state_of
from unmem import models
from unmem.errors import UserError
from unmem.models.layouts import LAYOUTS
from unmem.models.logits import Logits
from unmem.models.vit import patch_size


def parameters(name: str, shape: tuple[int, ...], classes: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in models.constructor(name)(shape, classes).parameters())


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("torchvision/resnet18", 11_689_512),
        ("torchvision/resnet34", 21_797_672),
        ("torchvision/resnet50", 25_557_032),
        ("torchvision/resnet101", 44_549_160),
        ("torchvision/vgg16_bn", 138_365_992),
    ],
)
def test_sizes_are_those_of_torchvision(name: str, published: int) -> None:
    assert parameters(name, (3, 224, 224), 1000) == published


def test_resnet50_and_vgg16_for_small_images_are_the_published_ones_but_for_their_ends() -> None:
    # 1000 classes and a 7×7 stem there; 10 classes and 3×3 here.
    assert parameters("resnet50", (3, 32, 32), 10) == 25_557_032 - 990 * 2049 - 64 * 3 * (49 - 9)
    # The thirteen convolutions of VGG-16 have 14,714,688 weights and biases; here batch norm is in place of the biases.
    assert parameters("vgg16", (3, 32, 32), 10) == 14_714_688 + 4224 + 10 * 513


def test_keys_are_those_of_torchvision() -> None:
    with torch.device("meta"):
        keys = {name: list(make((3, 32, 32), 10).state_dict()) for name, make in LAYOUTS.items()}
    resnet = keys["torchvision/resnet18"]
    assert resnet[:6] == [
        *("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked"),
    ]
    assert {"layer1.0.conv1.weight", "layer2.0.downsample.0.weight", "layer4.1.bn2.bias"} < set(resnet)
    assert resnet[-2:] == ["fc.weight", "fc.bias"]
    assert len(resnet) == 122
    assert keys["torchvision/resnet18-3x3"] == resnet
    assert len(keys["torchvision/resnet50"]) == 320
    assert "layer3.5.conv3.weight" in keys["torchvision/resnet50"]
    assert keys["cifar/resnet18"] == [key.replace("downsample", "shortcut").replace("fc.", "linear.") for key in resnet]
    vgg = keys["torchvision/vgg16_bn"]
    assert [key for key in vgg if key.startswith("classifier")] == [
        f"classifier.{k}.{part}" for k in (0, 3, 6) for part in ("weight", "bias")
    ]
    assert {"features.0.bias", "features.1.running_mean", "features.40.weight", "features.41.bias"} < set(vgg)


def by_hand(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """ResNet-18 in evaluation mode as its paper has it, from the weights alone."""

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        weights = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *weights)

    x = F.relu(norm("bn1", F.conv2d(x, state["conv1.weight"], stride=2, padding=3)))
    x = F.max_pool2d(x, 3, 2, 1)
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            out = F.conv2d(x, state[f"{at}.conv1.weight"], stride=stride, padding=1)
            out = F.conv2d(F.relu(norm(f"{at}.bn1", out)), state[f"{at}.conv2.weight"], padding=1)
            if f"{at}.downsample.0.weight" in state:
                x = norm(f"{at}.downsample.1", F.conv2d(x, state[f"{at}.downsample.0.weight"], stride=stride))
            x = F.relu(norm(f"{at}.bn2", out) + x)
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


def test_torchvisions_resnet18_computes_what_its_weights_say() -> None:
    model = models.build("torchvision/resnet18", (3, 64, 64), 5, seed=0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.uniform_(0.5, 2)  # pyright: ignore
            layer.running_mean.normal_()  # pyright: ignore
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), by_hand(dict(model.state_dict()), x), rtol=1e-4, atol=1e-5)


def test_the_small_stem_keeps_the_image_whole() -> None:
    small = models.build("torchvision/resnet18-3x3", (3, 16, 16), 5, seed=0)
    seen: list[tuple[int, ...]] = []
    small.get_submodule("layer1").register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape)))
    small.eval()(torch.zeros(1, 3, 16, 16))
    assert seen == [(1, 64, 16, 16)]


def test_vgg16_takes_images_from_32_pixels_on() -> None:
    assert models.build("vgg16", (3, 32, 40), 4, seed=0).eval()(torch.zeros(1, 3, 32, 40)).shape == (1, 4)
    with pytest.raises(UserError, match="32×32 or more"):
        models.build("vgg16", (3, 28, 28), 4, seed=0)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 30, 17)])
def test_vit_sees_every_pixel_and_where_it_is(shape: tuple[int, ...]) -> None:
    model = models.build("vit", shape, 3, seed=0).eval()
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    model(x)[0, 0].backward()
    assert x.grad is not None
    assert (x.grad != 0).all()
    assert not torch.allclose(model(x), model(x.flip(3)), atol=1e-4)


def test_the_patch_grows_with_the_image() -> None:
    assert [patch_size(side, 8) for side in (8, 32, 64, 65, 128, 224, 256)] == [4, 4, 4, 8, 8, 16, 16]
    assert patch_size(8, 224) == 16


# --- packages that may be there --------------------------------------------------------------------------------------


def drawn(classes: int, channels: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 4, 3, stride=2, bias=False), nn.Flatten(), nn.LazyLinear(classes))


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm and torchvision with the interface that unmem uses, and one network each."""
    timm: Any = ModuleType("timm")
    timm.is_model = lambda name: name == "tiny"
    timm.list_models = lambda: ["tiny"]

    def create_model(name: str, *, pretrained: bool, num_classes: int, in_chans: int) -> nn.Module:
        assert (name, pretrained) == ("tiny", False)
        return drawn(num_classes, in_chans)

    timm.create_model = create_model
    torchvision: Any = ModuleType("torchvision")

    def get_model(name: str, *, weights: object, num_classes: int) -> nn.Module:
        assert (name, weights) == ("resnet18", None)
        return drawn(num_classes)

    torchvision.models = SimpleNamespace(list_models=lambda: ["resnet18"], get_model=get_model)
    torchvision.__spec__ = SimpleNamespace(name="torchvision")
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("name", ["timm/tiny", "torchvision/resnet18"])
@pytest.mark.parametrize("channels", [1, 3])
def test_networks_of_packages_have_the_classes_and_channels_of_the_data(name: str, channels: int) -> None:
    def built() -> nn.Module:
        model = models.build(name, (channels, 9, 9), 7, seed=0)
        return model.inner if isinstance(model, Logits) else model

    model = built()
    assert isinstance(model, nn.Sequential)
    assert model(torch.zeros(2, channels, 9, 9)).shape == (2, 7)
    assert (model[0].stride, model[0].bias) == ((2, 2), None)
    assert same_state(state_of(model), state_of(built()))


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize(("name", "package"), [("timm/tinny", "timm"), ("torchvision/resnet81", "torchvision")])
def test_a_name_that_the_package_lacks_is_refused_with_the_nearest(name: str, package: str) -> None:
    with pytest.raises(UserError, match=f"{package} has no such network; did you mean"):
        models.build(name, (3, 8, 8), 2, seed=0)


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_package_that_is_not_there_is_named_with_its_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"pip install 'unmem\[{package}\]'"):
        models.build(f"{package}/convnext_tiny", (3, 8, 8), 2, seed=0)


def test_torchvisions_resnet18_needs_no_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    first, same = (models.build("torchvision/resnet18", (1, 16, 16), 2, seed=3) for _ in range(2))
    assert same_state(state_of(first), state_of(same))
