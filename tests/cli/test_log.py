"""`--log`: files of TensorBoard in the run folder, and refusals before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_commands import result, run
from tests.test_tracking import scalars

QUICK = ["--arch", "mlp", "--epochs", "4", "--limit", "150"]


def test_each_run_has_a_folder_of_events_with_its_trainings_and_results(tmp_path: Path) -> None:
    arguments = ["forget", *QUICK, "--top", "confidence:20", "--method", "fine-tune", "--reference", "retrain"]
    arguments += ["--max-drop", "1", "--log", "tensorboard", "--out", tmp_path / "run"]
    assert run(*arguments) == 0
    found = scalars(tmp_path / "run" / "logs" / "forget")
    values = result(tmp_path / "run")
    assert [step for step, _ in found["original/loss"]] == [1, 2, 3, 4]
    assert found["forget/loss"][0][0] == 5
    assert {"retrained-1/loss", "retrained-2/lr", "retrained-2/seconds"} <= set(found)
    for name, value in (
        ("methods/fine-tune/tow", values["methods"]["fine-tune"]["tow"]),
        ("controls/do_nothing/tow", values["controls"]["do_nothing"]["tow"]),
        ("original/accuracy/test", values["original"]["accuracy"]["test"]),
    ):
        assert found[name][0][1] == pytest.approx(value, rel=1e-6), name
    assert run(*arguments, "--force") == 0
    assert sorted(path.name for path in (tmp_path / "run" / "logs").iterdir()) == ["forget", "forget-2"]


def test_without_log_there_are_no_logs_and_a_logger_that_is_missing_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", *QUICK, "--out", tmp_path / "plain") == 0
    assert not (tmp_path / "plain" / "logs").exists()
    monkeypatch.setattr("unmem.extras.find_spec", lambda name: None if name == "tensorboard" else name)
    monkeypatch.setattr("unmem.cli.session.load", lambda *_, **__: pytest.fail("data were read"))
    assert run("train", *QUICK, "--log", "tensorboard", "--out", tmp_path / "run") == 2
    assert "--log 'tensorboard': the package tensorboard is not installed; pip install 'unmem[log]'" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()
