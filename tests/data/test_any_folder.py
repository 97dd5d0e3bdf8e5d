"""Folders of images drawn at random, and three properties.

The images that are forgotten are those that are named; the inputs that a model sees are those that Pillow and NumPy
give by hand; and whatever a folder holds, the answer is data or a `UserError`.
"""

from __future__ import annotations

import io
import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import unmem as um
from unmem.errors import UserError
from unmem.requests import checked_ids, ids_where, parse_condition, read_ids

CASES = int(os.environ.get("UNMEM_CASES", "40"))  # by property
RANDOM = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=CASES < 500)

CLASSES = ("cat", "Cat", "a b", "a,b", "#1", "1", "10", "2", "007", "NA", "Größe", "x=y", "'q'", "None")
STEMS = ("1", "01", "#2", "a b", "a,b", "Ω", "x=y", "é", "img.v2", '"q"', "NA", "-1", "semi;colon", "%41")
TRAIN = ("train", "Train", "TRAINING", "training_set", "train_set")
TEST = ("test", "Test", "TESTING", "test_set", "eval", "Evaluation")
VALIDATION = ("val", "VAL", "valid", "Validation", "dev", "holdout")
STRAY = ("notes.txt", ".DS_Store", "Thumbs.db", "labels.csv", ".hidden.png")
GROUPS = (("L", "1", "LA"), ("RGB", "P", "RGBA", "L", "1", "LA"), ("I;16", "L"), ("I;16", "L", "RGB"), ("F",), ("I",))
GREY = ("L", "1", "LA", "I;16", "I", "F")
SIDE = (3, 2)


@dataclass
class Tree:
    """A folder as it is to be made. images: path below the root -> (part, class, mode, number)."""

    images: dict[str, tuple[str, str, str, int]] = field(default_factory=dict)
    stray: list[str] = field(default_factory=list)
    split: bool = False

    @property
    def modes(self) -> set[str]:
        return {mode for _, _, mode, _ in self.images.values()}


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    classes = draw(st.lists(st.sampled_from(CLASSES), min_size=2, max_size=3, unique=True))
    modes = draw(st.sampled_from(GROUPS))
    tree = Tree(split=draw(st.booleans()))
    parts = {"train": ""}
    if not tree.split:
        parts = {"train": draw(st.sampled_from(TRAIN)) + "/"}
        for name, synonyms in (("test", TEST), ("holdout", VALIDATION)):
            if draw(st.booleans()):
                parts[name] = draw(st.sampled_from(synonyms)) + "/"
        tree.split = len(parts) == 1
    numbers = itertools.count()
    for (part, above), name in itertools.product(parts.items(), classes):
        stems = draw(st.lists(st.sampled_from(STEMS), min_size=5 if part == "train" else 2, max_size=7, unique=True))
        for stem in stems:
            mode = draw(st.sampled_from(modes))
            suffix = ".tiff" if mode in ("F", "I") else draw(st.sampled_from([".png", ".PNG"]))
            below = draw(st.sampled_from(["", "", "sub/", "more of/"]))
            tree.images[f"{above}{name}/{below}{stem}{suffix}"] = part, name, mode, next(numbers)
        if draw(st.booleans()):
            tree.stray.append(f"{above}{name}/{draw(st.sampled_from(STRAY))}")
    if draw(st.booleans()):
        tree.stray += [f"{parts['train']}.ipynb_checkpoints/copy.png", "__MACOSX/cat/x.png", f"{parts['train']}README"]
    return tree


def pixels(mode: str, number: int) -> Any:
    """An image that no other one equals."""
    random = np.random.default_rng(number)
    if mode == "F":
        return Image.fromarray(random.normal(size=SIDE).astype(np.float32))
    if mode == "I":
        return Image.fromarray(random.integers(-70_000, 70_000, size=SIDE, dtype=np.int32))
    if mode == "I;16":
        return Image.fromarray(random.integers(0, 65536, size=SIDE, dtype=np.uint16))
    colours = Image.fromarray(random.integers(0, 256, size=(*SIDE, 4), dtype=np.uint8), "RGBA")
    return colours.convert("RGB").quantize(8) if mode == "P" else colours.convert(mode)


def written(tree: Tree, root: Path) -> Path:
    for name, (_, _, mode, number) in tree.images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels(mode, number).save(root / name)
    for name in tree.stray:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"nothing that anyone should read")
    return root


def by_hand(path: Path, tree: Tree) -> np.ndarray:
    """What the documentation says that a model sees of a file."""
    colour = any(mode not in GREY for mode in tree.modes)
    with Image.open(path) as image:
        deep = image.mode.startswith("I") or image.mode == "F"
        held = np.asarray(image if deep else image.convert("RGB" if colour else "L")).astype(np.float64)
    if "F" not in tree.modes and "I" not in tree.modes:
        held = held / (65535 if deep else 255) * 2 - 1
    return np.moveaxis(held, -1, 0) if held.ndim == 3 else np.stack([held] * (3 if colour else 1))


