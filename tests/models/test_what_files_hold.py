"""What files of weights hold besides them, or instead of them: taken, named in a note, or refused with the fix."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.helpers import same_state, state_of
from tests.models.bert import save_bert
from unmem import models
from unmem.errors import UserError

SHAPE, CLASSES = (4,), 3
State = dict[str, Tensor]


def network(seed: int = 5) -> nn.Module:
    return models.build("mlp", SHAPE, CLASSES, seed=seed)


def load(path: Path) -> tuple[nn.Module, list[str]]:
    told: list[str] = []
    model, _ = models.load(path, arch="mlp", input_shape=SHAPE, n_classes=CLASSES, on_warning=told.append)
    return model, told


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


OWN, EMA = state_of(network(5)), state_of(network(6))
AVERAGED: State = {"n_averaged": torch.tensor(3)}
FILES: dict[str, tuple[Any, str]] = {
    "ema beside": (
        {"model": OWN, "model_ema": EMA, "optimizer": {"state": {}}},
        "under 'model' were taken, and model_ema left out",
    ),
    "only ema": ({"state_dict_ema": OWN, "epoch": 3}, ""),
    "swa": (AVERAGED | under("module.", OWN), "n_averaged left out"),
    "lightning with a loss": (
        {"state_dict": under("model.", OWN) | {"criterion.weight": torch.ones(3)}},
        "criterion left out",
    ),
    "ema in the state": (under("model.", OWN) | under("ema_model.", EMA), "ema_model left out"),
    "half": ({key: value.half() for key, value in OWN.items()}, "are float16, and are used and saved as float32"),
    "plain": (OWN, ""),
}


@pytest.mark.parametrize("kind", FILES)
def test_the_network_is_taken_and_the_rest_is_named(kind: str, tmp_path: Path) -> None:
    held, note = FILES[kind]
    torch.save(held, tmp_path / "a.pt")
    model, told = load(tmp_path / "a.pt")
    expected = {key: value.half().float() for key, value in OWN.items()} if kind == "half" else OWN
    assert same_state(state_of(model), expected)
    assert (len(told), note in "".join(told)) == (1 if note else 0, True)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "bert"])
def test_a_pointer_of_git_lfs_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    file = path if path.suffix else save_bert(path) / "model.safetensors"
    file.write_bytes(POINTER)
    with pytest.raises(UserError, match="a pointer of git-lfs, not the weights themselves; run git lfs pull"):
        load(path)


def test_a_cut_off_file_in_a_folder_of_save_pretrained_is_named(tmp_path: Path) -> None:
    file = save_bert(tmp_path / "bert") / "model.safetensors"
    whole = file.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 100):
        file.write_bytes(whole[:size])
        with pytest.raises(UserError, match=rf"{size:,} of .* bytes are there; copy or download it again"):
            load(tmp_path / "bert")


@pytest.mark.filterwarnings("ignore:`torch.jit.*is deprecated:DeprecationWarning")
def test_compiled_code_is_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.jit.trace(network(), torch.zeros(2, 4)).save(tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a TorchScript archive.*torch\.jit\.load"):
        load(tmp_path / "a.pt")


def test_adapters_are_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(UserError, match=r"holds a PEFT adapter.*merge_and_unload"):
        load(tmp_path)
    save_file({"base_model.model.q.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"a PEFT adapter.*merge_and_unload"):
        load(tmp_path / "a.safetensors")


# --- at random: prefixes, nesting, types, what else is there, cut off -------------------------------------------------

CHECKPOINTS = st.fixed_dictionaries(
    {
        "prefix": st.sampled_from(["", "module.", "model.", "net.", "_orig_mod.", "module._orig_mod.", "model.net."]),
        "inside": st.lists(st.sampled_from(["state_dict", "model_state_dict", "model", "net"]), max_size=2),
        "dtype": st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
        "extra": st.lists(
            st.sampled_from(["n_averaged", "criterion.weight", "loss_fn.pos_weight", "ema_model.1.bias"])
        ),
        "beside": st.lists(st.sampled_from(["model_ema", "optimizer", "epoch", "hyper_parameters", "teacher"])),
        "suffix": st.sampled_from([".pt", ".ckpt", ".safetensors"]),
        "seed": st.integers(0, 3),
        "cut": st.one_of(st.none(), st.none(), st.floats(0, 0.999)),
    }
)


def written(folder: Path, case: dict[str, Any]) -> tuple[Path, State]:
    """A file as the case says, and the weights that are the network's."""
    state = {key: value.to(case["dtype"]) for key, value in state_of(network(case["seed"])).items()}
    held: Any = under(case["prefix"], state) | {name: torch.ones(256) for name in case["extra"]}
    file = folder / f"a{case['suffix']}"
    if case["suffix"] == ".safetensors":
        save_file(held, file)
    else:
        for k, key in enumerate(case["inside"]):
            others = {"optimizer": {"state": {}, "param_groups": [{}]}, "epoch": 3, "hyper_parameters": {"lr": 0.1}}
            beside = {name: others.get(name, EMA) for name in case["beside"] if k == 0}
            held = beside | {key: held}
        torch.save(held, file)
    if case["cut"] is not None:
        raw = file.read_bytes()
        file.write_bytes(raw[: int(case["cut"] * len(raw))])
    return file, {key: value.float() for key, value in state.items()}


