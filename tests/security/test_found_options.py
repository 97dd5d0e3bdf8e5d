"""A file of options that was only found in the current folder runs no code and replaces nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.security.canary import Canary, run
from unmem.cli.config import needs_asking

DATA = ["--data", "digits", "--limit", "200", "--epochs", "1", "--out", "out"]
ROWS = "".join(f"{k},{k % 7},{'ab'[k % 2]}\n" for k in range(60))

BOLD = [
    ("train", "arch: evil.py:make"),
    ("train", "arch: ./evil.py:make"),
    ("train", "arch: evil:make"),
    ("train", "arch: os:abort"),
    ("train", "data: evil.py:made"),
    ("train", "data: evil:made"),
    ("train", "data: x.csv\npreprocess: evil.py:prep"),
    ("forget", "unsafe_load: true"),
    ("forget", "unsafe-load: true"),
    ("train", "force: true"),
    ("audit", "annex: mine.csv"),
    ("train", "arch: evil.py:make\nforce: true\npreprocess: evil.py:prep"),
]
MEEK = [
    "arch: mlp",
    "arch: null",
    "unsafe_load: false",
    "force: false",
    "preprocess: null",
    "data: digits",
    "seed: 1",
    "command: train",
]


@pytest.mark.parametrize(("command", "text"), BOLD)
def test_what_was_found_and_is_bold_is_refused(
    command: str, text: str, canary: Canary, capsys: pytest.CaptureFixture[str]
) -> None:
    canary.module("evil")
    Path("x.csv").write_text("a,b,label\n" + ROWS)
    Path("unmem.yaml").write_text(text + "\n")
    more = {"forget": ["--where", "label=3"], "audit": ["--model", "m.safetensors", "--where", "label=3"]}
    data = DATA[2:] if "data:" in text else DATA
    assert run(command, *more.get(command, []), *data) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "./unmem.yaml" in said
    assert "pass --config unmem.yaml" in said
    for line in text.splitlines():
        key, _, value = line.partition(": ")
        named = f"{key.replace('-', '_')}: " in said
        assert named == needs_asking(key.replace("-", "_"), {"true": True}.get(value, value))
    assert not canary.sang
    assert not Path("out").exists()


@pytest.mark.parametrize("text", MEEK)
@pytest.mark.usefixtures("canary")
def test_what_was_found_and_is_meek_is_taken(text: str) -> None:
    Path("unmem.yaml").write_text(text + "\n")
    arch = [] if text == "arch: mlp" else ["--arch", "mlp"]
    assert run("train", *DATA, *arch) == 0


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        *(("arch", name, False) for name in ("torchvision/resnet18", "timm/resnet18.a1_in1k", "transformers/C:/bert")),
        *(("data", name, False) for name in ("hf:owner/name", "cifar10", "a:b.csv", "a:b.npz", "C:/data/x.parquet")),
        *(("data", name, True) for name in ("a.py:b", "a:b", "C:/x.py:f", "a:b.py:f", ":a", "a:")),
        *(("model", name, False) for name in ("a.safetensors", "a.pt", "a:b")),
        *(("unsafe_load", value, value) for value in (True, False)),
        ("preprocess", "prep.py:prep", True),
    ],
)
@pytest.mark.usefixtures("canary")
def test_what_needs_asking(key: str, value: object, expected: bool) -> None:
    assert needs_asking(key, value) == expected


def test_a_flag_in_the_place_of_what_was_found_is_enough(canary: Canary) -> None:
    canary.module("evil")
    Path("unmem.yaml").write_text("arch: evil.py:make\nepochs: 1\n")
    assert run("train", *DATA, "--arch", "mlp") == 0
    assert not canary.sang
    assert run("train", *DATA[:-1], "other", "--no-config", "--arch", "mlp") == 0
    assert not canary.sang


def test_init_prints_the_command_that_its_file_needs(canary: Canary, capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.py").write_text(
        "from torch import nn\ndef net(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    assert run("init", "--limit", "200", "--epochs", "1") == 0
    assert "unmem train --out runs/first" in capsys.readouterr().out
    assert run("init", "--force", "--limit", "200", "--epochs", "1", "--arch", "net.py:net") == 0
    assert "unmem train --config unmem.yaml --out runs/first" in capsys.readouterr().out
    assert run("train", "--out", "runs/first") == 2
    assert run("train", "--config", "unmem.yaml", "--out", "runs/first") == 0
    assert run("--config", "runs/first/config.yaml", "--out", "runs/second") == 0
    assert canary.folder == Path.cwd()
