"""Streams give the numbers of tensors, bit by bit, in every place where examples are read."""

from __future__ import annotations

import gc
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import unmem as um
from tests.data.files import image_tree
from tests.helpers import same_state
from unmem import scenarios
from unmem.data import Examples, Scaling, Stream, streaming
from unmem.data import sources as sources_module
from unmem.errors import UserError
from unmem.unlearning.ssd import fisher_diagonal

RECIPE = um.Recipe(model="small_cnn", epochs=2, batch_size=8)
STORED = torch.from_numpy(np.random.default_rng(0).integers(0, 256, size=(30, 1, 4, 4), dtype=np.uint8))


@dataclass(frozen=True)
class Counted:
    """Items of a tensor; 13 cannot be read, if so wished, and 17 ends the process that reads it."""

    bad: int | None = None
    deadly: int | None = None

    def __len__(self) -> int:
        return len(STORED)

    def __getitem__(self, k: int) -> torch.Tensor:
        if k == self.bad:
            raise OSError("the disk is gone")
        if k == self.deadly:
            import os

            os._exit(1)
        return STORED[k]

    def name(self, k: int) -> str:
        return f"item-{k}"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_tree(tmp_path_factory.mktemp("tree"), each=20, side=8)


@pytest.fixture(scope="module")
def streamed(tree: Path) -> um.Splits:
    return um.load(tree, stream="always", loaders=1)


@pytest.fixture(scope="module")
def held(tree: Path) -> um.Splits:
    return um.load(tree, stream="never")


