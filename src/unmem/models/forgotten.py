"""What a model says of the examples that it forgot: enough to know them again, and not who they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

_SIZE = 16  # bytes of a hash: of a million ids, two are alike with a chance of 1e-27


@dataclass(frozen=True)
class Forgotten:
    """The examples that a model forgot, all requests together.

    A hash tells whether an example that somebody names was forgotten; it gives no list of names. Whoever has the file
    and a guess can test the guess.

    Attributes:
        key: Of the hashes, in hexadecimal; data of other examples have another.
        hashes: Of the ids, in hexadecimal, sorted.
        kept: Fingerprint of the training examples that are left.
    """

    key: str
    hashes: tuple[str, ...]
    kept: str

    def __len__(self) -> int:
        return len(self.hashes)

    def marks(self, ids: Iterable[str]) -> NDArray[np.bool_]:
        """[N] whether each of these ids was forgotten."""
        known = set(self.hashes)
        return np.array([hashed(name, self.key) in known for name in ids], dtype=bool)

    @classmethod
    def after(cls, before: Self | None, ids: Iterable[str], *, data: str, kept: str) -> Self:
        """With the ids of one more request.

        Args:
            before: What was forgotten before; None at the first request.
            ids: Of the request.
            data: Fingerprint of all training examples, from which the key is made: the same run gives the same file.
            kept: As the attribute.
        """
        key = hashlib.blake2b(data.encode(), digest_size=_SIZE).hexdigest() if before is None else before.key
        old = () if before is None else before.hashes
        return cls(key, tuple(sorted({*old, *(hashed(name, key) for name in ids)})), kept)

    @classmethod
    def read(cls, fields: Mapping[str, Any] | None) -> Self | None:
        """From plain values, as `dataclasses.asdict` gives them.

        Raises:
            ValueError, KeyError, TypeError: They are none.
        """
        if fields is None:
            return None
        key, hashes, kept = fields["key"], fields["hashes"], fields["kept"]
        if len(bytes.fromhex(key)) > hashlib.blake2b.MAX_KEY_SIZE or isinstance(hashes, str):
            raise ValueError("not the hashes of ids")
        return cls(key, tuple(map(str, hashes)), str(kept))


def hashed(name: str, key: str) -> str:
    return hashlib.blake2b(str(name).encode(), key=bytes.fromhex(key), digest_size=_SIZE).hexdigest()


def deletion_facts(moved: Sequence[str], forgotten: Forgotten | None) -> dict[str, Any]:
    """What a file of rows says of those that were deleted, as plain values: where they are now, and which they were."""
    facts: dict[str, Any] = {"moved": list(moved)} if moved else {}
    return facts if forgotten is None else facts | {"forgotten": asdict(forgotten)}


def deletions_in(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The fields `moved` and `forgotten` from what `deletion_facts` gave. Raises as `Forgotten.read`."""
    return {"moved": tuple(facts.get("moved", ())), "forgotten": Forgotten.read(facts.get("forgotten"))}
