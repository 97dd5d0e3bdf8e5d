"""A run folder holds the old run, the new one or none, whichever file operation fails or is the last."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import Harness
from tests.faults.publishing import publish

PUBLISH = "tests.faults.publishing:publish"


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    found = Harness(tmp_path_factory.mktemp("shim"), "tests.faults.publishing")
    yield found
    found.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one, since waiting for a disk hundreds of times takes long."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as found:
        yield Path(found)


def contents(folder: Path) -> dict[str, str]:
    """All that a reader finds, by path: through links as well, and not in hidden folders."""
    if not folder.is_dir():
        return {}
    paths = [
        path for path in folder.rglob("*") if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return {str(path.relative_to(folder)): path.read_text() for path in paths if path.is_file()}


@pytest.mark.parametrize(
    ("before", "fault"),
    [
        *(("a run and other files", fault) for fault in ("killed", "full")),
        *(
            pytest.param("a run and other files", fault, marks=pytest.mark.slow)
            for fault in ("failed once", "interrupted")
        ),
        ("none", "killed"),
    ],
)
def test_the_folder_is_the_old_run_or_the_new_one(harness: Harness, place: Path, before: str, fault: str) -> None:
    def start(folder: Path) -> None:
        folder.mkdir()
        if before != "none":
            publish(str(folder / "out"), "old", force=False)
        if before == "a run and other files":
            (folder / "out" / "notes.txt").write_text("mine")
            (folder / "out" / "members").mkdir()
            (folder / "out" / "members" / "member-1.npz").write_text("kept")

    start(place / "before")
    old = contents(place / "before" / "out")
    publish(str(place / "before" / "out"), "newer", force=True)
    new = contents(place / "before" / "out")
    seen: set[str] = set()
    for ended in harness.each(start, place, [fault], PUBLISH, "out", "newer", True):
        out = ended.folder / "out"
        found = contents(out)
        assert found in (old, new), ended
        assert (found == new) or ended.code != 0, ended
        seen.add("new" if found == new else "old")
        publish(str(out), "newer", force=True)
        assert contents(out) == new, ended
        assert {path.name for path in out.iterdir()} == {name.split("/")[0] for name in new}, ended
        assert not any(path.is_symlink() for path in out.rglob("*")), ended
    assert seen == {"old", "new"} or fault not in ("killed", "interrupted")


def test_an_old_file_that_is_a_link_of_the_user_leads_to_the_same_file_after_a_rollback(
    harness: Harness, place: Path
) -> None:
    def start(folder: Path) -> None:
        folder.mkdir()
        publish(str(folder / "out"), "old", force=False)
        (folder / "big.yaml").write_text("elsewhere")
        (folder / "out" / "config.yaml").unlink()
        (folder / "out" / "config.yaml").symlink_to("../big.yaml")

    for ended in harness.each(start, place, ["killed", "failed once"], PUBLISH, "out", "newer", True):
        assert (ended.folder / "out" / "config.yaml").read_text() in ("elsewhere", "newer"), ended
        assert (ended.folder / "big.yaml").read_text() == "elsewhere", ended
