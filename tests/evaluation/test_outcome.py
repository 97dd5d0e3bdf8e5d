from __future__ import annotations

import json

import pytest
from torch import nn

import unmem as um
from unmem.evaluation import accuracy, called_unseen, tug_of_war


@pytest.fixture(scope="module")
def retrained(problem: um.Problem) -> list[nn.Module]:
    return [um.Retrain()(problem, seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def parts(problem: um.Problem) -> dict[str, object]:
    ids = problem.forget.ids
    return {"low": ids[:25], "high": ids[25:34], "rest": ids[34:]}


def test_numbers_are_those_of_the_definitions(problem: um.Problem, retrained: list[nn.Module]) -> None:
    u, g = um.NegGradPlus()(problem, seed=0), retrained[0]
    found = um.evaluate({"u": u}, problem, reference=[g]).methods["u"]

    def shares(model: nn.Module) -> tuple[float, float, float, float]:
        unseen = called_unseen(model, problem.forget, problem.retain, problem.holdout).mean()
        return accuracy(model, problem.forget), accuracy(model, problem.retain), accuracy(model, problem.test), unseen

    ours, theirs = shares(u), shares(g)
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    assert found.tow == pytest.approx(tug_of_war(gaps[0], gaps[1], gaps[2]))
    assert found.tow_mia == pytest.approx(tug_of_war(gaps[3], gaps[1], gaps[2]))
    assert (found.accuracy["forget"], found.accuracy["retain"], found.accuracy["test"], found.mia) == ours


def test_the_retrained_model_itself_scores_exactly_1(problem: um.Problem, retrained: list[nn.Module]) -> None:
    found = um.evaluate({"g": retrained[0]}, problem, reference=retrained[:1])
    assert (found.methods["g"].tow, found.methods["g"].tow_mia) == (1, 1)


def test_the_controls_are_always_there(problem: um.Problem, retrained: list[nn.Module]) -> None:
    found = um.evaluate({"original": problem.model}, problem, reference=retrained)
    assert found.do_nothing.tow == found.methods["original"].tow
    pair = found.retrain_vs_retrain
    assert pair is not None
    one = um.evaluate({"g": retrained[0]}, problem, reference=retrained[1:]).methods["g"]
    assert (pair.tow, pair.tow_mia) == pytest.approx((one.tow, one.tow_mia))
    assert found.spread == pytest.approx(1 - one.tow)
    assert found.reference is not None
    mean = sum(accuracy(g, problem.test) for g in retrained) / 2
    assert found.reference.accuracy["test"] == pytest.approx(mean)


def test_without_a_reference_the_reason_stands_beside_the_null(problem: um.Problem) -> None:
    found = um.evaluate({"x": problem.model}, problem).to_dict()
    assert found["methods"]["x"]["tow"] is None
    assert "retrained model" in found["methods"]["x"]["reason"]
    assert "retrained model" in found["controls"]["retrain_vs_retrain"]["reason"]
    json.dumps(found, allow_nan=False)


def test_one_reference_says_that_two_are_needed(problem: um.Problem, retrained: list[nn.Module]) -> None:
    found = um.evaluate({}, problem, reference=retrained[:1]).to_dict()
    assert "two retrained" in found["controls"]["retrain_vs_retrain"]["reason"]


def test_parts_and_the_smallest_cell(problem: um.Problem, retrained: list[nn.Module], parts: dict[str, object]) -> None:
    found = um.evaluate({"x": problem.model}, problem, reference=retrained, parts=parts)
    low, high = found.methods["x"].parts["low"], found.methods["x"].parts["high"]
    assert low.n == 25
    assert low.accuracy == pytest.approx(accuracy(problem.model, problem.forget.take(parts["low"])))
    assert low.tow is not None
    assert (high.n, high.accuracy, high.mia, high.tow) == (9, None, None, None)


def test_cost_is_in_trainings_of_the_middle_one(problem: um.Problem, retrained: list[nn.Module]) -> None:
    found = um.evaluate(
        {"x": problem.model},
        problem,
        reference=retrained,
        seconds={"x": 3.0},
        reference_seconds=[10.0, 12.0],
        training_seconds=50.0,
    )
    assert (found.methods["x"].seconds, found.methods["x"].cost) == (3.0, 0.25)
    assert found.reference is not None
    assert found.reference.cost == pytest.approx(11 / 12)
    assert found.do_nothing.cost == 0


def test_the_best_method_is_that_with_the_highest_tow(problem: um.Problem, retrained: list[nn.Module]) -> None:
    models = {"g": retrained[0], "original": problem.model}
    assert um.evaluate(models, problem, reference=retrained).best(["g", "original"]) == "g"
