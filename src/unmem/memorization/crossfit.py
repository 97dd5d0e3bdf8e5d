"""Cross-fit: predict every training example by a model that never saw it.

Cut the training set in K folds and train K models, each without one fold; q_i is the prediction of the one model that
never saw example i. After cleanlab's out-of-sample predictions (Northcutt et al. 2021) and double machine learning
(Chernozhukov et al. 2018). K = 2 costs one training, K = 5 four.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unmem.data import Examples, Ids
from unmem.ensembles import fold_masks, log_odds, train_members
from unmem.memorization.scores import Scores
from unmem.recipe import Recipe
from unmem.training import predict


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Out-of-fold predictions, each by the one model that never saw the example.

    log_probs: [N, C]. margin: [N], log q_y − log max_{k≠y} q_k. phi: [N], log q_y − log(1 − q_y). All float32.
    """

    ids: Ids
    log_probs: NDArray[np.float32]
    margin: NDArray[np.float32]
    phi: NDArray[np.float32]
    seconds: float
    settings: dict[str, Any]

    def scores(self) -> Scores:
        """−margin of the out-of-fold prediction: how wrong a model is on an example that it never saw."""
        return Scores("crossfit", self.ids, -np.asarray(self.margin, np.float64), settings=self.settings)

    def gap(self, model: nn.Module, examples: Examples) -> Scores:
        """margin under `model`, which was trained on the examples, minus the out-of-fold margin."""
        trained: NDArray[np.float64] = log_odds(predict(model, examples), examples.labels)[1].cpu().numpy()
        where = examples.positions(self.ids)
        return Scores("crossfit-gap", self.ids, trained[where] - self.margin.astype(np.float64), settings=self.settings)


def crossfit(
    recipe: Recipe,
    examples: Examples,
    *,
    folds: int = 2,
    seed: int = 0,
    folder: Path | None = None,
    executor: Executor | None = None,
    on_member: Callable[[int, int], None] | None = None,
) -> CrossFit:
    """Train `folds` models on stratified folds and keep each example's out-of-fold prediction.

    folder, executor, on_member: as in `train_members`.
    """
    kept = fold_masks(examples.labels, folds, seed=seed)
    members = train_members(
        recipe,
        examples,
        kept,
        seed=seed,
        keep_logits=True,
        folder=folder,
        executor=executor,
        on_member=on_member,
    )
    if members.logits is None:
        raise ValueError("members were asked to keep their logits")
    fold, rows = (~kept).argmax(0), np.arange(len(examples))
    logits = torch.from_numpy(members.logits[fold, rows])
    return CrossFit(
        ids=examples.ids,
        log_probs=logits.log_softmax(1).numpy(),
        margin=members.train.margin[fold, rows],
        phi=members.train.phi[fold, rows],
        seconds=sum(members.seconds),
        settings=members.settings | {"folds": folds, "seed": seed},
    )
