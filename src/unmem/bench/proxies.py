"""Preset `proxies`: how faithful each score is to memorization, how the scores relate, and what each costs.

The reference is memorization estimated by members on random 70% of the training set. Every other score is computed for
several originals that differ by their seed. Agreement is measured on the training examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from unmem.bench.claims import Claim, above, below
from unmem.bench.kept import Kept
from unmem.bench.plan import Setup
from unmem.bench.rows import over_originals, row_of
from unmem.bench.scores import check_scores, scores_by_name
from unmem.bench.statistics import Estimate, estimate
from unmem.bench.work import Result, Work, timed
from unmem.data import Splits
from unmem.memorization import Scorer, Scores, agreement, feldman, load_scores, reliability, save_scores
from unmem.tables import Column, Row, Table

REFERENCE = "feldman"
MEASURES = ("spearman", "auroc", "overlap", "average_precision")
FAITHFUL = 0.6  # the lowest published Spearman correlation of a proxy is 0.62
CHEAP = 0.01  # share of the exact score's cost
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is compared.

    Attributes:
        setups: Data sets with their networks.
        scores: Names of scores, A+B for the mean of ranks, or FILE.py:NAME of a score of your own.
        seeds: Seeds of the originals.
        members: Number of members of the reference.
        halves: Number of members of the small ensemble behind the score `ensemble`.
        folds: Number of folds of the cross-fit.
        threshold: Examples with memorization above it count as memorized.
        published: By score, the lowest and the highest published Spearman correlation with memorization.
    """

    setups: Mapping[str, Setup]
    scores: Sequence[str]
    seeds: Sequence[int]
    members: int
    halves: int = 20
    folds: int = 2
    threshold: float = 0.25
    published: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])


def run(plan: Plan, work: Work) -> Result:
    """Compute all scores of every setup and compare them."""
    found = {name: _of_setup(name, setup, plan, work) for name, setup in plan.setups.items()}
    tables: dict[str, Table] = {}
    claims: list[Claim] = []
    for name, one in found.items():
        tables[f"{name}-fidelity"] = one.fidelity(plan)
        tables[f"{name}-correlations"] = one.correlations()
        tables[f"{name}-distributions"] = one.distributions()
        claims += one.claims(name, plan)
    return Result(tables, claims, data={name: one.to_dict() for name, one in found.items()})


@dataclass(frozen=True, eq=False)
class _Original:
    """The scores of one original: values, seconds per score, and seconds of its training."""

    scores: dict[str, Scores]
    seconds: dict[str, float]
    training: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class _Setup:
    """All that was computed for one setup."""

    reference: Scores
    ceiling: float
    members: int
    members_seconds: float
    originals: list[_Original]
    agreements: dict[str, list[dict[str, float | None]]]

    @property
    def names(self) -> list[str]:
        """The scores, from the most to the least faithful."""
        return sorted(self.agreements, key=lambda name: -(self.measured(name, "spearman") or _NONE).mean)

    def measured(self, name: str, measure: str) -> Estimate | None:
        """A measure of agreement of a score over the originals."""
        return estimate([one[measure] for one in self.agreements[name]])

    def cost(self, name: str) -> Estimate | None:
        """Cost of a score in trainings of the original."""
        return estimate(self.costs(name))

    def costs(self, name: str) -> list[float]:
        """The same of each original."""
        return [one.seconds[name] / one.training for one in self.originals]

    @property
    def exact_cost(self) -> float:
        """Cost of the reference in trainings of the original."""
        return self.members_seconds / float(np.mean([one.training for one in self.originals]))

    def fidelity(self, plan: Plan) -> Table:
        """A row per score: agreement with the reference, published values, cost."""
        columns = [
            Column("spearman", "Spearman", "decimals", better="higher", explained="rank correlation with memorization"),
            Column("auroc", f"AUROC, mem > {plan.threshold}", "decimals", better="higher"),
            Column("overlap", "top tenth", "decimals", better="higher", explained="share of the most memorized tenth"),
            Column("average_precision", "average precision", "decimals", better="higher", shown=False),
            Column("published", "published Spearman"),
            Column("cost", "cost", "number", unit="trainings", better="lower"),
            Column("cost_of_exact", "cost / exact", "percent", better="lower"),
        ]
        top = Row(
            "reliability of the reference",
            {"spearman": self.ceiling, "cost": self.exact_cost, "cost_of_exact": 1.0},
            kind="reference",
            explained=f"{self.members} members, split in halves",
        )
        rows = [_row(name, self, plan) for name in self.names]
        return Table(columns, [top, *rows], names="score", notes=[over_originals(len(self.originals))])

    def correlations(self) -> Table:
        """Spearman correlations among the scores, means over the originals."""
        names = [REFERENCE, *self.names]
        matrices = [_correlations([self.reference, *(one.scores[n] for n in self.names)]) for one in self.originals]
        mean = np.mean(matrices, axis=0)
        columns = [Column(name, name, "number") for name in names]
        rows = [Row(name, dict(zip(names, mean[k].tolist(), strict=True))) for k, name in enumerate(names)]
        return Table(columns, rows, names="score", notes=[over_originals(len(self.originals))])

    def distributions(self) -> Table:
        """Quantiles of each score, of the first original."""
        columns = [Column(f"q{q:g}", f"{q:.0%}", "short") for q in QUANTILES]
        scores = {REFERENCE: self.reference, **{name: self.originals[0].scores[name] for name in self.names}}
        rows = [
            Row(name, {f"q{q:g}": float(np.nanquantile(one.values, q)) for q in QUANTILES})
            for name, one in scores.items()
        ]
        return Table(columns, rows, names="score", notes=["Quantiles over the training examples."])

    def claims(self, setup: str, plan: Plan) -> list[Claim]:
        """Claims (a), proxies rank like memorization, and (d), they cost little."""
        found: list[Claim] = []
        for name in self.names:
            figure, cost = self.measured(name, "spearman"), self.cost(name)
            share = None if cost is None else estimate([one / self.exact_cost for one in cost.runs])
            found.append(
                Claim(
                    f"a: {setup}, {name}",
                    f"{name} ranks the examples like memorization (Spearman above {FAITHFUL})",
                    setup,
                    "Spearman with memorization",
                    figure,
                    above(figure, FAITHFUL),
                )
            )
            found.append(
                Claim(
                    f"d: {setup}, {name}",
                    f"{name} costs at most {CHEAP:.0%} of the exact score",
                    setup,
                    f"cost / cost of {plan.members} members",
                    share,
                    below(share, CHEAP),
                )
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "ceiling": self.ceiling,
            "exact_cost": self.exact_cost,
            "memorized": float((self.reference.values > 0.25).mean()),
            "training_seconds": [one.training for one in self.originals],
            "training_accuracy": [one.accuracy for one in self.originals],
            "scores": {
                name: {m: _plain(self.measured(name, m)) for m in MEASURES} | {"cost": _plain(self.cost(name))}
                for name in self.names
            },
        }