def check(folder: Path, case: dict[str, Any]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    file, plain = written(folder, case)
    if case["cut"] is not None:
        with pytest.raises(UserError):
            load(file)
        return
    model, _ = load(file)
    oracle = network(99)
    oracle.load_state_dict(plain)
    x = torch.randn(3, 4)
    assert torch.equal(model(x), oracle(x))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=CHECKPOINTS)
def test_the_function_is_that_of_plain_pytorch(case: dict[str, Any], tmp_path: Path) -> None:
    check(tmp_path / "case", case)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=CHECKPOINTS)
def test_the_function_is_that_of_plain_pytorch_in_many_cases(case: dict[str, Any], tmp_path: Path) -> None:
    check(tmp_path / "case", case)


@pytest.mark.parametrize(
    ("arch", "trained_on", "given", "said"),
    [
        ("small_cnn", (3, 8, 8), (1, 8, 8), "pass --rgb if the images are grey"),
        ("mlp", (3, 8, 8), (1, 8, 8), "pass --rgb if the images are grey"),
        ("small_cnn", (1, 8, 8), (3, 8, 8), "pass --grey if the model takes grey images"),
        ("small_cnn", (2, 8, 8), (3, 8, 8), "check that the model and the data belong together"),
        ("mlp", (1, 9, 9), (1, 8, 8), "images have the size that it was trained on .--size"),
    ],
)
def test_images_of_another_kind_are_refused_with_the_option(
    arch: str, trained_on: tuple[int, ...], given: tuple[int, ...], said: str, tmp_path: Path
) -> None:
    torch.save(state_of(models.build(arch, trained_on, CLASSES, seed=0)), tmp_path / "model.pt")
    with pytest.raises(UserError, match=said):
        models.load(tmp_path / "model.pt", arch=arch, input_shape=given, n_classes=CLASSES)


# --- found by checkpoints drawn at random -----------------------------------------------------------------------------


@pytest.mark.parametrize("place", [b"PK\x01\x02", b"PK\x05\x06"])
def test_a_damaged_index_of_a_file_is_told_in_a_sentence(place: bytes, tmp_path: Path) -> None:
    torch.save(OWN, tmp_path / "a.pt")
    raw = bytearray((tmp_path / "a.pt").read_bytes())
    at = raw.index(place)
    for k in range(4, 22):
        (tmp_path / "a.pt").write_bytes(raw[: at + k] + b"\xdd" + raw[at + k + 1 :])
        try:
            load(tmp_path / "a.pt")
        except UserError as error:
            assert "cannot be read as a file of torch.save" in str(error)  # noqa: PT017 (some bytes do not matter)


ODD: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "complex": (lambda one: one.to(torch.complex64), "1.weight holds complex numbers, the network real ones"),
    "sparse": (lambda one: one.to_sparse(), "1.weight is sparse, not a plain tensor"),
    "on no device": (lambda one: one.to("meta"), "1.weight is on no device, not a plain tensor"),
}


