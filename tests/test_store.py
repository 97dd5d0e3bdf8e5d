"""Files are whole or not there, whatever happens in between; a run folder is a whole run or none."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from unmem.errors import UserError
from unmem.store import RUN_FILES, RunFolder, atomic_path, free_folder, locked, write_text


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


# --- one file --------------------------------------------------------------------------------------------------------


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    write_text(tmp_path / "a", "new é")
    assert contents(tmp_path) == {"a": "new é"}


def test_a_writer_that_fails_half_way_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(RuntimeError, match="half-way"), atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("ne")
        raise RuntimeError("half-way")
    assert contents(tmp_path) == {"a": "old"}


def test_the_old_file_stays_until_the_new_one_is_done(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("new")
        assert (tmp_path / "a").read_text() == "old"
        assert temporary.parent == tmp_path
    assert (tmp_path / "a").read_text() == "new"


def test_a_file_has_the_mode_that_the_user_asks_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "")
    finally:
        assert os.umask(before) == 0o027
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


# --- a run folder ----------------------------------------------------------------------------------------------------


def fill(path: Path, *, force: bool = False, mark: str = "new") -> None:
    with RunFolder(path, force=force) as folder:
        folder.json("result.json", {"mark": mark})
        folder.text("config.yaml", mark)


def test_a_run_is_published_when_the_block_ends_well(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    with RunFolder(out) as folder:
        folder.json("result.json", {"one": 1})
        folder.file("flipped.txt", lambda path: path.write_text("7"))
        assert not (out / "result.json").exists()
        assert not (out / "flipped.txt").exists()
    assert contents(out) == {"result.json": '{\n  "one": 1\n}\n', "flipped.txt": "7"}


def test_numbers_that_are_not_numbers_do_not_become_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"), RunFolder(tmp_path / "out") as folder:
        folder.json("result.json", {"tow": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_force_would_not_replace_cannot_be_added(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="RUN_FILES"), RunFolder(tmp_path / "out") as folder:
        folder.text("notes.txt", "")


@pytest.mark.parametrize("name", RUN_FILES)
def test_a_folder_that_holds_any_file_of_a_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("kept")
    with pytest.raises(UserError, match="--force") as refused:
        fill(tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert name in str(refused.value)
    assert contents(tmp_path) == {name: "kept"}


def test_a_folder_of_other_files_is_taken_and_they_are_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    fill(tmp_path)
    assert contents(tmp_path).keys() == {"notes.txt", "result.json", "config.yaml"}
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_force_replaces_the_run_and_keeps_foreign_files(tmp_path: Path) -> None:
    fill(tmp_path, mark="old")
    (tmp_path / "report.html").write_text("of the old run")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "result.json").write_text("also mine")
    fill(tmp_path, force=True)
    assert json.loads((tmp_path / "result.json").read_text()) == {"mark": "new"}
    assert {path.name for path in tmp_path.iterdir()} == {"result.json", "config.yaml", "notes.txt", "sub"}
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "sub" / "result.json").read_text() == "also mine"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_leaves_the_folder_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    fill(tmp_path, mark="old")
    (tmp_path / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(error), RunFolder(tmp_path, force=True) as folder:
        folder.text("result.json", "half")
        raise error
    assert contents(tmp_path) == before


def test_an_error_in_the_block_removes_the_folders_that_were_made(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(RuntimeError), RunFolder(tmp_path / "there" / "a" / "b") as folder:
        folder.text("config.yaml", "half")
        raise RuntimeError
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


def test_an_error_does_not_remove_what_others_put_in_the_new_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), RunFolder(tmp_path / "a" / "b"):
        (tmp_path / "a" / "other").write_text("theirs")
        raise RuntimeError
    assert list(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a" / "other"]


@pytest.mark.parametrize("inside", ["", "sub", "sub/deeper"])
def test_a_folder_that_cannot_be_written_is_refused_by_name(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("a regular file")
    out = tmp_path / "file" / inside
    with pytest.raises(UserError, match="cannot be written") as refused:
        fill(out)
    assert refused.value.field == "--out"
    assert str(out) in str(refused.value)
    assert contents(tmp_path) == {"file": "a regular file"}


KILLED = """
    import os, signal, sys
    from unmem.store import RunFolder

    with RunFolder(sys.argv[1], force=True) as folder:
        folder.text("result.json", "half")
        os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(out: Path) -> int:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(out)], check=False).returncode


def test_a_run_that_is_killed_before_publishing_leaves_no_result(tmp_path: Path) -> None:
    assert killed(tmp_path / "out") == -9
    assert not any((tmp_path / "out" / name).exists() for name in RUN_FILES)


