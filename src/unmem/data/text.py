"""Texts as token ids, by a tokenizer in files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmem.data.reading import Reading
from unmem.errors import UserError
from unmem.extras import imported
from unmem.plainfiles import read_json

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)


# Networks that count positions from the padding token on, and those whose positions are relative.
_FROM_PADDING = (
    *("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "data2vec-text", "ibert"),
)
_RELATIVE = ("t5", "mt5", "umt5", "xlnet", "funnel")
_UNKNOWN = 10**6  # tokens: what a tokenizer says beyond this, it does not know


@dataclass(frozen=True)
class _Encoder:
    """Texts to token ids, and with which id and on which side its tokenizer pads.

    Attributes:
        encode: Texts, and the most tokens that are kept of each or None for all, to the tokens of each.
        pad: The id that it pads with.
        side: "left" or "right".
        most: The most tokens that its model takes, as far as the tokenizer knows.
    """

    encode: Callable[[list[str], int | None], list[list[int]]]
    pad: int
    side: str
    most: int | None = None


def holds_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def token_ids(texts: Sequence[str], how: Reading) -> tuple[Tensor, tuple[str, ...]]:
    """[N, L] int64 and notes; cut at `how.max_length`, or at what the model takes, and padded to the longest text."""
    encoder = _encoder(how)
    known = [one for one in (encoder.most, positions(_config(_beside(how)))) if one is not None]
    most = min([how.max_length, *known])
    found = encoder.encode(list(texts), most)
    cut = _longer(encoder, list(texts), found, most)
    why = "which is all that the model takes" if most < how.max_length else "by --max-length"
    notes = (f"{cut:,} of {len(texts):,} texts were cut off after {most:,} tokens, {why}",) if cut else ()
    pad = _checked_padding(encoder, found, how)
    length = max(1, *map(len, found))
    whole = torch.full((len(found), length), pad, dtype=torch.int64)
    for row, tokens in zip(whole, found, strict=True):
        start = length - len(tokens) if encoder.side == "left" else 0
        row[start : start + len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
    return whole, notes


def _longer(encoder: _Encoder, texts: list[str], found: list[list[int]], most: int) -> int:
    """How many texts lost tokens."""
    full = [text for text, tokens in zip(texts, found, strict=True) if len(tokens) >= most]
    return sum(len(tokens) > most for tokens in encoder.encode(full, None)) if full else 0


def positions(config: Mapping[str, Any]) -> int | None:
    """The most tokens that a model takes, by its config; None if it does not say, or has no such limit."""
    kind = config.get("model_type")
    if kind in _RELATIVE or config.get("position_biased_input") is False:
        return None
    found = next((config[key] for key in ("max_position_embeddings", "n_positions") if config.get(key)), None)
    if not isinstance(found, int) or found < 1:
        return None
    return found - (config.get("pad_token_id") or 0) - 1 if kind in _FROM_PADDING else found


def _checked_padding(encoder: _Encoder, found: list[list[int]], how: Reading) -> int:
    """The id to fill up with: that of the model's config, which masks it, or the tokenizer's where there is none.

    The model tells padding by its id alone. So a text that holds this id as a token of its own is refused: it would be
    read with that token hidden.
    """
    beside = _beside(how)
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
    pad = _config(folder).get("pad_token_id")
    return pad if isinstance(pad, int) else None


def _beside(how: Reading) -> Path:
    """The folder of the tokenizer, in which its model may lie."""
    place = Path(str(how.tokenizer))
    return place if place.is_dir() else place.parent


def _config(folder: Path) -> dict[str, Any]:
    """What a folder's config.json says; nothing if there is none."""
    try:
        found: Any = read_json(folder / "config.json")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}  # pyright: ignore


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
        return _of_transformers(path)
    if path.is_file():
        return _of_tokenizers(path)
    raise UserError("tokenizer", str(path), "no such file or folder", "check the path")


def _of_transformers(folder: Path) -> _Encoder:
    transformers = imported("transformers", field="tokenizer")
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise _unreadable(folder, error) from error
    if tokenizer.pad_token_id is None:
        raise _no_padding(folder)

    def encode(texts: list[str], most: int | None) -> list[list[int]]:
        # Nothing goes into a model here, so that a text longer than it takes is nothing to warn of.
        return tokenizer(texts, truncation=most is not None, max_length=most, verbose=False)["input_ids"]

    most: int = tokenizer.model_max_length  # a huge number where it is not known
    return _Encoder(encode, tokenizer.pad_token_id, tokenizer.padding_side, most if most < _UNKNOWN else None)


def _of_tokenizers(file: Path) -> _Encoder:
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

    def encode(texts: list[str], most: int | None) -> list[list[int]]:
        if most is None:
            tokenizer.no_truncation()
        else:
            tokenizer.enable_truncation(most)
        return [one.ids for one in tokenizer.encode_batch(texts)]

    return _Encoder(encode, pads[0], side)


def _unreadable(path: Path, error: Exception) -> UserError:
    if "trust_remote_code" in str(error):
        fix = "save it as tokenizer.json, and name that file"
        return UserError("tokenizer", str(path), "needs the code in its folder, which was not run", fix)
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError("tokenizer", str(path), f"cannot be read ({reason})", "save it again by save_pretrained")


def _no_padding(path: Path) -> UserError:
    return UserError("tokenizer", str(path), "has no padding token", "set its pad_token and save it again")
