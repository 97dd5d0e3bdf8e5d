"""Commands on a user's own files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file

from tests.cli.test_commands import run
from tests.data.files import image_tree

QUICK = ["--epochs", "4", "--batch-size", "16"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("table") / "people.csv"
    lines = []
    for k in range(120):
        age, town = random.normal(40 + 20 * (k % 2), 5), ("Ulm", "Bonn")[random.integers(2)]
        lines.append(f"u{k:03},{age:.2f},{town},secret {k},{('no', 'yes')[k % 2]}")
    path.write_text("customer,age,town,note,bought\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_tree(tmp_path_factory.mktemp("tree") / "pets", each=20, side=8)


def test_a_table_is_trained_on_and_forgotten_from(table: Path, tmp_path: Path) -> None:
    data = ["--data", table, "--label", "bought", "--id", "customer", "--drop", "note", *QUICK]
    assert run("train", *data, "--out", tmp_path / "first") == 0
    said = yaml.safe_load((tmp_path / "first" / "config.yaml").read_text())
    assert (said["label"], said["id"], said["drop"]) == ("bought", "customer", "note")
    assert json.loads((tmp_path / "first" / "result.json").read_text())["original"]["accuracy"]["test"] > 0.8
    assert load_file(tmp_path / "first" / "original.safetensors")["1.weight"].shape == (256, 3)
    import unmem as um

    some = um.load(table, label="bought", id="customer", drop="note").train.ids[:6]
    (tmp_path / "ids.txt").write_text("\n".join(some))
    model = tmp_path / "first" / "original.safetensors"
    wanted = ["--model", model, "--forget", tmp_path / "ids.txt", "--method", "fine-tune"]
    assert run("forget", *data, *wanted, "--out", tmp_path / "second") in (0, 4)
    assert (tmp_path / "second" / "unlearned.safetensors").is_file()


@pytest.mark.parametrize("place", ["command line", "unmem.yaml"])
def test_options_for_tables_reach_the_reader(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{(7 * k) % 60};{('1,5', '?', '-9', '2')[k % 4]};{k % 3};{'ab'[k % 2]}" for k in range(60)]
    Path("x.csv").write_text("\n".join(["ID;price;shop;label", *rows]) + "\n")
    options = ["--data", "x.csv", "--decimal", ",", "--missing", "?,-9", "--categories", "shop", "--prepared"]
    more = ["--id", "none"] if place == "command line" else []
    if place == "unmem.yaml":
        assert run("init", *options, "--id", "none") == 0
        options = []
    assert run("train", *options, *more, *QUICK, "--out", "out") == 0
    assert load_file("out/original.safetensors")["1.weight"].shape == (256, 2 + 3)
    said = capsys.readouterr().out
    for part in ("no features: 'ID'", "'price' (30, written '-9' or '?')", "as they are (--prepared)"):
        assert part in said


def test_a_streamed_folder_gives_the_model_and_the_scores_of_one_in_memory(tree: Path, tmp_path: Path) -> None:
    scores = ["--method", "confidence,holdout", "--data", tree, "--scaling", "dataset", *QUICK]
    for how in ("always", "never"):
        assert run("score", *scores, "--stream", how, "--loaders", "1", "--out", tmp_path / how) == 0
    files = [(tmp_path / how / "original.safetensors").read_bytes() for how in ("always", "never")]
    assert files[0] == files[1]
    assert (tmp_path / "always" / "scores.parquet").read_bytes() == (tmp_path / "never" / "scores.parquet").read_bytes()


def test_streamed_members_are_trained_in_other_processes(tree: Path, tmp_path: Path) -> None:
    wanted = ["--method", "crossfit", "--executor", "processes", "--workers", "1"]
    data = ["--data", tree, "--stream", "always", "--loaders", "1", "--epochs", "1", "--batch-size", "16"]
    assert run("score", *wanted, *data, "--out", tmp_path / "out") == 0


OWN = """
import torch
from torch.utils.data import Dataset
from beside import SHIFT

