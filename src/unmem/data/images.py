"""Encoded images (PNG, JPEG, …): one form for all of a data set, decoded when they are asked for.

Pixels are those of Pillow: colours of a palette are looked up, an alpha channel is dropped, and the orientation that
cameras write into EXIF is not applied, as torchvision's ImageFolder does not. Values of more than 8 bits are kept.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmem.data.examples import Ids
from unmem.data.reading import Reading
from unmem.data.scaling import Scaling
from unmem.errors import Phrase, UserError
from unmem.plainfiles import open_plain

EDGE = 4096  # bytes at either end of a file that stand for it in a fingerprint
PIXELS = Scaling(2 / 255, -1.0)  # bytes become [-1, 1]
# All that is opened, whatever a file is called: formats that Pillow decodes itself. It hands others, such as EPS, to
# programs of the machine.
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "ICO", "JPEG2000", "AVIF")
_GREY = ("1", "L", "LA", "La", "I", "F")
_ORIENTATION = 0x0112  # of EXIF; 1 is upright
_WITH_EXIF = ("JPEG", "MPO", "TIFF", "WEBP")  # of which it is read without decoding the image

Depth = Literal["bytes", "16 bits", "numbers"]


class Encoded(Protocol):
    """Encoded images by number; picklable."""

    def open(self, k: int) -> BinaryIO: ...


@dataclass(frozen=True)
class Files:
    """Images in files below `root`."""

    root: Path
    names: NDArray[np.str_]

    def open(self, k: int) -> BinaryIO:
        return open_plain(self.root / str(self.names[k]))


def formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this build of Pillow knows."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def suffixes() -> frozenset[str]:
    """What the names of such files end in, in lower case."""
    from PIL import Image

    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)


def opened(file: BinaryIO) -> Any:
    """The image in a file, not decoded yet: the one place where Pillow opens any."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file, formats=formats())
    except UnidentifiedImageError as error:
        raise ValueError(f"it is none of {', '.join(formats())}") from error


def is_grey(mode: str) -> bool:
    return mode in _GREY or mode.startswith("I;16")


def mode_of(modes: Iterable[str]) -> Literal["RGB", "L"]:
    """The common mode of images with these modes: grey if all of them are grey, else colour."""
    return "L" if all(map(is_grey, modes)) else "RGB"


def channels_first(images: NDArray[Any]) -> NDArray[Any]:
    """Move the channels of images [..., height, width, channels] to the front; other arrays are returned unchanged."""
    last = images.shape[-1] in (1, 3, 4) and images.shape[-3] not in (1, 3, 4)
    return np.ascontiguousarray(np.moveaxis(images, -1, -3)) if last else images


