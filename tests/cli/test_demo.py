"""The demo: what a newcomer sees first, and what the README says of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unmem as um
from tests.helpers import same_state, state_of
from unmem import models
from unmem.cli.app import main

README = Path(__file__).parents[2] / "README.md"
CLI_PAGE = README.parent / "docs" / "cli.md"


def demo(folder: Path) -> dict[str, Any]:
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--seed", "0", "--out", str(folder)])
    assert stopped.value.code == 0
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "run"


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    return demo(folder)


def test_the_page_on_the_command_line_names_every_section_of_the_result(result: dict[str, Any]) -> None:
    named = CLI_PAGE.read_text().split("## `result.json`")[1]
    assert [key for key in (*result, *result["methods"]["auto"]) if f"`{key}`" not in named] == []


TIMED = ("seconds", "cost", "cost_all_told", "reason")


def without_times(value: Any) -> Any:
    """The result without what a clock measured: seconds, cost, which is a ratio of seconds, and why there is none."""
    if isinstance(value, dict):
        return {key: without_times(entry) for key, entry in value.items() if key not in TIMED}
    return value


def test_a_memorization_based_method_beats_doing_nothing_by_more_than_the_spread(result: dict[str, Any]) -> None:
    control = result["controls"]
    best = max(result["methods"][name]["tow"] for name in ("rum", "rum-f"))
    assert best - control["do_nothing"]["tow"] > 1 - control["retrain_vs_retrain"]["tow"]


def test_the_scores_find_the_flipped_labels(result: dict[str, Any]) -> None:
    assert min(entry["auroc_flipped"] for entry in result["scores"].values()) > 0.9


def test_the_run_folder_is_whole(folder: Path, result: dict[str, Any]) -> None:
    files = "config.yaml flipped.txt original.safetensors report.html result.json scores.parquet unlearned.safetensors"
    assert sorted(path.name for path in folder.iterdir()) == files.split()
    assert len((folder / "flipped.txt").read_text().split()) == result["data"]["flipped"] == 63


def test_matching_by_auto_is_a_row_and_costs_less_than_rum(result: dict[str, Any]) -> None:
    control, outcome = result["controls"], result["methods"]["auto"]
    assert outcome["tow"] - control["do_nothing"]["tow"] > 1 - control["retrain_vs_retrain"]["tow"]
    assert outcome["cost"] <= outcome["cost_all_told"] < result["methods"]["rum"]["cost_all_told"]


def test_the_unlearned_model_is_that_of_the_best_method(folder: Path, result: dict[str, Any]) -> None:
    best = max(result["methods"], key=lambda name: result["methods"][name]["tow"])
    assert result["unlearned"] == best
    data = um.load("digits", flip=0.05)
    model, card = models.load(folder / "unlearned.safetensors", arch=None, input_shape=(1, 8, 8), n_classes=10)
    assert card.data == data.train.fingerprint
    hits = um.predict(model, data.test).argmax(1) == data.test.labels
    assert float(hits.float().mean()) == pytest.approx(result["methods"][best]["accuracy"]["test"], abs=1e-6)


def test_the_same_seed_gives_the_same_numbers_twice_and_the_readme_program_those_of_the_demo(
    folder: Path,
    result: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.S)[0]
    assert len([line for line in program.splitlines() if line.strip()]) <= 25
    monkeypatch.chdir(tmp_path)
    made: dict[str, Any] = {}
    exec(compile(program, "README", "exec"), made)
    printed = capsys.readouterr().out
    keys = {"fine-tune": "fine-tune", "NegGrad+": "neggrad+", "RUM^F": "rum-f", "RUM": "rum", "matching (auto)": "auto"}
    for name, key in keys.items():
        assert f"{name:<15} ToW {result['methods'][key]['tow']:.3f}" in printed
    assert f"do nothing      ToW {result['controls']['do_nothing']['tow']:.3f}" in printed
    assert (tmp_path / "report.html").is_file()
    # To the last bit: model, scores, and all that was measured.
    kept, _ = models.load(folder / "original.safetensors", arch=None, input_shape=(1, 8, 8), n_classes=10)
    assert same_state(state_of(kept), state_of(made["model"]))
    assert np.array_equal(um.load_scores(folder / "scores.parquet", "confidence").values, made["scores"].values)
    again = without_times(made["evaluation"].to_dict())
    again["methods"] = {keys[name]: entry for name, entry in again["methods"].items()}
    assert again == {key: without_times(result[key]) for key in again}
