"""Making a model forget: the problem, and one unlearner a file."""

from unmem.unlearning.auto import Auto, Choice, Option, best_source, choose
from unmem.unlearning.bad_teacher import BadTeacher
from unmem.unlearning.continual import UnlearnedRequest, unlearn_sequence
from unmem.unlearning.finetune import FineTune
from unmem.unlearning.influence import Influence
from unmem.unlearning.l1_sparse import L1Sparse
from unmem.unlearning.matching import Matching
from unmem.unlearning.neggrad import NegGrad
from unmem.unlearning.neggrad_plus import NegGradPlus
from unmem.unlearning.nothing import Nothing
from unmem.unlearning.problem import Problem, model_flags
from unmem.unlearning.random_label import RandomLabel
from unmem.unlearning.retrain import Retrain, retrain_all
from unmem.unlearning.rum import RUM
from unmem.unlearning.salun import SalUn
from unmem.unlearning.scrub import SCRUB
from unmem.unlearning.ssd import SSD
from unmem.unlearning.tune import Trial, Tuned, tune
from unmem.unlearning.unlearner import GradientUnlearner, Setting, Unlearner, settings_of

__all__ = [
    "RUM",
    "SCRUB",
    "SSD",
    "Auto",
    "BadTeacher",
    "Choice",
    "FineTune",
    "GradientUnlearner",
    "Influence",
    "L1Sparse",
    "Matching",
    "NegGrad",
    "NegGradPlus",
    "Nothing",
    "Option",
    "Problem",
    "RandomLabel",
    "Retrain",
    "SalUn",
    "Setting",
    "Trial",
    "Tuned",
    "UnlearnedRequest",
    "Unlearner",
    "best_source",
    "choose",
    "model_flags",
    "retrain_all",
    "settings_of",
    "tune",
    "unlearn_sequence",
]
