from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import unmem as um
from tests.helpers import point_splits
from unmem.data import Examples, Splits
from unmem.ensembles import complementary_masks, leave_out_masks, train_members
from unmem.memorization import (
    EVENTS,
    FROM_MODEL,
    SCORES,
    CurvatureTrace,
    LearningEvents,
    Scorer,
    check_names,
    crossfit,
    curvature,
    feldman,
    holdout_retraining,
    rank_average,
    score,
)
from unmem.training import train

RECIPE = um.Recipe(model="mlp", epochs=6, batch_size=16, seed=3)


@pytest.fixture(scope="module")
def data() -> Splits:
    return point_splits(60)


class Trainings(um.Observer):
    """Counts the trainings that it watches, and keeps the model of each epoch of the last one."""

    def __init__(self) -> None:
        self.count = 0
        self.models: list[nn.Module] = []

    def on_start(self, examples: Examples, recipe: um.Recipe) -> None:
        self.count += 1
        self.models = []

    def on_epoch(self, epoch: int, model: nn.Module) -> None:
        self.models.append(copy.deepcopy(model))


@pytest.fixture(scope="module")
def snapshots(data: Splits) -> list[nn.Module]:
    watching = Trainings()
    train(RECIPE, data.train, observers=[watching])
    return watching.models


@pytest.fixture
def model(snapshots: list[nn.Module]) -> nn.Module:
    return copy.deepcopy(snapshots[-1]).eval()


# Names


@pytest.mark.parametrize("name", ["confidense", "crossfit+confidense", "confidense+el2n"])
def test_a_misspelt_score_is_refused_with_a_hint(name: str, data: Splits) -> None:
    with pytest.raises(um.UserError, match="score 'confidense': no such score; did you mean 'confidence'"):
        score(name, data, recipe=RECIPE)
    with pytest.raises(um.UserError, match="--scores 'confidense'"):
        check_names([name], field="--scores", watched=True)


def test_an_unknown_score_is_refused_with_all_that_there_are(data: Splits) -> None:
    with pytest.raises(um.UserError) as refused:
        score("zzz", data, recipe=RECIPE)
    assert all(name in str(refused.value) for name in SCORES)


@pytest.mark.parametrize("name", ["", "+", "confidence+", "confidence crossfit"])
def test_half_a_name_is_refused(name: str, data: Splits) -> None:
    with pytest.raises(um.UserError, match="no such score"):
        score(name, data, recipe=RECIPE)


@pytest.mark.parametrize("name", EVENTS)
def test_learning_events_of_a_finished_model_are_refused(name: str, model: nn.Module, data: Splits) -> None:
    for wanted in (name, f"crossfit+{name}"):
        with pytest.raises(um.UserError, match=f"score '{name}'.*already trained") as refused:
            score(wanted, data, recipe=RECIPE, model=model)
        assert all(other in str(refused.value) for other in FROM_MODEL)
        assert "checkpoints" in str(refused.value)


# Each score is the one that its own function gives


def test_events_are_those_of_the_training_run(data: Splits) -> None:
    watching = LearningEvents()
    train(RECIPE, data.train, observers=[watching])
    scorer = Scorer(data, RECIPE)
    scorer.check(*EVENTS)
    for name in EVENTS:
        assert scorer.get(name).name == name
        np.testing.assert_array_equal(scorer.get(name).values, watching.scores(name).values)
    np.testing.assert_array_equal(score("el2n", data, recipe=RECIPE).values, watching.scores("el2n").values)


def test_checkpoints_stand_in_for_the_training_run(data: Splits, snapshots: list[nn.Module], model: nn.Module) -> None:
    expected = LearningEvents.from_checkpoints(snapshots, data.train)
    for name in EVENTS:
        found = score(name, data, recipe=RECIPE, model=model, checkpoints=iter(snapshots))
        np.testing.assert_array_equal(found.values, expected.scores(name).values)
        assert found.settings["epochs_watched"] == 6


ALONE: dict[str, Callable[[Splits, nn.Module], um.Scores]] = {
    "holdout": lambda data, model: holdout_retraining(model, data, recipe=RECIPE, seed=3),
    "curvature": lambda data, model: curvature(model, data.train),
    "crossfit": lambda data, _: crossfit(RECIPE, data.train, folds=2, seed=4).scores(),
    "crossfit-gap": lambda data, model: crossfit(RECIPE, data.train, folds=2, seed=4).gap(model, data.train),
    "crossfit-fit": lambda data, model: crossfit(RECIPE, data.train, folds=2, seed=4).fit(model, data.train),
    "ensemble": lambda data, _: feldman(
        train_members(RECIPE, data.train, complementary_masks(60, 6, seed=3), seed=1003), measure="confidence"
    ),
    "feldman": lambda data, _: feldman(
        train_members(RECIPE, data.train, leave_out_masks(60, 6, keep=0.7, seed=3), seed=1003)
    ),
    "feldman-confidence": lambda data, _: feldman(
        train_members(RECIPE, data.train, leave_out_masks(60, 6, keep=0.7, seed=3), seed=1003), measure="confidence"
    ),
}


@pytest.mark.parametrize("name", FROM_MODEL)
def test_a_finished_model_is_enough(name: str, data: Splits, model: nn.Module) -> None:
    found = score(name, data, recipe=RECIPE, model=model, members=6)
    expected = ALONE[name](data, model)
    assert found.name == name
    assert list(found.ids) == list(data.train.ids)
    np.testing.assert_array_equal(found.values, expected.values)
    assert (found.error is None) == (expected.error is None)


def test_an_odd_number_of_members_is_made_even_for_halves(data: Splits, model: nn.Module) -> None:
    found = score("ensemble", data, recipe=RECIPE, model=model, members=5)
    np.testing.assert_array_equal(found.values, ALONE["ensemble"](data, model).values)


