"""`unmem`: the commands, and how their errors end."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter

from unmem import __version__
from unmem.allocator import keep_freed_memory
from unmem.cli.audit import audit
from unmem.cli.check import check
from unmem.cli.config import ConfigFile
from unmem.cli.demo import demo
from unmem.cli.faults import tell_fault, tell_refusal, tell_shortage
from unmem.cli.forget import forget
from unmem.cli.init import init
from unmem.cli.options import Flag
from unmem.cli.prepare import prepare
from unmem.cli.scenario import scenario
from unmem.cli.score import score
from unmem.cli.store import store
from unmem.cli.terminal import close_output, complain, guarded
from unmem.cli.train import train
from unmem.errors import UserError, of_the_system, out_of_memory
from unmem.store import published

INTERRUPTED, NO_READER = 130, 141
_OURSELVES: dict[str, Any] = {"exit_on_error": False, "print_error": False, "result_action": "return_value"}

_CONFIG = Group("Options from a file", sort_key=5)

_EXAMPLES = {
    init: "unmem init --data digits --arch small_cnn",
    check: "unmem check --data data.npz --model model.safetensors --forget ids.txt",
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
    app.meta.suppress_keyboard_interrupt = False
    app.meta.default(_Launcher(app).launch)
    return app


@dataclass(frozen=True)
class _Launcher:
    """What comes before every command: where its options are read from."""

    app: App

    def launch(
        self,
        *arguments: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        config: Annotated[str | None, Parameter(group=_CONFIG)] = None,
        no_config: Annotated[Flag, Parameter(group=_CONFIG)] = False,
    ) -> Any:
        """Run a command, with the options of a file where the command line leaves them open.

        Parameters
        ----------
        config
            YAML or TOML file of options, such as the config.yaml of a run. Default: ./unmem.yaml if there is one;
            that one may not run code or replace files unless it is named here.
        no_config
            Read no file of options.
        """
        found = ConfigFile.find(config, self.app, ignore=no_config)
        self.app.config = found
        named = not arguments or arguments[0].startswith("-")
        if config is not None and found is not None and named and found.command is not None:
            arguments = (found.command, *arguments)
        return self.app(arguments, **_OURSELVES)


def main(arguments: list[str] | None = None) -> None:
    """Run one command.

    Exit codes: 0 done, 1 a fault of unmem's own, 2 wrong input, 3 nothing to do, 4 a guard stopped it, 130 interrupted,
    141 nobody reads what it prints.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends like Ctrl-C
    keep_freed_memory()
    try:
        with guarded():
            code: Any = build().meta(arguments, **_OURSELVES)
    except CycloptsError as error:
        complain(f"unmem: {error} (see --help)")
        code = UserError.exit_code
    except UserError as error:
        complain(f"unmem: {error}")
        code = error.exit_code
    except KeyboardInterrupt as stop:
        complain("")
        complain(f"unmem: interrupted; {_left_by(stop)}.")
        code = INTERRUPTED
    except BrokenPipeError:
        close_output()
        code = NO_READER
    except Exception as error:
        if out_of_memory(error):
            code = tell_shortage(error)
        elif isinstance(error, OSError) and of_the_system(error):
            code = tell_refusal(error)
        else:
            code = tell_fault(error, sys.argv[1:] if arguments is None else arguments)
    sys.exit(code if isinstance(code, int) else 0)


def _left_by(stop: KeyboardInterrupt) -> str:
    """What an interrupt left: what the command was told to say of it, or the run that it had published before."""
    if stop.args:
        return str(stop)
    run = published()
    return "nothing was written" if run is None else f"the run in {run} is whole"
