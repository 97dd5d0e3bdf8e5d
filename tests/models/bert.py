"""A text classifier of the size of a test, and token data that it can learn."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path

import numpy as np
import torch

import unmem as um

LENGTH, VOCABULARY, PAD = 10, 200, 0


def tokens(n: int, *, seed: int, prefix: str) -> um.Examples:
    """n sentences of 4 to 10 tokens, padded; a sentence is of the class whose tokens it holds."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    ids = random.integers(100, VOCABULARY, (n, LENGTH))
    ids[:, 0] = 10 + labels
    ids[:, 1] = 10 + labels
    for row, length in enumerate(random.integers(4, LENGTH + 1, n)):
        ids[row, length:] = PAD
    return um.Examples.of(ids, labels, ids=[f"{prefix}{i}" for i in range(n)], n_classes=3, scaling=None)


def sentences(n: int = 48) -> um.Splits:
    return um.Splits("sentences", *(tokens(n, seed=i, prefix=p) for i, p in enumerate(("", "h", "t"))))


def save_bert(folder: Path, *, labels: int = 3, seed: int = 0) -> Path:
    """A folder of save_pretrained with a BERT of two layers, freshly drawn."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
        num_labels=labels,
        pad_token_id=PAD,
    )
    transformers.utils.logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder
