"""Networks that only benchmarks use, named `networks:FUNCTION` in their recipes.

They are apart from the benchmarks: finished members are found again by a hash of the file that holds their network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unmem.models import resnet18

VOCABULARY = 8192  # token ids; 0 is padding
EMBEDDING, FILTERS, WINDOWS = 64, 32, (3, 4, 5)


def narrow_resnet18(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """ResNet-18 with an eighth of its channels."""
    return resnet18(input_shape, n_classes, width=8)


def text_cnn(n_classes: int) -> nn.Module:
    """The convolutional network for sentences of Kim 2014 (arXiv 1408.5882), with embeddings drawn at random."""
    return TextCNN(n_classes)


class TextCNN(nn.Module):
    """Convolutions over 3, 4 and 5 tokens, each reduced to its maximum over the text; dropout; a linear layer."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, EMBEDDING, padding_idx=0)
        self.convolutions = nn.ModuleList(nn.Conv1d(EMBEDDING, FILTERS, size, padding=size // 2) for size in WINDOWS)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(FILTERS * len(WINDOWS), n_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids [B, L] to logits [B, C]."""
        x = self.embedding(tokens).transpose(1, 2)
        found = [convolution(x).relu().amax(2) for convolution in self.convolutions]
        return self.output(self.dropout(torch.cat(found, 1)))
