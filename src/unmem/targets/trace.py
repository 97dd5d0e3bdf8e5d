"""Trace: what the original itself predicted in the early epochs of its own training.

    φ_i = map(log-odds of the mean over the window of log p_e(y_i | x_i)),   p_e as the training forward pass saw it

Early on the original has seen an example a few times and has not memorized it yet, so its mean prediction is near that
of a model that never saw it. The forward pass of training comes before the step, so recording it costs next to nothing;
the holdout, which calibrates, is predicted at the ends of the same epochs. A learning event in the sense of Jiang et
al. 2021, as used by Zhao & Triantafillou (arXiv 2410.16516).
Memory: of at most `FEW_CLASSES` classes, one float32 sum per example and class while recording and float16 in the
file, 2·N·C bytes. Of more, only log-odds and margin of the label are summed and kept, 8·N bytes; φ_i is then the map of
the mean of the log-odds instead of the log-odds of the mean. Both are the same where the window is one epoch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unmem.data import Examples, Ids, as_ids, find_ids
from unmem.errors import UserError
from unmem.memorization.crossfit import FEW_CLASSES
from unmem.models.forgotten import Forgotten, deletion_facts, deletions_in
from unmem.predictions import class_log_odds, hits, log_odds
from unmem.recipe import Recipe
from unmem.store import load_arrays, save_arrays
from unmem.targets.calibration import MOST, Asked, Label, calibrated, calibrating
from unmem.targets.types import Float32, Request, Targets
from unmem.targets.window import END, START, window
from unmem.training import Observer, Recorder, Step, predict, predicted

Float16 = NDArray[np.float16]

_OPTION = "--trace"
_KIND = "a trace"
_FIX = "record one with unmem train"
_SHAPES = {"log_probs": 2, "phi": 1, "margin": 1}  # dimensions, the first of them examples
# Holdout examples predicted in each epoch of the window, as a share of the training set: keeps recording under 1%.
UNSEEN_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class Trace:
    """Mean early predictions of one training, and a source of targets.

    Attributes:
        ids: [N] ids of the training examples.
        log_probs: [N, C] float16, mean log-probabilities over the window; None for more than `FEW_CLASSES` classes.
        unseen_ids: [M] ids of the holdout examples.
        unseen: [M, C] float16, their mean log-probabilities; the mean log-odds of each class if `phi` is given.
        seconds: Time spent on recording.
        settings: What determined the trace; `data` is the fingerprint of the training set.
        moved: Files with the rows of examples that were forgotten since, relative to the folder of this file.
        phi: [N] float32, mean log-odds of the label, in place of `log_probs`.
        margin: [N] float32, mean of log p_y − log max_{k≠y} p_k, in place of `log_probs`.
        forgotten: Keyed hashes of the forgotten examples.
    """

    name: ClassVar[str] = "trace"
    ids: Ids
    log_probs: Float16 | None
    unseen_ids: Ids
    unseen: Float16
    seconds: float = 0.0
    settings: dict[str, Any] | None = None
    moved: tuple[str, ...] = ()
    phi: Float32 | None = None
    margin: Float32 | None = None
    forgotten: Forgotten | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Trace({len(self):,} training examples, {len(self.unseen_ids):,} of the holdout)"

    @property
    def spent(self) -> float:
        return 0.0

    def __call__(self, problem: Request, *, seed: int = 0, observers: Sequence[Observer] = ()) -> Targets:
        """Targets of `problem.forget`, calibrated for `problem.model`. Nothing is random, so the seed has no effect."""
        began = time.perf_counter()
        rows = self.check(problem.forget.ids)
        asked = self._asked(rows, problem.forget.device)
        unseen = problem.holdout.take(self.unseen_ids, field="trace")
        checked = torch.from_numpy(self.unseen).float().to(problem.forget.device)
        found = calibrated(self.name, problem, asked, unseen, checked, self.describe())
        return replace(found, seconds=time.perf_counter() - began)

    def cost(self, problem: Request) -> float:
        return 0.0

    def ahead(self, train: Examples, holdout: Examples) -> float:
        """Return a lower bound on the gap between training and unseen accuracy of the trace.

        Two standard errors are subtracted. The bound is near or below 0 if the original had not memorized yet; it is 0
        for a trace without unseen examples.
        """
        pairs = ((train, self.ids, self.log_probs), (holdout, self.unseen_ids, self.unseen))
        right: list[NDArray[np.bool_]] = []
        for part, ids, rows in pairs:
            where, missing = find_ids(ids, part.ids)
            labels = part.labels.cpu().numpy()[where]
            right.append((self._positive if rows is None else hits(rows, labels))[~missing])
        if not all(len(one) for one in right):
            return 0.0
        error = math.sqrt(sum(float(one.var()) / len(one) for one in right))
        return float(right[0].mean() - right[1].mean()) - 2 * error

    def describe(self) -> dict[str, Any]:
        return {"source": self.name, **(self.settings or {})}

    def without(self, ids: Iterable[object]) -> Trace:
        """All rows except those of these examples: what may be kept once they are forgotten."""
        return self._at(np.flatnonzero(~np.isin(self.ids, as_ids(ids))))

    def only(self, ids: Iterable[object]) -> Trace:
        """The rows of these examples, of those that it has."""
        return self._at(np.flatnonzero(np.isin(self.ids, as_ids(ids))))

    def with_rows_of(self, other: Trace) -> Trace:
        """The same with the rows of another one for examples that this one does not hold."""
        fresh = np.flatnonzero(~np.isin(other.ids, self.ids))
        theirs = other._rows
        return replace(self, **{name: np.concatenate([one, theirs[name][fresh]]) for name, one in self._rows.items()})

    def save(self, path: str | Path) -> None:
        """Write one `.npz` file, atomically."""
        arrays = self._rows | {"unseen_ids": self.unseen_ids, "unseen": self.unseen}
        facts: dict[str, Any] = {"seconds": self.seconds, "settings": self.settings}
        facts |= deletion_facts(self.moved, self.forgotten)
        save_arrays(path, arrays, facts)

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read a trace that `save` wrote.

        Raises:
            UserError: The file is missing, damaged, or something else.
        """
        names = ("ids", "unseen_ids", "unseen")
        arrays, facts = load_arrays(path, names, option=_OPTION, kind=_KIND, fix=_FIX, optional=tuple(_SHAPES))
        try:
            found = cls(**{"log_probs": None, **arrays}, **facts | deletions_in(facts))
        except (TypeError, ValueError, KeyError) as error:
            raise UserError(_OPTION, str(path), f"not {_KIND}", _FIX) from error
        rows = {name: values for name, values in found._rows.items() if name in _SHAPES}
        if set(rows) not in ({"log_probs"}, {"phi", "margin"}):
            raise UserError(_OPTION, str(path), f"not {_KIND}", _FIX)
        sizes = [(values, _SHAPES[name], len(found)) for name, values in rows.items()]
        if any(
            one.ndim != dims or len(one) != n for one, dims, n in (*sizes, (found.unseen, 2, len(found.unseen_ids)))
        ):
            raise UserError(_OPTION, str(path), "its arrays do not fit together", _FIX)
        return found

    @classmethod
    def from_checkpoints(cls, checkpoints: Iterable[nn.Module], examples: Examples, holdout: Examples) -> Trace:
        """The same from models saved early in one training.

        Args:
            checkpoints: Models of the window, 5% to 15% of the epochs, in any order. All of them are averaged.
            examples: The training set.
            holdout: Examples that the models were not trained on.
        """
        recorder = TraceRecorder(holdout)
        began = time.perf_counter()
        recorder.begin(examples, {"pass": "checkpoints"})
        for model in checkpoints:
            recorder.add(model, seen=False)
        return replace(recorder.trace, seconds=time.perf_counter() - began)

    def _asked(self, rows: NDArray[np.int64], device: torch.device) -> Asked:
        """What is known of the examples in these rows."""
        if self.log_probs is not None:
            return torch.from_numpy(self.log_probs[rows]).float().to(device)
        assert self.phi is not None
        assert self.margin is not None
        return Label(self.phi[rows], self.phi[rows] - self.margin[rows])

    @property
    def _positive(self) -> NDArray[np.bool_]:
        assert self.margin is not None
        return self.margin > 0

    @property
    def _rows(self) -> dict[str, NDArray[Any]]:
        """The arrays that have a row for each example, by name."""
        found = {name: getattr(self, name) for name in ("ids", *_SHAPES)}
        return {name: values for name, values in found.items() if values is not None}

    def _at(self, where: NDArray[np.int64]) -> Trace:
        return replace(self, **{name: values[where] for name, values in self._rows.items()})

    def check(self, ids: Ids) -> NDArray[np.int64]:
        """The rows of these examples.

        Raises:
            UserError: Some of them have none.
        """
        found, missing = find_ids(ids, self.ids)
        if missing.any():
            raise UserError(
                "trace",
                None,
                f"there is no row for {int(missing.sum()):,} of the ids, such as {str(ids[missing][0])!r}",
                "use the trace of the training set that they are from; rows of forgotten examples are deleted",
            )
        return found


