"""Members on disk: whole or not there, checked, and bit for bit the same however often a run was stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import unmem as um
from tests.ensembles.test_members import RECIPE, same
from tests.helpers import points, started
from tests.test_executors import alive, descendants
from unmem.cli.app import main
from unmem.ensembles import files, leave_out_masks, members, read_members, train_members
from unmem.ensembles.members import _run  # pyright: ignore[reportPrivateUsage]
from unmem.executors import Name

DATA = points(40)
KEPT = leave_out_masks(40, 8, keep=0.7, seed=0)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # as the workers have: how sums are cut among threads shows in the last bits


def test_a_member_says_how_it_was_made(tmp_path: Path) -> None:
    train_members(RECIPE, DATA, KEPT[:1], seed=7, folder=tmp_path)
    (member,) = files.members_in(tmp_path)
    assert member.problem is None
    assert member.about["seed"] == 7
    assert member.about["recipe"]["lr"] == RECIPE.lr
    assert member.about["data"] == DATA.fingerprint
    assert member.path == files.place(tmp_path, member.about)
    np.testing.assert_array_equal(np.unpackbits(member.arrays["kept"], count=40).astype(bool), KEPT[0])


def test_one_flipped_bit_is_found_and_only_that_member_is_made_again(tmp_path: Path) -> None:
    whole = train_members(RECIPE, DATA, KEPT, folder=tmp_path)
    victim = sorted(tmp_path.iterdir())[3]
    changed = files.read(victim)
    assert changed is not None
    stored = changed.arrays | {"about": np.array(json.dumps(changed.about)), "sha256": np.array("0" * 64)}
    with victim.open("wb") as file:
        np.savez(file, **stored)  # pyright: ignore[reportArgumentType]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    heard: list[str] = []
    again = train_members(RECIPE, DATA, KEPT, folder=tmp_path, on_warning=heard.append)
    assert same(whole, again)
    assert {path for path in before if path.stat().st_mtime_ns != before[path]} == {victim}
    line, found = heard
    assert line.startswith(f"{victim.name} is damaged: its contents do not match their checksum")
    assert found == "7 of 8 members were there already"


def test_seconds_of_members_that_are_taken_up_count_by_the_threads_that_they_had(tmp_path: Path) -> None:
    assert train_members(RECIPE, DATA, KEPT, folder=tmp_path).seconds_before == 0
    trained = train_members(RECIPE, DATA, KEPT, folder=tmp_path)
    assert trained.seconds_before == pytest.approx(sum(trained.seconds))
    torch.set_num_threads(2)  # on which two such members would have run side by side
    assert train_members(RECIPE, DATA, KEPT, folder=tmp_path).seconds_before == pytest.approx(sum(trained.seconds) / 2)


def test_a_mismatch_says_which_field_differs(tmp_path: Path) -> None:
    train_members(RECIPE, DATA, KEPT[:2], folder=tmp_path)
    heard: list[str] = []
    train_members(replace(RECIPE, lr=0.02, epochs=1), DATA, KEPT[:2], folder=tmp_path, on_warning=heard.append)
    (line,) = heard
    assert f"2 members made with epochs {RECIPE.epochs} instead of 1, lr {RECIPE.lr} instead of 0.02;" in line
    heard.clear()
    other = DATA.relabel(DATA.labels.flip(0))
    train_members(RECIPE, other, KEPT[:1], folder=tmp_path, on_warning=heard.append)
    assert "other data" in heard[0]


def test_weights_are_kept_only_on_request(tmp_path: Path) -> None:
    train_members(RECIPE, DATA, KEPT[:2], folder=tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
    train_members(RECIPE, DATA, KEPT[:2], folder=tmp_path, keep_weights=True)
    found = sorted(tmp_path.glob("*.safetensors"))
    assert len(found) == 2
    for path in found:
        member = files.read(path.with_suffix(".npz"))
        assert member is not None
        model = um.train(
            RECIPE, DATA.at(np.unpackbits(member.arrays["kept"], count=40) == 1), seed=member.about["seed"]
        )
        for name, value in load_file(path).items():
            assert torch.equal(value, model.state_dict()[name])


def test_a_member_that_fails_is_left_out_and_never_averaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def sometimes(shared: Any, task: Any) -> Any:
        if task.seed == 2:
            raise RuntimeError("no memory left")
        return _run(shared, task)

    monkeypatch.setattr(members, "_run", sometimes)
    heard: list[str] = []
    seen: list[int] = []
    kept = KEPT[:4]
    found = train_members(
        RECIPE, DATA, kept, folder=tmp_path, on_warning=heard.append, on_member=lambda done, _: seen.append(done)
    )
    monkeypatch.undo()
    assert found.settings["failed"] == [{"seed": 2, "why": "RuntimeError: no memory left"}]
    assert found.seeds == (0, 1, 3)
    assert same(found, train_members(RECIPE, DATA, kept).members([0, 1, 3]))
    assert seen == [1, 2, 3, 4]
    assert len(heard) == 2
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.slow
def test_a_worker_killed_at_random_changes_no_bit(tmp_path: Path) -> None:
    def kill_one() -> None:
        while not list(tmp_path.glob("member-*.npz")):
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.5))
        workers = [pid for pid in descendants(os.getpid()) if b"loky" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(random.choice(workers), signal.SIGKILL)

    longer = replace(RECIPE, epochs=150)
    undisturbed = train_members(longer, DATA, KEPT)
    killer = threading.Thread(target=kill_one)
    killer.start()
    heard: list[str] = []
    found = train_members(longer, DATA, KEPT, executor="processes", workers=2, folder=tmp_path, on_warning=heard.append)
    killer.join()
    assert same(undisturbed, found)
    assert found.settings["failed"] == []
    assert any("retrying once" in line for line in heard)


def drive(folder: Path, executor: Name = "serial", workers: int = 1, done: Path | None = None) -> None:
    """Train all members; their number so far goes to a file."""

    def told(k: int, _: int) -> None:
        if done is not None:
            done.write_text(str(k))

    kept: dict[str, Any] = {"executor": executor, "workers": workers, "folder": folder, "on_member": told}
    train_members(replace(RECIPE, epochs=40), DATA, KEPT, **kept)


def test_a_driver_killed_at_random_points_is_taken_up_bit_for_bit(tmp_path: Path) -> None:
    folder, done = tmp_path / "members", tmp_path / "done"
    for finished, count in ((1, 2), (4, 1)):
        done.write_text("0")
        driver = started(drive, folder, "processes", count, done)
        while int(done.read_text() or 0) < finished:
            assert driver.is_alive()
            time.sleep(0.01)
        workers = descendants(driver.pid)
        driver.kill()
        driver.join()
        assert len(list(folder.glob("member-*.npz"))) >= finished
        deadline = time.monotonic() + 30
        while any(alive(pid) for pid in workers):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    resumed = train_members(replace(RECIPE, epochs=40), DATA, KEPT, folder=folder)
    assert same(resumed, train_members(replace(RECIPE, epochs=40), DATA, KEPT))


def test_two_drivers_on_one_folder_do_no_harm(tmp_path: Path) -> None:
    drivers = [started(drive, tmp_path) for _ in range(2)]
    for driver in drivers:
        driver.join(120)
        assert driver.exitcode == 0
    assert len(list(tmp_path.iterdir())) == len(KEPT)
    found = read_members(tmp_path, DATA)
    assert same(found, train_members(replace(RECIPE, epochs=40), DATA, KEPT))


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="needs the right to mount a small disk")
def test_a_full_disk_ends_cleanly_and_can_be_taken_up(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    size = len(KEPT) * 4096 // 2
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("this machine does not let root mount")
    try:
        with pytest.raises(um.UserError, match=r"No space left on device.*what is finished is kept"):
            train_members(RECIPE, DATA, KEPT, folder=small)
        names = [path.name for path in small.iterdir()]
        assert 0 < len(names) < len(KEPT)
        assert not [name for name in names if name.endswith(".partial")]
        assert all(member.problem is None for member in files.members_in(small))
        subprocess.run(["mount", "-o", "remount,size=10m", small], check=True)
        assert same(train_members(RECIPE, DATA, KEPT, folder=small), train_members(RECIPE, DATA, KEPT))
    finally:
        subprocess.run(["umount", small], check=True)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(one) for one in arguments])
    return int(str(end.value.code or 0))


def test_the_store_is_listed_verified_and_tidied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_members(RECIPE, DATA, KEPT[:2], folder=tmp_path)
    train_members(replace(RECIPE, lr=0.02), DATA, KEPT[:3], folder=tmp_path)
    assert run("store", "ls", tmp_path) == 0
    listed = capsys.readouterr().out
    assert "lr 0.02" in listed
    assert "batch_size" not in listed  # the same for all
    assert run("store", "verify", tmp_path) == 0
    assert "5 members are whole, 0 are damaged" in capsys.readouterr().out

    damaged = min(tmp_path.glob("member-*.npz"))
    damaged.write_bytes(damaged.read_bytes()[:-20])
    stale, fresh = tmp_path / ".member-a.npz.x.partial", tmp_path / ".member-b.npz.x.partial"
    for path in (stale, fresh):
        path.write_text("half")
    os.utime(stale, (0, 0))
    assert run("store", "verify", tmp_path) == 1
    said = capsys.readouterr().out
    assert damaged.name in said
    assert "4 members are whole, 1 are damaged" in said
    assert run("store", "gc", tmp_path, "--dry-run") == 0
    assert damaged.exists()
    assert run("store", "gc", tmp_path) == 0
    assert not damaged.exists()
    assert not stale.exists()
    assert fresh.exists()
    assert len(list(files.members_in(tmp_path))) == 4
    assert run("store", "verify", tmp_path / "nowhere") == 2
