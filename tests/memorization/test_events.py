from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import unmem as um
from unmem.memorization import EVENTS, LearningEvents
from unmem.training import Step, predict


class ById(um.Observer):
    """Every visit under the id of its example, in whichever pass it comes."""

    def __init__(self) -> None:
        self.visits: dict[str, list[tuple[np.ndarray, int]]] = {}

    def on_pass(self, examples: um.Examples) -> None:
        self.ids = examples.ids

    def on_step(self, step: Step) -> None:
        batch = step.batch
        for i, z, y in zip(batch.index, step.logits.double().numpy(), batch.labels, strict=True):
            self.visits.setdefault(str(self.ids[int(i)]), []).append((z, int(y)))


class Log(um.Observer):
    def __init__(self) -> None:
        self.visits: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []

    def on_step(self, step: Step) -> None:
        batch = step.batch
        self.visits.append((step.epoch, batch.index.numpy(), step.logits.double().numpy(), batch.labels.numpy()))


def slow(log: Log, n: int) -> dict[str, np.ndarray]:
    """Every event by a loop over examples and epochs, from the definitions."""
    history: dict[int, list[tuple[np.ndarray, int]]] = {i: [] for i in range(n)}
    for _, index, logits, labels in log.visits:
        for i, z, y in zip(index, logits, labels, strict=True):
            history[int(i)].append((z, int(y)))
    return slow_from(history)


def slow_from(history: dict[int, list[tuple[np.ndarray, int]]]) -> dict[str, np.ndarray]:
    n = len(history)
    found: dict[str, np.ndarray] = {name: np.zeros(n) for name in EVENTS}
    for i, visits in history.items():
        right = []
        for z, y in visits:
            p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
            onehot = np.eye(len(z))[y]
            right.append(z.argmax() == y)
            for name, value in {
                "confidence": 1 - p[y],
                "max-confidence": 1 - p.max(),
                "entropy": -(p * np.log(p)).sum(),
                "accuracy": float(z.argmax() != y),
                "el2n": np.linalg.norm(p - onehot),
                "aum": -(z[y] - np.delete(z, y).max()),
                "loss": -np.log(p[y]),
            }.items():
                found[name][i] += value / len(visits)
        lost = sum(bool(before and not now) for before, now in pairwise(right))
        found["forgetting"][i] = lost if any(right) else len(visits)
        found["late-gain"][i] = p[y] - (1 - found["confidence"][i])
        found["late-fit"][i] = p[y] * found["confidence"][i]
    return found


def test_events_are_those_of_a_loop_over_examples(digits: um.Splits) -> None:
    log, events = Log(), LearningEvents()
    um.train(um.Recipe(model="mlp", epochs=6, batch_size=32), digits.train, observers=[log, events])
    expected = slow(log, len(digits.train))
    assert expected["forgetting"].max() > 0
    for name in EVENTS:
        scores = events.scores(name)
        np.testing.assert_allclose(scores.values, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
        assert np.array_equal(scores.ids, digits.train.ids)


def test_waiting_visits_do_not_change_the_events(digits: um.Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = um.Recipe(model="mlp", epochs=3, batch_size=32)
    late, soon = LearningEvents(), LearningEvents()
    um.train(recipe, digits.train, observers=[late])
    monkeypatch.setattr("unmem.memorization.events._FLUSH", 1)
    um.train(recipe, digits.train, observers=[soon])
    for name in EVENTS:
        np.testing.assert_allclose(late.scores(name).values, soon.scores(name).values, rtol=1e-5, atol=1e-6)


def test_watching_does_not_change_the_training(digits: um.Splits, recipe: um.Recipe, model: nn.Module) -> None:
    plain = um.train(recipe, digits.train).state_dict()
    assert all(torch.equal(plain[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", EVENTS)
def test_planted_wrong_labels_score_higher(
    watched: tuple[nn.Module, LearningEvents], digits: um.Splits, name: str
) -> None:
    least = {"forgetting": 0.6, "late-gain": 0.85, "max-confidence": 0.7, "entropy": 0.7}.get(name, 0.9)
    assert watched[1].scores(name).auroc(digits.flipped) > least


def test_a_second_run_starts_from_nothing(digits: um.Splits) -> None:
    recipe, events = um.Recipe(model="mlp", epochs=2), LearningEvents()
    um.train(recipe, digits.train, observers=[events])
    first = events.scores("loss").values
    um.train(recipe, digits.train, observers=[events])
    assert np.array_equal(events.scores("loss").values, first)


@pytest.mark.parametrize(
    "unlearner",
    [um.SCRUB(epochs=3), um.SCRUB(epochs=4, max_epochs=2), um.Matching(targets=um.ShortTeacher()), um.NegGradPlus()],
    ids=["scrub", "scrub-2-of-4", "matching", "neggrad+"],
)
def test_each_example_counts_in_the_passes_that_visit_it(problem: um.Problem, unlearner: um.Unlearner) -> None:
    """SCRUB passes over two sets of examples in an epoch, matching over fewer examples in its last one."""
    log, events = ById(), LearningEvents()
    # The teacher is a training of its own, and starts the record anew.
    if isinstance(unlearner, um.Matching):
        unlearner = um.Matching(targets=um.ShortTeacher()(problem, seed=0))
    unlearner(problem, seed=0, observers=[log, events])
    ids = list(log.visits)
    expected = slow_from({i: log.visits[name] for i, name in enumerate(ids)})
    assert set(ids) == set(map(str, events.scores("loss").ids))
    if isinstance(unlearner, um.SCRUB):
        assert set(ids) == set(map(str, problem.data.train.ids))
    for name in EVENTS:
        # el2n of a model that is sure is the root of a difference of float32 numbers.
        np.testing.assert_allclose(events.scores(name).of(ids), expected[name], rtol=1e-3, atol=5e-4, err_msg=name)


def test_a_trace_of_a_run_with_several_passes_is_refused(problem: um.Problem) -> None:
    with pytest.raises(um.UserError, match="other examples from pass to pass"):
        um.SCRUB()(problem, seed=0, observers=[um.TraceRecorder(problem.holdout)])


def test_events_after_the_fact_come_from_checkpoints(digits: um.Splits) -> None:
    checkpoints = [um.train(um.Recipe(model="mlp", epochs=k), digits.train) for k in (1, 2, 3)]
    events = LearningEvents.from_checkpoints(checkpoints, digits.train)
    labels = digits.train.labels[:, None]
    p = [predict(one, digits.train).softmax(1).gather(1, labels)[:, 0] for one in checkpoints]
    np.testing.assert_allclose(events.scores("confidence").values, 1 - torch.stack(p).mean(0).numpy(), atol=1e-6)
    assert events.scores("confidence").settings["pass"] == "checkpoints"


def test_events_that_saw_nothing_say_so() -> None:
    with pytest.raises(um.UserError, match="no epoch was watched"):
        LearningEvents().scores("loss")
    with pytest.raises(um.UserError, match="did you mean 'confidence'"):
        LearningEvents().scores("confidense")
