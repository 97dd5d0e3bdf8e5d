"""Random crops and horizontal flips for a whole batch of images, as in the papers.

The images are padded by an eighth of their side before the crop (4 pixels of 32, the standard on CIFAR). The random
values depend only on the seed. They are generated once per epoch, so that training steps do not wait for them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unmem.recipe import Augment

_SHARE = 8  # side of an image divided by the padding


def draw_views(n: int, how: Augment, shape: tuple[int, ...], random: torch.Generator) -> Tensor:
    """Return offsets down and right and a flip (0 or 1) for n images of shape [C, H, W]: [n, 3] int64, on the CPU."""
    down, right = (torch.randint(0, 2 * (side // _SHARE) + 1, (n,), generator=random) for side in shape[1:])
    flip = torch.randint(0, 2 if how == "crop-flip" else 1, (n,), generator=random)
    return torch.stack([down, right, flip], dim=1)


def augmented(images: Tensor, draws: Tensor, black: Tensor) -> Tensor:
    """Crop and flip images [B, C, H, W] by `draws` [B, 3], after padding with the values of `black`, [C] or []."""
    height, width = images.shape[2:]
    rows, columns = height // _SHARE, width // _SHARE
    black = black.reshape(-1, 1, 1)
    padded = F.pad(images - black, (columns, columns, rows, rows)) + black
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # [B, C, places down, places right, H, W], a view
    down, right, flip = draws.unbind(1)
    cut = windows[torch.arange(len(images), device=images.device), :, down, right]
    return torch.where(flip.bool()[:, None, None, None], cut.flip(3), cut)
