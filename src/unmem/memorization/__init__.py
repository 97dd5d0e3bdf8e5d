"""How memorized each example is: the scores, larger = more memorized."""

from unmem.memorization.events import EVENTS, PAPER_EVENTS, LearningEvents
from unmem.memorization.scores import Scores, load_scores, save_scores

__all__ = ["EVENTS", "PAPER_EVENTS", "LearningEvents", "Scores", "load_scores", "save_scores"]
