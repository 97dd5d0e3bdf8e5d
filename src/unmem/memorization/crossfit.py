"""Cross-fit: predict every training example by a model that was not trained on it.

The training set is divided into K folds, and K models are trained, each without one fold; q_i is the prediction of the
one model that was not trained on example i. After cleanlab's out-of-sample predictions (Northcutt et al. 2021) and
double machine learning (Chernozhukov et al. 2018). K = 2 costs one training, K = 5 costs four.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unmem.data import Examples, Ids, as_ids, find_ids
from unmem.ensembles import Ensemble, fold_masks, train_members
from unmem.errors import UserError
from unmem.executors import Where
from unmem.memorization.scores import Scores
from unmem.models.forgotten import Forgotten, deletion_facts, deletions_in
from unmem.predictions import confidence, label_probability, log_odds, probability
from unmem.recipe import Recipe
from unmem.store import load_arrays, save_arrays
from unmem.training import predicted

_SHAPES = {"margin": 1, "phi": 1, "log_probs": 2}  # dimensions, the first of them examples
FEW_CLASSES = 32  # of so many at most, the log-probabilities of all classes are kept unless asked otherwise


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Out-of-fold predictions: for each example, those of the one fold model that was not trained on it.

    Attributes:
        ids: [N] ids of the training examples.
        log_probs: [N, C] float32 log-probabilities, or None (see `keep_logits` of `crossfit`).
        margin: [N] float32, log q_y − log max_{k≠y} q_k.
        phi: [N] float32, log-odds of the label, log q_y − log(1 − q_y).
        seconds: Time to train all fold models.
        settings: What determined the predictions, as plain values.
        seconds_before: Seconds that earlier runs spent on fold models that were reused.
        moved: Files with the predictions of examples that were forgotten since, relative to the folder of this file.
        forgotten: Keyed hashes of these examples.
    """

    ids: Ids
    log_probs: NDArray[np.float32] | None
    margin: NDArray[np.float32]
    phi: NDArray[np.float32]
    seconds: float
    settings: dict[str, Any]
    seconds_before: float = 0.0
    moved: tuple[str, ...] = ()
    forgotten: Forgotten | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        classes = "labels only" if self.log_probs is None else f"{self.log_probs.shape[1]} classes"
        return f"CrossFit({len(self):,} examples, {classes})"

    def confidence(self, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the out-of-fold probability of the label, [N] float64."""
        return confidence(labels, self.phi, self.log_probs)

    @property
    def largest(self) -> NDArray[np.float64]:
        """The largest out-of-fold probability of any class, [N] float64."""
        if self.log_probs is None:  # that of the label, or by the margin more
            return probability(self.phi) * np.exp(np.maximum(0, -self.margin.astype(np.float64)))
        return np.exp(self.log_probs.max(1).astype(np.float64))

    def take(self, ids: Iterable[object]) -> CrossFit:
        """Return the predictions of these examples, in the order given. An unknown id raises `UserError`."""
        wanted = as_ids(ids)
        found, missing = find_ids(wanted, self.ids)
        if missing.any():
            raise UserError(
                "crossfit",
                None,
                f"has no prediction for {int(missing.sum()):,} of the ids, such as {str(wanted[missing][0])!r}",
                "make a cross-fit of the training set that they are from; it is made anew once they were forgotten",
            )
        return self._at(found)

    def only(self, ids: Iterable[object]) -> CrossFit:
        """Return the predictions of these examples, ignoring unknown ids."""
        return self._at(np.flatnonzero(np.isin(self.ids, as_ids(ids))))

    def without(self, ids: Iterable[object]) -> CrossFit:
        """Return all predictions except those of these examples, which may be kept after they are forgotten."""
        return self._at(np.flatnonzero(~np.isin(self.ids, as_ids(ids))))

    def with_rows_of(self, other: CrossFit) -> CrossFit:
        """Add the predictions of another cross-fit for examples that this one lacks."""
        fresh = np.flatnonzero(~np.isin(other.ids, self.ids))
        both = {name: (values, other._arrays.get(name)) for name, values in self._arrays.items()}
        arrays = {name: None if b is None else np.concatenate([a, b[fresh]]) for name, (a, b) in both.items()}
        return replace(self, **arrays)

    def save(self, path: str | Path) -> None:
        """Write one `.npz` file, atomically."""
        facts: dict[str, Any] = {"seconds": self.seconds, "settings": self.settings}
        facts |= deletion_facts(self.moved, self.forgotten)
        facts |= {"labels_only": True} if self.log_probs is None else {}
        save_arrays(path, self._arrays, facts)

    @classmethod
    def load(cls, path: str | Path) -> CrossFit:
        """Read predictions that `save` wrote."""
        made = {"option": "--crossfit", "kind": "a cross-fit"}
        fix, optional = "make one with unmem prepare", ("log_probs",)
        arrays, facts = load_arrays(path, ("ids", "margin", "phi"), **made, fix=fix, optional=optional)
        try:
            alone = facts.pop("labels_only", False)
            found = cls(**{"log_probs": None, **arrays}, **facts | deletions_in(facts))
        except (TypeError, ValueError, KeyError) as error:
            raise UserError("--crossfit", str(path), "not a cross-fit", "make one with unmem prepare") from error
        shapes = {name: values.shape for name, values in found._arrays.items() if name in _SHAPES}
        if alone != (found.log_probs is None):
            raise UserError("--crossfit", str(path), "not a cross-fit", fix)
        if any(len(shape) != _SHAPES[name] or shape[0] != len(found.ids) for name, shape in shapes.items()):
            raise UserError("--crossfit", str(path), "its arrays do not fit together", "make one with unmem prepare")
        return found

    def _at(self, where: NDArray[np.int64]) -> CrossFit:
        return replace(self, **{name: values[where] for name, values in self._arrays.items()})

    @property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays that there are, by name."""
        found = {name: getattr(self, name) for name in ("ids", *_SHAPES)}
        return {name: values for name, values in found.items() if values is not None}

    def scores(self) -> Scores:
        """Return −margin of the out-of-fold prediction: larger = predicted worse without the example."""
        return Scores("crossfit", self.ids, -np.asarray(self.margin, np.float64), settings=self.settings)

    def fit(self, model: nn.Module, examples: Examples) -> Scores:
        """Score by the confidence of the trained model times 1 − out-of-fold confidence; larger = more memorized.

        If the two models were independent, this is the probability that a model predicts the label having seen the
        example and misses it not having seen it. Unlike the difference of margins it is not dominated by the noise of
        two confident predictions.

        Args:
            model: A model trained on all of the examples.
            examples: The training set.

        Returns:
            Scores in [0, 1].
        """
        where = examples.positions(self.ids)
        labels = examples.labels.cpu().numpy()[where]
        known = (
            predicted(model, examples, lambda logits, labels: [label_probability(logits, labels)])[0]
            .cpu()
            .numpy()[where]
        )
        return Scores("crossfit-fit", self.ids, known * (1 - self.confidence(labels)), settings=self.settings)

    def gap(self, model: nn.Module, examples: Examples) -> Scores:
        """Score by the margin under the trained model minus the out-of-fold margin; larger = more memorized.

        Args:
            model: A model trained on all of the examples.
            examples: The training set.

        Returns:
            Scores in nats.
        """
        trained: NDArray[np.float64] = predicted(model, examples, log_odds)[1].cpu().numpy()
        where = examples.positions(self.ids)
        return Scores("crossfit-gap", self.ids, trained[where] - self.margin.astype(np.float64), settings=self.settings)


def crossfit(
    recipe: Recipe,
    examples: Examples,
    *,
    folds: int = 2,
    seed: int = 0,
    unseen: Examples | None = None,
    keep_logits: bool | None = None,
    folder: Path | None = None,
    executor: Where = None,
    workers: int | None = None,
    on_member: Callable[[int, int], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> CrossFit:
    """Train models on stratified folds and keep the out-of-fold prediction of each example.

    Args:
        recipe: How each fold model is trained.
        examples: The training set.
        folds: Number of folds K. K folds cost K − 1 trainings.
        seed: Seed of the folds; fold model k is trained with `seed + k`.
        unseen: Examples outside the training set. The accuracy of the fold models on them goes into the settings, which
            shows how far they fall short of a model trained on everything.
        keep_logits: Whether to keep the predictions of all classes, as matching by `form="kl"` needs. None keeps them
            for at most `FEW_CLASSES` classes. Scores, forecasts and matching by log-odds do not need them.
        folder: Folder for the predictions of finished fold models, so that a stopped run can continue.
        executor: Where the trainings run, see `unmem.executors.run_all`.
        workers: Number of parallel workers.
        on_member: Called with (done, total) after each model.
        on_warning: Called with each warning, a sentence.

    Returns:
        The out-of-fold predictions.
    """
    keep_logits = examples.n_classes <= FEW_CLASSES if keep_logits is None else keep_logits
    kept = fold_masks(examples.labels, folds, seed=seed)
    members = train_members(
        recipe,
        examples,
        kept,
        seed=seed,
        unseen=unseen,
        keep_logits=keep_logits,
        folder=folder,
        executor=executor,
        workers=workers,
        on_member=on_member,
        on_warning=on_warning,
    )
    if members.settings["failed"]:
        why = members.settings["failed"][0]["why"]
        raise UserError("crossfit", None, f"a fold model failed twice ({why})", "every fold is needed: run it again")
    fold, rows = (~kept).argmax(0), np.arange(len(examples))
    return CrossFit(
        ids=examples.ids,
        log_probs=None if members.logits is None else _log_softmax(members.logits[fold, rows]),
        margin=members.train.margin[fold, rows],
        phi=members.train.phi[fold, rows],
        seconds=sum(members.seconds),
        settings=members.settings
        | {"folds": folds, "seed": seed, "fold_accuracy": _reached(members)}
        | _noted(members),
        seconds_before=members.seconds_before,
    )


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return torch.from_numpy(logits).log_softmax(1).numpy()


def _noted(members: Ensemble) -> dict[str, float]:
    return {} if members.unseen is None else {"unseen_accuracy": float(members.unseen.correct.mean())}


def _reached(members: Ensemble) -> dict[str, list[float]]:
    """Accuracy of each model on what it was trained on and, if they were given, on the unseen examples."""
    hits = (members.train.correct & members.kept).sum(axis=1) / members.kept.sum(axis=1)
    unseen = {} if members.unseen is None else {"unseen": members.unseen.correct.mean(axis=1).tolist()}
    return {"retain": hits.tolist(), **unseen}


def out_of_sample(members: Ensemble) -> CrossFit:
    """Predict each example by the ensemble members that were not trained on it.

    Args:
        members: An ensemble that kept its logits (`keep_logits=True`).

    Returns:
        Means over these members of the probabilities, the margin and the log-odds.

    Raises:
        UserError: The ensemble has no logits, or all members were trained on some example.
    """
    if members.logits is None:
        raise UserError("members", None, "kept no logits", "train them with keep_logits=True")
    out = ~members.kept
    if not out.any(axis=0).all():
        raise UserError("members", len(members), "some examples were in all of them", "use balanced masks")
    weights = out / out.sum(axis=0)
    return CrossFit(
        ids=members.train.ids,
        log_probs=members.mean_log_probs(weights, np.arange(len(members.train.ids))),
        margin=(weights * members.train.margin).sum(axis=0).astype(np.float32),
        phi=(weights * members.train.phi).sum(axis=0).astype(np.float32),
        seconds=sum(members.seconds),
        settings=members.settings | _noted(members),
    )
