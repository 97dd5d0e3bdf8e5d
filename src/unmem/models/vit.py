"""A small vision transformer (Dosovitskiy et al. 2021): width and heads of DeiT-Tiny, half of its depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmem.models.small import image_channels

WIDTH, DEPTH, HEADS, HIDDEN = 192, 6, 3, 768
SMALLEST_PATCH, MOST_PATCHES = 4, 16  # pixels a side; patches a side


def vit(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """Six blocks of width 192 with three heads, over square patches of `patch_size` pixels and a class token."""
    return VisionTransformer(image_channels("vit", input_shape, at_least=1), input_shape[1], input_shape[2], n_classes)


def patch_size(height: int, width: int) -> int:
    """Pixels a side: 4, doubled until no side has more than 16 patches: 4 up to 64 pixels, 8 up to 128, 16 up to 256.

    >>> patch_size(32, 32), patch_size(64, 64), patch_size(65, 32), patch_size(224, 224)
    (4, 4, 8, 16)
    """
    size = SMALLEST_PATCH
    while max(height, width) > MOST_PATCHES * size:
        size *= 2
    return size


class VisionTransformer(nn.Module):
    """Images [B, C, H, W] to logits; sides that are no multiple of the patch are filled up with zeros."""

    def __init__(self, channels: int, height: int, width: int, n_classes: int) -> None:
        super().__init__()
        self.patch = patch_size(height, width)
        patches = -(-height // self.patch) * -(-width // self.patch)
        self.embed = nn.Conv2d(channels, WIDTH, self.patch, self.patch)
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.empty(1, patches + 1, WIDTH))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.blocks = nn.Sequential(*[_Block() for _ in range(DEPTH)])
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.patch, 0, -height % self.patch))
        x = self.embed(x).flatten(2).transpose(1, 2)  # [B, patches, WIDTH]
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class _Block(nn.Module):
    """Attention, then two layers on each token alone, each after a norm and beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.mix = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.hidden, self.out = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attention(self.norm1(x))
        return x + self.out(F.gelu(self.hidden(self.norm2(x))))

    def _attention(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)  # [B, HEADS, tokens, WIDTH / HEADS]
        return self.mix(mixed.transpose(1, 2).reshape(batch, tokens, WIDTH))
