"""The pixels that a model sees, source by source, against Pillow and NumPy by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import unmem as um
from unmem.errors import UserError

N = 12
SIDE = 5
SCALE = {"bytes": (2 / 255, -1.0), "16 bits": (2 / 65535, -1.0), "numbers": (1.0, 0.0)}


def values(kind: str, k: int) -> np.ndarray:
    """What the file holds."""
    random = np.random.default_rng(k)
    if kind == "float":
        return random.normal(scale=1e3, size=(SIDE, SIDE)).astype(np.float32)
    if kind == "int32":
        return random.integers(-70_000, 70_000, size=(SIDE, SIDE), dtype=np.int32)
    if kind == "uint16":
        return random.integers(0, 65536, size=(SIDE, SIDE), dtype=np.uint16)
    channels = {"grey": (), "rgb": (3,), "rgba": (4,)}[kind]
    return random.integers(0, 256, size=(SIDE, SIDE, *channels), dtype=np.uint8)


KINDS = [
    ("grey", "png", "bytes", 1),
    ("rgb", "png", "bytes", 3),
    ("rgba", "png", "bytes", 3),
    ("uint16", "png", "16 bits", 1),
    ("uint16", "tiff", "16 bits", 1),
    ("uint16", "pgm", "16 bits", 1),
    ("int32", "tiff", "numbers", 1),
    ("float", "tiff", "numbers", 1),
]


def folder(root: Path, kind: str, suffix: str) -> Path:
    for k in range(N):
        (root / f"c{k % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(values(kind, k)).save(root / f"c{k % 2}" / f"{k:02}.{suffix}")
    return root


class Opened:
    """A PyTorch data set of the images of such a folder."""

    def __init__(self, root: Path) -> None:
        self.paths = sorted(root.rglob("*.*"), key=lambda path: path.name)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, k: int) -> Any:
        with Image.open(self.paths[k]) as image:
            image.load()
        return image, k % 2


def hugging_face(root: Path) -> Any:
    datasets = pytest.importorskip("datasets")
    files = sorted(root.rglob("*.*"), key=lambda path: path.name)
    cells = [{"bytes": path.read_bytes(), "path": None} for path in files]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    return datasets.Dataset.from_dict({"image": cells, "label": [k % 2 for k in range(N)]}, features=features)


SOURCES: dict[str, Callable[[Path], Any]] = {"folder": lambda root: root, "torch": Opened, "hub": hugging_face}


def number(name: str) -> int:
    return int(Path(name).stem)


@pytest.mark.parametrize("stream", ["never", "always"])
@pytest.mark.parametrize("source", list(SOURCES))
@pytest.mark.parametrize(("kind", "suffix", "depth", "channels"), KINDS)
def test_the_model_sees_the_values_of_the_file(
    tmp_path: Path, source: str, kind: str, suffix: str, depth: str, channels: int, stream: Any
) -> None:
    splits = um.load(SOURCES[source](folder(tmp_path, kind, suffix)), stream=stream, loaders=0)
    scale, shift = SCALE[depth]
    for part in splits.parts.values():
        x, y = part.batch(torch.arange(len(part)))
        assert x.shape[1:] == (channels, SIDE, SIDE)
        for seen, label, name in zip(x, y.tolist(), part.ids, strict=True):
            held = values(kind, number(name)).astype(np.float64)
            held = np.moveaxis(held[..., :3], -1, 0) if held.ndim == 3 else held[None]
            torch.testing.assert_close(seen.double(), torch.from_numpy(held * scale + shift), rtol=1e-6, atol=1e-6)
            assert label == number(name) % 2
    assert any("16 bits" in note or "32-bit" in note for note in splits.notes) == (depth != "bytes")


@pytest.mark.parametrize("source", list(SOURCES))
@pytest.mark.parametrize("kind", ["grey", "uint16"])
def test_grey_images_for_a_network_of_colour_images(tmp_path: Path, source: str, kind: str) -> None:
    splits = um.load(SOURCES[source](folder(tmp_path, kind, "png")), rgb=True)
    x, _ = splits.train.batch(torch.arange(len(splits.train)))
    grey, _ = um.load(SOURCES[source](tmp_path)).train.batch(torch.arange(len(splits.train)))
    assert torch.equal(x, grey.expand(-1, 3, -1, -1))


@pytest.mark.parametrize("source", list(SOURCES))
def test_deep_images_are_resized_as_pillow_does(tmp_path: Path, source: str) -> None:
    splits = um.load(SOURCES[source](folder(tmp_path, "float", "tiff")), size="3x4")
    for stored, name in zip(splits.train.inputs[:], splits.train.ids, strict=True):
        by_hand = Image.fromarray(values("float", number(name))).resize((4, 3), Image.Resampling.BILINEAR)
        assert torch.equal(stored[0], torch.from_numpy(np.array(by_hand)))


def test_palettes_are_looked_up(tmp_path: Path) -> None:
    for k in range(N):
        (tmp_path / f"c{k % 2}").mkdir(exist_ok=True)
        Image.fromarray(values("rgb", k)).quantize(8).save(tmp_path / f"c{k % 2}" / f"{k:02}.png")
    seen = []
    for source in SOURCES.values():
        train = um.load(source(tmp_path)).train
        seen.append({number(name): stored for name, stored in zip(train.ids, train.inputs[:], strict=True)})
    for found in seen:
        for k, stored in found.items():
            with Image.open(tmp_path / f"c{k % 2}" / f"{k:02}.png") as image:
                by_hand = np.array(image.getpalette(), dtype=np.uint8).reshape(-1, 3)[np.array(image)]
            assert np.array_equal(stored.numpy(), np.moveaxis(by_hand, -1, 0))


@pytest.mark.parametrize("source", list(SOURCES))
def test_orientation_is_applied_in_no_source(tmp_path: Path, source: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for k in range(N):
        (tmp_path / f"c{k % 2}").mkdir(exist_ok=True)
        Image.fromarray(values("rgb", k)).save(tmp_path / f"c{k % 2}" / f"{k:02}.jpg", exif=exif if k < 3 else b"")
    splits = um.load(SOURCES[source](tmp_path))
    for part in splits.parts.values():
        for stored, name in zip(part.inputs[:], part.ids, strict=True):
            with Image.open(tmp_path / f"c{number(name) % 2}" / f"{number(name):02}.jpg") as image:
                plain = np.array(image)
            assert np.array_equal(stored.numpy(), np.moveaxis(plain, -1, 0))
    assert source == "torch" or any(note.startswith("3 images have an EXIF orientation") for note in splits.notes)


@pytest.mark.parametrize("source", list(SOURCES))
def test_depths_without_a_common_scale_are_refused(tmp_path: Path, source: str) -> None:
    folder(tmp_path, "float", "tiff")
    Image.fromarray(values("uint16", 3)).save(tmp_path / "c1" / "03.tiff")
    with pytest.raises(UserError, match="no common scale"):
        um.load(SOURCES[source](tmp_path))


@pytest.mark.parametrize("stream", ["never", "always"])
def test_values_that_are_not_finite_name_the_image(tmp_path: Path, stream: Any) -> None:
    bad = values("float", 0)
    bad[1, 1] = np.nan
    folder(tmp_path, "float", "tiff")
    Image.fromarray(bad).save(tmp_path / "c0" / "00.tiff")
    with pytest.raises(UserError, match=r"c0/00\.tiff.*not finite"):
        splits = um.load(tmp_path, stream=stream, loaders=0)
        for part in splits.parts.values():
            part.inputs[:]


def test_grey_and_colour_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="grey and colour"):
        um.load(tmp_path, grey=True, rgb=True)
