from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

import unmem as um
from unmem.memorization import Interval, agreement


def scores(values: np.ndarray, name: str = "score") -> um.Scores:
    return um.Scores(name, np.array([f"i{k}" for k in range(len(values))]), values.astype(np.float64))


def pair(n: int = 200, noise: float = 0.3, seed: int = 0) -> tuple[um.Scores, um.Scores]:
    random = np.random.default_rng(seed)
    truth = random.beta(0.3, 1.0, n)
    return scores(truth + noise * random.normal(size=n)), scores(truth, "truth")


def test_values_are_those_of_scipy_and_scikit_learn() -> None:
    proxy, truth = pair()
    found = agreement(proxy, truth, threshold=0.25)
    marked = truth.values > 0.25
    assert found.n == 200
    assert found.threshold == 0.25
    assert found.spearman.value == pytest.approx(float(spearmanr(proxy.values, truth.values).statistic))
    assert found.auroc is not None
    assert found.average_precision is not None
    assert found.auroc.value == pytest.approx(roc_auc_score(marked, proxy.values))
    assert found.average_precision.value == pytest.approx(average_precision_score(marked, proxy.values))


def test_ties_are_those_of_scipy_and_scikit_learn() -> None:
    proxy, truth = (replace(s, values=np.round(s.values * 4) / 4) for s in pair())
    found = agreement(proxy, truth)
    marked = truth.values > 0.25  # an example at the threshold is not above it
    assert (truth.values == 0.25).any()
    assert found.spearman.value == pytest.approx(float(spearmanr(proxy.values, truth.values).statistic))
    assert found.auroc is not None
    assert found.auroc.value == pytest.approx(roc_auc_score(marked, proxy.values))
    assert found.average_precision is not None
    assert found.average_precision.value == pytest.approx(average_precision_score(marked, proxy.values))


def test_overlap_is_the_share_of_the_top_tenth_in_the_top_tenth() -> None:
    truth = np.arange(40.0)
    proxy = truth.copy()
    proxy[[39, 38]] = -1  # of the top four, two are missed
    assert agreement(scores(proxy), scores(truth)).overlap.value == 0.5
    assert agreement(scores(truth), scores(truth)).overlap.value == 1
    assert agreement(scores(-truth), scores(truth)).overlap.value == 0
    assert agreement(scores(np.arange(49.0)), scores(np.arange(49.0))).overlap.value == 1


def test_a_constant_score_overlaps_by_chance_alone() -> None:
    truth = -np.arange(100.0)  # the top tenth comes first
    proxy = np.append(np.zeros(99), -1.0)  # all tied but one
    assert agreement(scores(proxy), scores(truth)).overlap.value < 0.5


def test_a_score_agrees_with_itself_and_not_with_its_opposite() -> None:
    _, truth = pair()
    same, opposite = agreement(truth, truth), agreement(replace(truth, values=-truth.values), truth)
    for found, ends in ((same, 1.0), (opposite, 0.0)):
        assert found.auroc is not None
        assert found.auroc.value == ends
        # Perfect on some tens of examples is not perfect for certain: the interval of `unmem.metrics`.
        assert min(abs(found.auroc.low - ends), abs(found.auroc.high - ends)) == 0
        assert 0 < found.auroc.high - found.auroc.low < 0.1
        assert found.spearman.value == pytest.approx(2 * ends - 1)


def test_intervals_hold_the_value_and_shrink_with_more_examples() -> None:
    widths: list[float] = []
    for n in (100, 1600):
        found = agreement(*pair(n, noise=0.6))
        assert found.auroc is not None
        assert found.average_precision is not None
        for interval in (found.spearman, found.overlap, found.auroc, found.average_precision):
            assert interval.low <= interval.value <= interval.high
            assert interval.low < interval.high
        widths.append(found.spearman.high - found.spearman.low)
    assert 2.5 < widths[0] / widths[1] < 6  # about √16


