"""Models trained for comparison against the original: closed forms, and real models that were trained wrongly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import unmem as um
from tests.helpers import logits_model, points, without_original
from unmem.data import Examples, Splits
from unmem.ensembles import complementary_masks, fold_masks
from unmem.evaluation import (
    Comparison,
    Shortfall,
    accuracy,
    evaluate,
    fold_shortfalls,
    member_shortfalls,
    model_shortfalls,
    retrained_shortfalls,
    shortfalls_of,
    untrained,
)
from unmem.evaluation.soundness import nearest_mean_accuracy
from unmem.training import fit, predict

GOOD = um.Recipe(model="mlp", epochs=20, optimizer="adamw", lr=1e-3, batch_size=32)
SLOW = replace(GOOD, optimizer="sgd", lr=1e-4)


@pytest.fixture(scope="module")
def data() -> Splits:
    return um.load("digits", limit=500)


@pytest.fixture(scope="module")
def original(data: Splits) -> nn.Module:
    return um.train(GOOD, data.train)


def problem_of(original: nn.Module, data: Splits, forget: np.ndarray, recipe: um.Recipe = GOOD) -> um.Problem:
    return um.Problem(original, data, forget, recipe=recipe)


# The rule


def test_what_is_allowed_is_the_explained_drop_a_tolerance_and_three_standard_errors() -> None:
    one = Comparison("unseen", 400, 0.9, 0.8, lost=0.02)
    assert one.allowed == pytest.approx(0.02 + 0.05 + 3 * np.sqrt((0.9 * 0.1 + 0.8 * 0.2) / 400))
    assert one.allowed == pytest.approx(0.145)
    assert not one.short
    assert Comparison("unseen", 400, 0.9, 0.75, lost=0.02).excess == pytest.approx(
        0.15 - 0.07 - 3 * np.sqrt((0.09 + 0.1875) / 400)
    )
    assert Comparison("retain", 10_000, 1.0, 0.93).short
    assert not Comparison("retain", 10_000, 1.0, 0.96).short


def test_few_examples_prove_nothing_and_none_even_less() -> None:
    assert not Comparison("unseen", 8, 0.9, 0.5).short
    assert Comparison("unseen", 800, 0.9, 0.5).short
    assert not Comparison("unseen", 0, 0.0, 0.0).short


def test_a_better_model_is_no_finding() -> None:
    assert not Comparison("unseen", 1000, 0.5, 0.99).short


# Retrained models


@pytest.fixture(scope="module")
def broken(original: nn.Module, data: Splits) -> tuple[um.Problem, list[nn.Module]]:
    """An original trained with AdamW, and retrained models of a recipe whose rate is far too low."""
    problem = problem_of(original, data, data.train.ids[:50], SLOW)
    return problem, [um.train(SLOW, problem.retain, seed=seed) for seed in (1, 2)]


def test_retrained_models_of_an_unsuitable_recipe_are_found(broken: tuple[um.Problem, list[nn.Module]]) -> None:
    problem, retrained = broken
    (found,) = retrained_shortfalls(problem, retrained)
    assert (found.what, found.count, found.short) == ("retrained model", 2, 2)
    retain, unseen = found.worst
    assert (retain.on, unseen.on) == ("retain", "unseen")
    assert (retain.n, unseen.n) == (450, len(problem.holdout))
    assert retain.original > 0.97
    assert retain.trained < 0.75
    assert "the retrained models do not reach the accuracy of the original" in found.text
    assert f"{retain.trained:.1%}" in found.text
    assert f"{retain.original:.1%}" in found.text
    for option in ("--optimizer", "--lr", "--epochs", "--base"):
        assert option in found.text
    assert SLOW.words in found.text


def test_the_worst_of_several_is_shown_and_the_others_counted(broken: tuple[um.Problem, list[nn.Module]]) -> None:
    problem, retrained = broken
    honest = um.train(GOOD, problem.retain, seed=5)
    never = um.train(replace(SLOW, epochs=0), problem.retain, seed=6)
    (found,) = retrained_shortfalls(problem, [honest, *retrained, never])
    assert (found.count, found.short) == (4, 3)
    assert "3 of 4 retrained models do not reach" in found.text
    reached = [accuracy(model, problem.retain) for model in (*retrained, never)]
    assert found.worst[0].trained == pytest.approx(min(reached))
    assert min(reached) < max(reached) - 0.05
    (single,) = retrained_shortfalls(problem, [never])
    assert "the retrained model does not reach the accuracy of the original" in single.text


def test_an_evaluation_carries_the_finding(broken: tuple[um.Problem, list[nn.Module]]) -> None:
    problem, retrained = broken
    found = evaluate({"nothing": problem.model}, problem, reference=retrained)
    assert [one.short for one in found.shortfalls] == [2]
    (entry,) = found.to_dict()["reference"]["shortfalls"]
    assert entry["text"] == found.shortfalls[0].text
    assert entry["worst"][0]["original"] > 0.97
    assert entry["worst"][0]["short"]
    stand_in = evaluate({"nothing": problem.model}, without_original(problem), reference=retrained)
    assert "do not reach the accuracy of the audited model" in stand_in.shortfalls[0].text
    honest = evaluate({}, problem, reference=[um.train(GOOD, problem.retain, seed=5)])
    assert honest.shortfalls == ()
    assert honest.to_dict()["reference"]["shortfalls"] == []


@pytest.mark.parametrize("request_", ["random", "hard", "class", "two classes", "most of a class"])
def test_honest_retrained_models_are_no_finding(request_: str, original: nn.Module, data: Splits) -> None:
    labels = data.train.labels.numpy()
    known = predict(original, data.train).log_softmax(1).gather(1, data.train.labels[:, None])[:, 0].numpy()
    chosen = {
        "random": data.train.ids[::10],
        "hard": data.train.ids[np.argsort(known)[:50]],
        "class": data.train.ids[labels == 3],
        "two classes": data.train.ids[np.isin(labels, (3, 4))],
        "most of a class": data.train.ids[labels == 3][:45],
    }[request_]
    problem = problem_of(original, data, chosen)
    assert retrained_shortfalls(problem, [um.train(GOOD, problem.retain, seed=seed) for seed in (1, 2)]) == ()


def test_the_loss_of_a_forgotten_class_is_allowed_and_no_more() -> None:
    """Three classes, told apart by the sign of a feature; a retrained model that never names a class."""
    data = um.Splits("signs", *(signs(seed, prefix) for seed, prefix in enumerate(("", "h", "t"))))
    perfect = logits_model([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    without = logits_model([[1, 0, 0], [0, 1, 0], [0, 0, -9]])
    problem = um.Problem(perfect, data, data.train.ids[data.train.labels.numpy() == 2], recipe=um.Recipe())
    assert retrained_shortfalls(problem, [without]) == ()
    other = um.Problem(perfect, data, data.train.ids[data.train.labels.numpy() == 1], recipe=um.Recipe())
    (found,) = retrained_shortfalls(other, [without])
    assert found.worst[0].trained == pytest.approx(0.5)  # of the retained classes 0 and 2, it knows one


def test_a_forgotten_class_explains_the_loss_of_its_own_share_of_the_unseen_examples() -> None:
    """Of three classes one is forgotten; a model that knows two of them no more has lost too much."""
    data = um.Splits("signs", *(signs(seed, prefix) for seed, prefix in enumerate(("", "h", "t"))))
    perfect = logits_model([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    problem = um.Problem(perfect, data, data.train.ids[data.train.labels.numpy() == 2], recipe=um.Recipe())
    (found,) = retrained_shortfalls(problem, [ByHeart(problem.retain)])
    retain, unseen = found.worst
    assert not retain.short
    assert unseen.short
    assert (unseen.trained, unseen.lost) == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def signs(seed: int, prefix: str) -> Examples:
    random = np.random.default_rng(seed)
    labels = np.arange(300) % 3
    x = np.eye(3)[labels] + random.normal(scale=0.01, size=(300, 3))
    return Examples.of(x.astype(np.float32), labels, ids=[f"{prefix}{i}" for i in range(300)], n_classes=3)


def test_a_model_that_fits_what_it_saw_and_knows_less_of_the_rest_points_elsewhere() -> None:
    """Right on the retain set by heart, and at chance on unseen examples."""
    data = um.Splits("signs", *(signs(seed, prefix) for seed, prefix in enumerate(("", "h", "t"))))
    perfect = logits_model([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    (found,) = model_shortfalls(
        "teacher",
        perfect,
        [ByHeart(data.train)],
        retain=data.train,
        unseen=data.holdout,
        recipe=um.Recipe(),
    )
    assert [one.short for one in found.worst] == [False, True]
    assert "--augment" in found.text
    assert "--lr" not in found.text
    assert "targets from the teacher" in found.text


class ByHeart(nn.Module):
    """Knows the examples that it was given, and names class 0 for all others."""

    def __init__(self, examples: Examples) -> None:
        super().__init__()
        self.x, self.y = examples.inputs[:], examples.labels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        same = (x[:, None] == self.x[None]).all(2)
        classes = torch.where(same.any(1), self.y[same.int().argmax(1)], 0)
        return nn.functional.one_hot(classes, 3).float()


def test_a_share_of_the_data_explains_a_loss_by_the_learning_curve() -> None:
    """The original has 20% errors; on a quarter of the data, 1/√¼ = twice as many are explained, on all of it none."""
    examples = signs(0, "")
    original, worse = Right(240), Right(160)

    def found(share: float) -> tuple[Shortfall, ...]:
        return model_shortfalls(
            "member", original, [worse], retain=examples, unseen=examples, recipe=um.Recipe(), share=share
        )

    assert found(0.25) == ()
    (one,) = found(1.0)
    assert [side.lost for side in one.worst] == [0, 0]
    assert Comparison("unseen", 300, 0.8, 160 / 300, lost=0.2).allowed == pytest.approx(
        0.25 + 3 * np.sqrt((0.16 + 0.2489) / 300), abs=1e-4
    )


class Right(nn.Module):
    """Right about the first so many of 300 examples in the order in which they are asked for, in batches of 128."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count, self.seen = count, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        place = torch.arange(self.seen, self.seen + len(x))
        self.seen = (self.seen + len(x)) % 300
        return torch.where((place < self.count)[:, None], x, -x)


