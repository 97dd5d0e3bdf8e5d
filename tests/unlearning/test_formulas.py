"""Each algorithm against its formula, written out with plain autograd and SGD."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import unmem as um
from tests.unlearning.tiny import FORGOTTEN, RECIPE, assert_same_weights, by_hand, everything, moved, tiny_problem
from unmem.targets import Targets
from unmem.unlearning import SCRUB, SSD, BadTeacher, L1Sparse, Matching, NegGrad, RandomLabel, SalUn
from unmem.unlearning.bad_teacher import ignorant
from unmem.unlearning.salun import saliency_mask
from unmem.unlearning.ssd import fisher_diagonal

Loss = Callable[[nn.Module], Tensor]


@pytest.fixture(scope="module")
def problem() -> um.Problem:
    return tiny_problem()


def cross_entropy(examples: um.Examples) -> Loss:
    x, y = everything(examples)
    return lambda model: F.cross_entropy(model(x), y)


def kl(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean over rows of Σ_k p_k (log p_k − log q_k)."""
    p = teacher.softmax(1)
    return (p * (teacher.log_softmax(1) - student.log_softmax(1))).sum(1).mean()


def test_l1_sparse_adds_a_penalty_that_falls_linearly_to_nothing(problem: um.Problem) -> None:
    retain = cross_entropy(problem.retain)

    def penalised(gamma: float) -> Loss:
        return lambda model: retain(model) + gamma * torch.stack([p.abs().sum() for p in model.parameters()]).sum()

    weights = [0.3, 0.2, 0.1, 0.0]  # the last step is plain fine-tuning
    expected = by_hand(problem, [penalised(gamma) for gamma in weights], lr=0.2)
    found = L1Sparse(epochs=4, gamma=0.3)(problem, seed=0)
    assert_same_weights(found, expected)
    by_rule = L1Sparse(epochs=4)(problem, seed=0)
    same_as_decay = L1Sparse(epochs=4, gamma=RECIPE.weight_decay)(problem, seed=0)
    assert_same_weights(by_rule, same_as_decay, atol=0)


def test_without_a_penalty_it_is_fine_tuning(problem: um.Problem) -> None:
    found = L1Sparse(epochs=3, gamma=0.0)(problem, seed=1)
    assert_same_weights(found, um.FineTune(epochs=3)(problem, seed=1))


def test_neggrad_ascends_on_the_forget_set_alone(problem: um.Problem) -> None:
    forget = cross_entropy(problem.forget)
    expected = by_hand(problem, [lambda model: -forget(model)] * 3, lr=0.05)
    assert_same_weights(NegGrad(epochs=3, lr=0.05)(problem, seed=0), expected)
    by_rule = NegGrad(epochs=3)(problem, seed=0)
    assert_same_weights(by_rule, NegGrad(epochs=3, lr=0.01 * RECIPE.lr)(problem, seed=0), atol=0)


def test_neggrad_plus_weighs_descent_and_ascent(problem: um.Problem) -> None:
    retain, forget = cross_entropy(problem.retain), cross_entropy(problem.forget)

    def both(alpha: float) -> Loss:
        return lambda model: alpha * retain(model) - (1 - alpha) * forget(model)

    found = um.NegGradPlus(epochs=3, lr=0.1, alpha=0.8)(problem, seed=0)
    assert_same_weights(found, by_hand(problem, [both(0.8)] * 3, lr=0.1))
    share = len(problem.retain) / len(problem.data.train)
    by_rule = um.NegGradPlus(epochs=3, lr=0.1)(problem, seed=0)
    assert_same_weights(by_rule, by_hand(problem, [both(share)] * 3, lr=0.1))


def test_neggrad_plus_without_ascent_is_fine_tuning(problem: um.Problem) -> None:
    found = um.NegGradPlus(epochs=3, lr=0.1, alpha=1.0)(problem, seed=2)
    assert_same_weights(found, um.FineTune(epochs=3, lr=0.1)(problem, seed=2))


def test_scrub_moves_away_and_back_in_its_first_epochs_and_only_back_after(problem: um.Problem) -> None:
    x_forget, _ = everything(problem.forget)
    x_retain, y_retain = everything(problem.retain)
    with torch.no_grad():
        teacher_forget, teacher_retain = problem.model(x_forget), problem.model(x_retain)
    temperature, gamma, beta = 3.0, 0.9, 0.2

    def away(model: nn.Module) -> Tensor:
        return -(temperature**2) * kl(teacher_forget / temperature, model(x_forget) / temperature)

    def back(model: nn.Module) -> Tensor:
        logits = model(x_retain)
        close = temperature**2 * kl(teacher_retain / temperature, logits / temperature)
        return gamma * F.cross_entropy(logits, y_retain) + beta * close

    method = SCRUB(epochs=3, max_epochs=2, gamma=gamma, beta=beta, temperature=temperature, lr=0.1)
    found = method(problem, seed=0)
    assert_same_weights(found, by_hand(problem, [away, back, away, back, back], lr=0.1))
    assert moved(problem, found)


