"""Ray and Dask on this machine, started for one run: closed to other users, and gone when the run ends.

Both run code for whoever may connect to them, so they listen on the loopback address only and require a secret of this
run: Ray a token, Dask a certificate. Their files are in one private folder, which a small process removes when this
process ends, however it ends. A cluster of the user's is never touched.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from unmem.errors import UserError
from unmem.interrupts import uninterrupted

LOOPBACK = "127.0.0.1"
# Waits until the pipe from its parent closes. Then it removes a folder, and first kills the processes that were started
# with it in their environment: Ray's agents outlive a node that ends while they start.
_CLEANER = """
import os, shutil, signal, sys, time
sys.stdin.buffer.read()
folder = os.fsencode(sys.argv[1])
for _ in range(200):
    found = 0
    for pid in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else []):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if folder + b"/token" in file.read():
                    os.kill(int(pid), signal.SIGKILL)
                    found += 1
        except OSError:
            pass
    shutil.rmtree(folder, ignore_errors=True)
    if not found and not os.path.lexists(folder):
        break
    time.sleep(0.1)
"""
_LONGEST = 20  # characters of a path in which Ray can still name its sockets, whose paths may have 107


class PrivateFolder:
    """A temporary folder that only this user may open, removed by `remove` or when this process is killed."""

    def __init__(self) -> None:
        place = tempfile.gettempdir()
        if len(place) > _LONGEST and os.path.isdir("/tmp"):
            place = "/tmp"
        self.path = Path(tempfile.mkdtemp(prefix="unmem-", dir=place))  # mode 0700
        self._cleaner = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CLEANER, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that neither Ctrl-C nor a signal to the whole group ends it too early
            cwd=place,
            env={},
        )

    def remove(self) -> None:
        if self._cleaner.stdin is not None:
            self._cleaner.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._cleaner.wait(10)


def forget_environment(before: Mapping[str, str]) -> None:
    """Give the environment variables that Ray sets, some of them when it is imported, the values that they had."""
    for name in {*os.environ, *before}:
        if name.startswith(("RAY_", "PYTHONBREAKPOINT")) and os.environ.get(name) != before.get(name):
            os.environ.pop(name, None)
            os.environ |= {name: before[name]} if name in before else {}


class OwnRay:
    """A Ray node of this run. Sets environment variables, which its processes inherit, until it is closed.

    before: the environment that comes back then.
    """

    def __init__(self, workers: int | None, before: Mapping[str, str]) -> None:
        self._folder = PrivateFolder()
        self._before = before
        try:
            self._start(workers)
        except BaseException:
            with uninterrupted(drop=True):
                self.close()
            raise

    def _start(self, workers: int | None) -> None:
        token = self._folder.path / "token"
        with os.fdopen(os.open(token, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        os.environ.pop("RAY_AUTH_TOKEN", None)  # would come before the file
        os.environ |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            # Ray replaces 127.0.0.1 by an address that others can reach, except where it is told to serve no cluster.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }
        _read_environment_again()
        inside = self._folder.path / "ray"
        inside.mkdir()  # Ray opens its folder to everybody; the one around it stays private
        context = connect_ray(
            "local",
            num_cpus=workers,
            include_dashboard=False,
            _node_ip_address=LOOPBACK,
            _temp_dir=str(inside),
        )
        found = context.address_info["node_ip_address"]
        if found != LOOPBACK or not _wants_token():
            problem = f"Ray listens on {found}, or wants no token: other users could run code in it"
            raise UserError("executor", "ray", problem, "use processes, or start a Ray cluster and set RAY_ADDRESS")

    def close(self) -> None:
        import ray

        ray.shutdown()
        forget_environment(self._before)
        _read_environment_again()
        self._folder.remove()


def connect_ray(*arguments: Any, **settings: Any) -> Any:
    """`ray.init` that leaves our handler of SIGTERM in place, and that is not interrupted: what it had started by then
    would stay."""
    import ray
    from ray._private import utils

    # Its handler would end the command without a message and with another code. Not in a thread, where Ray sets none:
    # Linux kills Ray's processes when the thread that started them ends.
    theirs, utils.set_sigterm_handler = utils.set_sigterm_handler, _set_none
    try:
        with uninterrupted(drop=False):
            return ray.init(*arguments, log_to_driver=False, logging_level=logging.ERROR, **settings)
    finally:
        utils.set_sigterm_handler = theirs


def _set_none(_: Any) -> None:
    """In place of what sets a handler of signals."""


def _read_environment_again() -> None:
    """Ray reads its settings once a process and keeps the token: make it look again, where it was imported before."""
    from ray._private import ray_constants
    from ray._raylet import AuthenticationTokenLoader, Config  # pyright: ignore

    reach: Any = os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    here = sys.platform not in ("darwin", "win32") if reach is None else reach.lower() in ("1", "true")
    ray_constants.ENABLE_RAY_CLUSTER = here  # pyright: ignore[reportPrivateImportUsage]
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _wants_token() -> bool:
    from ray._raylet import AuthenticationMode, get_authentication_mode  # pyright: ignore

    return bool(get_authentication_mode() == AuthenticationMode.TOKEN)


class OwnDask:
    """A Dask cluster of this run: a scheduler here, and workers as processes of this machine."""

    def __init__(self, workers: int) -> None:
        import dask.config
        from distributed import Client, LocalCluster, Security

        self._folder = PrivateFolder()
        self._open: list[Any] = []
        settings: dict[str, Any] = {
            "temporary-directory": str(self._folder.path),
            # No pages about the tasks, which anyone on this machine could read.
            "distributed.scheduler.http.routes": [],
            "distributed.worker.http.routes": [],
        }
        try:
            security = Security.temporary()
            with uninterrupted(drop=False), dask.config.set(settings):
                cluster = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    host=LOOPBACK,
                    protocol="tls://",
                    security=security,
                    dashboard_address=f"{LOOPBACK}:0",
                    scheduler_kwargs={"dashboard": False},
                    silence_logs=logging.ERROR,
                )
                self._open.append(cluster)
            self.client: Any = Client(cluster, security=security)
            self._open.append(self.client)
            self.client.register_plugin(_leave_interrupts(), name="unmem-interrupts")
        except BaseException:
            with uninterrupted(drop=True):
                self.close()
            raise

    def close(self) -> None:
        for cluster in self._open[:1]:
            cluster.sync(_kill_workers, cluster)
        for one in reversed(self._open):
            one.close()
        self._open.clear()
        self._folder.remove()


async def _kill_workers(cluster: Any) -> None:
    """An idle one has nothing to finish, and to end PyTorch well takes long; one at work is not waited for."""
    await asyncio.gather(*(one.close(timeout=1) for one in cluster.workers.values()), return_exceptions=True)


def _leave_interrupts() -> Any:
    """A plugin for workers: Ctrl-C reaches every process of a terminal, and the parent decides what ends."""
    from distributed import WorkerPlugin

    class LeaveInterrupts(WorkerPlugin):
        def setup(self, worker: Any) -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    return LeaveInterrupts()
