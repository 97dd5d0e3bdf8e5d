"""Cells of a column in bulk: pyarrow's functions for texts, with NumPy masks for what holds in which row."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute as _untyped

_compute: Any = _untyped  # its functions are made when it is imported, so that no type checker knows them
Mask = NDArray[np.bool_]
SHOWN = 3


def is_text(kind: Any) -> bool:
    """Whether a pyarrow type is one of texts."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def plain(column: Any) -> Any:
    """Categories as what they stand for, and one type for texts."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string()) if is_text(column.type) else column


def trimmed(column: Any) -> Any:
    """The texts without spaces around them; "" where there is none."""
    texts = _compute.utf8_trim_whitespace(_compute.fill_null(column.cast(pa.string()), ""))
    return texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts


def matching(texts: Any, pattern: str) -> Mask:
    """Where a pattern of RE2 is found."""
    return _mask(_compute.match_substring_regex(texts, pattern))


def among(texts: Any, options: Iterable[str]) -> Mask:
    """Where a text is one of the options."""
    return _mask(_compute.is_in(texts, value_set=pa.array(list(options), pa.string())))


def rows_of(texts: Any, mask: Mask) -> Any:
    """The texts where the mask holds."""
    return texts.filter(pa.array(mask))


def replaced(texts: Any, pattern: str, by: str) -> Any:
    """The texts with every place where the pattern is found replaced."""
    return _compute.replace_substring_regex(texts, pattern, by)


def as_numbers(texts: Any, good: Mask) -> NDArray[np.float64]:
    """The texts as numbers where `good` holds, NaN elsewhere."""
    found = _compute.if_else(pa.array(good), texts, None).cast(pa.float64())
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.float64)


def distinct(texts: Any) -> list[str]:
    """Each text once."""
    return texts.unique().to_pylist()


def shown(texts: Any) -> str:
    """Some of the texts, the most frequent first, with how often each is there: `'?' (3), '-' (1)`."""
    counts = Counter(texts.to_pylist())
    more = f" and {len(counts) - SHOWN:,} more" if len(counts) > SHOWN else ""
    return ", ".join(f"{str(text)[:40]!r} ({n:,})" for text, n in counts.most_common(SHOWN)) + more


def quoted(name: str) -> str:
    """A name as it can be written on a command line."""
    return name if re.fullmatch(r"[\w.+-]+", name) else shlex.quote(f'"{name}"' if "," in name else name)


def _mask(found: Any) -> Mask:
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.bool_)
