"""Names of parts, in folders and elsewhere: what is taken, what is refused, what is left out in words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import unmem as um
from tests.data.files import image_tree
from unmem.data.parts import part_of
from unmem.errors import UserError

TAKEN = [
    ({"train": "train", "test": "Test"}, ("train", "test")),
    ({"train": "Training", "test": "Testing"}, ("train", "test")),
    ({"train": "TRAIN", "holdout": "VAL"}, ("train", "holdout")),
    ({"train": "training_set", "test": "test_set"}, ("train", "test")),
    ({"train": "train-images", "holdout": "validation data", "test": "eval"}, ("train", "holdout", "test")),
    ({"train": "trainset", "holdout": "dev"}, ("train", "holdout")),
]


@pytest.mark.parametrize(("names", "parts"), TAKEN)
def test_folders_are_parts_by_many_names(tmp_path: Path, names: dict[str, str], parts: tuple[str, ...]) -> None:
    for k, name in enumerate(names.values()):
        image_tree(tmp_path / name, each=4, first=100 * k)
    splits = um.load(tmp_path)
    assert splits.classes == ("cat", "dog", "eel")
    assert len(splits.train) == 12
    assert all(name.startswith(names["train"] + "/") for name in splits.train.ids)
    unseen = [*splits.holdout.ids, *splits.test.ids]
    assert {name.split("/")[0] for name in unseen} == {names[part] for part in parts if part != "train"}
    assert len(unseen) == 12 * (len(parts) - 1)


REFUSED = [
    (("train", "Training"), "train set"),
    (("train", "val", "dev"), "validation set"),
    (("train", "test2"), "looks like a part"),
    (("train", "old_test"), "looks like a part"),
    (("test", "val"), "looks like a part"),
]


@pytest.mark.parametrize(("names", "reason"), REFUSED)
def test_what_may_be_a_part_is_refused(tmp_path: Path, names: tuple[str, ...], reason: str) -> None:
    for name in names:
        image_tree(tmp_path / name, each=2)
    with pytest.raises(UserError, match=reason):
        um.load(tmp_path)


def test_a_part_within_a_class_is_refused(tmp_path: Path) -> None:
    image_tree(tmp_path)
    (tmp_path / "cat" / "Test").mkdir()
    with pytest.raises(UserError, match="within a class"):
        um.load(tmp_path)


def test_flat_folders_by_the_names_of_parts(tmp_path: Path) -> None:
    image_tree(tmp_path)
    (tmp_path / "cat").rename(tmp_path / "train")  # a class of vehicles
    assert um.load(tmp_path).classes == ("dog", "eel", "train")
    (tmp_path / "dog").rename(tmp_path / "Test")
    with pytest.raises(UserError, match="looks like a part"):
        um.load(tmp_path)


def test_an_unlabelled_test_folder_and_other_folders_are_left_out_in_words(tmp_path: Path) -> None:
    image_tree(tmp_path / "train")
    (tmp_path / "Test").mkdir()
    (tmp_path / "code").mkdir()
    notes = " ".join(um.load(tmp_path).notes)
    assert "Test has no class folders" in notes
    assert "left out: code" in notes


def test_hidden_folders_are_no_data_and_links_are(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "pets", each=4)
    expected = {f"{name}/{k:03}.png" for name in ("cat", "dog", "eel") for k in range(4)}
    for name in (".ipynb_checkpoints", "__MACOSX"):
        for where in (root, root / "cat"):
            image_tree(where / name, each=2)
    image_tree(tmp_path / "elsewhere", each=4, first=50)
    os.symlink(tmp_path / "elsewhere" / "dog", root / "dog" / "more")
    os.symlink(root / "eel", root / "eel" / "loop")
    expected |= {f"dog/more/{k:03}.png" for k in range(4)}
    assert set().union(*(set(part.ids) for part in um.load(root).parts.values())) == expected


def test_a_file_name_that_is_not_utf8_is_refused_in_words(tmp_path: Path) -> None:
    root = image_tree(tmp_path)
    os.rename(os.fsencode(root / "cat" / "000.png"), os.fsencode(root / "cat") + b"/caf\xe9.png")
    with pytest.raises(UserError, match="not UTF-8"):
        um.load(root)


@pytest.mark.parametrize("name", ["cat", "trainer", "testament", "values", "devil", "set", "data", ""])
def test_other_names_are_no_parts(name: str) -> None:
    assert part_of(name) is None
