"""Folders of images drawn at random, and three properties.

The images that are forgotten are those that are named; the inputs that a model sees are those that Pillow and NumPy
give by hand; and whatever a folder holds, the answer is data or a `UserError`.
"""

from __future__ import annotations

import io
import itertools
import os
from dataclasses import dataclass, field, replace
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

CASES = int(os.environ.get("UNMEM_CASES", "25"))  # by property
RANDOM = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=CASES < 500)

CLASSES = ("cat", "Cat", "a b", "a,b", "#1", "1", "10", "2", "007", "NA", "Größe", "x=y", "'q'", "None")
STEMS = (
    *("1", "01", "#2", "a b", "a,b", "Ω", "x=y", "é", "e\u0301", "img.v2", '"q"', "NA", "-1", "semi;colon", "%41"),
    *("a  b", " c", "c ", "tab\there", "back\\slash", "a\u2028b", "line\nend"),
)
TRAIN = ("train", "Train", "TRAINING", "training_set", "train_set", "trn", "Train Images", "training-data")
TEST = ("test", "Test", "TESTING", "test_set", "eval", "Evaluation", "TST", "test-imgs")
VALIDATION = ("val", "VAL", "valid", "Validation", "dev", "holdout", "validation_split", "Development")
STRAY = ("notes.txt", ".DS_Store", "Thumbs.db", "labels.csv", ".hidden.png")
GROUPS = (
    *(("L", "1", "LA"), ("RGB", "P", "RGBA", "L", "1", "LA"), ("I;16", "L"), ("I;16", "L", "RGB"), ("F",), ("I",)),
    *(("turned", "RGB"), ("grey JPEG", "L"), ("CMYK", "P"), ("P", "clear P"), ("16-bit TIFF", "1")),
)
SUFFIXES = {
    **dict.fromkeys(("F", "I"), (".tiff", ".TIF")),
    **dict.fromkeys(("turned", "grey JPEG", "CMYK"), (".jpg", ".JPEG", ".jpeg")),
    "16-bit TIFF": (".tif", ".TIFF"),
}
GREY = ("L", "1", "LA", "I;16", "I", "F", "grey JPEG", "16-bit TIFF")
SIDE = (3, 2)


@dataclass
class Tree:
    """A folder as it is to be made. images: path below the root -> (part, class, mode, number)."""

    images: dict[str, tuple[str, str, str, int]] = field(default_factory=dict)
    stray: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
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
            suffix = draw(st.sampled_from(SUFFIXES.get(mode, (".png", ".PNG"))))
            below = draw(st.sampled_from(["", "", "sub/", "more of/"]))
            tree.images[f"{above}{name}/{below}{stem}{suffix}"] = part, name, mode, next(numbers)
        if draw(st.booleans()):
            tree.stray.append(f"{above}{name}/{draw(st.sampled_from(STRAY))}")
    tree.links = draw(st.lists(st.sampled_from(sorted(tree.images)), max_size=2, unique=True))
    tree.links += draw(st.lists(st.sampled_from([f"{parts['train']}{name}" for name in classes]), max_size=1))
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
    if mode in ("I;16", "16-bit TIFF"):
        return Image.fromarray(random.integers(0, 65536, size=SIDE, dtype=np.uint16))
    colours = Image.fromarray(random.integers(0, 256, size=(*SIDE, 4), dtype=np.uint8), "RGBA")
    if mode in ("P", "clear P"):
        return colours.convert("RGB").quantize(8)
    return colours.convert({"turned": "RGB", "grey JPEG": "L"}.get(mode, mode))


def save(image: Any, mode: str, path: Path) -> None:
    """With what a camera or a program may add: an orientation, a colour that is clear."""
    more: dict[str, Any] = {}
    if mode == "turned":
        more["exif"] = Image.Exif()
        more["exif"][0x0112] = 6
    if mode == "clear P":
        more["transparency"] = 0
    image.save(path, **more)


def link(path: Path, elsewhere: Path) -> None:
    """Move a file, and leave a link to it in its place."""
    elsewhere.mkdir(exist_ok=True)
    moved = elsewhere / str(len(list(elsewhere.iterdir())))
    path.symlink_to(path.rename(moved))


def written(tree: Tree, root: Path) -> Path:
    for name, (_, _, mode, number) in tree.images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        save(pixels(mode, number), mode, root / name)
    for name in tree.links:
        link(root / name, root.parent / f"{root.name} elsewhere")
    for name in tree.stray:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"nothing that anyone should read")
    return root


@dataclass(frozen=True)
class Asked:
    """Options, and what they say by hand: colour by --rgb and --grey; the mean and deviation of a scaling."""

    size: str | None = None
    grey: bool = False
    rgb: bool = False
    scaling: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value}


PLAIN = Asked()
ASKED = st.builds(
    Asked,
    size=st.sampled_from([None, None, "5x4", "2"]),
    scaling=st.sampled_from([None, None, "unit", "raw", "0.5/0.2"]),
).flatmap(lambda asked: st.sampled_from([asked, asked, replace(asked, grey=True), replace(asked, rgb=True)]))


