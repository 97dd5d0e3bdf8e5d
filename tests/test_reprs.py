"""What `print` shows of an object: a line or a few, no ids, no values of single examples."""

from __future__ import annotations

import numpy as np
import pytest

import unmem as um
from unmem.ensembles import fold_masks, train_members
from unmem.scenarios import privacy

SECRET = "person-"


def named(data: um.Splits) -> um.Splits:
    """The same data, each id with a word that must never be printed."""

    def one(part: um.Examples) -> um.Examples:
        ids = [f"{SECRET}{name}" for name in part.ids]
        return um.Examples.of(part.inputs, part.labels, ids=ids, n_classes=part.n_classes, scaling=part.scaling)

    return um.Splits("digits", *(one(part) for part in (data.train, data.holdout, data.test)))


@pytest.fixture(scope="module")
def objects() -> dict[str, object]:
    data = named(um.load("digits", limit=120))
    recipe, events = um.Recipe(model="mlp", epochs=8, batch_size=32), um.LearningEvents()
    trace = um.TraceRecorder(data.holdout)
    model = um.train(recipe, data.train, observers=[events, trace])
    problem = um.Problem(model, data, data.train.ids[:30], recipe=recipe)
    scores, folds = events.scores("confidence"), um.crossfit(recipe, data.train)
    members = train_members(recipe, data.train, fold_masks(data.train.labels, 2, seed=0), unseen=data.holdout)
    retrained = [um.Retrain()(problem, seed=seed) for seed in (1, 2)]
    audit = um.audit({"kept": model}, problem, reference=retrained, relearning=False)
    targets = um.FromCrossFit(folds)(problem)
    return {
        "splits": data,
        "examples": data.train,
        "problem": problem,
        "scores": scores,
        "gap": um.Scores("gap", scores.ids, np.where(np.arange(120) < 3, np.nan, 0.5)),
        "crossfit": folds,
        "source": um.FromCrossFit(folds),
        "trace": trace.trace,
        "targets": targets,
        "members": members,
        "outputs": members.train,
        "rum": um.RUM(scores, [um.Nothing(), um.FineTune()]),
        "matching": um.Matching(targets=targets),
        "auto": um.Auto(sources=[trace.trace, um.FromMembers(members)]),
        "copies": um.find_copies(problem.forget, problem.forget, unseen=data.holdout),
        "audit": audit,
        "evidence": audit.evidence["kept"],
        "evaluation": audit.evaluation,
        "outcome": audit.evaluation.methods["kept"],
        "sequence": next(
            iter(um.unlearn_sequence([data.train.ids[:5]], model, data, um.Nothing(), recipe=recipe, seed=0))
        ),
        "scenario": privacy(data, 5, seed=0),
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("splits", ["digits", "120 training", "10 classes"]),
        ("examples", ["120 of"]),
        ("problem", ["forget 30 of 120"]),
        ("scores", ["'confidence', 120 examples"]),
        ("gap", ["3 without a value"]),
        ("crossfit", ["120 examples, 10 classes"]),
        ("source", ["120 examples"]),
        ("trace", ["120 training examples"]),
        ("targets", ["'crossfit', 30 examples"]),
        ("members", ["2 members, 120 examples"]),
        ("outputs", ["2 models, 120 examples"]),
        ("rum", ["Scores('confidence'"]),
        ("matching", ["Targets('crossfit'"]),
        ("auto", ["Trace(", "Ensemble("]),
        ("copies", ["30 exact pairs"]),
        ("audit", ["inconclusive", "do nothing: Outcome(", "2 retrained"]),
        ("evidence", ["AUC 0."]),
        ("evaluation", ["against 2 retrained", "kept: Outcome(", "one retrain vs another: Outcome("]),
        ("outcome", ["forget ", "%", "ToW 0."]),
        ("sequence", ["forget 5 of 120"]),
        ("scenario", ["forget 5 examples"]),
    ],
)
def test_it_is_short_and_names_nobody(name: str, said: list[str], objects: dict[str, object]) -> None:
    shown = repr(objects[name])
    assert all(text in shown for text in said), shown
    assert SECRET not in shown
    assert len(shown) < 1_500
    assert max(map(len, shown.splitlines())) < 500, shown


def test_a_number_in_the_line_of_an_outcome_is_the_number(objects: dict[str, object]) -> None:
    outcome = objects["outcome"]
    assert isinstance(outcome, um.Outcome)
    assert f"forget {outcome.accuracy['forget']:.1%}, retain {outcome.accuracy['retain']:.1%}" in repr(outcome)
    assert f"ToW {outcome.tow:.3f}" in repr(outcome)