def test_curvature_is_averaged_over_the_training_that_happens_here(data: Splits) -> None:
    recipe = replace(RECIPE, epochs=11)
    trace = CurvatureTrace(every=2)
    train(recipe, data.train, observers=[trace])
    found = score("curvature", data, recipe=recipe)
    np.testing.assert_array_equal(found.values, trace.scores().values)
    assert found.settings["passes"] == 6  # epochs 2, 4, 6, 8, 10 and the last


def test_parts_joined_by_plus_are_averaged_by_rank(data: Splits) -> None:
    scorer = Scorer(data, RECIPE)
    scorer.check("confidence+crossfit")
    found = scorer.get("confidence+crossfit")
    expected = rank_average([scorer.get("confidence"), scorer.get("crossfit")])
    assert found.name == expected.name == "confidence+crossfit"
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.settings["combines"] == ["confidence", "crossfit"]
    assert scorer.seconds["confidence+crossfit"] >= scorer.seconds["crossfit"] > 0
    np.testing.assert_array_equal(score("confidence+crossfit", data, recipe=RECIPE).values, expected.values)


# Work that is shared


def test_one_training_gives_all_events_and_the_original(data: Splits) -> None:
    watching = Trainings()
    scorer = Scorer(data, RECIPE)
    names = [*EVENTS, "curvature", "holdout", "crossfit-gap", "confidence+el2n"]
    scorer.check(*names)
    for name in names:
        assert np.isfinite(scorer.get(name, observers=[watching]).values).all()
    scorer.original()
    assert watching.count == 1
    assert set(scorer.seconds) == set(names)
    assert all(seconds > 0 for seconds in scorer.seconds.values())
    assert scorer.seconds["confidence+el2n"] == scorer.seconds["confidence"] + scorer.seconds["el2n"]
    assert scorer.watched_seconds == pytest.approx(scorer.seconds["loss"] + scorer.seconds["curvature"])


def test_a_given_model_is_not_trained_again_nor_changed(data: Splits, model: nn.Module) -> None:
    watching = Trainings()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    scorer = Scorer(data, RECIPE, model=model, members=4)
    scorer.check(*FROM_MODEL)
    for name in FROM_MODEL:
        scorer.get(name, observers=[watching])
    assert scorer.original() is model
    assert watching.count == 0
    assert all(bool((value == before[key]).all()) for key, value in model.state_dict().items())
    assert set(scorer.seconds) == set(FROM_MODEL)


@pytest.mark.parametrize(
    ("names", "members"), [(("crossfit", "crossfit-gap"), 3), (("feldman", "feldman-confidence"), 5)]
)
@pytest.mark.parametrize("turned", [False, True])
def test_two_scores_of_the_same_members_train_them_once(
    names: tuple[str, ...], members: int, turned: bool, data: Splits, model: nn.Module, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    scorer = Scorer(data, RECIPE, model=model, members=5, folds=3, folder=tmp_path)
    names = names[::-1] if turned else names
    scorer.check(*names)
    for name in names:
        scorer.get(name, on_member=lambda *args: seen.append(args))
    assert seen == [(k + 1, members) for k in range(members)]
    assert len(list(tmp_path.iterdir())) == members
    # Each of the two costs the trainings that it cannot do without.
    trained = sum(float(np.load(path)["seconds"]) for path in tmp_path.iterdir())
    assert all(scorer.seconds[name] >= 0.9 * trained for name in names)


def test_members_are_found_again_by_the_next_scorer(data: Splits, model: nn.Module, tmp_path: Path) -> None:
    def run(executor: Any = None) -> um.Scores:
        return score("feldman", data, recipe=RECIPE, model=model, members=4, folder=tmp_path, executor=executor)

    with ThreadPoolExecutor(1) as executor:
        first = run(executor)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(stamps) == 4
    again = run()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps
    np.testing.assert_array_equal(first.values, again.values)


@pytest.mark.parametrize(("name", "folds"), [("feldman", 2), ("ensemble", 2), ("crossfit", 3)])
def test_what_was_taken_up_costs_what_it_took(
    name: str, folds: int, data: Splits, model: nn.Module, tmp_path: Path
) -> None:
    def scorer() -> Scorer:
        return Scorer(data, RECIPE, model=model, members=4, folds=folds, folder=tmp_path)

    scorer().get(name)
    next(tmp_path.iterdir()).unlink()  # so one is trained again, and the others are read
    trained = sum(float(np.load(path)["seconds"]) for path in tmp_path.iterdir())
    again = scorer()
    again.get(name)
    assert again.seconds[name] > trained


def test_curvature_can_be_asked_for_after_the_training(data: Splits) -> None:
    scorer = Scorer(data, RECIPE)
    scorer.check("confidence")
    scorer.get("confidence")
    scorer.check("curvature")
    assert np.isfinite(scorer.get("curvature").values).all()


def test_no_members_are_refused(data: Splits, model: nn.Module) -> None:
    with pytest.raises(um.UserError, match="members 0"):
        score("feldman", data, recipe=replace(RECIPE, epochs=0), model=model, members=0)


def test_planted_wrong_labels_are_on_top() -> None:
    digits = um.load("digits", limit=200, flip=0.1)
    scorer = Scorer(digits, um.Recipe(model="mlp", epochs=20, batch_size=32), folds=4)
    names = ("confidence", "crossfit", "crossfit-gap", "confidence+crossfit", "curvature", "holdout")
    scorer.check(*names)
    found = {name: scorer.get(name).auroc(digits.flipped) for name in names}
    assert min(found.values()) > 0.7, found
    assert found["confidence+crossfit"] > 0.9, found
