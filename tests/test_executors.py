"""Where trainings run: what a worker that dies, fails or is interrupted leaves of the others."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from unmem.errors import DivergedError, UserError
from unmem.executors import Failed, Name, _Given, _until_done, check_executor, run_all  # pyright: ignore[reportPrivateUsage]

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


def side_by_side(shared: Path, task: str) -> str:
    """The first attempts of all tasks run at one time and end in one crash; then each kills its own worker as `mortal`
    does."""
    first = shared / f"{task}-began"
    if not first.exists():
        first.touch()
        while len(list(shared.glob("*-began"))) < 2:
            time.sleep(0.01)
        os._exit(1)
    return mortal(shared, task)


class Forked(_Given):
    """A pool of two processes that are forked, which takes milliseconds; after a crash there is a new one."""

    def __init__(self, shared: Path) -> None:
        super().__init__(ProcessPoolExecutor(2, mp_context=get_context("fork")), shared, None)

    def renew(self) -> None:
        self._executor = ProcessPoolExecutor(2, mp_context=get_context("fork"))


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
    found = dict(run_all(mortal, tmp_path, tasks, where="processes", workers=2, on_warning=heard.append))
    assert isinstance(found.pop(3), Failed)
    assert found == dict(enumerate("abc"))
    assert "task 2 failed (its worker process died: killed, or out of memory); retrying once" in heard
    (left_out,) = [line for line in heard if "left out" in line]
    assert left_out.startswith("task 4 failed again (its worker process died")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of a fork beside threads, since Python 3.12
def test_a_crash_that_two_tasks_shared_is_charged_to_none_of_them(tmp_path: Path) -> None:
    """Either may crash once more, alone, and is tried again; what crashes twice alone is left out."""
    heard: list[str] = []
    tasks = ["a:1", "b:2"]
    found = dict(_until_done(Forked(tmp_path), side_by_side, tasks, heard.append, lambda k: tasks[k]))
    assert found[0] == "a"
    assert isinstance(found[1], Failed)
    together, alone = ([(line[:3], "left out" in line) for line in part] for part in (heard[:2], heard[2:]))
    assert sorted(together) == [("a:1", False), ("b:2", False)]
    assert sorted(alone) == [("a:1", False), ("b:2", False), ("b:2", True)]


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
    found = dict(run_all(failing, [], tasks, where=where, workers=1, on_warning=heard.append))
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
        list(run_all(failing, [], ["wrong input", "fine"], where=where, workers=1, on_warning=heard.append))
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
def test_dask_gives_the_same_closed_to_others_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = temporary_folder(tmp_path, monkeypatch)
    before = set(descendants(os.getpid()))  # such as the server that tests fork from
    found = run_all(listening, shared, [0, 1, 2], where="dask", workers=1)
    first = next(found)
    from distributed import Client, default_client

    address = default_client().scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    assert {one for one in sockets_of(os.getpid()) if not one.startswith("127.0.0.1:")} == set()
    with pytest.raises((OSError, ValueError, TypeError)):  # without the certificate, in clear text and encrypted
        Client(address.replace("tls", "tcp"), timeout=2, set_as_default=False)
    with pytest.raises((OSError, ValueError, TypeError)):
        Client(address, timeout=2, set_as_default=False)
    assert dict([first, *found]) == {0: (True, True), 1: (True, True), 2: (True, True)}
    assert left_in(shared) == []
    assert set(descendants(os.getpid())) <= before


def test_dask_of_our_own_needs_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    from unmem import extras

    there = extras.find_spec
    monkeypatch.setattr("unmem.extras.find_spec", lambda name: None if name == "cryptography" else there(name))
    with pytest.raises(UserError, match=r"pip install 'unmem\[dask\]'"):
        list(run_all(squared, 0, [1], where="dask"))
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:1")
    check_executor("dask")  # a cluster of the user's has credentials of its own


OWN_RAY = """
import json, os, stat, subprocess, sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.test_executors import listening, left_in, sockets_of, squared
from unmem.executors import run_all

folder = Path(sys.argv[1])
def inside():
    import ray
    token, = folder.glob("*/token")
    pids = [int(one.name) for one in Path("/proc").glob("[0-9]*") if str(token).encode() in environment(one)]
    return dict(
        address=ray.get_runtime_context().gcs_address,
        token=oct(stat.S_IMODE(token.stat().st_mode)), around=oct(stat.S_IMODE(token.parent.stat().st_mode)),
        sockets=sorted({{one.rpartition(":")[0] for pid in [os.getpid(), *pids] for one in sockets_of(pid)}}),
        processes=len(pids), path=str(token))
def environment(one):
    try:
        return (one / "environ").read_bytes()
    except OSError:
        return b""
before = dict(os.environ)
found = run_all(squared, 10, range(3), where="ray", workers=1)
results = [next(found)]
said = inside()
client = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1]); print('in')"
def enters(**more):
    environment = {{k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}} | more
    command = [sys.executable, "-c", client, said["address"]]
    one = subprocess.run(command, env=environment, capture_output=True, text=True)
    return "in" in one.stdout.split(), "AuthenticationError" in one.stderr
