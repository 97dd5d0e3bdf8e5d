"""Encoded images (PNG, JPEG, …): one form for all of a data set, decoded when they are asked for."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmem.data.examples import Ids
from unmem.data.reading import Reading
from unmem.errors import Phrase, UserError

EDGE = 4096  # bytes at either end of a file that stand for it in a fingerprint
_GREY = ("1", "L", "LA", "I", "I;16", "F")


class Encoded(Protocol):
    """Encoded images by number; picklable."""

    def open(self, k: int) -> BinaryIO: ...


@dataclass(frozen=True)
class Files:
    """Images in files below `root`."""

    root: Path
    names: NDArray[np.str_]

    def open(self, k: int) -> BinaryIO:
        return (self.root / str(self.names[k])).open("rb")


@dataclass(frozen=True)
class Form:
    """What all images of a data set are brought to. size: height and width."""

    mode: Literal["RGB", "L"]
    size: tuple[int, int]

    def of(self, image: Any) -> Tensor:
        """A Pillow image as uint8 [channels, height, width]."""
        from PIL import Image

        image = image.convert(self.mode)
        if (image.height, image.width) != self.size:
            image = image.resize(self.size[::-1], Image.Resampling.BILINEAR)
        pixels = np.array(image)
        return torch.from_numpy(pixels[None] if self.mode == "L" else np.ascontiguousarray(np.moveaxis(pixels, -1, 0)))


@dataclass(frozen=True)
class Pictures:
    """The items of a stream: encoded images, decoded into one form. names: what the user calls them."""

    encoded: Encoded
    names: Ids
    form: Form

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, k: int) -> Tensor:
        from PIL import Image

        try:
            with self.encoded.open(k) as file, Image.open(file) as image:
                return self.form.of(image)
        except Exception as error:  # Pillow's decoders raise errors of many kinds
            raise corrupt(self.name(k), error) from error

    def name(self, k: int) -> str:
        return str(self.names[k])


def corrupt(name: str, error: Exception) -> UserError:
    reason = str(error).split(" <")[0] or type(error).__name__
    return UserError("data", name, f"is no whole image ({reason})", "repair it or leave it out")


def pictures(encoded: Encoded, names: Ids, how: Reading) -> tuple[Pictures, NDArray[np.uint8]]:
    """The images in the form that suits all of them, and their marks; reads the head of each image only."""
    heads = [_head(encoded, k, str(name)) for k, name in enumerate(names)]
    grey = how.grey or all(mode in _GREY for mode, _, _ in heads)
    size = how.height_and_width or one_size([size for _, size, _ in heads], names)
    marks = np.frombuffer(b"".join(mark for _, _, mark in heads), dtype=np.uint8).reshape(len(heads), -1)
    return Pictures(encoded, names, Form("L" if grey else "RGB", size)), marks


def _head(encoded: Encoded, k: int, name: str) -> tuple[str, tuple[int, int], bytes]:
    """Mode, height and width, and mark of an image."""
    from PIL import Image

    try:
        with encoded.open(k) as file:
            mark = _mark(file)
            file.seek(0)
            with Image.open(file) as image:
                return image.mode, (image.height, image.width), mark
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
