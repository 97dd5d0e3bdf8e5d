"""Trees of images: DIR/CLASS/IMAGE, or DIR/train/CLASS/IMAGE beside DIR/test and perhaps DIR/val.

Parts go by many names, see `parts`; what looks like a part and is not taken for one is refused.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from unmem.data.examples import Examples
from unmem.data.images import Files, pictures, suffixes
from unmem.data.parts import by_part, looks_like_part, part_of
from unmem.data.reading import Reading
from unmem.data.splits import Splits
from unmem.data.streaming import Stream
from unmem.errors import UserError

LEFT_BY_PROGRAMS = ("__MACOSX", "__pycache__", "@eaDir")


def image_folder(root: Path, how: Reading) -> Splits:
    """Images by class folder; the id of an image is its path below `root`, with slashes."""
    how.only("a folder of images", "size", "grey", "rgb", "scaling", "stream")
    parts, notes = _parts(root)
    classes = _folders(parts["train"])
    if not classes:
        raise UserError("data", str(root), "has no class folders", "lay images out as DIR/CLASS/IMAGE")
    found = {part: _images(root, folder, classes) for part, folder in parts.items()}
    names = np.array([name for images, _, _ in found.values() for name in images], dtype=np.str_)
    encoded, marks, seen = pictures(Files(root, names), names, how)
    examples: dict[str, Examples] = {}
    for part, (images, labels, _) in found.items():
        examples[part] = Examples.of(np.arange(len(images)), labels, ids=images, n_classes=len(classes))
    ignored = sum(others for _, _, others in found.values())
    notes += seen
    notes += (f"{ignored:,} files in {root} are no images and were left out",) if ignored else ()
    splits = Splits.of_parts(
        _shown(root.resolve().name), _numbered(examples), classes=tuple(classes), parting=how.parting
    )
    splits = splits.filled(Stream.of(encoded, loaders=how.loaders), scaling=encoded.form.scaling, marks=marks)
    return replace(splits, notes=tuple(map(_shown, notes)), order=splits.train.ids[:0])


def _numbered(parts: dict[str, Examples]) -> dict[str, Examples]:
    """Row numbers as inputs, that go on from one part to the next."""
    numbered: dict[str, Examples] = {}
    first = 0
    for name, part in parts.items():
        numbered[name] = part.with_inputs(part.inputs[:] + first)
        first += len(part)
    return numbered


def _parts(root: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The folder of each part, the root itself where no folder is a training set; and notes."""
    names = _folders(root)
    layered = [name for name in names if _folders(root / name)]
    found = by_part(layered, source=str(root))
    if "train" not in found:
        _no_parts_among_classes(root, names, layered)
        return {"train": root}, ()
    others = [name for name in names if name not in found.values()]
    unsure = [name for name in others if name in layered and looks_like_part(name)]
    if unsure:
        raise UserError(
            "data",
            str(root / unsure[0]),
            f"looks like a part of the data set beside {', '.join(found.values())}, and is none that is known",
            "name it train, val or test, or move it elsewhere",
        )
    flat = [name for name in others if part_of(name)]
    notes = [f"{root / name} has no class folders and was left out" for name in flat]
    others = [name for name in others if name not in flat]
    notes += (
        [f"folders of {root} that are no part of the data set were left out: {', '.join(others)}"] if others else []
    )
    return {part: root / name for part, name in found.items()}, tuple(notes)


def _no_parts_among_classes(root: Path, names: list[str], layered: list[str]) -> None:
    """Refuse class folders that are parts by their names. "train" alone, with images in it, may be a vehicle."""
    unsure = [name for name in names if (part_of(name) if name not in layered else looks_like_part(name))]
    if [part_of(name) for name in unsure if name not in layered] == ["train"] and len(unsure) == 1:
        return
    if unsure:
        raise UserError(
            "data",
            str(root / unsure[0]),
            "looks like a part of a data set and not like a class, and there is no folder train with class folders",
            "lay images out as DIR/train/CLASS/IMAGE and DIR/test/CLASS/IMAGE, or rename the class",
        )


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not _is_hidden(path.name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in LEFT_BY_PROGRAMS


def _files(folder: Path) -> list[Path]:
    """All files at any depth, also behind links, but for hidden ones and those in hidden folders."""
    found: list[Path] = []
    seen: set[str] = set()
    for where, below, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:  # a link to a folder above it
            below.clear()
            continue
        seen.add(real)
        below[:] = [name for name in below if not _is_hidden(name)]
        found += [Path(where) / name for name in names if not _is_hidden(name)]
    return sorted(found)


def _images(root: Path, folder: Path, classes: list[str]) -> tuple[list[str], list[int], int]:
    """Names below the root, labels, and the number of other files."""
    known = suffixes()
    unknown = sorted(set(_folders(folder)) - set(classes))
    if unknown:
        raise UserError(
            "data", str(folder / unknown[0]), "is a class that the training set does not have", "rename or remove it"
        )
    names: list[str] = []
    labels: list[int] = []
    others = 0
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            continue
        _no_parts_within(folder / name)
        files = _files(folder / name)
        images = [_id(path.relative_to(root)) for path in files if path.suffix.lower() in known]
        if not images:
            raise UserError("data", str(folder / name), "the class folder has no images", "fill or remove it")
        names += images
        labels += [label] * len(images)
        others += len(files) - len(images)
    if not names:
        raise UserError("data", str(folder), "has no images in class folders", "lay images out as DIR/CLASS/IMAGE")
    return names, labels, others


def _no_parts_within(folder: Path) -> None:
    within = [name for name in _folders(folder) if part_of(name)]
    if within:
        raise UserError(
            "data",
            str(folder / within[0]),
            "looks like a part of a data set within a class",
            "lay images out as DIR/train/CLASS/IMAGE and DIR/test/CLASS/IMAGE",
        )


def _id(path: Path) -> str:
    name = path.as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        problem = "the file name is not UTF-8, so that it can be no id"
        raise UserError("data", _shown(name), problem, "rename it") from error
    return name


def _shown(text: str) -> str:
    """A text that can be printed, also where file names in it are not UTF-8."""
    return text.encode(errors="backslashreplace").decode()
