"""RUM in full: how the forget set is cut, what each step is given, and the controls."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
import pytest
import torch
from torch import nn

import unmem as um
from tests.helpers import same_state, state_of
from tests.unlearning.tiny import RECIPE, tiny_problem
from unmem.errors import UserError
from unmem.unlearning import NegGrad, Setting, Unlearner
from unmem.unlearning.rum import Order

PROBLEM = tiny_problem()
TRAIN, FORGET, RETAIN = PROBLEM.data.train.ids, PROBLEM.forget.ids, PROBLEM.retain.ids
# The forget set in the order of the request scores 5, 2, 7, 0, 3, 6, 1, 4; the others are out of its range.
SCORES = um.Scores(
    "made-up", np.concatenate([FORGET, RETAIN]), np.array([5, 2, 7, 0, 3, 6, 1, 4, *range(100, 116)], dtype=np.float64)
)


def with_scores(*values: int) -> list[str]:
    """Ids of the forget set with these scores, in the order of the request."""
    return [str(name) for name in FORGET if SCORES.of([name])[0] in values]


@dataclass(frozen=True)
class Recording:
    """Adds `number` to every parameter and writes down what it was given."""

    name: ClassVar[str] = "recording"
    number: float
    seen: list[tuple[list[str], list[str], int]]
    price: float = 1.0
    strength: float = 1.0

    def __call__(
        self, problem: um.Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[um.Observer] = ()
    ) -> nn.Module:
        self.seen.append((list(problem.forget.ids), list(problem.retain.ids), seed))
        assert problem.recipe == RECIPE
        new = copy.deepcopy(problem.model if start is None else start)
        with torch.no_grad():
            for p in new.parameters():
                p.mul_(2).add_(self.number)
        return new

    def cost(self, problem: um.Problem) -> float:
        return self.price

    def tuned(self, problem: um.Problem, setting: Setting) -> Self:
        return type(self)(self.number, self.seen, self.price, self.strength * setting.strength)


@dataclass
class Log:
    seen: list[tuple[list[str], list[str], int]] = field(default_factory=list[tuple[list[str], list[str], int]])

    def step(self, number: float = 0.0, *, price: float = 1.0) -> Recording:
        return Recording(number, self.seen, price)

    @property
    def forgotten(self) -> list[list[str]]:
        return [forget for forget, _, _ in self.seen]


def run(rum: um.RUM, problem: um.Problem = PROBLEM, *, seed: int = 0) -> nn.Module:
    return rum(problem, seed=seed)


def first_weight(model: nn.Module) -> float:
    return float(next(model.parameters()).detach().flatten()[0])


@pytest.mark.parametrize("order", ["low-to-high", "high-to-low"])
def test_thresholds_cut_the_parts_and_one_at_a_threshold_belongs_above_it(order: Order) -> None:
    log = Log()
    rum = um.RUM(SCORES, [log.step()] * 3, order=order, thresholds=[2, 6.5])
    expected = [with_scores(0, 1), with_scores(2, 3, 4, 5, 6), with_scores(7)]
    cut = SCORES.cut([2, 6.5], among=FORGET)
    assert [set(part) for part in cut] == [set(part) for part in expected]
    if order == "high-to-low":
        expected.reverse()
    assert [list(part) for part in rum.refine(PROBLEM)] == expected
    run(rum)
    assert log.forgotten == expected


@pytest.mark.parametrize("order", ["low-to-high", "high-to-low"])
def test_an_empty_part_is_passed_over_with_its_step_and_nothing_else_shifts(order: Order) -> None:
    log = Log()
    steps = [log.step(number) for number in (1.0, 10.0, 100.0, 1000.0)]
    rum = um.RUM(SCORES, steps, order=order, thresholds=[-5, 3, 50])
    made = run(rum)
    low, high = with_scores(0, 1, 2), with_scores(3, 4, 5, 6, 7)
    # Of four parts the lowest and the highest are empty: the second and the third step run.
    assert log.forgotten == ([low, high] if order == "low-to-high" else [high, low])
    assert first_weight(made) == pytest.approx(4 * first_weight(PROBLEM.model) + 2 * 10 + 100)
    prices = um.RUM(SCORES, [log.step(price=10.0**k) for k in range(4)], order=order, thresholds=[-5, 3, 50])
    assert prices.cost(PROBLEM) == 110


def test_if_all_but_one_part_are_empty_it_is_that_step_alone() -> None:
    steps = [um.FineTune(epochs=1), um.NegGradPlus(epochs=1), um.FineTune(epochs=2)]
    for k, thresholds in enumerate([[50, 60], [-2, 50], [-2, -1]]):
        made = run(um.RUM(SCORES, steps, thresholds=thresholds))
        # The seed of a step belongs to its place, so only the first has that of the run.
        if k == 0:
            assert same_state(state_of(made), state_of(steps[0](PROBLEM, seed=0)))
        changed = um.RUM(
            SCORES, [step if j == k else um.Nothing() for j, step in enumerate(steps)], thresholds=thresholds
        )
        assert same_state(state_of(made), state_of(run(changed)))


@pytest.mark.parametrize("thresholds", [[], [1], [1, 2, 3], [1, 2, 3, 4]])
def test_a_wrong_number_of_thresholds_is_refused(thresholds: list[float]) -> None:
    with pytest.raises(UserError, match="3 steps need 2 of them"):
        um.RUM(SCORES, [um.Nothing()] * 3, thresholds=thresholds)


@pytest.mark.parametrize("thresholds", [[3, 1], [1, 1]])
def test_thresholds_that_do_not_rise_are_refused(thresholds: list[float]) -> None:
    with pytest.raises(UserError, match="must rise"):
        run(um.RUM(SCORES, [um.Nothing()] * 3, thresholds=thresholds))


def test_more_parts_than_examples_are_refused() -> None:
    with pytest.raises(UserError, match="cannot cut 8 examples in 9 parts"):
        run(um.RUM.uniform(SCORES, um.Nothing(), parts=9))


@pytest.mark.parametrize("field_and_value", [("order", "sideways"), ("pending", "maybe")])
def test_choices_that_do_not_exist_are_refused(field_and_value: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=f"{field_and_value[0]} '{field_and_value[1]}'"):
        um.RUM(SCORES, [um.Nothing()], **dict([field_and_value]))  # pyright: ignore[reportArgumentType]


def test_parts_of_equal_size_lie_in_the_order_of_the_score() -> None:
    rum = um.RUM.uniform(SCORES, um.Nothing())
    expected = [with_scores(0, 1, 2), with_scores(3, 4, 5), with_scores(6, 7)]
    assert [list(part) for part in rum.refine(PROBLEM)] == expected
    ties = um.Scores("ties", TRAIN, np.zeros(len(TRAIN)))
    by_name = sorted(str(name) for name in FORGET)
    found = um.RUM.uniform(ties, um.Nothing(), parts=2).refine(PROBLEM)
    assert [sorted(part) for part in found] == [by_name[:4], by_name[4:]]


@pytest.mark.parametrize("middle", [None, 0.5])
def test_equal_parts_are_the_groups_that_a_forget_set_was_made_of(middle: float | None) -> None:
    """The papers' setting: S is n low, n medium and n high ones, and refinement gives back just these three."""
    scores = um.Scores("score", TRAIN, np.random.default_rng(3).random(len(TRAIN)))
    groups = scores.groups(4, middle=middle)
    mixed = np.random.default_rng(0).permutation(np.concatenate(list(groups.values())))
    problem = um.Problem(PROBLEM.model, PROBLEM.data, mixed, recipe=RECIPE)
    found = um.RUM.uniform(scores, um.Nothing()).refine(problem)
    assert [set(part) for part in found] == [set(groups[name]) for name in ("low", "medium", "high")]


