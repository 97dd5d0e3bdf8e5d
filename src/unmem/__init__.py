"""unmem: score how memorized examples are, make a trained classifier forget some, and show what was forgotten."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from unmem.data import Examples, Splits, flip_labels, load, stratified_split
    from unmem.ensembles import Ensemble, complementary_masks, leave_out_masks, read_members, train_members
    from unmem.errors import DivergedError, UserError
    from unmem.evaluation import Audit, Evaluation, Evaluator, Outcome, audit, evaluate, klom, tug_of_war
    from unmem.memorization import (
        CrossFit,
        CurvatureTrace,
        LearningEvents,
        Scores,
        agreement,
        crossfit,
        curvature,
        feldman,
        holdout_retraining,
        influence_matrix,
        load_scores,
        out_of_sample,
        rank_average,
        reliability,
        save_scores,
        score,
    )
    from unmem.recipe import Recipe
    from unmem.report import Report
    from unmem.requests import find_copies
    from unmem.tables import Table
    from unmem.targets import FromCrossFit, FromMembers, ShortTeacher, Targets, Trace, TraceRecorder
    from unmem.tracking import LogTo
    from unmem.training import Observer, fit, predict, train
    from unmem.unlearning import (
        RUM,
        SCRUB,
        SSD,
        Auto,
        BadTeacher,
        FineTune,
        Influence,
        L1Sparse,
        Matching,
        NegGrad,
        NegGradPlus,
        Nothing,
        Problem,
        RandomLabel,
        Retrain,
        SalUn,
        Tuned,
        UnlearnedRequest,
        Unlearner,
        tune,
        unlearn_sequence,
    )

# Public name -> the room it lives in. Imported on first use, so that `unmem --help` need not load PyTorch.
_ROOMS = {
    "unmem.data": ("Examples", "Splits", "flip_labels", "load", "stratified_split"),
    "unmem.ensembles": ("Ensemble", "complementary_masks", "leave_out_masks", "read_members", "train_members"),
    "unmem.errors": ("DivergedError", "UserError"),
    "unmem.evaluation": ("Audit", "Evaluation", "Evaluator", "Outcome", "audit", "evaluate", "klom", "tug_of_war"),
    "unmem.memorization": (
        *("CrossFit", "CurvatureTrace", "LearningEvents", "Scores", "agreement", "crossfit", "curvature", "feldman"),
        *("holdout_retraining", "influence_matrix", "load_scores", "out_of_sample", "rank_average", "reliability"),
        *("save_scores", "score"),
    ),
    "unmem.recipe": ("Recipe",),
    "unmem.report": ("Report",),
    "unmem.requests": ("find_copies",),
    "unmem.tables": ("Table",),
    "unmem.targets": ("FromCrossFit", "FromMembers", "ShortTeacher", "Targets", "Trace", "TraceRecorder"),
    "unmem.tracking": ("LogTo",),
    "unmem.training": ("Observer", "fit", "predict", "train"),
    "unmem.unlearning": (
        *("RUM", "SCRUB", "SSD", "Auto", "BadTeacher", "Matching", "FineTune", "Influence", "L1Sparse", "NegGrad"),
        *("NegGradPlus", "Nothing", "Problem", "RandomLabel", "Retrain", "SalUn", "Tuned", "UnlearnedRequest"),
        *("Unlearner", "tune", "unlearn_sequence"),
    ),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [  # noqa: RUF022 (grouped by room, like the imports above)
    "Examples",
    "Splits",
    "flip_labels",
    "load",
    "stratified_split",
    "Ensemble",
    "complementary_masks",
    "leave_out_masks",
    "read_members",
    "train_members",
    "DivergedError",
    "UserError",
    "Audit",
    "Evaluation",
    "Evaluator",
    "Outcome",
    "audit",
    "evaluate",
    "klom",
    "tug_of_war",
    "CrossFit",
    "CurvatureTrace",
    "LearningEvents",
    "Scores",
    "agreement",
    "crossfit",
    "curvature",
    "feldman",
    "holdout_retraining",
    "influence_matrix",
    "load_scores",
    "out_of_sample",
    "rank_average",
    "reliability",
    "save_scores",
    "score",
    "Recipe",
    "Report",
    "find_copies",
    "Table",
    "FromCrossFit",
    "FromMembers",
    "ShortTeacher",
    "Targets",
    "Trace",
    "TraceRecorder",
    "LogTo",
    "Observer",
    "fit",
    "predict",
    "train",
    "RUM",
    "SCRUB",
    "SSD",
    "Auto",
    "BadTeacher",
    "Matching",
    "FineTune",
    "Influence",
    "L1Sparse",
    "NegGrad",
    "NegGradPlus",
    "Nothing",
    "Problem",
    "RandomLabel",
    "Retrain",
    "SalUn",
    "Tuned",
    "UnlearnedRequest",
    "Unlearner",
    "tune",
    "unlearn_sequence",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'unmem' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
