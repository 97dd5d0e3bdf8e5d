"""Label smoothing of the recipe: in every loss that trains by it, written out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unmem as um
from tests.helpers import same_state, state_of
from tests.unlearning.tiny import FORGOTTEN, RECIPE, assert_same_weights, by_hand, everything, moved, tiny_problem
from unmem.ensembles import leave_out_masks, train_members
from unmem.evaluation.relearning import relearn
from unmem.memorization import CrossFit, crossfit
from unmem.targets import FromCrossFit
from unmem.training import Batch, cross_entropy
from unmem.unlearning import SCRUB, Influence, L1Sparse, Matching, NegGrad, RandomLabel, Retrain, Unlearner
from unmem.unlearning.salun import mean_gradient, saliency_mask

SMOOTHING = 0.2
SMOOTHED = replace(RECIPE, label_smoothing=SMOOTHING)
Loss = Callable[[nn.Module], Tensor]


@pytest.fixture(scope="module")
def problem() -> um.Problem:
    return tiny_problem(recipe=SMOOTHED)


def smoothed(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy against (1 − ε) · one-hot + ε / C."""
    classes = logits.shape[1]
    target = torch.full_like(logits, SMOOTHING / classes)
    target[torch.arange(len(labels)), labels] += 1 - SMOOTHING
    return -(target * logits.log_softmax(1)).sum(1).mean()


def loss_on(examples: um.Examples) -> Loss:
    x, y = everything(examples)
    return lambda model: smoothed(model(x), y)


def test_the_loss_has_its_closed_form() -> None:
    problem = tiny_problem()
    batch = Batch(torch.arange(24), *everything(problem.data.train))
    loss, logits = cross_entropy(problem.model, batch, SMOOTHING)
    torch.testing.assert_close(loss, smoothed(logits, batch.labels))
    plain = -logits.log_softmax(1)[torch.arange(24), batch.labels].mean()
    torch.testing.assert_close(cross_entropy(problem.model, batch)[0], plain)
    spread = -logits.log_softmax(1).mean()
    torch.testing.assert_close(loss, (1 - SMOOTHING) * plain + SMOOTHING * spread)


def flat_crossfit(problem: um.Problem) -> CrossFit:
    n = len(problem.data.train)
    log_probs = np.full((n, 3), -np.log(3), np.float32)
    return CrossFit(problem.data.train.ids, log_probs, np.zeros(n, np.float32), np.zeros(n, np.float32), 0.0, {})


def test_fine_tuning_and_ascent_take_the_loss_of_the_training(problem: um.Problem) -> None:
    retain, forget = loss_on(problem.retain), loss_on(problem.forget)

    def l1(gamma: float) -> Loss:
        return lambda model: retain(model) + gamma * torch.stack([p.abs().sum() for p in model.parameters()]).sum()

    def both(model: nn.Module) -> Tensor:
        return 0.8 * retain(model) - 0.2 * forget(model)

    def descent(model: nn.Module) -> Tensor:
        return -forget(model)

    found: list[tuple[Unlearner, list[Loss]]] = [
        (um.FineTune(epochs=3, lr=0.1), [retain] * 3),
        (L1Sparse(epochs=3, lr=0.1, gamma=0.3), [l1(0.3), l1(0.15), l1(0.0)]),
        (NegGrad(epochs=3, lr=0.1), [descent] * 3),
        (um.NegGradPlus(epochs=3, lr=0.1, alpha=0.8), [both] * 3),
    ]
    for method, losses in found:
        made = method(problem, seed=0)
        assert_same_weights(made, by_hand(problem, losses, lr=0.1))
        assert moved(problem, made)


def test_scrub_smooths_its_cross_entropy_and_not_its_divergence(problem: um.Problem) -> None:
    retain, (x, _) = loss_on(problem.retain), everything(problem.retain)
    with torch.no_grad():
        teacher = problem.model(x).log_softmax(1)

    def close(model: nn.Module) -> Tensor:
        return 0.9 * retain(model) + 0.5 * (teacher.exp() * (teacher - model(x).log_softmax(1))).sum(1).mean()

    method = SCRUB(epochs=2, max_epochs=0, gamma=0.9, beta=0.5, temperature=1.0, lr=0.1)
    assert_same_weights(method(problem, seed=0), by_hand(problem, [close] * 2, lr=0.1))


