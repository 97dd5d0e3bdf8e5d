"""The unlearners by name, in the order in which they are listed, without RUM and Auto, which consist of others."""

from __future__ import annotations

from collections.abc import Callable

from unmem.unlearning.bad_teacher import BadTeacher
from unmem.unlearning.finetune import FineTune
from unmem.unlearning.influence import Influence
from unmem.unlearning.l1_sparse import L1Sparse
from unmem.unlearning.matching import Matching
from unmem.unlearning.neggrad import NegGrad
from unmem.unlearning.neggrad_plus import NegGradPlus
from unmem.unlearning.nothing import Nothing
from unmem.unlearning.random_label import RandomLabel
from unmem.unlearning.retrain import Retrain
from unmem.unlearning.salun import SalUn
from unmem.unlearning.scrub import SCRUB
from unmem.unlearning.ssd import SSD
from unmem.unlearning.unlearner import Unlearner

_KINDS = (
    *(Nothing, Retrain, FineTune, L1Sparse, NegGrad, NegGradPlus, SCRUB, RandomLabel, SalUn, Influence, BadTeacher),
    *(SSD, Matching),
)
METHODS: dict[str, Callable[..., Unlearner]] = {kind.name: kind for kind in _KINDS}
