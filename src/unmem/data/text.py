"""Texts as token ids, by a tokenizer in files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmem.data.reading import Reading
from unmem.errors import UserError
from unmem.extras import imported

Encoder = Callable[[list[str]], list[list[int]]]
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "spiece.model")


def holds_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def token_ids(texts: Sequence[str], how: Reading) -> Tensor:
    """[N, L] int64, cut at `how.max_length` and padded at the end to the longest text."""
    encode, pad = _encoder(how)
    found = encode(list(texts))
    whole = torch.full((len(found), max(1, *map(len, found))), pad, dtype=torch.int64)
    for row, tokens in zip(whole, found, strict=True):
        row[: len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
    return whole


def _encoder(how: Reading) -> tuple[Encoder, int]:
    if how.tokenizer is None:
        raise UserError(
            "tokenizer", None, "texts need one", "name the folder or tokenizer.json of the model by --tokenizer"
        )
    path = Path(how.tokenizer)
    if path.is_dir():
        return _of_transformers(path, how.max_length)
    if path.is_file():
        return _of_tokenizers(path, how.max_length)
    raise UserError("tokenizer", str(path), "no such file or folder", "check the path")


def _of_transformers(folder: Path, length: int) -> tuple[Encoder, int]:
    transformers = imported("transformers", field="tokenizer")
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        raise _unreadable(folder, error) from error
    if tokenizer.pad_token_id is None:
        raise _no_padding(folder)
    return lambda texts: tokenizer(texts, truncation=True, max_length=length)["input_ids"], tokenizer.pad_token_id


def _of_tokenizers(file: Path, length: int) -> tuple[Encoder, int]:
    tokenizers = imported("tokenizers", field="tokenizer")
    try:
        tokenizer: Any = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:
        raise _unreadable(file, error) from error
    candidates = [(tokenizer.padding or {}).get("pad_token"), "[PAD]", "<pad>", "<|pad|>"]
    pads = [tokenizer.token_to_id(name) for name in candidates if name and tokenizer.token_to_id(name) is not None]
    if not pads:
        raise _no_padding(file)
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    return lambda texts: [one.ids for one in tokenizer.encode_batch(texts)], pads[0]


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError("tokenizer", str(path), f"cannot be read ({reason})", "save it again by save_pretrained")


def _no_padding(path: Path) -> UserError:
    return UserError("tokenizer", str(path), "has no padding token", "set its pad_token and save it again")
