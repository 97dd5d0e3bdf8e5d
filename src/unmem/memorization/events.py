"""Learning events: what the training run shows of each example, averaged over epochs (Jiang et al. 2021).

Zhao & Triantafillou (arXiv 2410.16516) use them as proxies of memorization: an example that is learned late and with
little confidence is one that the model has to memorize. They come from the training forward pass, that is in train
mode and before the step, and cost a few vector operations a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor, nn

from unmem.data import Examples
from unmem.errors import UserError, nearest
from unmem.memorization.scores import Scores
from unmem.recipe import Recipe
from unmem.training import Observer, Step

# name -> score of one visit, from log-probabilities [B, C] and labels [B]; larger = more memorized.
EVENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "confidence": lambda logp, y: 1 - _of_label(logp, y).exp(),
    "max-confidence": lambda logp, _: 1 - logp.amax(1).exp(),
    "entropy": lambda logp, _: -(logp.exp() * logp).sum(1),
    "accuracy": lambda logp, y: (logp.argmax(1) != y).float(),
}


class LearningEvents(Observer):
    """Watches one training and gives a score per training example for each event in `EVENTS`.

    seconds: what watching took so far, for all events together (on a GPU: to queue the work).
    """

    seconds: float = 0.0

    def on_start(self, examples: Examples, recipe: Recipe) -> None:
        self._ids = examples.ids
        self._settings = {"recipe": asdict(recipe), "data": examples.fingerprint}
        self._epochs = 0
        self.seconds = 0.0
        self._sums = torch.zeros(len(EVENTS), len(examples), device=examples.device)

    def on_step(self, step: Step) -> None:
        began = time.perf_counter()
        logp = step.logits.float().log_softmax(1)
        visit = torch.stack([event(logp, step.batch.labels) for event in EVENTS.values()])
        self._sums[:, step.batch.index] += visit
        self.seconds += time.perf_counter() - began

    def on_epoch(self, epoch: int, model: nn.Module) -> None:
        self._epochs += 1

    def scores(self, name: str) -> Scores:
        """The score called `name`, averaged over the epochs watched; larger = more memorized."""
        if name not in EVENTS:
            raise UserError("score", name, "not a learning event", nearest(name, list(EVENTS)))
        if not hasattr(self, "_sums") or self._epochs == 0:
            raise UserError("score", name, "no epoch was watched", "pass these events to train(observers=[...])")
        values = self._sums[list(EVENTS).index(name)] / self._epochs
        settings = {**self._settings, "epochs_watched": self._epochs, "pass": "training"}
        return Scores(name, self._ids, values.double().cpu().numpy(), settings=settings)


def _of_label(logp: Tensor, labels: Tensor) -> Tensor:
    return logp.gather(1, labels[:, None])[:, 0]