# Batch norm


class Normed(nn.Module):
    """A small network whose running statistics hardly move."""

    def __init__(self, features: int, classes: int, momentum: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(features, 32), nn.BatchNorm1d(32, momentum=momentum), nn.ReLU(), nn.Linear(32, classes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(50 + 100 * x.flatten(1))


def test_running_statistics_that_lag_behind_are_named(original: nn.Module, data: Splits) -> None:
    problem = problem_of(original, data, data.train.ids[:50])
    lagging = fit(Normed(64, 10, momentum=1e-4), problem.retain, GOOD, seed=0)
    (found,) = retrained_shortfalls(problem, [lagging])
    assert "BatchNorm" in found.text
    assert "momentum" in found.text
    state = {name: value.clone() for name, value in lagging.state_dict().items()}
    fault = untrained(lagging, problem.retain, recipe=GOOD)
    assert fault is not None
    assert "momentum" in fault.text
    assert all(torch.equal(value, state[name]) for name, value in lagging.state_dict().items())
    usual = fit(Normed(64, 10, momentum=0.1), problem.retain, GOOD, seed=0)
    assert retrained_shortfalls(problem, [usual]) == ()


# Members and folds


def test_members_of_an_unsuitable_recipe_are_found_and_others_are_not(original: nn.Module, data: Splits) -> None:
    kept = complementary_masks(len(data.train), 4, seed=0)
    good, slow = (um.train_members(recipe, data.train, kept, unseen=data.holdout) for recipe in (GOOD, SLOW))
    assert member_shortfalls(original, good, data) == ()
    (found,) = member_shortfalls(original, slow, data)
    assert (found.what, found.count, found.short) == ("member", 4, 4)
    assert SLOW.words in found.text  # how the members were trained, by their own settings
    share = float(kept[0].mean())
    worst = found.worst[0]
    assert worst.lost == pytest.approx((1 - worst.original) * (share**-0.5 - 1))
    assert [one.on for one in found.worst] == ["retain", "unseen"]
    blind = um.train_members(SLOW, data.train, kept)
    assert [one.on for one in member_shortfalls(original, blind, data)[0].worst] == ["retain"]


def test_one_broken_member_is_counted(original: nn.Module, data: Splits) -> None:
    kept = complementary_masks(len(data.train), 4, seed=0)
    members = um.train_members(GOOD, data.train, kept, unseen=data.holdout)
    assert members.unseen is not None
    prediction = members.train.prediction.copy()
    prediction[2] = 0
    spoilt = replace(members, train=replace(members.train, prediction=prediction))
    (found,) = member_shortfalls(original, spoilt, data)
    assert found.short == 1
    assert "1 of 4 members does not reach" in found.text
    of_zero = float((data.train.labels.numpy()[kept[2]] == 0).mean())
    assert found.worst[0].trained == pytest.approx(of_zero)


def test_fold_models_of_an_unsuitable_recipe_are_found_and_others_are_not(original: nn.Module, data: Splits) -> None:
    good, slow = (um.crossfit(recipe, data.train, folds=2, unseen=data.holdout) for recipe in (GOOD, SLOW))
    assert fold_shortfalls(original, good, data) == ()
    (found,) = fold_shortfalls(original, slow, data)
    assert (found.what, found.count, found.short) == ("fold model", 2, 2)
    assert found.worst[1].n == len(data.holdout)
    assert shortfalls_of(original, [good, slow], data) == (found,)
    unknown = replace(slow, settings={"folds": 2})
    assert fold_shortfalls(original, unknown, data) == ()


def test_the_accuracies_of_fold_models_are_those_of_models_trained_by_hand(data: Splits) -> None:
    made = um.crossfit(GOOD, data.train, folds=2, seed=3, unseen=data.holdout)
    kept = fold_masks(data.train.labels, 2, seed=3)
    for k, mask in enumerate(kept):
        part = data.train.at(np.flatnonzero(mask))
        model = um.train(GOOD, part, seed=3 + k)
        for on, examples in (("retain", part), ("unseen", data.holdout)):
            hits = float((predict(model, examples).argmax(1) == examples.labels).double().mean())
            assert made.settings["fold_accuracy"][on][k] == pytest.approx(hits)


# The trained original


def test_a_model_at_chance_is_untrained(data: Splits) -> None:
    never = um.train(replace(GOOD, epochs=0), data.train)
    fault = untrained(never, data.train, recipe=GOOD)
    assert fault is not None
    assert fault.at_chance
    assert "did not learn" in fault.text
    assert "no more than chance" in fault.text
    for option in ("--lr", "--optimizer", "--epochs"):
        assert option in fault.text


def test_a_model_below_the_nearest_class_mean_is_untrained(data: Splits) -> None:
    barely = um.train(SLOW, data.train)
    fault = untrained(barely, data.train, recipe=SLOW)
    assert fault is not None
    assert not fault.at_chance
    assert "nearest class mean" in fault.text
    assert "--optimizer adamw" in fault.text


def test_a_trained_model_is_not(original: nn.Module, data: Splits) -> None:
    assert untrained(original, data.train, recipe=GOOD) is None
    flipped = um.load("digits", limit=500, flip=0.3)
    assert untrained(um.train(GOOD, flipped.train), flipped.train, recipe=GOOD) is None


def test_the_nearest_class_mean_agrees_with_scikit_learn(data: Splits) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    found, n = nearest_mean_accuracy(data.train)
    order = np.random.default_rng(0).permutation(len(data.train))
    first, second = (np.sort(half) for half in np.array_split(order, 2))
    x = torch.cat([x for _, x, _ in data.train.batches([torch.arange(len(data.train))])]).flatten(1).numpy()
    y = data.train.labels.numpy()
    means = np.stack([x[first][y[first] == label].mean(axis=0) for label in range(10)])
    nearest = KNeighborsClassifier(1).fit(means, np.arange(10))
    assert n == len(second) == 250
    assert found == pytest.approx(float((nearest.predict(x[second]) == y[second]).mean()))


def test_token_ids_have_no_mean() -> None:
    names = [str(i) for i in range(10)]
    tokens = Examples.of(np.arange(40).reshape(10, 4), np.arange(10) % 2, ids=names, n_classes=2, scaling=None)
    assert nearest_mean_accuracy(tokens) == (0.0, 0)
    assert nearest_mean_accuracy(points(3)) == (0.0, 0)
