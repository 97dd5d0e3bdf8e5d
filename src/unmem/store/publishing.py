"""Putting a run in place of another in one step: whoever looks sees the old run, the new one, or none.

One rename cannot move several files, but it can move what they all point to. As Kubernetes does for the files of a
ConfigMap, each file of the run becomes, for a moment, a link through the link `.run`:

1. The old files are kept in a folder of their own, `.run` points to it, and each file is replaced by a link through it.
2. `.run` is made to point to the new files. This rename is the commit point.
3. Each link is replaced by the file that it leads to, and what is left over is removed.

After a crash `settle` does step 3 for the side that `.run` points to.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from unmem.store.files import sync_folder

RUN = ".run"
ASIDE = ".previous-"
_NEXT = ".next-"
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


def files_below(folder: Path, names: Iterable[str]) -> list[str]:
    """Paths, from `folder`, of the files that these names stand for: themselves, or all files of a folder."""
    found: list[str] = []
    for name in names:
        place = folder / name
        if place.is_dir() and not place.is_symlink():
            inner = [path for path in sorted(place.rglob("*")) if path.is_symlink() or not path.is_dir()]
            found += [str(path.relative_to(folder)) for path in inner]
        elif os.path.lexists(place):
            found.append(name)
    return found


def publish(new: Path, folder: Path, old: list[str], within: Sequence[str]) -> None:
    """Put the files below `new`, a folder in `folder`, in the place of `old`, and remove `new`.

    Args:
        new: Its files are on disk already.
        folder: Where the run goes.
        old: Paths of the files of the old run, from `folder`.
        within: Names of the folders that a run may have.

    Raises:
        OSError: Nothing has changed: the old run is there.
    """
    fresh = files_below(new, sorted(path.name for path in new.iterdir()))
    try:
        if old:
            _make_link(_set_aside(folder, old).name, folder / RUN)
        for name in sorted({*old, *fresh}):
            _make_folders(folder, new, name)
            _make_link(os.path.join(*[".."] * name.count(os.sep), RUN, name), folder / name)
        sync_folder(folder)
        _make_link(new.name, folder / RUN)
    except BaseException:
        with suppress(OSError):
            settle(folder, within)
        raise
    sync_folder(folder)
    for _ in range(2):  # it is published; where the disk fails here, whoever uses the folder next goes on
        with suppress(OSError):
            settle(folder, within)


def settle(folder: Path, within: Sequence[str]) -> None:
    """End what a stopped `publish` began: links become files, and what `.run` does not point to is removed."""
    run = folder / RUN
    target = folder / os.readlink(run) if run.is_symlink() else None
    for link in _links(folder, within):
        real = None if target is None else target / link.relative_to(folder)
        if real is not None and os.path.lexists(real):
            real.replace(link)
        else:
            link.unlink()
            _remove_empty(link.parent, folder)
    sync_folder(folder)
    if target is not None:
        run.unlink()
        shutil.rmtree(target, ignore_errors=True)
    for left in [*folder.glob(f"{ASIDE}*"), *folder.glob(f"{_NEXT}*")]:
        left.unlink() if left.is_symlink() else shutil.rmtree(left, ignore_errors=True)


def publish_plainly(new: Path, folder: Path, old: list[str], last: str) -> None:
    """The same where there are no links: a crash in between leaves files without `last`, the sign of a whole run."""
    fresh = files_below(new, sorted(path.name for path in new.iterdir()))
    for name in sorted(old, key=lambda name: name != last):
        (folder / name).unlink()
        _remove_empty((folder / name).parent, folder)
    for name in sorted(fresh, key=lambda name: name == last):
        _make_folders(folder, new, name)
        (new / name).replace(folder / name)
    shutil.rmtree(new, ignore_errors=True)


def has_links(folder: Path) -> bool:
    """Whether the disk of a folder has links of the kind that `publish` needs.

    Raises:
        OSError: It takes nothing at all.
    """
    try:
        _make_link(RUN, folder / f"{_NEXT}probe")
        (folder / f"{_NEXT}probe").unlink()
    except NotImplementedError:
        return False
    except OSError as error:
        if error.errno in _NO_LINKS or sys.platform == "win32":
            return False
        raise
    return True


def _links(folder: Path, within: Sequence[str]) -> list[Path]:
    """Links through `.run`: in the folder itself, and anywhere in those of its folders that belong to a run."""
    inner = (path for name in within for path in (folder / name).rglob("*"))
    return [p for p in sorted((*folder.iterdir(), *inner)) if p.is_symlink() and RUN in Path(os.readlink(p)).parts]


def _set_aside(folder: Path, old: list[str]) -> Path:
    """A folder with the same files under second names, or copies where a disk has no hard links."""
    aside = Path(tempfile.mkdtemp(dir=folder, prefix=ASIDE))
    for name in old:
        file, kept = folder / name, aside / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        if file.is_symlink():  # of the user's; from here a relative one would lead elsewhere
            kept.symlink_to(os.path.join(os.path.abspath(folder), os.readlink(file)))
            continue
        try:
            os.link(file, kept)
        except OSError:
            shutil.copy2(file, kept)
    return aside


def _make_link(target: str, place: Path) -> None:
    """A symbolic link, in place of what has that name."""
    base = place.parent / f"{_NEXT}{os.getpid()}"
    base.unlink(missing_ok=True)
    base.symlink_to(target)
    base.replace(place)


def _make_folders(folder: Path, new: Path, name: str) -> None:
    """The folders that a file needs, with the modes of those that it comes from."""
    for part in reversed(Path(name).parents[:-1]):
        if not (folder / part).is_dir():
            (folder / part).mkdir(mode=(new / part).stat().st_mode & 0o777)


def _remove_empty(place: Path, folder: Path) -> None:
    while place != folder:
        try:
            place.rmdir()
        except OSError:
            return
        place = place.parent
