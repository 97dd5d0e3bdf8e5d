"""Compare unlearned models with models that were retrained without the forget set, here or by an earlier run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from unmem.cli import kept
from unmem.cli.console import stage, warn
from unmem.cli.options import folders_of
from unmem.cli.original import Original
from unmem.cli.session import Session
from unmem.data import Ids
from unmem.evaluation import Evaluation, Needed, aggregates_only, evaluate
from unmem.memorization import Scores
from unmem.store import RunFolder
from unmem.unlearning import Problem, Retrain, retrain_all


@dataclass(frozen=True, eq=False)
class Unlearned:
    """A model that forgot the request, the seconds that its method took, and what else the method needed."""

    model: nn.Module
    seconds: float
    needed: Needed


@dataclass(frozen=True, eq=False)
class Retrained:
    """Models that were trained without the forget set, and the seconds that each training took."""

    models: Sequence[nn.Module] = ()
    seconds: Sequence[float] = ()


def compare(
    original: Original,
    problem: Problem,
    methods: Mapping[str, Unlearned],
    retrained: Retrained,
    groups: Mapping[str, Ids] | None = None,
) -> Evaluation:
    """Compare the model of each method with the original and the retrained models. groups: of memorization, by name."""
    found = evaluate(
        {name: one.model for name, one in methods.items()},
        problem,
        reference=retrained.models,
        parts=groups,
        seconds={name: one.seconds for name, one in methods.items()},
        reference_seconds=retrained.seconds,
        training_seconds=original.seconds,
        needed={name: one.needed for name, one in methods.items()},
    )
    return aggregates_only(found, len(problem.forget))


def groups_of(scores: Scores | None, ids: Ids) -> dict[str, Ids]:
    """The memorization groups of a request, by name; none without scores, and none of fewer than three examples."""
    if scores is None or len(ids) < 3:
        return {}
    return dict(zip(("low", "medium", "high"), scores.parts(3, among=ids), strict=True))


def retrain(
    session: Session, problem: Problem, count: int, *, folder: RunFolder | None = None, near: Sequence[Path | None] = ()
) -> Retrained:
    """Retrain models with the seeds that follow the session's, or reuse those that an earlier run left.

    folder: the run folder to save them in, for later runs. near: model files that retrained models may be next to.
    """
    seeds = range(session.run.seed + 1, session.run.seed + count + 1)
    places = [session.work, None if folder is None else folder.path]
    places += [place for file in near if file is not None for place in folders_of(file)]
    found = kept.find(problem, seeds, [place for place in places if place is not None])
    if found:
        warn(f"{len(found):,} of {count:,} retrained models were there already")
    found |= _retrained(session, problem, [one for one in seeds if one not in found], count)
    found = {one: found[one] for one in seeds}
    if folder is not None:
        kept.save(folder, problem, found)
    return Retrained([model for model, _ in found.values()], [seconds for _, seconds in found.values()])


def _retrained(session: Session, problem: Problem, seeds: Sequence[int], count: int) -> kept.Found:
    run = session.run
    if run.executor != "serial" and len(seeds) > 1:
        with stage(f"Retrain from scratch without them, {len(seeds)} models") as bar:
            made = retrain_all(problem, seeds, executor=run.executor, workers=run.workers, on_model=bar.on_member)
        return dict(zip(seeds, zip(*made, strict=True), strict=True))
    found: kept.Found = {}
    for one in seeds:
        number = one - run.seed
        with stage(f"Retrain from scratch without them, {number} of {count}") as bar:
            model = Retrain()(problem, seed=one, observers=session.logged(f"retrained-{number}", bar))
        found[one] = model, bar.seconds
        if session.work is not None:
            kept.keep_retrained(session.work, problem, one, *found[one])
    return found
