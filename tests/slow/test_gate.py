"""The gate of the single-model test, on real ensembles: when it alarms, and when it must not.

Each rate comes with the exact binomial interval of its count; the figures are in docs/evidence.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import binomtest
from torch import nn

import unmem as um
from unmem.data import Ids
from unmem.ensembles import leave_out_masks, train_members
from unmem.evaluation.log_odds import MemberLogOdds, log_odds_of
from unmem.evaluation.single_model import Judge, SingleModelTest
from unmem.evaluation.verdict import from_damage, from_test
from unmem.memorization import feldman

pytestmark = pytest.mark.slow
RECIPE = um.Recipe(model="mlp", epochs=15)
MEMBERS, HONEST, ORIGINALS = 80, 60, 20


@dataclass(frozen=True)
class World:
    """Digits with some wrong labels; one half of the members picks the sets, the other judges."""

    data: um.Splits
    sets: dict[str, Ids]
    judges: dict[str, Judge]
    originals: list[nn.Module]

    def test(self, name: str, model: nn.Module) -> SingleModelTest:
        forget = self.data.train.take(self.sets[name])
        judge = self.judges[name]
        unseen = self.data.holdout
        members = (judge.members.unseen > 0).mean(1)
        damaged = from_damage(float((log_odds_of(model, unseen) > 0).mean()), members) is not None
        return judge.test(judge.t(judge.members.model_log_odds(model, forget, unseen), damaged=damaged))

    def problem(self, name: str) -> um.Problem:
        return um.Problem(self.originals[0], self.data, self.sets[name], recipe=RECIPE)


@pytest.fixture(scope="module")
def world() -> World:
    data = um.load("digits", flip=0.05)
    masks = leave_out_masks(len(data.train), MEMBERS, keep=0.7, seed=0)
    members = train_members(RECIPE, data.train, masks, seed=1000, unseen=data.holdout)
    picks, judges = members.members(range(MEMBERS // 2)), members.members(range(MEMBERS // 2, MEMBERS))
    memorized, moved = feldman(picks), feldman(picks, measure="confidence")
    sets = {
        "high": memorized.top(60),
        # Memorization in its usual sense is 0 for most; of the least moved in confidence, truly nothing is to forget.
        "low": moved.ids[np.argsort(np.abs(moved.values))[:60]],
        "random": np.random.default_rng(1).choice(data.train.ids, 100, replace=False),
    }
    return World(
        data,
        sets,
        {name: Judge.make(MemberLogOdds.of(judges, ids)) for name, ids in sets.items()},
        [um.train(RECIPE, data.train, seed=seed) for seed in range(ORIGINALS)],
    )


def alarm(test: SingleModelTest) -> bool:
    return bool(from_test(test, {}).directions)


def report(what: str, hits: int, of: int) -> tuple[float, float]:
    low, high = binomtest(hits, of).proportion_ci()
    print(f"{what}: {hits} of {of}, 95% interval {low:.1%} to {high:.1%}")
    return float(low), float(high)


@pytest.mark.parametrize("name", ["high", "low", "random"])
def test_held_out_retrains_alarm_no_more_often_than_nominal(name: str, world: World) -> None:
    """Nominal: 2.5% on each side, 5% together."""
    problem = world.problem(name)
    tests = [world.test(name, um.train(RECIPE, problem.retain, seed=500 + k)) for k in range(HONEST)]
    low, _ = report(f"retrains that alarm, {name}", sum(alarm(test) for test in tests), HONEST)
    assert low <= 0.05
    for side in ("under", "over"):
        share = float(np.mean([getattr(test, side).share for test in tests]))
        print(f"  {side}: {share:.1%} of the examples, nominal 2.5%")
        assert share <= 0.035


def test_doing_nothing_for_the_most_memorized_is_found(world: World) -> None:
    found = [from_test(world.test("high", model), {}) for model in world.originals]
    hits = sum("under-forgotten" in one.directions for one in found)
    report("do-nothing found, high", hits, ORIGINALS)
    assert hits / ORIGINALS >= 0.95


def test_strong_ascent_is_called_over_forgetting(world: World) -> None:
    problem = world.problem("random")
    ascent = um.NegGradPlus(alpha=0.5, epochs=3, lr=0.05)
    found = [from_test(world.test("random", ascent(problem, seed=0, start=model)), {}) for model in world.originals]
    hits = sum("over-forgotten" in one.directions for one in found)
    report("ascent called over-forgetting", hits, ORIGINALS)
    assert hits / ORIGINALS >= 0.95


@pytest.mark.parametrize("forget", [um.Nothing(), um.FineTune(epochs=2)], ids=["nothing", "fine-tune"])
def test_forgetting_the_least_memorized_raises_no_alarm_beyond_nominal(
    forget: Callable[..., nn.Module], world: World
) -> None:
    problem = world.problem("low")
    tests = [world.test("low", forget(problem, seed=0, start=model)) for model in world.originals]
    low, _ = report("alarms on the least memorized", sum(alarm(test) for test in tests), ORIGINALS)
    assert low <= 0.05
