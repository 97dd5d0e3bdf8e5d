"""What a request says that it deleted is gone, from every file of every run, but for those that its last lines list."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.cli.commands import run
from tests.helpers import started
from unmem.cli.app import main

CANARIES = tuple(f"zq-canary-{k:02d}" for k in range(12))
PERSON = "zq-person"
RECIPE = ("--arch", "mlp", "--epochs", "20", "--batch-size", "16")
METHODS = (
    *("nothing", "retrain", "fine-tune", "l1-sparse", "neggrad", "neggrad+", "scrub", "random-label", "salun"),
    *("influence", "bad-teacher", "ssd", "matching", "rum", "auto"),
)


def _point(random: np.random.Generator) -> list[float | int]:
    """Three numbers, and which of them is the largest."""
    point = random.normal(size=3).round(4)
    return [*point.tolist(), int(point.argmax())]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table in which 12 examples of one person carry canaries, a request, and all that may be made of them before."""
    folder = tmp_path_factory.mktemp("deletion")
    random = np.random.default_rng(0)
    rows = [("id", "user", "a", "b", "c", "label")]
    for k in range(150):
        name, user = (CANARIES[k], PERSON) if k < len(CANARIES) else (f"other-{k}", f"user-{k % 20}")
        rows.append((name, user, *_point(random)))
    with (folder / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with (folder / "test.csv").open("w", newline="") as file:
        fresh = [(f"test-{k}", "tester", *_point(random)) for k in range(60)]
        csv.writer(file).writerows([rows[0], *fresh])
    (folder / "ids.txt").write_text("\n".join(CANARIES))
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert (
            run("score", *data(), *RECIPE, "--method", "confidence,feldman", "--members", "10", "--out", "scored") == 0
        )
        assert run("prepare", *data(), *RECIPE, *model(), "--out", "prepared") == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def home(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(base, tmp_path / "home", symlinks=True)
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def data() -> tuple[str, ...]:
    return ("--data", "data.csv", "--test", "test.csv", "--id", "id", "--label", "label", "--drop", "user")


def model() -> tuple[str, ...]:
    return ("--model", "scored/original.safetensors")


def request(*more: str) -> tuple[str, ...]:
    given = ("--crossfit", "prepared/crossfit.npz", "--members", "scored/members", "--scores", "scored/scores.parquet")
    return ("forget", *data(), *RECIPE, *model(), "--forget", "ids.txt", *given, *more)


def said_in(path: Path) -> str:
    """All that a file holds as text, whatever its form."""
    raw = path.read_bytes()
    texts = [raw.decode("utf-8", "ignore"), raw.decode("utf-16-le", "ignore"), raw.decode("utf-32-le", "ignore")]
    texts += [raw.replace(b"\0", b"").decode("utf-8", "ignore")]  # UTF-32 at any offset
    if path.suffix == ".parquet":
        texts.append(str(pq.read_table(path).to_pydict()))
    return "\n".join(texts)


def holding(folder: Path, *words: str) -> set[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)) for path in files if any(word in said_in(path) for word in words)}


def listed(out: Path) -> set[str]:
    """The files that the run says still hold the forgotten examples, those of folders one by one."""
    found: set[str] = set()
    for one in json.loads((out / "result.json").read_text())["still_carrying"]:
        for name in one["files"]:
            path = Path(name)
            inside = [inner for inner in path.rglob("*") if inner.is_file()] if path.is_dir() else [path]
            found |= {str(inner) for inner in inside}
    return found


def test_canaries_are_found_in_every_form_of_file(home: Path) -> None:
    expected = {"data.csv", "ids.txt", "scored/scores.parquet", "scored/trace.npz", "prepared/crossfit.npz"}
    assert expected <= holding(home, *CANARIES)


@pytest.mark.parametrize("method", ["auto", pytest.param("fine-tune", marks=pytest.mark.slow)])
def test_no_canary_is_left_but_where_the_last_lines_say(
    home: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*request("--method", method, "--out", "forgot")) in (0, 4)
    said = capsys.readouterr().out
    left = holding(home, *CANARIES)
    assert left <= listed(Path("forgot"))
    assert {"data.csv", "ids.txt", "scored/scores.parquet", "forgot/private/crossfit.npz"} <= left
    for name in left:
        assert name in said or str(Path(name).parent) in said
    for one in json.loads(Path("forgot/result.json").read_text())["still_carrying"]:
        assert one["command"] in said
        if one["command"].startswith("rm "):
            subprocess.run(one["command"], shell=True, check=True)
    assert holding(home, *CANARIES) == {"data.csv"}


def emptied(home: Path) -> list[int]:
    """How many rows of each member are empty."""
    return [int(np.isnan(np.load(path)["train_phi"]).sum()) for path in sorted(home.glob("*/members/member-*.npz"))]


@pytest.mark.parametrize("method", [m if m == "nothing" else pytest.param(m, marks=pytest.mark.slow) for m in METHODS])
def test_rows_are_deleted_for_every_method_and_outcome(home: Path, method: str) -> None:
    assert run(*request("--method", method, "--max-drop", "0", "--out", "forgot")) in (0, 4)
    for path in (home / "prepared" / "crossfit.npz", home / "scored" / "trace.npz"):
        assert not np.isin(np.load(path)["ids"], CANARIES).any()
    assert emptied(home) == [len(CANARIES)] * 12  # of ten and of two folds


