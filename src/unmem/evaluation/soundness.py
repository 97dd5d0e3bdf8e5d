"""Whether a model that was trained for comparison can stand for the original without some of its examples.

Retrained models, fold models of a cross-fit and ensemble members are only worth comparing with if their training works
as well as the original's. Each is compared with the original on examples that both were trained on (retain) and on
examples that neither was (unseen). With accuracies a of the original and b of the trained model on n examples, the
trained model falls short if

    a − b  >  lost + TOLERANCE + 3 √(a(1 − a)/n + b(1 − b)/n)

The last term is three standard errors of the difference of two independent shares; on the same examples the difference
varies less, so a false alarm is rarer than one in 700. TOLERANCE is the drop that `--max-drop` allows an unlearned
model by default. `lost` is what an honest model may lose because it had fewer examples:

- a member on a random share r of the training set: (1 − a)(r^−½ − 1). The error of a classifier falls with the number
  of examples as a power; measured exponents are 0.07 to 0.35 (Hestness et al. 2017, arXiv 1712.00409), and ½ is the
  parametric rate, so this is the most that the missing share explains.
- a model retrained without a chosen forget set: nothing on the retain set; on unseen examples of a class the share of
  that class that was forgotten, as if each kind of forgotten example were now unknown. A request for a whole class
  explains the loss of that class.

A trained model that is better than the original is no finding: without mislabelled examples it should be better.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unmem.batchnorm import recompute_batchnorm
from unmem.data import Examples, Splits, stratified_sample
from unmem.ensembles import Ensemble
from unmem.evaluation.logits import accuracy, correct
from unmem.evaluation.mismatch import chance
from unmem.memorization import CrossFit
from unmem.recipe import Recipe
from unmem.unlearning import Problem

TOLERANCE = 0.05
STANDARD_ERRORS = 3  # standard errors
LEARNING_CURVE_EXPONENT = 0.5  # exponent of the learning curve
MAX_EXAMPLES = 5000  # examples to look at on each side: three standard errors are then 3% at most
FALLBACK_NAME = "the audited model"  # where there is no original
On = Literal["retain", "unseen"]
Trained = Literal["retrained model", "member", "fold model", "teacher"]

# What does not hold any more when a model falls short.
_CONSEQUENCES: dict[Trained, str] = {
    "retrained model": "closeness to retraining (ToW, ToW-MIA) says nothing about unlearning here",
    "member": "scores, tests and attacks that rest on the members are unreliable",
    "fold model": "scores, targets and forecasts that rest on the cross-fit are unreliable",
    "teacher": "targets that rest on the teacher are unreliable",
}


@dataclass(frozen=True)
class Comparison:
    """Accuracy of the original and of a model trained for comparison on the same kind of examples.

    on: "retain" (both models were trained on them) or "unseen" (neither was). n: number of examples. original,
    trained: accuracies in [0, 1]. lost: drop in accuracy that having had fewer examples explains, at least 0.
    """

    on: On
    n: int
    original: float
    trained: float
    lost: float = 0.0

    @property
    def allowed(self) -> float:
        """Largest drop in accuracy that does not count as falling short."""
        variance = sum(share * (1 - share) for share in (self.original, self.trained)) / max(1, self.n)
        return self.lost + TOLERANCE + STANDARD_ERRORS * variance**0.5

    @property
    def excess(self) -> float:
        """Drop in accuracy beyond what is allowed; above 0 the trained model falls short."""
        return self.original - self.trained - self.allowed

    @property
    def short(self) -> bool:
        return self.n > 0 and self.excess > 0


@dataclass(frozen=True)
class Shortfall:
    """Models trained for comparison, of which some fall far short of the original.

    what: kind of model. count: how many were compared. short: how many of them fall short. worst: the comparisons of
    the one that is furthest below. likely: the options that most likely do not suit, in words. than: what they were
    compared with.
    """

    what: Trained
    count: int
    short: int
    worst: tuple[Comparison, ...]
    likely: str
    than: str = "the original"

    @property
    def claim(self) -> str:
        """The finding in one short sentence, without its numbers."""
        if self.count == 1:
            return f"the {self.what} does not reach {self.than}"
        if self.short == self.count:
            return f"the {self.what}s do not reach {self.than}"
        verb = "does" if self.short == 1 else "do"
        return f"{self.short} of {self.count} {self.what}s {verb} not reach {self.than}"

    @property
    def text(self) -> str:
        """The finding, its numbers, what follows from it, and what to change."""
        names = {"retain": "of the retain set", "unseen": "of the unseen examples"}
        shares = " and ".join(
            f"{one.trained:.1%} {names[one.on]} ({self.than}: {one.original:.1%})" for one in self.worst if one.n
        )
        which = "it" if self.count == 1 else "the worst"
        return f"{self.claim}: {which} classifies {shares} correctly; {_CONSEQUENCES[self.what]}; {self.likely}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in `result.json`."""
        worst = [asdict(one) | {"allowed": one.allowed, "short": one.short} for one in self.worst]
        return asdict(self) | {"worst": worst, "text": self.text}


