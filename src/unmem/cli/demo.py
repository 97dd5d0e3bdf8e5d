"""`unmem demo`: the whole of unmem in one minute, on the digits that come with scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from unmem.cli.options import Flag


def demo(
    *,
    out: Annotated[Path | None, Parameter(group=Group("Output"))] = None,
    seed: Annotated[int, Parameter(group=Group("Output"))] = 0,
    force: Annotated[Flag, Parameter(group=Group("Output"))] = False,
) -> None:
    """Watch a model learn, forget 90 examples in five ways, and see how close each comes to retraining.

    Uses 1,797 scanned digits that come with scikit-learn; takes under a minute and downloads nothing.

    Parameters
    ----------
    out
        Run folder to make. Default: runs/demo, or the first of runs/demo-2, runs/demo-3, … that is free.
    seed
        Seed of everything that is random.
    force
        Replace the run in that folder, if there is one.
    """
    from unmem.cli.demonstration import run_demo

    run_demo(out, seed=seed, force=force)
