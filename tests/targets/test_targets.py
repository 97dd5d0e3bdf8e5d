"""Targets: what a model that was not trained on an example predicts for it, against exact answers."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import unmem as um
from tests.helpers import point_splits, points, same_state, state_of
from unmem.ensembles import Ensemble, Outputs
from unmem.errors import UserError
from unmem.memorization import CrossFit
from unmem.targets import FromCrossFit, FromMembers, ShortTeacher, Source, Targets, Trace, TraceRecorder, window

DATA = replace(point_splits(90), holdout=points(80, seed=1, prefix="h"))
RECIPE = um.Recipe(model="mlp", epochs=20, lr=0.1, batch_size=16)
RECORDER = TraceRecorder(DATA.holdout)
MODEL = um.train(RECIPE, DATA.train, observers=[RECORDER])
TRACE = RECORDER.trace


def problem(n: int = 9, *, first: int = 0, holdout: int | None = None, recipe: um.Recipe = RECIPE) -> um.Problem:
    data = DATA if holdout is None else replace(DATA, holdout=DATA.holdout.at(np.arange(holdout)))
    return um.Problem(MODEL, data, DATA.train.ids[first : first + n], recipe=recipe)


class Fits(um.Observer):
    """The ids that a training is given."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def on_start(self, examples: um.Examples, recipe: um.Recipe) -> None:
        self.ids = list(examples.ids)
        self.fingerprint = examples.fingerprint


# --- a model whose leave-one-out predictions have a closed form -------------------------------------------------------


def ridge(x: NDArray[np.float64], y: NDArray[np.float64], penalty: float = 0.5) -> NDArray[np.float64]:
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)


def leave_one_out(x: NDArray[np.float64], y: NDArray[np.float64], penalty: float = 0.5) -> NDArray[np.float64]:
    """Predictions without each example by the closed form y − e / (1 − h), without fitting anything again."""
    hat = x @ np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T)
    return y - (y - hat @ y) / (1 - np.diag(hat))


