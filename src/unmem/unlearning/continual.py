"""Continual unlearning: requests arrive one after another, and each starts from the previous model.

Source: arXiv 2410.16516, which asks whether a score stays faithful as the model changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import nn

from unmem.data import Ids, Splits, as_ids
from unmem.errors import UserError
from unmem.memorization import Scores
from unmem.recipe import Recipe
from unmem.requests import check_request
from unmem.training import Observer
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import Unlearner

# (model, data) -> scores of the training examples, such as holdout retraining or curvature of that model.
Rescore = Callable[[nn.Module, Splits], Scores]


@dataclass(frozen=True, eq=False)
class UnlearnedRequest:
    """One request of a sequence, after unlearning.

    Attributes:
        problem: The request. Its model is the one that the previous request left, and its data no longer contain what
            was forgotten before. The target is a model retrained on `problem.retain`.
        model: The new model.
        scores: The scores that refined the request, or None.
        seconds: Time for unlearning and recomputing scores.
    """

    problem: Problem
    model: nn.Module
    scores: Scores | None
    seconds: float


def unlearn_sequence(
    requests: Iterable[Iterable[object]],
    model: nn.Module,
    data: Splits,
    unlearner: Unlearner | Callable[[Scores], Unlearner],
    *,
    recipe: Recipe,
    seed: int,
    scores: Scores | None = None,
    rescore: Rescore | None = None,
    observers: Sequence[Observer] = (),
) -> Iterator[UnlearnedRequest]:
    """Unlearn several requests in turn. Each result is yielded as soon as it is done.

    All requests are checked before the first is unlearned.

    Args:
        requests: Ids to forget, per request. No id may be in two requests.
        model: The original, from which the first request starts.
        data: The data that it was trained on.
        unlearner: One unlearner for all requests, or a function that makes one from scores.
        recipe: How the original was trained.
        seed: Request k, from 0, is unlearned with `seed + k`.
        scores: Scores computed before the first request and used for all.
        rescore: Function that recomputes the scores from the current model before each request.
        observers: Objects that watch the training steps.

    Yields:
        The result of each request, in order.

    Raises:
        UserError: An id is unknown or requested twice.
    """
    wanted = [as_ids(request, field="forget") for request in requests]
    _check(wanted, data)
    if not isinstance(unlearner, Unlearner) and scores is None and rescore is None:
        raise UserError("scores", None, "this unlearner is made from scores", "give scores, or a way to rescore")
    return _unlearn(wanted, model, data, unlearner, recipe, seed, scores, rescore, observers)


def _unlearn(
    requests: list[Ids],
    model: nn.Module,
    data: Splits,
    unlearner: Unlearner | Callable[[Scores], Unlearner],
    recipe: Recipe,
    seed: int,
    scores: Scores | None,
    rescore: Rescore | None,
    observers: Sequence[Observer],
) -> Iterator[UnlearnedRequest]:
    for k, request in enumerate(requests):
        problem = Problem(model, data, request, recipe=recipe)
        began = time.perf_counter()
        present = scores if rescore is None else rescore(model, data)
        if isinstance(unlearner, Unlearner):
            method = unlearner
        elif present is not None:
            method = unlearner(present)
        else:
            raise ValueError("checked before")
        model = method(problem, seed=seed + k, observers=observers)
        yield UnlearnedRequest(problem, model, present, time.perf_counter() - began)
        data = replace(data, train=problem.retain)


def _check(requests: list[Ids], data: Splits) -> None:
    """Each request against what the ones before it leave."""
    for request in requests:
        check_request(request, data)
        data = replace(data, train=data.train.drop(request))
