"""Controls: what models say of every class of examples that none of them was trained on.

An example that must be forgotten may carry a wrong label, or lie where models are unsure. Unseen examples with their
own labels hardly ever do, but their *other* classes do: "how likely is this image a 7?" is a question about a wrong
label whenever it shows a 3. So each unseen example asks one question per class, and these pairs of example and class
cover the range of log-odds in which forget examples lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmem.data import Examples
from unmem.predictions import label_log_odds
from unmem.training import LOGITS

EXAMPLES = 2_000  # at most so many unseen examples, and so many classes of each: a member stays small on any data set
CLASSES = 32


@dataclass(frozen=True, eq=False)
class Pairs:
    """Unseen examples and classes that are asked about.

    Attributes:
        rows: [P] int64, positions in the unseen set.
        classes: [P] int64.
    """

    rows: NDArray[np.int64]
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def asked(self, unseen: Examples) -> tuple[Examples, Pairs]:
        """The unseen examples that some pair asks about, and the same pairs with positions among these."""
        rows, places = np.unique(self.rows, return_inverse=True)
        if len(rows) == len(unseen):
            return unseen, self
        return unseen.at(rows), Pairs(places.astype(np.int64), self.classes)

    def log_odds(self, logits: Tensor) -> NDArray[np.float64]:
        """log p_c − log(1 − p_c) of each pair, [P] float64, from logits [M, C] of the unseen set."""
        found = np.empty(len(self), np.float64)
        z = logits.double()
        step = max(1, min(65_536, LOGITS // max(1, z.shape[1])))
        for start in range(0, len(self), step):  # in pieces, since each pair takes a row of logits
            part = slice(start, start + step)
            rows, classes = (torch.from_numpy(one[part]).to(z.device) for one in (self.rows, self.classes))
            found[part] = label_log_odds(z[rows], classes).cpu().numpy()
        return found


def pairs_of(labels: Tensor, n_classes: int) -> Pairs:
    """The pairs for an unseen set with these labels [M]: all classes of all examples where that is little.

    Of more than `EXAMPLES` examples a sample is taken, and of more than `CLASSES` classes the label and a sample of the
    others, by a fixed seed: the same set always gives the same pairs.
    """
    known = labels.cpu().numpy().astype(np.int64)
    random = np.random.default_rng(0)
    m = len(known)
    rows = np.arange(m) if m <= EXAMPLES else np.sort(random.choice(m, EXAMPLES, replace=False))
    if n_classes <= CLASSES:
        return Pairs(np.repeat(rows, n_classes), np.tile(np.arange(n_classes), len(rows)))
    others = random.integers(1, n_classes, (len(rows), CLASSES - 1))  # added to the label, so never the label itself
    classes = (known[rows, None] + np.concatenate([np.zeros((len(rows), 1), np.int64), others], axis=1)) % n_classes
    classes.sort(axis=1)
    fresh = np.concatenate([np.ones((len(rows), 1), bool), np.diff(classes, axis=1) > 0], axis=1)
    where = np.broadcast_to(rows[:, None], classes.shape)
    return Pairs(where[fresh].copy(), classes[fresh])
