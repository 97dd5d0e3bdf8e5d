"""`audit`: it uses what is at hand, says what is missing, and never fails because something is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import unmem as um
from tests.helpers import without_original
from unmem.ensembles import leave_out_masks, train_members
from unmem.errors import UserError
from unmem.evaluation import audit
from unmem.evaluation.log_odds import MemberLogOdds
from unmem.evaluation.single_model import Judge
from unmem.evaluation.verdict import RELEARNING, TEST
from unmem.evaluation.witness import Judged, Witness

RECIPE = um.Recipe(model="mlp", epochs=40, batch_size=32)
DATA = um.load("digits", limit=400, flip=0.05)
MEMBERS = 40


@pytest.fixture(scope="module")
def problem() -> um.Problem:
    chosen = np.random.default_rng(0).choice(DATA.train.ids, 80, replace=False)
    return um.Problem(um.train(RECIPE, DATA.train), DATA, chosen, recipe=RECIPE)


@pytest.fixture(scope="module")
def members() -> um.Ensemble:
    masks = leave_out_masks(len(DATA.train), MEMBERS, keep=0.7, seed=0)
    return train_members(RECIPE, DATA.train, masks, seed=50, unseen=DATA.holdout)


@pytest.fixture(scope="module")
def retrained(problem: um.Problem) -> list[torch.nn.Module]:
    return [um.train(RECIPE, problem.retain, seed=seed) for seed in (7, 8)]


@pytest.fixture(scope="module")
def full(problem: um.Problem, members: um.Ensemble, retrained: list[torch.nn.Module]) -> um.Audit:
    models = {"nothing done": problem.model, "retrained": um.train(RECIPE, problem.retain, seed=9)}
    parts = {"first": problem.forget.ids[:40], "rest": problem.forget.ids[40:74], "few": problem.forget.ids[74:]}
    return audit(models, problem, reference=retrained, members=members, parts=parts)


def test_a_wrecked_model_is_not_called_clean(problem: um.Problem, members: um.Ensemble) -> None:
    wrecked = um.train(replace(RECIPE, epochs=0), problem.retain)
    found = audit({"wrecked": wrecked}, problem, members=members, relearning=False)
    assert found.verdicts["wrecked"].finding == "over-forgetting found"
    assert "the model is damaged" in found.verdicts["wrecked"].text


def test_a_model_that_forgot_nothing_is_found_and_an_honest_one_is_not(full: um.Audit) -> None:
    assert full.verdicts["nothing done"].finding == "residual influence found"
    assert full.verdicts["retrained"].finding == "none found"
    nothing, honest = full.evidence["nothing done"], full.evidence["retrained"]
    assert nothing.test is not None
    assert honest.test is not None
    assert nothing.test.under.share > 3 * honest.test.under.share
    for attack in ("confidence", "lira", "lira-online", "rmia"):
        assert nothing.attacks[attack].auc > honest.attacks[attack].auc + 0.1
    assert nothing.attacks["lira"].low > 0.5
    assert nothing.distance is not None
    assert honest.distance is not None
    assert nothing.distance > 2 * honest.distance


class Scaled(torch.nn.Module):
    """A model at another temperature."""

    def __init__(self, model: torch.nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(inputs)
        return self.factor * logits


@pytest.mark.parametrize("factor", [0.3, 0.5, 3.0])
def test_a_model_that_forgot_nothing_is_found_at_any_temperature(
    factor: float, problem: um.Problem, members: um.Ensemble
) -> None:
    found = audit({"scaled": Scaled(problem.model, factor)}, problem, members=members, relearning=False)
    assert found.verdicts["scaled"].finding == "residual influence found"


@pytest.mark.parametrize("smoothing", [0.05, 0.2])
def test_a_model_that_forgot_nothing_is_never_called_clean_for_its_label_smoothing(
    smoothing: float, problem: um.Problem, members: um.Ensemble
) -> None:
    recipe = replace(RECIPE, label_smoothing=smoothing)
    smoothed = um.train(recipe, DATA.train)
    asked = um.Problem(smoothed, DATA, problem.forget.ids, recipe=recipe)
    found = audit({"smoothed": smoothed}, asked, members=members, relearning=False)
    assert found.verdicts["smoothed"].finding in ("residual influence found", "inconclusive")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wrong labels", "class"])
def test_honest_models_are_not_convicted_of_wrong_labels_or_a_class(
    name: str, problem: um.Problem, members: um.Ensemble
) -> None:
    """Alone, and beside retrained models; relearning is judged too."""
    ids = DATA.flipped if name == "wrong labels" else DATA.train.ids[DATA.train.labels.numpy() == 3]
    asked = um.Problem(problem.model, DATA, ids, recipe=RECIPE)
    models = [um.train(RECIPE, asked.retain, seed=seed) for seed in range(5, 10)]
    honest = {str(k): model for k, model in enumerate(models[2:])}
    alone = audit(honest, asked, members=members)
    beside = audit(honest, asked, members=members, reference=models[:2])
    for found in (*alone.verdicts.values(), *beside.verdicts.values()):
        assert found.finding in ("none found", "inconclusive")
    if name == "class":
        assert all("holds most of class 3" in one.text for one in alone.verdicts.values())
    else:
        assert {one.finding for one in beside.verdicts.values()} == {"none found"}


def test_the_controls_are_the_same_measures_of_the_original_and_of_retrained_models(full: um.Audit) -> None:
    assert full.do_nothing == full.evidence["nothing done"]
    assert len(full.retrained) == 2
    assert full.forecast is not None
    reference = full.evaluation.reference
    assert reference is not None
    assert full.forecast.low - 0.1 <= reference.accuracy["forget"] <= full.forecast.high + 0.1
    assert [one.what for one in full.missing] == ["KLoM, which judges a method and not a model"]
    assert full.notes == ()


def test_each_number_is_that_of_the_function_behind_it(
    full: um.Audit, problem: um.Problem, members: um.Ensemble, retrained: list[torch.nn.Module]
) -> None:
    judge = Judge.make(MemberLogOdds.of(members, problem.forget.ids))
    signals = MemberLogOdds.of(members, problem.forget.ids)
    t = judge.t(signals.model_log_odds(problem.model, problem.forget, problem.holdout))
    np.testing.assert_array_equal(full.t["nothing done"], t)
    honest = [judge.t(signals.model_log_odds(model, problem.forget, problem.holdout)) for model in retrained]
    level = 0.025 / 4  # the set, two groups of ten or more, and relearning
    assert full.evidence["nothing done"].test == judge.test(t, level=level, retrained=honest)
    first = judge.test(t, np.arange(40), level=level, retrained=honest)
    assert full.evidence["nothing done"].parts["first"] == first


def test_the_forget_set_and_relearning_share_the_level(
    full: um.Audit, problem: um.Problem, retrained: list[torch.nn.Module]
) -> None:
    """p = 0.02 is below the 2.5% of a whole verdict, and above the half of it that each of the two has."""
    witness = Witness(problem, retrained, None, {}, relearning=True, seed=0)
    judged = Judged(problem, full.evaluation, witness, None, None)
    seen = full.evidence["retrained"]
    assert seen.test is not None
    assert seen.relearning is not None

    def alarms(on_set: float, relearned: float) -> set[str]:
        test = replace(seen.test, under=replace(seen.test.under, p=on_set))
        again = replace(seen.relearning, p=relearned)
        evidence = replace(seen, test=test, parts={}, attacks={}, relearning=again)
        return {one.name for one in judged.signals(evidence, problem.model, 0.5) if one.result == "under-forgotten"}

    assert not alarms(0.02, 0.9) & {TEST, RELEARNING}
    assert not alarms(0.9, 0.02) & {TEST, RELEARNING}
    assert alarms(0.01, 0.9) & {TEST, RELEARNING} == {TEST}
    assert alarms(0.9, 0.01) & {TEST, RELEARNING} == {RELEARNING}


def test_parts_under_the_smallest_cell_are_not_shown(full: um.Audit) -> None:
    assert full.evidence["retrained"].parts["few"] is None


def test_aggregates_are_plain_values_without_ids(full: um.Audit, problem: um.Problem) -> None:
    text = json.dumps(full.to_dict(), allow_nan=False)
    found = json.loads(text)
    assert {"methods", "controls", "evidence", "evidence_controls", "verdicts", "forecast", "missing"} <= found.keys()
    assert not any(f'"{name}"' in text for name in problem.forget.ids)
    assert '"t"' not in text


def test_with_nothing_but_the_model_it_says_what_it_cannot_know(problem: um.Problem) -> None:
    found = audit({"given": problem.model}, without_original(problem), relearning=False)
    assert found.verdicts["given"].finding == "inconclusive"
    assert "inconclusive (too little power)" in found.verdicts["given"].text
    assert set(found.evidence["given"].attacks) == {"confidence", "confidence, retain set"}
    assert found.evaluation.do_nothing is None
    assert found.do_nothing is None
    assert found.forecast is None
    assert found.to_dict()["controls"]["do_nothing"]["reason"] == "needs the original model"
    needs = {one.what: one for one in found.missing}
    assert len(needs) == 6
    assert needs["test of single examples, LiRA and RMIA"].cost == pytest.approx(28)
    assert needs["what doing nothing would show"].cost is None


def test_the_verdict_falls_back_on_retrained_models_and_then_on_the_forecast(problem: um.Problem) -> None:
    problem = um.Problem(problem.model, DATA, DATA.flipped, recipe=RECIPE)
    three = [um.train(RECIPE, problem.retain, seed=seed) for seed in (1, 2, 3)]
    against = audit({"given": problem.model}, problem, reference=three, relearning=False)
    assert against.verdicts["given"].basis == "forget accuracy against retrained models"
    assert against.verdicts["given"].finding == "residual influence found"
    made = um.crossfit(replace(RECIPE, epochs=25), DATA.train, unseen=DATA.holdout)
    by_forecast = audit({"given": problem.model}, problem, crossfit=made, relearning=False)
    assert "forecast" in by_forecast.verdicts["given"].basis
    assert by_forecast.verdicts["given"].finding == "residual influence found"


def test_fewer_than_the_smallest_cell_gives_no_verdict_and_no_test(
    problem: um.Problem, members: um.Ensemble, retrained: list[torch.nn.Module]
) -> None:
    few = um.Problem(problem.model, DATA, problem.forget.ids[:6], recipe=RECIPE)
    found = audit({"given": problem.model}, few, reference=retrained, members=members, relearning=False)
    assert found.evidence["given"].test is None
    assert found.verdicts["given"].finding == "inconclusive"
    assert any("fewer tell about persons" in one.needs for one in found.missing)


def test_members_that_picked_the_forget_set_are_caught_by_retrained_models(members: um.Ensemble) -> None:
    """The winner's curse: examples that these members happened to get wrong when they left them out."""
    hits, out = members.train.phi, ~members.kept
    unlucky = np.where(out, hits, 0).sum(0) / out.sum(0) - hits.mean(0)
    chosen = DATA.train.ids[np.argsort(unlucky)[:60]]
    picked = um.Problem(um.train(RECIPE, DATA.train), DATA, chosen, recipe=RECIPE)
    honest = [um.train(RECIPE, picked.retain, seed=seed) for seed in (1, 2, 3)]
    found = audit({"honest": honest[2]}, picked, reference=honest[:2], members=members, relearning=False)
    assert found.verdicts["honest"].finding in ("none found", "inconclusive")


