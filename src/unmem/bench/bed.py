"""One original with its forget set: what every method of a job starts from and is measured by.

The forget set is fixed before any method runs, and all refinements are compared on it against the same retrained
models. One half of the members picks and refines the forget set, the other half judges single examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from unmem.bench.plan import Setup
from unmem.bench.scores import check_scores, scores_by_name
from unmem.bench.work import timed
from unmem.data import Ids, Splits
from unmem.ensembles import Ensemble
from unmem.errors import UserError
from unmem.evaluation import Evaluator, Outcome
from unmem.evaluation.attacks import attacks
from unmem.evaluation.log_odds import MemberLogOdds
from unmem.evaluation.single_model import Judge
from unmem.memorization import Scorer, Scores, crossfit, feldman
from unmem.recipe import Recipe
from unmem.targets import FromCrossFit, FromMembers, ShortTeacher, Source, Targets, TraceRecorder
from unmem.training import train
from unmem.unlearning import Problem

MEMORIZATION, SHUFFLE = "memorization", "shuffle"
RANDOM, FLIPPED = "random", "flipped"
GROUPS = ("low", "medium", "high")


@dataclass(frozen=True, kw_only=True)
class ForgetSet:
    """How a forget set is chosen.

    Attributes:
        by: "memorization" or the name of a score for equal groups of low, medium and high values; "random"; "flipped"
            for the labels that were flipped on purpose.
        size: Number of examples of each group, or of the random set.
    """

    by: str
    size: int = 0


@dataclass(frozen=True, eq=False)
class Bed:
    """The original, its forget set and everything that the methods share.

    Attributes:
        problem: The request.
        recipe: How the original was trained.
        scores: Scores that refine the forget set, by name.
        sources: Sources of targets, by name.
        retrained: Models retrained without the forget set.
        training: Seconds of one training.
        judges: The members that judge single examples.
        spent: Cost of each score and source, in trainings of the original.
    """

    problem: Problem
    recipe: Recipe
    scores: Mapping[str, Scores]
    sources: Mapping[str, Source]
    retrained: Sequence[nn.Module]
    training: float
    judges: Ensemble
    spent: Mapping[str, float]

    @classmethod
    def make(
        cls,
        setup: Setup,
        data: Splits,
        forget: ForgetSet,
        members: Ensemble,
        *,
        seed: int,
        scores: Sequence[str],
        retrained: int,
        folder: Path,
    ) -> Bed:
        """Train the original, choose the forget set and retrain without it.

        Args:
            setup: Data set and network.
            data: The data set.
            forget: How the forget set is chosen.
            members: The reference ensemble.
            seed: Seed of the original.
            scores: Scores to compute besides memorization and its shuffled control.
            retrained: Number of models to retrain.
            folder: Folder for the models of a cross-fit.
        """
        recipe = setup.recipe_of(seed)
        half = len(members) // 2
        pick, judges = members.members(range(half)), members.members(range(half, len(members)))
        memorization = replace(feldman(pick), name=MEMORIZATION)
        recorder, folds = TraceRecorder(data.holdout), crossfit(recipe, data.train, seed=seed + 1, folder=folder)
        scorer = Scorer(data, recipe=recipe, prepared=folds)
        check_scores(scorer, scores)
        original, training = timed(lambda: scorer.original([recorder]))
        training -= scorer.watched_seconds + recorder.seconds
        made, seconds = scores_by_name(scorer, scores, seed=seed)
        found = {MEMORIZATION: memorization, SHUFFLE: memorization.shuffled(seed=seed), **made}
        spent = {MEMORIZATION: FromMembers(pick).spent, SHUFFLE: 0.0}
        spent |= {name: 1.0 if name == "crossfit" else seconds[name] / training for name in made}
        ids = _chosen(forget, data, found, seed)
        problem = Problem(original, data, ids, recipe=recipe)
        models = [train(recipe, problem.retain, seed=10_000 + 100 * seed + k) for k in range(retrained)]
        sources: dict[str, Source] = {
            "teacher": ShortTeacher(),
            "trace": recorder.trace,
            "crossfit": FromCrossFit(folds),
            "members": FromMembers(pick),
        }
        spent |= {name: source.spent for name, source in sources.items()}
        return cls(problem, recipe, found, sources, models, training, judges, spent)

    @cached_property
    def groups(self) -> dict[str, Ids]:
        """The forget set by memorization, in three groups of equal size."""
        parts = self.scores[MEMORIZATION].parts(3, among=self.problem.forget.ids)
        return dict(zip(GROUPS, parts, strict=True))

    @cached_property
    def evaluator(self) -> Evaluator:
        """Measures models against the retrained ones."""
        return Evaluator(self.problem, reference=self.retrained, parts=self.groups)

    @cached_property
    def signals(self) -> MemberLogOdds:
        """The predictions of the judging members for the forget set and for unseen examples."""
        return MemberLogOdds.of(self.judges, self.problem.forget.ids)

    @cached_property
    def judge(self) -> Judge:
        """The single-model test."""
        return Judge.make(self.signals)

    @cached_property
    def forecast(self) -> Targets:
        """Targets of a short teacher: the forecast that every method is tuned towards."""
        return ShortTeacher()(self.problem, seed=self.recipe.seed)

    def tow(self, model: nn.Module) -> float:
        """Return ToW of a model; 0 if it is undefined."""
        return self.evaluator.outcome(model).tow or 0.0

    def measured(self, model: nn.Module) -> dict[str, Any]:
        """Return everything that is measured of a model, as plain values."""
        return _plain(self.evaluator.outcome(model)) | self.evidence(model)

    def evidence(self, model: nn.Module) -> dict[str, Any]:
        """Return the single-model test and the attacks, as plain values."""
        t = self.judge.t(self.signals.model_log_odds(model, self.problem.forget, self.problem.holdout))
        test = self.judge.test(t)
        found = attacks(model, self.problem, self.signals, seed=self.recipe.seed)
        return {
            "under": test.under.share,
            "over": test.over.share,
            "rms": test.rms,
            "auc": {name: one.auc for name, one in found.items()},
        }

    def control(self) -> dict[str, Any]:
        """Return what retrained models score against each other, the control of every row."""
        against = self.evaluator.retrain_vs_retrain
        if against is None:
            raise UserError("retrained", len(self.retrained), "must be 2 or more", "retrain two models")
        evidence = [self.evidence(model) for model in self.retrained]
        mean = {key: float(np.mean([one[key] for one in evidence])) for key in ("under", "over", "rms")}
        auc = {name: float(np.mean([one["auc"][name] for one in evidence])) for name in evidence[0]["auc"]}
        return _plain(against) | mean | {"auc": auc, "cost": 1.0, "total_cost": 1.0, "diverged": False}


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "tow": outcome.tow,
        "tow_mia": outcome.tow_mia,
        "accuracy": outcome.accuracy,
        "groups": {name: {"accuracy": part.accuracy, "tow": part.tow} for name, part in outcome.parts.items()},
    }


def _chosen(forget: ForgetSet, data: Splits, scores: Mapping[str, Scores], seed: int) -> Ids:
    if forget.by == RANDOM:
        return np.random.default_rng(seed).choice(data.train.ids, forget.size, replace=False)
    if forget.by == FLIPPED:
        if len(data.flipped) == 0:
            raise UserError("forget", FLIPPED, "no labels are flipped in these data", "add flip to the data")
        return data.flipped
    if forget.by not in scores:
        raise UserError("forget", forget.by, "is not among the scores", "add it to refine_by")
    middle = 0.5 if forget.by == MEMORIZATION else None
    return np.concatenate(list(scores[forget.by].groups(forget.size, middle=middle).values()))
