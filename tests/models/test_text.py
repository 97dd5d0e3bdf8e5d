"""Every unlearner, every score and the audit on a text classifier: token ids in, nothing cast, padding not seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import unmem as um
from tests.helpers import same_state, state_of
from tests.models.bert import VOCABULARY, save_bert, sentences
from unmem.cli.methods import METHODS, plan
from unmem.memorization import EVENTS, Scorer, crossfit
from unmem.memorization.by_name import FROM_MODEL
from unmem.memorization.curvature import input_gradient
from unmem.targets import FromCrossFit
from unmem.unlearning import RUM, FineTune, Nothing
from unmem.unlearning.ssd import fisher_diagonal

DATA = sentences()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> um.Recipe:
    folder = save_bert(tmp_path_factory.mktemp("bert") / "bert")
    return um.Recipe(model=f"transformers/{folder}", epochs=6, lr=0.1, batch_size=8)


@pytest.fixture(scope="module")
def model(recipe: um.Recipe) -> nn.Module:
    return um.train(recipe, DATA.train)


@pytest.fixture(scope="module")
def problem(model: nn.Module, recipe: um.Recipe) -> um.Problem:
    return um.Problem(model, DATA, DATA.train.ids[:6], recipe=recipe)


@pytest.fixture(scope="module")
def fold(recipe: um.Recipe) -> um.CrossFit:
    return crossfit(recipe, DATA.train, unseen=DATA.holdout)


def test_it_learns_its_sentences(model: nn.Module) -> None:
    right = um.predict(model, DATA.train).argmax(1) == DATA.train.labels
    assert right.float().mean() > 0.9


@pytest.mark.parametrize("name", METHODS)
def test_every_method_unlearns_it(name: str, problem: um.Problem, fold: um.CrossFit) -> None:
    fields = {"influence": ["samples=10", "iterations=3"], "ssd": ["a=1.1"]}.get(name, [])
    unlearner = plan(name, [], fields).make(None, FromCrossFit(fold).targets)
    before = state_of(problem.model)
    new = unlearner(problem, seed=0)
    assert same_state(before, state_of(problem.model))
    assert same_state(before, state_of(new)) == (name == "nothing")
    assert um.predict(new, DATA.test).isfinite().all()


def test_rum_unlearns_it(problem: um.Problem) -> None:
    scores = um.Scores("random", DATA.train.ids, np.random.default_rng(0).random(len(DATA.train)))
    new = RUM(scores, [Nothing(), FineTune(epochs=1)])(problem, seed=0)
    assert not same_state(state_of(problem.model), state_of(new))


def test_every_score_scores_it(recipe: um.Recipe) -> None:
    scorer = Scorer(DATA, recipe=recipe, members=2)
    names = [*EVENTS, *FROM_MODEL]
    scorer.check(*names)
    for name in names:
        found = scorer.get(name)
        assert list(found.ids) == list(DATA.train.ids)
        if not name.startswith("feldman"):  # of two members, not every example is in and out
            assert np.isfinite(found.values).all(), name


def test_the_audit_judges_it(problem: um.Problem) -> None:
    found = um.audit({"unlearned": problem.model}, problem, reference=[um.Retrain()(problem, seed=1)])
    assert 0 <= found.evaluation.methods["unlearned"].accuracy["forget"] <= 1


def test_a_token_beyond_the_vocabulary_is_refused(model: nn.Module, recipe: um.Recipe) -> None:
    inputs = DATA.train.inputs.clone()
    inputs[7, 0] = VOCABULARY
    data = um.Splits("wrong", um.Examples.of(inputs, DATA.train.labels, scaling=None), DATA.holdout, DATA.test)
    with pytest.raises(um.UserError, match=r"cannot take inputs.*index out of range"):
        um.Problem(model, data, ["1"], recipe=recipe)


def test_a_text_longer_than_the_positions_is_refused(model: nn.Module, recipe: um.Recipe) -> None:
    """Where the tokenizer lies elsewhere, nothing could be known of the model when the texts were read."""
    inputs = torch.full((48, 17), 120)
    data = um.Splits("long", um.Examples.of(inputs, DATA.train.labels, scaling=None), DATA.holdout, DATA.test)
    with pytest.raises(um.UserError, match=r"have 17 tokens, but the model has 16 positions.*--max-length 16"):
        um.Problem(model, data, ["1"], recipe=recipe)
    with pytest.raises(um.UserError, match=r"17 tokens, but the model has 16 positions"):
        um.train(recipe, data.train)


def test_the_gradient_by_the_embedding_is_that_of_the_loss(model: nn.Module) -> None:
    x, y = DATA.train.batch(torch.arange(3))
    gradient = input_gradient(model, x, y)
    assert gradient.shape == (3, 10, 32)
    assert gradient[x == 0].abs().max() == 0  # nobody attends to padding
    step = torch.zeros_like(gradient)
    step[1, 0] = 1e-3 * gradient[1, 0] / gradient[1, 0].norm()

    def loss(shift: torch.Tensor) -> float:
        layer = model.get_submodule("inner.bert.embeddings.word_embeddings")
        hook = layer.register_forward_hook(lambda _, __, out: out + shift)
        with torch.no_grad():
            found = nn.functional.cross_entropy(model(x).double(), y, reduction="sum")
        hook.remove()
        return float(found)

    rise = (loss(step) - loss(-step)) / 2e-3
    assert rise == pytest.approx(float(gradient[1, 0].norm()), rel=0.02)
    shifted = input_gradient(model, x, y, shift=1000 * step)
    assert not torch.allclose(shifted[1], gradient[1])
    assert torch.allclose(shifted[[0, 2]], gradient[[0, 2]], atol=1e-6)


def test_curvature_without_an_embedding_is_refused() -> None:
    class Counts(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.one_hot(x[:, 0], VOCABULARY).float()[:, 10:13]

    with pytest.raises(um.UserError, match=r"no nn\.Embedding"):
        um.curvature(Counts(), DATA.train)


def test_gradients_by_example_are_those_of_one_after_another(model: nn.Module) -> None:
    few = DATA.train.at(np.arange(5))
    found = fisher_diagonal(model, few)
    total = torch.zeros(3)
    bias = model.get_parameter("inner.classifier.bias")
    for i in range(5):
        x, y = few.batch(torch.tensor([i]))
        total += torch.autograd.grad(nn.functional.cross_entropy(model(x), y), bias)[0].square()
    torch.testing.assert_close(found["inner.classifier.bias"], total / 5)
