"""What one command made and another one needs: predictions of forgotten examples, and retrained models."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unmem as um
from tests.cli.commands import result, run
from tests.models.bert import save_bert, sentences
from unmem.cli.kept import what_makes
from unmem.cli.options import folders_of
from unmem.store import retrained_in

WHOLE = 1258  # training examples; a sample would be another one for another seed
RECIPE = ["--arch", "mlp", "--epochs", "8"]
FORGOTTEN = 30


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an original, its trace, a cross-fit and a request."""
    folder = tmp_path_factory.mktemp("reuse")
    assert run("train", *RECIPE, "--out", folder / "train") == 0
    assert run("prepare", *RECIPE, "--out", folder / "ready") == 0
    ids = um.load("digits").train.ids[:FORGOTTEN]
    (folder / "ids.txt").write_text("\n".join(ids))
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of it, since a request changes files."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def asked(place: Path) -> list[str | Path]:
    model = place / "train" / "original.safetensors"
    return [*RECIPE, "--model", model, "--forget", place / "ids.txt", "--max-drop", "1"]


def judged(place: Path, *options: str | Path) -> list[str | Path]:
    files = ["--model", place / "forgot" / "unlearned.safetensors", "--original", place / "train/original.safetensors"]
    return [*RECIPE, *files, "--forget", place / "ids.txt", "--no-relearning", *options]