def by_hand(path: Path, tree: Tree, asked: Asked = PLAIN) -> np.ndarray:
    """What the documentation says that a model sees of a file."""
    colour = asked.rgb or (not asked.grey and any(mode not in GREY for mode in tree.modes))
    numbers = bool(tree.modes & {"F", "I"})
    deep = bool(tree.modes & {"I;16", "16-bit TIFF"})
    with Image.open(path) as image:
        plain = image if image.mode.startswith("I") or image.mode == "F" else image.convert("RGB" if colour else "L")
        full = 1 if numbers else 65535 if plain.mode.startswith("I") else 255
        if asked.size is not None and not deep and not numbers:
            plain = resized(plain, asked.size)
        held = np.asarray(plain).astype(np.float32) / np.float32(full)
    if asked.size is not None and (deep or numbers):
        channels = [held] if held.ndim == 2 else list(np.moveaxis(held, -1, 0))
        held = np.stack([np.asarray(resized(Image.fromarray(one), asked.size)) for one in channels], axis=-1)
    held = np.moveaxis(held, -1, 0) if held.ndim == 3 else held[None]
    held = (np.repeat(held, 3, axis=0) if colour and len(held) == 1 else held).astype(np.float64)
    return scaled(held, asked.scaling or ("raw" if numbers else "symmetric"), 1 if deep or numbers else 255)


def resized(image: Any, size: str) -> Any:
    height, width = ([*map(int, size.split("x"))] * 2)[:2]
    return image.resize((width, height), Image.Resampling.BILINEAR)


def scaled(share: np.ndarray, name: str, full: float) -> np.ndarray:
    """From shares of the largest value to what a model sees; "raw" leaves what is stored."""
    if name == "raw":
        return share * full
    return {"unit": share, "symmetric": share * 2 - 1, "0.5/0.2": (share - 0.5) / 0.2}[name]


@RANDOM
@given(tree=trees(), stream=st.sampled_from(["never", "always"]), asked=ASKED)
def test_inputs_labels_and_ids_are_those_of_the_folder(
    tree: Tree, stream: Any, asked: Asked, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = written(tree, tmp_path_factory.mktemp("any"))
    splits = um.load(root, stream=stream, loaders=0, **asked.options)
    seen: list[str] = []
    for part, examples in splits.parts.items():
        inputs, labels = examples.batch(torch.arange(len(examples)))
        for name, x, label in zip(examples.ids, inputs.double().numpy(), labels.tolist(), strict=True):
            path = str(name) if name in tree.images else str(name).removeprefix(f"{part}-")
            of, title, _, _ = tree.images[path]
            assert splits.classes[label] == title
            assert (of == "train") == (part == "train") or tree.split
            np.testing.assert_allclose(x, by_hand(root / path, tree, asked), rtol=1e-5, atol=1e-5)
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
    lines = not any("\n" in name for name in names)  # which a text with one id a line cannot hold
    ids = folder / data.draw(st.sampled_from(["ids.json", "ids.csv", *["ids.txt"] * lines]))
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


DAMAGE = (
    *("cut", "empty", "lfs", "text", "link to nothing", "link to above", "link to itself", "folder", "bits"),
    *("other size", "16 bits", "not finite", "many pixels", "moving"),
)
NOT_UTF8 = os.fsdecode(b"\xff\xfe")
NAMES = st.sampled_from(
    [*CLASSES, *TRAIN, *TEST, *VALIDATION, "images", "test2", "train.zip", ".hidden", "Data", NOT_UTF8]
)


def damaged(path: Path, how: str, root: Path, at: int) -> None:
    raw = path.read_bytes()
    if how in ("link to nothing", "link to above", "link to itself", "folder"):
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
    elif how == "link to itself":
        path.symlink_to(path)
    elif how == "folder":
        path.mkdir()
    elif how == "not finite":
        Image.fromarray(np.full(SIDE, np.nan, np.float32)).save(path, "TIFF")
    elif how == "many pixels":
        held = io.BytesIO()
        Image.new("L", SIDE[::-1]).save(held, "PNG")
        path.write_bytes(held.getvalue()[:16] + (70_000).to_bytes(4, "big") * 2 + held.getvalue()[24:])
    elif how == "moving":
        Image.new("L", SIDE[::-1]).save(path, "GIF", save_all=True, append_images=[Image.new("L", SIDE[::-1], 255)])
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
                pixels("L", 0).save(place / data.draw(st.sampled_from(["x.png", f"{NOT_UTF8}.png"])))
    try:
        splits = um.load(root, loaders=0, **how)
        "".join(splits.notes).encode()  # can be printed
        for part in splits.parts.values():
            inputs, labels = part.batch(torch.arange(len(part)))
            assert bool(torch.isfinite(inputs).all())
            assert len(labels) == len(part.ids)
    except UserError as error:
        str(error).encode()
