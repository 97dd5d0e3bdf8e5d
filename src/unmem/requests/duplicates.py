"""Copies of forget examples in the retain set, which preserve their influence even in a retrained model.

Exact copies have the same decoded input. A near copy is a retained example that is much nearer than chance: nearer than
half of the distance within which the nearest 1% of unseen examples find a neighbour. Distances are Euclidean between
inputs. Images are compared irrespective of brightness and contrast, and of shifts by one pixel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmem.data import Examples, Ids, stratified_sample

Keys = NDArray[np.uint64]

NULL_SHARE = 0.01
MARGIN = 0.5
MOST_UNSEEN = 1000
BLOCK = 512
FEW_PAIRS = 2**28  # with more pairs of examples, distances are computed only where they may be small
TILE = (256, 4096)  # examples of the request and retained ones whose distances are computed at a time
KEYED = 4096  # examples whose keys are computed at a time
MOST_STREAMED = 8192  # examples of a stream that are compared at a time


@dataclass(frozen=True)
class Copy:
    """A retained example that is a copy of a forget example.

    Attributes:
        forget_id: Id of the forget example.
        retain_id: Id of the retained example.
        kind: "exact" or "near".
        distance: Distance as a share of the largest distance of a near copy; 0 = exact.
        same_label: Whether both have the same label.
    """

    forget_id: str
    retain_id: str
    kind: Literal["exact", "near"]
    distance: float
    same_label: bool


@dataclass(frozen=True)
class Copies:
    """All pairs found, exact ones first.

    Attributes:
        pairs: The pairs.
    """

    pairs: tuple[Copy, ...] = ()

    def __len__(self) -> int:
        return len(self.pairs)

    def __repr__(self) -> str:
        counts = self.counts
        return f"Copies({counts['exact']:,} exact pairs, {counts['near']:,} near)"

    @property
    def retain_ids(self) -> Ids:
        """Ids of the retained examples that are copies, each once."""
        return np.unique(np.array([one.retain_id for one in self.pairs], dtype=np.str_))

    @property
    def counts(self) -> dict[str, int]:
        """Counts for a report, without ids."""
        return {
            "forget_examples_with_copies": len({one.forget_id for one in self.pairs}),
            "exact": sum(one.kind == "exact" for one in self.pairs),
            "near": sum(one.kind == "near" for one in self.pairs),
            "with_another_label": sum(not one.same_label for one in self.pairs),
        }


def find_copies(forget: Examples, retain: Examples, *, unseen: Examples) -> Copies:
    """Find exact and near copies of forget examples in the retain set; for texts, exact ones only.

    Time grows with |S| · |R|. Retained examples that are a stream are read in blocks, twice.

    Args:
        forget: The forget set S.
        retain: The retain set R.
        unseen: Other examples, which show how near neighbours are by chance. If empty, only exact copies are found.

    Returns:
        The pairs, exact copies first.
    """
    forget = forget.in_memory()
    exact = _exact(forget, retain)
    if _coded(retain) or len(unseen) == 0:
        return Copies(tuple(exact))
    known = {(one.forget_id, one.retain_id) for one in exact}
    near = [one for one in _near(forget, retain, unseen) if (one.forget_id, one.retain_id) not in known]
    return Copies((*exact, *near))


def shared_inputs(examples: Examples, others: Examples) -> NDArray[np.bool_]:
    """[N], whether an example has exactly the input of one of the others."""
    if len(examples) == 0 or len(others) == 0:
        return np.zeros(len(examples), dtype=bool)
    ours, theirs = _keys(examples), _keys(others)
    maybe = np.flatnonzero(_among(ours, theirs))
    if len(maybe):
        known = {_digest(content) for content in _contents(others, np.flatnonzero(_among(theirs, ours[maybe])))}
        maybe = maybe[np.array([_digest(content) in known for content in _contents(examples, maybe)], dtype=bool)]
    found = np.zeros(len(examples), dtype=bool)
    found[maybe] = True
    return found


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _among(keys: Keys, others: Keys) -> NDArray[np.bool_]:
    """Whether each key is one of the others; several times as fast as `numpy.isin`."""
    known = np.sort(others)
    return known[np.minimum(np.searchsorted(known, keys), len(known) - 1)] == keys if len(known) else keys != keys


def _keys(examples: Examples) -> Keys:
    """[N], equal where inputs are equal, and hardly ever elsewhere: Σ word_k · odd number_k modulo 2⁶⁴."""
    found = [np.empty(0, np.uint64)]
    for _, block in _blocks(examples):
        rows: NDArray[Any] = block.inputs[:].cpu().contiguous().numpy()
        for start in range(0, len(rows), KEYED):
            part = np.ascontiguousarray(rows[start : start + KEYED]).reshape(len(rows[start : start + KEYED]), -1)
            raw = part.view(np.uint8)
            words = np.pad(raw, ((0, 0), (0, -raw.shape[1] % 8))).view(np.uint64)
            found.append((words * _odd_numbers(words.shape[1])).sum(1, dtype=np.uint64))
    return np.concatenate(found)


@cache
def _odd_numbers(count: int) -> NDArray[np.uint64]:
    return np.random.default_rng(0).integers(0, 2**63, count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def _coded(examples: Examples) -> bool:
    """Whether inputs are numbers that stand for something, such as token ids: there is no distance between them."""
    return examples.scaling is None and not examples.inputs.dtype.is_floating_point


def _exact(forget: Examples, retain: Examples) -> list[Copy]:
    wanted = list(_contents(forget))
    by_content: dict[bytes, list[int]] = {content: [] for content in wanted}
    if wanted:
        maybe = np.flatnonzero(_among(_keys(retain), _keys(forget)))
        for j, content in zip(maybe.tolist(), _contents(retain, maybe), strict=True):
            if content in by_content:
                by_content[content].append(j)
    return [
        Copy(str(forget.ids[i]), str(retain.ids[j]), "exact", 0.0, bool(forget.labels[i] == retain.labels[j]))
        for i, content in enumerate(wanted)
        for j in by_content[content]
    ]


def _contents(examples: Examples, which: NDArray[np.int64] | None = None) -> Iterator[bytes]:
    """The inputs as bytes; which: their positions, in rising order, or all of them."""
    for first, block in _blocks(examples):
        rows = block.inputs[:].cpu().contiguous().numpy()
        if which is None:
            yield from (row.tobytes() for row in rows)
        else:
            here = which[(which >= first) & (which < first + len(rows))] - first
            yield from (rows[k].tobytes() for k in here.tolist())


def _blocks(examples: Examples) -> Iterator[tuple[int, Examples]]:
    """All of them at once, or what is streamed in parts that fit into memory, with the position of their first one."""
    if isinstance(examples.inputs, Tensor):
        yield 0, examples
        return
    for start in range(0, len(examples), MOST_STREAMED):
        yield start, examples.at(np.arange(start, min(start + MOST_STREAMED, len(examples)))).in_memory()


def _near(forget: Examples, retain: Examples, unseen: Examples) -> Iterator[Copy]:
    limit = MARGIN * float(torch.quantile(_nearest_by_chance(retain, unseen), NULL_SHARE))
    if limit == 0:
        return
    if len(forget) * len(retain) > FEW_PAIRS:
        yield from _near_of_many(forget, retain, limit)
        return
    for first, block in _blocks(retain):
        for start, distances in _distances(forget, _flat(block)):
            for i, j in torch.nonzero(distances < limit).tolist():
                same = bool(forget.labels[start + i] == block.labels[j])
                share = float(distances[i, j]) / limit
                yield Copy(str(forget.ids[start + i]), str(retain.ids[first + j]), "near", share, same)


def _nearest_by_chance(retain: Examples, unseen: Examples) -> Tensor:
    """The distance from each of some unseen examples to the nearest retained one."""
    some = stratified_sample(unseen, min(len(unseen), MOST_UNSEEN), seed=0).in_memory()
    found: Tensor | None = None
    if len(some) * len(retain) > FEW_PAIRS:
        squares = torch.full((len(some),), torch.inf, device=some.device)
        for _, start, tile, _ in _squares(some, retain):
            part = slice(start, start + len(tile))
            squares[part] = torch.minimum(squares[part], tile.amin(1))
        return squares.clamp(min=0).sqrt()
    for _, block in _blocks(retain):
        nearest = torch.cat([distances.amin(1) for _, distances in _distances(some, _flat(block))])
        found = nearest if found is None else torch.minimum(found, nearest)
    assert found is not None
    return found


def _near_of_many(forget: Examples, retain: Examples, limit: float) -> Iterator[Copy]:
    """The same, each distance being computed only where its square, by a product of matrices, may be small enough."""
    # What single precision may lose: a and b are near, so |b|² is about |a|².
    squares = _flat(forget).square().sum(1)
    most = (limit**2 * 1.001 + 1e-5 * (squares.sqrt() + limit).square())[:, None]
    for first, start, tile, rows in _squares(forget, retain):
        allowed = most[start : start + len(tile)]
        if bool((tile.amin(1, keepdim=True) >= allowed).all()):
            continue
        for pairs in torch.nonzero(tile < allowed).split(TILE[1]):
            i, j = pairs.T
            moved = (one.double() - rows[j].double() for one in _moved(forget, start + i))
            found = torch.stack([one.square().sum(1) for one in moved]).amin(0).sqrt()
            for (row, column), distance in zip(pairs.tolist(), found.tolist(), strict=True):
                if distance < limit:
                    at, other = start + row, first + column
                    same = bool(forget.labels[at] == retain.labels[other])
                    yield Copy(str(forget.ids[at]), str(retain.ids[other]), "near", distance / limit, same)


def _squares(examples: Examples, others: Examples) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """Tiles of squared distances, each by one product of matrices: (−2a, |a|², 1) · (b, 1, |b|²).

    Gives the position of a tile's first column among the others, that of its first row among the examples, the tile,
    and the flat inputs of its columns.
    """
    for first, block in _blocks(others):
        for column in range(0, len(block), TILE[1]):
            index = torch.arange(column, min(column + TILE[1], len(block)), device=block.device)
            rows = _flat(block, index)
            right = torch.cat([rows, torch.ones_like(rows[:, :1]), rows.square().sum(1, keepdim=True)], 1).T
            for start in range(0, len(examples), TILE[0]):
                best: Tensor | None = None
                for moved in _moved(examples, torch.arange(start, min(start + TILE[0], len(examples)))):
                    left = torch.cat(
                        [-2 * moved, moved.square().sum(1, keepdim=True), torch.ones_like(moved[:, :1])], 1
                    )
                    found = left @ right
                    best = found if best is None else torch.minimum(best, found)
                if best is not None:
                    yield first + column, start, best, rows


def _distances(examples: Examples, rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Blocks of [b, |rows|] distances with the position of their first row."""
    squares = (rows**2).sum(1)
    size = max(1, BLOCK * 1000 // max(1, len(rows)))
    for start in range(0, len(examples), size):
        index = torch.arange(start, min(start + size, len(examples)))
        best: Tensor | None = None
        for moved in _moved(examples, index):
            found = (moved**2).sum(1)[:, None] + squares - 2 * moved @ rows.T
            best = found if best is None else torch.minimum(best, found)
        if best is not None:
            yield start, best.clamp(min=0).sqrt()


def _moved(examples: Examples, index: Tensor) -> Iterator[Tensor]:
    """The flat inputs, and for images the same shifted by one pixel in each of eight directions."""
    inputs, _ = examples.batch(index.to(examples.device))
    if inputs.ndim != 4:
        yield inputs.flatten(1)
        return
    padded = torch.nn.functional.pad(inputs, (1, 1, 1, 1), mode="replicate")
    height, width = inputs.shape[2:]
    for down in range(3):
        for right in range(3):
            yield _levelled(padded[:, :, down : down + height, right : right + width])


def _flat(examples: Examples, index: Tensor | None = None) -> Tensor:
    """The flat inputs, of some positions or all."""
    inputs, _ = examples.batch(torch.arange(len(examples), device=examples.device) if index is None else index)
    return _levelled(inputs) if inputs.ndim == 4 else inputs.flatten(1)


def _levelled(images: Tensor) -> Tensor:
    """Flat images of mean 0 and length 1."""
    flat = images.flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    return centred / centred.norm(dim=1, keepdim=True).clamp(min=1e-6)