def retrained_shortfalls(
    problem: Problem, models: Sequence[nn.Module], *, fallback: nn.Module | None = None
) -> tuple[Shortfall, ...]:
    """Compare models that were retrained without the forget set with the original.

    Args:
        problem: The request; its original is what the retrained models must reach on the retain set and the holdout.
        models: Retrained models.
        fallback: What they must reach where the problem has no original, such as the unlearned model.

    Returns:
        One entry if some of the models fall short, else none; none without models or a model to reach.
    """
    reach, than = baseline(problem, fallback)
    if reach is None or not models:
        return ()
    retain, unseen = _sample(problem.retain), _sample(problem.holdout)
    lost = _class_losses(problem)[unseen.labels.cpu().numpy()]
    return model_shortfalls(
        "retrained model",
        reach,
        models,
        retain=retain,
        unseen=unseen,
        recipe=problem.recipe,
        lost=float(lost.mean()) if len(lost) else 0.0,
        than=than,
    )


def baseline(problem: Problem, fallback: nn.Module | None) -> tuple[nn.Module | None, str]:
    """The original, or what stands in for it where the problem has none, and what it is called."""
    return (fallback, FALLBACK_NAME) if problem.original is None else (problem.original, "the original")


def model_shortfalls(
    what: Trained,
    original: nn.Module,
    models: Sequence[nn.Module],
    *,
    retain: Examples,
    unseen: Examples,
    recipe: Recipe,
    share: float = 1.0,
    lost: float = 0.0,
    than: str = "the original",
) -> tuple[Shortfall, ...]:
    """Compare models with the original on examples that both were trained on and on examples that neither was.

    Args:
        what: Kind of model, for the words.
        original: The model to reach.
        models: Models trained for comparison.
        retain: Examples that the original and all of the models were trained on; at most 5,000 are used.
        unseen: Examples that none of them was trained on; may be empty; at most 5,000 are used.
        recipe: How the models were trained, for the words.
        share: Share of the original's training set that each model was trained on, if it was a random one.
        lost: Drop in accuracy on unseen examples, in [0, 1], that a chosen forget set explains.
        than: What `original` is called.

    Returns:
        One entry if some of the models fall short, else none.
    """
    retain, unseen = _sample(retain), _sample(unseen)
    sides: dict[On, tuple[Examples, float, float]] = {
        "retain": (retain, _accuracy(original, retain), 0.0),
        "unseen": (unseen, _accuracy(original, unseen), lost),
    }
    compared = [
        tuple(
            Comparison(on, len(examples), ours, _accuracy(model, examples), explained + _smaller_set_loss(ours, share))
            for on, (examples, ours, explained) in sides.items()
        )
        for model in models
    ]
    return _shortfall(what, than, compared, recipe, models, retain)


def member_shortfalls(
    original: nn.Module, members: Ensemble, data: Splits, *, than: str = "the original"
) -> tuple[Shortfall, ...]:
    """Compare the members of an ensemble with the original.

    Args:
        original: The model trained on all of `data.train`.
        members: Models trained on random subsets of `data.train`; their unseen examples, if any, are of the holdout.
        data: The data of the original.
        than: What `original` is called.

    Returns:
        One entry if some of the members fall short, else none.
    """
    seen = _sample(data.train)
    columns = data.train.positions(seen.ids)
    ours, theirs, kept = correct(original, seen), members.train.correct[:, columns], members.kept[:, columns]
    share = members.kept.mean(axis=1)
    unseen = None if members.unseen is None else members.unseen.correct
    known = 0.0 if members.unseen is None else _accuracy(original, data.holdout.take(members.unseen.ids))
    compared: list[tuple[Comparison, ...]] = []
    for k, mask in enumerate(kept):
        before = float(ours[mask].mean()) if mask.any() else 0.0
        found = [_on_subset("retain", int(mask.sum()), before, float((theirs[k] & mask).sum()), float(share[k]))]
        if unseen is not None:
            found.append(_on_subset("unseen", unseen.shape[1], known, float(unseen[k].sum()), float(share[k])))
        compared.append(tuple(found))
    return _shortfall("member", than, compared, _recipe_of(members.settings))


