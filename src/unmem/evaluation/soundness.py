"""Check whether models trained for comparison reach the accuracy of the original.

Retrained models, fold models of a cross-fit and ensemble members are useful only if their training works as well as
that of the original. Each is compared with the original on examples that both were trained on (retain) and on examples
that neither was (unseen). With accuracies a of the original and b of the trained model on n examples, the trained model
falls short if

    a − b  >  lost + TOLERANCE + 3 √(a(1 − a)/n + b(1 − b)/n)

The last term is three standard errors of the difference of two independent shares. On the same examples the difference
varies less, so the false alarm rate is below 1 in 700. TOLERANCE is the default of `--max-drop`, the drop that an
unlearned model may have. `lost` is the drop that fewer training examples explain:

- For a member trained on a random share r of the training set: (1 − a)(r^−½ − 1). The error of a classifier is a power
  law of the number of examples with measured exponents of 0.07 to 0.35 (Hestness et al. 2017, arXiv 1712.00409). ½ is
  the parametric rate, so this is the largest drop that the smaller training set explains.
- For a model retrained without a chosen forget set: none on the retain set. On unseen examples of a class, it is the
  forgotten share of its training examples, as if all similar examples were now misclassified. So a request for a whole
  class explains the loss of that class.

A trained model that is better than the original is not reported: without mislabelled examples it should be better.
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
STANDARD_ERRORS = 3
LEARNING_CURVE_EXPONENT = 0.5
MAX_EXAMPLES = 5000  # examples to evaluate on each side: three standard errors are then at most 3%
FALLBACK_NAME = "the audited model"  # used if there is no original
On = Literal["retain", "unseen"]
Trained = Literal["retrained model", "member", "fold model", "teacher"]

_CONSEQUENCES: dict[Trained, str] = {
    "retrained model": "closeness to retraining (ToW, ToW-MIA) does not measure unlearning here",
    "member": "scores, tests and attacks that use the members are unreliable",
    "fold model": "scores, targets and forecasts that use the cross-fit are unreliable",
    "teacher": "targets from the teacher are unreliable",
}


@dataclass(frozen=True)
class Comparison:
    """Accuracy of the original and of a model trained for comparison on the same kind of examples.

    Attributes:
        on: "retain" (both models were trained on them) or "unseen" (neither was).
        n: Number of examples.
        original, trained: Accuracies in [0, 1].
        lost: Drop in accuracy that fewer training examples explain, at least 0.
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
    """Models trained for comparison, some of which fall far short of the original.

    Attributes:
        what: Kind of model.
        count: Number of models compared.
        short: Number of models that fall short.
        worst: Comparisons of the worst model.
        likely: Options that are the most likely cause, as text.
        than: Name of the model that they were compared with.
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
        verb = "does" if self.short == 1 else "do"
        which = "the" if self.short == self.count else f"{self.short} of {self.count}"
        return f"{which} {self.what}{'s' * (self.count > 1)} {verb} not reach the accuracy of {self.than}"

    @property
    def text(self) -> str:
        """The finding with its numbers, its consequence, and the options to change."""
        names = {"retain": "of the retain set", "unseen": "of the unseen examples"}
        shares = " and ".join(
            f"{one.trained:.1%} {names[one.on]} ({self.than}: {one.original:.1%})" for one in self.worst if one.n
        )
        which = "it" if self.count == 1 else "the worst"
        return f"{self.claim}: {which} classifies {shares} correctly; {_CONSEQUENCES[self.what]}; {self.likely}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as in `result.json`."""
        worst = [asdict(one) | {"allowed": one.allowed, "short": one.short} for one in self.worst]
        return asdict(self) | {"worst": worst, "text": self.text}