@RANDOM
@given(tree=trees(), stream=st.sampled_from(["never", "always"]))
def test_inputs_labels_and_ids_are_those_of_the_folder(
    tree: Tree, stream: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = written(tree, tmp_path_factory.mktemp("any"))
    splits = um.load(root, stream=stream, loaders=0)
    seen: list[str] = []
    for part, examples in splits.parts.items():
        inputs, labels = examples.batch(torch.arange(len(examples)))
        for name, x, label in zip(examples.ids, inputs.double().numpy(), labels.tolist(), strict=True):
            path = str(name) if name in tree.images else str(name).removeprefix(f"{part}-")
            of, title, _, _ = tree.images[path]
            assert splits.classes[label] == title
            assert (of == "train") == (part == "train") or tree.split
            np.testing.assert_allclose(x, by_hand(root / path, tree), rtol=1e-6, atol=1e-6)
            seen.append(path)
    assert sorted(seen) == sorted(tree.images)


@RANDOM
@given(tree=trees(), data=st.data())
def test_the_images_named_are_the_ones_meant(
    tree: Tree, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    splits = um.load(written(tree, folder / "images"))
    train = splits.train
    names = data.draw(st.lists(st.sampled_from(train.ids.tolist()), min_size=1, max_size=4, unique=True))
    ids = folder / data.draw(st.sampled_from(["ids.txt", "ids.json", "ids.csv"]))
    ids.write_text(listed(names, ids.suffix), encoding="utf-8")
    taken = train.take(checked_ids(read_ids(ids).ids(splits), splits))
    assert taken.ids.tolist() == names
    inputs, _ = taken.batch(torch.arange(len(taken)))
    for name, x in zip(names, inputs.double().numpy(), strict=True):
        np.testing.assert_allclose(x, by_hand(folder / "images" / name, tree), rtol=1e-6, atol=1e-6)
    title = data.draw(st.sampled_from(splits.classes))
    of_class = ids_where(train, [parse_condition(f"label={title}")], classes=splits.classes)
    assert sorted(of_class) == sorted(name for name in train.ids.tolist() if tree.images[name][1] == title)


def listed(names: list[str], suffix: str) -> str:
    import csv
    import json

    if suffix == ".json":
        return json.dumps(names)
    if suffix == ".txt":
        return "".join(f"{name}\n" for name in names)
    text = io.StringIO()
    csv.writer(text).writerows([["id"], *([name] for name in names)])
    return text.getvalue()


DAMAGE = ("cut", "empty", "lfs", "text", "link to nothing", "link to above", "folder", "bits", "other size", "16 bits")
NAMES = st.sampled_from([*CLASSES, *TRAIN, *TEST, *VALIDATION, "images", "test2", "train.zip", ".hidden", "Data"])


def damaged(path: Path, how: str, root: Path, at: int) -> None:
    raw = path.read_bytes()
    if how in ("link to nothing", "link to above", "folder"):
        path.unlink()
    if how == "cut":
        path.write_bytes(raw[: at % len(raw)])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "lfs":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    elif how == "text":
        path.write_text("no image")
    elif how == "link to nothing":
        path.symlink_to(root / "nowhere")
    elif how == "link to above":
        path.symlink_to(root)
    elif how == "folder":
        path.mkdir()
    elif how == "bits":
        path.write_bytes(raw[: at % len(raw)] + bytes([at % 256]) + raw[at % len(raw) + 1 :])
    elif how == "other size":
        Image.new("RGB", (4, 4)).save(path, "PNG")
    else:
        Image.fromarray(np.zeros(SIDE, np.uint16)).save(path, "PNG")


OPTIONS = st.fixed_dictionaries(
    {"stream": st.sampled_from(["never", "always"])},
    optional={
        "size": st.sampled_from(["4", "3x2", "0", "x"]),
        "grey": st.booleans(),
        "rgb": st.booleans(),
        "scaling": st.sampled_from(["unit", "raw", "imagenet", "nope"]),
        "split": st.sampled_from(["none", "80/10/10", "0/50/50"]),
        "label": st.just("label"),
    },
)


@RANDOM
@given(tree=trees(), how=OPTIONS, data=st.data())
def test_whatever_a_folder_holds_the_answer_is_data_or_a_sentence(
    tree: Tree, how: dict[str, Any], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = written(tree, tmp_path_factory.mktemp("any"))
    hurt = st.tuples(st.sampled_from(sorted(tree.images)), st.sampled_from(DAMAGE), st.integers(0, 500))
    for name, kind, at in data.draw(st.lists(hurt, max_size=3, unique_by=lambda one: one[0])):
        damaged(root / name, kind, root, at)
    for name in data.draw(st.lists(NAMES, max_size=2)):
        place = root / name
        if not place.exists():
            place.mkdir()
            if data.draw(st.booleans()):
                (place / "within").mkdir()
            if data.draw(st.booleans()):
                pixels("L", 0).save(place / "x.png")
    try:
        splits = um.load(root, loaders=0, **how)
        for part in splits.parts.values():
            inputs, labels = part.batch(torch.arange(len(part)))
            assert bool(torch.isfinite(inputs).all())
            assert len(labels) == len(part.ids)
    except UserError:
        return