@pytest.mark.parametrize("pending", ["retain", "exclude"])
def test_what_is_pending_is_retained_or_left_out(pending: str) -> None:
    log = Log()
    rum = um.RUM(SCORES, [log.step()] * 3, thresholds=[1.5, 4.5], pending=pending)  # pyright: ignore[reportArgumentType]
    run(rum)
    parts = [with_scores(0, 1), with_scores(2, 3, 4), with_scores(5, 6, 7)]
    for k, (forget, retain, _) in enumerate(log.seen):
        assert forget == parts[k]
        left = [name for part in parts[k + 1 :] for name in part] if pending == "retain" else []
        assert set(retain) == {str(name) for name in RETAIN} | set(left)


def test_the_shuffled_control_has_the_same_steps_on_random_parts_as_large() -> None:
    log = Log()
    scores = um.Scores("score", TRAIN, np.random.default_rng(3).random(len(TRAIN)))
    rum = um.RUM(scores, [log.step(k) for k in range(3)], order="high-to-low", pending="exclude")
    parts = [frozenset(part) for part in rum.refine(PROBLEM)]
    found: list[list[frozenset[str]]] = []
    for seed in range(6):
        control = rum.shuffled(seed=seed)
        assert (control.steps, control.order, control.pending) == (rum.steps, rum.order, rum.pending)
        found.append([frozenset(part) for part in control.refine(PROBLEM)])
        assert sorted(control.scores.values) == sorted(scores.values)
        assert [set(part) for part in rum.shuffled(seed=seed).refine(PROBLEM)] == found[-1]
    for others in found:
        assert [len(part) for part in others] == [len(part) for part in parts] == [2, 3, 3]
        assert frozenset().union(*others) == set(FORGET)
    assert parts not in found
    assert len({tuple(others) for others in found}) > 3
    assert [frozenset(part) for part in rum.shuffled().refine(PROBLEM)] == found[0]
    assert [frozenset(part) for part in rum.refine(PROBLEM)] == parts
    assert rum.shuffled().settings()["score"] == "shuffle"


