"""Errors that are caused by the user's input, and how errors of the system are told apart."""

from __future__ import annotations

import errno
import math
import os
import re
from typing import Any


class UserError(ValueError):
    """A wrong input. Its message names the parameter, the value, the problem and a fix.

    Args:
        field: Name of the parameter.
        value: Its value, or None to leave it out of the message.
        problem: What is wrong, without a subject.
        fix: What to do, as a clause.

    Attributes:
        exit_code: Exit code of the command line (see `unmem --help`).
    """

    exit_code = 2

    def __init__(self, field: str, value: object, problem: str, fix: str) -> None:
        shown = "" if value is None else f" {_short(value)}"
        super().__init__(f"{field}{shown}: {problem}; {fix}" + ("" if fix.endswith("?") else "."))
        self.field = field
        self.value = value
        self.problem = problem
        self.fix = fix

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross from the processes of a pool; an exception is rebuilt from its message alone by default."""
        return type(self), (self.field, self.value, self.problem, self.fix), vars(self)


class NothingToDoError(UserError):
    """The request is empty."""

    exit_code = 3


class UnseenExampleError(UserError):
    """The request names an example that is not in the training split."""


class NotFiniteError(UserError):
    """A model returned NaN or infinity."""

    def of(self, model: str) -> NotFiniteError:
        """The same error, naming the model."""
        return NotFiniteError(self.field, model, self.problem, self.fix) if self.value is None else self


class DivergedError(UserError):
    """The loss or the weights of a training became NaN or infinite.

    Attributes:
        last_good: State dict of the model before the epoch that failed.
        step: The method, or the step of RUM, that failed.
    """

    last_good: dict[str, Any] | None = None
    step: str | None = None

    def during(self, step: str) -> DivergedError:
        """The same error, naming the step of a longer run in which it arose; outer steps come first."""
        trail = step if self.step is None else f"{step}, {self.step}"
        problem = self.problem if self.step is None else self.problem.removesuffix(f" of {self.step}")
        named = DivergedError(self.field, self.value, f"{problem} of {trail}", self.fix)
        named.last_good, named.step = self.last_good, trail
        return named


def of_the_system(error: BaseException) -> bool:
    """Whether an error is of a file or folder that the system refuses: a name too long, a full disk, no permission."""
    return isinstance(error, OSError) and error.errno in (_DISK if error.filename is None else (*_DISK, *_REFUSED))


# What a disk answers that takes no more: full, over the quota, over the largest file, read-only, or broken.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_REFUSED = (
    *(errno.ENAMETOOLONG, errno.ENOENT, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
    *(errno.ELOOP, errno.ESTALE, errno.EMFILE),
)


def disk_fault(error: BaseException) -> str | None:
    """What the disk answered, in the system's words, if that is why something could not be written.

    Libraries that write files by themselves, such as safetensors, have errors of their own with the number in the text.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) if error.errno in _DISK else None
    return next((os.strerror(number) for number in _DISK if f"os error {number}" in str(error)), None)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was lacking, in the words of Python, PyTorch, CUDA or the system."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError | ImportError) and any(words in said for words in _NO_MEMORY)


_NO_MEMORY = (
    *("can't allocate memory", "cannot allocate memory", "out of memory", "not enough memory", "bad_alloc"),
    *("can't start new thread", "alloc_failed", "failed to map segment", "could not create a primitive"),
)


class Phrase(str):
    """A value that describes rather than quotes, such as "of shape (3, 2)": shown without quotation marks."""

    __slots__ = ()


def _short(value: object, limit: int = 400) -> str:
    """The value as text, cut only where it is no path or name any more."""
    text = repr(value) if isinstance(value, str) and not isinstance(value, Phrase) else str(value)
    text = re.sub(r"\s*\n\s*", " ", text)  # the rows of an array are lines of their own
    return text if len(text) <= limit else f"{text[:limit]}…"


def one_of(field: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a choice that does not exist."""
    if value not in known:
        raise UserError(field, value, "no such choice", nearest(str(value), list(known)))


def whole_number(field: str, value: object) -> None:
    """Refuse anything but an integer from 0 to 2⁶³ − 1, or a small negative one that another check names better."""
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**31) <= value < 2**63:
        raise UserError(field, value, "must be a whole number", "give one such as 10")


def not_negative(field: str, value: float, fix: str) -> None:
    """Refuse a number below 0, and what is no finite number."""
    if not 0 <= value < math.inf:
        raise UserError(field, value, "must be a finite number, 0 or more", fix)


def nearest(name: str, known: list[str]) -> str:
    """A fix for a misspelt name: the closest known one, or all of them."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(known)}"
