"""Which examples each member of an ensemble is trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unmem.errors import UserError

Mask = NDArray[np.bool_]


def leave_out_masks(n: int, members: int, *, keep: float, seed: int, unit: Sequence[object] | None = None) -> Mask:
    """Draw random and balanced subsets.

    Each unit is left out of exactly round((1 − keep) · members) members, and the numbers of units that members leave
    out differ by at most one.

    Args:
        n: Number of examples.
        members: Number of members.
        keep: Share of the examples that each member keeps.
        seed: Seed of the draw.
        unit: [n] value per example, such as a user, source or duplicate cluster. Examples with the same value are left
            out together. None: each example is a unit.

    Returns:
        [members, n] bool, True where a member keeps an example.
    """
    out = round((1 - keep) * members)
    if not 0 < out < members:
        raise UserError(
            "members",
            members,
            f"with keep {keep} every example would be in {'all' if out <= 0 else 'none'} of them",
            "use more members, or keep a share nearer to one half",
        )
    if unit is not None and len(unit) != n:
        raise UserError("unit", len(unit), f"there are {n} examples", "name the unit of each example")
    names, group = np.unique(np.arange(n) if unit is None else np.asarray(unit), return_inverse=True)
    random = np.random.default_rng(seed)
    load = np.zeros(members)
    left_out = np.zeros((members, len(names)), dtype=bool)
    for one in random.permutation(len(names)):
        # The members that left out fewest so far, ties at random.
        chosen = np.lexsort((random.random(members), load))[:out]
        left_out[chosen, one] = True
        load[chosen] += 1
    _mix(left_out, random)
    return ~left_out[:, group]


def _mix(left_out: Mask, random: np.random.Generator) -> None:
    """Exchange units between pairs of members, in place, keeping every count of units and of members.

    Balancing one after another keeps units that followed each other apart: some would never be left out together.
    """
    members = len(left_out)
    for _ in range(5 * members):
        a, b = random.choice(members, 2, replace=False)
        differ = np.flatnonzero(left_out[a] != left_out[b])
        to_a = random.permutation(len(differ)) < left_out[a, differ].sum()
        left_out[a, differ], left_out[b, differ] = to_a, ~to_a


def complementary_masks(n: int, members: int, *, seed: int) -> Mask:
    """Draw random halves and their complements, so that every example is in exactly half of the members.

    Args:
        n: Number of examples.
        members: Number of members, even.
        seed: Seed of the draw.

    Returns:
        [members, n] bool, True where a member keeps an example.
    """
    if members < 2 or members % 2:
        raise UserError("members", members, "halves come in pairs", "give an even number")
    random = np.random.default_rng(seed)
    half = np.zeros((members // 2, n), dtype=bool)
    for row in half:
        row[random.permutation(n)[: n // 2]] = True
    return np.stack([half, ~half], axis=1).reshape(members, n)


def fold_masks(labels: Tensor, folds: int, *, seed: int) -> Mask:
    """Stratified folds, [folds, n]: member k keeps all but fold k, and every example is left out exactly once."""
    n = len(labels)
    if not 2 <= folds <= n:
        raise UserError("folds", folds, f"{n} examples cannot be cut in as many folds", "give 2 or more")
    random = np.random.default_rng(seed)
    shuffled = random.permutation(n)
    order = shuffled[np.argsort(labels.cpu().numpy()[shuffled], kind="stable")]
    fold = np.empty(n, dtype=np.int64)
    fold[order] = np.arange(n) % folds
    return fold[None, :] != np.arange(folds)[:, None]
