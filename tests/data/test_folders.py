"""Trees of images, written by the tests; every pixel of every image is compared."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unmem as um
from tests.data.files import CLASSES, image_tree, picture
from unmem.errors import UserError


def whole(part: um.Examples, root: Path) -> bool:
    """Whether each image is that of the file its id names, under the label of its folder."""
    for stored, label, name in zip(part.inputs[:], part.labels.tolist(), part.ids, strict=True):
        pixels = np.asarray(Image.open(root / name))
        if CLASSES[label] not in name or not np.array_equal(np.moveaxis(stored.numpy(), 0, -1).squeeze(), pixels):
            return False
    return True


def test_class_folders_are_split_in_three_under_ids_that_are_paths(tmp_path: Path) -> None:
    splits = um.load(image_tree(tmp_path / "pets"))
    assert splits.name == "pets"
    assert splits.classes == CLASSES
    assert set.union(*(set(part.ids) for part in splits.parts.values())) == {
        f"{name}/{number:03}.png" for name in CLASSES for number in range(12)
    }
    assert all(whole(part, tmp_path / "pets") for part in splits.parts.values())
    x, _ = splits.train.batch(torch.arange(len(splits.train)))
    assert (float(x.min()), float(x.max())) == (-1.0, pytest.approx(1.0))


@pytest.mark.parametrize(
    ("extra", "sizes"),
    [((), None), (("test",), (36, 18, 18)), (("val",), (36, 18, 18)), (("test", "valid"), (36, 36, 36))],
)
def test_folders_of_parts_keep_the_training_set(tmp_path: Path, extra: tuple[str, ...], sizes: tuple | None) -> None:
    for k, part in enumerate(("train", *extra)):
        image_tree(tmp_path / part, first=100 * k)
    splits = um.load(tmp_path)
    assert tuple(map(len, splits.parts.values())) == (sizes or (25, 6, 5))
    assert all(name.startswith("train/") for name in splits.train.ids)
    if "valid" in extra:
        assert all(name.startswith("valid/") for name in splits.holdout.ids)
    assert all(whole(part, tmp_path) for part in splits.parts.values())


def test_all_images_end_in_one_mode(tmp_path: Path) -> None:
    image_tree(tmp_path, channels=1)
    assert um.load(tmp_path).train.input_shape == (1, 6, 6)
    Image.fromarray(picture(0, 99)).save(tmp_path / "cat" / "colour.png")
    assert um.load(tmp_path).train.input_shape == (3, 6, 6)
    assert um.load(tmp_path, grey=True).train.input_shape == (1, 6, 6)


@pytest.mark.parametrize(("size", "shape"), [("4", (3, 4, 4)), ("4x8", (3, 4, 8)), (5, (3, 5, 5))])
def test_images_are_resized_to_height_and_width(tmp_path: Path, size: str | int, shape: tuple[int, ...]) -> None:
    assert um.load(image_tree(tmp_path), size=size).train.input_shape == shape


def test_images_of_several_sizes_name_the_first_that_differs(tmp_path: Path) -> None:
    image_tree(tmp_path)
    Image.fromarray(picture(1, 5, side=9)).save(tmp_path / "dog" / "005.png")
    with pytest.raises(UserError, match=r"image 'dog/005.png': is 9x9, others are 6x6; pass --size"):
        um.load(tmp_path)
    assert um.load(tmp_path, size=6).train.input_shape == (3, 6, 6)


@pytest.mark.parametrize("damage", ["text", "empty", "truncated"])
def test_a_corrupt_image_is_named(tmp_path: Path, damage: str) -> None:
    image_tree(tmp_path, side=40)
    victim = tmp_path / "eel" / "003.png"
    raw = victim.read_bytes()
    victim.write_bytes({"text": b"not an image", "empty": b"", "truncated": raw[: len(raw) // 2]}[damage])
    with pytest.raises(UserError, match=r"data 'eel/003.png': is no whole image"):
        um.load(tmp_path)


def test_files_that_are_no_images_are_left_out_with_a_note(tmp_path: Path) -> None:
    image_tree(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("meow")
    (tmp_path / "cat" / ".hidden.png").write_text("")
    splits = um.load(tmp_path)
    assert sum(map(len, splits.parts.values())) == 36
    assert any("1 files" in note and "no images" in note for note in splits.notes)


def test_folders_that_cannot_be_classes_are_refused(tmp_path: Path) -> None:
    image_tree(tmp_path / "train")
    image_tree(tmp_path / "test")
    (tmp_path / "test" / "fox").mkdir()
    with pytest.raises(UserError, match=r"fox': is a class that the training set does not have"):
        um.load(tmp_path)
    (tmp_path / "train" / "fox").mkdir()
    with pytest.raises(UserError, match=r"fox': the class folder has no images"):
        um.load(tmp_path)
    for name in ("train", "test"):
        for other in ("fox", "dog", "eel"):
            shutil.rmtree(tmp_path / name / other)
    with pytest.raises(UserError, match="labels 0: is the only class"):
        um.load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no class folders"):
        um.load(tmp_path / "empty")


def test_a_fingerprint_sees_another_image_under_the_same_name(tmp_path: Path) -> None:
    before = um.load(image_tree(tmp_path)).train.fingerprint
    assert um.load(tmp_path).train.fingerprint == before
    name = um.load(tmp_path).train.ids[0]
    Image.fromarray(picture(0, 77)).save(tmp_path / name)
    assert um.load(tmp_path).train.fingerprint != before


@pytest.mark.parametrize("setting", [{"label": "y"}, {"text": "t"}, {"folder": "x"}, {"drop": "a"}, {"test": "t.csv"}])
def test_what_means_nothing_for_a_folder_is_refused(tmp_path: Path, setting: dict) -> None:
    with pytest.raises(UserError, match="a folder of images does not use it") as refused:
        um.load(image_tree(tmp_path), **setting)
    assert refused.value.field in setting


@pytest.mark.parametrize("size", ["0", "axb", "4x4x4", "-3", ""])
def test_sizes_that_are_none_are_refused(size: str) -> None:
    with pytest.raises(UserError, match="is no height or HEIGHTxWIDTH"):
        um.load("digits", size=size)


def test_names_of_folders_that_are_not_utf8_can_be_printed(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"images\xff")
    for k in range(4):
        for name in ("a", "b"):
            (root / "train" / name).mkdir(parents=True, exist_ok=True)
            Image.new("L", (2, 2), k).save(root / "train" / name / f"{k}.png")
    (root / os.fsdecode(b"\xfe")).mkdir()
    splits = um.load(root)
    assert splits.name == r"images\udcff"
    assert splits.notes[0].endswith(r"that are no part of the data set were left out: \udcfe")
    assert splits.notes[0].encode()
