"""Texts as token ids, by a tokenizer in files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmem.data.reading import Reading
from unmem.errors import UserError
from unmem.extras import imported

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)


@dataclass(frozen=True)
class _Encoder:
    """Texts to token ids, and with which id and on which side its tokenizer pads."""

    encode: Callable[[list[str]], list[list[int]]]
    pad: int
    side: str


def holds_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def token_ids(texts: Sequence[str], how: Reading) -> Tensor:
    """[N, L] int64, cut at `how.max_length` and padded at the end to the longest text."""
    encoder = _encoder(how)
    found = encoder.encode(list(texts))
    pad = _checked_padding(encoder, found, how)
    length = max(1, *map(len, found))
    whole = torch.full((len(found), length), pad, dtype=torch.int64)
    for row, tokens in zip(whole, found, strict=True):
        start = length - len(tokens) if encoder.side == "left" else 0
        row[start : start + len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
    return whole


def _checked_padding(encoder: _Encoder, found: list[list[int]], how: Reading) -> int:
    """The id to fill up with: that of the model's config, which masks it, or the tokenizer's where there is none.

    The model tells padding by its id alone. So a text that holds this id as a token of its own is refused: it would be
    read with that token hidden.
    """
    folder = Path(str(how.tokenizer))
    beside = folder if folder.is_dir() else folder.parent
    model = pad_of_config(beside)
    pad = encoder.pad if model is None else model
    if model is None and (beside / "config.json").is_file() and len({len(tokens) for tokens in found}) > 1:
        raise UserError(
            "tokenizer",
            str(how.tokenizer),
            "the model beside it has no pad_token_id in its config.json, so that it would read the padding as text",
            f"set it to that of the tokenizer, {encoder.pad}",
        )
    holding = sum(pad in tokens for tokens in found)
    if holding:
        differ = f", but the model's pad_token_id is {pad}" if pad != encoder.pad else ", a token that texts hold too"
        raise UserError(
            "tokenizer",
            str(how.tokenizer),
            f"it pads with token {encoder.pad}{differ}: {holding:,} texts would be read with tokens hidden",
            "set pad_token_id in the model's config.json and pad_token in the tokenizer to one token used for nothing "
            "else",
        )
    return pad


def pad_of_config(folder: Path) -> int | None:
    """The pad_token_id in a folder's config.json; None if there is none."""
    try:
        found: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    pad: Any = found.get("pad_token_id") if isinstance(found, dict) else None  # pyright: ignore
    return pad if isinstance(pad, int) else None


def _encoder(how: Reading) -> _Encoder:
    if how.tokenizer is None:
        raise UserError(
            "tokenizer", None, "texts need one", "name the folder or tokenizer.json of the model by --tokenizer"
        )
    path = Path(how.tokenizer)
    if path.is_dir():
        if not holds_tokenizer(path):
            problem = f"the folder holds no tokenizer (none of {', '.join(TOKENIZER_FILES)})"
            raise UserError("tokenizer", str(path), problem, "name the folder that tokenizer.save_pretrained wrote")
        return _of_transformers(path, how.max_length)
    if path.is_file():
        return _of_tokenizers(path, how.max_length)
    raise UserError("tokenizer", str(path), "no such file or folder", "check the path")


def _of_transformers(folder: Path, length: int) -> _Encoder:
    transformers = imported("transformers", field="tokenizer")
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        raise _unreadable(folder, error) from error
    if tokenizer.pad_token_id is None:
        raise _no_padding(folder)

    def encode(texts: list[str]) -> list[list[int]]:
        return tokenizer(texts, truncation=True, max_length=length)["input_ids"]

    return _Encoder(encode, tokenizer.pad_token_id, tokenizer.padding_side)


def _of_tokenizers(file: Path, length: int) -> _Encoder:
    tokenizers = imported("tokenizers", field="tokenizer")
    try:
        tokenizer: Any = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:
        raise _unreadable(file, error) from error
    candidates = [(tokenizer.padding or {}).get("pad_token"), "[PAD]", "<pad>", "<|pad|>"]
    pads = [tokenizer.token_to_id(name) for name in candidates if name and tokenizer.token_to_id(name) is not None]
    if not pads:
        raise _no_padding(file)
    side = (tokenizer.padding or {}).get("direction", "right")
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    return _Encoder(lambda texts: [one.ids for one in tokenizer.encode_batch(texts)], pads[0], side)


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError("tokenizer", str(path), f"cannot be read ({reason})", "save it again by save_pretrained")


def _no_padding(path: Path) -> UserError:
    return UserError("tokenizer", str(path), "has no padding token", "set its pad_token and save it again")
