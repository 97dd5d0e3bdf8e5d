"""Checkpoints of a user's own network drawn at random, and four properties.

The logits are those of plain PyTorch with the weights that the notes say were taken; what is saved is what was loaded,
under the same keys; a base gives the weights that it has; and whatever a file holds, the answer is a model or a
`UserError`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unmem import models
from unmem.errors import UserError

CASES = int(os.environ.get("UNMEM_CASES", "25"))  # by property
RANDOM = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=CASES < 500)

SHAPE, CLASSES = (1, 4, 4), 3
State = dict[str, Tensor]

# Plain; under names that wrappers have too; under names that losses, metrics and averages have too; with weights that
# layers share; with a state that is no tensor.
SOURCE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, names, n_classes):
        super().__init__()
        self.names = names
        layers = (nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(8, 8), nn.Linear(8, n_classes))
        for name, layer in zip(names, layers):
            self.add_module(name, layer)

    def forward(self, x):
        first, norm, middle, last = map(self.get_submodule, self.names)
        return last(middle(norm(first(x)).flatten(1)).tanh())

def make(input_shape, n_classes):
    return Net(("conv", "bn", "fc", "head"), n_classes)

def wrapped(input_shape, n_classes):
    whole = nn.Module()
    whole.model = Net(("net", "module", "fc", "model"), n_classes)
    whole.forward = whole.model.forward
    return whole

def metric(input_shape, n_classes):
    return Net(("ema", "metric", "criterion", "loss"), n_classes)

def tied(input_shape, n_classes):
    model = make(input_shape, n_classes)
    model.other = nn.Linear(8, 8)
    model.other.weight = model.fc.weight
    return model

class Counting(nn.Linear):
    def get_extra_state(self):
        return {"version": 1}
    def set_extra_state(self, state):
        pass

def mixed(input_shape, n_classes):
    return Net(("conv", "metric", "fc", "loss"), n_classes)

def extra(input_shape, n_classes):
    model = make(input_shape, n_classes)
    model.fc = Counting(8, 8)
    return model
"""
BUILDERS = ("make", "make", "wrapped", "metric", "mixed", "tied", "extra")
PREFIXES = ("", "", "module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "model.net.")
PLACES = ("state_dict", "model_state_dict", "model", "net", "ema", "state_dict_ema", "model_ema")
LIGHTNING = {"epoch": 3, "global_step": 9, "pytorch-lightning_version": "2.0", "hyper_parameters": {"lr": 0.1}}
X = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("any") / "net.py"
    path.write_text(SOURCE)
    return path


def network(source: Path, builder: str, seed: int, n_classes: int = CLASSES) -> nn.Module:
    """As its user makes it, without unmem, and with statistics of batch norm that are not those of a new layer."""
    spec = importlib.util.spec_from_file_location("plain_net", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(seed)
    model = getattr(module, builder)(SHAPE, n_classes)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = torch.randn(2)
            layer.running_var = torch.rand(2) + 0.5
            layer.num_batches_tracked = torch.tensor(seed + 7)
    return model.eval()


def tensors(model: nn.Module) -> State:
    return {key: value.clone() for key, value in model.state_dict().items() if isinstance(value, Tensor)}


@dataclass(repr=False)
class Made:
    """A file as it is to be written."""

    builder: str
    prefix: str
    suffix: str
    n_classes: int
    held: Any = None

    def __repr__(self) -> str:
        return f"{self.builder} {self.prefix!r} {self.suffix} {self.n_classes} {shown(self.held)}"


def shown(held: Any, depth: int = 0) -> Any:
    """The keys of a file, without the weights."""
    if not isinstance(held, dict) or depth > 4:
        return ...
    inner = {key: shown(value, depth + 1) for key, value in held.items() if isinstance(value, dict)}
    return inner | dict.fromkeys([key for key in held if key not in inner][:30], ...)


@st.composite
def files(draw: st.DrawFn, source: Path) -> Made:
    builder = draw(st.sampled_from(BUILDERS))
    suffix = draw(st.sampled_from([".pt", ".pth", ".ckpt", ".bin", ".safetensors"]))
    n_classes = draw(st.sampled_from([3, 3, 4]))
    dtype = draw(st.sampled_from([torch.float32] * 3 + [torch.float16, torch.bfloat16, torch.float64]))
    prefix = draw(st.sampled_from(PREFIXES))
    made = Made(builder, prefix, suffix, n_classes)
    seeds = itertools.count()

    def weights() -> dict[str, Any]:
        model = network(source, builder, next(seeds), n_classes).to(dtype)
        whole = tensors(model) if suffix == ".safetensors" else dict(model.state_dict())
        return {prefix + key: value for key, value in whole.items()}

    held: dict[str, Any] = weights()
    for name in draw(st.lists(st.sampled_from(["n_averaged", "criterion.weight", "val_acc.total"]), max_size=2)):
        held[name] = torch.tensor([3.0])
    if draw(st.integers(0, 4)) == 0:
        average = draw(st.sampled_from(["ema.", "ema_model.", "model_ema.", "ema.module."]))
        held |= {average + key.removeprefix(prefix): value for key, value in weights().items()}
    if suffix != ".safetensors":
        for place in draw(st.lists(st.sampled_from(PLACES), max_size=2)):
            held = {place: held}
            for other in draw(st.lists(st.sampled_from(PLACES), max_size=2)):
                if other != place:
                    held[other] = weights()
            held |= draw(st.sampled_from([{}, LIGHTNING, {"optimizer": optimizer()}, {"loss": torch.tensor(0.1)}]))
            if draw(st.booleans()):
                held = dict(reversed(held.items()))
    made.held = held
    return made


def optimizer() -> dict[str, Any]:
    """The state of an optimiser that took a step."""
    layer = nn.Linear(2, 2)
    adam = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    adam.step()
    return adam.state_dict()


def written(made: Made, folder: Path) -> Path:
    path = folder / f"a{made.suffix}"
    if made.suffix == ".safetensors":
        save_file({key: value.clone() for key, value in made.held.items()}, path)
    else:
        torch.save(made.held, path)
    return path


def load(path: Path, arch: str) -> tuple[nn.Module, models.Card, list[str]]:
    told: list[str] = []
    model, card = models.load(path, arch=arch, input_shape=SHAPE, n_classes=CLASSES, on_warning=told.append)
    return model.eval(), card, told


def taken(made: Made, told: list[str], own: State) -> State:
    """The weights that the notes say were taken, looked up in the file as it was made.

    Where they name no place, there must be but one set of weights in the file.
    """
    said = " ".join(told)
    place = re.search(r"the weights under '([^']*)' were taken", said)
    left = re.search(r"were taken, and (.*) left out", said)
    out = re.split(", ", left[1]) if left else []
    held = made.held
    for key in place[1].split(".") if place else []:
        held = held[key]
    while inner := [value for key, value in held.items() if isinstance(value, dict) and key in PLACES]:
        assert len(inner) == 1, "the file has several sets of weights, and no note says which was taken"
        held = inner[0]
    found: State = {}
    for key in own:
        meant = [name for name in held if f".{name}".endswith(f".{key}")]
        whole = [name for name in meant if name == made.prefix + key]
        others = [name for name in meant if name not in whole and name.partition(".")[0] not in out]
        assert not whole or not others or made.builder == "wrapped" or " more left" in said, (
            f"no note says which: {meant}"
        )
        found[key] = held[(whole or meant)[0]]
    return found


@RANDOM
@given(data=st.data())
def test_the_logits_are_those_of_the_weights_that_are_said_to_be_taken(
    data: st.DataObject, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = data.draw(files(source))
    path = written(made, tmp_path_factory.mktemp("any"))
    try:
        model, card, told = load(path, f"{source}:{made.builder}")
    except UserError:
        return
    plain = network(source, made.builder, 99, made.n_classes)
    plain.load_state_dict(taken(made, told, tensors(plain)), strict=False)
    assert torch.equal(model(X), plain(X))
    assert card.n_classes == made.n_classes
    again = path.parent / "again.safetensors"
    models.save(model, card, again)
    second, same, _ = load(again, f"{source}:{made.builder}")
    assert torch.equal(second(X), plain(X))
    assert same == card
    whole = {key for key, value in plain.state_dict().items() if isinstance(value, Tensor)}
    assert load_file(again).keys() == {card.prefix + key for key in whole}


@RANDOM
@given(data=st.data())
def test_a_base_gives_the_weights_that_it_has(
    data: st.DataObject, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = data.draw(files(source))
    arch = f"{source}:{made.builder}"
    path = written(made, tmp_path_factory.mktemp("any"))
    try:
        model, _, told = load(path, arch)
        built = models.build(arch, SHAPE, CLASSES, seed=3)
        drawn = models.start_from(str(path), built, SHAPE, CLASSES)
    except UserError:
        return
    theirs = taken(made, told, tensors(network(source, made.builder, 99)))
    fresh = models.build(arch, SHAPE, CLASSES, seed=3).state_dict()
    for key, value in built.state_dict().items():
        assert torch.equal(value, fresh[key] if key in drawn else theirs[key].to(value.dtype))
    assert len(drawn) == (0 if made.n_classes == CLASSES else 2)
    assert model is not built


# What somebody may have instead of a weight, or of weights.
ODD: dict[str, Any] = {
    "complex": lambda one: one.to(torch.complex64) * (1 + 1j),
    "on no device": lambda one: one.to("meta"),
    "sparse": lambda one: one.to_sparse() if one.ndim else one,
    "quantised": lambda one: torch.quantize_per_tensor(one.float(), 0.1, 0, torch.qint8),
    "whole numbers": lambda one: (one * 100).to(torch.int8),
    "truth values": lambda one: one > 0,
    "float8": lambda one: one.float().to(torch.float8_e4m3fn),
    "another shape": lambda one: one[None],
    "transposed": lambda one: one.T if one.ndim == 2 else one,
    "larger": lambda one: torch.cat([one, one]) if one.ndim else one,
    "one number": lambda one: one.sum(),
    "empty": lambda one: one[:0] if one.ndim else one,
    "text": lambda _: "weight",
    "none": lambda _: None,
    "a list": lambda one: one.tolist(),
    "a dictionary": lambda one: {"weight": one},
    "infinite": lambda one: one.double() * 1e300,
}
WHOLE: dict[str, Any] = {
    "itself": lambda held: (held.update(state_dict=held), held)[1],
    "itself, deep": lambda held: (held.update(model={"net": held}), held)[1],
    "a list": lambda held: [held],
    "empty": lambda _: {},
    "empty inside": lambda held: {"state_dict": {}, "other": held},
    "numbers as keys": lambda held: dict(enumerate(held.values())),
    "a pair": lambda held: (held, 3),
    "one tensor": lambda _: torch.ones(3),
    "an optimiser": lambda _: optimizer(),
    "deep": lambda held: nested(held, 300),
}
# Heads of .safetensors, and what the metadata of unmem say.
HEADS = (
    b"[" * 5000,
    b"{}",
    b"[]",
    b"3",
    b'{"a":3}',
    b'{"__metadata__":3}',
    b'{"a":{"dtype":"F32"}}',
    b"\xff\xfe{}",
    b"",
)
CARDS = st.fixed_dictionaries(
    {
        "arch": st.sampled_from(["make", "mlp", "", "nope", 3, None, ["mlp"], "/", "a:b", "transformers/x"]),
        "input_shape": st.sampled_from([SHAPE, [], [4], [1, -4, 4], ["a"], 3, None, [1, 4, 4.5], [True]]),
        "n_classes": st.sampled_from([3, 4, 0, -1, "3", None, 2.5, True]),
    },
    optional={
        "data": st.sampled_from([None, 3, "x"]),
        "prefix": st.sampled_from([None, "", "module.", 3]),
        "config": st.sampled_from([None, {}, 3, {"a": 1}]),
        "made": st.sampled_from([None, 3]),
        "classes": st.sampled_from([None, 3, ["a", "b", "c"], "abc", [["a"]]]),
        "forgotten": st.sampled_from([None, {}, 3, {"key": "zz", "hashes": [], "kept": ""}]),
    },
)


def nested(held: Any, depth: int) -> Any:
    for _ in range(depth):
        held = {"model": held}
    return held


def damaged(data: st.DataObject, made: Made, folder: Path, source: Path) -> Path:
    """A file that is wrong in one way or in several."""
    if made.suffix == ".safetensors" and data.draw(st.booleans()):
        return described(data, made, folder, source)
    if made.suffix != ".safetensors":
        made.held = odd(data, made.held)
    path = written(made, folder)
    raw = bytearray(path.read_bytes())
    way = data.draw(st.sampled_from(["whole", "cut", "bits", "end", "longer", "text", "lfs", "name"]))
    if way == "cut":
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    elif way in ("bits", "end"):
        room = len(raw) if way == "bits" else min(len(raw), 600)
        for place, byte in data.draw(st.lists(st.tuples(st.integers(1, room), st.integers(0, 255)), max_size=4)):
            raw[-place] = byte
    elif way == "longer":
        raw += b"\0" * 100
    elif way == "text":
        raw = bytearray(b"no weights")
    elif way == "lfs":
        raw = bytearray(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    elif way == "name":
        path = path.with_suffix(data.draw(st.sampled_from([".pt", ".safetensors", ".PT", ".tar", "", ".h5"])))
    path.write_bytes(raw)
    return path


def odd(data: st.DataObject, held: Any) -> Any:
    """Some weights are what no weight is, or the file is what no file of weights is."""
    way = data.draw(st.sampled_from(["weights", "weights", "missing", "all", "whole"]))
    if way == "whole":
        return WHOLE[data.draw(st.sampled_from(sorted(WHOLE)))](held)
    state = held
    while inner := [value for key, value in state.items() if isinstance(value, dict) and key in PLACES]:
        state = inner[0]
    names = [key for key, value in state.items() if isinstance(value, Tensor)]
    if way == "missing":
        for name in data.draw(st.lists(st.sampled_from(names), max_size=3, unique=True)):
            del state[name]
        return held
    kind = ODD[data.draw(st.sampled_from(sorted(ODD)))]
    for name in names if way == "all" else data.draw(st.lists(st.sampled_from(names), max_size=3, unique=True)):
        state[name] = kind(state[name])
    return held


def described(data: st.DataObject, made: Made, folder: Path, source: Path) -> Path:
    """A .safetensors with another head, or with metadata that unmem might have written."""
    path = folder / "a.safetensors"
    if data.draw(st.booleans()):
        head = data.draw(st.sampled_from(HEADS))
        path.write_bytes(len(head).to_bytes(8, "little") + head + b"\0" * data.draw(st.sampled_from([0, 4, 100])))
        return path
    card = data.draw(CARDS)
    if card["arch"] == "make":
        card["arch"] = f"{source}:{made.builder}"
    text = data.draw(st.sampled_from([json.dumps(card)] * 4 + ["", "[]", "3", "{", "null", "[" * 5000]))
    save_file({key: value.clone() for key, value in made.held.items()}, path, metadata={"unmem": text})
    return path


@pytest.mark.filterwarnings("ignore")
@RANDOM
@given(data=st.data(), named=st.booleans())
def test_whatever_a_file_holds_the_answer_is_a_model_or_a_sentence(
    data: st.DataObject, named: bool, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = data.draw(files(source))
    path = damaged(data, made, tmp_path_factory.mktemp("any"), source)
    arch = f"{source}:{made.builder}"
    for read in (said_of, based, loaded):
        with contextlib.suppress(UserError):
            read(path, arch if named else None)


def said_of(path: Path, _: str | None) -> None:
    models.arch_at(path)
    models.said_by(path)


def based(path: Path, arch: str | None) -> None:
    if arch is not None:
        models.build(arch, SHAPE, CLASSES, seed=0, base=str(path))


def loaded(path: Path, arch: str | None) -> None:
    model, card = models.load(path, arch=arch, input_shape=SHAPE, n_classes=CLASSES, on_warning=lambda _: None)
    assert all(value.dtype in (torch.float32, torch.int64, torch.float64) for value in model.state_dict().values())
    models.save(model, card, path.parent / "again.safetensors")
    assert models.card_of(path.parent / "again.safetensors") == card