def test_members_of_another_recipe_are_named(problem: um.Problem, members: um.Ensemble) -> None:
    other = um.Problem(problem.model, DATA, problem.forget.ids, recipe=replace(RECIPE, epochs=5, seed=3))
    found = audit({"given": problem.model}, other, members=members, relearning=False)
    assert found.notes == (
        "the members were trained by another recipe (epochs 40 instead of 5): their test may be unfair",
    )


def test_members_of_other_examples_are_refused(problem: um.Problem) -> None:
    other = um.load("digits", limit=60, seed=5)
    masks = leave_out_masks(60, 6, keep=0.5, seed=0)
    strangers = train_members(replace(RECIPE, epochs=1), other.train, masks, unseen=other.holdout)
    with pytest.raises(UserError, match="trained on other examples"):
        audit({"given": problem.model}, problem, members=strangers)
    blind = train_members(replace(RECIPE, epochs=1), DATA.train, leave_out_masks(400, 6, keep=0.5, seed=0))
    with pytest.raises(UserError, match="know no unseen examples"):
        audit({"given": problem.model}, problem, members=blind)
    few = train_members(
        replace(RECIPE, epochs=1), DATA.train, leave_out_masks(400, 4, keep=0.5, seed=0), unseen=DATA.holdout
    )
    with pytest.raises(UserError, match="left out by fewer than 3 of them"):
        audit({"given": problem.model}, problem, members=few)