said["with token"] = enters(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=said["path"])
said["without"] = enters(RAY_AUTH_MODE="disabled")
said["wrong"] = enters(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
results += list(found)
said["again"] = sorted(run_all(squared, 20, range(2), where="ray", workers=1))  # with another token
said["results"] = sorted(results)
said["left"] = left_in(folder)
said["environment"] = sorted(k for k in {{*os.environ, *before}} if os.environ.get(k) != before.get(k))
print(json.dumps(said))
"""


@pytest.mark.slow
def test_ray_of_our_own_is_closed_to_others_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = temporary_folder(tmp_path, monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    before = {*Path("/tmp").glob("ray*"), *Path("/dev/shm").iterdir()}
    script = OWN_RAY.format(root=str(Path(__file__).parents[1]))
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["results"] == [[0, 10], [1, 11], [2, 14]]
    assert said["again"] == [[0, 20], [1, 21]]
    assert (said["token"], said["around"]) == ("0o600", "0o700")
    assert said["processes"] >= 3
    assert set(said["sockets"]) == {"127.0.0.1"}
    assert said["with token"] == [True, False]
    assert said["without"] == said["wrong"] == [False, True]
    assert said["left"] == said["environment"] == []
    assert {*Path("/tmp").glob("ray*"), *Path("/dev/shm").iterdir()} <= before
    assert not (tmp_path / ".ray").exists()


@pytest.mark.slow
def test_a_ray_cluster_that_the_environment_names_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="r-", dir="/tmp"))
    settings = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    start = [*ray, "start", "--head", "--port=0", "--num-cpus=1", "--include-dashboard=false", f"--temp-dir={folder}"]
    said = subprocess.run(start, env=settings, capture_output=True, text=True, check=True).stdout
    (address,) = set(re.findall(r"--address='([^']+)'", said))
    try:
        script = (
            f"import sys, signal; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
            "from tests.test_executors import squared; from unmem.executors import run_all\n"
            "before = signal.getsignal(signal.SIGTERM)\n"
            "print(sorted(run_all(squared, 10, range(3), where='ray')), signal.getsignal(signal.SIGTERM) is before)"
        )
        for _ in range(2):  # it is there for the second run too
            done = subprocess.run(
                [sys.executable, "-c", script], env=settings | {"RAY_ADDRESS": address}, capture_output=True, text=True
            )
            assert done.stdout.strip() == "[(0, 10), (1, 11), (2, 14)] True", done.stderr
        assert list(folder.glob("session_2*"))
    finally:
        subprocess.run([*ray, "stop", "--force"], env=settings, capture_output=True, check=True)
        shutil.rmtree(folder)


INTERRUPTED = """
import signal, sys
sys.path.insert(0, {root!r})
from tests.test_executors import slow
from unmem.executors import run_all

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command line does
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts tests in the background ignores it
    try:
        for k, _ in run_all(slow, None, [0.01, 600.0, 600.0], where={where!r}, workers=2):
            print(k, flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
"""
HOW = ("SIGTERM", "Ctrl-C", "Ctrl-C twice", "SIGKILL")
CASES = [
    pytest.param(where, how, marks=[] if (where, how) == ("processes", "SIGTERM") else pytest.mark.slow)
    for where in ("processes", "dask", "ray")
    for how in HOW
]


@pytest.mark.parametrize(("where", "how"), CASES)
def test_a_stopped_run_leaves_no_process_and_no_file(
    where: Name, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = temporary_folder(tmp_path, monkeypatch)
    monkeypatch.setenv("UNMEM_MARK", str(tmp_path))
    shm = set(Path("/dev/shm").iterdir())
    script = INTERRUPTED.format(root=str(Path(__file__).parents[1]), where=where)
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "0\n"
        assert len(marked(tmp_path)) >= 3
        began = time.monotonic()
        if how.startswith("Ctrl-C"):
            os.killpg(driver.pid, signal.SIGINT)  # as a terminal sends it, to every process of the group
            for _ in range(2 if how == "Ctrl-C twice" else 0):
                time.sleep(0.3)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(driver.pid, signal.SIGINT)
        else:
            driver.send_signal(getattr(signal, how))
        said = driver.communicate(timeout=60)[1]
    ended = {"SIGKILL": [-signal.SIGKILL], "Ctrl-C twice": [130, -signal.SIGINT]}  # while Python ends, it ends at once
    assert driver.returncode in ended.get(how, [130]), said
    assert "KeyboardInterrupt" not in said, said
    while marked(tmp_path) or left_in(folder) or set(Path("/dev/shm").iterdir()) - shm:
        assert time.monotonic() - began < 60, (marked(tmp_path), left_in(folder))
        time.sleep(0.1)


def temporary_folder(around: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process and its children make temporary files. Short, for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def left_in(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir() if not one.name.startswith("torchinductor")]  # PyTorch's own cache


def listening(shared: Path, task: int) -> tuple[bool, bool]:
    """Whether this worker listens on the loopback address alone, and has its files in a folder of this user's alone."""
    modes = [stat.S_IMODE(one.stat().st_mode) for one in shared.iterdir() if one.name.startswith("unmem-")]
    return {one.rpartition(":")[0] for one in sockets_of(os.getpid())} == {"127.0.0.1"}, modes == [0o700]


def sockets_of(pid: int) -> list[str]:
    """Addresses at which a process listens for TCP connections."""
    import psutil

    try:
        found = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return []
    return [f"{one.laddr.ip.removeprefix('::ffff:')}:{one.laddr.port}" for one in found if one.status == "LISTEN"]


def marked(mark: Path) -> list[int]:
    """Processes that were started below one with this mark, whoever is their parent now."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(path.name) != os.getpid() and f"UNMEM_MARK={mark}".encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
    return found


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
