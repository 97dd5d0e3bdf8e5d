"""Identity is in the data type: whatever is done to examples, an id keeps its input and its label."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from tests.helpers import points, shuffled
from unmem.data import Examples, Scaling, as_ids
from unmem.errors import UserError

N = 50


@pytest.fixture
def examples() -> Examples:
    """Every input and every label can be computed from the id, so that a slip by one shows."""
    ids = np.random.default_rng(1).permutation(N)
    inputs = np.stack([ids * 2.0, -ids * 1.0], axis=1).astype(np.float32)
    return Examples.of(inputs, ids % 5, ids=ids)


def attached(examples: Examples) -> bool:
    numbers = torch.tensor([int(name) for name in examples.ids])
    inputs = torch.stack([numbers * 2.0, -numbers * 1.0], dim=1)
    return torch.equal(examples.inputs, inputs) and torch.equal(examples.labels, numbers % 5)


def test_take_keeps_ids_attached_and_the_order_asked_for(examples: Examples) -> None:
    taken = examples.take(["7", 3, np.int64(41)])
    assert taken.ids.tolist() == ["7", "3", "41"]
    assert attached(taken)


def test_drop_keeps_ids_attached_and_the_order_of_the_rest(examples: Examples) -> None:
    gone = ["7", "3", "41"]
    left = examples.drop(gone)
    assert attached(left)
    assert left.ids.tolist() == [name for name in examples.ids if name not in gone]


def test_at_keeps_ids_attached(examples: Examples) -> None:
    part = examples.at(np.array([9, 0, 30]))
    assert part.ids.tolist() == examples.ids[[9, 0, 30]].tolist()
    assert attached(part)


def test_at_refuses_or_obeys_a_boolean_mask_but_never_slips(examples: Examples) -> None:
    mask = np.arange(N) % 7 == 2
    try:
        part = examples.at(mask)
    except UserError:
        return
    assert part.ids.tolist() == examples.ids[mask].tolist()
    assert attached(part)


def test_take_and_drop_divide_the_examples(examples: Examples) -> None:
    some = examples.ids[::3]
    taken, left = examples.take(some), examples.drop(some)
    assert len(taken) + len(left) == N
    assert set(taken.ids) | set(left.ids) == set(examples.ids)
    assert set(taken.ids).isdisjoint(left.ids)


def test_dropping_nothing_changes_nothing_and_dropping_all_leaves_none(examples: Examples) -> None:
    assert examples.drop([]).fingerprint == examples.fingerprint
    assert len(examples.drop(examples.ids)) == 0
    assert len(examples.take([])) == 0


def test_batch_scales_the_inputs_at_the_positions_in_float32() -> None:
    pixels = Examples.of(np.array([[0], [8], [16]], dtype=np.uint8), [0, 1, 2], scaling=Scaling(1 / 8, -1.0))
    x, y = pixels.batch(torch.tensor([2, 0]))
    assert x.dtype == torch.float32
    assert x.tolist() == [[1.0], [-1.0]]
    assert y.tolist() == [2, 0]
    assert pixels.inputs.dtype == torch.uint8


def test_ids_default_to_the_row_numbers() -> None:
    assert Examples.of(np.zeros((3, 2)), [0, 1, 0]).ids.tolist() == ["0", "1", "2"]


def test_classes_default_to_the_largest_label_and_may_be_more() -> None:
    assert Examples.of(np.zeros((3, 2)), [0, 2, 0]).n_classes == 3
    assert Examples.of(np.zeros((3, 2)), [0, 2, 0], n_classes=7).n_classes == 7


def test_relabel_changes_labels_only(examples: Examples) -> None:
    new = examples.relabel(torch.zeros(N, dtype=torch.int64))
    assert new.labels.tolist() == [0] * N
    assert torch.equal(new.inputs, examples.inputs)
    assert new.ids.tolist() == examples.ids.tolist()


@pytest.mark.parametrize(
    ("ids", "value", "what"),
    [
        (["3", "3"], "'3'", "more than once"),
        (["3", 3], "'3'", "more than once"),
        (["3", "no-such"], "'no-such'", "not an id"),
        ([-1], "'-1'", "not an id"),
        ([N], f"'{N}'", "not an id"),
        (["03"], "'03'", "not an id"),
        ([1.0], "1.0", "float is not an id"),
        ([True], "True", "bool is not an id"),
        ([None], "None", "NoneType is not an id"),
        ([b"3"], "b'3'", "bytes is not an id"),
        ([float("nan")], "nan", "float is not an id"),
        ("17", "'17'", "one string is not a list"),
    ],
)
@pytest.mark.parametrize("verb", ["take", "drop", "positions"])
def test_bad_ids_are_refused_by_field_and_value(
    examples: Examples, verb: str, ids: list[object], value: str, what: str
) -> None:
    with pytest.raises(UserError, match=what) as refused:
        getattr(examples, verb)(ids, field="forget")
    assert refused.value.field == "forget"
    assert str(refused.value).startswith(f"forget {value}: ")
    assert refused.value.fix in str(refused.value)


def test_unknown_ids_are_counted(examples: Examples) -> None:
    with pytest.raises(UserError, match=r"of these 50 examples \(2 such\)"):
        examples.take(["1", "x", "y"])


def test_no_examples_have_no_ids(examples: Examples) -> None:
    with pytest.raises(UserError, match="none at all"):
        examples.drop(examples.ids).take(["1"])


def test_ids_are_text_however_they_come() -> None:
    assert as_ids([1, "b", np.int32(3), np.str_("d")]).tolist() == ["1", "b", "3", "d"]
    assert as_ids(np.array([4, 5])).tolist() == ["4", "5"]
    assert as_ids([]).dtype.kind == "U"


X4 = np.zeros((4, 2), dtype=np.float32)


@pytest.mark.parametrize(
    ("labels", "what", "fix"),
    [
        (np.eye(4, dtype=np.int64), "one-hot or multi-label", "argmax"),
        (np.array([0.5, 1.0, 2.0, 0.1]), "whole numbers", "regression"),
        (np.array([True, False, True, True]), "whole numbers", "classes"),
        ([0, 1, -1, 0], "start at 0", "renumber"),
        ([0, 1, 3, 0], r"beyond the 3 classes \(0 to 2\)", "n_classes"),
        (["cat", "dog", "cat", "dog"], "whole numbers|class ind", ""),
    ],
    ids=["one-hot", "regression", "boolean", "negative", "beyond", "text"],
)
def test_labels_that_are_not_class_indices_are_refused(labels: object, what: str, fix: str) -> None:
    with pytest.raises(UserError, match=what) as refused:
        Examples.of(X4, labels, n_classes=3)
    assert refused.value.field == "labels"
    assert fix in refused.value.fix


def test_no_examples_at_all_are_refused() -> None:
    with pytest.raises(UserError, match="there are no examples"):
        Examples.of(np.zeros((0, 2)), np.zeros(0, dtype=np.int64))


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "int8", "int16", "int32", "int64", ">i4"])
def test_labels_may_be_any_whole_numbers(kind: str) -> None:
    examples = Examples.of(X4, np.array([0, 2, 1, 0], dtype=kind))
    assert examples.labels.dtype == torch.int64
    assert examples.labels.tolist() == [0, 2, 1, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_inputs_that_are_not_finite_are_refused_by_id(bad: float) -> None:
    inputs = X4.copy()
    inputs[2, 1] = bad
    with pytest.raises(UserError, match=r"inputs .*'c'.*not finite numbers \(1 such") as refused:
        Examples.of(inputs, [0, 1, 0, 1], ids=["a", "b", "c", "d"])
    assert refused.value.field == "inputs"


def test_inputs_beyond_float32_are_refused() -> None:
    with pytest.raises(UserError, match="not finite"):
        Examples.of(np.array([[1e300], [0.0]]), [0, 1])


@pytest.mark.parametrize(("labels", "ids"), [([0, 1, 0], range(4)), ([0, 1, 0, 1], range(3))])
def test_inputs_labels_and_ids_must_be_equally_many(labels: list[int], ids: range) -> None:
    with pytest.raises(UserError, match=rf"4 inputs, {len(labels)} labels, {len(ids)} ids"):
        Examples.of(X4, labels, ids=ids)


def test_ids_that_repeat_are_refused_from_the_start() -> None:
    with pytest.raises(UserError, match="more than once"):
        Examples.of(X4, [0, 1, 0, 1], ids=["a", "b", "c", "b"])


def test_fingerprint_is_that_of_the_content() -> None:
    assert points(20).fingerprint == points(20).fingerprint
    assert points(20).fingerprint == points(20).at(np.arange(20)).fingerprint


def test_fingerprint_sees_every_change() -> None:
    base = points(20)
    labels = base.labels.clone()
    labels[3] = (labels[3] + 1) % 3
    inputs = base.inputs.clone()
    inputs[7, 0] += 1e-3
    others = [
        base.relabel(labels),
        Examples.of(inputs, base.labels, ids=base.ids, n_classes=3),
        Examples.of(base.inputs, base.labels, ids=[f"x{i}" for i in base.ids], n_classes=3),
        Examples.of(base.inputs, base.labels, ids=base.ids, n_classes=4),
        Examples.of(base.inputs, base.labels, ids=base.ids, n_classes=3, scaling=Scaling(2.0)),
        base.drop(base.ids[:1]),
        shuffled(base),
    ]
    prints = {base.fingerprint, *(other.fingerprint for other in others)}
    assert len(prints) == 1 + len(others)


def test_examples_are_not_changed_by_what_is_made_from_them(examples: Examples) -> None:
    before = examples.fingerprint
    fresh = Examples(examples.inputs, examples.labels, examples.ids, examples.n_classes)
    examples.take(["1", "2"])
    examples.drop(["1", "2"])
    examples.relabel(torch.ones(N))
    examples.batch(torch.arange(4))
    assert fresh.fingerprint == before
    assert attached(examples)


def test_sending_examples_to_another_process_leaves_views_of_them_valid() -> None:
    """PyTorch's own way moves tensors into shared memory, and views of them then show freed memory."""
    from multiprocessing.reduction import ForkingPickler

    examples = Examples.of(np.arange(2000, dtype=np.uint8).reshape(1000, 2), np.arange(1000) % 3)
    places = examples.inputs.data_ptr(), examples.labels.data_ptr()
    arrived = pickle.loads(ForkingPickler.dumps(examples))
    assert (examples.inputs.data_ptr(), examples.labels.data_ptr()) == places
    assert not examples.labels.is_shared()
    assert arrived.fingerprint == examples.fingerprint