def test_the_interval_is_the_middle_of_many_resamplings() -> None:
    proxy, truth = pair(noise=0.6)
    found = agreement(proxy, truth, resamples=1000)
    random = np.random.default_rng(5)
    draws = [random.integers(0, 200, 200) for _ in range(1000)]
    by_hand = [float(spearmanr(proxy.values[d], truth.values[d]).statistic) for d in draws]
    assert found.spearman.low == pytest.approx(np.percentile(by_hand, 2.5), abs=0.02)
    assert found.spearman.high == pytest.approx(np.percentile(by_hand, 97.5), abs=0.02)


def test_unrelated_scores_have_intervals_around_chance() -> None:
    covered = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        found = agreement(scores(random.normal(size=150)), scores(random.uniform(size=150)), resamples=100)
        assert found.auroc is not None
        covered += found.spearman.low <= 0 <= found.spearman.high
        covered += found.auroc.low <= 0.5 <= found.auroc.high
    assert covered >= 34  # of 40, at 95% each


def test_examples_are_matched_by_id() -> None:
    proxy, truth = pair()
    order = np.random.default_rng(1).permutation(200)
    mixed = um.Scores("score", proxy.ids[order], proxy.values[order])
    straight, crossed, back = agreement(proxy, truth), agreement(mixed, truth), agreement(truth, mixed)
    assert crossed.spearman.value == pytest.approx(straight.spearman.value)
    assert crossed.overlap.value == straight.overlap.value
    assert crossed.auroc is not None
    assert straight.auroc is not None
    assert crossed.auroc.value == pytest.approx(straight.auroc.value)
    assert back.spearman.value == pytest.approx(straight.spearman.value)


def test_only_examples_with_both_values_count() -> None:
    proxy, truth = pair()
    values, reference = proxy.values.copy(), truth.values.copy()
    values[:20] = np.nan
    reference[10:30] = np.nan
    found = agreement(
        replace(proxy, values=values), um.Scores("truth", truth.ids[:150], reference[:150], error=None, settings={})
    )
    assert found.n == 120
    assert found == agreement(
        um.Scores("score", proxy.ids[30:150], proxy.values[30:150]),
        um.Scores("truth", truth.ids[30:150], truth.values[30:150]),
    )


def test_too_few_shared_examples_are_refused() -> None:
    proxy, truth = pair()
    with pytest.raises(um.UserError, match="shares 9 values with truth"):
        agreement(um.Scores("score", proxy.ids[:9], proxy.values[:9]), truth)
    other = um.Scores("score", np.array([f"other{k}" for k in range(200)]), proxy.values)
    with pytest.raises(um.UserError, match="shares 0 values"):
        agreement(other, truth)


@pytest.mark.parametrize("threshold", [2.0, -1.0])
def test_a_threshold_that_all_or_none_pass_leaves_no_auroc_but_a_reason(threshold: float) -> None:
    found = agreement(*pair(), threshold=threshold)
    assert found.auroc is None
    assert found.average_precision is None
    assert found.spearman.value > 0.3
    plain = found.to_dict()
    assert f"above {threshold}" in plain["reason"]
    json.dumps(plain, allow_nan=False)


def test_the_plain_form_has_every_field() -> None:
    plain = agreement(*pair()).to_dict()
    assert set(plain) == {"n", "threshold", "spearman", "overlap", "auroc", "average_precision"}
    assert set(plain["auroc"]) == {"value", "low", "high"}
    json.dumps(plain, allow_nan=False)
    assert str(Interval(0.5, 0.25, 1)) == "0.500 [0.250, 1.000]"


def test_the_seed_decides_the_resampling() -> None:
    proxy, truth = pair()
    first, again, other = (agreement(proxy, truth, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.spearman.value == other.spearman.value
    assert first.spearman.low != other.spearman.low


def test_a_constant_score_has_no_rank_correlation() -> None:
    _, truth = pair()
    found = agreement(replace(truth, values=np.ones(200)), truth)
    assert found.auroc is not None
    assert found.auroc.value == 0.5
    json.dumps(found.to_dict(), allow_nan=False)


def test_one_memorized_example_is_enough() -> None:
    values = np.zeros(60)
    values[7] = 1
    found = agreement(scores(np.arange(60.0)), scores(values))
    assert found.auroc is not None
    assert found.auroc.value == pytest.approx(7 / 59)
    assert found.auroc.low <= found.auroc.value <= found.auroc.high