@pytest.mark.parametrize("loaders", [0, 2])
def test_a_stream_is_indexed_like_its_tensor(loaders: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream.of(Counted(), loaders=loaders)
    assert (stream.shape, stream.dtype, stream.ndim, len(stream)) == (STORED.shape, STORED.dtype, 4, 30)
    for index in (torch.tensor([3, 0, 29]), np.array([1]), slice(2, 5), slice(None), np.arange(30) % 7 == 1):
        assert torch.equal(stream[index], STORED[index])
    assert torch.equal(stream[4], STORED[4])
    assert stream[:0].shape == (0, 1, 4, 4)
    assert torch.equal(stream.read(chunk=7), STORED)
    monkeypatch.setattr(streaming, "WORTH_LOADERS", 0)
    assert torch.equal(stream.read(chunk=7), STORED)
    part = stream.at(np.array([9, 2, 5])).at(np.array([2, 0]))
    assert torch.equal(part[:], STORED[[5, 9]])


@pytest.mark.parametrize("loaders", [0, 2])
def test_batches_come_in_order_even_from_two_streams_over_one_source_at_once(loaders: int) -> None:
    examples = Examples.of(Stream.of(Counted(), loaders=loaders), np.arange(30) % 3, scaling=Scaling(1 / 255))
    first, second = examples.at(np.arange(20)), examples.at(np.arange(10, 30))
    chunks = [torch.randperm(20, generator=torch.Generator().manual_seed(k)).split(6) for k in range(2)]
    for _ in range(3):  # the same processes, anew
        pairs = zip(first.batches(chunks[0]), second.batches(chunks[1]), strict=True)
        for (i, x, y), (j, v, w) in pairs:
            assert torch.equal(x, STORED[i] / 255) or torch.allclose(x, STORED[i] / 255)
            assert torch.allclose(v, STORED[10 + j] / 255)
            assert torch.equal(y, i % 3)
            assert torch.equal(w, (10 + j) % 3)


@pytest.mark.parametrize("seconds", [0, 5])
def test_what_cannot_be_read_is_named_when_it_is_read_into_memory(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "WORTH_LOADERS", seconds)
    with pytest.raises(UserError, match="item-13"):
        Examples.of(Stream.of(Counted(bad=13), loaders=1), np.arange(30) % 3).in_memory()


def test_a_stream_that_was_left_in_the_middle_can_be_read_again() -> None:
    examples = Examples.of(Stream.of(Counted(), loaders=1), np.arange(30) % 3)
    endless = examples.batches(iter(lambda: torch.arange(4), None))
    next(endless)
    endless.close()
    assert torch.equal(torch.cat([x for _, x, _ in examples.batches(torch.arange(30).split(7))]), STORED.float())


def test_reading_ahead_draws_nothing_from_the_random_state_of_the_caller(random_state: torch.Tensor) -> None:
    list(Stream.of(Counted(), loaders=1).chunks(torch.arange(30).split(4)))
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("loaders", [0, 1])
def test_an_item_that_cannot_be_read_is_named(loaders: int) -> None:
    stream = Stream.of(Counted(bad=13), loaders=loaders)
    with pytest.raises(UserError, match=r"data 'item-13': cannot be read \(OSError: the disk is gone\)"):
        list(stream.chunks(torch.arange(30).split(5)))
    with pytest.raises(UserError, match="item-13"):
        _ = stream[12:14]


def test_a_loader_that_dies_is_a_user_error() -> None:
    with pytest.raises(UserError, match="a process that reads the data died") as refused:
        list(Stream.of(Counted(deadly=17), loaders=1).chunks(torch.arange(30).split(5)))
    assert refused.value.field == "loaders"


def test_training_gives_the_same_weights_streamed_and_in_memory(streamed: um.Splits, held: um.Splits) -> None:
    assert isinstance(streamed.train.inputs, Stream)
    assert isinstance(held.train.inputs, torch.Tensor)
    models = [um.train(RECIPE, splits.train, seed=3) for splits in (streamed, held)]
    assert same_state(models[0].state_dict(), models[1].state_dict())
    assert torch.equal(um.predict(models[0], streamed.test), um.predict(models[1], held.test))
    assert streamed.train.fingerprint == held.train.fingerprint


def test_every_kind_of_work_gives_the_same_streamed_and_in_memory(streamed: um.Splits, held: um.Splits) -> None:
    model = um.train(RECIPE, held.train, seed=0)
    forget = held.train.ids[:5]
    for method in (um.NegGradPlus(epochs=1), um.SalUn(epochs=1)):
        new = [
            method(um.Problem(model, splits, forget, recipe=RECIPE), seed=1).state_dict() for splits in (streamed, held)
        ]
        assert same_state(*new)
    fisher = [fisher_diagonal(model, splits.train.take(forget)) for splits in (streamed, held)]
    assert same_state(*fisher)
    curved = [um.curvature(model, splits.train.take(forget)).values for splits in (streamed, held)]
    assert np.array_equal(*curved)
    copies = [
        um.find_copies(splits.train.take(forget), splits.train.drop(forget), unseen=splits.holdout)
        for splits in (streamed, held)
    ]
    assert copies[0].pairs == copies[1].pairs


def test_copies_are_found_over_several_blocks(
    streamed: um.Splits, held: um.Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unmem.requests import duplicates

    monkeypatch.setattr(duplicates, "MOST_STREAMED", 7)
    some = held.train.take(held.train.ids[[3, 8, 20]])
    same = some.at(np.arange(3))
    renamed = Examples(same.inputs, same.labels, np.array(["a", "b", "c"]), same.n_classes, same.scaling)
    found = [um.find_copies(renamed, splits.train, unseen=splits.holdout).pairs for splits in (streamed, held)]
    assert {(one.forget_id, one.retain_id) for one in found[0] if one.kind == "exact"} == set(
        zip("abc", some.ids.tolist(), strict=True)
    )
    assert {(one.forget_id, one.retain_id) for one in found[0]} == {(one.forget_id, one.retain_id) for one in found[1]}


def test_limit_flip_and_poison_work_on_streams(tree: Path, streamed: um.Splits, held: um.Splits) -> None:
    few = [um.load(tree, stream=how, limit=20, flip=0.2, seed=1) for how in ("always", "never")]
    assert few[0].train.fingerprint == few[1].train.fingerprint
    assert set(few[0].flipped) == set(few[1].flipped)
    assert torch.equal(few[0].train.inputs[:], few[1].train.inputs[:])
    relabelled = streamed.train.relabel(torch.zeros(len(streamed.train)))
    assert torch.equal(relabelled.inputs[:4], held.train.inputs[:4])
    poisoned = [scenarios.poisoned(splits, 0.1, target=1, seed=0) for splits in (streamed, held)]
    assert torch.equal(poisoned[0].data.train.inputs[:], poisoned[1].data.train.inputs[:])
    assert not torch.equal(poisoned[0].data.train.inputs[:], held.train.inputs)


def test_the_scaling_of_the_data_set_is_the_same_streamed_and_in_memory(tree: Path) -> None:
    scalings = [um.load(tree, stream=how, scaling="dataset", loaders=0).train.scaling for how in ("always", "never")]
    assert scalings[0] == scalings[1] != Scaling()


def test_streams_go_to_another_process(streamed: um.Splits) -> None:
    arrived = pickle.loads(pickle.dumps(streamed.train))
    assert arrived.fingerprint == streamed.train.fingerprint
    assert torch.equal(arrived.inputs[:3], streamed.train.inputs[:3])


def test_what_would_fill_a_quarter_of_the_memory_is_streamed_with_a_note(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 60 * 3 * 8 * 8
    monkeypatch.setattr(sources_module, "available_memory", lambda _: 4 * needed)
    assert isinstance(um.load(tree).train.inputs, torch.Tensor)
    monkeypatch.setattr(sources_module, "available_memory", lambda _: 4 * needed - 1)
    splits = um.load(tree)
    assert isinstance(splits.train.inputs, Stream)
    assert any("--stream never" in note for note in splits.notes)
    assert isinstance(um.load(tree, limit=20, stream="never").train.inputs, torch.Tensor)


def test_a_fingerprint_of_other_streams_is_by_evenly_spaced_items() -> None:
    examples = Examples.of(Stream.of(Counted(), loaders=0), np.arange(30) % 3)
    assert examples.fingerprint == Examples.of(Stream.of(Counted(), loaders=0), np.arange(30) % 3).fingerprint
    assert examples.fingerprint != examples.at(np.arange(29)).fingerprint
    brighter = examples.with_inputs(examples.inputs.changed(torch.bitwise_not, np.array([0])))
    assert brighter.fingerprint != examples.fingerprint


def test_sources_that_are_read_whole_cannot_be_streamed() -> None:
    with pytest.raises(UserError, match="stream 'always': digits does not use it"):
        um.load("digits", stream="always")


def test_no_process_is_left_when_a_stream_is_gone() -> None:
    import multiprocessing

    gc.collect()
    before = set(multiprocessing.active_children())
    stream = Stream.of(Counted(), loaders=2)
    list(stream.chunks(torch.arange(30).split(4)))
    assert len(set(multiprocessing.active_children()) - before) == 2
    del stream
    gc.collect()
    assert set(multiprocessing.active_children()) <= before
