"""The lock files: complete, pinned, with hashes, and of no machine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "locks"
PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)(?: ; [^\\]+)?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def entries(name: str) -> dict[str, list[str]]:
    """Package -> its hashes. Fails for a line that is anything else."""
    found: dict[str, list[str]] = {}
    text = (LOCKS / name).read_text().replace("\\\n", "\\")
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        pin, *hashes = (part.strip() for part in line.split("\\"))
        match = PIN.fullmatch(pin)
        assert match, f"{name}: {pin!r} is not pinned"
        assert hashes, f"{name}: {pin!r} has no hash"
        assert all(HASH.fullmatch(one) for one in hashes), f"{name}: {pin!r}"
        found.setdefault(match[1].lower().replace("_", "-"), []).extend(hashes)
    return found


@pytest.mark.parametrize(("name", "least"), [("dev.txt", 80), ("docs.txt", 25), ("torch.txt", 2), ("torch-cpu.txt", 1)])
def test_nothing_is_unpinned_or_without_a_hash(name: str, least: int) -> None:
    assert len(entries(name)) >= least
    assert ("torch" in entries(name)) == ("torch" in name)


def test_every_direct_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    wanted, waiting = list(project["dependencies"]), list(extras["dev"])
    while waiting:
        one = waiting.pop()
        nested = re.fullmatch(r"unmem\[(.*)\]", one)
        waiting += [more for extra in nested[1].split(",") for more in extras[extra]] if nested else []
        wanted += [] if nested else [one]
    names = {re.split(r"[\[<>=~!; ]", one)[0] for one in wanted} | {"hatchling", "editables"}
    assert len(names) > 25
    assert names <= entries("dev.txt").keys() | entries("torch.txt").keys()


def test_every_tool_of_the_documentation_is_locked() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["docs"]
    assert {re.split(r"[\[<>=~!; ]", one)[0] for one in wanted} <= entries("docs.txt").keys()


def test_checks_before_a_commit_have_the_version_of_the_lock() -> None:
    [pinned] = re.findall(r"ruff==[\d.]+", (ROOT / ".pre-commit-config.yaml").read_text())
    assert pinned in (LOCKS / "dev.txt").read_text().split()


def test_the_locks_name_no_place() -> None:
    for path in LOCKS.iterdir():
        assert not re.search(r"https?:|file:|index-url|find-links|@ ", path.read_text()), path


def test_both_builds_of_pytorch_have_one_version() -> None:
    versions = [
        re.findall(r"^torch==([^\s+]+)", (LOCKS / name).read_text(), re.M) for name in ("torch.txt", "torch-cpu.txt")
    ]
    assert versions[0] == versions[1]


def test_installing_verifies_hashes() -> None:
    of_torch, script = ((ROOT / "tools" / name).read_text() for name in ("torch.sh", "install.sh"))
    assert "--no-deps --require-hashes --requirement" in of_torch
    assert "pip install --quiet --no-deps --require-hashes --requirement locks/dev.txt" in script
    lines = [line.strip() for line in (of_torch + script).splitlines()]
    plain = [line for line in lines if line.startswith("pip install") and "uv" not in line and "--require" not in line]
    assert plain == ["pip install --quiet --no-deps --no-build-isolation --editable ."]
