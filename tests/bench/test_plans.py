"""Plans: every preset has every size, and what is wrong with a plan of one's own is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from unmem.bench.bed import MEMORIZATION, SHUFFLE
from unmem.bench.plan import SIZES
from unmem.bench.presets import PLANS, Preset
from unmem.bench.unlearning import cases
from unmem.errors import UserError

TINY = {
    "preset": "proxies",
    "scores": ["confidence"],
    "sizes": {
        "tiny": {
            "setups": {"digits": {"data": {"source": "digits", "limit": 120}, "recipe": {"model": "mlp", "epochs": 4}}},
            "seeds": [0, 1],
            "members": 6,
        }
    },
}


def plan_file(folder: Path, **changes: object) -> str:
    values = {**TINY, **{key: value for key, value in changes.items() if key != "tiny"}}
    if "tiny" in changes:
        values["sizes"] = {"tiny": {**TINY["sizes"]["tiny"], **changes["tiny"]}}  # pyright: ignore
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PLANS)
def test_every_preset_has_every_size(name: str, size: str) -> None:
    preset = Preset.read(name, size)
    assert preset.name == name
    assert preset.plan.setups
    assert len(preset.plan.seeds) >= (2 if size == "tiny" else 3)


def test_every_refinement_has_its_controls() -> None:
    plan = Preset.read("unlearning", "small").plan
    keys = [case.key for case in cases(plan)]
    assert len(keys) == len(set(keys))
    for method in plan.refined:
        for score in (MEMORIZATION, *plan.refine_by, SHUFFLE):
            assert f"{method.title} by {score}" in keys


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"score": ["confidence"]}, "no entry 'score'; did you mean 'scores'"),
        ({"tiny": {"members": "many"}}, "members.*must be of type int"),
        ({"tiny": {"seeds": 0}}, "seeds.*must be a list"),
        ({"tiny": {"setups": {"digits": {"data": {"source": "digits"}}}}}, "the entry recipe is missing"),
        ({"tiny": {"setups": {"d": {"data": {"source": "digits"}, "recipe": {"epochs": -1}}}}}, "epochs"),
        ({"preset": "proxy"}, "no such preset; did you mean 'proxies'"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Preset.read(plan_file(tmp_path, **changes), "tiny")


def test_a_size_that_a_plan_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no such size; choose one of tiny"):
        Preset.read(plan_file(tmp_path), "small")
