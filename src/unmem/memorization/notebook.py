"""A score as a notebook shows it: how many examples, how their values are spread, and no id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unmem.html import histogram, page, paragraph, table

if TYPE_CHECKING:
    from unmem.memorization.scores import Scores

USUAL_BINS, MOST_BINS = 32, 45
QUANTILES = {"lowest": 0.0, "5%": 0.05, "25%": 0.25, "median": 0.5, "75%": 0.75, "95%": 0.95, "highest": 1.0}


def scores_html(scores: Scores) -> str:
    defined = scores.values[~np.isnan(scores.values)]
    title = f"{scores.name}: {len(scores):,} examples"
    missing = len(scores) - len(defined)
    said = [paragraph(f"{missing:,} of them have no value.")] if missing else []
    if not len(defined):
        return page(title, *said)
    counts, edges = np.histogram(defined, bins=bin_edges(defined))
    rows = [("", "value", [f"{value:.3g}" for value in np.quantile(defined, list(QUANTILES.values()))])]
    if scores.error is not None:
        errors = np.quantile(scores.error[~np.isnan(scores.error)], list(QUANTILES.values()))
        rows.append(("", "standard error", [f"{value:.2g}" for value in errors]))
    return page(
        title,
        *said,
        histogram(counts.astype(np.int64), edges, what=f"Histogram of the score {scores.name}"),
        table(list(QUANTILES), rows),
        paragraph("Larger = more memorized. Height: number of examples, log scale.", small=True),
    )


def bin_edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Equal bins; one per value where a score takes few evenly spaced values, such as a share of epochs."""
    distinct = np.unique(values.round(9))
    if len(distinct) == 1:
        return np.histogram_bin_edges(values, bins=1)
    steps = round(float((distinct[-1] - distinct[0]) / np.diff(distinct).min()))
    return np.histogram_bin_edges(values, bins=steps + 1 if steps < MOST_BINS else USUAL_BINS)
