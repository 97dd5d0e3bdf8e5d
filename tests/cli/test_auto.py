"""`unmem forget` with no method named: on finished models of every form, for requests of every size, and its costs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import unmem as um
from tests.cli.commands import result
from tests.cli.test_commands import run
from tests.models.bert import save_bert, sentences
from unmem import models
from unmem.cli.forget_result import _groups  # pyright: ignore[reportPrivateUsage]

RECIPE = um.Recipe(model="mlp", epochs=20)
DATA = "from tests.models.bert import sentences\n\ndef make():\n    return sentences(480)\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits.npz, a finished model of it as model.pt, 24 ids, and one id: what a user has."""
    folder = tmp_path_factory.mktemp("home")
    data = um.load("digits", limit=600)
    unseen = data.test
    np.savez(
        folder / "digits.npz",
        x_train=data.train.inputs.numpy() * 15,
        y_train=data.train.labels.numpy(),
        ids_train=data.train.ids,
        x_test=unseen.inputs.numpy() * 15,
        y_test=unseen.labels.numpy(),
    )
    read = um.load(str(folder / "digits.npz"))
    torch.save(um.train(RECIPE, read.train).state_dict(), folder / "model.pt")
    (folder / "ids.txt").write_text("\n".join(data.train.ids[:24]))
    (folder / "one.txt").write_text(data.train.ids[3])
    (folder / "most.txt").write_text("\n".join(data.train.ids[:400]))
    return folder


def forget(home: Path, out: Path, *more: str | Path, ids: str = "ids.txt") -> int:
    return run(
        *("forget", "--model", home / "model.pt", "--data", home / "digits.npz", "--forget", home / ids),
        *("--out", out, *more),
    )


