"""Membership inference: does the model still treat the forget set like data it was trained on?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from unmem.data import Examples, stratified_sample
from unmem.evaluation.answers import label_confidence
from unmem.interrupts import interruptible

MOST = 10_000  # examples on either side of the attack: it has one feature, and its time grows with their square


def called_unseen(
    model: nn.Module, forget: Examples, retain: Examples, unseen: Examples, *, seed: int = 0
) -> NDArray[np.bool_]:
    """Which forget examples the attack calls non-members of the training set: [len(forget)] booleans.

    The attack of the papers (arXiv 2406.01257, after Fan et al. 2024): a support-vector classifier with an RBF kernel
    (C = 3, gamma = 1) on the confidence of the true label, trained on the model itself with equally many retain
    examples (members) and unseen ones (non-members), `MOST` of each at most. Both sides are stratified, seeded samples
    that depend on ids and not on the order of the rows. `unseen` must be apart from the examples that utility is
    reported on.
    """
    import sklearn.svm

    n = min(len(retain), len(unseen), MOST)
    members, outsiders = (stratified_sample(examples, n, seed=seed) for examples in (retain, unseen))
    both = [_sorted_confidence(model, examples) for examples in (members, outsiders)]
    support_vectors: Any = sklearn.svm.SVC  # annotated there as if gamma were only text
    attack = support_vectors(C=3.0, kernel="rbf", gamma=1.0)
    interruptible(lambda: attack.fit(np.concatenate(both)[:, None], np.repeat([True, False], n)))
    member: NDArray[np.bool_] = attack.predict(label_confidence(model, forget)[:, None])
    return ~member


def _sorted_confidence(model: nn.Module, examples: Examples) -> NDArray[np.float64]:
    by_id = examples.at(np.argsort(examples.ids, kind="stable"))
    return label_confidence(model, by_id)
