"""Hugging Face data sets: saved in a folder, from the hub, and image sets of papers by their names."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unmem.data.images import PIXELS, pictures
from unmem.data.layout import Rows
from unmem.data.parts import by_part
from unmem.data.reading import Reading
from unmem.data.scaling import Scaling, named_scalings
from unmem.data.splits import Splits
from unmem.data.streaming import Stream
from unmem.data.tablelabels import usual_label
from unmem.data.tables import USES, splits_of
from unmem.data.unlabelled import check_classes, check_train, unlabelled
from unmem.errors import UserError
from unmem.extras import imported
from unmem.plainfiles import below, open_plain, read_json

SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` leaves in a folder


@dataclass(frozen=True)
class Named:
    """A set on the hub: its address, the configuration, the label column, and the scaling of the papers."""

    address: str
    config: str | None
    label: str
    scaling: str


NAMED = {
    "cifar10": Named("uoft-cs/cifar10", None, "label", "cifar10"),
    "cifar100": Named("uoft-cs/cifar100", None, "fine_label", "cifar100"),
    "svhn": Named("ufldl-stanford/svhn", "cropped_digits", "label", "svhn"),
    "tiny-imagenet": Named("zh-plus/tiny-imagenet", None, "label", "imagenet"),
}


def named(name: str, how: Reading) -> Splits:
    """One of `NAMED`, from the hub or from a folder made by `save_to_disk` or with the parquet files of the hub."""
    how.only(name, "folder", "id", "scaling", "stream", "size", "grey", "rgb")
    one = NAMED[name]
    found = _from_hub(name, one.address, one.config) if how.folder is None else _from_folder(Path(how.folder))
    roots = _downloads() if how.folder is None else (Path(how.folder),)
    scaling = named_scalings(1 if how.grey else 3).get(one.scaling, PIXELS)
    return of_datasets(name, found, replace(how, folder=None, label=one.label), pixels=scaling, roots=roots)


def saved(folder: Path, how: Reading) -> Splits:
    """A `Dataset` or `DatasetDict` in a folder made by `save_to_disk`."""
    return of_datasets(folder.resolve().name, _loaded(folder), how, roots=(folder,))


def from_hub(name: str, how: Reading) -> Splits:
    """`hf:NAME` or `hf:NAME/CONFIG`, where the name may have an owner: `hf:OWNER/NAME/CONFIG`."""
    pieces = name.removeprefix("hf:").split("/")
    if len(pieces) > 3 or not all(pieces):
        raise UserError("data", name, "is no name on the hub", "write hf:OWNER/NAME or hf:OWNER/NAME/CONFIG")
    if len(pieces) == 3:
        return of_datasets(name, _from_hub(name, "/".join(pieces[:2]), pieces[2]), how, roots=_downloads())
    try:
        return of_datasets(name, _from_hub(name, "/".join(pieces), None), how, roots=_downloads())
    except UnreachableError:
        if len(pieces) == 1:
            raise
        return of_datasets(name, _from_hub(name, *pieces), how, roots=_downloads())


def _downloads() -> tuple[Path, ...]:
    """The folders that hold what came from the hub, also images that its tables name by path."""
    return (
        Path(imported("datasets", field="data").config.HF_DATASETS_CACHE),
        Path(imported("huggingface_hub", field="data").constants.HF_HUB_CACHE),
    )


class UnreachableError(UserError):
    """The hub has no such set, or cannot be reached."""


def _from_hub(name: str, address: str, config: str | None) -> Any:
    datasets = imported("datasets", field="data")
    try:
        return datasets.load_dataset(address, config)
    except Exception as error:  # of many kinds: no network, no such set, a configuration that is missing, …
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnreachableError(
            "data",
            name,
            f"cannot be had from the hub ({reason})",
            "check the name and the network, or save it to a folder by save_to_disk and name that",
        ) from error


def _from_folder(folder: Path) -> Any:
    if is_saved(folder):
        return _loaded(folder)
    from pyarrow import ArrowException, parquet

    datasets = imported("datasets", field="data")
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        files.setdefault(path.name.split("-")[0].removesuffix(".parquet"), []).append(path)
    if not files:
        raise UserError(
            "folder", str(folder), "has no parquet files and was not made by save_to_disk", "check the path"
        )
    try:
        for path in (one for paths in files.values() for one in paths):
            open_plain(path).close()
        return {part: datasets.Dataset(parquet.read_table(paths)) for part, paths in files.items()}
    except (ArrowException, OSError, ValueError) as error:
        raise UserError(
            "folder", str(folder), f"cannot be read ({str(error).splitlines()[0]})", "fetch it again"
        ) from error


def is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in SAVED)


def _loaded(folder: Path) -> Any:
    datasets = imported("datasets", field="data")
    try:
        _check_state(folder)
        return datasets.load_from_disk(str(folder))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            "data", str(folder), f"cannot be read as a Hugging Face data set ({reason})", "save it by save_to_disk"
        ) from error


def _check_state(folder: Path) -> None:
    """Refuse a saved data set whose state names files or parts outside of its folder, or what is no file."""
    state, parts = folder / "state.json", folder / "dataset_dict.json"
    for one in read_json(state)["_data_files"] if state.is_file() else ():
        open_plain(_within(one["filename"], folder)).close()
    for part in read_json(parts)["splits"] if parts.is_file() else ():
        _check_state(_within(part, folder))


def _within(name: str, *folders: Path) -> Path:
    """The place that a name written in data stands for. Raises `ValueError` if it is below none of the folders."""
    place = next((one for folder in folders if (one := below(folder, name)) is not None), None)
    if place is None:
        raise ValueError(f"it names {name[:200]!r}, which is outside of its folder")
    return place


def of_datasets(
    name: str, found: Any, how: Reading, *, pixels: Scaling = PIXELS, roots: tuple[Path, ...] = ()
) -> Splits:
    """Splits of a `Dataset`, or of several by part. Inputs are the images, the text column, or all other columns.

    roots: folders that paths in cells must stay below; none for a user's own object, whose paths are the user's.
    """
    parts, left_out = _parts(name, dict(found) if isinstance(found, Mapping) else {"train": found})
    notes = (f"the parts {', '.join(left_out)} of {name} were left out",) if left_out else ()
    how, classes = _labelled(parts["train"].features, how)
    parts, more = _with_labels(name, parts, how)
    notes += (*more, *_transforms(name, parts))
    images = _image_columns(parts["train"].features, how)
    tables = {part: rows.remove_columns(images).with_format("arrow")[:] for part, rows in parts.items()}
    if how.text is not None or not images:
        how.only("a Hugging Face data set without images", *[one for one in USES if one != "test"])
        splits = splits_of(name, tables, how, classes)
        if len(parts) > 1:
            check_classes(splits.parts)
        return replace(splits, notes=(*splits.notes, *notes))
    how.only("a Hugging Face data set of images", "label", "id", "drop", "size", "grey", "rgb", "scaling", "stream")
    if len(images) > 1:
        raise UserError("data", name, f"has several image columns: {', '.join(images)}", "--drop all but one")
    rows = Rows.of_tables(name, tables, how, classes)
    if len(parts) > 1:
        check_classes(rows.splits.parts)
    ids = np.concatenate([part.ids for part in rows.splits.parts.values()])
    numbers = np.concatenate([part.inputs[:].numpy() for part in rows.splits.parts.values()])
    names = np.empty(len(ids), dtype=ids.dtype)
    names[rows.order[numbers]] = ids
    encoded, marks, seen = pictures(Cells.of(parts, images[0], roots), names, how)
    stream = Stream.of(encoded, loaders=how.loaders).at(rows.order)
    scaling = pixels if encoded.form.depth == "bytes" else encoded.form.scaling
    return replace(
        rows.splits.filled(stream, scaling=scaling, marks=marks[rows.order]), notes=(*rows.splits.notes, *notes, *seen)
    )


def _parts(name: str, found: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Those with a meaning here, by that, and the names of the others."""
    parts = by_part(found, source=name)
    if "train" not in parts:
        if len(found) != 1:
            raise UserError("data", name, f"has no part called train (it has {', '.join(found)})", "rename one")
        parts = {"train": next(iter(found))}
    return {part: found[one] for part, one in parts.items()}, [one for one in found if one not in parts.values()]


