"""`unmem`: the commands, and how their errors end."""

from __future__ import annotations

import signal
import sys
from typing import Any

from cyclopts import App, CycloptsError

from unmem import __version__
from unmem.allocator import keep_freed_memory
from unmem.cli.audit import audit
from unmem.cli.demo import demo
from unmem.cli.forget import forget
from unmem.cli.prepare import prepare
from unmem.cli.scenario import scenario
from unmem.cli.score import score
from unmem.cli.store import store
from unmem.cli.train import train
from unmem.errors import UserError

INTERRUPTED = 130

_EXAMPLES = {
    demo: "unmem demo --out runs/demo",
    train: "unmem train --data digits --flip 0.05 --out runs/original",
    score: "unmem score --data digits --flip 0.05 --method confidence,accuracy --out runs/scores",
    prepare: "unmem prepare --data digits --model runs/original/original.safetensors --out runs/prepared",
    forget: "unmem forget --data digits --top confidence:50 --method rum --reference retrain --out runs/forgot",
    audit: "unmem audit --data digits --model runs/forgot/unlearned.safetensors --forget ids.txt --out runs/audit",
    scenario: "unmem scenario poisoned --data digits --method matching,neggrad+ --out runs/poisoned",
}


def build() -> App:
    app = App(
        name="unmem",
        version=__version__,
        help="Make a trained classifier forget chosen training examples, and see what was and was not forgotten.",
        help_epilogue="Start with: unmem demo",
        help_format="markdown",
        suppress_keyboard_interrupt=False,
    )
    for command, example in _EXAMPLES.items():
        app.command(command, help_epilogue=f"Example: {example}")
    app.command(store)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run one command. Exit codes: 0 done, 2 wrong input, 3 nothing to do, 4 a guard stopped it, 130 interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends like Ctrl-C
    keep_freed_memory()
    try:
        code: Any = build()(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        print(f"unmem: {error} (see --help)", file=sys.stderr)
        code = UserError.exit_code
    except UserError as error:
        print(f"unmem: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt as stop:
        print(f"\nunmem: interrupted; {stop if stop.args else 'nothing was written'}.", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)
