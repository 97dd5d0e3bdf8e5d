"""The reference: models that are retrained without the forget set, or were retrained by an earlier run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from unmem.cli import kept
from unmem.cli.console import stage, warn
from unmem.cli.options import folders_of
from unmem.cli.session import Session
from unmem.store import RunFolder
from unmem.unlearning import Problem, Retrain, retrain_all


def retrain(
    session: Session, problem: Problem, count: int, *, folder: RunFolder | None = None, near: Sequence[Path | None] = ()
) -> tuple[list[nn.Module], list[float]]:
    """Retrain models without the forget set, or reuse those that an earlier run left.

    Args:
        session: The command; the models have the seeds that follow its own.
        problem: The request.
        count: How many models.
        folder: Run folder to save the models in, so that later runs can use them.
        near: Model files that an earlier run may have left retrained models next to.

    Returns:
        The models, and the seconds that each training took.
    """
    seeds = range(session.run.seed + 1, session.run.seed + count + 1)
    places = [session.work, None if folder is None else folder.path]
    places += [place for file in near if file is not None for place in folders_of(file)]
    found = kept.find(problem, seeds, [place for place in places if place is not None])
    if found:
        warn(f"{len(found):,} of {count:,} retrained models were there already")
    missing = [one for one in seeds if one not in found]
    found |= _retrained(session, problem, missing, at={one: k for k, one in enumerate(seeds, 1)})
    found = {one: found[one] for one in seeds}
    if folder is not None:
        kept.save(folder, problem, found)
    return [model for model, _ in found.values()], [seconds for _, seconds in found.values()]


def _retrained(session: Session, problem: Problem, seeds: Sequence[int], *, at: Mapping[int, int]) -> kept.Found:
    """at: the number of each seed among all of them."""
    if session.run.executor != "serial" and len(seeds) > 1:
        with stage(f"Retrain from scratch without them, {len(seeds)} models") as bar:
            made = retrain_all(
                problem, seeds, executor=session.run.executor, workers=session.run.workers, on_model=bar.on_member
            )
        return dict(zip(seeds, zip(*made, strict=True), strict=True))
    found: kept.Found = {}
    for one in seeds:
        with stage(f"Retrain from scratch without them, {at[one]} of {len(at)}") as bar:
            model = Retrain()(problem, seed=one, observers=session.logged(f"retrained-{at[one]}", bar))
        found[one] = model, bar.seconds
        if session.work is not None:
            kept.keep_retrained(session.work, problem, one, *found[one])
    return found
