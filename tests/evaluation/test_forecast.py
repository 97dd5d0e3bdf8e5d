"""The forecast of what a retrained model scores, on predictions whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import unmem as um
from unmem.ensembles import Ensemble, Outputs
from unmem.errors import UserError
from unmem.evaluation.forecast import Forecast, forecast
from unmem.evaluation.tug_of_war import tug_of_war
from unmem.memorization import CrossFit
from unmem.targets import Targets

N = 400


STRAY = 0.05  # of the accuracy of a model on a set, beyond chance


def examples(n: int = N) -> um.Examples:
    return um.Examples.of(np.zeros((n, 1), dtype=np.float32), np.ones(n, dtype=np.int64), n_classes=2)


def crossfit_with(chance: NDArray[np.float64], right: NDArray[np.bool_]) -> CrossFit:
    """Predictions with this confidence in the label, right where said."""
    log_probs = np.log(np.stack([1 - chance, chance], axis=1)).astype(np.float32)
    margin = np.where(right, 1.0, -1.0).astype(np.float32)
    return CrossFit(examples(len(chance)).ids, log_probs, margin, margin, 0.0, {"folds": 2})


def members_with(kept: NDArray[np.bool_], correct: NDArray[np.bool_]) -> Ensemble:
    n = kept.shape[1]
    phi = np.zeros(kept.shape, dtype=np.float32)
    outputs = Outputs(examples(n).ids, np.ones(n, dtype=np.int64), phi, phi, correct.astype(np.int16))
    settings: dict[str, Any] = {}
    return Ensemble(kept, outputs, None, tuple(range(len(kept))), (0.0,) * len(kept), settings)


def test_where_the_fold_models_are_as_good_as_the_original_it_is_their_accuracy() -> None:
    random = np.random.default_rng(0)
    chance = random.uniform(0.2, 1, N)
    right = random.random(N) < chance
    found = forecast(crossfit_with(chance, right), examples().at(np.arange(100)), unseen_accuracy=float(right.mean()))
    assert found.raw == pytest.approx(right[:100].mean())
    assert found.accuracy == pytest.approx(found.raw)
    assert found.low < found.accuracy < found.high
    assert "2 folds" in found.source


def test_a_better_original_adds_its_lead_where_the_fold_models_doubt() -> None:
    right = np.arange(N) % 5 != 0
    source = crossfit_with(np.full(N, 0.8), right)
    assert forecast(source, examples(), unseen_accuracy=0.9).accuracy == pytest.approx(0.8)  # nothing to compare with
    source = replace(source, settings={"folds": 2, "unseen_accuracy": 0.8})
    found = forecast(source, examples(), unseen_accuracy=0.9)
    assert found.raw == pytest.approx(0.8)
    assert found.accuracy == pytest.approx(0.9)
    # Half of the examples surely wrong, the other half in doubt: all of the lead falls to those.
    chance = np.where(np.arange(N) % 2 == 0, 1e-9, 0.6)
    mixed = replace(crossfit_with(chance, chance > 0.5), settings={"unseen_accuracy": 0.8})
    sure, unsure = (examples().at(np.flatnonzero(np.arange(N) % 2 == k)) for k in (0, 1))
    assert forecast(mixed, sure, unseen_accuracy=0.9).accuracy == pytest.approx(0, abs=1e-6)
    lead = forecast(mixed, unsure, unseen_accuracy=0.9)
    assert lead.accuracy == pytest.approx(1.0)
    assert forecast(replace(mixed, settings={"unseen_accuracy": 0.99}), unsure, unseen_accuracy=0.9).accuracy < 1


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Each example has a chance, and each model moves all of them; a cross-fit draws once, members several times, and
    a retrained model once more."""
    random, folds, members, trials = np.random.default_rng(0), 0, 0, 400
    chance = random.beta(2, 1, N)

    def drawn_by(models: int) -> NDArray[np.bool_]:
        moved = chance + random.normal(0, STRAY, (models, 1))
        return random.random((models, N)) < moved.clip(0, 1)

    some = examples().at(np.arange(150))
    everywhere = float(chance.mean())
    for _ in range(trials):
        truth = float(drawn_by(1)[0, :150].mean())
        drawn = drawn_by(1)[0]
        one = forecast(crossfit_with(chance, drawn), some, unseen_accuracy=0.5)
        folds += one.low <= truth <= one.high
        kept = random.random((12, N)) < 0.5
        kept[0], kept[1] = False, True
        many = forecast(members_with(kept, drawn_by(12)), some, unseen_accuracy=everywhere)
        members += many.low <= truth <= many.high
    assert 0.92 <= folds / trials <= 0.985
    assert 0.92 <= members / trials <= 0.985