@pytest.mark.parametrize("kept", [True, False], ids=["all were trained on it", "none was"])
def test_members_that_are_all_on_one_side_of_the_forget_set(kept: bool, problem: um.Problem) -> None:
    masks = leave_out_masks(len(DATA.train), 8, keep=0.5, seed=0)
    masks[:, DATA.train.positions(problem.forget.ids)] = kept
    members = train_members(replace(RECIPE, epochs=20), DATA.train, masks, unseen=DATA.holdout)
    if kept:
        with pytest.raises(UserError, match="left out by fewer than 3 of them"):
            audit({"given": problem.model}, problem, members=members, relearning=False)
        return
    found = audit({"given": problem.model}, without_original(problem), members=members, relearning=False)
    test = found.evidence["given"].test
    assert test is not None
    assert test.nothing is None
    assert test.blind
    assert "lira-online" not in found.evidence["given"].attacks
    assert found.verdicts["given"].finding != "none found"


@pytest.mark.slow
def test_klom_of_a_method_stands_beside_that_of_as_many_retrained_models(problem: um.Problem) -> None:
    honest = [um.train(RECIPE, problem.retain, seed=seed) for seed in range(20, 26)]
    lazy = [um.train(RECIPE, DATA.train, seed=seed) for seed in (30, 31)]
    models = {"lazy": problem.model, "honest": honest[4]}
    runs = {"lazy": lazy, "honest": honest[5:]}
    found = audit(models, problem, reference=honest[:4], runs=runs, relearning=False)
    one, other = found.evidence["lazy"], found.evidence["honest"]
    logits = [um.predict(model, problem.forget).double() for model in [problem.model, lazy[0], *honest[:4]]]
    own = [z.gather(1, problem.forget.labels[:, None])[:, 0] for z in logits]
    rest = [z.scatter(1, problem.forget.labels[:, None], float("-inf")).logsumexp(1) for z in logits]
    phi = np.stack([(a - b).numpy() for a, b in zip(own, rest, strict=True)])
    assert one.klom == pytest.approx(float(um.klom(phi[:2], phi[4:]).mean()))
    assert one.klom_control == other.klom_control == pytest.approx(float(um.klom(phi[2:4], phi[4:]).mean()))
    assert one.klom is not None
    assert other.klom is not None
    assert one.klom > other.klom