def _with_labels(name: str, parts: dict[str, Any], how: Reading) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Parts whose examples all have labels, and notes on the others. The training set must have them."""
    label = how.label or usual_label(parts["train"].column_names)
    bare: list[str] = []
    for part, rows in parts.items():
        if label not in rows.column_names:
            continue
        missing = unlabelled(rows.select_columns([label]).with_format("arrow")[:][label].to_pylist())
        if part == "train":
            check_train(missing)
        elif missing:
            bare.append(part)
    kept = {part: rows for part, rows in parts.items() if part not in bare}
    return kept, tuple(f"{part} of {name} has examples without a label and was left out" for part in bare)


def _transforms(name: str, parts: dict[str, Any]) -> tuple[str, ...]:
    """Notes on functions that would change the examples when they are read."""
    changed = [part for part, rows in parts.items() if rows.format["type"] == "custom"]
    if not changed:
        return ()
    return (f"the transform of {name} ({', '.join(changed)}) is not applied: its columns are read as they are",)


def _labelled(features: Mapping[str, Any], how: Reading) -> tuple[Reading, tuple[str, ...]]:
    """The label column, found by its type if it is not named, and the names of its classes."""
    datasets = imported("datasets", field="data")
    typed = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    if how.label is None and len(typed) > 1:
        raise UserError("label", None, f"several columns hold classes: {', '.join(typed)}", "name one by --label")
    if how.label is None and typed:
        how = replace(how, label=typed[0])
    return how, tuple(features[how.label].names) if how.label in typed else ()


def _image_columns(features: Mapping[str, Any], how: Reading) -> list[str]:
    """Columns of images, also those that a parquet file has as bytes and path without saying what they are."""
    datasets = imported("datasets", field="data")
    return [
        name
        for name, kind in features.items()
        if (isinstance(kind, datasets.Image) or (isinstance(kind, dict) and "bytes" in kind))
        and name not in how.dropped
    ]


@dataclass(frozen=True)
class Cells:
    """The encoded images in a column of data sets, one after the other.

    ends: where each data set ends. roots: folders that paths in cells stay below; if there are none, they may lead
    anywhere.
    """

    datasets: tuple[Any, ...]
    ends: tuple[int, ...]
    column: str
    roots: tuple[Path, ...] = ()

    @classmethod
    def of(cls, parts: Mapping[str, Any], column: str, roots: tuple[Path, ...] = ()) -> Cells:
        image = imported("datasets", field="data").Image
        chosen = [rows.select_columns([column]).with_format(None) for rows in parts.values()]
        undecoded = [
            rows.cast_column(column, image(decode=False)) if isinstance(rows.features[column], image) else rows
            for rows in chosen
        ]
        return cls(tuple(undecoded), tuple(np.cumsum([len(rows) for rows in chosen]).tolist()), column, roots)

    def open(self, k: int) -> BinaryIO:
        which = int(np.searchsorted(self.ends, k, side="right"))
        rows = self.datasets[which]
        cell = rows[k - self.ends[which] + len(rows)][self.column]
        if cell["bytes"] is not None:
            return io.BytesIO(cell["bytes"])
        return open_plain(_within(cell["path"], *self.roots) if self.roots else cell["path"])
