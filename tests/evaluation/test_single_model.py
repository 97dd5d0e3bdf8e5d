"""The single-model test on Gaussians, where rates, limits and power are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom
from scipy.stats import t as student

from unmem.evaluation.lira import LIMIT, NU0
from unmem.evaluation.signals import Signals
from unmem.evaluation.single_model import Judge, null_moments, shift, t_values
from unmem.evaluation.verdict import from_test

Real = NDArray[np.float64]
K, UNSEEN = 40, 400


def world(
    n: int, *, common: float = 0.0, residual: float = 0.0, spread: float = 1.0, seed: int = 0
) -> tuple[Signals, tuple[Real, Real, np.random.Generator]]:
    """Members whose log-odds are Gaussian around each example's own mean. common: standard deviation of what moves all
    examples of a model at once. residual: how much better a member knows what it was trained on."""
    random = np.random.default_rng(seed)
    mean, apart = random.normal(0, 1, n), random.normal(0, 1, UNSEEN)
    out = random.random((K, n)) < 0.3
    out[:3] = True
    moved = random.normal(0, common, (K, 1)) if common else np.zeros((K, 1))
    phi = mean + moved + random.normal(0, spread, (K, n)) + residual * ~out
    unseen = apart + random.normal(0, spread, (K, UNSEEN))
    return Signals(phi, out, unseen), (mean, apart, random)


def test_t_is_its_formula_by_hand() -> None:
    members, (mean, apart, random) = world(5)
    phi, unseen = mean + random.normal(size=5), apart + 0.3
    found = t_values(phi, unseen, members)
    slope, start = np.polyfit(members.unseen.mean(0), unseen - members.unseen.mean(0), 1)
    variances, counts = [], []
    for i in range(5):
        theirs = [members.phi[k, i] for k in range(K) if members.out[k, i]]
        variances.append(np.var(theirs, ddof=1))
        counts.append(len(theirs))
    pooled = sum((n - 1) * v for n, v in zip(counts, variances, strict=True)) / sum(n - 1 for n in counts)
    for i in range(5):
        theirs = [members.phi[k, i] for k in range(K) if members.out[k, i]]
        n, mu = len(theirs), np.mean(theirs)
        s2 = (NU0 * pooled + (n - 1) * variances[i]) / (NU0 + n - 1)
        expected = (phi[i] - mu - start - slope * mu) / np.sqrt(s2 * (1 + 1 / n))
        assert found[i] == pytest.approx(expected)


def test_examples_that_a_model_never_saw_are_flagged_at_the_nominal_rate() -> None:
    members, (mean, apart, random) = world(20_000)
    judge = Judge.make(members)
    unseen = apart + random.normal(size=UNSEEN)
    t = judge.t(mean + random.normal(size=len(mean)), unseen)
    test = judge.test(t)
    # The shift is learned from 400 examples, which moves all t by up to 0.1: 2.5% becomes 2.0% to 3.1%.
    assert 0.018 < test.under.share < 0.033
    assert 0.018 < test.over.share < 0.033
    assert test.under.expected == pytest.approx(0.025, abs=0.004)
    assert test.rms == pytest.approx(1.03, abs=0.06)  # Student's t is a little wider than a Gaussian


def test_a_model_that_is_surer_of_everything_is_not_blamed_for_it() -> None:
    members, (mean, apart, random) = world(2_000)
    noise, other = random.normal(size=2_000), random.normal(size=UNSEEN)
    judge = Judge.make(members)
    plain, surer = judge.t(mean + noise, apart + other), judge.t(mean + noise + 0.7, apart + other + 0.7)
    np.testing.assert_allclose(plain, surer, atol=0.02)


def test_the_shift_is_the_line_through_unseen_examples_and_stays_within_them() -> None:
    theirs = np.linspace(-3, 3, 50)
    ours = theirs + 0.5 + 0.1 * theirs
    np.testing.assert_allclose(shift(np.array([-9.0, 0.0, 2.0, 9.0]), theirs, ours), [0.2, 0.5, 0.7, 0.8])
    np.testing.assert_allclose(shift(np.array([1.0, 5.0]), np.ones(4), np.full(4, 1.25)), [0.25, 0.25])


def test_log_odds_beyond_the_limit_say_no_more() -> None:
    members, (mean, apart, _) = world(10)
    judge = Judge.make(members)
    np.testing.assert_array_equal(judge.t(mean * 0 + 50, apart), judge.t(mean * 0 + LIMIT, apart))


def test_members_never_speak_of_what_they_were_trained_on() -> None:
    members, (mean, apart, random) = world(50)
    poisoned = replace(members, phi=np.where(members.out, members.phi, 1e9))
    phi, unseen = mean + random.normal(size=50), apart
    np.testing.assert_array_equal(t_values(phi, unseen, members), t_values(phi, unseen, poisoned))


def test_order_of_examples_and_of_members_changes_nothing() -> None:
    members, (mean, apart, random) = world(60, common=0.5, residual=1.0)
    phi, unseen = mean + random.normal(size=60), apart
    rows, columns = random.permutation(K), random.permutation(60)
    mixed = Signals(members.phi[rows][:, columns], members.out[rows][:, columns], members.unseen[rows])
    first, second = Judge.make(members), Judge.make(mixed)
    np.testing.assert_allclose(first.t(phi, unseen)[columns], second.t(phi[columns], unseen))
    one, other = first.test(first.t(phi, unseen)), second.test(second.t(phi[columns], unseen))
    assert one.under.share == other.under.share
    assert one.under.limit == pytest.approx(other.under.limit)
    assert one.nothing == pytest.approx(other.nothing)


def test_the_variance_from_model_to_model_is_told_from_that_of_counting() -> None:
    random = np.random.default_rng(0)
    share, spread, k, n = 0.1, 0.04, 4_000, 200
    chances = random.normal(share, spread, (k, 1)).clip(0, 1)
    found, common = null_moments((random.random((k, n)) < chances).astype(float))
    assert found == pytest.approx(share, abs=0.005)
    assert common == pytest.approx(spread**2, rel=0.1)
    independent = (random.random((k, n)) < share).astype(float)
    assert null_moments(independent)[1] < 0.1 * spread**2


@pytest.mark.parametrize("common", [0.0, 0.4])
def test_honest_models_raise_an_alarm_at_the_level_of_the_test_at_most(common: float) -> None:
    """Also where all examples of a model move together, which a binomial limit would not expect."""
    n, trials = 100, 400
    members, (mean, apart, random) = world(n, common=common)
    judge = Judge.make(members)
    alarms = 0
    for _ in range(trials):
        moved = random.normal(0, common) if common else 0.0
        test = judge.test(judge.t(mean + moved + random.normal(size=n), apart + random.normal(size=UNSEEN)))
        alarms += test.under.alarm
    # At a level of 2.5% more than this happens once in a thousand; the limit itself is known from 40 members.
    assert alarms <= binom.ppf(0.999, trials, 0.04 if common == 0 else 0.06)


def test_the_detectable_share_is_noticed_with_its_power() -> None:
    n, trials = 200, 300
    members, (*_, random) = world(n)
    judge = Judge.make(members)
    detectable = judge.test(np.zeros(n)).under.detectable
    assert detectable is not None
    noticed = 0
    for _ in range(trials):
        # Known so well that each is surely flagged; of the others the nominal share is.
        known = random.random(n) < (detectable - 0.025) / 0.975
        t = student.rvs(NU0 + 11, size=n, random_state=random)
        noticed += judge.test(np.where(known, 50.0, t)).under.alarm
    assert 0.7 < noticed / trials < 0.9


def test_what_doing_nothing_would_show_is_learned_from_members_that_saw_the_examples() -> None:
    members, (mean, apart, random) = world(500, residual=3.0)
    judge = Judge.make(members)
    test = judge.test(judge.t(mean + 3.0 + random.normal(size=500), apart))
    assert test.nothing == pytest.approx(test.under.share, abs=0.06)
    assert test.under.alarm
    assert not test.blind
    unsure = Judge.make(world(12, residual=0.2)[0])
    assert unsure.test(np.zeros(12)).blind


def test_verdicts_have_two_sides_and_never_say_that_all_is_well() -> None:
    members, (mean, apart, random) = world(200, residual=3.0)
    judge = Judge.make(members)

    def verdict(moved: Real) -> str:
        phi = mean + moved + random.normal(size=200)
        return from_test(judge.test(judge.t(phi, apart + random.normal(size=UNSEEN))), {}).text

    nothing = np.zeros(200)
    assert verdict(nothing).startswith("none found (smallest effect this run could have seen: ")
    assert verdict(nothing + 3).startswith("residual influence found: ")
    assert verdict(nothing - 4).startswith("over-forgetting found: ")
    both = np.where(np.arange(200) < 100, 4.0, -4.0)
    assert verdict(both).startswith("residual influence and over-forgetting found: ")
    weak = Judge.make(world(12, residual=0.2)[0])
    assert from_test(weak.test(np.zeros(12)), {}).text.startswith("inconclusive (too little power)")


def test_a_part_that_alone_is_still_known_is_found() -> None:
    members, (mean, apart, random) = world(300, residual=3.0)
    judge = Judge.make(members)
    high = np.arange(30)
    phi = mean + random.normal(size=300)
    phi[high[:12]] += 6
    t = judge.t(phi, apart)
    whole = from_test(judge.test(t), {"high": judge.test(t, high), "low": judge.test(t, np.arange(150, 300))})
    assert whole.finding == "residual influence"