def test_a_file_of_torch_save_is_unlearned_with_no_other_option(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert forget(home, tmp_path / "out") == 0
    said = capsys.readouterr().out
    [line] = [line for line in said.splitlines() if line.startswith("  auto")]
    assert "matching, targets by a short teacher: it needs nothing prepared; total cost: about 0." in line
    assert "matching (auto)" in said
    found = result(tmp_path / "out")
    assert list(found["methods"]) == ["auto"]
    assert found["methods"]["auto"]["took"] == found["unlearner"]["name"] == "matching"
    assert found["targets"]["source"] == "teacher"
    assert found["auto"]["reason"] == "it needs nothing prepared"
    before, after = (load_file(tmp_path / "out" / f"{name}.safetensors") for name in ("original", "unlearned"))
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert "matching, targets by a short teacher" in (tmp_path / "out" / "report.html").read_text()


def test_the_cost_all_told_counts_the_targets_where_no_training_was_timed(home: Path, tmp_path: Path) -> None:
    assert forget(home, tmp_path / "out") == 0
    found = result(tmp_path / "out")
    outcome = found["methods"]["auto"]
    assert outcome["cost_all_told"] == pytest.approx(outcome["cost"] + found["targets"]["cost"])
    assert outcome["cost_all_told"] == pytest.approx(found["auto"]["cost_all_told"])
    assert 0 < outcome["cost"] < 0.2 < outcome["cost_all_told"] < 0.5
    nothing = found["controls"]["do_nothing"]
    assert (nothing["cost"], nothing["cost_all_told"]) == (0, 0)


def test_one_id_is_enough(home: Path, tmp_path: Path) -> None:
    assert forget(home, tmp_path / "out", ids="one.txt") == 0
    found = result(tmp_path / "out")
    assert found["forget"]["n"] == 1
    assert forget(home, tmp_path / "planned", "--plan", ids="one.txt") == 0
    assert found["methods"]["auto"]["took"] == "matching"


@pytest.mark.parametrize(("steps", "plan"), [(None, []), ("fine-tune,salun", []), (None, ["--plan"])])
def test_rum_with_more_steps_than_examples_is_refused_before_any_work(
    home: Path, steps: str | None, plan: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = plan if steps is None else ["--steps", steps]
    assert forget(home, tmp_path / "out", "--method", "rum", *more, ids="one.txt") == 2
    shown = capsys.readouterr()
    count = 3 if steps is None else 2
    assert f"its {count} steps need {count} RUM parts, and the request has 1 example; leave --method out" in shown.err
    assert "Score by" not in shown.out


def test_memorization_groups_are_those_of_the_score_of_rum_in_whatever_order_the_scores_are() -> None:
    ids = np.array([f"{k}" for k in range(9)])
    scores = {"rums": um.Scores("rums", ids, np.arange(9.0)), "top": um.Scores("top", ids, -np.arange(9.0))}
    problem = SimpleNamespace(forget=SimpleNamespace(ids=ids))
    for divided_by, low in (("rums", {"0", "1", "2"}), (None, {"6", "7", "8"})):
        asked = SimpleNamespace(divided_by=divided_by, wanted=SimpleNamespace(score="top"))
        run: Any = SimpleNamespace(asked=asked, scores=scores, problem=problem)
        assert set(_groups(run)["low"]) == low


@pytest.mark.parametrize("method", ["scrub", "neggrad", "neggrad+", "salun", "random-label", "bad-teacher", "ssd"])
def test_one_id_of_a_network_with_batch_norm(method: str, tmp_path: Path) -> None:
    """A batch of one has no variance."""
    data = um.load("digits", limit=200)
    model = um.train(um.Recipe(model="small_cnn", epochs=6, batch_size=20), data.train)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    (tmp_path / "one.txt").write_text(data.train.ids[7])
    asked = ["--limit", "200", "--split", "70/15/15", "--epochs", "6", "--batch-size", "20", "--arch", "small_cnn"]
    asked += ["--model", tmp_path / "model.pt", "--forget", tmp_path / "one.txt", "--max-drop", "1"]
    assert run("forget", *asked, "--method", method, "--out", tmp_path / "out") == 0
    assert result(tmp_path / "out")["forget"]["n"] == 1


def test_a_request_of_most_examples_retrains(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert forget(home, tmp_path / "out", "--max-drop", "1", ids="most.txt") == 0
    assert "auto  retrain: it costs 0.33 trainings and is exact" in capsys.readouterr().out
    found = result(tmp_path / "out")
    assert found["methods"]["auto"]["took"] == found["unlearner"]["name"] == "retrain"
    assert found["methods"]["auto"]["cost_all_told"] == pytest.approx(1 / 3)
    assert "targets" not in found


def test_the_options_of_init_and_nothing_else(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("init", "--model", home / "model.pt", "--data", home / "digits.npz") == 0
    assert run("forget", "--forget", home / "ids.txt", "--out", "out") == 0
    assert result(tmp_path / "out")["methods"]["auto"]["took"] == "matching"


def test_a_folder_of_save_pretrained_is_unlearned_with_no_other_option(tmp_path: Path) -> None:
    data, folder = sentences(480), save_bert(tmp_path / "bert")
    model, _ = models.load(folder, arch=None, input_shape=data.train.input_shape, n_classes=3)
    um.fit(model, data.train, um.Recipe(epochs=2, lr=0.1, batch_size=8), seed=0)
    models.save_like(folder, model, tmp_path / "trained", {})
    (tmp_path / "data.py").write_text(DATA)
    (tmp_path / "ids.txt").write_text("\n".join(data.train.ids[:6]))
    asked = ["--data", f"{tmp_path}/data.py:make", "--forget", tmp_path / "ids.txt", "--out", tmp_path / "out"]
    assert run("forget", "--model", tmp_path / "trained", *asked) == 0
    assert result(tmp_path / "out")["methods"]["auto"]["took"] == "matching"
    assert (tmp_path / "out" / "unlearned" / "model.safetensors").is_file()


def test_a_holdout_of_ten_is_too_small_to_calibrate_and_the_run_goes_on(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = dict(np.load(home / "digits.npz"))
    arrays |= {key: arrays[key][:20] for key in ("x_test", "y_test")}
    np.savez(tmp_path / "few.npz", **arrays)
    asked = ["--data", tmp_path / "few.npz", "--forget", home / "ids.txt", "--max-drop", "1", "--out", tmp_path / "out"]
    assert run("forget", "--model", home / "model.pt", *asked) == 0
    assert "the holdout has 10 examples, too few to calibrate the teacher" in capsys.readouterr().out
    assert result(tmp_path / "out")["targets"]["source"] == "teacher"


@pytest.fixture(scope="module")
def trained(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    asked = ["--data", home / "digits.npz", "--arch", "mlp", "--epochs", "30"]
    assert run("train", *asked, "--out", out) == 0
    return out


def test_a_trace_beside_the_model_is_taken_and_a_named_source_before_it(
    home: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("original.safetensors", "trace.npz"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    known = ["--model", tmp_path / "original.safetensors", "--data", home / "digits.npz", "--epochs", "30"]
    asked = [*known, "--forget", home / "ids.txt"]
    assert run("forget", *asked, "--targets", "teacher", "--set", "epochs=1", "--out", tmp_path / "named") == 0
    named = result(tmp_path / "named")
    assert (named["targets"]["source"], named["unlearner"]["epochs"]) == ("teacher", 1)
    assert named["auto"]["reason"] == "--targets names them"
    (tmp_path / "trace.npz").write_bytes((trained / "trace.npz").read_bytes())
    capsys.readouterr()
    assert run("forget", *asked, "--out", tmp_path / "out") == 0
    assert "targets by the trace: the training of the original recorded a trace" in capsys.readouterr().out
    found = result(tmp_path / "out")
    assert found["methods"]["auto"]["cost_all_told"] == found["methods"]["auto"]["cost"]
    assert len(um.Trace.load(tmp_path / "trace.npz")) == 600 - 24


def test_a_cross_fit_made_before_counts_all_told(home: Path, tmp_path: Path) -> None:
    known = ["--model", home / "model.pt", "--data", home / "digits.npz", "--epochs", "4"]
    assert run("prepare", *known, "--folds", "3", "--out", tmp_path / "ready") == 0
    crossfit = ["--crossfit", tmp_path / "ready" / "crossfit.npz"]
    assert forget(home, tmp_path / "out", *crossfit, "--max-drop", "1") == 0
    outcome = result(tmp_path / "out")["methods"]["auto"]
    assert outcome["cost_all_told"] == pytest.approx(outcome["cost"] + 2)


def test_members_serve_as_targets_if_enough_left_each_example_out(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = ["--data", home / "digits.npz", "--arch", "mlp", "--epochs", "4"]
    made = ["--method", "ensemble", "--members", "10", "--work", tmp_path / "members"]
    assert run("score", *known, *made, "--out", tmp_path / "scores") == 0
    capsys.readouterr()
    assert forget(home, tmp_path / "out", "--members", tmp_path / "members", "--plan") == 0
    said = capsys.readouterr().out
    assert "matching, targets by the members: at least 5 of the members left each example out" in said
    assert forget(home, tmp_path / "out", "--members", tmp_path / "members", "--max-drop", "1") == 0
    found = result(tmp_path / "out")
    assert found["targets"]["source"] == "ensemble"
    assert found["methods"]["auto"]["cost_all_told"] == pytest.approx(found["methods"]["auto"]["cost"] + 5)
    assert "were moved from 10 members in" in capsys.readouterr().out


def test_steps_or_a_score_ask_for_rum_and_its_scores_count_all_told(home: Path, tmp_path: Path) -> None:
    steps = ["--steps", "nothing,fine-tune", "--set", "fine-tune.epochs=1", "--reference", "retrain"]
    assert forget(home, tmp_path / "out", *steps, "--max-drop", "1") == 0
    found = result(tmp_path / "out")
    assert found["unlearner"]["name"] == "rum"
    assert list(found["scores"]) == ["holdout"]  # no learning event of a finished model
    outcome = found["methods"]["auto"]
    assert outcome["took"] == "rum"
    training = np.median([found["reference"]["seconds"]])
    assert outcome["cost_all_told"] > outcome["cost"] + 0.5 * found["scores"]["holdout"]["seconds"] / training


def test_a_plan_lists_the_alternatives_with_their_costs(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert forget(home, tmp_path / "out", "--plan") == 0
    said = capsys.readouterr().out
    assert "auto  matching, targets by a short teacher: it needs nothing prepared" in said
    assert "targets by teacher" in said
    assert "forget by matching" in said
    table = said[said.index("alternatives") :]
    assert [line.split("  ")[0] for line in table.splitlines()[1:4]] == [
        "matching, targets by a short teacher",
        "retrain",
        "rum",
    ]
    assert "0.96" in table  # retraining on 576 of 600
    assert not (tmp_path / "out").exists()


def test_fields_are_those_of_matching_and_others_are_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for field in ("epoch=1", "rum.order=high-to-low"):
        assert forget(home, tmp_path / "out", "--set", field) == 2
    said = capsys.readouterr().err
    assert "did you mean 'epochs'?" in said
    assert "that method does not run here" in said