def test_random_labels_of_two_classes_are_the_other_one() -> None:
    problem = tiny_problem(classes=2)
    x, y = everything(problem.data.train)
    wrong = y.clone()
    where = problem.data.train.positions(problem.forget.ids)
    wrong[where] = 1 - wrong[where]
    expected = by_hand(problem, [lambda model: F.cross_entropy(model(x), wrong)] * 3, lr=0.2)
    assert_same_weights(RandomLabel(epochs=3)(problem, seed=0), expected)


def test_random_labels_are_never_the_own_one_and_drawn_anew_at_each_visit(problem: um.Problem) -> None:
    from unmem.training import Batch
    from unmem.unlearning.random_label import wrong_labels

    train = problem.data.train
    index = torch.arange(len(train))
    objective = wrong_labels(problem, seed=0)
    where = torch.as_tensor(train.positions(problem.forget.ids))
    certain = 50 * F.one_hot(train.labels, train.n_classes).float()

    class Certain(nn.Module):
        """Says the true label of each example with certainty, so the loss of a wrong one is 50."""

        def forward(self, x: Tensor) -> Tensor:
            return certain

    losses = []
    for _ in range(20):
        loss, _ = objective(Certain(), Batch(index, *train.batch(index)))
        losses.append(float(loss) * len(train))
    assert np.allclose(losses, 50 * FORGOTTEN, rtol=1e-5)  # each forgotten one is wrong, each retained one right
    drawn = [objective(nn.Linear(4, 3), Batch(index, *train.batch(index)))[0] for _ in range(2)]
    assert len(where) == FORGOTTEN
    assert drawn[0] != drawn[1]


def test_salun_is_random_label_on_the_most_salient_weights_only() -> None:
    problem = tiny_problem(classes=2)
    mask = saliency_mask(problem.model, problem.forget, 0.5)
    forget = cross_entropy(problem.forget)
    gradients = torch.autograd.grad(forget(problem.model), list(problem.model.parameters()))
    size = torch.cat([g.abs().flatten() for g in gradients])
    chosen = torch.cat([m.flatten() for m in mask.values()])
    assert int(chosen.sum()) == round(0.5 * len(size))
    assert size[chosen].min() >= size[~chosen].max()

    x, y = everything(problem.data.train)
    wrong = y.clone()
    where = problem.data.train.positions(problem.forget.ids)
    wrong[where] = 1 - wrong[where]

    @torch.no_grad()
    def put_back(model: nn.Module) -> None:
        originals = dict(problem.model.named_parameters())
        for name, parameter in model.named_parameters():
            parameter[~mask[name]] = originals[name][~mask[name]]

    expected = by_hand(problem, [lambda model: F.cross_entropy(model(x), wrong)] * 3, lr=0.2, after_step=put_back)
    found = SalUn(epochs=3)(problem, seed=0)
    assert_same_weights(found, expected)
    originals = dict(problem.model.named_parameters())
    for name, parameter in found.named_parameters():
        assert torch.equal(parameter[~mask[name]], originals[name][~mask[name]])
        assert bool((parameter[mask[name]] != originals[name][mask[name]]).all())


def test_salun_on_all_weights_is_random_label(problem: um.Problem) -> None:
    found = SalUn(epochs=2, share=1.0)(problem, seed=3)
    assert_same_weights(found, RandomLabel(epochs=2)(problem, seed=3), atol=0)


def test_bad_teacher_imitates_the_original_and_an_ignorant_network(problem: um.Problem) -> None:
    x_forget, _ = everything(problem.forget)
    x_retain, _ = everything(problem.retain)
    with torch.no_grad():
        targets = torch.cat([ignorant(problem.model, seed=5)(x_forget), problem.model(x_retain)])
    x = torch.cat([x_forget, x_retain])
    expected = by_hand(problem, [lambda model: kl(targets, model(x))] * 3, lr=0.1)
    found = BadTeacher(epochs=3, lr=0.1, retain_share=1.0)(problem, seed=5)
    assert_same_weights(found, expected, atol=1e-5)


def test_the_ignorant_network_knows_nothing_of_the_original(problem: um.Problem) -> None:
    new = ignorant(problem.model, seed=0)
    for before, after in zip(problem.model.parameters(), new.parameters(), strict=True):
        assert not torch.allclose(before, after)
    own = nn.Module()
    own.weight = nn.Parameter(torch.arange(12.0).view(3, 4))
    shuffled = next(ignorant(own, seed=0).parameters())
    assert not torch.equal(shuffled, own.weight)
    assert torch.equal(shuffled.flatten().sort().values, own.weight.flatten())


