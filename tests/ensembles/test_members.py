"""Members: which models they are, and how they are kept and taken up."""

from __future__ import annotations

import signal
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import unmem as um
from tests.helpers import points, started
from unmem.data import Examples, Scaling
from unmem.ensembles import (
    Ensemble,
    Mask,
    files,
    leave_out_masks,
    train_members,
)
from unmem.errors import DivergedError
from unmem.predictions import log_odds
from unmem.training import predict, train

RECIPE = um.Recipe(model="mlp", epochs=2, batch_size=16)


@pytest.fixture(scope="module")
def data() -> Examples:
    return points(40)


@pytest.fixture(scope="module")
def unseen() -> Examples:
    return points(15, seed=1, prefix="u")


@pytest.fixture(scope="module")
def masks() -> Mask:
    return leave_out_masks(40, 4, keep=0.7, seed=0)


@pytest.fixture(scope="module")
def ensemble(data: Examples, masks: Mask, unseen: Examples) -> Ensemble:
    return train_members(RECIPE, data, masks, seed=5, unseen=unseen, keep_logits=True)


def same(first: Ensemble, second: Ensemble) -> bool:
    """Bit-equal in everything but the time it took."""
    pairs = [(first.train, second.train)]
    if first.unseen is not None and second.unseen is not None:
        pairs.append((first.unseen, second.unseen))
    return (
        np.array_equal(first.kept, second.kept)
        and first.seeds == second.seeds
        and (first.unseen is None) == (second.unseen is None)
        and all(
            getattr(a, name).tobytes() == getattr(b, name).tobytes()
            for a, b in pairs
            for name in ("phi", "margin", "prediction", "labels")
        )
    )


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def attempt(run: Callable[[], Ensemble]) -> tuple[Ensemble | None, Exception | None]:
    try:
        return run(), None
    except Exception as error:
        return None, error.with_traceback(None)


def test_a_member_is_the_model_trained_on_what_it_keeps(
    data: Examples, masks: Mask, unseen: Examples, ensemble: Ensemble
) -> None:
    assert len(ensemble) == 4
    assert ensemble.seeds == (5, 6, 7, 8)
    assert ensemble.unseen is not None
    assert ensemble.logits is not None
    assert ensemble.train.ids is data.ids
    assert ensemble.unseen.ids is unseen.ids
    for k in (0, 3):
        model = train(RECIPE, data.at(np.flatnonzero(masks[k])), seed=5 + k)
        for outputs, examples in ((ensemble.train, data), (ensemble.unseen, unseen)):
            logits = predict(model, examples)
            phi, margin = log_odds(logits, examples.labels)
            assert np.array_equal(outputs.phi[k], phi.float().numpy())
            assert np.array_equal(outputs.margin[k], margin.float().numpy())
            assert np.array_equal(outputs.prediction[k], logits.argmax(1).numpy())
        assert np.array_equal(ensemble.logits[k], predict(model, data).numpy())


def test_outputs_say_what_is_right_and_how_sure(data: Examples, ensemble: Ensemble) -> None:
    assert ensemble.logits is not None
    p = torch.from_numpy(ensemble.logits).double().softmax(2).numpy()
    y = data.labels.numpy()
    np.testing.assert_array_equal(ensemble.train.correct, p.argmax(2) == y)
    np.testing.assert_allclose(ensemble.train.confidence, p[:, np.arange(40), y], atol=1e-6)
    assert 0 < ensemble.train.correct.mean() < 1


def test_the_same_seed_gives_the_same_members_bit_for_bit(
    data: Examples, masks: Mask, unseen: Examples, ensemble: Ensemble, tmp_path: Path
) -> None:
    torch.manual_seed(123)  # the caller's random state has no say
    again = train_members(RECIPE, data, masks, seed=5, unseen=unseen, keep_logits=True, folder=tmp_path)
    assert same(ensemble, again)
    assert np.array_equal(ensemble.logits, again.logits)  # pyright: ignore
    other = train_members(RECIPE, data, masks, seed=6, unseen=unseen)
    assert np.array_equal(other.train.phi[0] != ensemble.train.phi[0], np.ones(40, dtype=bool))
    assert other.logits is None


