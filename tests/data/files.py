"""Small data sets on disk, whose every input tells its label and its number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog", "eel")


def picture(label: int, number: int, *, side: int = 6, channels: int = 3) -> np.ndarray:
    """uint8 [side, side, 3] or [side, side]: the label in the first row, noise by the number elsewhere."""
    shape = (side, side, 3) if channels == 3 else (side, side)
    pixels = np.random.default_rng(1000 * label + number).integers(0, 256, size=shape, dtype=np.uint8)
    pixels[0] = 80 * label
    return pixels


def image_tree(root: Path, *, each: int = 12, side: int = 6, channels: int = 3, first: int = 0) -> Path:
    """DIR/CLASS/number.png, losslessly; the pictures are those from number `first` on."""
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            Image.fromarray(picture(label, first + number, side=side, channels=channels)).save(
                root / name / f"{number:03}.png"
            )
    return root
