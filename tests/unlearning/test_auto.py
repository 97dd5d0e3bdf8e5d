"""Auto: the rules by a table, real sources, and a run that is the one that was chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import unmem as um
from tests.helpers import point_splits, same_state, state_of
from tests.unlearning.tiny import tiny_model
from unmem.ensembles import leave_out_masks, train_members
from unmem.memorization import crossfit
from unmem.targets import FromCrossFit, FromMembers, ShortTeacher, TraceRecorder
from unmem.unlearning import Auto, Matching, Retrain, best_source, choose
from unmem.unlearning.auto import RETRAIN, SOURCES, Situation, concentrated, with_steps

DATA = point_splits(60)
RECIPE = um.Recipe(model="mlp", epochs=20, lr=0.1, batch_size=8)
RECORDER = TraceRecorder(DATA.holdout)
MODEL = um.fit(tiny_model(), DATA.train, RECIPE, seed=0, observers=[RECORDER])
TRACE = RECORDER.trace
CROSSFIT = FromCrossFit(crossfit(replace(RECIPE, epochs=2), DATA.train, folds=3))


def members(count: int) -> FromMembers:
    kept = leave_out_masks(len(DATA.train), count, keep=0.5, seed=0)
    return FromMembers(train_members(replace(RECIPE, epochs=1), DATA.train, kept, seed=0))


def problem(n: int = 6, *, holdout: int | None = None) -> um.Problem:
    """Forgets n examples, the classes in turn."""
    data = DATA if holdout is None else replace(DATA, holdout=DATA.holdout.at(np.arange(holdout)))
    rank = np.argsort(np.argsort(DATA.train.labels.numpy(), kind="stable") % 20, kind="stable")
    return um.Problem(MODEL, data, DATA.train.ids[rank[:n]], recipe=RECIPE)


ENOUGH = Situation(left_out=4, crossfit=True, trace=True, holdout=50)


@pytest.mark.parametrize(
    ("situation", "takes", "reason"),
    [
        (Situation(), "teacher", "nothing prepared"),
        (Situation(holdout=0), "teacher", "nothing prepared"),
        (Situation(trace=True, holdout=50), "trace", "recorded a trace"),
        (Situation(trace=True, holdout=49), "teacher", "49 examples, too few to calibrate the trace"),
        (Situation(trace=True, early=20), "trace", "recorded a trace"),
        (Situation(trace=True, early=19), "teacher", "the trace is of 19 steps"),
        (Situation(trace=True, ahead=0.05), "trace", "recorded a trace"),
        (Situation(trace=True, ahead=0.13), "teacher", "its trace is at least 13% better on the training set"),
        (Situation(crossfit=True, holdout=0), "crossfit", "there is a cross-fit"),
        (Situation(crossfit=True, trace=True), "crossfit", "there is a cross-fit"),
        (ENOUGH, "ensemble", "at least 4 of the members"),
        (replace(ENOUGH, left_out=3), "crossfit", "there is a cross-fit"),
        (Situation(left_out=3), "teacher", "only 3 of the members"),
        (replace(ENOUGH, concentrated=True), "teacher", "has one label"),
        (Situation(trace=True, concentrated=True), "teacher", "has one label"),
    ],
)
def test_the_source_of_targets_follows_the_table(situation: Situation, takes: str, reason: str) -> None:
    rule = next(rule for rule in SOURCES if rule.holds(situation))
    assert rule.takes == takes
    assert reason in rule.because(situation)


@pytest.mark.parametrize(
    ("unlearning", "retraining", "retrains"),
    [(0.3, 0.97, False), (0.3, 0.61, False), (0.3, 0.6, True), (0.15, 0.31, False), (0.5, 0.9, True)],
)
def test_it_retrains_where_unlearning_costs_half_of_that_or_more(
    unlearning: float, retraining: float, retrains: bool
) -> None:
    at = Situation(unlearning=unlearning, retraining=retraining)
    assert RETRAIN.holds(at) == retrains
    assert f"{retraining:.2f} trainings" in RETRAIN.because(at)


def test_costs_are_counted_from_examples_and_made_before_counts_all_told() -> None:
    asked = problem(12)
    choice = choose(asked, [TRACE, CROSSFIT])
    by_name = {option.source or option.method: option for option in choice.options}
    # 2 epochs of 20 over 48 of 60 examples; of each batch of 8, 3 are forgotten ones.
    matching = 2 / 20 * 8 / 5 * 48 / 60
    assert by_name["trace"].cost == by_name["trace"].cost_all_told == pytest.approx(matching)
    assert by_name["crossfit"].cost == pytest.approx(matching)
    assert by_name["crossfit"].cost_all_told == pytest.approx(matching + 2)  # three folds of two thirds
    assert by_name["teacher"].cost == pytest.approx(matching + ShortTeacher().cost(asked))
    assert by_name["retrain"].cost == pytest.approx(48 / 60)
    assert choice.taken == by_name["crossfit"]


def test_members_count_if_enough_of_them_left_each_example_out() -> None:
    asked = problem()
    few, many = members(4), members(16)
    assert few.left_out(asked) == 2
    assert many.left_out(asked) == 8
    assert best_source(asked, [few, TRACE])[0] is TRACE
    assert best_source(asked, [TRACE, many])[0] is many


def test_a_trace_of_a_model_that_had_memorized_is_not_taken() -> None:
    """All of the training set is right in the window."""
    asked = problem()
    assert best_source(asked, [TRACE])[0] is TRACE
    known = np.full(TRACE.log_probs.shape, -3.0, np.float16)
    labels = DATA.train.labels.numpy()[DATA.train.positions(TRACE.ids)]
    known[np.arange(len(labels)), labels] = -0.1
    right = TRACE.unseen.argmax(1) == DATA.holdout.take(TRACE.unseen_ids).labels.numpy()
    memorized = replace(TRACE, log_probs=known)
    error = np.sqrt(right.var() / len(right))  # all of the training set is right: it has no error
    assert memorized.ahead(DATA.train, DATA.holdout) == pytest.approx(1 - right.mean() - 2 * error)
    # Six unseen examples say little, unless all of them are wrong.
    assert best_source(asked, [memorized])[0] is memorized
    labels = DATA.holdout.take(TRACE.unseen_ids).labels.numpy()
    lost = np.full(TRACE.unseen.shape, -0.1, np.float16)
    lost[np.arange(len(labels)), labels] = -3.0
    source, reason = best_source(asked, [replace(memorized, unseen=lost)])
    assert isinstance(source, ShortTeacher)
    assert "had memorized" in reason
    none = replace(TRACE, unseen_ids=TRACE.unseen_ids[:0], unseen=TRACE.unseen[:0])
    assert none.ahead(DATA.train, DATA.holdout) == 0.0


def test_a_large_request_is_retrained_and_a_small_one_is_not() -> None:
    assert choose(problem(6)).taken.method == "matching"
    large = choose(problem(55))
    assert large.taken.method == "retrain"
    assert isinstance(large.unlearner, Retrain)
    assert "is exact" in large.reason


def test_a_matching_of_few_steps_gets_more_epochs_unless_they_are_given() -> None:
    asked = problem(12)
    asked.recipe = replace(RECIPE, batch_size=32)  # 22 retained in each batch: 3 steps an epoch
    assert choose(asked).matching.epochs_for(asked) == 7
    assert choose(asked, matching=Matching(epochs=1)).matching.epochs_for(asked) == 1


def test_a_training_of_few_epochs_is_repeated() -> None:
    asked = problem(6)
    asked.recipe = replace(RECIPE, epochs=2)
    assert choose(asked).taken.method == "retrain"


def test_what_shares_one_label_is_left_to_a_teacher() -> None:
    labels = DATA.train.labels.numpy()
    ids = DATA.train.ids[labels == 0]
    assert len(ids) == 25
    asked = um.Problem(MODEL, DATA, ids[:12], recipe=RECIPE)
    assert concentrated(asked)
    assert best_source(asked, [TRACE, CROSSFIT])[0].name == "teacher"
    # A handful, and a set that has the classes in their proportions, are no reason to distrust what was made before.
    assert not concentrated(um.Problem(MODEL, DATA, ids[:9], recipe=RECIPE))
    assert not concentrated(problem(30))


@pytest.mark.parametrize("holdout", [1, 20])
def test_a_holdout_too_small_to_calibrate_gives_a_teacher_and_a_finite_model(holdout: int) -> None:
    asked = problem(6, holdout=holdout)
    assert choose(asked, [TRACE]).taken.source == "teacher"
    made = Auto(sources=[TRACE])(asked, seed=0)
    assert all(bool(value.isfinite().all()) for value in made.state_dict().values() if value.is_floating_point())


def test_it_runs_what_it_chose_and_leaves_the_original_as_it_was() -> None:
    asked, before = problem(), state_of(MODEL)
    made = Auto(sources=[CROSSFIT])(asked, seed=3)
    same = with_steps(Matching(targets=CROSSFIT), asked)(asked, seed=3)
    assert same_state(state_of(made), state_of(same))
    assert same_state(state_of(MODEL), before)
    assert Auto(sources=[CROSSFIT]).cost(asked) == choose(asked, [CROSSFIT]).taken.cost


def test_one_example_is_a_request() -> None:
    asked = problem(1)
    choice = choose(asked)
    assert (choice.taken.method, choice.taken.source) == ("matching", "teacher")
    phi = {True: [], False: []}
    made = Auto()(asked, seed=0)
    for unlearned, model in ((True, made), (False, MODEL)):
        logits = um.predict(model, asked.forget).double().log_softmax(1)
        phi[unlearned] = logits[0, asked.forget.labels[0]].item()
    target = ShortTeacher()(asked, seed=0).phi[0]
    own = -np.log1p(np.exp(-float(target)))
    assert abs(phi[True] - own) < abs(phi[False] - own)


def test_a_source_that_no_rule_knows_is_refused() -> None:
    class Own(ShortTeacher):
        name = "own"

    with pytest.raises(um.UserError, match="no rule knows such a source"):
        choose(problem(), [Own()])


def test_the_choice_reads_as_a_sentence_and_as_plain_values() -> None:
    choice = choose(problem(), [TRACE])
    assert choice.words == "matching, targets by the trace: the training of the original recorded a trace"
    plain = choice.to_dict()
    assert (plain["method"], plain["targets"]) == ("matching", "trace")
    assert [option["targets"] or option["method"] for option in plain["options"]] == ["trace", "teacher", "retrain"]
