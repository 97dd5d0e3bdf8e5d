"""Continual unlearning: requests arrive one after another, and each starts from the model that the last one left.

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
    """One request of a sequence, unlearned.

    problem: the request as its unlearner saw it; its model is the one that the last request left, and its data no
        longer hold what was forgotten before. A model retrained on `problem.retain` is what the result should equal.
    model: the new model. scores: what refined the request, if anything. seconds: of unlearning and rescoring.
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
    """Unlearn requests in turn; each is yielded as soon as it is done, so that it can be evaluated before the next.

    model: the original, which the first request starts from. data: what it was trained on. recipe: how it was trained.
    unlearner: the same for each request, or made anew from scores. scores: carried over from request to request, as
    they were before the first. rescore: recomputes them before each request from the model at hand instead. All
    requests are checked before the first is unlearned: none may ask for an example twice.
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