def test_matching_smooths_the_retain_set_and_not_its_targets(problem: um.Problem) -> None:
    retain, (x, y) = loss_on(problem.retain), everything(problem.forget)

    def both(model: nn.Module) -> Tensor:
        own = model(x).log_softmax(1)[torch.arange(FORGOTTEN), y]
        gap = (own - torch.log1p(-own.exp())).abs()  # the targets are log-odds of 0
        return retain(model) + 0.7 * torch.where(gap < 1, gap**2 / 2, gap - 0.5).mean()

    method = Matching(targets=FromCrossFit(flat_crossfit(problem)), epochs=2, lr=0.1, weight=0.7, adapt=0.0)
    expected = by_hand(problem, [both] * 2, lr=0.1, as_matching=True)
    assert_same_weights(method(problem, seed=0), expected, atol=1e-5)


def test_random_labels_and_the_mask_of_salun_are_smoothed() -> None:
    problem = tiny_problem(classes=2, recipe=SMOOTHED)
    x, y = everything(problem.data.train)
    wrong = y.clone()
    wrong[:FORGOTTEN] = 1 - y[:FORGOTTEN]

    def loss(model: nn.Module) -> Tensor:
        return smoothed(model(x), wrong)

    found = RandomLabel(epochs=2, lr=0.1)(problem, seed=0)
    assert_same_weights(found, by_hand(problem, [loss] * 2, lr=0.1))
    expected = torch.autograd.grad(loss_on(problem.forget)(problem.model), list(problem.model.parameters()))
    gradient = mean_gradient(problem.model, problem.forget, smoothing=SMOOTHING)
    for ours, theirs in zip(gradient.values(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    made = um.SalUn(epochs=2, lr=0.1, share=0.3)(problem, seed=0)
    mask = saliency_mask(problem.model, problem.forget, 0.3, smoothing=SMOOTHING)
    for (name, after), before in zip(made.named_parameters(), problem.model.parameters(), strict=True):
        assert torch.equal(after != before, mask[name])


def test_the_influence_step_follows_the_gradient_of_the_smoothed_loss(problem: um.Problem) -> None:
    """With a large damping the step is |S| / |R| / λ times the gradient, to a share of 1 / λ."""
    damping = 1e3
    method = Influence(damping=damping, trust=None)
    found = method(problem, seed=0)
    parameters = list(problem.model.parameters())
    gradient = torch.autograd.grad(loss_on(problem.forget)(problem.model), parameters)
    share = len(problem.forget) / len(problem.retain)
    for before, after, slope in zip(parameters, found.parameters(), gradient, strict=True):
        step = share / damping * (slope + SMOOTHED.weight_decay * before)
        torch.testing.assert_close(after - before, step, rtol=0.01, atol=3e-7)


def trained(recipe: um.Recipe, examples: um.Examples, *, seed: int) -> dict[str, Tensor]:
    return state_of(um.train(recipe, examples, seed=seed))


def test_retrained_models_members_and_folds_are_trained_by_the_smoothed_loss(tmp_path: Path) -> None:
    data = tiny_problem().data
    recipe = um.Recipe(model="mlp", epochs=3, batch_size=8, label_smoothing=SMOOTHING)
    plain = replace(recipe, label_smoothing=0.0)
    model = um.train(recipe, data.train, seed=0)
    assert not same_state(state_of(model), trained(plain, data.train, seed=0))
    problem = um.Problem(model, data, data.train.ids[:FORGOTTEN], recipe=recipe)
    retrained = state_of(Retrain()(problem, seed=5))
    assert same_state(retrained, trained(recipe, problem.retain, seed=5))
    masks = leave_out_masks(len(data.train), 2, keep=0.5, seed=0)
    members = train_members(recipe, data.train, masks, seed=3, keep_logits=True, folder=tmp_path)
    assert members.logits is not None
    for k, kept in enumerate(masks):
        alone = um.train(recipe, data.train.at(np.flatnonzero(kept)), seed=3 + k)
        torch.testing.assert_close(torch.from_numpy(members.logits[k]), um.predict(alone, data.train))
    # Members of another smoothing are others: none is taken up, and their files stand beside.
    train_members(plain, data.train, masks, seed=3, keep_logits=True, folder=tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 4
    folds = crossfit(recipe, data.train, seed=1)
    assert not np.array_equal(folds.phi, crossfit(plain, data.train, seed=1).phi)


def test_relearning_takes_the_loss_of_the_recipe(problem: um.Problem) -> None:
    longer = um.Problem(problem.model, problem.data, problem.forget.ids, recipe=replace(SMOOTHED, epochs=40, lr=2.0))
    plain = um.Problem(problem.model, problem.data, problem.forget.ids, recipe=replace(RECIPE, epochs=40, lr=2.0))
    rises = [relearn(problem.model, one).forget for one in (longer, plain)]
    assert not np.array_equal(*rises)