def test_one_worker_gives_what_no_worker_gives(
    data: Examples, masks: Mask, unseen: Examples, ensemble: Ensemble
) -> None:
    seen: list[tuple[int, int]] = []
    with ThreadPoolExecutor(1) as executor:
        threaded = train_members(
            RECIPE, data, masks, seed=5, unseen=unseen, executor=executor, on_member=lambda *args: seen.append(args)
        )
    assert same(ensemble, threaded)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_members_can_be_chosen(ensemble: Ensemble) -> None:
    chosen = ensemble.members([2, 0])
    assert len(chosen) == 2
    assert chosen.seeds == (7, 5)
    assert chosen.seconds == (ensemble.seconds[2], ensemble.seconds[0])
    assert (chosen.kept == ensemble.kept[[2, 0]]).all()
    assert (chosen.train.phi == ensemble.train.phi[[2, 0]]).all()
    assert chosen.unseen is not None
    assert ensemble.unseen is not None
    assert (chosen.unseen.prediction == ensemble.unseen.prediction[[2, 0]]).all()
    assert (chosen.logits == ensemble.logits[[2, 0]]).all()  # pyright: ignore


# stop and resume


def test_finished_members_are_read_and_not_trained_again(data: Examples, masks: Mask, tmp_path: Path) -> None:
    began = train_members(RECIPE, data, masks, folder=tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    before = stamps(folder)
    assert len(before) == 4
    assert all(name.startswith("member-") and name.endswith(".npz") for name in before)
    seen: list[tuple[int, int]] = []
    again = train_members(RECIPE, data, masks, folder=folder, on_member=lambda *args: seen.append(args))
    assert same(began, again)
    assert again.seconds == began.seconds  # of the training, not of the reading
    assert stamps(folder) == before
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]

    gone = sorted(before)[1]
    whole = (folder / gone).read_bytes()
    (folder / gone).unlink()
    mended = train_members(RECIPE, data, masks, folder=folder)
    after = stamps(folder)
    assert {name for name in after if after[name] != before.get(name)} == {gone}
    assert same(began, mended)
    assert len((folder / gone).read_bytes()) == len(whole)


def test_members_are_read_and_not_only_found(data: Examples, masks: Mask, tmp_path: Path) -> None:
    train_members(RECIPE, data, masks, folder=tmp_path)
    path = min(tmp_path.iterdir())
    member = files.read(path)
    assert member is not None
    files.write(path, member.about, member.arrays | {"train_phi": np.full(len(data), 42, np.float32)})
    assert (train_members(RECIPE, data, masks, folder=tmp_path).train.phi == 42).all(1).sum() == 1


def changed_mask(masks: Mask) -> Mask:
    changed = masks.copy()
    changed[:, 0] = ~changed[:, 0]
    return changed


CHANGES: dict[str, Callable[[um.Recipe, Examples, Mask], tuple[um.Recipe, Examples, Mask, int]]] = {
    "epochs": lambda r, d, m: (replace(r, epochs=3), d, m, 0),
    "learning rate": lambda r, d, m: (replace(r, lr=r.lr * 1.001), d, m, 0),
    "batch size": lambda r, d, m: (replace(r, batch_size=17), d, m, 0),
    "labels": lambda r, d, m: (r, d.relabel(d.labels.flip(0)), m, 0),
    "scaling": lambda r, d, m: (r, replace(d, scaling=Scaling(2.0)), m, 0),
    "inputs": lambda r, d, m: (r, replace(d, inputs=d.inputs + 1e-3), m, 0),
    "mask": lambda r, d, m: (r, d, changed_mask(m), 0),
    "seed": lambda r, d, m: (r, d, m, 100),
}


@pytest.mark.parametrize("change", CHANGES)
def test_members_made_otherwise_are_not_mixed_in(change: str, data: Examples, masks: Mask, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1)
    train_members(recipe, data, masks[:2], folder=tmp_path)
    recipe, changed, kept, seed = CHANGES[change](recipe, data, masks[:2])
    train_members(recipe, changed, kept, folder=tmp_path, seed=seed)
    assert len(stamps(tmp_path)) == 4


def test_the_seed_of_the_recipe_is_not_that_of_the_members(data: Examples, masks: Mask, tmp_path: Path) -> None:
    first = train_members(RECIPE, data, masks[:2], folder=tmp_path)
    second = train_members(replace(RECIPE, seed=99), data, masks[:2], folder=tmp_path)
    assert same(first, second)
    assert len(stamps(tmp_path)) == 2


