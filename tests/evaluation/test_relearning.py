"""Retain-only relearning: the hidden comes back, the unknown does not."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

import unmem as um
from tests.helpers import point_splits, same_state, state_of
from unmem.evaluation.relearning import ConfidenceChange, relearn, relearning

RECIPE = um.Recipe(model="mlp", epochs=60, batch_size=32)


@pytest.fixture(scope="module")
def problem() -> um.Problem:
    data = um.load("digits", limit=400, flip=0.1)
    return um.Problem(um.train(RECIPE, data.train), data, data.flipped, recipe=RECIPE)


def hidden(problem: um.Problem) -> torch.nn.Module:
    """The original with its last bias moved, so that it answers something else while all knowledge is there."""
    model = copy.deepcopy(problem.model)
    with torch.no_grad():
        list(model.parameters())[-1].add_(torch.linspace(-6, 6, 10))
    return model


def test_what_was_only_hidden_comes_back_and_what_was_never_known_does_not(problem: um.Problem) -> None:
    honest = [relearn(um.train(RECIPE, problem.retain, seed=seed), problem) for seed in (5, 6)]
    rises = relearn(hidden(problem), problem)
    masked, retrained = relearning(rises, honest), relearning(honest[0], honest[1:])
    assert masked.before < relearning(relearn(problem.model, problem)).before - 0.1
    assert masked.rise > 0.05
    assert retrained.rise < 0.03
    assert masked.rise > 3 * abs(retrained.rise)
    assert masked.p is not None
    assert retrained.p is not None
    assert masked.p < 0.001 < 0.05 < retrained.p
    assert masked.expected == pytest.approx(np.mean([one.forget for one in honest]))


def test_the_model_is_left_as_it_was_and_before_is_its_confidence(problem: um.Problem) -> None:
    before = state_of(problem.model)
    found = relearning(relearn(problem.model, problem))
    assert same_state(before, state_of(problem.model))
    probs = um.predict(problem.model, problem.forget).softmax(1)
    own = probs[torch.arange(len(probs)), problem.forget.labels]
    assert found.before == pytest.approx(float(np.mean(own.numpy())), rel=1e-6)
    assert found == relearning(relearn(problem.model, problem))  # seeded


def test_batch_norm_of_the_copy_is_that_of_the_retain_set() -> None:
    """The model comes with statistics of other inputs; the copy takes those of one batch with all retained examples."""
    data = point_splits(48)
    recipe = um.Recipe(epochs=20, lr=0.5, batch_size=64)
    torch.manual_seed(0)
    layers = torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Tanh(), torch.nn.Linear(6, 3)
    model = torch.nn.Sequential(*layers)
    model(data.train.inputs * 3 + 1)
    model.eval()
    problem = um.Problem(model, data, data.train.ids[:12], recipe=recipe)
    found = relearn(model, problem, seed=4)
    by_hand = um.fit(copy.deepcopy(model), problem.retain, replace(recipe, epochs=2, lr=0.05), seed=4)
    with torch.no_grad():
        first, norm, last = by_hand[0], by_hand[1], by_hand[3]
        before = first(problem.retain.inputs)
        for part, was, rise in ((problem.forget, found.before, found.forget), (data.holdout, None, found.unseen)):
            scaled = (first(part.inputs) - before.mean(0)) / (before.var(0) + norm.eps).sqrt()
            logits = last(torch.tanh(scaled * norm.weight + norm.bias))
            sure, at_first = (
                given.softmax(1)[torch.arange(len(part)), part.labels].numpy() for given in (logits, model(part.inputs))
            )
            np.testing.assert_allclose(rise, sure - at_first, atol=1e-5)
            assert was is None or np.allclose(was, at_first, atol=1e-5)


def rises(forget: list[float], unseen: list[float] | None = None) -> ConfidenceChange:
    return ConfidenceChange(np.zeros(len(forget)), np.array(forget), np.array([0.0] if unseen is None else unseen))


def test_a_rise_like_that_of_retrained_models_is_none_and_agreement_by_chance_is_no_certainty() -> None:
    """p is uniform for an honest model: below 2.5% about that often, also against two that happen to agree."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        both, own = random.normal(0, 0.02, 3), random.normal(0, 0.1, (3, 60))
        ours, *theirs = [rises((b + o).tolist()) for b, o in zip(both, own, strict=True)]
        found.append(relearning(ours, theirs).p)
    assert float(np.mean(np.array(found) < 0.025)) <= 0.035


def test_the_p_value_of_a_rise_has_its_limits() -> None:
    assert relearning(rises([0.5]), [rises([0.0])]).p == 1.0  # one example says nothing of its spread
    assert relearning(rises([0.6, 0.6]), [rises([0.0, 0.0])]).p == 0.0
    assert relearning(rises([0.0, 0.0]), [rises([0.0, 0.0])]).p == 1.0
    found = relearning(rises([0.7, 0.8, 0.75, 0.75], [0.4, 0.5, 0.6]))
    assert found.expected == pytest.approx(0.5)
    assert found.p == pytest.approx(0.5)  # a rise of 0.25 more: one of four examples


def test_less_than_one_example_is_nothing_that_came_back() -> None:
    """Of wrong labels honest models are sure before and after: rises that differ by nothing, and hardly scatter."""
    random = np.random.default_rng(0)
    retrained = [rises(random.normal(0, 1e-4, 60).tolist()) for _ in range(2)]
    for more, least, most in ((0.001, 0.9, 1.0), (0.9 / 60, 0.9, 1.0), (1.5 / 60, 0.0, 1e-6)):
        ours = rises(random.normal(more, 1e-4, 60).tolist(), random.normal(0, 1e-4, 100).tolist())
        for one in (relearning(ours, retrained), relearning(ours)):
            assert one.p is not None
            assert least <= one.p <= most
