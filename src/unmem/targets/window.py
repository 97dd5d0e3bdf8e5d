"""The window: the early epochs whose predictions are averaged.

    log q(x) = mean over epochs e with 0.05 E ≤ e ≤ 0.25 E of log p_e(x),   E the epochs of the original

Before it a network knows too little, after it a network that sees an example begins to memorize it. The mean over
epochs varies less than any single epoch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unmem.data import Examples
from unmem.training import Observer, predict

START, END = 0.05, 0.25


def window(epochs: int, *, start: float = START, end: float = END) -> range:
    """The epochs, counted from 1, whose predictions are averaged; at least one.

    >>> window(20), window(30), window(3)
    (range(1, 6), range(2, 8), range(1, 2))
    """
    first = max(1, math.ceil(start * epochs - 1e-9))
    last = max(first, math.floor(end * epochs + 1e-9))
    return range(first, min(last, max(1, epochs)) + 1)


class WindowMean(Observer):
    """Averages log-probabilities of some examples over the window of a run, and ends the run after it.

    Attributes:
        seconds: What predicting took.
    """

    def __init__(self, parts: Sequence[Examples], epochs: range) -> None:
        self._parts, self._epochs = parts, epochs
        self._sums = [torch.zeros(len(part), part.n_classes, device=part.device) for part in parts]
        self._count = 0
        self.seconds = 0.0

    def on_epoch(self, epoch: int, model: nn.Module) -> bool:
        if epoch + 1 in self._epochs:
            began = time.perf_counter()
            for k, part in enumerate(self._parts):
                found = predict(model, part).log_softmax(1)
                self._sums[k] = found if self._count == 0 else self._sums[k] + found
            self._count += 1
            self.seconds += time.perf_counter() - began
        return epoch + 1 >= self._epochs[-1]

    @property
    def log_probs(self) -> list[Tensor]:
        """[N, C] mean log-probabilities of each part, normalised."""
        return [(total / self._count).log_softmax(1) for total in self._sums]
