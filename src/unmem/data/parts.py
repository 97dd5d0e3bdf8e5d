"""Names of the parts of a data set: how sources call a training set, a test set and a validation set."""

from __future__ import annotations

from collections.abc import Iterable

from unmem.errors import UserError

NAMES = {
    "train": ("train", "training", "trn"),
    "test": ("test", "testing", "tst", "eval", "evaluation"),
    "holdout": ("val", "valid", "validation", "validate", "dev", "development", "holdout"),
}
_ENDINGS = ("sets", "set", "data", "split", "images", "imgs")


def part_of(name: str) -> str | None:
    """Which part a name means, whatever its case: "Training", "test_set" and "VAL" are train, test and holdout."""
    plain = _plain(name)
    bare = next((plain.removesuffix(one) for one in _ENDINGS if plain.endswith(one)), plain)
    return next((part for part, names in NAMES.items() if {plain, bare} & set(names)), None)


def looks_like_part(name: str) -> bool:
    """Whether a name means a part, or a part and something else: "train2", "old_test", "val-images-small"."""
    words = "".join(c if c.isalpha() else " " for c in name).split()
    return part_of(name) is not None or any(part_of(word) is not None for word in words)


def by_part(names: Iterable[str], *, source: str) -> dict[str, str]:
    """The name of each part that is there. Two names for one part are refused."""
    found: dict[str, str] = {}
    for name in names:
        part = part_of(name)
        if part is None:
            continue
        if part in found:
            what = "validation" if part == "holdout" else part
            raise UserError(
                "data", source, f"{found[part]} and {name} are both names of a {what} set", "keep or rename one"
            )
        found[part] = name
    return {part: found[part] for part in NAMES if part in found}


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c not in "_- ")