def out_of_fold(problem: um.Problem, *, seed: int = 0) -> Targets:
    """Made-up predictions of all training examples."""
    random = torch.Generator().manual_seed(seed)
    train = problem.data.train
    log_probs = torch.randn(len(train), train.n_classes, generator=random).log_softmax(1)
    own = log_probs.gather(1, train.labels[:, None])[:, 0]
    phi = own - (1 - own.exp()).log()
    return Targets("made up", train.ids, phi.numpy(), log_probs.numpy())


@pytest.mark.parametrize("form", ["kl", "log-odds"])
def test_matching_pulls_to_the_out_of_fold_prediction(form: str, problem: um.Problem) -> None:
    crossfit = out_of_fold(problem)
    retain = cross_entropy(problem.retain)
    x, y = everything(problem.forget)
    targets = crossfit.take(problem.forget.ids)
    log_q, phi_q = torch.from_numpy(targets.log_probs), torch.from_numpy(targets.phi)

    def distance(model: nn.Module) -> Tensor:
        log_p = model(x).log_softmax(1)
        if form == "kl":
            return (log_q.exp() * (log_q - log_p)).sum(1).mean()
        own = log_p.gather(1, y[:, None])[:, 0]
        gap = (own - torch.log1p(-own.exp()) - phi_q).abs()
        return torch.where(gap < 1, gap**2 / 2, gap - 0.5).mean()

    weight = FORGOTTEN / len(problem.retain)
    expected = by_hand(problem, [lambda model: retain(model) + weight * distance(model)] * 3, lr=0.1, as_matching=True)
    method = Matching(targets=crossfit, epochs=3, lr=0.1, form=form, adapt=0.0)  # pyright: ignore[reportArgumentType]
    assert_same_weights(method(problem, seed=0), expected, atol=1e-5)


def test_the_weight_of_matching_grows_while_the_forget_set_is_known_too_well(problem: um.Problem) -> None:
    sure = out_of_fold(problem)
    low = replace(sure, phi=sure.phi - 30)
    high = replace(sure, phi=sure.phi + 30)

    def model(crossfit: Targets, adapt: float, weight: float | None = None) -> nn.Module:
        method = Matching(targets=crossfit, epochs=2, lr=0.1, adapt=adapt, weight=weight)
        return method(problem, seed=0)

    # Known worse than its targets: λ stays at its start.
    assert_same_weights(model(high, 2.0), model(high, 0.0), atol=0)
    # Known better by far in each of the two steps: the second one has exp(adapt / 2) times the weight.
    retain, (x, y) = cross_entropy(problem.retain), everything(problem.forget)
    goal = torch.from_numpy(low.take(problem.forget.ids).phi)
    start = FORGOTTEN / len(problem.retain)

    def loss(weight: float) -> Loss:
        def of(model: nn.Module) -> Tensor:
            own = model(x).log_softmax(1).gather(1, y[:, None])[:, 0]
            return retain(model) + weight * (own - torch.log1p(-own.exp()) - goal - 0.5).mean()

        return of

    expected = by_hand(problem, [loss(start), loss(start * np.exp(1.0))], lr=0.1, as_matching=True)
    assert_same_weights(model(low, 2.0), expected, atol=1e-4)


def test_ssd_shrinks_the_weights_that_matter_much_more_to_the_forget_set(problem: um.Problem) -> None:
    def importance(examples: um.Examples) -> list[Tensor]:
        total = [torch.zeros_like(p) for p in problem.model.parameters()]
        for i in range(len(examples)):
            x, y = examples.batch(torch.tensor([i]))
            loss = F.cross_entropy(problem.model(x), y)
            for sum_, g in zip(total, torch.autograd.grad(loss, list(problem.model.parameters())), strict=True):
                sum_ += g.square() / len(examples)
        return total

    forget, all_data = importance(problem.forget), importance(problem.data.train)
    for found, expected in zip(fisher_diagonal(problem.model, problem.forget).values(), forget, strict=True):
        torch.testing.assert_close(found, expected)
    a, b = 1.2, 0.9
    found = SSD(a=a, b=b)(problem, seed=0)
    touched = 0
    for before, after, s, d in zip(problem.model.parameters(), found.parameters(), forget, all_data, strict=True):
        chosen = s > a * d
        factor = torch.where(chosen, (b * d / s).clamp(max=1), torch.ones_like(s))
        torch.testing.assert_close(after, factor * before)
        touched += int(chosen.sum())
    assert 0 < touched < sum(p.numel() for p in found.parameters())
