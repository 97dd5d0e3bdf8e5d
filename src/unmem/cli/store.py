"""`unmem store`: the members that `unmem score` and `unmem prepare` keep in a folder."""

from __future__ import annotations

import shlex
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from unmem.cli.options import Flag
from unmem.tables import Column, Row, Table

if TYPE_CHECKING:
    from unmem.ensembles.files import Member

DAMAGED = 1  # exit code
_COLUMNS = (
    Column("members", "members", "count"),
    Column("megabytes", "MB", "tenths"),
    Column("seconds", "seconds each", "tenths"),
)
HOUR = 3600

store = App(name="store", help="List, check and tidy the members that unmem score and unmem prepare keep.")
_Folder = Annotated[Path, Parameter(help="Folder of the members, such as runs/scores/members.")]


@store.command(help_epilogue="Example: unmem store ls runs/scores/members")
def ls(folder: _Folder, /) -> None:
    """Show which members a folder holds: how many of each recipe and data, their size and what they took."""
    from unmem.cli.console import console, warn
    from unmem.cli.fitting import Fitted

    rows: list[Row] = []
    whole, damaged = _found(folder)
    groups: dict[tuple[tuple[str, str], ...], list[Member]] = defaultdict(list)
    for member in whole:
        groups[_made_by(member)].append(member)
    shared = set.intersection(*(set(made_by) for made_by in groups)) if len(groups) > 1 else set[Any]()
    for made_by, members in groups.items():
        size = sum(path.stat().st_size for member in members for path in _files(member)) / 1e6
        mean = sum(float(member.arrays["seconds"]) for member in members) / len(members)
        shown = [f"{name} {value}" for name, value in made_by if (name, value) not in shared]
        rows.append(Row(", ".join(shown), {"members": len(members), "megabytes": size, "seconds": mean}))
    console.print(Fitted.of(Table(_COLUMNS, rows, names="made with")))
    if damaged:
        warn(f"{len(damaged):,} more are damaged: unmem store verify {shlex.quote(str(folder))}")


@store.command(help_epilogue="Example: unmem store verify runs/scores/members")
def verify(folder: _Folder, /) -> int:
    """Read every member and compare it with its checksum; exit with 1 if one is damaged."""
    from unmem.cli.console import console

    whole, damaged = _found(folder)
    for member in damaged:
        console.item("damaged", f"{member.path.name}: {member.problem}", style="red")
    console.print(f"  {len(whole):,} members are whole, {len(damaged):,} are damaged.")
    if damaged:
        console.print("  The command that made them trains the damaged ones again; unmem store gc removes them.")
    return DAMAGED if damaged else 0


@store.command(help_epilogue="Example: unmem store gc runs/scores/members")
def gc(folder: _Folder, /, *, dry_run: Flag = False) -> None:
    """Remove damaged members and what stopped runs left behind; whole members stay.

    Temporary files younger than an hour stay too: a run may be writing them.

    Parameters
    ----------
    dry_run
        Only say what would go.
    """
    from unmem.cli.console import console
    from unmem.ensembles.files import leftovers_in, weights_of
    from unmem.errors import UserError

    _, damaged = _found(folder)
    old = [path for path in leftovers_in(folder) if time.time() - path.stat().st_mtime > HOUR]
    gone = [*(member.path for member in damaged), *(weights_of(member.path) for member in damaged), *old]
    gone = [path for path in dict.fromkeys(gone) if path.exists() and not path.is_dir()]
    size = sum(path.stat().st_size for path in gone) / 1e6
    for path in gone:
        if not dry_run:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                fix = "remove it yourself, if it is not needed"
                raise UserError(
                    "folder", str(folder), f"{path.name} cannot be removed ({error.strerror})", fix
                ) from error
        console.print(f"  {'would remove' if dry_run else 'removed'}  {path.name}", soft_wrap=True)
    console.print(f"  {len(gone):,} files, {size:,.1f} MB.")


def _found(folder: Path) -> tuple[list[Member], list[Member]]:
    """Whole and damaged members. Raises `UserError` if there are none at all."""
    from unmem.ensembles.files import leftovers_in, members_in
    from unmem.errors import UserError

    found = list(members_in(folder))
    if not found and not leftovers_in(folder):
        raise UserError("folder", str(folder), "holds no members", "name the folder that --work or --out/members named")
    return [one for one in found if one.problem is None], [one for one in found if one.problem is not None]


def _made_by(member: Member) -> tuple[tuple[str, str], ...]:
    """What a member has in common with others of its ensemble."""
    about: dict[str, Any] = member.about
    recipe = {key: value for key, value in about["recipe"].items() if key != "seed"}
    flat = recipe | about["versions"] | {"data": about["data"][:8], "device": about["device"]}
    return tuple((name, str(value)) for name, value in flat.items() if value != "")


def _files(member: Member) -> list[Path]:
    from unmem.ensembles.files import weights_of

    return [path for path in (member.path, weights_of(member.path)) if path.exists()]
