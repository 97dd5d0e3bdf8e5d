"""`unmem`: the commands, and how their errors end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter

from unmem import __version__
from unmem.allocator import keep_freed_memory
from unmem.cli.faults import report_fault, report_refusal, report_shortage
from unmem.cli.terminal import close_output, complain, guarded
from unmem.errors import UserError, of_the_system, out_of_memory

INTERRUPTED, NO_READER = 130, 141
_OURSELVES: dict[str, Any] = {"exit_on_error": False, "print_error": False, "result_action": "return_value"}

_CONFIG = Group("Options from a file", sort_key=5)
_CONFIG_HELP = (
    "YAML or TOML file of options, such as the config.yaml of a run. Default: ./unmem.yaml if there is one; that one "
    "may not run code or replace files unless it is named here."
)

# Command -> its summary, which a test holds against its docstring, and an example. Each command is a file of its name.
_COMMANDS = {
    "init": (
        "Write a file of options, from those given here or from answers to a few questions.",
        "unmem init --data digits --arch small_cnn",
    ),
    "check": (
        "Show how data, model and request are interpreted and what looks wrong, without training or writing anything.",
        "unmem check --data data.npz --model model.safetensors --forget ids.txt",
    ),
    "demo": (
        "Watch a model learn, forget 90 examples in five ways, and see how close each comes to retraining.",
        "unmem demo --out runs/demo",
    ),
    "train": (
        "Train a model and save it with its settings.",
        "unmem train --data digits --flip 0.05 --out runs/original",
    ),
    "score": (
        "Compute how memorized each training example is; larger means more memorized.",
        "unmem score --data digits --flip 0.05 --method confidence,accuracy --out runs/scores",
    ),
    "prepare": (
        "Predict each training example with a model that was not trained on it, once for all later requests.",
        "unmem prepare --data digits --model runs/original/original.safetensors --out runs/prepared",
    ),
    "forget": (
        "Make a model forget some of its training examples.",
        "unmem forget --data digits --top confidence:50 --method rum --reference retrain --out runs/forgot",
    ),
    "audit": (
        "Measure what an unlearned model still knows about its forget set, and what this run could have detected.",
        "unmem audit --data digits --model runs/forgot/unlearned.safetensors --forget ids.txt --out runs/audit",
    ),
    "scenario": (
        "Plant a use case in real data, unlearn it by several methods, and compare them with retraining.",
        "unmem scenario poisoned --data digits --method matching,neggrad+ --out runs/poisoned",
    ),
    "bench": (
        "Run a benchmark on real data: tables and claims with their figures.",
        "unmem bench proxies --size tiny --out runs/proxies",
    ),
    "store": ("List, check and tidy the members that unmem score and unmem prepare keep.", None),
}


def build(*, overview: bool = False) -> App:
    """The program.

    Args:
        overview: Only list the commands. Their files are not imported, nor is what renders Markdown, which together
            take as long as all the rest.
    """
    app = App(
        name="unmem",
        version=__version__,
        help="Make a trained classifier forget chosen training examples, and see what was and was not forgotten.",
        help_epilogue="Start with: unmem demo",
        help_format="plaintext" if overview else "markdown",
        suppress_keyboard_interrupt=False,
    )
    for name, (summary, example) in _COMMANDS.items():
        more = {} if example is None else {"help_epilogue": f"Example: {example}"}
        if overview:
            app.command(f"unmem.cli.{name}:{name}", name=name, help=summary)
        else:
            app.command(getattr(import_module(f"unmem.cli.{name}"), name), **more)
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
        config: Annotated[str | None, Parameter(group=_CONFIG, help=_CONFIG_HELP)] = None,
        no_config: Annotated[bool, Parameter(group=_CONFIG, negative=(), help="Read no file of options.")] = False,
    ) -> Any:
        """Run a command, with the options of a file where the command line leaves them open."""
        from unmem.cli.config import ConfigFile

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
    given = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends like Ctrl-C
    keep_freed_memory()
    try:
        with guarded():
            code: Any = build(overview=_lists(given)).meta(given, **_OURSELVES)
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
            code = report_shortage(error)
        elif isinstance(error, OSError) and of_the_system(error):
            code = report_refusal(error)
        else:
            code = report_fault(error, given)
    sys.exit(code if isinstance(code, int) else 0)


def _lists(arguments: Sequence[str]) -> bool:
    """Whether nothing is asked for but the list of the commands."""
    return list(arguments) in ([], ["--help"], ["-h"])


def _left_by(stop: KeyboardInterrupt) -> str:
    """What an interrupt left: the words of the command, or else the run that it had published before."""
    from unmem.store import published

    if stop.args:
        return str(stop)
    run = published()
    return "nothing was written" if run is None else f"the run in {run} is whole"
