"""Model files choose no code: what the file holds, through which option, and what comes of it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import unmem as um
from tests.helpers import point_splits, same_state
from tests.models.bert import LENGTH, save_bert
from tests.security.canary import Canary, run
from unmem import models
from unmem.ensembles import files
from unmem.errors import UserError
from unmem.models.card import KEY, card_of

DATA = ["--data", "digits", "--limit", "200"]
QUICK = ["--epochs", "1", "--batch-size", "50"]


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of unmem."""
    out = tmp_path_factory.mktemp("honest") / "run"
    assert run("train", *DATA, "--arch", "mlp", "--epochs", "8", "--batch-size", "20", "--out", out) == 0
    return out / "original.safetensors"


def with_arch(source: Path, target: Path, arch: object) -> Path:
    """The same weights with a card that says this."""
    card = card_of(source)
    assert card is not None
    fields = json.loads(card.metadata()[KEY]) | {"arch": arch}
    target.parent.mkdir(exist_ok=True)
    save_file(load_file(source), target, metadata={KEY: json.dumps(fields)})
    return target


NAMES = ["FOLDER/evil.py:make", "evil.py:make", "evil:make", "evil.sub:make", "os:abort", "builtins:exec", "x:y:z"]


@pytest.mark.parametrize("name", NAMES)
def test_a_card_that_names_code_is_refused_with_that_name(name: str, honest: Path, canary: Canary) -> None:
    canary.module("evil")
    name = name.replace("FOLDER", str(canary.folder))
    file = with_arch(honest, canary.folder / "model.safetensors", name)
    with pytest.raises(UserError, match="not imported or run") as refused:
        models.load(file, arch=None, input_shape=(1, 8, 8), n_classes=10)
    assert repr(name) in str(refused.value)
    assert "--arch FILE.py:FUNCTION" in refused.value.fix
    with pytest.raises(UserError, match="not imported or run"):
        models.arch_at(file)
    assert not canary.sang