def test_rows_are_deleted_where_the_guard_stops_the_command(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unmem.cli import forget_result

    fell = {"holdout_before": 1.0, "holdout_after": 0.0, "max_drop": 0.05, "fell": True, "reason": "it fell"}
    monkeypatch.setattr(forget_result, "_guard", lambda *_: fell)
    assert run(*request("--method", "matching", "--out", "forgot")) == 4
    assert not np.isin(np.load("prepared/crossfit.npz")["ids"], CANARIES).any()
    assert emptied(home) == [len(CANARIES)] * 12


@pytest.mark.usefixtures("home")
def test_an_audit_finds_the_rows_where_they_were_moved_to() -> None:
    kept = {path.name: np.load(path)["train_phi"] for path in Path("scored/members").glob("*.npz")}
    assert run(*request("--method", "matching", "--out", "forgot")) == 0
    audit = ("audit", *data(), *RECIPE, "--model", "forgot/unlearned.safetensors", "--original", model()[1])
    asked = ("--forget", "ids.txt", "--members", "scored/members", "--crossfit", "prepared/crossfit.npz")
    assert run(*audit, *asked, "--no-relearning", "--out", "audited") == 0
    evidence = json.loads(Path("audited/result.json").read_text())["evidence"]["unlearned"]
    assert "lira" in evidence["attacks"]
    from unmem.data import load
    from unmem.ensembles import erased, files

    train = load("data.csv", test="test.csv", id="id", label="label", drop=("user",)).train
    for path in Path("scored/members").glob("*.npz"):
        member = files.read(path)
        assert member is not None
        np.testing.assert_array_equal(erased.restored(path, member.arrays, train)["train_phi"], kept[path.name])
    shutil.rmtree("forgot/private")
    assert run(*audit, *asked, "--no-relearning", "--out", "audited-2") == 2


@pytest.mark.usefixtures("home")
def test_a_link_is_followed_and_the_mode_of_a_file_is_kept() -> None:
    Path("prepared/crossfit.npz").chmod(0o640)
    Path("link.npz").symlink_to("prepared/crossfit.npz")
    arguments = [one if one != "prepared/crossfit.npz" else "link.npz" for one in request("--out", "forgot")]
    assert run(*arguments) == 0
    assert Path("link.npz").is_symlink()
    assert not np.isin(np.load("prepared/crossfit.npz")["ids"], CANARIES).any()
    assert Path("prepared/crossfit.npz").stat().st_mode & 0o777 == 0o640


def test_two_requests_at_once_both_delete(home: Path) -> None:
    Path("one.txt").write_text("\n".join(CANARIES[:6]))
    Path("two.txt").write_text("\n".join(CANARIES[6:]))
    commands = [
        [*(one if one != "ids.txt" else f"{name}.txt" for one in request()), "--out", name] for name in ("one", "two")
    ]
    running = [started(main, arguments) for arguments in commands]
    for one in running:
        one.join(300)
    assert [one.exitcode for one in running] == [0, 0]
    assert not np.isin(np.load("prepared/crossfit.npz")["ids"], CANARIES).any()
    assert not np.isin(np.load("scored/trace.npz")["ids"], CANARIES).any()
    assert emptied(home) == [len(CANARIES)] * 12


@pytest.mark.usefixtures("home")
def test_preparing_anew_in_the_same_folder_brings_nothing_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*request("--out", "forgot")) == 0
    capsys.readouterr()
    for _ in range(2):
        assert run("prepare", *data(), *RECIPE, *model(), "--out", "prepared", "--force") == 0
        assert "12 examples that were deleted from the files in prepared are left out" in capsys.readouterr().out
        assert not np.isin(np.load("prepared/crossfit.npz")["ids"], CANARIES).any()
    assert run("prepare", *data(), *RECIPE, *model(), "--out", "elsewhere") == 0
    assert np.isin(np.load("elsewhere/crossfit.npz")["ids"], CANARIES).sum() == 12


def test_conditions_on_columns_are_in_no_file(home: Path) -> None:
    asked = [one for one in request() if one not in ("--forget", "ids.txt")]
    assert run(*asked, "--where", f"user={PERSON}", "--out", "forgot") == 0
    assert not {name for name in holding(home, PERSON) if name != "data.csv"}
    assert Path("forgot/config.yaml").read_text().startswith("# --where is not kept")


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(9, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("home")
def test_nothing_that_is_measured_on_a_few_examples_is_in_a_file(count: int) -> None:
    Path("ids.txt").write_text("\n".join(CANARIES[:count]))
    retrain = ("--reference", "retrain", "--reference-seeds", "2")
    assert run(*request("--method", "fine-tune", *retrain, "--annex", "annex.csv", "--out", "forgot")) in (0, 4)
    result = json.loads(Path("forgot/result.json").read_text())
    for one in (result["methods"]["fine-tune"], *result["controls"].values(), result["reference"]):
        assert [one.get(key) for key in ("tow", "tow_mia", "mia")] == [None] * 3
        assert one["accuracy"]["forget"] is None
        assert one["parts"] == {}
    assert "fewer than 10" in result["methods"]["fine-tune"]["reason"]
    with open("annex.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == list(CANARIES[:count])
    assert {"label", "confidence", "confidence-original", "confidence-retrained"} <= rows[0].keys()
    audit = ("audit", *data(), *RECIPE, "--model", "forgot/unlearned.safetensors", "--original", model()[1])
    assert run(*audit, "--forget", "ids.txt", "--reference", "retrain", "--out", "audited") == 0
    result = json.loads(Path("audited/result.json").read_text())
    evidence = (*result["evidence"].values(), result["evidence_controls"]["do_nothing"])
    assert all(one["attacks"] == {} and one["relearning"] is None and one["distance"] is None for one in evidence)
    assert result["verdict"] == "inconclusive"
    assert result["methods"]["unlearned"]["accuracy"]["forget"] is None