def fitted(kept: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """x, y = ±1, and what the ridge model of each row of `kept` says of each example: log-odds of its label."""
    x = DATA.train.inputs.numpy().astype(np.float64)
    y = np.where(DATA.train.labels.numpy() == 0, 1.0, -1.0)
    return x, y, np.stack([y * (x @ ridge(x[rows], y[rows])) for rows in kept])


def ensemble(kept: NDArray[np.bool_]) -> Ensemble:
    phi = fitted(kept)[2].astype(np.float32)
    n = len(kept)
    outputs = Outputs(DATA.train.ids, DATA.train.labels.numpy(), phi, phi, phi > 0)
    return Ensemble(kept, outputs, None, tuple(range(n)), (0.5,) * n, {"share": 0.9})


def test_members_that_leave_out_one_example_each_give_its_exact_leave_one_out_prediction() -> None:
    kept = ~np.eye(len(DATA.train), dtype=bool)
    x, y, _ = fitted(kept[:1])
    expected = y * leave_one_out(x, y)
    found = FromMembers(ensemble(kept))(problem(30, first=20))
    np.testing.assert_allclose(found.phi, expected[20:50], rtol=1e-4, atol=1e-5)
    assert not np.allclose(found.phi, (y * (x @ ridge(x, y)))[20:50], rtol=1e-3)  # those of the original differ


def test_targets_of_members_are_the_mean_over_those_that_left_the_example_out() -> None:
    kept = np.random.default_rng(0).random((12, len(DATA.train))) < 0.6
    kept[:2] = False
    said = fitted(kept)[2]
    found = FromMembers(ensemble(kept))(problem(9, first=5))
    for k in range(9):
        ours = said[~kept[:, 5 + k], 5 + k]
        assert found.phi[k] == pytest.approx(ours.mean(), abs=1e-5)
        assert found.error is not None
        assert found.error[k] == pytest.approx(ours.std(ddof=1) / np.sqrt(len(ours)), abs=1e-5)
    assert found.cost == pytest.approx(kept.mean() * 12)


def test_members_that_were_all_trained_on_an_example_have_no_target_for_it() -> None:
    kept = np.random.default_rng(0).random((4, len(DATA.train))) < 0.5
    kept[:, 3] = True
    with pytest.raises(UserError, match="all of them were trained on"):
        FromMembers(ensemble(kept))(problem(9))


def test_a_cross_fit_gives_the_prediction_of_the_fold_that_left_the_example_out() -> None:
    fold = np.arange(len(DATA.train)) % 3
    said = fitted(np.stack([fold != k for k in range(3)]))[2]
    phi = said[fold, np.arange(len(fold))].astype(np.float32)
    probs = np.log(np.full((len(phi), 3), 1 / 3, dtype=np.float32))
    order = np.random.default_rng(0).permutation(len(phi))
    made = CrossFit(DATA.train.ids[order], probs, phi[order], phi[order], 1.0, {"folds": 3})
    found = FromCrossFit(made)(problem(9, first=11))
    np.testing.assert_array_equal(found.phi, phi[11:20])
    assert (found.cost, FromCrossFit(made).spent) == (2.0, 2.0)


# --- the short teacher ------------------------------------------------------------------------------------------------


def test_the_teacher_sees_no_forget_example() -> None:
    asked, seen = problem(), Fits()
    ShortTeacher()(asked, seed=0, observers=[seen])
    assert set(seen.ids) == set(DATA.train.ids) - set(asked.forget.ids)
    assert seen.fingerprint == asked.retain.fingerprint


def test_targets_of_the_teacher_do_not_depend_on_the_labels_and_inputs_that_it_must_not_see() -> None:
    asked = problem()
    other = replace(asked.forget, inputs=asked.forget.inputs + 5.0)
    first = ShortTeacher().trained(asked, seed=0)
    changed = problem()
    changed.__dict__["forget"] = other  # were it to look, its weights would differ
    assert same_state(state_of(first), state_of(ShortTeacher().trained(changed, seed=0)))


def test_the_teacher_starts_from_the_base_of_the_recipe(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(state_of(MODEL), tmp_path / "base.safetensors")
    still = replace(RECIPE, base=str(tmp_path / "base.safetensors"), lr=1e-9, weight_decay=0.0)
    teacher = ShortTeacher().trained(problem(recipe=still), seed=0)
    for ours, base in zip(teacher.parameters(), MODEL.parameters(), strict=True):
        torch.testing.assert_close(ours, base, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("source", [ShortTeacher(), TRACE], ids=["teacher", "trace"])
def test_the_same_seed_gives_the_same_targets(source: Source) -> None:
    first, second = (source(problem(), seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.phi, second.phi)
    assert first.settings["data"] == problem().retain.fingerprint


def test_another_seed_gives_another_teacher() -> None:
    first, second = (ShortTeacher()(problem(), seed=seed).phi for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_one_teacher_serves_every_request_of_a_batch() -> None:
    made = ShortTeacher()(problem(12), seed=0)
    for first in (0, 4, 8):
        ids = DATA.train.ids[first : first + 4]
        np.testing.assert_array_equal(made.take(ids[::-1]).phi, made.phi[first : first + 4][::-1])
    with pytest.raises(UserError, match="no target for 1 of the ids"):
        made.take([DATA.train.ids[20]])


@pytest.mark.parametrize(("length", "epochs", "examples"), [(0.2, 4, 81), (0.5, 10, 81), (0.01, 1, 16), (1.0, 20, 81)])
def test_the_length_of_the_teacher(length: float, epochs: int, examples: int) -> None:
    teacher = ShortTeacher(length=length)
    assert (teacher.epochs(problem()), len(teacher.examples(problem()))) == (epochs, examples)
    assert teacher.cost(problem()) == pytest.approx(epochs * examples / (20 * 90), abs=0.02)


@pytest.mark.parametrize("source", [ShortTeacher(), TRACE], ids=["teacher", "trace"])
@pytest.mark.parametrize(("holdout", "calibrated"), [(80, True), (50, True), (49, False), (1, False), (0, False)])
def test_a_holdout_too_small_to_calibrate_is_said_in_words(source: Source, holdout: int, calibrated: bool) -> None:
    asked = problem(holdout=holdout)
    if isinstance(source, Trace):
        keep = source.unseen_ids[np.isin(source.unseen_ids, DATA.holdout.ids[:holdout])]
        source = replace(source, unseen_ids=keep, unseen=source.unseen[np.isin(source.unseen_ids, keep)])
        calibrated = len(keep) >= 50
    made = source(asked, seed=0)
    assert np.isfinite(made.phi).all()
    assert (made.error is not None) == calibrated
    assert any("too few to calibrate" in note for note in made.notes) == (not calibrated)


# --- the trace --------------------------------------------------------------------------------------------------------


def test_recording_leaves_the_trained_model_as_it_is() -> None:
    plain = um.train(RECIPE, DATA.train)
    assert same_state(state_of(plain), state_of(MODEL))


def test_a_trace_is_one_row_of_float16_for_each_example() -> None:
    assert TRACE.log_probs.dtype == np.float16
    assert TRACE.log_probs.shape == (90, 3)
    assert list(TRACE.ids) == list(DATA.train.ids)
    assert not set(TRACE.unseen_ids) & set(DATA.train.ids)


def test_a_trace_is_the_mean_over_the_window_of_what_the_model_said_in_training() -> None:
    class Watch(um.Observer):
        rows = torch.zeros(90, 3)

        def on_step(self, step: um.training.Step) -> None:
            if step.epoch + 1 in window(RECIPE.epochs):
                self.rows[step.batch.index] += step.logits.log_softmax(1) / len(window(RECIPE.epochs))

    watch = Watch()
    um.train(RECIPE, DATA.train, observers=[watch])
    expected = watch.rows.log_softmax(1).numpy()
    np.testing.assert_allclose(TRACE.log_probs.astype(np.float32), expected, atol=5e-3)


def test_a_trace_loses_what_is_forgotten(tmp_path: Path) -> None:
    gone = problem().forget.ids
    TRACE.without(gone).save(tmp_path / "trace.npz")
    found = Trace.load(tmp_path / "trace.npz")
    assert list(found.ids) == [one for one in DATA.train.ids if one not in set(gone)]
    kept = ~np.isin(TRACE.ids, gone)
    np.testing.assert_array_equal(found.log_probs, TRACE.log_probs[kept])
    with pytest.raises(UserError, match="no row for 9 of the ids"):
        found(problem())


def test_a_trace_of_checkpoints_is_the_mean_of_what_they_say() -> None:
    other = um.train(replace(RECIPE, epochs=2), DATA.train)
    found = Trace.from_checkpoints([MODEL, other], DATA.train, DATA.holdout)
    said = torch.stack([um.predict(one, DATA.train).log_softmax(1) for one in (MODEL, other)]).mean(0)
    np.testing.assert_allclose(found.log_probs.astype(np.float32), said.log_softmax(1).numpy(), atol=2e-2, rtol=2e-3)


# --- files ------------------------------------------------------------------------------------------------------------

MADE = ShortTeacher()(problem(), seed=0)


def test_targets_come_back_from_their_file(tmp_path: Path) -> None:
    MADE.save(tmp_path / "targets.npz")
    found = Targets.load(tmp_path / "targets.npz")
    for field in dataclasses.fields(Targets):
        ours, theirs = getattr(found, field.name), getattr(MADE, field.name)
        same = np.array_equal(ours, theirs) if isinstance(theirs, np.ndarray) else ours == theirs
        assert same, field.name


@pytest.mark.parametrize("kind", [Targets, Trace], ids=["targets", "trace"])
@pytest.mark.parametrize("fault", ["missing", "empty", "text", "cut", "foreign"])
def test_a_file_that_is_none_is_refused(kind: type[Targets | Trace], fault: str, tmp_path: Path) -> None:
    path = tmp_path / "made.npz"
    {Targets: MADE, Trace: TRACE}[kind].save(path)
    whole = path.read_bytes()
    if fault == "foreign":
        np.savez(path, x=np.zeros(3))
    else:
        path.write_bytes({"missing": b"", "empty": b"", "text": b"ids\n1\n", "cut": whole[: len(whole) // 2]}[fault])
    if fault == "missing":
        path.unlink()
    with pytest.raises(UserError):
        kind.load(path)


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(20, range(1, 4)), (30, range(2, 6)), (3, range(1, 2)), (1, range(1, 2)), (200, range(10, 31))],
)
def test_the_window_by_table(epochs: int, expected: range) -> None:
    assert window(epochs) == expected
