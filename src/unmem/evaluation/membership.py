"""Membership inference by a support-vector classifier: does the model treat the forget set like its training data?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from unmem.data import Examples, stratified_sample
from unmem.evaluation.logits import label_confidence
from unmem.interrupts import interruptible

MAX_EXAMPLES = 10_000  # on each side: the time grows with their square, and a single feature needs no more


def called_unseen(
    model: nn.Module, forget: Examples, retain: Examples, unseen: Examples, *, seed: int = 0
) -> NDArray[np.bool_]:
    """Return which forget examples the attack classifies as non-members of the training set, [len(forget)] bool.

    The attack of the papers (arXiv 2406.01257, after Fan et al. 2024) is a support-vector classifier with an RBF kernel
    (C = 3, gamma = 1). Its feature is the confidence of the model in the true label. It is trained on equally many
    retain examples (members) and unseen examples (non-members), at most `MAX_EXAMPLES` of each. Both sides are
    stratified samples that depend on the seed and the ids, not on the order of the rows. `unseen` must not contain
    examples on which utility is reported.
    """
    import sklearn.svm

    n = min(len(retain), len(unseen), MAX_EXAMPLES)
    members, outsiders = (stratified_sample(examples, n, seed=seed) for examples in (retain, unseen))
    both = [_sorted_confidence(model, examples) for examples in (members, outsiders)]
    support_vectors: Any = sklearn.svm.SVC  # its type annotation allows only strings for gamma
    attack = support_vectors(C=3.0, kernel="rbf", gamma=1.0)
    interruptible(lambda: attack.fit(np.concatenate(both)[:, None], np.repeat([True, False], n)))
    member: NDArray[np.bool_] = attack.predict(label_confidence(model, forget)[:, None])
    return ~member


def _sorted_confidence(model: nn.Module, examples: Examples) -> NDArray[np.float64]:
    by_id = examples.at(np.argsort(examples.ids, kind="stable"))
    return label_confidence(model, by_id)