@pytest.mark.parametrize("kind", ODD)
def test_weights_that_are_no_plain_numbers_are_refused(kind: str, tmp_path: Path) -> None:
    change, said = ODD[kind]
    torch.save(OWN | {"1.weight": change(OWN["1.weight"])}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=said):
        load(tmp_path / "a.pt")
    with pytest.raises(UserError, match=said):
        models.build("mlp", SHAPE, CLASSES, seed=0, base=str(tmp_path / "a.pt"))


def test_every_type_that_is_changed_is_named(tmp_path: Path) -> None:
    torch.save(OWN | {"1.weight": OWN["1.weight"].double(), "1.bias": OWN["1.bias"].to(torch.int8)}, tmp_path / "a.pt")
    assert load(tmp_path / "a.pt")[1] == ["a.pt: its weights are float64 and int8, and are used and saved as float32"]


def test_a_file_that_holds_itself_is_refused(tmp_path: Path) -> None:
    held: dict[str, Any] = dict(OWN)
    held["state_dict"] = held
    torch.save(held, tmp_path / "a.pt")
    with pytest.raises(UserError, match="holds dictionaries within each other without an end"):
        load(tmp_path / "a.pt")


def test_notes_name_weights_wherever_they_are_and_no_optimiser(tmp_path: Path) -> None:
    settings = {f"setting {k}": k for k in range(9)}
    adam = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    held = {"model": {"net": OWN, "ema": EMA}, "optimizer": adam, "teacher": settings | {"weights": EMA}}
    torch.save(held, tmp_path / "a.pt")
    note = "a.pt: the weights under 'model.net' were taken, and teacher, model.ema left out"
    assert load(tmp_path / "a.pt")[1] == [note]


LAYERS = """
from torch import nn
class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.metric, self.head = nn.Linear(4, 4), nn.Linear(4, n)
    def forward(self, x): return self.head(self.metric(x))
def make(n_classes): return Net(n_classes)
class Kept(Net):
    def get_extra_state(self): return {"a": 1}
    def set_extra_state(self, state): pass
def kept(n_classes): return Kept(n_classes)
"""


def test_a_layer_called_as_metrics_are_is_a_layer(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(LAYERS)
    arch = f"{tmp_path}/net.py:make"
    own = state_of(models.build(arch, SHAPE, CLASSES, seed=4))
    torch.save(own | {"criterion.weight": torch.ones(3)}, tmp_path / "a.pt")
    told: list[str] = []
    model, _ = models.load(tmp_path / "a.pt", arch=arch, input_shape=SHAPE, n_classes=CLASSES, on_warning=told.append)
    assert same_state(state_of(model), own)
    assert told == ["a.pt: its weights were taken, and criterion left out"]
    assert same_state(state_of(models.build(arch, SHAPE, CLASSES, seed=0, base=str(tmp_path / "a.pt"))), own)


def test_a_network_with_a_state_that_is_no_tensor_is_refused_when_it_is_built(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(LAYERS)
    with pytest.raises(UserError, match="keeps '_extra_state' in its state, which is no tensor"):
        models.build(f"{tmp_path}/net.py:kept", SHAPE, CLASSES, seed=0)


@pytest.mark.parametrize(
    "change",
    [{"arch": 3}, {"n_classes": "3"}, {"n_classes": 0}, {"input_shape": ["a"]}, {"prefix": None}, {"config": 3}],
    ids=str,
)
def test_a_description_of_the_wrong_types_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    said = {"arch": "mlp", "input_shape": [4], "n_classes": 3} | change
    save_file(OWN, tmp_path / "a.safetensors", metadata={"unmem": json.dumps(said)})
    with pytest.raises(UserError, match="its description of the network cannot be read"):
        load(tmp_path / "a.safetensors")
    save_file(OWN, tmp_path / "b.safetensors", metadata={"unmem": "[" * 100_000})
    with pytest.raises(UserError, match="its description of the network cannot be read"):
        load(tmp_path / "b.safetensors")


def test_a_head_of_many_brackets_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes((100_000).to_bytes(8, "little") + b"[" * 100_000)
    with pytest.raises(UserError, match=r"not a \.safetensors file"):
        load(tmp_path / "a.safetensors")
