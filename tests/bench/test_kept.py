"""Results that are kept: what was determined otherwise is computed again, what was not stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unmem.bench.kept import Kept, kept_results

ABOUT = {"data": "digits", "seed": 0}


def computed(path: Path, about: dict[str, Any], wanted: dict[str, Any], value: int) -> tuple[list[str], dict[str, Any]]:
    """The names that had to be computed, and all results."""
    made: list[str] = []

    def fill(kept: Kept) -> None:
        for name in wanted:
            kept.get(name, lambda name=name: made.append(name) or value)

    return made, kept_results(path, about, wanted, fill)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "kept.json"
    assert computed(path, ABOUT, {"facts": None, "neggrad+": {"alpha": 0.9}}, 1)[0] == ["facts", "neggrad+"]
    return path


def test_nothing_is_computed_twice(path: Path) -> None:
    again = computed(path, ABOUT, {"facts": None, "neggrad+": {"alpha": 0.9}}, 2)
    assert again == ([], {"facts": 1, "neggrad+": 1})


def test_a_method_with_other_fields_is_computed_again(path: Path) -> None:
    changed = computed(path, ABOUT, {"facts": None, "neggrad+": {"alpha": 0.8}}, 2)
    assert changed == (["neggrad+"], {"facts": 1, "neggrad+": 2})


def test_other_facts_replace_everything(path: Path) -> None:
    changed = computed(path, {**ABOUT, "seed": 1}, {"facts": None}, 2)
    assert changed == (["facts"], {"facts": 2})


def test_results_that_a_run_does_not_want_stay(path: Path) -> None:
    assert computed(path, ABOUT, {"facts": None, "scrub": {}}, 2)[0] == ["scrub"]
    assert computed(path, ABOUT, {"neggrad+": {"alpha": 0.9}}, 3) == ([], {"neggrad+": 1})


def test_a_damaged_file_is_replaced(path: Path) -> None:
    path.write_text("{", encoding="utf-8")
    assert computed(path, ABOUT, {"facts": None}, 2) == (["facts"], {"facts": 2})
