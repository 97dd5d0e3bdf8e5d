"""What an unlearned model shows: accuracies, ToW, ToW-MIA, each beside its controls."""

from unmem.evaluation.membership import accuracy, called_unseen, correct, label_confidence
from unmem.evaluation.outcome import Evaluation, Evaluator, Outcome, Part, evaluate
from unmem.evaluation.tug_of_war import tug_of_war

__all__ = [
    "Evaluation",
    "Evaluator",
    "Outcome",
    "Part",
    "accuracy",
    "called_unseen",
    "correct",
    "evaluate",
    "label_confidence",
    "tug_of_war",
]