def test_members_whose_accuracies_stray_together_widen_the_interval() -> None:
    """Half of the members get all of the set right, the other half none: so may a retrained model."""
    random = np.random.default_rng(0)
    kept = random.random((20, N)) < 0.7
    kept[:2] = False
    lucky = np.repeat([True, False], 10)
    together = members_with(kept, np.broadcast_to(lucky[:, None], kept.shape).copy())
    apart = members_with(kept, random.random(kept.shape) < 0.5)
    wide, narrow = (forecast(one, examples().at(np.arange(100)), unseen_accuracy=0.5) for one in (together, apart))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_members_count_only_where_they_left_an_example_out() -> None:
    random = np.random.default_rng(0)
    kept = random.random((10, N)) < 0.5
    kept[0], kept[1] = False, True
    correct = np.where(kept, True, random.random((10, N)) < 0.4)
    found = forecast(members_with(kept, correct), examples(), unseen_accuracy=0.4)
    assert found.raw == pytest.approx(0.4, abs=0.03)
    assert found.source == "10 members"


def test_members_that_all_saw_an_example_cannot_forecast_it() -> None:
    kept = np.ones((4, N), dtype=bool)
    kept[0, 1:] = False
    with pytest.raises(UserError, match="in all of them"):
        forecast(members_with(kept, kept), examples(), unseen_accuracy=0.9)


def test_tow_is_forecast_with_its_interval() -> None:
    found = Forecast(0.5, 0.4, 0.6, 0.5, "a cross-fit", 100)
    value, low, high = found.tow(0.45, (0.01, 0.02))
    assert value == pytest.approx(tug_of_war(0.05, 0.01, 0.02))
    assert low == pytest.approx(tug_of_war(0.15, 0.01, 0.02))
    assert high == pytest.approx(tug_of_war(0.0, 0.01, 0.02))  # inside the interval it may be exactly right
    assert found.tow(0.9, ())[2] == pytest.approx(tug_of_war(0.3))


@pytest.mark.slow
def test_it_is_near_what_retraining_gives_on_real_digits() -> None:
    data = um.load("digits", limit=600, flip=0.1)
    recipe = um.Recipe(model="mlp", epochs=60, batch_size=32)
    original = um.train(recipe, data.train)
    made = um.crossfit(recipe, data.train, folds=2, unseen=data.holdout)
    chosen = np.concatenate([data.flipped, data.train.ids[:120]])
    problem = um.Problem(original, data, np.unique(chosen), recipe=recipe)
    seen = float((um.predict(original, data.holdout).argmax(1) == data.holdout.labels).float().mean())
    found = forecast(made, problem.forget, unseen_accuracy=seen)
    retrained = um.train(recipe, problem.retain, seed=9)
    truth = float((um.predict(retrained, problem.forget).argmax(1) == problem.forget.labels).float().mean())
    assert found.low <= truth <= found.high
    nothing = float((um.predict(original, problem.forget).argmax(1) == problem.forget.labels).float().mean())
    assert nothing > found.high  # the forecast tells the original from a retrained model


def test_order_of_the_request_changes_nothing() -> None:
    random = np.random.default_rng(0)
    source = crossfit_with(random.uniform(0.1, 0.9, N), random.random(N) < 0.5)
    some = examples().at(random.permutation(N)[:50])
    mixed = replace(some, ids=some.ids[::-1], inputs=torch.flip(some.inputs, [0]), labels=torch.flip(some.labels, [0]))
    first, second = (forecast(source, one, unseen_accuracy=0.6) for one in (some, mixed))
    assert (first.accuracy, first.low) == pytest.approx((second.accuracy, second.low))


def test_targets_forecast_their_mean_confidence() -> None:
    """They are calibrated already: nothing is added for more training examples."""
    chance = np.linspace(0.05, 0.95, N)
    log_probs = np.log(np.stack([1 - chance, chance], axis=1)).astype(np.float32)
    phi = (log_probs[:, 1] - log_probs[:, 0]).astype(np.float32)
    targets = Targets("teacher", examples().ids, phi, log_probs)
    found = forecast(targets, examples().at(np.arange(150, 250)), unseen_accuracy=0.99)
    assert found.accuracy == pytest.approx(chance[150:250].mean(), abs=1e-5)
    assert found.raw == found.accuracy
    assert found.source == "a short teacher"
    # The same chances by a cross-fit that has nothing to compare with give the same interval.
    other = forecast(crossfit_with(chance, chance > 0.5), examples().at(np.arange(150, 250)), unseen_accuracy=0.99)
    assert found.high - found.low == pytest.approx(other.high - other.low, abs=1e-5)
    bare = replace(targets, log_probs=None)
    assert forecast(bare, examples(), unseen_accuracy=0.9).accuracy == pytest.approx(0.5, abs=1e-5)
    with pytest.raises(UserError, match="no target"):
        forecast(targets.without(examples().ids[:1]), examples(), unseen_accuracy=0.9)