def test_the_control_keeps_its_thresholds() -> None:
    rum = um.RUM(SCORES, [um.Nothing()] * 2, thresholds=[3])
    assert rum.shuffled(seed=1).thresholds == [3]


@pytest.mark.parametrize(("order", "number"), [("low-to-high", 3.0), ("high-to-low", 1.0)])
def test_the_control_without_refinement_is_the_step_for_the_most_memorized(order: Order, number: float) -> None:
    log = Log()
    rum = um.RUM(SCORES, [log.step(1.0), log.step(2.0), log.step(3.0)], order=order)
    vanilla = rum.vanilla()
    assert vanilla == log.step(number)
    vanilla(PROBLEM, seed=0)
    assert log.forgotten == [[str(name) for name in FORGET]]


def test_a_rum_may_be_a_step_and_refines_the_part_that_it_is_given() -> None:
    log = Log()
    inner = um.RUM(SCORES, [log.step(), log.step()], order="high-to-low")
    run(um.RUM(SCORES, [log.step(), inner], thresholds=[2]), seed=4)
    parts = [with_scores(0, 1), with_scores(5, 6, 7), with_scores(2, 3, 4)]
    assert log.forgotten == parts
    everything = {str(name) for name in TRAIN}
    for k, (_, retain, _) in enumerate(log.seen):
        assert set(retain) == everything - {name for part in parts[: k + 1] for name in part}
    assert len({seed for _, _, seed in log.seen}) == 3


def test_a_rum_in_a_rum_is_the_steps_one_after_another() -> None:
    """Steps that depend on no seed: the whole forget set is one batch, whatever the order."""
    steps: list[Unlearner] = [NegGrad(epochs=1), NegGrad(epochs=2), NegGrad(epochs=3)]
    nested = um.RUM(SCORES, [steps[0], um.RUM(SCORES, steps[1:], thresholds=[5])], thresholds=[2])
    flat = um.RUM(SCORES, steps, thresholds=[2, 5])
    for one, other in zip(run(nested).parameters(), run(flat).parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert nested.cost(PROBLEM) == pytest.approx(flat.cost(PROBLEM))


def test_steps_and_their_seeds_by_hand() -> None:
    steps = [um.FineTune(epochs=1), um.NegGradPlus(epochs=1)]
    log = Log()
    run(um.RUM(SCORES, [log.step(), log.step()]), seed=11)
    (first, _, seed), (second, _, other) = log.seen
    assert seed == 11
    model = steps[0](PROBLEM.part(np.array(first), without=np.array(["x"])[:0]), seed=seed)
    rest = PROBLEM.part(np.array(second), without=np.array(first))
    model = steps[1](rest, seed=other, start=model)
    assert same_state(state_of(run(um.RUM(SCORES, steps), seed=11)), state_of(model))


def test_tuning_reaches_every_step_and_leaves_the_refinement() -> None:
    log = Log()
    rum = um.RUM(SCORES, [log.step(1.0), um.RUM(SCORES, [log.step(2.0)])], thresholds=[2], order="high-to-low")
    tuned = rum.tuned(PROBLEM, Setting(strength=5.0))
    first, inner = tuned.steps
    assert isinstance(first, Recording)
    assert isinstance(inner, um.RUM)
    assert isinstance(inner.steps[0], Recording)
    assert (first.strength, inner.steps[0].strength) == (5.0, 5.0)
    assert (tuned.scores, tuned.thresholds, tuned.order, tuned.pending) == (SCORES, [2], "high-to-low", "retain")


def test_settings_say_all_that_determines_it() -> None:
    rum = um.RUM(SCORES, [um.FineTune(epochs=1), um.Nothing()], thresholds=(2,), order="high-to-low", pending="exclude")
    found = rum.settings()
    assert found["thresholds"] == [2]
    assert (found["score"], found["order"], found["pending"]) == ("made-up", "high-to-low", "exclude")
    assert [step["name"] for step in found["steps"]] == ["fine-tune", "nothing"]


def test_only_the_forget_set_needs_a_score() -> None:
    values = np.where(np.isin(SCORES.ids, FORGET), SCORES.values, np.nan)
    partial = um.Scores("partial", SCORES.ids, values)
    for thresholds in (None, [2, 5]):
        found, expected = (
            um.RUM(scores, [um.Nothing()] * 3, thresholds=thresholds).refine(PROBLEM) for scores in (partial, SCORES)
        )
        assert [list(part) for part in found] == [list(part) for part in expected]
