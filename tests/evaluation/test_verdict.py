"""Verdicts: what each kind of evidence says, and what is said where they disagree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from unmem.evaluation.attacks import Attack
from unmem.evaluation.forecast import Forecast
from unmem.evaluation.relearning import Relearning
from unmem.evaluation.single_model import Side, SingleModelTest
from unmem.evaluation.verdict import (
    ACCURACY,
    DAMAGED,
    FORECAST,
    RELEARNING,
    TEST,
    Result,
    Signal,
    decide,
    from_accuracies,
    from_attack,
    from_damage,
    from_forecast,
    from_relearning,
    from_test,
    holm,
    smallest_gap,
)


def signal(name: str, says: Result) -> Signal:
    return Signal(name, says, f"{name} says {says}")


UNDER, OVER, NEITHER, SILENT = "under-forgotten", "over-forgotten", "neither", "cannot say"
RESIDUAL, OVERDONE, NONE, OPEN = (
    *("residual influence found", "over-forgetting found"),
    *("none found", "inconclusive"),
)
# What the signals say -> the verdict, and whether a contradiction is named.
TABLE: list[tuple[dict[str, Result], str, bool]] = [
    # One signal alone.
    ({TEST: UNDER}, RESIDUAL, False),
    ({TEST: OVER}, OVERDONE, False),
    ({TEST: "both"}, "both found", False),
    ({TEST: NEITHER}, NONE, False),
    ({TEST: SILENT}, OPEN, False),
    ({ACCURACY: UNDER}, RESIDUAL, False),
    ({ACCURACY: NEITHER}, NONE, False),
    ({ACCURACY: SILENT}, OPEN, False),
    ({FORECAST: OVER}, OVERDONE, False),
    ({FORECAST: NEITHER}, NONE, False),
    ({}, OPEN, False),
    # The test of single examples against the others.
    ({TEST: NEITHER, ACCURACY: UNDER}, OPEN, True),
    ({TEST: NEITHER, ACCURACY: OVER}, OPEN, True),
    ({TEST: NEITHER, FORECAST: UNDER}, OPEN, True),
    ({TEST: NEITHER, FORECAST: OVER}, OPEN, True),
    ({TEST: NEITHER, "lira": UNDER}, OPEN, True),
    ({TEST: NEITHER, "rmia": UNDER}, OPEN, True),
    ({TEST: NEITHER, DAMAGED: SILENT}, OPEN, True),
    ({TEST: NEITHER, RELEARNING: UNDER}, RESIDUAL, False),
    ({TEST: NEITHER, f"{RELEARNING} beside unseen examples": UNDER}, OPEN, True),
    ({TEST: NEITHER, ACCURACY: SILENT, FORECAST: SILENT}, NONE, False),
    ({TEST: UNDER, ACCURACY: OVER}, RESIDUAL, True),
    ({TEST: UNDER, FORECAST: OVER}, RESIDUAL, True),
    ({TEST: UNDER, ACCURACY: NEITHER}, RESIDUAL, False),
    ({TEST: OVER, ACCURACY: UNDER}, OVERDONE, True),
    ({TEST: OVER, "lira": UNDER}, OVERDONE, True),
    ({TEST: OVER, RELEARNING: UNDER}, "both found", False),
    ({TEST: OVER, DAMAGED: SILENT}, OVERDONE, True),
    # Where the test cannot say, the next strongest speaks.
    ({TEST: SILENT, ACCURACY: UNDER}, RESIDUAL, False),
    ({TEST: SILENT, ACCURACY: NEITHER}, NONE, False),
    ({TEST: SILENT, ACCURACY: SILENT, FORECAST: NEITHER}, NONE, False),
    ({TEST: SILENT, "lira": UNDER}, OPEN, True),
    ({TEST: SILENT, RELEARNING: UNDER}, RESIDUAL, False),
    # Accuracies, the forecast and the attacks among each other.
    ({ACCURACY: NEITHER, FORECAST: UNDER}, OPEN, True),
    ({ACCURACY: UNDER, FORECAST: OVER}, RESIDUAL, True),
    ({ACCURACY: NEITHER, "lira-online": UNDER}, OPEN, True),
    ({ACCURACY: SILENT, FORECAST: UNDER}, RESIDUAL, False),
    ({FORECAST: NEITHER, "lira": UNDER}, OPEN, True),
    ({FORECAST: NEITHER, RELEARNING: UNDER}, RESIDUAL, False),
]


@pytest.mark.parametrize(("says", "finding", "contradicted"), TABLE, ids=[str(row[0]) for row in TABLE])
def test_signals_that_disagree(says: dict[str, Result], finding: str, contradicted: bool) -> None:
    found = decide([signal(name, one) for name, one in says.items()])
    assert found.finding == finding
    assert bool(found.contradictions) == contradicted
    assert len(found.signals) == len(says)
    for one in found.contradictions:
        assert one in found.text or finding == OPEN
    if finding == OPEN:
        assert found.text.startswith("inconclusive")


def test_a_gap_that_no_accuracy_can_show_is_not_given_as_a_percentage() -> None:
    said = from_accuracies(0.88, [0.84, 0.84], 25, do_nothing=0.92).text
    gap = "the smallest detectable gap in accuracy on the forget set is more than 100%"
    assert f"{gap}, and the gap of the original is 8.0%" in said


def test_broken_retrained_models_make_any_verdict_inconclusive() -> None:
    for says in (NEITHER, UNDER):
        found = decide([signal(TEST, says)], broken="the retrained models do not reach the accuracy of the original")
        assert found.finding == OPEN
        assert found.text == "inconclusive: the retrained models do not reach the accuracy of the original"


def side(share: float, p: float, detectable: float | None = 0.1) -> Side:
    return Side(share=share, expected=0.025, limit=0.05, p=p, detectable=detectable)


QUIET = SingleModelTest(200, side(0.02, 0.6), side(0.03, 0.5), 0.0, 1.0, nothing=0.4, covered=1.0)
ALARM = replace(QUIET, under=side(0.4, 1e-6))


def test_a_quiet_test_says_neither_only_where_doing_nothing_raises_the_alarm() -> None:
    assert from_test(QUIET, {}).result == "neither"
    assert from_test(QUIET, {}, do_nothing={"": ALARM}).result == "neither"
    silent = from_test(QUIET, {}, do_nothing={"": QUIET})
    assert silent.result == "cannot say"
    assert "the original, which forgot nothing, has 2.0% under-forgotten" in silent.text
    assert from_test(QUIET, {"high": QUIET}, do_nothing={"": QUIET, "high": ALARM}).result == "neither"
    barely = replace(QUIET, under=side(0.1, 0.02))
    assert from_test(QUIET, {}, do_nothing={"": barely}).result == "neither"
    assert from_test(QUIET, {}, do_nothing={"": barely}, relearned=0.5).result == "cannot say"


@pytest.mark.parametrize("nothing", [None, 0.05])
def test_a_test_whose_members_cannot_show_what_doing_nothing_does_cannot_say(nothing: float | None) -> None:
    found = from_test(replace(QUIET, nothing=nothing), {})
    assert found.result == "cannot say"
    no_power = from_test(replace(QUIET, under=side(0.02, 0.6, None)), {})
    assert no_power.result == "cannot say"


def test_examples_unlike_all_unseen_ones_give_no_verdict_of_none() -> None:
    found = from_test(replace(QUIET, covered=0.6), {})
    assert found.result == "cannot say"
    assert "no unseen examples are similar to 40.0%" in found.text


def test_members_that_kept_most_of_a_class_are_no_judges_of_over_forgetting() -> None:
    over = replace(QUIET, over=side(0.5, 1e-9))
    assert from_test(over, {}).result == "over-forgotten"
    assert from_test(over, {}, over_untestable="they kept most of class 3").result == "cannot say"
    assert from_test(replace(over, under=side(0.4, 1e-9)), {}, over_untestable="…").result == "under-forgotten"


def test_groups_and_relearning_share_the_level() -> None:
    """p = 0.01 alone is below 2.5%; as the smallest of four it would have to be below 0.625%."""
    one = replace(QUIET, under=side(0.1, 0.01))
    assert from_test(one, {}).result == "under-forgotten"
    assert from_test(QUIET, {"low": QUIET, "medium": QUIET, "high": one}).result == "neither"
    assert (
        from_test(QUIET, {"low": QUIET, "medium": QUIET, "high": replace(one, under=side(0.1, 0.006))}).result
        != "neither"
    )
    assert from_test(one, {"low": one}, relearned=0.001).result == "under-forgotten"
    assert from_test(replace(QUIET, under=side(0.1, 0.02)), {}, relearned=0.5).result == "neither"
    assert from_test(replace(QUIET, under=side(0.1, 0.02)), {}, relearned=0.001).result == "under-forgotten"


def test_groups_share_the_level_of_over_forgetting_too() -> None:
    assert from_test(replace(QUIET, over=side(0.1, 0.01)), {}).result == "over-forgotten"
    for p, says in ((0.01, "neither"), (0.006, "over-forgotten")):
        groups = {"low": QUIET, "medium": QUIET, "high": replace(QUIET, over=side(0.1, p))}
        assert from_test(QUIET, groups).result == says


def test_the_group_that_is_still_known_is_named() -> None:
    found = from_test(QUIET, {"low": QUIET, "high": ALARM})
    assert "in the high group" in found.text


def test_holm_rejects_the_smallest_first_and_stops_at_the_first_that_stands() -> None:
    assert holm({"a": 0.001, "b": 0.02, "c": 0.9}, 0.025) == {"a"}
    assert holm({"a": 0.001, "b": 0.01, "c": 0.9}, 0.025) == {"a", "b"}
    assert holm({"a": 0.009, "b": 0.009, "c": 0.009}, 0.025) == frozenset()
    assert holm({"a": 0.02}, 0.025) == {"a"}


def test_two_retrained_models_have_one_degree_of_freedom_and_see_next_to_nothing() -> None:
    """40 of 640 images: the original has all of them, two retrained models 68.8% each."""
    found = from_accuracies(1.0, [0.675, 0.7], 40, do_nothing=1.0)
    assert found.result == "cannot say"
    assert "retrain 4 or 5 models, or use members" in found.text
    assert decide([found]).finding == "inconclusive"
    assert from_accuracies(1.0, [0.675, 0.7, 0.69, 0.68, 0.695], 400, do_nothing=1.0).result == "under-forgotten"
    assert from_accuracies(0.69, [0.675, 0.7, 0.69, 0.68, 0.695], 400, do_nothing=1.0).result == "neither"
    assert from_accuracies(0.69, [0.675, 0.7, 0.69, 0.68, 0.695], 400, do_nothing=0.72).result == "cannot say"
    assert from_accuracies(0.3, [0.675, 0.7, 0.69, 0.68, 0.695], 400, do_nothing=1.0).result == "over-forgotten"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("n", [20, 100, 1000])
def test_accuracies_never_say_neither_where_the_effect_is_larger_than_any_gap(share: float, m: int, n: int) -> None:
    for ours in (0.0, share, 1.0):
        found = from_accuracies(ours, [share] * m, n)
        if found.result == "neither":
            smallest = found.numbers["smallest_detectable"]
            assert smallest is not None
            assert smallest <= 1 - share


def test_the_smallest_gap_is_seen_with_its_power() -> None:
    random = np.random.default_rng(0)
    for m in (3, 6):
        retrained = random.normal(0, 1, (20_000, m))
        ours = random.normal(smallest_gap(m) * np.sqrt(1 + 1 / m), 1, 20_000)
        t = (ours - retrained.mean(1)) / (retrained.std(1, ddof=1) * np.sqrt(1 + 1 / m))
        assert float((t > student.ppf(0.975, m - 1)).mean()) == pytest.approx(0.8, abs=0.01)


def test_the_forecast_says_neither_only_where_doing_nothing_would_be_outside_its_interval() -> None:
    expected = Forecast(0.52, 0.44, 0.61, 0.52, "40 members", 100)
    assert from_forecast(0.55, expected, do_nothing=1.0).result == "neither"
    assert from_forecast(1.0, expected, do_nothing=1.0).result == "under-forgotten"
    assert from_forecast(0.3, expected, do_nothing=1.0).result == "over-forgotten"
    assert from_forecast(0.55, expected, do_nothing=0.6).result == "cannot say"
    assert from_forecast(0.95, Forecast(0.9, 0.7, 1.0, 0.9, "a cross-fit", 100)).result == "cannot say"
    assert from_forecast(1.0, replace(expected, n=12), do_nothing=1.0).result == "cannot say"


def test_an_attack_speaks_where_it_does_better_than_on_retrained_models() -> None:
    attack = Attack(0.7, 0.65, 0.75, {})
    assert from_attack("lira", attack, []).result == "under-forgotten"
    assert from_attack("lira", attack, [Attack(0.62, 0.57, 0.67, {})]).result == "neither"
    assert from_attack("lira", attack, [Attack(0.55, 0.5, 0.6, {})]).result == "under-forgotten"
    assert from_attack("lira", Attack(0.45, 0.4, 0.49, {}), []).result == "neither"


def test_what_comes_back_is_a_finding_beside_retrained_models_and_a_contradiction_without() -> None:
    risen = Relearning(0.1, 0.235, -0.018, 1e-6)
    beside = from_relearning(risen, retrained=2, level=0.025)
    assert beside.result == "under-forgotten"
    assert "confidence on the forget set changes by +13.5%, for retrained models by -1.8%" in beside.text
    assert decide([signal(TEST, NEITHER), beside]).finding == RESIDUAL
    alone = from_relearning(risen, retrained=0, level=0.025)
    assert decide([signal(TEST, NEITHER), alone]).finding == OPEN
    assert from_relearning(replace(risen, p=0.03), retrained=2, level=0.025).result == "neither"


def test_damage_is_worse_than_members_explain() -> None:
    members = np.array([0.80, 0.82, 0.81, 0.79, 0.83])  # t(4) at 0.1% is 7.17; 0.81 − 7.17 · 0.0158 · √1.2 = 0.686
    assert from_damage(0.69, members) is None
    found = from_damage(0.68, members)
    assert found is not None
    assert found.text == "the model is damaged: accuracy on unseen examples is 68.0%, that of members 81.0%"
    assert decide([signal(TEST, NEITHER), found]).finding == OPEN
    overdone = decide([signal(TEST, OVER), found])
    assert overdone.finding == OVERDONE
    assert overdone.text.endswith("that of members 81.0%")