@pytest.mark.parametrize("arch", [["os:abort"], None, 3, {"a": "evil:make"}, "evil", "../evil.py", "transformers/evil"])
def test_a_card_that_names_no_network_is_refused(arch: object, honest: Path, canary: Canary) -> None:
    canary.module("evil")
    file = with_arch(honest, canary.folder / "model.safetensors", arch)
    with pytest.raises(UserError):
        models.load(file, arch=None, input_shape=(1, 8, 8), n_classes=10)
    assert not canary.sang


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("check --model EVIL", 2),
        ("check --model EVIL --unsafe-load", 2),
        ("forget --model EVIL --where label=3 --method fine-tune --out out", 2),
        ("forget --model EVIL --where label=3 --plan --out out", 2),
        ("score --model EVIL --method holdout --out out", 2),
        ("score --model HONEST --method confidence --checkpoints EVIL --out out", 2),
        ("prepare --model EVIL --out out", 2),
        ("audit --model EVIL --where label=3 --out out", 2),
        ("audit --model HONEST --original EVIL --where label=3 --no-relearning --out out", 2),
        ("audit --model HONEST --reference EVIL-FOLDER --where label=3 --no-relearning --out out", 2),
        ("audit --model HONEST --runs EVIL --where label=3 --no-relearning --out out", 2),
        ("audit --model HONEST --original EVIL --unsafe-load --where label=3 --no-relearning --out out", 2),
        ("train --base EVIL --arch mlp --out out", 0),  # of which the weights alone are taken
        ("check --model EVIL --arch mlp", 0),  # and here the user says what it is
    ],
)
def test_no_option_runs_what_a_card_names(
    command: str, code: int, honest: Path, canary: Canary, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = with_arch(honest, canary.folder / "models" / "retrained-1.safetensors", f"{canary.module('evil')}:make")
    words = {"EVIL": str(evil), "EVIL-FOLDER": str(evil.parent), "HONEST": str(honest)}
    arguments: list[Any] = [words.get(word, word) for word in command.split()]
    assert run(*arguments, *DATA, *QUICK) == code
    assert not canary.sang
    said = capsys.readouterr().err
    assert said.count("\n") == (code != 0)
    assert code == 0 or "not imported or run" in said


@pytest.mark.usefixtures("canary")
def test_a_model_of_the_users_own_network_is_taken_where_the_user_names_it() -> None:
    Path("net.py").write_text(
        "from torch import nn\ndef net(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    named = ["--arch", "net.py:net"]
    assert run("train", *DATA, *named, "--epochs", "8", "--batch-size", "20", "--out", "first") == 0
    wanted = ["--model", "first/original.safetensors", "--where", "label=3", "--method", "fine-tune", *QUICK]
    assert run("forget", *DATA, *wanted, "--out", "second") == 2
    assert run("forget", *DATA, *wanted, *named, "--reference", "retrain", "--out", "second") in (0, 4)
    audited = ["--model", "second/unlearned.safetensors", "--where", "label=3", "--no-relearning", *QUICK]
    audited += ["--reference", "second", "--original", "first/original.safetensors"]
    assert run("audit", *DATA, *audited, "--out", "third") == 2
    assert run("audit", *DATA, *audited, *named, "--out", "third") == 0
    model, card = models.load("first/original.safetensors", arch="net.py:net", input_shape=(1, 8, 8), n_classes=10)
    assert card.arch == "net.py:net"
    assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_members_run_nothing_that_their_files_name(canary: Canary, tmp_path: Path) -> None:
    data = point_splits(20)
    kept = np.ones((2, 20), dtype=bool)
    kept[:, :5] = False
    um.train_members(um.Recipe(model="mlp", epochs=1), data.train, kept, folder=tmp_path / "members")
    name = f"{canary.module('evil')}:make"
    (tmp_path / "evil").mkdir()
    for one in list(files.members_in(tmp_path / "members")):
        about = one.about | {"recipe": one.about["recipe"] | {"model": name}}
        arrays = {key: value for key, value in one.arrays.items() if key != "about"}
        files.write(tmp_path / "evil" / one.path.name, about, arrays)
    found = um.read_members(tmp_path / "evil", data.train)
    assert len(found.seeds) == 2
    assert not canary.sang


def folder_with_code(canary: Canary, kind: str) -> Path:
    """A BERT whose config asks for code that lies beside it. kind: what the config says that it is."""
    folder = save_bert(canary.folder / "bert")
    body = "from transformers import BertConfig as Config, BertForSequenceClassification as Model\nTokenizer = make\n"
    (folder / "evil.py").write_text(canary.source(body))
    autos = ("AutoModel", "AutoModelForSequenceClassification", "AutoModelForImageClassification")
    code = {"AutoConfig": "evil.Config", "AutoTokenizer": ["evil.Tokenizer", None]} | dict.fromkeys(autos, "evil.Model")
    config = json.loads((folder / "config.json").read_text()) | {"auto_map": code, "model_type": kind}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def yes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who says yes to every question."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 20))


@pytest.mark.usefixtures("yes")
def test_code_beside_a_known_network_is_left_alone(canary: Canary) -> None:
    folder = folder_with_code(canary, "bert")
    model, _ = models.load(folder, arch=None, input_shape=(LENGTH,), n_classes=3)
    assert same_state(dict(sorted(model.state_dict().items())), load_file(folder / "model.safetensors"))
    models.build(f"transformers/{folder}", (LENGTH,), 3, seed=0)
    models.build(f"transformers/{folder}", (LENGTH,), 3, seed=0, base=str(folder))
    assert not canary.sang


@pytest.mark.usefixtures("yes")
@pytest.mark.parametrize("way", ["model", "arch", "base", "card"])
def test_a_network_that_is_only_code_beside_its_config_is_refused(way: str, canary: Canary) -> None:
    folder = folder_with_code(canary, "evil")
    place: dict[str, Any] = {"input_shape": (LENGTH,), "n_classes": 3}
    with pytest.raises(UserError, match="code in its folder, which was not run"):
        if way == "model":
            models.load(folder, arch=None, **place)
        elif way == "arch":
            models.build(f"transformers/{folder}", (LENGTH,), 3, seed=0)
        elif way == "base":
            bert = save_bert(canary.folder / "other")
            models.build(f"transformers/{bert}", (LENGTH,), 3, seed=0, base=str(folder))
        else:
            config = json.loads((folder / "config.json").read_text())
            file = canary.folder / "alone.safetensors"
            card = models.Card("transformers/gone", (LENGTH,), 3, config=config)
            save_file(load_file(folder / "model.safetensors"), file, metadata=card.metadata())
            models.load(file, arch=None, **place)
    assert not canary.sang


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
@pytest.mark.parametrize("deep", [False, True])
def test_kernels_from_the_hub_are_refused(key: str, deep: bool, canary: Canary) -> None:
    folder = save_bert(canary.folder / "bert")
    config = json.loads((folder / "config.json").read_text())
    asked = {key: "somebody/evil-kernels"}
    (folder / "config.json").write_text(json.dumps(config | ({"text_config": asked} if deep else asked)))
    for way in (
        lambda: models.load(folder, arch=None, input_shape=(LENGTH,), n_classes=3),
        lambda: models.build(f"transformers/{folder}", (LENGTH,), 3, seed=0),
    ):
        with pytest.raises(UserError, match="code from the hub"):
            way()


@pytest.mark.usefixtures("yes")
@pytest.mark.parametrize("where", ["tokenizer_config.json", "config.json"])
def test_code_of_a_tokenizer_is_refused(where: str, canary: Canary) -> None:
    Path("texts.csv").write_text("text,label\n" + "good film,1\nbad film,0\n" * 20)
    folder = canary.folder / "tokens"
    folder.mkdir()
    (folder / "evil.py").write_text(canary.source("Tokenizer = make\n"))
    asked = {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}, "tokenizer_class": "EvilTokenizer"}
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / where).write_text(json.dumps(asked | {"model_type": "evil"}))
    with pytest.raises(UserError, match="tokenizer"):
        um.load("texts.csv", text="text", tokenizer=folder)
    assert not canary.sang


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("way", ["load", "base"])
def test_pickles_run_nothing(suffix: str, way: str, canary: Canary) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return open, (str(canary.file), "w")

    file = canary.folder / f"model{suffix}"
    torch.save({"state_dict": Evil()}, file)
    with pytest.raises(UserError):
        if way == "load":
            models.load(file, arch="mlp", input_shape=(4,), n_classes=3)
        else:
            models.build("mlp", (4,), 3, seed=0, base=str(file))
    assert not canary.sang


def test_a_pickle_in_a_folder_of_transformers_runs_nothing(canary: Canary) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return open, (str(canary.file), "w")

    folder = save_bert(canary.folder / "bert")
    (folder / "model.safetensors").unlink()
    torch.save({"a": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="holds more than weights, which was not run"):
        models.load(folder, arch=None, input_shape=(LENGTH,), n_classes=3)
    assert not canary.sang
