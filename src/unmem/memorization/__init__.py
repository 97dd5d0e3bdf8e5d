"""How memorized each example is: the scores, larger = more memorized."""

from unmem.memorization.agreement import Agreement, Interval, agreement
from unmem.memorization.by_name import FROM_MODEL, SCORES, Scorer, check_names, score
from unmem.memorization.combine import rank_average
from unmem.memorization.crossfit import CrossFit, crossfit, out_of_sample
from unmem.memorization.curvature import CurvatureTrace, curvature
from unmem.memorization.events import EVENTS, PAPER_EVENTS, LearningEvents
from unmem.memorization.feldman import feldman, influence_matrix, reliability
from unmem.memorization.holdout import holdout_retraining
from unmem.memorization.opposed import Opposed, opposed
from unmem.memorization.scores import Scores, load_scores, save_scores

__all__ = [
    "EVENTS",
    "FROM_MODEL",
    "PAPER_EVENTS",
    "SCORES",
    "Agreement",
    "CrossFit",
    "CurvatureTrace",
    "Interval",
    "LearningEvents",
    "Opposed",
    "Scorer",
    "Scores",
    "agreement",
    "check_names",
    "crossfit",
    "curvature",
    "feldman",
    "holdout_retraining",
    "influence_matrix",
    "load_scores",
    "opposed",
    "out_of_sample",
    "rank_average",
    "reliability",
    "save_scores",
    "score",
]
