"""The single-model test on simulated log-odds, where shift, scale, rates and power are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from unmem.evaluation.lira import NU0
from unmem.evaluation.log_odds import LogOdds, MemberLogOdds
from unmem.evaluation.null_share import Null
from unmem.evaluation.single_model import POINT, WINDOW, Judge, out_moments, t_values

Real = NDArray[np.float64]
K, CONTROLS = 40, 800


class World:
    """Members whose log-odds scatter around each example's own mean.

    common: standard deviation of what moves all forget examples of a model at once. residual: how much better a member
    knows what it was trained on. noise: draws of variance 1.
    """

    def __init__(self, n: int, *, common: float = 0.0, residual: float = 0.0, members: int = K, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.n, self.common = n, common
        self.mean, self.apart = self.random.normal(0, 2, n), self.random.normal(0, 2, CONTROLS)
        out = np.zeros((members, n), dtype=bool)
        for i in range(n):
            out[self.random.permutation(members)[: max(3, round(0.3 * members))], i] = True
        log_odds = [self.honest() for _ in range(members)]
        phi = np.stack([one.forget for one in log_odds]) + residual * ~out
        controls = np.stack([one.controls for one in log_odds])
        self.members = MemberLogOdds(phi, out, controls, controls)

    def honest(self, moved: float | Real = 0.0, scale: float = 1.0) -> LogOdds:
        """Another model that never saw the forget set; moved: what is added to its forget examples."""
        both = self.random.normal(0, self.common) if self.common else 0.0
        forget = self.mean + both + self.random.normal(size=self.n) + moved
        return LogOdds(scale * forget, scale * (self.apart + self.random.normal(size=CONTROLS)))


def test_t_is_its_formula_by_hand() -> None:
    world = World(4)
    borrowed = world.random.integers(0, 4, CONTROLS)
    log_odds = world.honest()
    found = t_values(log_odds, *out_moments(world.members, borrowed))
    out, phi, controls = world.members.out, world.members.phi, world.members.controls

    def theirs(values: Real, there: NDArray[np.bool_]) -> tuple[int, float, float]:
        chosen = values[there]
        return len(chosen), float(chosen.mean()), float(((chosen - chosen.mean()) ** 2).sum())

    known = [theirs(controls[:, p], out[:, borrowed[p]]) for p in range(CONTROLS)]
    order = sorted(range(CONTROLS), key=lambda p: known[p][1])
    for i in range(4):
        n, mu, squares = theirs(phi[:, i], out[:, i])
        place = sum(known[p][1] < mu for p in range(CONTROLS))
        first = min(max(place - WINDOW // 2, 0), CONTROLS - WINDOW)
        window = order[first : first + WINDOW]
        slope, start = np.polyfit([known[p][1] for p in window], log_odds.controls[window], 1)
        pooled = sum(known[p][2] for p in window) / sum(known[p][0] - 1 for p in window)

        def r(value: float, count: int, at: float, s2: float) -> float:
            spread = (NU0 * pooled + s2) / (NU0 + count - 1)  # noqa: B023 (called in this round of the loop)
            return (value - start - slope * at) / np.sqrt(spread * (1 + 1 / count))  # noqa: B023

        low, middle, high = np.quantile(
            [r(log_odds.controls[p], *known[p]) for p in window], [0.025, 0.5, 0.975], method="weibull"
        )
        gap = r(log_odds.forget[i], n, mu, squares) - middle
        assert found[i] == pytest.approx(POINT * (gap / (high - middle) if gap > 0 else gap / (middle - low)))


@pytest.mark.parametrize("scale", [0.3, 0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("moved", [0.0, 0.7])
def test_neither_scale_nor_shift_of_a_models_log_odds_changes_t(scale: float, moved: float) -> None:
    world = World(300)
    judge, log_odds = Judge.make(world.members), world.honest()
    other = LogOdds(scale * log_odds.forget + moved, scale * log_odds.controls + moved)
    np.testing.assert_allclose(judge.t(other), judge.t(log_odds), atol=1e-9)


def test_a_bend_of_a_models_log_odds_changes_no_rate() -> None:
    """As label smoothing bends them: the surer, the more they are pressed together."""
    world = World(2_000)
    judge = Judge.make(world.members)
    log_odds = world.honest()
    bent = judge.t(LogOdds(3 * np.tanh(log_odds.forget / 3), 3 * np.tanh(log_odds.controls / 3)))
    assert 0.012 < float((bent > POINT).mean()) < 0.04
    assert 0.012 < float((bent < -POINT).mean()) < 0.04


def test_examples_that_a_model_never_saw_are_flagged_at_the_nominal_rate() -> None:
    world = World(3_000)
    judge = Judge.make(world.members)
    test = judge.test(judge.t(world.honest()))
    # The points are set by 800 controls: a share of 2.5% has a standard error of 0.55%.
    assert 0.012 < test.under.share < 0.035
    assert 0.012 < test.over.share < 0.035
    assert test.under.expected == pytest.approx(0.025, abs=0.005)
    assert test.rms == pytest.approx(1.03, abs=0.12)
    assert test.covered > 0.98


def test_wrong_labels_are_held_against_wrong_classes_of_unseen_examples() -> None:
    """A model that is surer than members of right labels and of wrong ones: its log-odds move away from 0."""
    world = World(200)
    world.mean[:] = world.random.normal(-5, 1, 200)  # wrong labels
    world.apart[:] = np.where(np.arange(CONTROLS) % 4 == 0, 3, -5) + world.random.normal(0, 1, CONTROLS)
    log_odds = [world.honest() for _ in range(K)]
    phi, controls = np.stack([one.forget for one in log_odds]), np.stack([one.controls for one in log_odds])
    judge = Judge.make(replace(world.members, phi=phi, controls=controls))
    plain = world.honest()
    surer = LogOdds(plain.forget - 1.5, plain.controls + np.where(world.apart > 0, 1.5, -1.5))
    shares = [judge.test(judge.t(one)).over.share for one in (plain, surer)]
    assert shares[1] == pytest.approx(shares[0], abs=0.04)
    only_labels = world.apart > 0
    blind = Judge.make(replace(world.members, phi=phi, controls=controls[:, only_labels]))
    assert blind.test(blind.t(LogOdds(surer.forget, surer.controls[only_labels]))).covered < 0.2


def test_where_honest_models_stray_farther_than_controls_the_points_move_out() -> None:
    world = World(200)
    wild = world.members.phi + 2 * world.random.standard_t(3, world.members.phi.shape)
    judge = Judge.make(replace(world.members, phi=wild))
    assert min(judge.scale) > 1.1
    known = judge.null.t[np.isfinite(judge.null.t)]
    assert 0.0125 < float((known > POINT).mean()) <= 0.025
    assert 0.0125 < float((known < -POINT).mean()) <= 0.025
    calm = Judge.make(replace(world.members, phi=world.mean + 0.1 * (world.members.phi - world.mean)))
    assert min(calm.scale) >= 1


def test_members_never_speak_of_what_they_were_trained_on() -> None:
    world = World(50)
    poisoned = replace(world.members, phi=np.where(world.members.out, world.members.phi, 1e9))
    log_odds = world.honest()
    np.testing.assert_array_equal(Judge.make(world.members).t(log_odds), Judge.make(poisoned).t(log_odds))


def test_each_member_is_judged_by_the_others_alone() -> None:
    world = World(30, residual=2.0)
    judge = Judge.make(world.members)
    others = np.arange(K) != 3
    rest = MemberLogOdds(*(getattr(world.members, name)[others] for name in ("phi", "out", "unseen", "controls")))
    t = t_values(LogOdds(world.members.phi[3], world.members.controls[3]), *out_moments(rest, judge.borrowed))
    t = np.where(t > 0, t / judge.scale[1], t / judge.scale[0])
    left = world.members.out[3]
    np.testing.assert_allclose(judge.null.t[3, left], t[left])
    np.testing.assert_allclose(judge.trained[3, ~left], t[~left])
    assert np.isnan(judge.null.t[3, ~left]).all()


def test_the_order_of_members_changes_nothing() -> None:
    world = World(60, common=0.5, residual=1.0)
    rows, log_odds = world.random.permutation(K), world.honest()
    m = world.members
    first, second = Judge.make(m), Judge.make(replace(m, phi=m.phi[rows], out=m.out[rows], controls=m.controls[rows]))
    np.testing.assert_allclose(first.t(log_odds), second.t(log_odds))
    one, other = first.test(first.t(log_odds)), second.test(second.t(log_odds))
    assert one.under.limit == other.under.limit
    assert one.nothing == pytest.approx(other.nothing)


@pytest.mark.parametrize("common", [0.0, 0.4])
@pytest.mark.parametrize(("n", "groups"), [(30, 0), (100, 3)])
def test_honest_models_raise_an_alarm_at_the_level_of_the_verdict_at_most(common: float, n: int, groups: int) -> None:
    """Also where all examples of a model move together, with few examples, and with groups that are judged too."""
    alarms, trials, worlds = 0, 40, 5
    for seed in range(worlds):
        world = World(n, common=common, members=16, seed=seed)
        judge = Judge.make(world.members)
        cells = [None, *(np.arange(n)[k::groups] for k in range(groups))]
        level = 0.025 / len(cells)
        for _ in range(trials):
            t = judge.t(world.honest())
            tests = [judge.test(t, cell, level=level) for cell in cells]
            alarms += any(test.under.alarm or test.over.alarm for test in tests)
    # 5% on both sides together; more than this happens once in a thousand.
    assert alarms <= binom.ppf(0.999, trials * worlds, 0.05)


def test_an_alarm_is_a_p_value_below_the_level() -> None:
    world = World(80)
    judge = Judge.make(world.members)
    for moved in (0.0, 0.5, 1.0, 1.5, 2.0):
        side = judge.test(judge.t(world.honest(moved)), level=0.01).under
        assert side.alarm == (side.p < 0.01)


def test_the_detectable_share_is_noticed_with_its_power() -> None:
    n, trials = 200, 60
    world = World(n)
    judge = Judge.make(world.members)
    detectable = judge.test(np.zeros(n)).under.detectable
    assert detectable is not None
    expected = judge.test(np.zeros(n)).under.expected
    sure = round(n * (detectable - expected) / (1 - expected))
    noticed = 0
    for _ in range(trials):
        t = judge.t(world.honest())
        t[world.random.permutation(n)[:sure]] = 50.0
        noticed += judge.test(t).under.alarm
    assert noticed / trials >= 0.8  # and more, since a real run does not know how far its models move
    half = judge.t(world.honest())
    half[: sure // 3] = 50.0
    assert not judge.test(half).under.alarm


def test_what_doing_nothing_would_show_is_learned_from_members_that_saw_the_examples() -> None:
    world = World(500, residual=3.0)
    judge = Judge.make(world.members)
    test = judge.test(judge.t(world.honest(3.0)))
    assert test.nothing == pytest.approx(test.under.share, abs=0.06)
    assert test.under.alarm
    assert not test.blind
    unsure = Judge.make(World(12, residual=0.2).members)
    assert unsure.test(np.zeros(12)).blind


def test_members_that_were_trained_on_none_of_the_examples_cannot_say_what_doing_nothing_shows() -> None:
    world = World(40)
    judge = Judge.make(replace(world.members, out=np.ones_like(world.members.out)))
    test = judge.test(judge.t(world.honest()))
    assert test.nothing is None
    assert test.blind


def test_a_model_must_stand_out_from_retrained_models_too() -> None:
    """A shift between members and retrained models, which retrained models show."""
    world = World(100)
    judge = Judge.make(world.members)
    retrained = [judge.t(world.honest(-1.5)) for _ in range(3)]
    t = judge.t(world.honest(-1.5))
    assert judge.test(t).over.alarm
    assert not judge.test(t, retrained=retrained).over.alarm
    assert judge.test(judge.t(world.honest(-5.0)), retrained=retrained).over.alarm
    assert judge.test(judge.t(world.honest(4.0)), retrained=retrained).under.alarm


def test_a_model_that_is_wrong_everywhere_is_held_against_the_members_controls() -> None:
    world = World(100)
    judge, log_odds = Judge.make(world.members), world.honest()
    wrecked = LogOdds(log_odds.forget - 20, log_odds.controls - 20)
    assert not judge.test(judge.t(wrecked)).over.alarm  # its own controls are as wrong
    assert judge.test(judge.t(wrecked, damaged=True)).over.share > 0.9
    honest = judge.test(judge.t(log_odds, damaged=True))
    assert not honest.over.alarm
    assert not honest.under.alarm


def test_the_chance_of_a_count_is_binomial_where_models_differ_by_chance_alone() -> None:
    random = np.random.default_rng(0)
    t = random.normal(size=(400, 300))
    found = Null(t, 10**9).chance(50, POINT)
    expected = binom.sf(np.arange(-1, 51), 50, float((t > POINT).mean()))
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_the_chance_of_a_count_knows_that_the_examples_of_a_model_move_together() -> None:
    """Against the counts of further models of the same kind."""
    random = np.random.default_rng(0)

    def models(k: int) -> Real:
        return random.normal(0, 0.6, (k, 1)) + random.normal(0, 0.8, (k, 100))

    counts = (models(20_000) > POINT).sum(1)
    found = Null(models(200), 10**9).chance(100, POINT)
    for x in (5, 10, 20, 30):
        assert found[x] == pytest.approx(float((counts >= x).mean()), abs=0.03)


def test_a_chance_that_was_never_seen_is_not_taken_for_impossible() -> None:
    """0 of 30 may be 5%: then 2 of 20 happen once in four times."""
    few = Null(np.zeros((3, 10)), 10**9)
    assert few.chance(20, POINT)[2] > 0.02
    assert few.expected(POINT) > 0.01
    one_control = Null(np.zeros((100, 100)), 1)
    assert one_control.chance(20, POINT)[2] > 0.05
