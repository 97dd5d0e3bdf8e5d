"""How memorized each example is: the scores, larger = more memorized."""

from unmem.memorization.events import EVENTS, LearningEvents
from unmem.memorization.scores import Scores, load_scores, save_scores

__all__ = ["EVENTS", "LearningEvents", "Scores", "load_scores", "save_scores"]