def test_a_shifted_seed_shares_members_only_under_the_same_mask(data: Examples, masks: Mask, tmp_path: Path) -> None:
    whole = train_members(RECIPE, data, masks, folder=tmp_path, seed=0)
    tail = train_members(RECIPE, data, masks[1:], folder=tmp_path, seed=1)
    assert len(stamps(tmp_path)) == 4
    assert same(whole.members([1, 2, 3]), tail)


def test_an_interrupted_run_keeps_what_is_finished_and_is_taken_up(data: Examples, masks: Mask, tmp_path: Path) -> None:
    def stop(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_members(RECIPE, data, masks, folder=tmp_path, on_member=stop)
    before = stamps(tmp_path)
    assert len(before) == 2
    assert all(name.endswith(".npz") for name in before)
    resumed = train_members(RECIPE, data, masks, folder=tmp_path)
    assert same(resumed, train_members(RECIPE, data, masks))
    after = stamps(tmp_path)
    assert len(after) == 4
    assert all(after[name] == stamp for name, stamp in before.items())


def train_many(folder: Path, done: Path) -> None:
    kept = leave_out_masks(40, 500, keep=0.7, seed=0)
    train_members(RECIPE, points(40), kept, folder=folder, on_member=lambda k, _: done.write_text(str(k)))


def test_a_killed_run_leaves_only_whole_members(data: Examples, tmp_path: Path) -> None:
    done = tmp_path / "done"
    done.write_text("0")
    process = started(train_many, tmp_path, done)
    while int(done.read_text() or 0) < 3:
        assert process.is_alive()
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    finished = [path for path in tmp_path.iterdir() if path.suffix == ".npz" and not path.name.startswith(".")]
    assert len(finished) >= 3
    kept = leave_out_masks(40, 500, keep=0.7, seed=0)[:4]
    assert same(train_members(RECIPE, data, kept, folder=tmp_path), train_members(RECIPE, data, kept))


def test_members_trained_by_workers_take_the_place_of_the_missing_ones(
    data: Examples, masks: Mask, tmp_path: Path
) -> None:
    whole = train_members(RECIPE, data, masks, folder=tmp_path)
    for k in (1, 3):  # by the content, since names are hashes
        for path in list(tmp_path.iterdir()):
            with np.load(path) as file:
                found = np.array_equal(file["train_phi"], whole.train.phi[k])
            if found:
                path.unlink()
    assert len(stamps(tmp_path)) == 2
    with ThreadPoolExecutor(1) as executor:
        assert same(whole, train_members(RECIPE, data, masks, folder=tmp_path, executor=executor))
    assert len(stamps(tmp_path)) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_leaves_no_part_of_a_member(data: Examples, masks: Mask, tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(um.UserError, match="File too large"), warnings.catch_warnings():
            train_members(RECIPE, data, masks, folder=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert stamps(tmp_path) == {}


def test_a_member_that_diverges_fails_and_leaves_no_file(data: Examples, masks: Mask, tmp_path: Path) -> None:
    wild = replace(RECIPE, lr=1e30, schedule="constant")
    with pytest.raises(DivergedError):
        train_members(wild, data, masks, folder=tmp_path)
    assert stamps(tmp_path) == {}


@pytest.mark.parametrize("size", [0, 100, -10])
def test_a_broken_member_file_is_made_anew_or_named(size: int, data: Examples, masks: Mask, tmp_path: Path) -> None:
    whole = train_members(RECIPE, data, masks, folder=tmp_path)
    path = min(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:size])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the file that numpy leaves open
        again, error = attempt(lambda: train_members(RECIPE, data, masks, folder=tmp_path))
    if again is None:
        assert isinstance(error, um.UserError)
        assert path.name in str(error)
    else:
        assert same(whole, again)


def test_several_threads_are_refused_since_they_share_one_random_state(data: Examples, masks: Mask) -> None:
    with ThreadPoolExecutor(4) as executor, pytest.raises(um.UserError, match="use processes"):
        train_members(RECIPE, data, masks, executor=executor)


def test_masks_of_another_number_of_examples_are_refused(data: Examples, masks: Mask) -> None:
    with pytest.raises(um.UserError, match="30"):
        train_members(RECIPE, data, masks[:, :30])
