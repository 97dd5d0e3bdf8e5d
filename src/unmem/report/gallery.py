"""Pictures of the most and least memorized examples, for data sets whose owner may look at them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unmem.data import Examples, Ids
from unmem.memorization import Scores

SHOWN = 24
SIDE = 56  # pixels on the page; small images are enlarged without smoothing, as they are


@dataclass(frozen=True)
class Picture:
    """source: a data address with a PNG. caption: label and value of the score."""

    source: str
    caption: str
    planted: bool


def gallery(scores: Scores, examples: Examples, flipped: Ids) -> dict[str, list[Picture]]:
    """The `SHOWN` most and least memorized examples by this score; empty if the inputs are no grey or colour images."""
    if len(examples.input_shape) != 3 or examples.input_shape[0] not in (1, 3):
        return {}
    count = min(SHOWN, int(np.isfinite(scores.values).sum()) // 2)
    if count == 0:
        return {}
    lowest = examples.inputs.min().item(), examples.inputs.max().item()
    ends = {"Most memorized": scores.top(count), "Least memorized": scores.bottom(count)}
    return {title: _pictures(scores, examples.take(ids), flipped, lowest) for title, ids in ends.items()}


def _pictures(scores: Scores, chosen: Examples, flipped: Ids, span: tuple[float, float]) -> list[Picture]:
    planted = np.isin(chosen.ids, flipped)
    values = scores.of(chosen.ids)
    low, high = span
    grey = (chosen.inputs[:].float().cpu().numpy() - low) / max(high - low, 1e-12)
    return [
        Picture(_png(image), f"label {label} · {value:.2g}", bool(mark))
        for image, label, value, mark in zip(grey, chosen.labels.tolist(), values, planted, strict=True)
    ]


def _png(image: NDArray[np.float32]) -> str:
    """A [channels, height, width] array of 0 … 1 as a data address."""
    from PIL import Image

    pixels = np.moveaxis((image * 255).round().astype(np.uint8), 0, -1)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture = picture.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
