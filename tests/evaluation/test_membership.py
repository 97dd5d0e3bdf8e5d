from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import unmem as um
from unmem.data import Examples, stratified_sample
from unmem.evaluation import accuracy, called_unseen, correct, label_confidence, membership


class Readout(nn.Module):
    """Reads its logits from the inputs, so that a test decides what a model says of each example."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def examples(name: str, confidence: list[float] | np.ndarray, labels: list[int] | None = None) -> Examples:
    p = np.clip(np.asarray(confidence, dtype=float), 1e-6, 1 - 1e-6)
    labels = [i % 2 for i in range(len(p))] if labels is None else labels
    logits = np.zeros((len(p), 2))
    logits[np.arange(len(p)), labels] = np.log(p / (1 - p))
    return Examples.of(logits, labels, ids=[f"{name}{i}" for i in range(len(p))], n_classes=2)


def test_confidence_and_accuracy_are_those_the_model_says() -> None:
    e = examples("e", [0.9, 0.2, 0.6, 0.4])
    np.testing.assert_allclose(label_confidence(Readout(), e), [0.9, 0.2, 0.6, 0.4], atol=1e-6)
    assert correct(Readout(), e).tolist() == [True, False, True, False]
    assert accuracy(Readout(), e) == 0.5


def test_an_attack_on_a_model_that_separates_finds_everyone() -> None:
    random = np.random.default_rng(0)
    retain, unseen = (examples(n, random.uniform(*r, 80)) for n, r in (("r", (0.9, 1)), ("u", (0.1, 0.5))))
    for share, forget in ((0.0, [0.95] * 10), (1.0, [0.3] * 10), (0.4, [0.3] * 4 + [0.95] * 6)):
        assert called_unseen(Readout(), examples("f", forget), retain, unseen).mean() == share


@pytest.fixture
def mixed() -> tuple[Examples, Examples, Examples]:
    random = np.random.default_rng(1)
    return tuple(examples(n, random.beta(a, 2, k)) for n, a, k in (("f", 3, 60), ("r", 6, 300), ("u", 3, 100)))


def test_the_attack_does_not_depend_on_the_order_of_rows(mixed: tuple[Examples, Examples, Examples]) -> None:
    forget, retain, unseen = mixed
    calls = called_unseen(Readout(), forget, retain, unseen)
    assert 0 < calls.mean() < 1
    order = np.random.default_rng(2).permutation
    shuffled = [one.at(order(len(one))) for one in mixed]
    again = called_unseen(Readout(), *shuffled)
    assert np.array_equal(again, calls[forget.positions(shuffled[0].ids)])


def test_members_sorted_by_class_do_not_mislead_the_attack(mixed: tuple[Examples, Examples, Examples]) -> None:
    """A trap in public code: the first |T| retain examples of class-sorted data are of few classes."""
    forget, retain, unseen = mixed
    by_class = retain.at(np.argsort(retain.labels.numpy(), kind="stable"))
    first, second = (called_unseen(Readout(), forget, r, unseen) for r in (retain, by_class))
    assert np.array_equal(first, second)


def test_fewer_retained_than_unseen_examples_are_enough(mixed: tuple[Examples, Examples, Examples]) -> None:
    forget, retain, unseen = mixed
    assert len(called_unseen(Readout(), forget, retain.at(np.arange(30)), unseen)) == 60


def test_a_large_attack_is_that_of_a_stratified_sample_and_a_small_one_is_exact(
    mixed: tuple[Examples, Examples, Examples], monkeypatch: pytest.MonkeyPatch
) -> None:
    forget, retain, unseen = mixed
    whole = called_unseen(Readout(), forget, retain, unseen)
    monkeypatch.setattr(membership, "MAX_EXAMPLES", 100)  # all of the unseen: nothing changes
    assert np.array_equal(called_unseen(Readout(), forget, retain, unseen), whole)
    monkeypatch.setattr(membership, "MAX_EXAMPLES", 40)
    few = [stratified_sample(one, 40, seed=0) for one in (retain, unseen)]
    assert np.array_equal(called_unseen(Readout(), forget, retain, unseen), called_unseen(Readout(), forget, *few))
    assert not np.array_equal(called_unseen(Readout(), forget, retain, unseen), whole)


def test_evaluation_leaves_mode_and_weights(model: nn.Module, problem: um.Problem) -> None:
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    called_unseen(model, problem.forget, problem.retain, problem.holdout)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.eval()
