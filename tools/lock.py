"""Creates the lock files from pyproject.toml: `make lock`, or `make lock UPGRADE=1` for the newest versions.

locks/dev.txt        all dependencies of `.[dev]` and of the build except PyTorch, for every platform, with hashes
locks/torch.txt      PyTorch's default build (CUDA on Linux), and the packages that only this build needs
locks/torch-cpu.txt  the files of PyTorch's CPU build that were found here
locks/docs.txt       what `make docs` needs: the group `docs`, in an environment of its own

PyTorch is apart because its builds share a version but not their files or dependencies. The CPU build has an index of
its own, and a lock that named an index would fail where a mirror is used: so tools/install.sh looks for these files
wherever pip looks, and takes the build from PyTorch's own index where none of them is found.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "locks"
BUILD = ("hatchling>=1.26", "editables>=0.5")  # of unmem itself, without a download that no hash covers
OF_TORCH = re.compile(r"(torch|triton|nvidia-|cuda-)")
HEAD = "# Made by `make lock`, not by hand. {what}\n"


def main(upgrade: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv")
        extra = place / "build.in"
        extra.write_text("\n".join(BUILD))
        inputs = (str(ROOT / "pyproject.toml"), str(extra), "--extra", "dev")
        locks = [] if upgrade else [path for path in sorted(LOCKS.glob("*.txt")) if "cpu" not in path.name]
        known = "".join(path.read_text() for path in locks)
        blocks = entries(resolve(python, place / "all.txt", known, *inputs))
        docs = ("--group", f"{ROOT / 'pyproject.toml'}:docs")
        write("docs.txt", entries(resolve(python, place / "docs.txt", known, *docs)), "What `make docs` needs.")
        write("dev.txt", [one for one in blocks if not OF_TORCH.match(one)], "All but PyTorch.")
        write("torch.txt", [one for one in blocks if OF_TORCH.match(one)], "PyTorch as the package index has it.")
        version = next(one for one in blocks if one.startswith("torch==")).split()[0].removeprefix("torch==")
        lock_cpu(python, version, place)


def resolve(python: Path, found: Path, known: str, *inputs: str) -> str:
    """All that the inputs need, for every platform, with hashes; versions that are known are kept."""
    found.write_text(known)  # uv keeps the versions that it finds in the file it writes to
    # Not what this machine is set up with: neither its index nor its folders may enter the lock.
    options = ("--universal", "--generate-hashes", "--no-config", "--no-header", "--no-annotate", "--quiet")
    run(
        *(python, "-m", "uv", "pip", "compile", *options, *inputs),
        *("--python-version", "3.11", "--output-file", str(found)),
    )
    return found.read_text()


def lock_cpu(python: Path, version: str, place: Path) -> None:
    """The hashes of the files of this CPU build that pip finds, with those of other machines that are known already."""
    path, pin = LOCKS / "torch-cpu.txt", f"torch=={version}+cpu"
    known = (
        set(re.findall(r"sha256:[0-9a-f]{64}", path.read_text()))
        if path.exists() and pin in path.read_text()
        else set()
    )
    command = (
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--dest",
        str(place),
        pin,
    )
    if run(python, *command, check=False) == 0:
        known |= {f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}" for file in place.glob("torch-*.whl")}
    if not known:
        sys.exit(f"{pin} was not found, so {path} stays as it was")
    lines = " \\\n".join([pin, *(f"    --hash={one}" for one in sorted(known))])
    write(path.name, [f"{lines}\n"], "PyTorch's CPU build.")


def entries(text: str) -> list[str]:
    """Each package with its hashes."""
    return re.findall(r"^[A-Za-z0-9].*\n(?:    .*\n)*", text, re.MULTILINE)


def write(name: str, blocks: list[str], what: str) -> None:
    LOCKS.mkdir(exist_ok=True)
    (LOCKS / name).write_text(HEAD.format(what=what) + "".join(blocks))


def run(*command: str | Path, check: bool = True) -> int:
    # uv would also take an index or a folder of files from the environment.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    return subprocess.run([str(part) for part in command], env=environment, check=check).returncode


if __name__ == "__main__":
    main(upgrade="--upgrade" in sys.argv)