def fold_shortfalls(
    original: nn.Module, crossfit: CrossFit, data: Splits, *, than: str = "the original"
) -> tuple[Shortfall, ...]:
    """Compare the fold models of a cross-fit with the original, by the accuracies in the settings of the cross-fit.

    Args:
        original: The model trained on all of `data.train`.
        crossfit: A cross-fit of `data.train`; one that does not know the accuracies of its models gives no finding.
        data: The data of the original; its holdout are the unseen examples of the cross-fit.
        than: What `original` is called.

    Returns:
        One entry if some of the fold models fall short, else none.
    """
    reached: Mapping[str, Sequence[float]] = crossfit.settings.get("fold_accuracy", {})
    share = 1 - 1 / int(crossfit.settings.get("folds", 2))
    sizes: dict[On, int] = {"retain": round(share * len(data.train)), "unseen": len(data.holdout)}
    ours: dict[On, float] = {"retain": _accuracy(original, _sample(data.train))}
    ours["unseen"] = _accuracy(original, data.holdout)
    compared = [
        tuple(_on_subset(on, n, ours[on], reached[on][k] * n, share) for on, n in sizes.items() if on in reached)
        for k in range(len(next(iter(reached.values()), ())))
    ]
    return _shortfall("fold model", than, compared, _recipe_of(crossfit.settings))


def shortfalls_of(
    original: nn.Module, made: Iterable[CrossFit | Ensemble], data: Splits, *, than: str = "the original"
) -> tuple[Shortfall, ...]:
    """The findings of `fold_shortfalls` and `member_shortfalls` on each cross-fit and each ensemble."""
    found: list[Shortfall] = []
    for one in made:
        if isinstance(one, CrossFit):
            found += fold_shortfalls(original, one, data, than=than)
        else:
            found += member_shortfalls(original, one, data, than=than)
    return tuple(found)


@dataclass(frozen=True)
class Untrained:
    """A training that did not teach its model its own training examples.

    accuracy: share of them that it classifies correctly. simple: the share that is had without a network: by always
    naming the largest class (`at_chance`), or by the nearest class mean. fix: what to change.
    """

    accuracy: float
    simple: float
    at_chance: bool
    fix: str

    @property
    def problem(self) -> str:
        than = f"no more than chance ({self.simple:.1%})"
        if not self.at_chance:
            than = f"less than the nearest class mean does ({self.simple:.1%})"
        return f"it classifies {self.accuracy:.1%} of its own training examples correctly, {than}"

    @property
    def text(self) -> str:
        return f"the trained model did not learn: {self.problem}; {self.fix}"


def untrained(model: nn.Module, examples: Examples, *, recipe: Recipe) -> Untrained | None:
    """Whether a model did not learn the examples that it was trained on.

    Args:
        model: The trained model.
        examples: Its training examples; at most 5,000 are used.
        recipe: How it was trained, for the words.

    Returns:
        The finding if the model does no better than naming the largest class (within three standard errors), or if it
        is worse on what it was trained on than the nearest class mean is on examples that are new to it; else None.
    """
    sample = _sample(examples)
    reached, (share, most) = accuracy(model, sample), chance(sample)
    if reached <= most:
        return Untrained(reached, share, True, _advice(model, sample, reached, recipe))
    simple, n = nearest_mean_accuracy(sample)
    if n and reached + STANDARD_ERRORS * (simple * (1 - simple) / n) ** 0.5 < simple:
        return Untrained(reached, simple, False, _advice(model, sample, reached, recipe))
    return None


def nearest_mean_accuracy(examples: Examples) -> tuple[float, int]:
    """Accuracy of the nearest class mean of one half of the examples on the other half, and the size of that half.

    (0, 0) for token ids, which have no mean, and for fewer than four examples.
    """
    tokens = examples.scaling is None and not examples.inputs.dtype.is_floating_point
    if tokens or len(examples) < 4:
        return 0.0, 0
    order = np.random.default_rng(0).permutation(len(examples))
    first, second = (examples.at(np.sort(half)) for half in np.array_split(order, 2))
    x, y = _inputs(first), first.labels
    counts = torch.bincount(y, minlength=examples.n_classes)
    sums = torch.zeros(examples.n_classes, x.shape[1], dtype=x.dtype, device=x.device).index_add_(0, y, x)
    distance = torch.cdist(_inputs(second), sums / counts.clamp_min(1)[:, None])
    distance[:, counts == 0] = float("inf")
    return float((distance.argmin(1) == second.labels).double().mean()), len(second)


