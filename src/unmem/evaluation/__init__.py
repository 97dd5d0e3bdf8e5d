"""What an unlearned model shows, each number beside its controls, and what that allows to say."""

from unmem.evaluation.attacks import Attack, attacks
from unmem.evaluation.audit import Audit, Evidence, Missing, audit
from unmem.evaluation.distance import prediction_distance
from unmem.evaluation.forecast import Forecast, forecast
from unmem.evaluation.klom import klom
from unmem.evaluation.lira import lira
from unmem.evaluation.membership import accuracy, called_unseen, correct, label_confidence
from unmem.evaluation.mismatch import Mismatch, chance, find_mismatch
from unmem.evaluation.outcome import Evaluation, Evaluator, Needed, Outcome, Part, evaluate
from unmem.evaluation.relearning import Relearning, relearn
from unmem.evaluation.rmia import rmia
from unmem.evaluation.scenarios import Scenario, mislabelled, poisoned, privacy
from unmem.evaluation.single_model import Judge, Side, SingleModelTest
from unmem.evaluation.tug_of_war import tug_of_war
from unmem.evaluation.verdict import Verdict

__all__ = [
    "Attack",
    "Audit",
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
    "Scenario",
    "Side",
    "SingleModelTest",
    "Verdict",
    "accuracy",
    "attacks",
    "audit",
    "called_unseen",
    "chance",
    "correct",
    "evaluate",
    "find_mismatch",
    "forecast",
    "klom",
    "label_confidence",
    "lira",
    "mislabelled",
    "poisoned",
    "prediction_distance",
    "privacy",
    "relearn",
    "rmia",
    "tug_of_war",
]