def retrained_shortfalls(
    problem: Problem, models: Sequence[nn.Module], *, fallback: nn.Module | None = None
) -> tuple[Shortfall, ...]:
    """Compare retrained models with the original, on the retain set and the holdout.

    If the problem has no original, they are compared with `fallback`, such as the unlearned model. The result has one
    entry if some of the models fall short, else none.
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
    """Return the original, or the fallback if the problem has none, and its name."""
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
        what: Kind of model, for the text.
        original: Model whose accuracy the others must reach.
        models: Models trained for comparison.
        retain: Examples that the original and all of the models were trained on; at most 5,000 are used.
        unseen: Examples that none of them was trained on; may be empty; at most 5,000 are used.
        recipe: Recipe of the models, for the text.
        share: Share of the original's training set that each model was trained on, if it is a random share.
        lost: Drop in accuracy on unseen examples, in [0, 1], that a chosen forget set explains.
        than: Name of `original` in the text.

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
    """Compare the members of an ensemble on random subsets of `data.train` with the original.

    The unseen examples of the members, if any, are from the holdout of `data`. The text calls the original `than`. The
    result has one entry if some of the members fall short, else none.
    """
    sample = _sample(data.train)
    columns = data.train.positions(sample.ids)
    ours, theirs, kept = correct(original, sample), members.train.correct[:, columns], members.kept[:, columns]
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
    """Compare the fold models of a cross-fit with the original, like `member_shortfalls`.

    The accuracies are from the settings of the cross-fit. Without them there is no entry.
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
    """Return the results of `fold_shortfalls` and `member_shortfalls` for each cross-fit and each ensemble."""
    found: list[Shortfall] = []
    for one in made:
        if isinstance(one, CrossFit):
            found += fold_shortfalls(original, one, data, than=than)
        else:
            found += member_shortfalls(original, one, data, than=than)
    return tuple(found)


@dataclass(frozen=True)
class Untrained:
    """Finding that a model did not learn its own training examples.

    Attributes:
        accuracy: Accuracy of the model on its training examples.
        simple: Accuracy of a baseline: always the largest class (`at_chance`), or the nearest class mean.
        at_chance: Whether the baseline is the largest class.
        fix: Options to change, as text.
    """

    accuracy: float
    simple: float
    at_chance: bool
    fix: str

    @property
    def problem(self) -> str:
        than = f"no more than chance ({self.simple:.1%})"
        if not self.at_chance:
            than = f"less than the nearest class mean classifier ({self.simple:.1%})"
        return f"it classifies {self.accuracy:.1%} of its own training examples correctly, {than}"

    @property
    def text(self) -> str:
        return f"the trained model did not learn: {self.problem}; {self.fix}"


def untrained(model: nn.Module, examples: Examples, *, recipe: Recipe) -> Untrained | None:
    """Check whether a model learned its training examples, of which at most 5,000 are used.

    Returns:
        A finding if the accuracy is at most that of always predicting the largest class plus three standard errors, or
        more than three standard errors below that of the nearest class mean on unseen examples; else None.
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
    """Fit the nearest class mean on one half of the examples; return accuracy on and size of the other half.

    The result is (0, 0) for token ids, which have no mean, and for fewer than four examples.
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
    """Return scaled inputs, [N, features] float64."""
    everything = torch.arange(len(examples), device=examples.device)
    return torch.cat([inputs.flatten(1).double() for _, inputs, _ in examples.batches(everything.split(256))])


def _on_subset(on: On, n: int, original: float, hits: float, share: float) -> Comparison:
    return Comparison(on, n, original, hits / max(1, n), _smaller_set_loss(original, share))


def _smaller_set_loss(original: float, share: float) -> float:
    """Return the largest drop in accuracy that training on a random share of the examples explains."""
    return (1 - original) * (share**-LEARNING_CURVE_EXPONENT - 1)


def _recipe_of(settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe in the settings of an ensemble or a cross-fit, which another version may have written."""
    known = {field.name for field in fields(Recipe)}
    return Recipe(**{name: value for name, value in settings.get("recipe", {}).items() if name in known})


def _class_losses(problem: Problem) -> NDArray[np.float64]:
    """Return the share of the forget set in the training examples of each class, [C]."""
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
    """Return the finding, if there is one. `models` and `retain` serve to check batch norm, if available."""
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
    """Return options to change: of training if retain accuracy is low, else of initialization and regularization."""
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
    """Return the accuracy with recomputed batch-norm statistics, if this closes at least half of the gap."""
    layers = (nn.modules.batchnorm._BatchNorm,)  # pyright: ignore[reportPrivateUsage] (the only common base)
    if not any(isinstance(module, layers) for module in model.modules()):
        return None
    renewed = copy.deepcopy(model)
    recompute_batchnorm(renewed, examples)
    found = accuracy(renewed, examples)
    return found if found > reached and found - reached >= (wanted - reached) / 2 else None


def _batchnorm_text(reached: float) -> str:
    return (
        "its running BatchNorm statistics do not fit its weights (with recomputed statistics it classifies "
        f"{reached:.1%} correctly): raise the momentum of its BatchNorm layers, or train for more --epochs"
    )
