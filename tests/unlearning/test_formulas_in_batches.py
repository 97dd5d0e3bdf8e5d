"""The formulas over several batches an epoch, where weights, targets and schedules must follow the batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import unmem as um
from tests.unlearning.tiny import RECIPE, adamw, assert_same_weights, sgd, tiny_model, tiny_problem
from unmem.data import Examples, stratified_sample
from unmem.targets import Targets
from unmem.training import Batch
from unmem.unlearning import SCRUB, SSD, BadTeacher, L1Sparse, Matching, NegGrad, NegGradPlus, RandomLabel
from unmem.unlearning.bad_teacher import ignorant
from unmem.unlearning.matching import Form
from unmem.unlearning.random_label import wrong_labels
from unmem.unlearning.salun import mean_gradient, saliency_mask
from unmem.unlearning.ssd import fisher_diagonal

SEED, LR, EPOCHS, SIZE = 3, 0.1, 2, 7
Loss = Callable[[nn.Module, Tensor], Tensor]  # (model, positions of the batch) -> loss


@pytest.fixture(scope="module")
def problem() -> um.Problem:
    """24 points in batches of at most 7: 8 to forget, named in an order of their own, and 16 to keep."""
    return scattered(tiny_problem(recipe=replace(RECIPE, batch_size=SIZE)))


def scattered(problem: um.Problem) -> um.Problem:
    ids = problem.data.train.ids[[20, 3, 11, 4, 17, 22, 9, 6]]
    return um.Problem(problem.model, problem.data, ids, recipe=problem.recipe)


def orders(n: int, size: int, seed: int = SEED) -> Iterator[Tensor]:
    """Batches without end, a new permutation a round."""
    random = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(n, generator=random).tensor_split(-(-n // size))


def by_hand(problem: um.Problem, n: int, loss: Loss, *, size: int = SIZE, as_matching: bool = False) -> nn.Module:
    """EPOCHS epochs of n examples by plain SGD, or by the optimizer of matching; loss(model, positions)."""
    model = copy.deepcopy(problem.model)
    optimizer = adamw(problem, model) if as_matching else sgd(problem, model)
    total = EPOCHS * -(-n // size)
    for step, index in zip(range(total), orders(n, size), strict=False):
        done = step / total
        optimizer.param_groups[0]["lr"] = LR * (min(1, 2 - 2 * done) if as_matching else (1 + np.cos(np.pi * done)) / 2)
        optimizer.zero_grad()
        loss(model, index).backward()
        optimizer.step()
    return model


def kl(teacher: Tensor, student: Tensor) -> Tensor:
    p = teacher.softmax(1)
    return (p * (p.log() - student.log_softmax(1))).sum(1).mean()


def out_of_fold(problem: um.Problem) -> Targets:
    train, random = problem.data.train, np.random.default_rng(0)
    probs = random.dirichlet(np.ones(train.n_classes), len(train))
    own = probs[np.arange(len(train)), train.labels.numpy()]
    phi = np.log(own / (1 - own)).astype(np.float32)
    order = random.permutation(len(train))  # matched by id, not by position
    return Targets("made up", train.ids[order], phi[order], np.log(probs).astype(np.float32)[order])


def test_the_l1_penalty_falls_over_all_steps_of_all_epochs(problem: um.Problem) -> None:
    x, y = problem.retain.inputs, problem.retain.labels
    step, last = count(), EPOCHS * 3 - 1

    def loss(model: nn.Module, index: Tensor) -> Tensor:
        norm = torch.cat([p.flatten() for p in model.parameters()]).abs().sum()
        return F.cross_entropy(model(x[index]), y[index]) + 0.2 * (1 - next(step) / last) * norm

    found = L1Sparse(epochs=EPOCHS, lr=LR, gamma=0.2)(problem, seed=SEED)
    assert_same_weights(found, by_hand(problem, len(x), loss))


def test_neggrad_goes_through_the_forget_set_in_batches(problem: um.Problem) -> None:
    x, y = problem.forget.inputs, problem.forget.labels
    found = NegGrad(epochs=EPOCHS, lr=LR)(problem, seed=SEED)
    expected = by_hand(problem, len(x), lambda model, index: -F.cross_entropy(model(x[index]), y[index]))
    assert_same_weights(found, expected)


def test_neggrad_plus_takes_a_batch_of_each_set_in_a_step(problem: um.Problem) -> None:
    retain, forget = problem.retain, problem.forget
    others = orders(len(forget), SIZE)

    def loss(model: nn.Module, index: Tensor) -> Tensor:
        away = next(others)
        kept = F.cross_entropy(model(retain.inputs[index]), retain.labels[index])
        return 0.7 * kept - 0.3 * F.cross_entropy(model(forget.inputs[away]), forget.labels[away])

    found = NegGradPlus(epochs=EPOCHS, lr=LR, alpha=0.7)(problem, seed=SEED)
    assert_same_weights(found, by_hand(problem, len(retain), loss))


@pytest.mark.parametrize("form", ["kl", "log-odds"])
@pytest.mark.parametrize("weight", [None, 1.5])
def test_matching_takes_its_targets_by_id(form: Form, weight: float | None, problem: um.Problem) -> None:
    retain, forget, size = problem.retain, problem.forget, 3
    forecast = out_of_fold(problem)
    where = [list(forecast.ids).index(name) for name in forget.ids]
    q, goal = torch.from_numpy(forecast.log_probs[where]), torch.from_numpy(forecast.phi[where])
    others = orders(len(forget), size)
    factor = 8 / 16 if weight is None else weight

    def loss(model: nn.Module, index: Tensor) -> Tensor:
        away = next(others)
        log_p = model(forget.inputs[away]).double().log_softmax(1)
        if form == "kl":
            distance = (q[away].exp() * (q[away] - log_p)).sum(1).mean()
        else:
            own = log_p[torch.arange(len(away)), forget.labels[away]].exp()
            gap = ((own / (1 - own)).log() - goal[away]).abs()
            distance = torch.where(gap < 1, gap**2 / 2, gap - 0.5).mean()
        return F.cross_entropy(model(retain.inputs[index]), retain.labels[index]) + factor * distance

    method = Matching(
        targets=forecast, epochs=EPOCHS, lr=LR, form=form, weight=weight, adapt=0, forget_share=size / SIZE
    )
    expected = by_hand(problem, len(retain), loss, size=SIZE - size, as_matching=True)
    assert_same_weights(method(problem, seed=SEED), expected, atol=1e-5)


@pytest.mark.parametrize("shift", [0.0, 6.0])
def test_the_weight_of_matching_follows_the_mean_excess_of_each_step(shift: float, problem: um.Problem) -> None:
    retain, forget, adapt = problem.retain, problem.forget, 5.0
    forecast = out_of_fold(problem)
    forecast = replace(forecast, phi=forecast.phi + np.float32(shift))
    goal = torch.from_numpy(forecast.take(forget.ids).phi)
    others, growth = orders(len(forget), 3), 0.0
    ups: list[float] = []

    def loss(model: nn.Module, index: Tensor) -> Tensor:
        nonlocal growth
        away = next(others)
        own = model(forget.inputs[away]).double().softmax(1)[torch.arange(len(away)), forget.labels[away]]
        gap = (own / (1 - own)).log() - goal[away]
        distance = F.smooth_l1_loss(gap, torch.zeros_like(gap))
        total = F.cross_entropy(model(retain.inputs[index]), retain.labels[index]) + 0.5 * np.exp(growth) * distance
        ups.append(growth + adapt / (EPOCHS * 4) * float(gap.detach().clamp(-1, 1).mean()))
        growth = max(0.0, ups[-1])
        return total

    method = Matching(targets=forecast, epochs=EPOCHS, lr=LR, adapt=adapt, forget_share=3 / 7)
    found = method(problem, seed=SEED)
    assert_same_weights(found, by_hand(problem, len(retain), loss, size=4, as_matching=True), atol=1e-5)
    assert max(ups) > 0 if shift == 0 else min(ups) < 0  # λ grows, or would fall below its start


def test_bad_teacher_imitates_a_stratified_share_of_the_retain_set(problem: um.Problem) -> None:
    kept = stratified_sample(problem.retain, 10, seed=SEED)  # 0.6 of 16, rounded
    train = problem.data.train
    chosen = [i for i, name in enumerate(train.ids) if name in {*kept.ids, *problem.forget.ids}]
    stupid = ignorant(problem.model, seed=SEED)
    targets = torch.stack(
        [
            (stupid if train.ids[i] in set(problem.forget.ids) else problem.model)(train.inputs[i][None])[0]
            for i in chosen
        ]
    ).detach()
    x = train.inputs[chosen]
    found = BadTeacher(epochs=EPOCHS, lr=LR, retain_share=0.6)(problem, seed=SEED)
    expected = by_hand(problem, len(x), lambda model, index: kl(targets[index], model(x[index])))
    assert_same_weights(found, expected, atol=1e-5)


def test_random_label_trains_on_everything_with_wrong_labels_for_the_forget_set_only() -> None:
    problem = scattered(tiny_problem(classes=2, recipe=replace(RECIPE, batch_size=SIZE)))
    train = problem.data.train
    forgotten = torch.tensor([name in set(problem.forget.ids) for name in train.ids])
    labels = torch.where(forgotten, 1 - train.labels, train.labels)
    expected = by_hand(
        problem, len(train), lambda model, index: F.cross_entropy(model(train.inputs[index]), labels[index])
    )
    assert_same_weights(RandomLabel(epochs=EPOCHS, lr=LR)(problem, seed=SEED), expected)


def test_random_labels_are_each_of_the_other_classes_equally_often() -> None:
    problem = tiny_problem(tiny_model(outputs=5), classes=5)
    train, objective = problem.data.train, wrong_labels(problem, seed=0)
    where = torch.as_tensor(train.positions(problem.forget.ids))
    visits = 600

    class Silent(nn.Module):
        """Uniform logits: the gradient of the loss by them tells the label of each example."""

        def forward(self, x: Tensor) -> Tensor:
            return logits

    counts = torch.zeros(len(where), 5)
    for _ in range(visits):
        logits = torch.zeros(len(where), 5, requires_grad=True)
        loss, _ = objective(Silent(), Batch(where, *train.batch(where)))
        (slope,) = torch.autograd.grad(loss, logits)
        counts += F.one_hot(slope.argmin(1), 5)
    own = counts[torch.arange(len(where)), train.labels[where]]
    assert not own.any()
    others = counts[counts > 0].view(len(where), 4)
    # A binomial count of 600 draws at 1/4 has a standard deviation of 10.6.
    assert float((others - visits / 4).abs().max()) < 5 * 10.6


def test_the_wrong_labels_are_drawn_by_the_seed(problem: um.Problem) -> None:
    index = torch.arange(len(problem.data.train))
    batch = Batch(index, *problem.data.train.batch(index))
    first, again, other = (
        float(wrong_labels(problem, seed=seed)(problem.model, batch)[0].detach()) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_scrub_goes_through_the_forget_set_first_in_its_max_epochs(problem: um.Problem) -> None:
    retain, forget, temperature = problem.retain, problem.forget, 2.0
    model, recipe = copy.deepcopy(problem.model), problem.recipe
    with torch.no_grad():
        sure, close = problem.model(forget.inputs) / temperature, problem.model(retain.inputs) / temperature
    random = torch.Generator().manual_seed(SEED)
    steps: list[tuple[bool, Tensor]] = []
    for passes in ([False, True], [False, True], [True]):
        for kept in passes:
            n = len(retain) if kept else len(forget)
            steps += [(kept, index) for index in torch.randperm(n, generator=random).tensor_split(-(-n // SIZE))]
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    for done, (kept, index) in enumerate(steps):
        optimizer.param_groups[0]["lr"] = LR * (1 + np.cos(np.pi * done / len(steps))) / 2
        logits = model((retain if kept else forget).inputs[index])
        distance = temperature**2 * kl((close if kept else sure)[index], logits / temperature)
        loss = 0.9 * F.cross_entropy(logits, retain.labels[index]) + 0.3 * distance if kept else -distance
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    method = SCRUB(epochs=3, max_epochs=2, gamma=0.9, beta=0.3, temperature=temperature, lr=LR)
    assert_same_weights(method(problem, seed=SEED), model, atol=1e-5)


@pytest.mark.parametrize("share", [0.001, 0.1, 1 / 3, 0.74, 1.0])
def test_the_mask_has_exactly_the_share_of_all_weights(share: float, problem: um.Problem) -> None:
    mask = saliency_mask(problem.model, problem.forget, share)
    sizes = {name: p.shape for name, p in problem.model.named_parameters()}
    assert {name: one.shape for name, one in mask.items()} == sizes
    total = sum(p.numel() for p in problem.model.parameters())
    assert sum(int(one.sum()) for one in mask.values()) == max(1, round(share * total))


def test_gradients_and_importances_are_means_over_examples_however_they_are_batched(problem: um.Problem) -> None:
    """300 examples are more than one batch of either; they are 12 copies of 24 and 12 left over."""
    train = problem.data.train
    rows = torch.arange(300) % len(train)
    many = Examples.of(train.inputs[rows], train.labels[rows], n_classes=3)
    parameters = list(problem.model.parameters())
    mean = [torch.zeros_like(p) for p in parameters]
    square = [torch.zeros_like(p) for p in parameters]
    for i in range(len(train)):
        loss = F.cross_entropy(problem.model(train.inputs[i][None]), train.labels[i][None])
        copies = int((rows == i).sum())
        for a, b, g in zip(mean, square, torch.autograd.grad(loss, parameters), strict=True):
            a += copies * g / 300
            b += copies * g.square() / 300
    for found, expected in zip(mean_gradient(problem.model, many).values(), mean, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    for found, expected in zip(fisher_diagonal(problem.model, many).values(), square, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_ssd_does_not_depend_on_the_batch_size_of_the_recipe_nor_on_the_seed(problem: um.Problem) -> None:
    results = [
        SSD(a=1.2)(scattered(tiny_problem(problem.model, recipe=replace(RECIPE, batch_size=size))), seed=seed)
        for size, seed in ((2, 0), (7, 1), (64, 2))
    ]
    assert_same_weights(results[1], results[0], atol=0)
    assert_same_weights(results[2], results[0], atol=0)
    weak = SSD(a=1e9)(problem, seed=0)
    assert_same_weights(weak, problem.model, atol=0)