class TraceRecorder(Recorder):
    """An observer that records the `trace` of the original's training.

    Args:
        holdout: Examples that the original is not trained on. A stratified sample of them is predicted.
        start: Start of the window, as a share of the epochs.
        end: End of the window, as a share of the epochs.

    Attributes:
        seconds: Time spent on recording so far.
    """

    keeps = ("_sums", "_unseen_sums", "_count", "seconds")

    def __init__(self, holdout: Examples, *, start: float = START, end: float = END) -> None:
        self._holdout, self._start, self._end = holdout, start, end
        self._count = 0
        self.seconds = 0.0

    def on_start(self, examples: Examples, recipe: Recipe) -> None:
        self.begin(examples, {"recipe": asdict(recipe), "pass": "training"})
        self._epochs = window(recipe.epochs, start=self._start, end=self._end)

    def on_pass(self, examples: Examples) -> None:
        if examples is not self._examples:
            fix = "record the training of the original"
            raise UserError("trace", None, "the run shows other examples from pass to pass, as unlearners do", fix)

    def on_step(self, step: Step) -> None:
        if step.epoch + 1 in self._epochs:
            began = time.perf_counter()
            self._see(step.batch.index, step.logits.float(), step.batch.labels)
            self.seconds += time.perf_counter() - began

    def on_epoch(self, epoch: int, model: nn.Module) -> None:
        if epoch + 1 in self._epochs:
            self.add(model)

    def begin(self, examples: Examples, settings: dict[str, Any]) -> None:
        """Forget what was recorded and start again."""
        most = min(MOST, max(1, round(UNSEEN_SHARE * len(examples))))
        self._unseen = calibrating(self._holdout, most)
        self._examples, self._ids = examples, examples.ids
        self._settings = settings | {"data": examples.fingerprint}
        self._few = examples.n_classes <= FEW_CLASSES
        # Log-probabilities of all classes, or log-odds and margin of the label.
        self._sums = torch.zeros(len(examples), examples.n_classes if self._few else 2, device=examples.device)
        self._unseen_sums = torch.zeros(len(self._unseen), examples.n_classes, device=examples.device)
        self._count, self.seconds = 0, 0.0

    def add(self, model: nn.Module, *, seen: bool = True) -> None:
        """One more epoch. seen: whether its steps showed the training examples; otherwise the model is asked now."""
        began = time.perf_counter()
        if not seen:
            self._sums += predicted(model, self._examples, lambda logits, labels: [self._kept(logits, labels)])[0]
        log_probs = predict(model, self._unseen).log_softmax(1)
        self._unseen_sums += log_probs if self._few else torch.from_numpy(class_log_odds(log_probs)).to(log_probs)
        self._count += 1
        self.seconds += time.perf_counter() - began

    def _see(self, index: Tensor, logits: Tensor, labels: Tensor) -> None:
        self._sums[index] += self._kept(logits, labels)

    def _kept(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What is summed of each example."""
        return logits.log_softmax(1) if self._few else torch.stack(log_odds(logits, labels), 1).float()

    @property
    def recorded(self) -> bool:
        """Whether an epoch of the window was watched; without epochs there is none."""
        return self._count > 0

    @property
    def trace(self) -> Trace:
        """What was recorded.

        Raises:
            UserError: No epoch of the window was watched.
        """
        if self._count == 0:
            raise UserError("trace", None, "no epoch was recorded", "pass the recorder to train(observers=[...])")
        facts = self._settings | {"epochs": self._count}
        if self._few:
            rows, unseen = (_mean(sums, self._count) for sums in (self._sums, self._unseen_sums))
            return Trace(self._ids, rows, self._unseen.ids, unseen, self.seconds, facts)
        phi, margin = (self._sums / self._count).T.contiguous().cpu().numpy()
        odds = (self._unseen_sums / self._count).half().cpu().numpy()
        return Trace(self._ids, None, self._unseen.ids, odds, self.seconds, facts, phi=phi, margin=margin)


def _mean(sums: Tensor, count: int) -> Float16:
    return (sums / count).log_softmax(1).half().cpu().numpy()
