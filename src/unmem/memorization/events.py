"""Learning events: how the training run treats each example (Jiang et al. 2021, and related work).

Zhao & Triantafillou (arXiv 2410.16516) use the first four as proxies of memorization: an example that is learned late
and with low confidence is one that the model has to memorize. The events come from the forward pass of training, in
train mode and before the step, and are averaged over the epochs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unmem.data import Examples, find_ids
from unmem.errors import UserError, nearest
from unmem.memorization.scores import Scores
from unmem.predictions import hits, margin, of_label
from unmem.recipe import Recipe
from unmem.training import LOGITS, Recorder, Step, predict

# name -> score of one visit, from log-probabilities [B, C] and labels [B], to be averaged; larger = more memorized.
_AVERAGED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    # Jiang et al. 2021, as proxies in arXiv 2410.16516
    "confidence": lambda logp, y: 1 - of_label(logp, y).exp(),
    "max-confidence": lambda logp, _: 1 - logp.amax(1).exp(),
    "entropy": lambda logp, _: -(logp.exp() * logp).sum(1),
    "accuracy": lambda logp, y: (~hits(logp, y)).float(),
    # ‖p − onehot(y)‖₂: Paul et al. 2021
    "el2n": lambda logp, y: (logp.exp().square().sum(1) - 2 * of_label(logp, y).exp() + 1).clamp_min(0).sqrt(),
    # minus the area under the margin: Pleiss et al. 2020
    "aum": lambda logp, y: -margin(logp, y),
    "loss": lambda logp, y: -of_label(logp, y),
}
# Of all visits together: times an example went from right to wrong (Toneva et al. 2019), and two that leave out what
# the model never fitted: the last confidence minus the average one, and times the average lack of confidence.
EVENTS = (*_AVERAGED, "forgetting", "late-gain", "late-fit")

PAPER_EVENTS = ("confidence", "max-confidence", "entropy", "accuracy")

# Visits wait until there are this many, or `LOGITS` logits, since a few operations on many rows cost less than many on
# few.
_FLUSH = 32_768


class LearningEvents(Recorder):
    """An observer that records the learning events of one training, for each name in `EVENTS`.

    In a run with several passes per epoch, such as SCRUB's, an example counts in each pass that visits it.

    Attributes:
        seconds: Time spent on recording so far, for all events together (on a GPU: the time to queue the work).
    """

    keeps = ("_sums", "_visits", "_wrong", "_forgotten", "_last_confidence", "_epochs", "seconds")
    seconds: float = 0.0

    def on_start(self, examples: Examples, recipe: Recipe) -> None:
        self._begin(examples, {"recipe": asdict(recipe), "pass": "training"})

    def on_pass(self, examples: Examples) -> None:
        began = time.perf_counter()
        self._watch(examples)
        self.seconds += time.perf_counter() - began

    def on_step(self, step: Step) -> None:
        began = time.perf_counter()
        self._visit(step.batch.index, step.logits, step.batch.labels)
        self.seconds += time.perf_counter() - began

    def on_epoch(self, epoch: int, model: nn.Module) -> None:
        began = time.perf_counter()
        self._flush()
        self._epochs += 1
        self.seconds += time.perf_counter() - began

    @classmethod
    def from_checkpoints(cls, checkpoints: Iterable[nn.Module], examples: Examples) -> LearningEvents:
        """Compute the events afterwards, from models saved during one training.

        The models are in evaluation mode, so the events are close to but not the same as those recorded in training.

        Args:
            checkpoints: The models, in the order of the training.
            examples: The training set.
        """
        events = cls()
        events._begin(examples, {"pass": "checkpoints"})
        for epoch, model in enumerate(checkpoints):
            # In pieces: what waits for its score holds the logits of all classes.
            for index in torch.arange(len(examples), device=examples.device).split(_FLUSH):
                piece = examples.at(index.cpu().numpy())
                events._visit(index, predict(model, piece), piece.labels)
            events.on_epoch(epoch, model)
        return events

    def scores(self, name: str) -> Scores:
        """Return the score called `name`, one of `EVENTS`; larger = more memorized."""
        if name not in EVENTS:
            raise UserError("score", name, "not a learning event", nearest(name, list(EVENTS)))
        if not hasattr(self, "_sums") or self._epochs == 0:
            raise UserError("score", name, "no epoch was watched", "pass these events to train(observers=[...])")
        settings = {**self._settings, "epochs_watched": self._epochs}
        return Scores(name, self._ids, self._values(name).double().cpu().numpy(), settings=settings)

    def _begin(self, examples: Examples, settings: dict[str, Any]) -> None:
        self._device = examples.device
        self._ids, self._watched, self._place = examples.ids, examples, None
        self._settings = settings | {"data": examples.fingerprint}
        self._epochs = 0
        self.seconds = 0.0
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        self._rows = 0
        self._sums, self._visits, self._wrong, self._forgotten, self._last_confidence = self._unvisited(len(self._ids))

    def _unvisited(self, n: int) -> tuple[Tensor, ...]:
        """The state of n examples before their first visit: sums of the averaged events, visits, whether it was wrong
        at the last one, how often it was forgotten, the last confidence."""
        zeros = torch.zeros(n, device=self._device)
        sums = torch.zeros(len(_AVERAGED), n, device=self._device)
        return sums, zeros, torch.ones_like(zeros), zeros.clone(), zeros.clone()

    def _watch(self, examples: Examples) -> None:
        """From here on, positions are in `examples`; those that no pass has shown so far join at the end."""
        if examples is self._watched:
            return
        self._flush()  # an example may come in both passes
        found, missing = find_ids(examples.ids, self._ids)
        if missing.any():
            found[missing] = len(self._ids) + np.arange(int(missing.sum()))
            self._ids = np.concatenate([self._ids, examples.ids[missing]])
            old = (self._sums, self._visits, self._wrong, self._forgotten, self._last_confidence)
            grown = [torch.cat(pair, -1) for pair in zip(old, self._unvisited(int(missing.sum())), strict=True)]
            self._sums, self._visits, self._wrong, self._forgotten, self._last_confidence = grown
        self._watched, self._place = examples, torch.from_numpy(found).to(self._device)

    def _visit(self, index: Tensor, logits: Tensor, labels: Tensor) -> None:
        self._waiting.append((index if self._place is None else self._place[index], logits, labels))
        self._rows += len(index)
        if self._rows >= _FLUSH or self._rows * logits.shape[1] >= LOGITS:
            self._flush()

    def _flush(self) -> None:
        """Score the waiting visits. A pass visits an example once, so `index` holds no position twice."""
        if not self._waiting:
            return
        index, logits, labels = (torch.cat(column) for column in zip(*self._waiting, strict=True))
        self._waiting, self._rows = [], 0
        logp = logits.float().log_softmax(1)
        self._sums[:, index] += torch.stack([event(logp, labels) for event in _AVERAGED.values()])
        self._visits[index] += 1
        wrong = (~hits(logp, labels)).float()
        self._forgotten[index] += (wrong > self._wrong[index]).float()
        self._wrong[index] = wrong
        self._last_confidence[index] = of_label(logp, labels).exp()

    def _values(self, name: str) -> Tensor:
        if name == "forgetting":
            # Never learned counts as forgotten more often than any that was (Toneva et al. 2019, section 3).
            never = self._sums[list(_AVERAGED).index("accuracy")] == self._visits
            return torch.where(never, self._visits, self._forgotten)
        if name in ("late-gain", "late-fit"):
            unsure = self._sums[list(_AVERAGED).index("confidence")] / self._visits
            last = self._last_confidence
            return last - (1 - unsure) if name == "late-gain" else last * unsure
        return self._sums[list(_AVERAGED).index(name)] / self._visits
