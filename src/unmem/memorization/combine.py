"""Combinations of scores by their ranks, which need no common scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unmem.errors import UserError
from unmem.memorization.scores import Scores


def rank_average(scores: Sequence[Scores], *, name: str | None = None) -> Scores:
    """Average the ranks of several scores, which need no common scale.

    Args:
        scores: Scores of the same examples; the order of the first is kept.
        name: Name of the new score. None joins their names by "+".

    Returns:
        Mean ranks scaled to (0, 1], larger = more memorized; NaN where any of the scores has no value.

    Raises:
        UserError: The scores are of different examples.
    """
    if len(scores) < 2:
        raise UserError("scores", [s.name for s in scores], "a combination needs two or more", "give more scores")
    from scipy.stats import rankdata

    ids = scores[0].ids
    columns = np.stack([s.of(ids) for s in scores])
    if any(len(s) != len(ids) for s in scores):
        raise UserError("scores", [s.name for s in scores], "are not of the same examples", "score the same set")
    defined = ~np.isnan(columns).any(axis=0)
    values = np.full(len(ids), np.nan)
    ranks = np.asarray(rankdata(columns[:, defined], axis=1))
    values[defined] = ranks.mean(axis=0) / max(1, int(defined.sum()))
    settings = {"combines": [s.name for s in scores], "settings": {s.name: s.settings for s in scores}}
    return Scores(name or "+".join(s.name for s in scores), ids, values, settings=settings)