def _inputs(examples: Examples) -> torch.Tensor:
    """Inputs as a model sees them, [N, features] float64."""
    everything = torch.arange(len(examples), device=examples.device)
    return torch.cat([inputs.flatten(1).double() for _, inputs, _ in examples.batches(everything.split(256))])


def _on_subset(on: On, n: int, original: float, hits: float, share: float) -> Comparison:
    return Comparison(on, n, original, hits / max(1, n), _smaller_set_loss(original, share))


def _smaller_set_loss(original: float, share: float) -> float:
    """Drop in accuracy that training on a random share of the examples explains at most."""
    return (1 - original) * (share**-LEARNING_CURVE_EXPONENT - 1)


def _recipe_of(settings: Mapping[str, Any]) -> Recipe:
    """The recipe in the settings of an ensemble or a cross-fit, which another version may have written."""
    known = {field.name for field in fields(Recipe)}
    return Recipe(**{name: value for name, value in settings.get("recipe", {}).items() if name in known})


def _class_losses(problem: Problem) -> NDArray[np.float64]:
    """Share of the training examples of each class that are to be forgotten, [C]."""
    classes = problem.retain.n_classes
    gone = np.bincount(problem.forget.labels.cpu().numpy(), minlength=classes)
    left = np.bincount(problem.retain.labels.cpu().numpy(), minlength=classes)
    return gone / np.maximum(1, gone + left)


def _sample(examples: Examples) -> Examples:
    return examples if len(examples) <= MAX_EXAMPLES else stratified_sample(examples, MAX_EXAMPLES, seed=0)


def _accuracy(model: nn.Module, examples: Examples) -> float:
    return accuracy(model, examples) if len(examples) else 0.0


def _shortfall(
    what: Trained,
    than: str,
    compared: Sequence[tuple[Comparison, ...]],
    recipe: Recipe,
    models: Sequence[nn.Module] = (),
    retain: Examples | None = None,
) -> tuple[Shortfall, ...]:
    """The finding, if there is one. models, retain: to find out about batch norm, where they are at hand."""
    short = [k for k, found in enumerate(compared) if any(one.short for one in found)]
    if not short:
        return ()
    worst = max(short, key=lambda k: max(one.excess for one in compared[k] if one.short))
    likely = _likely_cause(compared[worst], recipe)
    if models and retain is not None:
        first = compared[worst][0]
        recomputed = _recomputed_accuracy(models[worst], retain, first.trained, first.original)
        likely = _batchnorm_text(recomputed) if recomputed is not None else likely
    return (Shortfall(what, len(compared), len(short), compared[worst], likely, than),)


def _likely_cause(compared: Sequence[Comparison], recipe: Recipe) -> str:
    """Where the fault most likely lies: a model that does not fit what it saw was trained wrongly; one that fits it and
    knows less of the rest started or was regularized otherwise."""
    now = f"the recipe of this run is {recipe.words}, {_start(recipe)}"
    if any(one.short and one.on == "retain" for one in compared):
        more = ", --augment" if recipe.augment != "none" else ""
        return f"set --optimizer, --lr, --epochs{more} and --base as for the original ({now})"
    return f"set --augment, --weight-decay and --base as for the original ({now}, augment {recipe.augment})"


def _start(recipe: Recipe) -> str:
    return f"from the weights of {recipe.base}" if recipe.base else "from random weights"


def _advice(model: nn.Module, examples: Examples, reached: float, recipe: Recipe) -> str:
    recomputed = _recomputed_accuracy(model, examples, reached, 1.0)
    if recomputed is not None:
        return _batchnorm_text(recomputed)
    other = "sgd --lr 0.1" if recipe.optimizer == "adamw" else "adamw --lr 0.001"
    return f"try another --lr, --optimizer {other} or more --epochs (it was trained with {recipe.words})"


def _recomputed_accuracy(model: nn.Module, examples: Examples, reached: float, wanted: float) -> float | None:
    """Accuracy with batch-norm statistics recomputed from the examples, if that closes half of the gap or more."""
    layers = (nn.modules.batchnorm._BatchNorm,)  # pyright: ignore[reportPrivateUsage] (the only common base)
    if not any(isinstance(module, layers) for module in model.modules()):
        return None
    renewed = copy.deepcopy(model)
    recompute_batchnorm(renewed, examples)
    found = accuracy(renewed, examples)
    return found if found > reached and found - reached >= (wanted - reached) / 2 else None


def _batchnorm_text(reached: float) -> str:
    return (
        f"its running BatchNorm statistics do not fit its weights (recomputed, it classifies {reached:.1%} correctly): "
        "raise the momentum of its BatchNorm layers, or train for more --epochs"
    )