_NONE = Estimate(-1.0, -1.0, -1.0, ())


def _row(name: str, setup: _Setup, plan: Plan) -> Row:
    runs = {measure: [one[measure] for one in setup.agreements[name]] for measure in MEASURES}
    cost, published = setup.cost(name), plan.published.get(name)
    further = {
        "cost_of_exact": None if cost is None else cost.mean / setup.exact_cost,
        "published": "" if published is None else f"{published[0]:.2f} to {published[-1]:.2f}",
    }
    return row_of(name, {**runs, "cost": setup.costs(name)}, "", further=further)


def _plain(one: Estimate | None) -> dict[str, Any] | None:
    return None if one is None else one.to_dict()


def _correlations(scores: Sequence[Scores]) -> NDArray[np.float64]:
    """[K, K] Spearman correlations on the examples for which all scores have a value."""
    values = np.stack([one.of(scores[0].ids) for one in scores])
    known = ~np.isnan(values).any(axis=0)
    return np.corrcoef(np.asarray(rankdata(values[:, known], axis=1)))


def _of_setup(name: str, setup: Setup, plan: Plan, work: Work) -> _Setup:
    data = setup.data.load(device=work.device)
    members = work.members(setup, data, plan.members, name=name)
    reference = feldman(members)
    shared = _Shared(setup, data, plan, work.folder / name)
    jobs = work.run(f"{name}: originals", _job, shared, list(plan.seeds))
    originals = [_read(one) for one in jobs]
    agreements = {
        score: [_agreement(one.scores[score], reference, plan.threshold) for one in originals] for score in plan.scores
    }
    return _Setup(reference, reliability(members), len(members), float(sum(members.seconds)), originals, agreements)


def _agreement(score: Scores, reference: Scores, threshold: float) -> dict[str, float | None]:
    found = agreement(score, reference, threshold=threshold, resamples=1).to_dict()
    return {measure: None if found[measure] is None else found[measure]["value"] for measure in MEASURES}


@dataclass(frozen=True, eq=False)
class _Shared:
    setup: Setup
    data: Splits
    plan: Plan
    folder: Path


def _job(shared: _Shared, seed: int) -> dict[str, Any]:
    """Compute all scores of one original and write them to a file."""
    path = shared.folder / f"scores-{seed}.parquet"
    about = {"setup": asdict(shared.setup), "data": shared.data.train.fingerprint, "seed": seed} | {
        "scores": list(shared.plan.scores),
        "halves": shared.plan.halves,
        "folds": shared.plan.folds,
    }
    kept = Kept.open(path.with_suffix(".json"), about, {"facts": None})
    return kept.get("facts", lambda: _scored(shared, seed, path)) | {"file": str(path)}


def _scored(shared: _Shared, seed: int, path: Path) -> dict[str, Any]:
    from unmem.evaluation import accuracy

    recipe, data = shared.setup.recipe_of(seed), shared.data
    scorer = Scorer(data, recipe=recipe, members=shared.plan.halves, folds=shared.plan.folds)
    check_scores(scorer, shared.plan.scores)
    model, training = timed(scorer.original)
    scores, seconds = scores_by_name(scorer, shared.plan.scores, seed=seed)
    found = list(scores.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    save_scores(found, data.train.labels.cpu().numpy(), path)
    return {
        "seconds": seconds,
        "training": training - scorer.watched_seconds,
        "accuracy": accuracy(model, data.train),
        "names": [one.name for one in found],
    }


def _read(job: Mapping[str, Any]) -> _Original:
    scores = {name: load_scores(job["file"], name) for name in job["names"]}
    return _Original(scores, job["seconds"], job["training"], job["accuracy"])