def depth_of(image: Any) -> Depth:
    """How a Pillow image holds its values. "I" stands for 16 bits in formats that have no more."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return "16 bits"
    return "numbers" if image.mode in ("I", "F") else "bytes"


@dataclass(frozen=True)
class Form:
    """What all images of a data set are brought to. size: height and width.

    depth: "bytes" are stored as uint8; "16 bits" as shares of 65,535, and bytes beside them as shares of 255;
    "numbers" (32-bit and floating-point images) as they are; both in float32.
    """

    mode: Literal["RGB", "L"]
    size: tuple[int, int]
    depth: Depth = "bytes"

    def of(self, image: Any) -> Tensor:
        """A Pillow image as [channels, height, width]."""
        if self.depth == "bytes":
            image = image.convert(self.mode)
            if (image.height, image.width) != self.size:
                image = image.resize(self.size[::-1], _bilinear())
            pixels = np.array(image)
        else:
            pixels = self._resized(self._values(image))
        if pixels.ndim == 2:
            pixels = np.stack([pixels] * (3 if self.mode == "RGB" else 1), axis=-1)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, 0)))

    def _values(self, image: Any) -> NDArray[np.float32]:
        depth = depth_of(image)
        if depth == "bytes":
            return np.asarray(image.convert(self.mode), dtype=np.float32) / np.float32(255)
        values = np.asarray(image).astype(np.float32)
        return values / np.float32(65535) if depth == "16 bits" else values

    def _resized(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        from PIL import Image

        height, width = self.size
        if values.shape[:2] == (height, width):
            return values
        if values.ndim == 2:
            return np.array(Image.fromarray(values).resize((width, height), _bilinear()))
        return np.stack([self._resized(np.ascontiguousarray(one)) for one in np.moveaxis(values, -1, 0)], axis=-1)

    @property
    def scaling(self) -> Scaling:
        return {"bytes": PIXELS, "16 bits": Scaling(2.0, -1.0), "numbers": Scaling()}[self.depth]

    @property
    def notes(self) -> tuple[str, ...]:
        if self.depth == "16 bits":
            return ("the images have 16 bits: 0 to 65,535 becomes -1 to 1",)
        if self.depth == "numbers":
            return ("the images hold 32-bit numbers, which reach the model as they are unless --scaling is given",)
        return ()


def _bilinear() -> Any:
    from PIL import Image

    return Image.Resampling.BILINEAR


@dataclass(frozen=True)
class Pictures:
    """The items of a stream: encoded images, decoded into one form. names: what the user calls them."""

    encoded: Encoded
    names: Ids
    form: Form

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, k: int) -> Tensor:
        try:
            with self.encoded.open(k) as file, opened(file) as image:
                pixels = self.form.of(image)
        except Exception as error:  # Pillow's decoders raise errors of many kinds
            raise corrupt(self.name(k), error) from error
        if self.form.depth == "numbers" and not bool(torch.isfinite(pixels).all()):
            raise UserError("data", self.name(k), "has values that are not finite", "repair it or leave it out")
        return pixels

    def name(self, k: int) -> str:
        return str(self.names[k])


def corrupt(name: str, error: Exception) -> UserError:
    reason = str(error).split(" <")[0] or type(error).__name__
    return UserError("data", name, f"is no whole image ({reason})", "repair it or leave it out")


@dataclass(frozen=True)
class _Head:
    """What is known of an image before it is decoded."""

    mode: str
    depth: Depth
    size: tuple[int, int]
    turned: bool
    mark: bytes


def pictures(encoded: Encoded, names: Ids, how: Reading) -> tuple[Pictures, NDArray[np.uint8], tuple[str, ...]]:
    """The images in the form that suits all of them, their marks, and notes; reads the head of each image only."""
    heads = [_head(encoded, k, str(name)) for k, name in enumerate(names)]
    size = how.height_and_width or one_size([head.size for head in heads], names)
    form = Form(how.mode or mode_of(head.mode for head in heads), size, _depth(heads, names))
    marks = np.frombuffer(b"".join(head.mark for head in heads), dtype=np.uint8).reshape(len(heads), -1)
    turned = sum(head.turned for head in heads)
    notes = (f"{turned:,} images have an EXIF orientation, which is not applied",) if turned else ()
    return Pictures(encoded, names, form), marks, (*form.notes, *notes)


def _depth(heads: Sequence[_Head], names: Ids) -> Depth:
    """The depth that holds all of them."""
    depths: list[Depth] = [head.depth for head in heads]
    if "numbers" not in depths:
        return "16 bits" if "16 bits" in depths else "bytes"
    for depth, name in zip(depths, names, strict=True):
        if depth != "numbers":
            number = str(names[depths.index("numbers")])
            raise unlike_depth(str(name), depth, number)
    return "numbers"


def unlike_depth(name: str, depth: Depth, other: str) -> UserError:
    kind = {"bytes": "bytes", "16 bits": "16-bit values", "numbers": "32-bit values"}[depth]
    return UserError(
        "data", name, f"holds {kind}, which have no common scale with those of {other!r}", "save all in one format"
    )


def _head(encoded: Encoded, k: int, name: str) -> _Head:
    try:
        with encoded.open(k) as file:
            mark = _mark(file)
            file.seek(0)
            with opened(file) as image:
                turned = image.format in _WITH_EXIF and image.getexif().get(_ORIENTATION, 1) != 1
                return _Head(image.mode, depth_of(image), (image.height, image.width), turned, mark)
    except Exception as error:
        raise corrupt(name, error) from error


def _mark(file: BinaryIO) -> bytes:
    """16 bytes that tell one file from another: from its size, its first and its last `EDGE` bytes."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(EDGE)
    file.seek(max(0, size - EDGE))
    return hashlib.sha256(size.to_bytes(8, "big") + head + file.read(EDGE)).digest()[:16]


def one_size(sizes: Sequence[tuple[int, int]], names: Ids) -> tuple[int, int]:
    """The height and width that all have."""
    for size, name in zip(sizes, names, strict=True):
        if size != sizes[0]:
            raise UserError(
                "data",
                Phrase(f"image {str(name)!r}"),
                f"is {size[0]}x{size[1]}, others are {sizes[0][0]}x{sizes[0][1]}",
                "pass --size to bring all to one size",
            )
    return sizes[0]
