"""The presets end to end at a small scale: tables, claims, a score and a method of one's own, stop and continue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.commands import result, run
from unmem.bench.presets import Preset
from unmem.bench.work import Work

OWN = """
import numpy as np
import unmem as um


def difficulty(model, data, *, recipe, seed):
    return -um.predict(model, data.train).softmax(1).gather(1, data.train.labels[:, None])[:, 0].numpy()


class Mine(um.FineTune):
    name = "mine"
"""
DATA = {"source": "digits", "limit": 200}
SETUP = {"data": DATA, "recipe": {"model": "mlp", "epochs": 6}}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN, encoding="utf-8")
    return path


def plan_file(folder: Path, preset: str, plan: Mapping[str, Any]) -> str:
    path = folder / f"{preset}.yaml"
    path.write_text(yaml.safe_dump({"preset": preset, "sizes": {"tiny": dict(plan)}}), encoding="utf-8")
    return str(path)


def test_proxies_with_a_score_of_ones_own(tmp_path: Path, own: Path) -> None:
    scores = ["confidence", f"{own}:difficulty"]
    plan = {"setups": {"digits": SETUP}, "scores": scores, "seeds": [0, 1], "members": 8}
    path = plan_file(tmp_path, "proxies", plan)
    assert run("bench", path, "--size", "tiny", "--out", str(tmp_path / "run")) == 0
    found = result(tmp_path / "run")
    table = found["tables"]["digits-fidelity"]
    assert set(table) == {"reliability of the reference", *scores}
    assert -1 <= table[f"{own}:difficulty"]["spearman"] <= 1
    assert {claim["verdict"] for claim in found["claims"]} <= {"holds", "does not hold", "not seen at this size"}
    names = {path.name for path in (tmp_path / "run" / "tables").iterdir()}
    assert {"claims.md", "digits-fidelity.csv", "digits-correlations.tex"} <= names
    again = yaml.safe_load((tmp_path / "run" / "plan.yaml").read_text())
    assert again["sizes"]["tiny"]["members"] == 8
    assert Preset.read(str(tmp_path / "run" / "plan.yaml"), "tiny").plan.scores == tuple(scores)


def unlearning_plan(own: Path) -> dict[str, Any]:
    return {
        "setups": {"digits": {**SETUP, "forget": {"mixed": {"by": "memorization", "size": 8}}}},
        "seeds": [0, 1],
        "members": 40,
        "vanilla": ["fine-tune", f"{own}:Mine"],
        "refined": [{"method": "rum", "steps": ["neggrad+"]}],
        "refine_by": ["confidence"],
        "targets": ["trace"],
        "protocols": ["default", "oracle"],
        "trials": 2,
    }


def test_unlearning_keeps_protocols_apart_and_continues(tmp_path: Path, own: Path) -> None:
    path = plan_file(tmp_path, "unlearning", unlearning_plan(own))
    preset = Preset.read(path, "tiny")
    first = preset.run(Work(tmp_path / "work"))
    assert set(first.tables) == {"digits-mixed-default", "digits-mixed-oracle"}
    default, oracle = (first.tables[f"digits-mixed-{one}"] for one in ("default", "oracle"))
    rows = default.to_dict()
    assert rows["fine-tune"]["tow"] == rows[f"{own}:Mine"]["tow"]  # the same method under another name
    for name, row in oracle.to_dict().items():  # the default is among the settings that the oracle tries
        assert row["tow"] >= rows[name]["tow"] - 1e-12  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]
    assert any("upper bound" in note for note in oracle.notes)
    assert not any("upper bound" in note for note in default.notes)

    file = tmp_path / "work" / "digits" / "mixed-0.json"
    kept = json.loads(file.read_text())
    kept["values"]["default: fine-tune"]["tow"] = 0.123  # to see that what is there is read
    del kept["values"]["default: RUM^F neggrad+ by shuffle"]
    file.write_text(json.dumps(kept))
    second = preset.run(Work(tmp_path / "work"))
    changed = second.tables["digits-mixed-default"].to_dict()
    assert changed["fine-tune"]["tow"] != rows["fine-tune"]["tow"]
    assert changed["RUM^F neggrad+ by shuffle"]["tow"] == rows["RUM^F neggrad+ by shuffle"]["tow"]


def test_continual_follows_scores_over_the_requests(tmp_path: Path) -> None:
    plan = {
        "setups": {"digits": SETUP},
        "seeds": [0, 1],
        "members": 8,
        "requests": 2,
        "size": 6,
        "methods": ["neggrad+", {"method": "rum", "steps": ["nothing", "fine-tune", "neggrad+"]}],
        "rescore": "curvature",
        "again": ["curvature"],
    }
    found = Preset.read(plan_file(tmp_path, "continual", plan), "tiny").run(Work(tmp_path / "work"))
    quality, fidelity = found.tables["digits-quality"].to_dict(), found.tables["digits-fidelity"].to_dict()
    assert set(quality) == {"retrain against retrain", "neggrad+", "RUM (nothing, fine-tune, neggrad+)"}
    assert all(0 <= row["request_2"] <= 1 for row in quality.values())  # pyright: ignore
    assert {"confidence, carried over: neggrad+", "curvature, computed again: neggrad+"} <= set(fidelity)


def test_uses_are_compared_with_before_and_retrained(tmp_path: Path) -> None:
    plan = {"setups": {"digits": SETUP}, "seeds": [0, 1], "uses": ["privacy", "mislabelled"], "methods": ["neggrad+"]}
    found = Preset.read(plan_file(tmp_path, "uses", plan), "tiny").run(Work(tmp_path / "work"))
    assert set(found.tables["digits-privacy"].to_dict()) == {"before", "neggrad+", "retrained"}
    assert len(found.claims) == 2


def test_the_plan_is_printed_and_nothing_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", "uses", "--size", "tiny", "--plan", "--out", str(tmp_path / "run")) == 0
    assert yaml.safe_load(capsys.readouterr().out)["preset"] == "uses"
    assert not (tmp_path / "run").exists()
