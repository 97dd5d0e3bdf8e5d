"""`unmem audit` and `unmem scenario` as a user meets them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import unmem as um
from tests.cli.commands import result, run

DATA = ["--limit", "300", "--flip", "0.1"]
RECIPE = ["--arch", "mlp", "--epochs", "20", "--batch-size", "32"]
SPLIT = ["--split", "70/15/15"]  # what a model from elsewhere was trained on


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an original, its members, a request, and a model that unmem did not make."""
    folder = tmp_path_factory.mktemp("audit")
    members = ["--method", "feldman", "--members", "14", "--work", folder / "members"]
    assert run("score", *DATA, *RECIPE, *members, "--out", folder / "score") == 0
    flipped = um.load("digits", limit=300, flip=0.1).flipped
    (folder / "ids.txt").write_text("\n".join(flipped))
    state = load_file(folder / "score" / "original.safetensors")
    save_file(state, folder / "foreign.safetensors")  # without a word about what it is
    return folder


def test_a_foreign_model_and_ids_are_enough(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "audit"
    given = ["--model", made / "foreign.safetensors", "--forget", made / "ids.txt", "--no-relearning", *SPLIT]
    assert run("audit", *DATA, *RECIPE, *given, "--out", out) == 0
    shown = capsys.readouterr().out
    assert "Inconclusive (too little power)" in shown
    assert "Not seen: ToW, ToW-MIA and the distance to retraining; that needs a retrained model" in shown
    found = result(out)
    assert found["methods"]["unlearned"]["tow"] is None
    assert found["verdicts"]["unlearned"]["finding"] == "inconclusive"
    assert found["verdict"] == "inconclusive"
    assert set(found) >= {"signals", "contradictions"}
    assert found["copies"] == {"forget_examples_with_copies": 0, "exact": 0, "near": 0, "with_another_label": 0}


def test_all_that_is_at_hand_is_used_and_nothing_about_persons_is_written(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, annex = tmp_path / "audit", tmp_path / "annex.csv"
    original = made / "score" / "original.safetensors"
    given = ["--model", original, "--original", original, "--forget", made / "ids.txt", "--annex", annex]
    more = ["--reference", "retrain", "--members", made / "members", "--scores", made / "score" / "scores.parquet"]
    assert run("audit", *DATA, *RECIPE, *given, *more, "--score", "feldman", "--out", out) == 0
    shown = capsys.readouterr().out
    found = result(out)
    assert len(found["missing"]) == 1
    assert found["verdicts"]["unlearned"]["finding"] in ("residual influence found", "inconclusive")
    assert found["evidence"]["unlearned"]["test"]["under"]["share"] > 0.3
    assert [part["n"] for part in found["evidence"]["unlearned"]["parts"].values()] == [10, 10, 10]
    assert found["forecast"]["low"] <= found["forecast"]["accuracy"] <= found["forecast"]["high"]
    ids = um.load("digits", limit=300, flip=0.1).flipped
    for file in ("result.json", "config.yaml"):
        text = (out / file).read_text()
        assert not any(f'"{name}"' in text or f"'{name}'" in text for name in ids)
    page = (out / "report.html").read_text().split("<script>")[0]
    assert not any(f">{name}<" in page for name in ids if len(name) > 3)
    rows = list(csv.DictReader(annex.read_text().splitlines()))
    assert [row["id"] for row in rows] == list(ids)
    assert {"label", "confidence", "copies", "t"} <= rows[0].keys()
    assert "holds personal data" in shown
    # Retrained models are kept, so that another audit needs no new ones.
    again = ["--reference", out, "--no-relearning", "--out", tmp_path / "again"]
    assert run("audit", *DATA, *RECIPE, *given[:-2], *again) == 0
    assert result(tmp_path / "again")["reference"]["accuracy"] == found["reference"]["accuracy"]


def test_a_short_teacher_forecasts_where_nothing_was_prepared(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of flipped labels a model that never saw them gets few right, whatever the original learned by heart."""
    original = made / "score" / "original.safetensors"
    given = ["--model", original, "--original", original, "--forget", made / "ids.txt", "--no-relearning"]
    assert run("audit", *DATA, *RECIPE, *given, "--out", tmp_path / "bare") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "forecast of the forget accuracy; that needs targets by a short teacher, about 0.1" in shown
    assert run("audit", *DATA, *RECIPE, *given, "--targets", "teacher", "--out", tmp_path / "audit") == 0
    found = result(tmp_path / "audit")
    assert found["forecast"]["source"] == "a short teacher"
    assert found["forecast"]["high"] < 0.5
    assert not any(one["what"].startswith("forecast") for one in found["missing"])


def test_two_retrained_models_cannot_clear_the_original(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """40 of 640 examples and no members: with one degree of freedom not even doing nothing can be seen."""
    data = ["--limit", "640", *RECIPE]
    assert run("train", *data, "--out", tmp_path / "train") == 0
    (tmp_path / "ids.txt").write_text("\n".join(um.load("digits", limit=640).train.ids[:40]))
    original = tmp_path / "train" / "original.safetensors"
    given = ["--model", original, "--original", original, "--forget", tmp_path / "ids.txt", "--reference", "retrain"]
    capsys.readouterr()
    assert run("audit", *data, *given, "--out", tmp_path / "audit") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Inconclusive (too little power)" in shown
    assert "retrain 4 or 5 models, or use members" in shown
    assert "None found" not in shown
    found = result(tmp_path / "audit")
    assert found["verdict"] == "inconclusive"
    signal = found["signals"]["forget accuracy against retrained models"]
    assert signal["smallest_detectable"] > signal["do_nothing"] - signal["expected"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reference", "retrian"], ["neither retrain, nor none, nor a folder"]),
        (["--members", "{nowhere}"], ["holds no members"]),
        (["--annex", "{here}/annex.txt"], ["not a .csv file"]),
        (["--annex", "{nowhere}/annex.csv"], ["folder does not exist"]),
        (["--scores", "{here}/ids.txt"], ["not a parquet table"]),
        (["--crossfit", "{here}/ids.txt"], ["not a cross-fit"]),
        (["--original", "{here}/ids.txt"], ["not a .safetensors file"]),
        (["--targets", "trace"], ["there is no trace", "--trace"]),
    ],
)
def test_a_wrong_input_is_one_sentence_and_leaves_nothing_behind(
    arguments: list[str], words: list[str], made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--model", made / "foreign.safetensors", "--forget", made / "ids.txt", "--out", tmp_path / "out", *SPLIT]
    wrong = [text.format(here=made, nowhere=tmp_path / "nowhere") for text in arguments]
    assert run("audit", *DATA, *RECIPE, *given, *wrong) == 2
    error = capsys.readouterr().err
    assert error.startswith("unmem: ")
    assert all(word in error for word in words)
    assert not (tmp_path / "out").exists()


def test_what_a_foreign_model_was_trained_on_must_be_said(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--model", made / "foreign.safetensors", "--forget", made / "ids.txt", "--out", tmp_path / "out"]
    assert run("audit", *DATA, *RECIPE, *given) == 2
    assert "which of its examples this model was never trained on is not known" in capsys.readouterr().err


def test_an_audit_of_a_model_with_other_labels_names_them(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = load_file(made / "foreign.safetensors")
    order = torch.tensor([1, 0, *range(2, 10)])
    last = [key for key in state if state[key].shape[:1] == (10,)]
    save_file(state | {key: state[key][order].contiguous() for key in last}, tmp_path / "swapped.safetensors")
    given = [
        "--model",
        tmp_path / "swapped.safetensors",
        "--forget",
        made / "ids.txt",
        "--out",
        tmp_path / "out",
        *SPLIT,
    ]
    assert run("audit", *DATA, *RECIPE, *given) == 2
    assert "--classes 1,0,2,3,4,5,6,7,8,9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options", "measure"),
    [
        ("privacy", ["--count", "30"], "accuracy on them"),
        ("mislabelled", ["--share", "0.1"], "says the planted label"),
        ("poisoned", ["--share", "0.1", "--target", "2"], "attack succeeds"),
    ],
)
def test_each_scenario_is_measured_before_after_and_against_retraining(
    name: str, options: list[str], measure: str, tmp_path: Path
) -> None:
    out = tmp_path / name
    recipe = ["--limit", "300", "--arch", "mlp", "--epochs", "20", "--batch-size", "32"]
    methods = ["--method", "matching,neggrad+", "--set", "neggrad+.epochs=2", "--reference-seeds", "1"]
    assert run("scenario", name, *recipe, *options, *methods, "--out", out) == 0
    found = result(out)
    rows = found["measures"]
    assert list(rows) == ["before", "matching", "neggrad+", "retrained"]
    assert all(0 <= row[measure] <= 1 and 0 <= row["test accuracy"] <= 1 for row in rows.values())
    assert rows["before"][measure] > rows["retrained"][measure]
    assert found["forget"]["n"] == 30
    assert found["methods"]["matching"]["tow"] > 0
    assert "Was the purpose reached?" in (out / "report.html").read_text()


def test_a_scenario_refuses_what_it_cannot_plant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["poisoned", "--target", "12"], "classes are 0 to 9"),
        (["privacy", "--count", "99999"], "training examples"),
        (["mislabelled", "--share", "0.9"], "between 0 and 0.5"),
        (["privacy", "--method", "matchin"], "did you mean 'matching'?"),
        (["privacy", "--set", "salun.share=0.5"], "does not run here"),
        (["privatcy"], "privatcy"),
    ):
        assert run("scenario", *arguments, "--limit", "200", "--out", tmp_path / "out") == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
