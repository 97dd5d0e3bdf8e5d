"""Random views of images, a whole batch at a time: shifts and mirror images, as the papers train with them.

Crops of an image padded by an eighth of its side (4 pixels of 32, as on CIFAR everywhere) and horizontal flips. What is
drawn depends on the seed alone, and is drawn once an epoch, so that nothing waits for it between two steps.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unmem.recipe import Augment

_SHARE = 8  # the padding is the side divided by this


def draw_views(n: int, how: Augment, shape: tuple[int, ...], random: torch.Generator) -> Tensor:
    """For each of n images of shape [C, H, W]: rows down, columns right, flipped or not. [n, 3] int64, on the CPU."""
    down, right = (torch.randint(0, 2 * (side // _SHARE) + 1, (n,), generator=random) for side in shape[1:])
    flip = torch.randint(0, 2 if how == "crop-flip" else 1, (n,), generator=random)
    return torch.stack([down, right, flip], dim=1)


def augmented(images: Tensor, draws: Tensor, black: Tensor) -> Tensor:
    """The images [B, C, H, W] cut out of padded ones as `draws` [B, 3] says; black: [C] or [], what padding holds."""
    height, width = images.shape[2:]
    rows, columns = height // _SHARE, width // _SHARE
    black = black.reshape(-1, 1, 1)
    padded = F.pad(images - black, (columns, columns, rows, rows)) + black
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # [B, C, places down, places right, H, W], a view
    down, right, flip = draws.unbind(1)
    cut = windows[torch.arange(len(images), device=images.device), :, down, right]
    return torch.where(flip.bool()[:, None, None, None], cut.flip(3), cut)
