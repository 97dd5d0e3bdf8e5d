"""Evaluation of unlearned models: metrics with their controls, and verdicts."""

from unmem.evaluation.attacks import Attack, attacks
from unmem.evaluation.audit import Audit, Missing, audit
from unmem.evaluation.distance import prediction_distance
from unmem.evaluation.evaluate import Evaluator, evaluate
from unmem.evaluation.evidence import Evidence
from unmem.evaluation.forecast import Forecast, forecast
from unmem.evaluation.klom import klom
from unmem.evaluation.lira import lira
from unmem.evaluation.logits import accuracy, correct, label_confidence
from unmem.evaluation.membership import called_unseen
from unmem.evaluation.mismatch import Mismatch, chance, equally_confident, find_mismatch, find_order, find_scaling
from unmem.evaluation.outcome import Evaluation, Needed, Outcome, Part, aggregates_only
from unmem.evaluation.reasons import SMALLEST_CELL, TOO_FEW
from unmem.evaluation.relearning import Relearning, relearn
from unmem.evaluation.rmia import rmia
from unmem.evaluation.single_model import Judge, Side, SingleModelTest
from unmem.evaluation.soundness import (
    Comparison,
    Shortfall,
    Untrained,
    fold_shortfalls,
    member_shortfalls,
    model_shortfalls,
    retrained_shortfalls,
    shortfalls_of,
    untrained,
)
from unmem.evaluation.tug_of_war import tug_of_war
from unmem.evaluation.verdict import Verdict

__all__ = [
    "SMALLEST_CELL",
    "TOO_FEW",
    "Attack",
    "Audit",
    "Comparison",
    "Evaluation",
    "Evaluator",
    "Evidence",
    "Forecast",
    "Judge",
    "Mismatch",
    "Missing",
    "Needed",
    "Outcome",
    "Part",
    "Relearning",
    "Shortfall",
    "Side",
    "SingleModelTest",
    "Untrained",
    "Verdict",
    "accuracy",
    "aggregates_only",
    "attacks",
    "audit",
    "called_unseen",
    "chance",
    "correct",
    "equally_confident",
    "evaluate",
    "find_mismatch",
    "find_order",
    "find_scaling",
    "fold_shortfalls",
    "forecast",
    "klom",
    "label_confidence",
    "lira",
    "member_shortfalls",
    "model_shortfalls",
    "prediction_distance",
    "relearn",
    "retrained_shortfalls",
    "rmia",
    "shortfalls_of",
    "tug_of_war",
    "untrained",
]
