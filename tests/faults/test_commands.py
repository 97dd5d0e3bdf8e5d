"""Each file operation of each command fails or is the last one: the folder holds the old run, the new one or none.

The same command then ends well and gives the same bits.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.faults.harness import FAULTS, Harness

pytestmark = pytest.mark.slow

RUN = "tests.faults.commands:run"
COMMON = ("--data", "data.npz", "--arch", "mlp", "--epochs", "2", "--batch-size", "16")
OUT = ("--out", "out")
EASY = ("--method", "matching", "--max-drop", "1")
REQUEST = ("--model", "original/original.safetensors", "--forget", "ids.txt")
COMMANDS = {
    "train": ("train", *COMMON, *OUT),
    "score": ("score", *COMMON, "--method", "confidence,crossfit", *OUT),
    "prepare": ("prepare", *COMMON, "--model", "original/original.safetensors", *OUT),
    "forget": ("forget", *COMMON, *REQUEST, "--crossfit", "prepared/crossfit.npz", "--annex", "annex.csv", *EASY, *OUT),
    "forget, trained here": (
        *("forget", *COMMON, "--forget", "ids.txt", "--reference", "retrain", "--reference-seeds", "1"),
        *("--method", "fine-tune", "--max-drop", "1", *OUT),
    ),
    "audit": (
        *(
            "audit",
            *COMMON,
            "--model",
            "original/original.safetensors",
            "--forget",
            "ids.txt",
            "--reference",
            "retrain",
        ),
        *("--reference-seeds", "1", "--no-relearning", "--annex", "annex.csv", *OUT),
    ),
    "scenario": (
        *("scenario", "privacy", *COMMON, "--count", "12", "--method", "fine-tune", "--reference-seeds", "1"),
        *OUT,
    ),
}
SAME = ("original.safetensors", "unlearned.safetensors", "scores.parquet")  # bit for bit


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path_factory.mktemp("runs")) as found:
        yield Path(found)


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    found = Harness(tmp_path_factory.mktemp("shim"), "tests.faults.commands")
    yield found
    found.close()


@pytest.fixture(scope="module")
def base(harness: Harness, place: Path) -> Path:
    """Data, a request, an original with its trace, and a cross-fit with its members."""
    folder = place / "base"
    folder.mkdir()
    generator = np.random.default_rng(0)
    labels = np.arange(120) % 3
    inputs = (generator.normal(size=(120, 5)) + labels[:, None]).astype(np.float32)
    names = np.array([f"person-{k}" for k in range(120)])
    np.savez(folder / "data.npz", x_train=inputs, y_train=labels, ids_train=names)
    done(harness, folder, ("train", *COMMON, "--out", "original"))
    done(harness, folder, ("prepare", *COMMON, "--model", "original/original.safetensors", "--out", "prepared"))
    trained_on = np.load(folder / "prepared" / "crossfit.npz")["ids"]
    (folder / "ids.txt").write_text("".join(f"{name}\n" for name in sorted(trained_on.tolist())[:12]))
    return folder


def done(harness: Harness, folder: Path, arguments: tuple[str, ...]) -> None:
    found = harness.run(folder, RUN, *arguments)
    assert found["code"] == 0, found["said"]


def names_in(folder: Path) -> set[str]:
    """The files that a reader finds, through links as well; nothing of hidden ones, members and logs."""
    if not folder.is_dir():
        return set()
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return {str(p) for p in paths if not any(part.startswith(".") or part in ("members", "logs") for part in p.parts)}


def seed_of(folder: Path) -> int | None:
    file = folder / "result.json"
    return json.loads(file.read_text())["settings"]["seed"] if file.is_file() else None


def bits(folder: Path) -> dict[str, str]:
    """Hashes of what the same command always makes alike, in its own folder and in those that it changes."""
    files = [folder / "out" / name for name in SAME]
    found = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}
    for path in (*folder.glob("*/crossfit.npz"), *folder.glob("*/trace.npz"), *folder.glob("out/private/*.npz")):
        with np.load(path) as arrays:
            content = [(name, arrays[name].tobytes()) for name in sorted(arrays.files) if name != "facts"]
        found[str(path)] = hashlib.sha256(repr(content).encode()).hexdigest()
    return {name.replace(str(folder), ""): value for name, value in found.items()}


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name != "."]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_over_a_run_leaves_that_run_or_the_new_one(
    harness: Harness, base: Path, place: Path, command: str, fault: str
) -> None:
    old = place / f"old-{command}"
    if not old.exists():
        shutil.copytree(base, old)
        done(harness, old, (*COMMANDS[command], "--seed", "1"))
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        check(harness, old, Path(scratch), fault, (*COMMANDS[command], "--force"))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", ["prepare", "forget", "forget, trained here"])
def test_a_command_into_a_new_folder_leaves_a_whole_run_or_none(
    harness: Harness, base: Path, place: Path, command: str, fault: str
) -> None:
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        check(harness, base, Path(scratch), fault, (*COMMANDS[command], "--force"))


def check(harness: Harness, old: Path, scratch: Path, fault: str, arguments: tuple[str, ...]) -> None:
    def start(folder: Path) -> None:
        shutil.copytree(old, folder)

    before, reference = names_in(old / "out"), None
    for ended in harness.each(start, scratch, [fault], RUN, *arguments):
        whole = scratch / "whole"
        reference = reference or (names_in(whole / "out"), bits(whole))
        now = names_in(ended.folder / "out")
        assert now in (before, reference[0]), ended
        assert seed_of(ended.folder / "out") in ((0, 1) if before else (0, None)), ended
        assert ended.code != 0 or seed_of(ended.folder / "out") == 0, ended
        assert "fault of unmem itself" not in ended.said, ended
        again = harness.run(ended.folder, RUN, *arguments)
        assert again["code"] == 0, f"{ended}\nagain: {again['said']}"
        assert (names_in(ended.folder / "out"), bits(ended.folder)) == reference, ended
        assert leftovers(ended.folder) == [], ended
