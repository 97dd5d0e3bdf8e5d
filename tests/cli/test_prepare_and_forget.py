"""`unmem prepare`, and what `unmem forget` does with the out-of-sample forecast: matching, --tune and --plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import unmem as um
from tests.cli.commands import result, run
from unmem.cli.methods import METHODS

SIZE = ["--limit", "200"]
SMALL = ["--arch", "mlp", "--epochs", "10", *SIZE]
FORGOTTEN = 20


@pytest.fixture(scope="module")
def ids() -> um.data.Ids:
    return um.load("digits", limit=200).train.ids


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepare") / "run"
    assert run("prepare", *SMALL, "--folds", "3", "--out", folder) == 0
    return folder


@pytest.fixture
def request_file(tmp_path: Path, ids: um.data.Ids) -> Path:
    path = tmp_path / "forget.txt"
    path.write_text("\n".join(ids[:FORGOTTEN]))
    return path


@pytest.fixture
def known(prepared: Path, request_file: Path) -> list[str | Path]:
    """A saved model and a file of ids: what a user has."""
    return [*SIZE, "--model", prepared / "original.safetensors", "--forget", request_file, "--max-drop", "1"]


def test_prepare_leaves_a_prediction_of_every_training_example(prepared: Path, ids: um.data.Ids) -> None:
    made = um.CrossFit.load(prepared / "crossfit.npz")
    assert list(made.ids) == list(ids)
    assert made.settings["folds"] == 3
    entry = result(prepared)["crossfit"]
    assert entry["accuracy"] == pytest.approx(float(np.mean(made.margin > 0)))
    assert 0.1 < entry["accuracy"] < 1
    assert um.load_scores(prepared / "scores.parquet", "crossfit").values == pytest.approx(-made.margin)
    assert um.load_scores(prepared / "scores.parquet", "crossfit-fit").values.max() <= 1


def test_a_request_uses_the_predictions_once_and_then_they_are_gone(
    prepared: Path, known: list[str | Path], tmp_path: Path, ids: um.data.Ids, capsys: pytest.CaptureFixture[str]
) -> None:
    crossfit = tmp_path / "crossfit.npz"
    crossfit.write_bytes((prepared / "crossfit.npz").read_bytes())
    arguments = [*known, "--method", "matching", "--crossfit", crossfit, "--set", "epochs=2", "form=kl"]
    assert run("forget", *arguments, "--out", tmp_path / "forgot") == 0
    found = result(tmp_path / "forgot")
    assert found["targets"]["source"] == "crossfit"
    assert (found["unlearner"]["form"], found["unlearner"]["epochs"]) == ("kl", 2)
    assert not (tmp_path / "forgot" / "crossfit.npz").exists()
    assert list(um.CrossFit.load(crossfit).ids) == list(ids[FORGOTTEN:])
    kept = tmp_path / "forgot" / "private" / "crossfit.npz"
    assert f"moved from {crossfit} to {kept}" in capsys.readouterr().out
    assert set(um.CrossFit.load(kept).ids) == set(ids[:FORGOTTEN])
    assert kept.parent.stat().st_mode & 0o077 == 0
    # The same request again, once the kept rows were deleted: nothing is known of these examples any more.
    kept.unlink()
    assert run("forget", *arguments, "--out", tmp_path / "again") == 2
    assert "has no prediction for 20 of the ids" in capsys.readouterr().err


def test_with_nothing_prepared_a_short_teacher_makes_the_targets(known: list[str | Path], tmp_path: Path) -> None:
    assert run("forget", *known, "--method", "matching", "--out", tmp_path / "forgot") == 0
    found = result(tmp_path / "forgot")["targets"]
    assert (found["source"], found["settings"]["source"]) == ("teacher", "teacher")
    assert found["cost"] > 0


def test_when_accuracy_falls_another_try_finds_the_predictions_where_they_were_moved_to(
    prepared: Path, known: list[str | Path], tmp_path: Path
) -> None:
    crossfit = tmp_path / "crossfit.npz"
    crossfit.write_bytes((prepared / "crossfit.npz").read_bytes())
    ruin = ["--method", "matching", "--crossfit", crossfit, "--set", "lr=0.4", "weight=30", "--max-drop", "0"]
    assert run("forget", *known[:-2], *ruin, "--out", tmp_path / "forgot") == 4
    guard = result(tmp_path / "forgot")["guard"]
    page = (tmp_path / "forgot" / "report.html").read_text()
    assert f"fell from {guard['holdout_before']:.1%} to {guard['holdout_after']:.1%}, more than --max-drop 0" in page
    assert "the exit code is 4" in page
    assert len(um.CrossFit.load(crossfit)) == 180
    again = ["--method", "matching", "--crossfit", crossfit, "--max-drop", "1"]
    assert run("forget", *known[:-2], *again, "--out", tmp_path / "again") == 0
    assert result(tmp_path / "again")["targets"]["source"] == "crossfit"


def test_a_cross_fit_of_other_examples_is_refused(
    prepared: Path, known: list[str | Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--method", "matching", "--crossfit", prepared / "crossfit.npz", "--limit", "199"]
    assert run("forget", *known[2:], *options, "--out", tmp_path / "forgot") == 2
    assert "other examples than these" in capsys.readouterr().err


def test_tuning_stays_within_its_budget_and_reports_every_trial(
    prepared: Path, known: list[str | Path], tmp_path: Path
) -> None:
    crossfit = tmp_path / "crossfit.npz"
    crossfit.write_bytes((prepared / "crossfit.npz").read_bytes())
    arguments = ["--method", "neggrad+", "--tune", "--budget", "1.5", "--crossfit", crossfit]
    assert run("forget", *known, *arguments, "--out", tmp_path / "forgot") == 0
    tuning = result(tmp_path / "forgot")["tuning"]
    assert tuning["budget"] == 1.5
    assert len(tuning["trials"]) > 1
    assert sum(trial["cost"] for trial in tuning["trials"]) <= 1.5
    capped = ["--budget", "0.01", "--out", tmp_path / "refused"]
    assert run("forget", *known, "--method", "neggrad+", "--tune", *capped) == 2


def test_a_plan_shows_steps_parts_and_time_and_leaves_nothing(
    known: list[str | Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "planned"
    steps = ["--steps", "nothing,fine-tune,neggrad+", "--score", "holdout", "--reference", "retrain"]
    assert run("forget", *known, "--method", "rum", *steps, "--plan", "--out", out) == 0
    shown = capsys.readouterr().out
    for words in ("score by holdout", "nothing: least memorized part", "neggrad+: most memorized part", "6 of 200"):
        assert words in shown
    assert "retrain for comparison, 2 times" in shown
    assert "Nothing was run and nothing was written." in shown
    assert not out.exists()


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"matching"}))
def test_every_algorithm_runs_by_name_and_gives_a_model(method: str, known: list[str | Path], tmp_path: Path) -> None:
    out = tmp_path / "forgot"
    fields = {"influence": "samples=50", "ssd": "b=2"}.get(method, "epochs=1")
    chosen = [] if method in ("nothing", "retrain") else ["--set", fields]
    assert run("forget", *known, "--method", method, *chosen, "--out", out) in (0, 4)
    found = result(out)
    assert found["unlearner"]["name"] == method
    assert list(found["methods"]) == [method]
    assert load_file(out / "unlearned.safetensors").keys() == load_file(out / "original.safetensors").keys()


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits where the first three training examples are there twice, once a little darker."""
    data = um.load("digits", limit=200)
    x, y = data.train.inputs.numpy(), data.train.labels.numpy()
    darker = (x[:3].astype(float) * 0.9).round().astype(x.dtype)
    path = tmp_path_factory.mktemp("copies") / "doubled.npz"
    np.savez(
        path,
        x_train=np.concatenate([x, x[:3], darker]),
        y_train=np.concatenate([y, y[:3], y[:3]]),
        ids_train=np.array(
            [f"n{i}" for i in range(len(x))] + [f"copy{i}" for i in range(3)] + [f"dark{i}" for i in range(3)]
        ),
        x_test=data.test.inputs.numpy(),
        y_test=data.test.labels.numpy(),
    )
    return path


@pytest.mark.parametrize(("choice", "code", "n"), [("accept", 0, 12), ("include", 0, 18), ("stop", 2, 0)])
def test_copies_among_the_retained_are_listed_and_the_user_decides(
    choice: str, code: int, n: int, doubled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(f"n{i}" for i in range(12)))
    options = ["--data", doubled, "--arch", "mlp", "--epochs", "8", "--forget", ids, "--method", "fine-tune"]
    assert run("forget", *options, "--copies", choice, "--max-drop", "1", "--out", tmp_path / "out") == code
    said = capsys.readouterr()
    assert "6 retained examples are copies of forget examples (3 exact pairs, 3 near): copy0" in said.out + said.err
    if code == 0:
        assert result(tmp_path / "out")["forget"]["n"] == n
