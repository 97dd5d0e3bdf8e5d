"""The window: which early part of a training predicts what a model that never saw an example would say.

Before it a network knows too little; after it, a network that sees an example begins to memorize it.
"""

from __future__ import annotations

import math

START, END = 0.05, 0.15  # shares of the epochs


def window(epochs: int, *, start: float = START, end: float = END) -> range:
    """The epochs of the window, counted from 1; at least one.

    >>> window(20), window(30), window(3)
    (range(1, 4), range(2, 6), range(1, 2))
    """
    last = min(max(1, math.floor(end * epochs + 0.5)), max(1, epochs))
    first = min(max(1, math.ceil(start * epochs - 1e-9)), last)
    return range(first, last + 1)