def test_a_folder_left_by_a_killed_run_can_be_used_again(tmp_path: Path) -> None:
    killed(tmp_path)
    fill(tmp_path)
    assert (tmp_path / "result.json").exists()


def test_free_folder_gives_the_first_name_that_is_not_taken(tmp_path: Path) -> None:
    assert free_folder(tmp_path, "run") == tmp_path / "run"
    for name in ("run", "run-2"):
        (tmp_path / name).mkdir()
    assert free_folder(tmp_path, "run") == tmp_path / "run-3"


# --- a folder in a run folder ----------------------------------------------------------------------------------------


def fill_with_folder(path: Path, *names: str, force: bool = False) -> None:
    def write(inner: Path) -> None:
        (inner / "deep").mkdir(parents=True)
        for name in names:
            (inner / "deep" / name).write_text(name)

    with RunFolder(path, force=force) as folder:
        folder.file("unlearned", write)
        folder.json("result.json", {})


def test_a_folder_is_published_whole_and_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill_with_folder(out, "a", "b")
    fill_with_folder(out, "c", force=True)
    assert [path.name for path in (out / "unlearned" / "deep").iterdir()] == ["c"]
    fill(out, force=True)
    assert sorted(path.name for path in out.iterdir()) == ["config.yaml", "result.json"]


def test_a_folder_alone_is_a_run_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "out" / "unlearned").mkdir(parents=True)
    with pytest.raises(UserError, match=r"already holds a run \(unlearned\)"):
        fill(tmp_path / "out")


def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill_with_folder(out, "a")
    with pytest.raises(FileNotFoundError):
        fill_with_folder(out, "b", "no/such/folder", force=True)
    assert [path.name for path in (out / "unlearned" / "deep").iterdir()] == ["a"]
    assert sorted(path.name for path in out.iterdir()) == ["result.json", "unlearned"]


def test_what_a_killed_run_left_is_removed_and_a_running_one_is_let_be(tmp_path: Path) -> None:
    killed(tmp_path)
    (left,) = tmp_path.iterdir()
    assert (left / "result.json").read_text() == "half"
    with RunFolder(tmp_path) as running:
        assert not left.exists()
        with pytest.raises(UserError, match="another command is writing to it"), RunFolder(tmp_path, force=True):
            pass
        running.text("report.html", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


TURNS = """
    import sys, time
    from pathlib import Path
    from unmem.store import locked

    for _ in range(50):
        with locked(Path(sys.argv[1])):
            count = int(Path(sys.argv[1], "count").read_text())
            time.sleep(0.001)
            Path(sys.argv[1], "count").write_text(str(count + 1))
"""


def test_processes_that_lock_a_folder_take_turns(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    script = [sys.executable, "-c", textwrap.dedent(TURNS), str(tmp_path)]
    running = [subprocess.Popen(script) for _ in range(3)]
    assert [one.wait(60) for one in running] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "150"


def test_a_lock_may_be_nested_and_leaves_nothing(tmp_path: Path) -> None:
    with locked(tmp_path), locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_run_where_there_are_no_links_is_put_in_place_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refused)
    fill_with_folder(tmp_path / "out", "a")
    fill(tmp_path / "out", force=True)
    assert contents(tmp_path / "out") == {"result.json": '{\n  "mark": "new"\n}\n', "config.yaml": "new"}


def test_a_disk_that_is_full_is_said_in_one_sentence(tmp_path: Path) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    said = r"cannot be written \(No space left on device\); make room there"
    with pytest.raises(UserError, match=said), RunFolder(tmp_path / "out") as folder:
        folder.file("trace.npz", full)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_removed_during_a_run_is_named_and_what_can_be_taken_up_is_kept(tmp_path: Path) -> None:
    said = "removed while the command was running; run the command again; 1 finished model is kept"
    with pytest.raises(UserError, match=said), RunFolder(tmp_path / "a" / "out") as folder:
        shutil.rmtree(tmp_path / "a")
        folder.keep("original.safetensors", lambda path: path.write_text("trained"))
        folder.text("config.yaml", "x")
    assert contents(folder.work) == {"original.safetensors": "trained"}
    said = "removed while the command was running; run the command again"
    with pytest.raises(UserError, match=said), RunFolder(tmp_path / "b") as folder:
        folder.text("config.yaml", "x")
        shutil.rmtree(tmp_path / "b")


def test_what_a_killed_writer_left_goes_with_the_next_one_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from unmem.store import atomic_path
with atomic_path(Path(sys.argv[1], "a[1].npz")) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    with atomic_path(tmp_path / "a[1].npz") as living:
        assert not left.exists()
        write_text(tmp_path / "a[1].npz", "whole")
        assert living.exists()
        living.write_text("later")
    assert contents(tmp_path) == {"a[1].npz": "later"}
