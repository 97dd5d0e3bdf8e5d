"""What the model of a command forgot in earlier requests: left out of the data, so that nothing teaches it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from unmem import models
from unmem.cli.console import warn
from unmem.data import Examples, Ids, Splits
from unmem.errors import NothingToDoError, UserError
from unmem.models import Card, Forgotten
from unmem.store import CROSSFIT, TRACE, load_arrays
from unmem.unlearning import Problem

_NOBODY: Ids = np.empty(0, dtype="<U1")


@dataclass(frozen=True, eq=False)
class Earlier:
    """Examples that the model forgot before.

    Attributes:
        forgotten: What the model says of them; None if it forgot none.
        left_out: Ids of those that the data still held.
        known: Fingerprints of the training examples with all of them, and without, by which a model file is known to
            be of these data.
        deleted: Which examples were deleted from the files of a run that the command replaces.
    """

    forgotten: Forgotten | None = None
    left_out: Ids = field(default_factory=_NOBODY.copy)
    known: frozenset[str] = frozenset()
    deleted: Forgotten | None = None

    def new(self, names: list[str], field: str) -> list[str]:
        """The names of a request that were not forgotten before.

        Raises:
            NothingToDoError: All of them were.
        """
        if self.forgotten is None or not names:
            return names
        old = self.forgotten.marks(names)
        if old.all():
            problem = (
                f"this model forgot all {len(names):,} of them before" if len(names) > 1 else "was forgotten before"
            )
            raise NothingToDoError(field, None if len(names) > 1 else names[0], problem, "name others")
        if old.any():
            warn(f"{int(old.sum()):,} of {len(names):,} examples of the request were forgotten by this model before")
        return [name for name, known in zip(names, old, strict=True) if not known]

    def of_these(self, card: Card, train: Examples) -> bool:
        """Whether a model file is of these training examples, as they are left; one that does not say may be."""
        kept = None if card.forgotten is None else card.forgotten.kept
        return card.data is None or not self.fingerprints(train).isdisjoint({card.data, kept})

    def fingerprints(self, train: Examples) -> frozenset[str]:
        """Of training examples that count as these: as they are left, and with what was forgotten before."""
        return self.known | {train.fingerprint}

    def after(self, card: Card, problem: Problem) -> Card:
        """The card of a model once it has forgotten the examples of a request too."""
        data = card.data or problem.data.train.fingerprint
        kept = problem.retain.fingerprint
        forgotten = Forgotten.after(self.forgotten, problem.forget.ids.tolist(), data=data, kept=kept)
        return replace(card, data=data, forgotten=forgotten)


def leave_out(
    data: Splits,
    model: Path | None,
    keep: Callable[[Splits], Ids | None] | None,
    replaces: Path | None = None,
) -> tuple[Splits, Earlier]:
    """The data without the training examples that the model forgot before, and what these are.

    Args:
        data: As they were read.
        model: The model file of the command, if any.
        keep: Given the data, the ids that stay although they were forgotten: those that an audit asks about.
        replaces: A run folder that the command replaces. What was deleted from its files does not come back.
    """
    card = None if model is None else models.said_by(model)
    forgotten = None if card is None else card.forgotten
    given, deleted = data.train, _deleted(data, replaces)
    data = _without_deleted(data, deleted, replaces)
    whole = data.train
    if forgotten is None:
        return data, Earlier() if deleted is None else Earlier(known=frozenset({given.fingerprint}), deleted=deleted)
    old = forgotten.marks(whole.ids.tolist())
    asked = None if keep is None else keep(data)
    stays = np.zeros(len(whole), dtype=bool) if asked is None else np.isin(whole.ids, asked)
    left_out = whole.ids[old & ~stays]
    rest = data.without(left_out)
    known = {given.fingerprint, whole.fingerprint, whole.drop(whole.ids[old]).fingerprint}
    gone = len(forgotten) - int(old.sum())
    if len(left_out):
        warn(
            f"{len(left_out):,} examples that this model forgot before are left out; they may be deleted from the data"
        )
    if gone:
        warn(f"{gone:,} examples that this model forgot before are no longer in the data")
    return rest, Earlier(forgotten, left_out, frozenset(known), deleted)


def _deleted(data: Splits, folder: Path | None) -> Forgotten | None:
    """Of which examples the rows were deleted from the cross-fit or the trace in a folder."""
    found: Forgotten | None = None
    for name in (CROSSFIT, TRACE) if folder is not None else ():
        path = Path(folder or "", name)
        try:
            _, facts = load_arrays(path, (), option="--out", kind="of unmem", fix="choose another folder")
            one = Forgotten.read(facts.get("forgotten"))
        except (UserError, ValueError, KeyError, TypeError):
            continue
        if one is not None:
            gone = data.train.ids[one.marks(data.train.ids.tolist())]
            train = data.train
            kept = train.drop(gone).fingerprint if len(gone) else train.fingerprint
            found = Forgotten.after(found or one, gone.tolist(), data=train.fingerprint, kept=kept)
    return found


def _without_deleted(data: Splits, deleted: Forgotten | None, folder: Path | None) -> Splits:
    gone = None if deleted is None else deleted.marks(data.train.ids.tolist())
    if gone is None or not gone.any():
        return data
    warn(
        f"{int(gone.sum()):,} examples that were deleted from the files in {folder} are left out; "
        "to use them again, choose another folder"
    )
    return data.without(data.train.ids[gone])
