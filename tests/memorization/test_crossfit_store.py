"""Cross-fit predictions as a thing to keep: by id, in a file, and from an ensemble."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unmem as um
from tests.helpers import points
from unmem.ensembles import leave_out_masks, train_members
from unmem.errors import UserError
from unmem.memorization import CrossFit, crossfit
from unmem.memorization.crossfit import out_of_sample

RECIPE = um.Recipe(model="mlp", epochs=2, batch_size=16)
N, CLASSES = 30, 3


@pytest.fixture(scope="module")
def data() -> um.Examples:
    return points(N, classes=CLASSES)


@pytest.fixture(scope="module")
def fitted(data: um.Examples) -> CrossFit:
    return crossfit(RECIPE, data, folds=2, seed=1)


@pytest.fixture(scope="module")
def members(data: um.Examples) -> um.Ensemble:
    kept = leave_out_masks(N, 4, keep=0.5, seed=0)
    kept[0, :5] = kept[1, :5] = kept[2, :5] = True  # so that examples differ in how many members left them out
    kept[3, :5] = False
    return train_members(RECIPE, data, kept, keep_logits=True)


def equal(first: CrossFit, second: CrossFit) -> bool:
    names = ("ids", "log_probs", "margin", "phi")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in names)


def test_predictions_are_taken_by_id_in_the_order_asked_for(data: um.Examples, fitted: CrossFit) -> None:
    chosen = [17, 3, 28, 0]
    taken = fitted.take(data.ids[chosen])
    assert list(taken.ids) == list(data.ids[chosen])
    for name in ("log_probs", "margin", "phi"):
        assert np.array_equal(getattr(taken, name), getattr(fitted, name)[chosen])
    assert (taken.settings, taken.seconds, len(taken)) == (fitted.settings, fitted.seconds, 4)
    assert equal(fitted.take(fitted.ids), fitted)
    # Ids may be whole numbers, as everywhere.
    assert equal(fitted.take([int(name) for name in data.ids[chosen]]), taken)


def test_what_is_left_without_some_keeps_its_order_and_unknown_ids_do_not_matter(
    data: um.Examples, fitted: CrossFit
) -> None:
    gone = data.ids[[4, 20, 7]]
    rest = fitted.without([*gone, "nobody"])
    assert equal(rest, fitted.take([name for name in data.ids if name not in set(gone)]))
    with pytest.raises(UserError, match=r"has no prediction for 1 of the ids, such as '\w+'; make a cross-fit"):
        rest.take(gone[:1])
    nothing = fitted.without(data.ids)
    assert len(nothing) == 0
    with pytest.raises(UserError, match="no prediction for 3 of the ids"):
        nothing.take(gone)


def test_unknown_ids_are_counted_and_one_is_named(data: um.Examples, fitted: CrossFit) -> None:
    with pytest.raises(UserError, match="crossfit: has no prediction for 2 of the ids, such as 'nobody'"):
        fitted.take([data.ids[0], "nobody", data.ids[1], "noone"])


def test_a_file_gives_back_what_was_saved(fitted: CrossFit, tmp_path: Path) -> None:
    path = tmp_path / "crossfit.npz"
    fitted.save(path)
    again = CrossFit.load(path)
    assert equal(again, fitted)
    assert (again.seconds, again.settings) == (fitted.seconds, fitted.settings)
    for name in ("log_probs", "margin", "phi"):
        assert getattr(again, name).dtype == np.float32
    assert [one.name for one in tmp_path.iterdir()] == ["crossfit.npz"]
    # Saved once more over itself, with fewer examples.
    fitted.without(fitted.ids[:10]).save(path)
    assert equal(CrossFit.load(path), fitted.without(fitted.ids[:10]))


def test_a_missing_file_is_named_with_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--crossfit .*nowhere\.npz.*: no such file; make one with unmem prepare"):
        CrossFit.load(tmp_path / "nowhere.npz")


def test_a_file_that_is_no_cross_fit_is_refused(fitted: CrossFit, tmp_path: Path) -> None:
    path = tmp_path / "crossfit.npz"
    arrays: dict[str, Any] = {name: getattr(fitted, name) for name in ("ids", "log_probs", "margin", "phi")}
    for content in (b"", b"no archive"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a cross-fit; make one with unmem prepare"):
            CrossFit.load(path)
    for wrong in (
        arrays,  # no facts
        {"facts": json.dumps({"seconds": 0.0, "settings": {}})},  # nothing else
        arrays | {"facts": "no json"},
        arrays | {"facts": "{}", "ids": np.array([None, "a"], dtype=object)},  # would need pickle
    ):
        np.savez(path, allow_pickle=True, **wrong)
        with pytest.raises(UserError, match="not a cross-fit"):
            CrossFit.load(path)
    with pytest.raises(UserError, match="not a cross-fit"):
        CrossFit.load(tmp_path)  # a folder


def test_a_damaged_byte_among_the_predictions_is_noticed(fitted: CrossFit, tmp_path: Path) -> None:
    path = tmp_path / "crossfit.npz"
    fitted.save(path)
    whole = bytearray(path.read_bytes())
    where = bytes(whole).index(fitted.phi.tobytes()) + 5
    whole[where] ^= 1
    path.write_bytes(whole)
    with pytest.raises(UserError, match="not a cross-fit"):
        CrossFit.load(path)


def test_out_of_sample_is_the_mean_over_the_members_that_never_saw_an_example(members: um.Ensemble) -> None:
    found = out_of_sample(members)
    assert members.logits is not None
    counts = set[int]()
    for i in range(N):
        out = [k for k in range(4) if not members.kept[k, i]]
        counts.add(len(out))
        rows = [members.logits[k, i].astype(np.float64) for k in out]
        probs = np.mean([np.exp(z) / np.exp(z).sum() for z in rows], axis=0)
        np.testing.assert_allclose(np.exp(found.log_probs[i]), probs, rtol=1e-5)
        np.testing.assert_allclose(found.margin[i], np.mean([members.train.margin[k, i] for k in out]), rtol=1e-5)
        np.testing.assert_allclose(found.phi[i], np.mean([members.train.phi[k, i] for k in out]), rtol=1e-5)
    assert counts == {1, 2}
    assert list(found.ids) == list(members.train.ids)
    assert found.seconds == sum(members.seconds)
    assert {array.dtype for array in (found.log_probs, found.margin, found.phi)} == {np.dtype(np.float32)}


def test_of_folds_it_is_the_cross_fit_itself(data: um.Examples, fitted: CrossFit) -> None:
    from unmem.ensembles import fold_masks

    folds = train_members(RECIPE, data, fold_masks(data.labels, 2, seed=1), seed=1, keep_logits=True)
    found = out_of_sample(folds)
    np.testing.assert_allclose(found.log_probs, fitted.log_probs, atol=1e-5)
    np.testing.assert_allclose(found.margin, fitted.margin, rtol=1e-6)
    np.testing.assert_allclose(found.phi, fitted.phi, rtol=1e-6)


def test_an_ensemble_without_logits_or_with_an_example_in_all_members_is_refused(
    data: um.Examples, members: um.Ensemble
) -> None:
    one = leave_out_masks(N, 2, keep=0.5, seed=0)
    with pytest.raises(UserError, match="kept no logits; train them with keep_logits=True"):
        out_of_sample(train_members(RECIPE, data, one))
    with pytest.raises(UserError, match="some examples were in all of them"):
        out_of_sample(members.members([0]))


def test_flipped_bytes_cut_files_and_other_arrays_are_all_no_cross_fit(fitted: CrossFit, tmp_path: Path) -> None:
    path = tmp_path / "crossfit.npz"
    fitted.save(path)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(300):
        bad = bytearray(whole)
        bad[random.integers(len(bad))] ^= int(1 << random.integers(8))
        path.write_bytes(bad[: random.integers(1, len(bad) + 1)] if random.random() < 0.3 else bad)
        try:
            found = CrossFit.load(path)
        except UserError:
            continue
        assert equal(found, fitted)  # a bit that nothing reads, such as a date
    with path.open("wb") as file:
        np.save(file, fitted.phi)  # an array, no archive of them
    with pytest.raises(UserError, match="not a cross-fit"):
        CrossFit.load(path)
    replace(fitted, phi=fitted.phi[:-1]).save(path)
    with pytest.raises(UserError, match="do not fit together"):
        CrossFit.load(path)


def test_confidence_times_surprise_by_hand(data: um.Examples, fitted: CrossFit) -> None:
    model = um.train(RECIPE, data)
    found = fitted.fit(model, data)
    logits = um.predict(model, data).double()
    for i, name in enumerate(fitted.ids):
        at, label = list(data.ids).index(name), int(data.labels[list(data.ids).index(name)])
        known = float(logits[at].softmax(0)[label])
        unknown = float(np.exp(np.float64(fitted.log_probs[i, label])))
        assert found.values[i] == pytest.approx(known * (1 - unknown), rel=1e-6)
    assert found.name == "crossfit-fit"
