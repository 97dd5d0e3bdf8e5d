"""What the commands say of models and scores that cannot be relied on."""

from __future__ import annotations

from pathlib import Path

import pytest

import unmem as um
from tests.cli.commands import result, run

DATA = ["--limit", "400"]
ADAMW = ["--arch", "mlp", "--batch-size", "32", "--epochs", "15", "--optimizer", "adamw", "--lr", "0.001"]
SLOW = ["--arch", "mlp", "--batch-size", "32", "--epochs", "15", "--optimizer", "sgd", "--lr", "0.0004"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an original that AdamW trained, and a request."""
    folder = tmp_path_factory.mktemp("soundness")
    assert run("train", *DATA, *ADAMW, "--out", folder / "train") == 0
    found = result(folder / "train")["original"]
    assert found["accuracy"]["train"] > 0.95
    assert "fault" not in found
    (folder / "ids.txt").write_text("\n".join(um.load("digits", limit=400).train.ids[:40]))
    return folder


def asked(made: Path) -> list[str | Path]:
    return ["--model", made / "train" / "original.safetensors", "--forget", made / "ids.txt"]


def test_retrained_models_that_do_not_reach_the_original_are_not_called_the_goal(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The case that a user meets whose options are not those that the original was trained with."""
    out = tmp_path / "forget"
    options = ["--method", "fine-tune", "--reference", "retrain", "--max-drop", "1"]
    assert run("forget", *DATA, *SLOW, *asked(made), *options, "--out", out) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "warning the retrained models do not reach the accuracy of the original" in shown
    assert "--optimizer, --lr, --epochs and --base as for the original" in shown
    assert "15 epochs of SGD, lr 0.0004" in shown
    assert "the goal" not in shown
    assert "retrained (falls short)" in shown
    found = result(out)
    reference = found["reference"]
    (entry,) = reference["shortfalls"]
    retain = next(one for one in entry["worst"] if one["on"] == "retain")
    assert retain["original"] > 0.95
    assert retain["trained"] < 0.75
    assert entry["short"] == reference["models"] == 2
    assert found["controls"]["do_nothing"]["tow"] < 0.75
    page = (out / "report.html").read_text()
    assert "Warning." in page
    assert "How close a method comes to retraining cannot be judged here" in page
    assert "mean of 2 models; far short of the original" in page


def test_retrained_models_that_reach_it_are(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "forget"
    options = ["--method", "fine-tune", "--reference", "retrain"]
    assert run("forget", *DATA, *ADAMW, *asked(made), *options, "--out", out) == 0
    shown = capsys.readouterr().out
    assert "warning" not in shown
    assert "retrained (the goal)" in shown
    assert result(out)["reference"]["shortfalls"] == []
    assert result(out)["warnings"] == []
    assert "Warning." not in (out / "report.html").read_text()


def test_an_audit_says_so_of_models_made_here_and_of_models_in_a_folder(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = made / "train" / "original.safetensors"
    given = ["--model", file, "--original", file, "--forget", made / "ids.txt", "--no-relearning"]
    first = tmp_path / "first"
    assert run("audit", *DATA, *SLOW, *given, "--reference", "retrain", "--out", first) == 0
    assert "the retrained models do not reach the accuracy of the original" in capsys.readouterr().out
    assert len(result(first)["reference"]["shortfalls"]) == 1
    assert result(first)["verdict"] == "inconclusive"
    assert (
        "the retrained models do not reach the accuracy of the original"
        in result(first)["verdicts"]["unlearned"]["text"]
    )
    assert "Warning." in (first / "report.html").read_text()
    assert run("audit", *DATA, *ADAMW, *given, "--reference", first, "--out", tmp_path / "second") == 0
    shown = capsys.readouterr().out
    assert "the retrained models do not reach the accuracy of the original" in shown
    assert "retrained (the goal)" not in shown


def test_a_cross_fit_by_another_recipe_is_warned_of_wherever_it_is_used(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = made / "train" / "original.safetensors"
    out = tmp_path / "prepared"
    assert run("prepare", *DATA, *SLOW, "--model", file, "--out", out) == 0
    said = "the fold models do not reach the accuracy of the original"
    assert said in capsys.readouterr().out
    assert [one["what"] for one in result(out)["warnings"] if "what" in one] == ["fold model"]
    crossfit = ["--crossfit", out / "crossfit.npz"]
    given = ["--model", file, "--original", file, "--forget", made / "ids.txt", "--no-relearning"]
    assert run("audit", *DATA, *ADAMW, *given, *crossfit, "--out", tmp_path / "audit") == 0
    assert said in capsys.readouterr().out
    assert len(result(tmp_path / "audit")["warnings"]) == 1
    assert said[4:] in (tmp_path / "audit" / "report.html").read_text()
    options = ["--method", "matching", *crossfit, "--max-drop", "1", "--out", tmp_path / "forget"]
    assert run("forget", *DATA, *SLOW, *asked(made), *options) == 0
    assert said in capsys.readouterr().out
    assert said[4:] in (tmp_path / "forget" / "report.html").read_text()


def test_members_by_another_recipe_are_warned_of(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = made / "train" / "original.safetensors"
    members = ["--method", "ensemble", "--members", "12", "--work", tmp_path / "members"]
    assert run("score", *DATA, *SLOW, "--model", file, *members, "--out", tmp_path / "score") == 0
    said = "members do not reach the accuracy of the original"
    assert said in capsys.readouterr().out
    (entry,) = result(tmp_path / "score")["warnings"]
    assert (entry["what"], entry["count"]) == ("member", 12)
    assert said in (tmp_path / "score" / "report.html").read_text()
    given = ["--model", file, "--forget", made / "ids.txt", "--members", tmp_path / "members", "--no-relearning"]
    assert run("audit", *DATA, *ADAMW, *given, "--out", tmp_path / "audit") == 0
    assert "members do not reach the accuracy of the audited model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lr", "what"), [("1e-8", "no more than chance"), ("2e-4", "the nearest class mean classifier")]
)
def test_a_training_that_did_not_learn_is_said(
    lr: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = [*SLOW[:-1], lr]
    assert run("train", *DATA, *recipe, "--out", tmp_path / "train") == 0
    shown = capsys.readouterr().out
    assert "warning" in shown
    assert "the trained model did not learn" in shown
    assert what in shown
    assert "--optimizer adamw" in shown
    assert what in result(tmp_path / "train")["original"]["fault"]["text"]
    assert run("score", *DATA, *recipe, "--out", tmp_path / "score") == 0
    assert "the trained model did not learn" in capsys.readouterr().out
    assert "The trained model did not learn" in (tmp_path / "score" / "report.html").read_text()


def test_scores_in_opposite_order_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Early in training what is easy is learned first: there late gain and difficulty are opposed."""
    recipe = ["--arch", "mlp", "--batch-size", "32", "--epochs", "2"]
    assert run("score", *DATA, *recipe, "--method", "confidence,late-gain,loss", "--out", tmp_path / "score") == 0
    said = "the scores confidence and late-gain rank the examples in opposite order"
    assert said in capsys.readouterr().out
    found = result(tmp_path / "score")["warnings"]
    assert [(one["first"], one["second"]) for one in found] == [("confidence", "late-gain"), ("late-gain", "loss")]
    assert all(one["spearman"] < one["high"] < 0 for one in found)
    assert said[4:] in (tmp_path / "score" / "report.html").read_text()
    options = ["--top", "confidence:40", "--score", "late-gain", "--max-drop", "1", "--out", tmp_path / "forget"]
    assert run("forget", *DATA, *recipe, *options) == 0
    assert said in capsys.readouterr().out
    assert said[4:] in (tmp_path / "forget" / "report.html").read_text()
    assert len(result(tmp_path / "forget")["warnings"]) == 1