SOURCES = {
    "crossfit": ["--crossfit", "ready/crossfit.npz"],
    "trace": ["--trace", "train/trace.npz"],
    "trace-beside-the-model": [],
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("moved", [False, True], ids=["", "folder-moved"])
def test_what_forget_used_up_is_there_for_the_audit_and_for_another_seed(kind: str, moved: bool, place: Path) -> None:
    targets = kind.partition("-")[0]

    def named(where: Path) -> list[str | Path]:
        return [where / one if "/" in one else one for one in SOURCES[kind]]

    run_it = ["--method", "matching", "--targets", targets]
    assert run("forget", *asked(place), *named(place), *run_it, "--out", place / "forgot") == 0
    if moved:
        place = place.rename(place.with_name("elsewhere"))
    options = named(place) if SOURCES[kind] else ["--trace", place / "train" / "trace.npz"]
    assert run("audit", *judged(place, *options), "--targets", targets, "--out", place / "audit") == 0
    expected = result(place / "audit")["forecast"]
    assert expected["n"] == FORGOTTEN
    again = place / "again"
    assert run("forget", *asked(place), *named(place), *run_it, "--seed", "3", "--out", again) == 0
    assert result(again)["targets"]["source"] == targets
    assert {path.name for path in (again / "private").iterdir()} == {
        path.name for path in (place / "forgot/private").iterdir()
    }


def test_the_rows_that_were_moved_are_those_that_were_there(place: Path) -> None:
    file = place / "ready" / "crossfit.npz"
    before = um.CrossFit.load(file)
    assert run("forget", *asked(place), "--method", "matching", "--crossfit", file, "--out", place / "forgot") == 0
    after, kept = um.CrossFit.load(file), um.CrossFit.load(place / "forgot" / "private" / "crossfit.npz")
    assert set(after.ids).isdisjoint(kept.ids)
    assert len(kept) == FORGOTTEN
    np.testing.assert_array_equal(after.with_rows_of(kept).take(before.ids).log_probs, before.log_probs)


def test_the_most_memorized_are_the_same_ones_again(place: Path) -> None:
    """Without the rows that were moved, the next most memorized would be taken."""
    file = place / "ready" / "crossfit.npz"
    top = [*asked(place)[:-4], "--top", "crossfit:20", "--method", "matching", "--crossfit", file, "--max-drop", "1"]
    assert run("forget", *top, "--out", place / "first") == 0
    assert run("forget", *top, "--seed", "3", "--out", place / "second") == 0
    first, second = (um.CrossFit.load(place / name / "private" / "crossfit.npz").ids for name in ("first", "second"))
    assert set(first) == set(second)
    assert len(first) == 20


def test_a_trace_recorded_in_the_run_serves_the_audit(place: Path) -> None:
    options = [*RECIPE, "--forget", place / "ids.txt", "--method", "matching", "--max-drop", "1"]
    assert run("forget", *options, "--out", place / "forgot") == 0
    trace = place / "forgot" / "trace.npz"
    assert len(um.Trace.load(trace)) == WHOLE - FORGOTTEN
    assert run("audit", *judged(place, "--trace", trace), "--out", place / "audit") == 0
    assert result(place / "audit")["forecast"]["n"] == FORGOTTEN


# --- the total cost ---


@pytest.mark.parametrize(
    ("options", "trainings"),
    [
        (["--top", "crossfit:20"], 1.0),
        (["--top", "crossfit:20", "--score", "crossfit-fit", "--method", "rum", "--steps", "nothing,fine-tune"], 1.0),
        (["--top", "crossfit:20", "--crossfit", "ready/crossfit.npz", "--targets", "crossfit"], 1.0),
        (["--top", "crossfit:20", "--crossfit", "ready/crossfit.npz", "--targets", "trace"], 1.0),
        (["--top", "holdout:20"], 0.2),
    ],
    ids=["made", "two-scores-of-one", "read-and-used", "read-for-the-request", "other-score"],
)
def test_a_cross_fit_counts_once_all_told(
    options: list[str], trainings: float, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    model = ["--model", "train/original.safetensors", "--max-drop", "1", "--out", "forgot"]
    method = [] if "--method" in options else ["--method", "matching"]
    method += [] if {"--method", "--targets"} & set(options) else ["--targets", "trace"]  # which cost nothing
    assert run("forget", *RECIPE, *model, *options, *method) == 0
    (outcome,) = result(place / "forgot")["methods"].values()
    assert outcome["cost_all_told"] == pytest.approx(outcome["cost"] + trainings)


def test_a_cross_fit_made_in_the_run_counts_by_its_time(place: Path) -> None:
    options = ["--top", "crossfit:20", "--method", "matching", "--max-drop", "1"]
    assert run("forget", *RECIPE, *options, "--out", place / "forgot") == 0
    found = result(place / "forgot")
    outcome, training = found["methods"]["matching"], found["original"]["seconds"]
    spent = found["scores"]["crossfit"]["seconds"] + found["targets"]["seconds"] * (found["targets"]["cost"] > 0)
    assert outcome["cost_all_told"] == pytest.approx(outcome["cost"] + spent / training, rel=0.05)


# --- retrained models ---


def trainings(shown: str) -> int:
    return shown.count("done  Retrain from scratch")


def test_retrained_models_lie_beside_a_file_and_around_a_folder(tmp_path: Path) -> None:
    (tmp_path / "run" / "unlearned").mkdir(parents=True)
    assert folders_of(tmp_path / "run" / "unlearned.safetensors") == (tmp_path / "run",)
    assert folders_of(tmp_path / "run" / "unlearned") == (tmp_path / "run" / "unlearned", tmp_path / "run")


def test_retrained_models_are_trained_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = ["--reference", "retrain", "--reference-seeds"]
    forgot = place / "forgot"
    assert run("forget", *asked(place), "--method", "fine-tune", *reference, "3", "--out", forgot) == 0
    assert trainings(capsys.readouterr().out) == 3
    assert len(retrained_in(forgot)) == 3
    assert run("audit", *judged(place), *reference, "3", "--out", place / "audit") == 0
    shown = capsys.readouterr().out
    assert trainings(shown) == 0
    assert "3 of 3 retrained models were there already" in shown
    for key in ("accuracy", "mia"):
        assert result(place / "audit")["reference"][key] == result(forgot)["reference"][key]
    # An audit that does not ask for them says that they are there.
    assert run("audit", *judged(place), "--out", place / "plain") == 0
    assert f"{forgot} holds retrained models: --reference retrain compares" in capsys.readouterr().out
    # More of them: those that are there, and the rest.
    assert run("audit", *judged(place), *reference, "4", "--out", place / "more") == 0
    assert trainings(capsys.readouterr().out) == 1
    # Another method in the same folder.
    again = [*asked(place), "--method", "neggrad+", *reference, "3", "--force", "--out", forgot]
    assert run("forget", *again) == 0
    assert trainings(capsys.readouterr().out) == 0
    seconds = result(forgot)["reference"]["seconds"]
    assert seconds is None or seconds > 0


@pytest.mark.parametrize(
    "change",
    [["--epochs", "9"], ["--lr", "0.02"], ["--seed", "5"], ["--arch", "linear.py:make"]],
    ids=lambda change: change[0],
)
def test_models_that_were_made_otherwise_are_trained(
    change: list[str], place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    code = "from torch import nn\ndef make(shape, n):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, n))\n"
    (place / "linear.py").write_text(code)
    recipe = dict(zip(RECIPE[::2], RECIPE[1::2], strict=True))
    changed = recipe | dict([change])
    for options in (recipe, changed):
        capsys.readouterr()
        pairs = [one for pair in options.items() for one in pair]
        reference = ["--reference", "retrain", "--reference-seeds", "1", "--force", "--out", place / "forgot"]
        assert run("forget", *pairs, "--forget", place / "ids.txt", "--method", "nothing", *reference) == 0
    assert trainings(capsys.readouterr().out) == 1


def test_a_model_of_transformers_is_the_same_wherever_its_folder_lies(tmp_path: Path) -> None:
    data = sentences()
    bert, other = save_bert(tmp_path / "bert"), save_bert(tmp_path / "other", labels=4)
    moved = Path(shutil.copytree(bert, tmp_path / "run" / "unlearned"))

    def made(folder: Path) -> dict[str, Any]:
        recipe = um.Recipe(model=f"transformers/{folder}", epochs=1)
        return what_makes(recipe, data.train.drop(["3"]), 1)

    assert made(bert) == made(moved) != made(other)


def test_another_request_has_other_retrained_models(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*asked(place), "--method", "nothing", "--reference", "retrain", "--reference-seeds", "1"]
    assert run("forget", *options, "--out", place / "forgot") == 0
    ids = (place / "ids.txt").read_text().split()
    (place / "ids.txt").write_text("\n".join(ids[:-1]))
    capsys.readouterr()
    assert run("forget", *options, "--force", "--out", place / "forgot") == 0
    assert trainings(capsys.readouterr().out) == 1


def test_more_than_ten_are_kept(place: Path) -> None:
    quick = ["--arch", "mlp", "--epochs", "1"]
    options = ["--forget", place / "ids.txt", "--method", "nothing", "--reference", "retrain", "--max-drop", "1"]
    assert run("forget", *quick, *options, "--reference-seeds", "12", "--out", place / "forgot") == 0
    files = retrained_in(place / "forgot")
    assert [path.name for path in files[8:]] == [f"retrained-{k}.safetensors" for k in (9, 10, 11, 12)]
    # They go with their run, and nothing else does.
    (place / "forgot" / "retrained-mine.safetensors").write_text("")
    assert run("forget", *quick, *options[:4], "--max-drop", "1", "--force", "--out", place / "forgot") == 0
    assert retrained_in(place / "forgot") == []
    assert (place / "forgot" / "retrained-mine.safetensors").exists()


@pytest.mark.parametrize("count", ["-2", "0"])
@pytest.mark.parametrize("command", ["forget", "audit", "plan"])
def test_a_number_of_retrained_models_that_means_nothing_is_refused(
    command: str, count: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = ["--reference", "retrain", "--reference-seeds", count, "--out", place / "out"]
    common = ["--model", place / "train" / "original.safetensors", "--forget", place / "ids.txt"]
    plan = ["--plan"] if command == "plan" else []
    assert run("audit" if command == "audit" else "forget", *common, *reference, *plan) == 2
    assert f"--reference-seeds {count}: must be 1 or more" in capsys.readouterr().err
    assert not (place / "out").exists()
