"""The JavaScript that draws the charts, taken from vl-convert in a process of its own.

vl-convert asks V8, which reserves some 60 GB of addresses and ends its whole process where it gets less, as under
`ulimit -v`. Here only the child ends.
"""

from __future__ import annotations

import importlib.util
import re
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

from unmem.errors import UserError

_PATIENCE = 600  # seconds; some five are usual
_SCRIPT = """\
import sys
sys.path.append(sys.argv[1])
import vl_convert
sys.stdout.buffer.write(vl_convert.javascript_bundle().encode())
"""


class PageError(UserError):
    """The page cannot be made; nothing else of the results depends on it."""

    @classmethod
    def because(cls, reason: str) -> PageError:
        fix = "all other results are kept; for the page, run the command where there is more memory"
        return cls("report.html", None, f"cannot be made ({reason})", fix)


@cache
def chart_libraries() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, safe inside a script element.

    Raises:
        PageError: vl-convert failed.
    """
    found = importlib.util.find_spec("vl_convert")
    if found is None or found.origin is None:
        raise PageError.because("vl-convert-python is not installed")
    # -I: nothing is imported from the current folder.
    command = [sys.executable, "-I", "-c", _SCRIPT, str(Path(found.origin).parents[1])]
    try:
        made = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PageError.because(f"vl-convert did not run: {type(error).__name__}") from error
    if made.returncode or not made.stdout:
        raise PageError.because(f"vl-convert ended with {_ending(made.returncode)}")
    return re.sub("</(?=script)", r"<\\/", made.stdout.decode("utf-8"), flags=re.IGNORECASE)


def _ending(code: int) -> str:
    """How a process ended: the name of the signal, or its exit code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
