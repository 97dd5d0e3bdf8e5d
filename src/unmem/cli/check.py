"""`unmem check`: all that can be verified without training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import Group, Parameter

from unmem.cli.options import DataOptions, ModelOptions, RunOptions, SelectOptions, settings

if TYPE_CHECKING:
    from unmem.cli.checks import Finding
    from unmem.cli.original import Original
    from unmem.cli.session import Session
    from unmem.data import Ids
    from unmem.errors import UserError
    from unmem.unlearning import Problem

_REQUEST = Group("Request", sort_key=0)
_NONE = SelectOptions()
T = TypeVar("T")


def check(
    *,
    request: Annotated[SelectOptions, Parameter(name="*", group=_REQUEST)] = _NONE,
    data: DataOptions = DataOptions(),
    run: RunOptions = RunOptions(),
    model: ModelOptions = ModelOptions(),
) -> None:
    """Show how data, model and request are interpreted and what looks wrong, without training or writing anything.

    Exits with 0 if a command with these options would start, although doubts may be listed, and otherwise with the code
    that the command would end with.
    """
    from unmem.cli.console import gathered

    with gathered() as notes:
        found = _Checked(notes)
        found.run(request, data, run, model)
    found.show()
    if found.errors:
        raise found.errors[0]


class _Checked:
    """What was found so far. An error ends what depends on it, and nothing else."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes
        self.findings: list[Finding] = []
        self.errors: list[UserError] = []

    def run(self, request: SelectOptions, data: DataOptions, run: RunOptions, model: ModelOptions) -> None:
        from unmem.cli import checks
        from unmem.cli.request import Request
        from unmem.cli.session import Session, model_named, reading_of

        wanted = (
            self._tried(lambda: Request.read(request)) if request.forget or request.where or request.issues else None
        )
        asked = settings(data, run, model, request)
        session = self._tried(lambda: Session.open("check", asked, data, run))
        if session is None:
            return
        tokenizer = reading_of(data, model_named(asked)).get("tokenizer")
        subject = checks.Subject(session.data, data.split, tokenizer=tokenizer)
        self._add(checks.examined(checks.OF_DATA, subject))
        original = self._tried(lambda: _original(session, model))
        if original is not None:
            arch = original.recipe.model
            subject = replace(subject, model=original.model, arch=arch, card=original.card, file=model.model)
            self._add(checks.examined(checks.OF_MODEL, subject))
        if wanted is None:
            return
        ids = self._tried(lambda: wanted.ids(session.data, session.before))
        if ids is None or original is None:
            return
        problem = self._tried(lambda: _problem(original, session, ids))
        self._add(checks.examined(checks.OF_REQUEST, replace(subject, problem=problem)))

    def show(self) -> None:
        from unmem.cli.console import Listing, console

        texts = {one.text for one in self.findings}
        noted = [("note", text) for text in dict.fromkeys(self.notes) if text not in texts]
        understood = [(one.topic, one.text) for one in self.findings if not one.doubt]
        if understood or noted:
            console.print("  What was understood", style="bold")
            console.print(Listing([*understood, *noted]))
        doubts = [(one.topic, one.text) for one in self.findings if one.doubt]
        refused = [("refused", str(one)) for one in self.errors]
        if not doubts and not refused:
            console.print("  Nothing looks wrong.")
            return
        console.print("  What looks wrong", style="bold")
        console.print(Listing([*doubts, *refused]))

    def _tried(self, work: Callable[[], T]) -> T | None:
        from unmem.errors import UserError

        try:
            return work()
        except UserError as error:
            self.errors.append(error)
            return None

    def _add(self, found: Iterable[Finding | UserError]) -> None:
        from unmem.errors import UserError

        for one in found:
            (self.errors if isinstance(one, UserError) else self.findings).append(one)  # pyright: ignore


def _original(session: Session, options: ModelOptions) -> Original:
    """The finished model, or a network that was tried and not trained."""
    from unmem.cli.original import Original, read_model, recipe_of, untrained_network

    if options.model is not None:
        return read_model(session, options.model, options, unsafe=options.unsafe_load)
    recipe = recipe_of(session, options)
    return Original(untrained_network(session, recipe), recipe, None)


def _problem(original: Original, session: Session, ids: Ids) -> Problem:
    from unmem.unlearning import Problem

    return Problem(original.model, session.data, ids, recipe=original.recipe)
