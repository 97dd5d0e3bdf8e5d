"""Making a model forget: the problem, and one unlearner a file."""

from unmem.unlearning.finetune import FineTune
from unmem.unlearning.neggrad_plus import NegGradPlus
from unmem.unlearning.nothing import Nothing
from unmem.unlearning.problem import Problem
from unmem.unlearning.retrain import Retrain
from unmem.unlearning.rum import RUM
from unmem.unlearning.unlearner import GradientUnlearner, Unlearner, recompute_batchnorm, settings_of

__all__ = [
    "RUM",
    "FineTune",
    "GradientUnlearner",
    "NegGradPlus",
    "Nothing",
    "Problem",
    "Retrain",
    "Unlearner",
    "recompute_batchnorm",
    "settings_of",
]
