"""What is held of many examples or many classes: numbers for each example, never the logits of all of them at once."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unmem as um
from tests.helpers import point_splits, points
from unmem import training
from unmem.data import as_ids, csvfiles, layout
from unmem.ensembles import train_members
from unmem.ensembles.masks import fold_masks
from unmem.errors import UserError
from unmem.evaluation import accuracy, forecast, label_confidence
from unmem.evaluation.log_odds import log_odds_of
from unmem.memorization import CrossFit, crossfit
from unmem.memorization import events as learning_events
from unmem.predictions import log_odds
from unmem.report import charts
from unmem.requests import duplicates, find_copies
from unmem.requests.where import Condition, ids_where
from unmem.targets import FromCrossFit, Targets, Trace, TraceRecorder
from unmem.training import predict, predicted
from unmem.unlearning import batches

RECIPE = um.Recipe(model="mlp", epochs=4, lr=0.1, batch_size=16)
CLASSES = 40  # more than of which all classes are kept


def many(n: int, *, classes: int = 1_000, seed: int = 0) -> um.Examples:
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(0, classes, max(0, n - classes))])[:n]
    return um.Examples.of(random.normal(size=(n, 4)).astype(np.float32), labels, n_classes=classes)


class Seen(nn.Module):
    """A linear model that notes how many logits of its own are alive at a time."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.inner = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


@pytest.fixture(scope="module")
def wide() -> tuple[nn.Module, um.Examples]:
    torch.manual_seed(0)
    return Seen(1_000).eval(), many(12_000)


def test_logits_are_kept_in_pieces_of_a_stated_size(wide: tuple[nn.Module, um.Examples]) -> None:
    model, examples = wide
    sizes: list[tuple[int, ...]] = []

    def keep(logits: Tensor, labels: Tensor) -> list[Tensor]:
        sizes.append(tuple(logits.shape))
        assert len(labels) == len(logits)
        return [logits.argmax(1), labels]

    found, labels = predicted(model, examples, keep)
    assert max(n * classes for n, classes in sizes) <= training.LOGITS
    assert sum(n for n, _ in sizes) == len(examples)
    assert len(sizes) == 3
    assert torch.equal(labels, examples.labels)
    assert torch.equal(found, predict(model, examples).argmax(1))


def test_of_no_examples_nothing_is_kept(wide: tuple[nn.Module, um.Examples]) -> None:
    model, examples = wide
    phi, margin = predicted(model, examples.at(np.arange(0)), log_odds)
    assert phi.shape == margin.shape == (0,)


