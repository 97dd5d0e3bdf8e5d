"""Where trainings run: what a worker that dies, fails or is interrupted leaves of the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from unmem.errors import DivergedError, UserError
from unmem.executors import Failed, Name, run_all

ENGINES: tuple[Name, ...] = ("serial", "processes")


def squared(shared: int, task: int) -> int:
    return shared + task**2


def in_worker(shared: object, task: int) -> tuple[int, int, int, bool]:
    time.sleep(0.2)  # so that one worker does not take all tasks
    return task, os.getpid(), torch.get_num_threads(), signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def mortal(shared: Path, task: str) -> str:
    """Kills its own worker as often as the task says, and then works."""
    name, deaths = task.split(":")
    time.sleep(0.05)
    for k in range(int(deaths)):
        mark = shared / f"{name}-{k}"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return name


def failing(shared: list[str], task: str) -> str:
    if task == "wrong input":
        raise UserError("lr", -1, "is negative", "give a positive one")
    if task == "diverges":
        raise DivergedError("lr", 9, "the loss was not finite", "use a lower rate")
    if task == "breaks":
        raise RuntimeError("out of memory")
    return task


def slow(shared: object, task: float) -> float:
    time.sleep(task)
    return task


class Counted:
    """Notes each arrival in a worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        (self.folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()


@pytest.mark.parametrize("where", ENGINES)
def test_no_task_has_no_result(where: Name) -> None:
    assert dict(run_all(squared, 10, [], where=where)) == {}


def test_every_task_has_its_result_here() -> None:
    assert dict(run_all(squared, 10, range(7), where="serial")) == {k: 10 + k**2 for k in range(7)}


def test_workers_give_every_result_with_one_thread_and_leave_ctrl_c_to_their_parent(tmp_path: Path) -> None:
    found = dict(run_all(in_worker, Counted(tmp_path), range(8), where="processes", workers=2))
    results = [one for one in found.values() if not isinstance(one, Failed)]
    assert {k: one[0] for k, one in zip(found, results, strict=True)} == {k: k for k in range(8)}
    pids = {one[1] for one in results}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert all(one[2:] == (1, True) for one in results)
    assert len(list(tmp_path.iterdir())) == 2  # what tasks share travels once to each worker


def test_a_worker_that_dies_once_costs_nothing_but_time_and_a_deadly_task_only_itself(tmp_path: Path) -> None:
    heard: list[str] = []
    tasks = ["a:0", "b:1", "c:0", "d:9"]
    found = dict(run_all(mortal, tmp_path, tasks, where="processes", workers=2, told=heard.append))
    assert isinstance(found.pop(3), Failed)
    assert found == dict(enumerate("abc"))
    assert "task 2 failed (its worker process died: killed, or out of memory); it is tried once more" in heard
    (left_out,) = [line for line in heard if "left out" in line]
    assert left_out.startswith("task 4 failed again (its worker process died")


def test_a_pool_of_the_callers_that_breaks_ends_with_what_it_had(tmp_path: Path) -> None:
    found: dict[int, Any] = {}
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(UserError, match="a worker died"),
    ):
        for k, result in run_all(mortal, tmp_path, ["a:0", "b:9"], where=pool):
            found[k] = result
    assert found == {0: "a"}


@pytest.mark.parametrize("where", ENGINES)
def test_a_failure_is_tried_once_more_and_then_left_out(where: Name) -> None:
    heard: list[str] = []
    tasks = ["fine", "breaks", "good", "diverges"]
    found = dict(run_all(failing, [], tasks, where=where, workers=1, told=heard.append))
    assert (found[0], found[2]) == ("fine", "good")
    broken, diverged = found[1], found[3]
    assert isinstance(broken, Failed)
    assert isinstance(diverged, Failed)
    assert str(broken) == "RuntimeError: out of memory"
    assert isinstance(diverged.error, DivergedError)
    assert str(diverged) == str(diverged.error)
    assert len(heard) == 4


@pytest.mark.parametrize("where", ENGINES)
def test_a_wrong_input_ends_everything_at_once(where: Name) -> None:
    heard: list[str] = []
    with pytest.raises(UserError, match="is negative"):
        list(run_all(failing, [], ["wrong input", "fine"], where=where, workers=1, told=heard.append))
    assert heard == []


def test_leaving_early_stops_the_workers() -> None:
    before = children()
    found = run_all(slow, None, [0.01, 60.0, 60.0], where="processes", workers=2)
    assert next(found) == (0, 0.01)
    assert children() > before
    began = time.monotonic()
    found.close()
    while children() > before and time.monotonic() - began < 10:
        time.sleep(0.05)
    assert children() == before
    assert time.monotonic() - began < 10


ORPHANS = """
import sys
sys.path.insert(0, {root!r})
from tests.test_executors import slow
from unmem.executors import run_all
for k, _ in run_all(slow, None, [0.01, 600.0, 600.0], where="processes", workers=2):
    print(k, flush=True)
"""


def test_workers_end_with_a_driver_that_was_killed() -> None:
    script = ORPHANS.format(root=str(Path(__file__).parents[1]))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "0\n"
        workers = descendants(driver.pid)
        assert len(workers) >= 2
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        driver.stdout.close()
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_unknown_and_missing_engines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="did you mean 'processes'"):
        list(run_all(squared, 0, [1], where="proceses"))  # pyright: ignore[reportArgumentType]
    with ThreadPoolExecutor(2) as pool, pytest.raises(UserError, match="one random state"):
        list(run_all(squared, 0, [1], where=pool))
    monkeypatch.setattr("unmem.extras.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'unmem\[ray\]'"):
        list(run_all(squared, 0, [1], where="ray"))


@pytest.fixture
def quiet_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one CPU each, on this machine."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    yield ray
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_ray_survives_the_death_of_a_worker(quiet_ray: Any, tmp_path: Path) -> None:
    assert len(quiet_ray.nodes()) == 2
    found = dict(run_all(mortal, tmp_path, ["a:0", "b:1", "c:0", "d:0"], where="ray"))
    assert found == dict(enumerate("abcd"))
    assert (tmp_path / "b-0").exists()
    found = dict(run_all(failing, [], ["fine", "diverges", "breaks"], where="ray"))
    assert found[0] == "fine"
    assert [type(found[k]) for k in (1, 2)] == [Failed, Failed]
    with pytest.raises(UserError, match="is negative"):
        list(run_all(failing, [], ["wrong input"], where="ray"))
    assert quiet_ray.is_initialized()  # a cluster of the caller's is left alone


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_dask_gives_the_same() -> None:
    assert dict(run_all(squared, 10, range(3), where="dask", workers=2)) == {0: 10, 1: 11, 2: 14}


def children() -> int:
    return len(descendants(os.getpid()))


def descendants(pid: int) -> list[int]:
    """Running processes below this one that are workers."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if "resource_tracker" in (path / "cmdline").read_text():
                continue
            parents[int(path.name)] = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    found = [child for child, parent in parents.items() if parent == pid and alive(child)]
    return found + [one for child in found for one in descendants(child)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False
