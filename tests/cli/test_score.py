"""`unmem score` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import unmem as um
from tests.helpers import point_splits
from unmem.cli.app import main
from unmem.cli.options import RecipeOptions
from unmem.cli.session import Session
from unmem.cli.work import Work
from unmem.memorization import FROM_MODEL
from unmem.training import Step

QUICK = ["--arch", "mlp", "--limit", "200", "--epochs", "10", "--flip", "0.1"]


def score(out: Path, *arguments: str | Path) -> dict[str, Any]:
    with pytest.raises(SystemExit) as stopped:
        main(["score", *map(str, arguments), "--out", str(out)])
    assert stopped.value.code == 0
    return json.loads((out / "result.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("score") / "run"
    every = "confidence,late-gain,curvature,holdout,crossfit,confidence+crossfit,ensemble"
    score(folder, *QUICK, "--method", every, "--members", "4", "--against", "ensemble", "--threshold", "0.05")
    return folder


def test_every_score_has_its_seconds_cost_settings_and_agreement(trained: Path) -> None:
    scores = json.loads((trained / "result.json").read_text())["scores"]
    assert list(scores) == [
        *("confidence", "late-gain", "curvature", "holdout", "crossfit", "confidence+crossfit", "ensemble")
    ]
    for name, entry in scores.items():
        assert entry["seconds"] >= 0
        assert entry["cost"] >= 0
        assert entry["settings"]
        assert ("agreement" in entry) == (name != "ensemble")
    found = scores["confidence"]["agreement"]
    assert found["against"] == "ensemble"
    for key in ("spearman", "auroc", "average_precision", "overlap"):
        assert found[key]["low"] <= found[key]["value"] <= found[key]["high"]
    assert scores["confidence+crossfit"]["seconds"] > scores["crossfit"]["seconds"]


def test_the_table_holds_every_score_with_settings_and_errors(trained: Path) -> None:
    table = pq.read_table(trained / "scores.parquet")
    assert {"confidence+crossfit", "ensemble", "ensemble-error"} <= set(table.column_names)
    assert um.load_scores(trained / "scores.parquet", "ensemble").settings["members"] == 4


def test_the_page_shows_pairs_and_pictures(trained: Path) -> None:
    page = (trained / "report.html").read_text()
    assert "holdout against ensemble" in page
    assert "Most memorized" in page
    assert page.count("data:image/png;base64,") == 48


def test_a_model_file_and_data_are_enough(trained: Path, tmp_path: Path) -> None:
    same = ["--limit", "200", "--flip", "0.1"]
    scores = score(tmp_path / "later", *same, "--model", trained / "original.safetensors")["scores"]
    assert list(scores) == ["holdout", "curvature"]
    assert scores["holdout"]["cost"] is None
    assert "not trained here" in scores["holdout"]["reason"]
    first, second = (
        um.load_scores(path / "scores.parquet", "holdout").values for path in (trained, tmp_path / "later")
    )
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_seen_any_more_names_what_can(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(
            ["score", "--model", str(trained / "original.safetensors"), "--method", "aum", "--out", str(tmp_path / "x")]
        )
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert all(name in message for name in FROM_MODEL)


def test_checkpoints_give_learning_events_after_the_fact(trained: Path, tmp_path: Path) -> None:
    file = trained / "original.safetensors"
    same = ["--limit", "200", "--flip", "0.1", "--model", file, "--checkpoints", file, file]
    found = score(tmp_path / "later", *same, "--method", "confidence")["scores"]["confidence"]
    assert found["settings"]["pass"] == "checkpoints"
    assert found["settings"]["epochs_watched"] == 2


def test_a_second_run_reads_the_members_of_the_first(tmp_path: Path) -> None:
    arguments = [*QUICK, "--method", "feldman", "--members", "4", "--work", tmp_path / "work"]
    score(tmp_path / "first", *arguments)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").iterdir()}
    assert len(times) == 4
    score(tmp_path / "second", *arguments)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work").iterdir()} == times
    tables = [pq.read_table(tmp_path / name / "scores.parquet") for name in ("first", "second")]
    assert tables[0].equals(tables[1])


class Slow(um.LearningEvents):
    """Says that it watched each step for a hundred seconds."""

    def on_step(self, step: Step) -> None:
        super().on_step(step)
        self.seconds += 100


def test_what_watching_took_is_not_part_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmem.memorization.by_name.LearningEvents", Slow)
    session = Session("score", {}, point_splits(40))
    work = Work.start(session, RecipeOptions(arch="mlp", epochs=2, batch_size=20))
    assert work.original.seconds is not None
    assert work.scorer.watched_seconds >= 400
    assert 0 < work.original.seconds + work.scorer.watched_seconds < 60