_ASKED = """
import resource, sys, torch, unmem as um
from unmem.allocator import keep_freed_memory
from unmem.predictions import log_odds
from unmem.training import predicted
keep_freed_memory()
model = torch.nn.Linear(4, 1_000).eval()
for n in (5_000, 40_000):
    examples = um.Examples.of(torch.zeros(n, 4), torch.arange(n) % 1_000, n_classes=1_000)
    predicted(model, examples, log_odds)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="kibibytes, and glibc")
def test_the_answers_that_are_kept_leave_no_holes_between_logits() -> None:
    """Each piece would leave 33 MB that the next piece finds no room in: 300 MB here."""
    few, many = map(int, subprocess.check_output([sys.executable, "-c", _ASKED], text=True).split())
    assert (many - few) / 1024 < 80


@pytest.mark.parametrize("measure", [accuracy, label_confidence, log_odds_of])
def test_measures_hold_no_logits_of_all_examples(
    measure: Callable[[nn.Module, um.Examples], Any], wide: tuple[nn.Module, um.Examples], monkeypatch: Any
) -> None:
    model, examples = wide
    logits = predict(model, examples)
    expected = {
        accuracy: lambda: float((logits.argmax(1) == examples.labels).float().mean()),
        label_confidence: lambda: logits.double().softmax(1).gather(1, examples.labels[:, None])[:, 0].numpy(),
        log_odds_of: lambda: log_odds(logits, examples.labels)[0].numpy(),
    }[measure]()
    joined: list[int] = []
    whole = torch.cat
    monkeypatch.setattr(
        training.torch, "cat", lambda parts, *a: joined.append(sum(map(Tensor.numel, parts))) or whole(parts, *a)
    )
    np.testing.assert_allclose(measure(model, examples), expected, rtol=1e-6)
    assert joined
    assert max(joined) <= training.LOGITS


def test_visits_of_many_classes_are_scored_before_their_logits_take_much_memory(monkeypatch: Any) -> None:
    monkeypatch.setattr(learning_events, "LOGITS", 40 * CLASSES)
    examples = many(200, classes=CLASSES)

    class Watched(um.LearningEvents):
        most = 0

        def on_step(self, step: training.Step) -> None:
            super().on_step(step)
            self.most = max(self.most, self._rows)

    pieces, whole = Watched(), um.LearningEvents()
    um.train(RECIPE, examples, observers=[pieces])
    monkeypatch.undo()
    um.train(RECIPE, examples, observers=[whole])
    assert pieces.most < 40
    for name in ("confidence", "entropy", "forgetting", "aum"):
        np.testing.assert_allclose(pieces.scores(name).values, whole.scores(name).values, rtol=1e-6, atol=1e-7)


def test_members_of_a_cross_fit_with_many_classes_keep_no_logits(tmp_path: Path) -> None:
    examples = many(240, classes=CLASSES)
    short, full = (crossfit(RECIPE, examples, keep_logits=keep, folder=tmp_path / str(keep)) for keep in (None, True))
    assert short.log_probs is None
    assert full.log_probs is not None
    assert full.log_probs.shape == (240, CLASSES)
    for name in ("phi", "margin"):
        np.testing.assert_array_equal(getattr(short, name), getattr(full, name))
    for path in (tmp_path / "None").glob("*.npz"):
        assert max(array.size for array in np.load(path).values()) == 240
    labels = examples.labels.numpy()
    np.testing.assert_allclose(short.confidence(labels), full.confidence(labels), rtol=1e-4)
    np.testing.assert_allclose(short.largest, full.largest, rtol=1e-4)
    targets, known = (FromCrossFit(one).targets for one in (short, full))
    assert targets.log_probs is None
    np.testing.assert_array_equal(targets.hits(labels), known.hits(labels))
    model = um.train(RECIPE, examples)
    np.testing.assert_allclose(
        short.fit(model, examples).values, full.fit(model, examples).values, rtol=1e-4, atol=1e-7
    )


def test_few_classes_keep_what_they_kept() -> None:
    found = crossfit(RECIPE, points(60))
    assert found.log_probs is not None
    assert crossfit(RECIPE, points(60), keep_logits=False).log_probs is None


def test_a_cross_fit_of_labels_alone_comes_back_from_its_file(tmp_path: Path) -> None:
    made = crossfit(RECIPE, many(120, classes=CLASSES))
    made.save(tmp_path / "crossfit.npz")
    found = CrossFit.load(tmp_path / "crossfit.npz")
    assert found.log_probs is None
    assert repr(found) == "CrossFit(120 examples, labels only)"
    gone = made.ids[:7]
    again = found.without(gone).with_rows_of(found.only(gone)).take(made.ids)
    for name in ("ids", "phi", "margin"):
        np.testing.assert_array_equal(getattr(again, name), getattr(made, name))
    arrays = dict(np.load(tmp_path / "crossfit.npz"))
    del arrays["phi"]
    np.savez(tmp_path / "crossfit.npz", **arrays)
    with pytest.raises(UserError, match="not a cross-fit"):
        CrossFit.load(tmp_path / "crossfit.npz")


def test_a_forecast_needs_no_probabilities_of_all_classes() -> None:
    data = replace(point_splits(90), holdout=points(80, seed=1, prefix="h"))
    model = um.train(RECIPE, data.train)
    problem = um.Problem(model, data, data.train.ids[:30], recipe=RECIPE)
    full, short = (crossfit(RECIPE, data.train, unseen=data.holdout, keep_logits=keep) for keep in (True, False))
    ours, theirs = (forecast(one, problem.forget, unseen_accuracy=0.9) for one in (short, full))
    assert ours.accuracy == pytest.approx(theirs.accuracy, rel=1e-5)


# --- the trace --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded() -> tuple[um.Problem, Trace]:
    train, holdout = many(400, classes=CLASSES), many(120, classes=CLASSES, seed=1)
    holdout = replace(holdout, ids=np.char.add("h", holdout.ids))
    data = um.Splits("made up", train, holdout, holdout.at(np.arange(20)))
    recorder = TraceRecorder(holdout)
    model = um.train(RECIPE, train, observers=[recorder])
    return um.Problem(model, data, train.ids[:30], recipe=RECIPE), recorder.trace


def test_a_trace_of_many_classes_is_two_numbers_for_each_example(recorded: tuple[um.Problem, Trace]) -> None:
    problem, trace = recorded
    assert trace.log_probs is None
    assert trace.phi is not None
    assert trace.phi.shape == (400,)
    assert trace.margin is not None
    assert trace.unseen.shape == (40, CLASSES)

    class Watch(um.Observer):
        def on_start(self, examples: um.Examples, recipe: um.Recipe) -> None:
            self.sums = torch.zeros(2, len(examples), dtype=torch.float64)

        def on_step(self, step: training.Step) -> None:
            if step.epoch == 0:
                self.sums[:, step.batch.index] = torch.stack(log_odds(step.logits, step.batch.labels))

    watch = Watch()
    um.train(RECIPE, problem.data.train, observers=[watch])
    np.testing.assert_allclose(trace.phi, watch.sums[0].numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(trace.margin, watch.sums[1].numpy(), rtol=1e-5, atol=1e-5)


def test_both_forms_of_a_trace_give_the_same_targets(recorded: tuple[um.Problem, Trace], monkeypatch: Any) -> None:
    """The window is one epoch, where the mean of log-odds is the log-odds of the mean; float16 is coarser."""
    problem, trace = recorded
    monkeypatch.setattr("unmem.targets.trace.FEW_CLASSES", CLASSES)
    recorder = TraceRecorder(problem.holdout)
    um.train(RECIPE, problem.data.train, observers=[recorder])
    full = recorder.trace
    assert full.log_probs is not None
    ours, theirs = trace(problem), full(problem)
    assert ours.log_probs is None
    np.testing.assert_allclose(ours.phi, theirs.phi, atol=0.02)
    labels = problem.forget.labels.numpy()
    np.testing.assert_array_equal(ours.hits(labels), theirs.hits(labels))
    parts = problem.data.train, problem.holdout
    assert trace.ahead(*parts) == pytest.approx(full.ahead(*parts), abs=0.02)


def test_a_trace_of_labels_alone_comes_back_from_its_file(recorded: tuple[um.Problem, Trace], tmp_path: Path) -> None:
    problem, trace = recorded
    trace.without(problem.forget.ids).save(tmp_path / "trace.npz")
    found = Trace.load(tmp_path / "trace.npz").with_rows_of(trace.only(problem.forget.ids))
    np.testing.assert_array_equal(found(problem).phi, trace(problem).phi)
    arrays = dict(np.load(tmp_path / "trace.npz"))
    del arrays["margin"]
    np.savez(tmp_path / "trace.npz", **arrays)
    with pytest.raises(UserError, match="not a trace"):
        Trace.load(tmp_path / "trace.npz")


def test_targets_of_labels_alone_come_back_from_their_file(recorded: tuple[um.Problem, Trace], tmp_path: Path) -> None:
    problem, trace = recorded
    made = trace(problem)
    made.save(tmp_path / "targets.npz")
    found = Targets.load(tmp_path / "targets.npz")
    assert found.log_probs is None
    assert found.rival is not None
    np.testing.assert_array_equal(found.rival, made.rival)
    np.testing.assert_array_equal(found.take(made.ids[::-1]).rival, found.rival[::-1])


# --- what else grew ---------------------------------------------------------------------------------------------------


def test_a_fixed_model_is_asked_again_where_its_answers_would_take_much_memory(monkeypatch: Any) -> None:
    examples = points(60)
    model = um.train(RECIPE, examples)
    batch = next(batches.cycle(examples, 16, RECIPE, seed=0))
    kept = batches.answers(model, examples, RECIPE)(batch)
    monkeypatch.setattr(batches, "MOST_KNOWN", 0)
    monkeypatch.setattr(batches, "predict", None)  # asked for all of them, it would fail
    torch.testing.assert_close(batches.answers(model, examples, RECIPE)(batch), kept)


@pytest.mark.parametrize("shape", [(5,), (1, 6, 6)])
def test_near_copies_of_many_are_those_of_few(shape: tuple[int, ...], monkeypatch: Any) -> None:
    random = np.random.default_rng(0)
    retained, asked, unseen = (random.normal(size=(n, *shape)).astype(np.float32) for n in (3_000, 300, 400))
    asked[:5], asked[5:25] = retained[:5], retained[5:25] + 0.01 * random.normal(size=(20, *shape))
    parts = [
        um.Examples.of(x, np.arange(len(x)) % 3, ids=[f"{name}{k}" for k in range(len(x))])
        for x, name in ((asked, "f"), (retained, "r"), (unseen, "u"))
    ]
    few = find_copies(*parts[:2], unseen=parts[2])
    monkeypatch.setattr(duplicates, "FEW_PAIRS", 0)
    found = find_copies(*parts[:2], unseen=parts[2])
    assert found.counts == few.counts
    assert found.counts["near"] >= 20
    key = [(one.forget_id, one.retain_id, one.kind, one.same_label) for one in found.pairs]
    assert sorted(key) == sorted((one.forget_id, one.retain_id, one.kind, one.same_label) for one in few.pairs)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_shared_inputs_are_those_with_equal_bytes(dtype: Any) -> None:
    random = np.random.default_rng(0)
    first, second = (random.integers(0, 3, (n, 3)).astype(dtype) for n in (500, 20))
    ours, theirs = (um.Examples.of(x, np.zeros(len(x), int), n_classes=2) for x in (first, second))
    known = {row.tobytes() for row in second}
    np.testing.assert_array_equal(duplicates.shared_inputs(ours, theirs), [row.tobytes() in known for row in first])
    assert not duplicates.shared_inputs(ours, theirs.at(np.arange(0))).any()


@pytest.mark.parametrize("ids", [range(0), range(12), np.array([7, -3, 100]), np.array([5], np.uint8)])
def test_whole_numbers_are_ids_by_their_digits(ids: Any) -> None:
    found = as_ids(ids)
    assert found.tolist() == [str(one) for one in ids]
    assert found.dtype == np.array([str(one) for one in ids] or [""]).dtype


def test_row_numbers_take_no_more_memory_than_their_digits(tmp_path: Path) -> None:
    lines = "".join(f"{k},{k % 7},{k % 3}\n" for k in range(300))
    (tmp_path / "t.csv").write_text("a,b,label\n" + lines)
    found = um.load(str(tmp_path / "t.csv"))
    assert found.train.ids.dtype.itemsize <= 12


def test_tables_standardised_column_by_column_are_bit_for_bit_those_of_a_matrix(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = random.normal(5, 3, (400, 4)).round(6)
    rows = "".join(",".join(map(str, row)) + f",{k % 3}\n" for k, row in enumerate(values.tolist()))
    (tmp_path / "t.csv").write_text("a,b,c,d,label\n" + rows)
    data = um.load(str(tmp_path / "t.csv"))
    train = data.train.ids.astype(int)
    chosen = values[train][:, np.ones(4, dtype=bool)]
    expected = ((values - chosen.mean(axis=0)) / chosen.std(axis=0)).astype(np.float32)
    np.testing.assert_array_equal(data.train.inputs.numpy(), expected[train])


def test_a_chart_of_two_scores_has_cells_and_not_examples() -> None:
    n = 20_000
    values = np.random.default_rng(0).random((2, n))
    first, second = (um.Scores(name, as_ids(range(n)), one) for name, one in zip("ab", values, strict=True))
    panel = charts.scatter(first, second, as_ids(range(n // 2)))
    assert panel is not None
    cells = panel.spec["data"]["values"]
    assert len(cells) <= 2 * charts.CELLS**2
    assert sum(cell["n"] for cell in cells) == n
    assert sum(cell["n"] for cell in cells if cell["kind"] == charts.PLANTED) == n // 2


def test_members_with_logits_still_hold_them_for_all_examples() -> None:
    examples = points(40)
    members = train_members(RECIPE, examples, fold_masks(examples.labels, 2, seed=0), keep_logits=True)
    assert members.logits is not None
    assert members.logits.shape == (2, 40, 3)


def test_columns_of_many_texts_answer_conditions_as_objects_do(tmp_path: Path, monkeypatch: Any) -> None:
    lines = "".join(f"{k},{k % 7},{'' if k % 9 == 0 else f' s{k % 4}'},{k % 3}\n" for k in range(90))
    (tmp_path / "t.csv").write_text("a,b,site,label\n" + lines)
    plain = um.load(str(tmp_path / "t.csv")).train
    monkeypatch.setattr(layout, "MANY_TEXTS", 0)
    compact = um.load(str(tmp_path / "t.csv")).train
    assert compact.columns["a"].dtype.kind == "T"
    assert compact.fingerprint == plain.fingerprint
    sent = pickle.loads(pickle.dumps(compact))
    for name, value in (("b", "3"), ("site", "s1"), ("site", " s1"), ("site", "")):
        condition = [Condition(name, value)]
        expected = [k for k, one in enumerate(plain.columns[name]) if one == value]
        for one in (plain, compact, sent):
            assert [k for k, known in enumerate(one.columns[name]) if known == value] == expected
        if expected:
            assert list(ids_where(compact, condition)) == list(ids_where(plain, condition))


@pytest.mark.parametrize("width", [3, 70_000])
def test_a_header_is_read_from_the_start_of_a_file_however_long_it_is(width: int) -> None:
    names = [f"column {k}" for k in range(width)]
    text = '"two\nlines",' + ",".join(names) + "\n" + ",".join(["1"] * (width + 1)) + "\n" * 3
    assert csvfiles._header("\n" + text, ",") == ["two\nlines", *names]
    assert csvfiles._header("\n\n", ",") == []
