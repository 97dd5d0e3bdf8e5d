"""The scores of a plan for one original: those of unmem and those of a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from unmem.bench.own import is_own, own_score
from unmem.bench.work import timed
from unmem.memorization import Scorer, Scores


def check_scores(scorer: Scorer, names: Sequence[str]) -> None:
    """Refuse unknown scores before the original is trained; own scores are checked when they are computed."""
    scorer.check(*(name for name in names if not is_own(name)))


def scores_by_name(scorer: Scorer, names: Sequence[str], *, seed: int) -> tuple[dict[str, Scores], dict[str, float]]:
    """Return the scores and the seconds that each took, by name.

    Args:
        scorer: Gives the scores of unmem; its original is the model of own scores.
        names: Names of scores, or FILE.py:NAME.
        seed: Seed of own scores.
    """
    found: dict[str, Scores] = {}
    seconds: dict[str, float] = {}
    for name in names:
        if is_own(name):
            own = partial(own_score, name, scorer.original(), scorer.data, recipe=scorer.recipe, seed=seed)
            found[name], seconds[name] = timed(own)
        else:
            found[name] = scorer.get(name)
            seconds[name] = scorer.seconds[name]
    return found, seconds