class Mine(Dataset):
    def __init__(self):
        self.change = lambda x: x + SHIFT
    def __len__(self):
        return 60
    def __getitem__(self, k):
        return self.change(torch.tensor([float(k % 3), 1.0])), k % 3

def made():
    return Mine()
"""


def test_streams_of_ones_own_function_reach_other_processes(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "beside.py").write_text("SHIFT = 0.5\n")
    wanted = ["--method", "crossfit", "--epochs", "1", "--batch-size", "16", "--data", f"{tmp_path}/mine.py:made"]
    for where in (["--executor", "processes", "--workers", "1"], ["--executor", "serial"]):
        streamed = ["--stream", "always", "--loaders", "1", "--out", tmp_path / where[1]]
        assert run("score", *wanted, *where, *streamed) == 0
    files = [(tmp_path / where / "scores.parquet").read_bytes() for where in ("processes", "serial")]
    assert files[0] == files[1]


def test_other_data_than_the_model_is_of_are_told_all_that_may_differ(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "--data", tree, *QUICK, "--out", tmp_path / "first") == 0
    model = ["--model", tmp_path / "first" / "original.safetensors", "--where", "label=1", "--method", "fine-tune"]
    assert run("forget", "--data", tree, "--scaling", "dataset", *model, "--out", tmp_path / "second") == 2
    said = capsys.readouterr().err
    assert "it was trained on other examples than these; pass the same --data" in said
    assert "--scaling, --size" in said


def test_what_was_left_out_is_said(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "cat" / "readme.txt").write_text("cats")
    assert run("train", "--data", tree, *QUICK, "--out", tmp_path / "out") == 0
    assert "1 files" in capsys.readouterr().out
    (tree / "cat" / "readme.txt").unlink()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--label", "buoght"], "label 'buoght': no such column; did you mean 'bought'?"),
        (["--label", "bought"], "column 'customer': has 120 different texts"),
        (["--label", "bought", "--size", "32"], "size '32': a table does not use it"),
        (["--label", "bought", "--text", "note", "--id", "customer"], "tokenizer: texts need one"),
        (["--stream", "sometimes"], "--stream"),
    ],
)
def test_wrong_options_end_with_one_sentence_and_no_folder(
    table: Path, tmp_path: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "--data", table, *options, "--out", tmp_path / "out") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_tokenizer_in_the_folder_of_the_model_is_taken(tmp_path: Path) -> None:
    from unmem.cli.options import DataOptions
    from unmem.cli.session import reading_of

    (tmp_path / "tokenizer.json").write_text("{}")
    texts, named = DataOptions(text="t"), DataOptions(text="t", tokenizer=Path("mine"))
    assert reading_of(texts, str(tmp_path))["tokenizer"] == tmp_path
    assert reading_of(named, str(tmp_path))["tokenizer"] == Path("mine")
    assert reading_of(texts, str(tmp_path / "model.safetensors"))["tokenizer"] is None
    assert reading_of(DataOptions(), str(tmp_path))["tokenizer"] is None


def test_the_tokenizer_around_or_beside_a_model_file_is_taken(tmp_path: Path) -> None:
    from unmem.cli.options import DataOptions
    from unmem.cli.session import reading_of

    bert, run_folder = tmp_path / "bert", tmp_path / "forgot"
    for folder in (bert, run_folder / "unlearned"):
        folder.mkdir(parents=True)
        (folder / "tokenizer.json").write_text("{}")
        (folder / "config.json").write_text('{"model_type": "bert"}')
    for model, found in (
        (bert / "model.safetensors", bert),
        (run_folder / "unlearned.safetensors", run_folder / "unlearned"),
    ):
        assert reading_of(DataOptions(text="t"), str(model))["tokenizer"] == found


def test_a_network_named_by_its_folder_brings_its_tokenizer_and_the_order_of_its_classes() -> None:
    from unmem.cli.session import model_named

    assert model_named({"model": "m.pt", "arch": "transformers/bert"}) == "m.pt"
    assert model_named({"model": None, "arch": "transformers/some/bert"}) == "some/bert"
    assert model_named({"model": None, "arch": "mlp"}) is None
    assert model_named({}) is None
