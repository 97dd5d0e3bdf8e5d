"""`unmem scenario`: the three uses of unlearning, planted on real data, so that what should happen is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from unmem.cli.early import check_early
from unmem.cli.options import DataOptions, OutputOptions, RecipeOptions, RunOptions, check_reference, settings
from unmem.tables import Column, Row, Table

if TYPE_CHECKING:
    from torch import nn

    from unmem.cli.comparing import Unlearned
    from unmem.cli.methods import Planned
    from unmem.cli.session import Session
    from unmem.cli.work import Work
    from unmem.evaluation import Outcome
    from unmem.scenarios import Scenario
    from unmem.unlearning import Problem

_SCENARIO = Group("Scenario", sort_key=0)


@Parameter(name="*", group=_SCENARIO)
@dataclass(frozen=True, kw_only=True)
class ScenarioOptions:
    """What to plant, and which methods to use."""

    count: int = 100
    "For privacy: the number of random training examples to delete."
    share: float = 0.05
    "For mislabelled and poisoned: the share of training examples to change."
    target: int = 0
    "For poisoned: the class that the trigger patch should cause."
    method: str = "matching,neggrad+,fine-tune"
    "Methods, separated by commas; see unmem forget --help."
    set: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=True)] = ()
    "Parameters of methods: METHOD.FIELD=VALUE."
    reference_seeds: int = 2
    "Number of models to retrain without the planted examples."


def scenario(
    name: Annotated[Literal["privacy", "mislabelled", "poisoned"], Parameter(name="--scenario")],
    *,
    output: OutputOptions,
    options: ScenarioOptions = ScenarioOptions(),
    data: DataOptions = DataOptions(),
    run: RunOptions = RunOptions(),
    recipe: RecipeOptions = RecipeOptions(),
) -> None:
    """Plant a use case in real data, unlearn it by several methods, and compare them with retraining.

    privacy: deletion requests for random examples. mislabelled: training examples with wrong labels. poisoned: images
    with a trigger patch and the attacker's label. Writes result.json and report.html to the run folder.
    """
    check_early(output, options, data, run, recipe)
    from unmem.cli.comparing import compare, retrain
    from unmem.cli.console import alarm, console, sentences, warn
    from unmem.cli.fitting import Fitted
    from unmem.cli.page import print_page, write_page
    from unmem.cli.saving import facts, finish, save_original, save_unlearned
    from unmem.cli.session import writing
    from unmem.cli.work import Work
    from unmem.report import Report
    from unmem.unlearning import Problem

    planned = _planned(options)
    first = next(iter(planned))  # the model of the first method is saved
    check_reference(options.reference_seeds, least=0)
    asked = settings(data, run, recipe, options) | {"scenario": name}
    with writing("scenario", asked, output, data, run) as (session, folder):
        made = _made(name, session, options)
        session = replace(session, data=made.data)
        warn(made.explained)
        work = Work.start(session, recipe)
        original = work.original
        problem = Problem(original.model, made.data, made.forget, recipe=original.recipe)
        unlearned = _forgotten(planned, work, problem)
        retrained = retrain(session, problem, options.reference_seeds)
        evaluation = compare(original, problem, unlearned, retrained)
        models = {name: one.model for name, one in unlearned.items()}
        measures = _measured(made, original.model, models, retrained.models)
        save_original(session, folder, original)
        save_unlearned(session, folder, original, models[first], problem)
        report = Report(
            title=f"{name.capitalize()}: forgetting {len(made.forget):,} of {len(made.data.train):,} examples",
            lead=[made.explained],
            warnings=sentences(original.warnings),
            evaluation=evaluation,
            measures=measures,
            facts=facts(session, original.recipe, original.source),
        )
        write_page(folder, report)
        finish(session, folder, {"forget": {"n": len(made.forget)}, "measures": measures} | evaluation.to_dict())
    console.print(Fitted.of(_table(measures, evaluation.methods)))
    for shortfall in evaluation.shortfalls:
        alarm(shortfall.text)
    print_page(folder)


def _planned(options: ScenarioOptions) -> dict[str, Planned]:
    """Each method with its own fields, checked before any work."""
    from unmem.cli import methods
    from unmem.errors import UserError

    names = list(dict.fromkeys(name.strip() for name in options.method.split(",") if name.strip()))
    if not names:
        raise UserError("--method", options.method, "names no method", "give one such as matching")
    fields = methods.parse_fields(options.set, default="")
    for stray in sorted(fields.keys() - set(names)):
        raise UserError("--set", stray or None, "that method does not run here", f"name one of {', '.join(names)}")
    return {
        name: methods.plan(
            name, ["nothing", "fine-tune", "salun"], [f"{key}={value}" for key, value in fields.get(name, {}).items()]
        )
        for name in names
    }


def _made(name: str, session: Session, options: ScenarioOptions) -> Scenario:
    from unmem import scenarios

    if name == "privacy":
        return scenarios.privacy(session.data, options.count, seed=session.run.seed)
    if name == "mislabelled":
        return scenarios.mislabelled(session.data, options.share, seed=session.run.seed)
    return scenarios.poisoned(session.data, options.share, target=options.target, seed=session.run.seed)


def _forgotten(planned: dict[str, Planned], work: Work, problem: Problem) -> dict[str, Unlearned]:
    """By method: its model, and what it needed; methods may share targets and scores."""
    from unmem.cli import sources
    from unmem.cli.comparing import Unlearned
    from unmem.cli.console import stage
    from unmem.evaluation import Needed
    from unmem.targets import ShortTeacher

    session = work.session
    targets = scores = None
    if any(one.needs_targets for one in planned.values()):
        targets = sources.make(ShortTeacher(), problem, session)
    if any(one.needs_scores for one in planned.values()):
        scores = work.score("holdout")
    found: dict[str, Unlearned] = {}
    for name, one in planned.items():
        spent = targets.seconds if targets is not None and one.needs_targets else 0.0
        needed = Needed(seconds=spent + (work.scorer.seconds["holdout"] if one.needs_scores else 0.0))
        with stage(f"Forget by {name}") as bar:
            observers = session.logged(name, bar)
            model = one.make(scores, targets)(problem, seed=session.run.seed, observers=observers)
        found[name] = Unlearned(model, bar.seconds, needed)
    return found


def _measured(
    made: Scenario, original: nn.Module, models: dict[str, nn.Module], retrained: Sequence[nn.Module]
) -> dict[str, dict[str, float]]:
    """By model, the measures of the scenario: before, after each method, and the mean over retrained models."""
    import numpy as np

    rows = {"before": [original], **{name: [model] for name, model in models.items()}, "retrained": retrained}
    return {
        row: {name: float(np.mean([measure(model) for model in found])) for name, measure in made.measures.items()}
        for row, found in rows.items()
        if found
    }


def _table(measures: dict[str, dict[str, float]], outcomes: Mapping[str, Outcome]) -> Table:
    """The measures of the scenario for each model, its closeness to retraining and its cost."""
    from unmem.evaluation.outcome import COLUMNS

    own = [Column(name, name, "percent") for name in next(iter(measures.values()))]
    shared = [column for column in COLUMNS if column.key in ("tow", "tow_mia", "cost", "cost_all_told")]
    known = {name: outcome.values for name, outcome in outcomes.items()}
    rows = [Row(name, {**known.get(name, {}), **row}) for name, row in measures.items()]
    return Table([*own, *shared], rows)
