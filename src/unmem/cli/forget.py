"""`unmem forget`: make a model forget some of its training examples."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from unmem.cli.annex import check_annex, write_annex
from unmem.cli.early import check_early, check_methods, check_used
from unmem.cli.faults import step
from unmem.cli.options import (
    DataOptions,
    Flag,
    ModelOptions,
    OutputOptions,
    SelectOptions,
    check_reference,
    folders_of,
    settings,
)
from unmem.store import RESULT

if TYPE_CHECKING:
    from torch import nn

    from unmem.cli.erasing import Carrier, Erasure
    from unmem.cli.methods import Planned
    from unmem.cli.request import Request, ScoreSource
    from unmem.cli.session import Original, Session
    from unmem.cli.sources import Prepared
    from unmem.data import Ids
    from unmem.evaluation import Evaluation, Needed, Shortfall
    from unmem.memorization import Opposed, Scorer, Scores
    from unmem.store import RunFolder
    from unmem.targets import Source, Targets
    from unmem.unlearning import Choice, Problem, Tuned, Unlearner

_REQUEST = Group("Request", sort_key=0)
DEFAULT_STEPS = "nothing,fine-tune,salun"
UTILITY_FELL = 4


@Parameter(name="*", group=_REQUEST)
@dataclass(frozen=True, kw_only=True)
class RequestOptions(SelectOptions):
    """What to forget and which method to use."""

    top: str | None = None
    "Instead of a file: SCORE:N selects the N most memorized examples by a score, such as confidence:50."
    method: str = "auto"
    """auto, matching, rum, fine-tune, l1-sparse, neggrad, neggrad+, scrub, random-label, salun, influence, bad-teacher,
    ssd, retrain or nothing. auto chooses matching with the best available targets, or retrain if retraining costs at
    most twice as much; with --steps or --score it chooses rum."""
    steps: str | None = None
    """For rum: one method per memorization group, from least to most memorized, separated by commas. Default:
    nothing,fine-tune,salun."""
    score: str | None = None
    """For rum: the score that divides the request into memorization groups. Default: confidence if the original is
    trained in this run, else holdout."""
    scores: Path | None = None
    "A scores.parquet from unmem score. Default: compute the scores in this run."
    targets: Literal["auto", "teacher", "trace", "crossfit", "ensemble"] = "auto"
    """For matching and --tune: the source of predictions by models that were not trained on an example. teacher trains
    a model briefly on the retain set. auto: ensemble members, cross-fit or trace if one is given and good enough for
    this request, else a teacher."""
    trace: Path | None = None
    """A trace.npz from unmem train, recorded while --model was trained. Default: trace.npz in the model's folder.
    Predictions for the forgotten examples are moved from it to the folder private in --out."""
    crossfit: Path | None = None
    """A crossfit.npz from unmem prepare. Predictions for the forgotten examples are moved from it to the folder private
    in --out."""
    members: Path | None = None
    "Folder with the ensemble members of unmem score --method feldman (or ensemble) --work, as a source of targets."
    tune: Flag = False
    "Search for the strength and learning rate of the method that match the out-of-sample forecast, without retraining."
    budget: float | None = None
    "With --tune: the maximum cost of the search, in trainings of the original. Default: five runs of the method."
    copies: Literal["accept", "include", "stop"] = "accept"
    """What to do about near-duplicates of forget examples in the retain set, which preserve their influence. accept:
    continue with a warning. include: add them to the request. stop: end with an error."""
    plan: Flag = False
    """Show the steps, their sizes, the estimated time, and alternatives with their costs; do not run or write
    anything."""
    set: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=True)] = ()
    """Parameters of a method: FIELD=VALUE, or METHOD.FIELD=VALUE for a step of rum. Repeatable. All that train:
    epochs, lr, schedule (cosine, linear, constant), batchnorm (recompute, keep). neggrad+: alpha. l1-sparse: gamma.
    scrub: max_epochs, gamma, beta, temperature. salun: share. bad-teacher: retain_share. influence: matrix (fisher,
    gauss-newton), damping, scale, trust, samples, iterations. ssd: a, b. matching: form (log-odds, kl), weight, adapt,
    forget_share. rum: order, pending, thresholds."""
    reference: Literal["none", "retrain"] = "none"
    "retrain: also train models from scratch without the forget set and compare with them (ToW, ToW-MIA)."
    reference_seeds: int = 2
    "Number of models to retrain; two or more are also compared with each other."
    max_drop: float = 0.05
    "Exit with code 4 if accuracy on the holdout drops by more than this."
    annex: Path | None = None
    "Also write a .csv file with one row per forget example. It contains personal data."


def forget(
    *,
    output: OutputOptions,
    request: RequestOptions = RequestOptions(),
    data: DataOptions = DataOptions(),
    model: ModelOptions = ModelOptions(),
) -> int:
    """Make a model forget some of its training examples.

    Writes unlearned.safetensors, original.safetensors, result.json and report.html to the run folder.
    """
    check_early(output, request, data, model)
    check_methods([request.method])
    check_used(request)
    check_annex(request.annex, force=output.force)
    if request.reference == "retrain":
        check_reference(request.reference_seeds)
    from unmem.cli import methods
    from unmem.cli.console import alarm, console, warn
    from unmem.cli.erasing import print_carriers
    from unmem.cli.fitting import IN_TERMINAL, Fitted
    from unmem.cli.page import tell_page
    from unmem.cli.request import Request, ScoreSource
    from unmem.cli.session import Session, log_of
    from unmem.evaluation import SMALLEST_CELL, TOO_FEW
    from unmem.store import PRIVATE, TRACE, RunFolder

    method, steps, score = _method(request, trained_here=model.model is None)
    planned = methods.plan(method, steps, request.set)
    source = ScoreSource(request.scores, trained_here=model.model is None)
    wanted = Request.read(request)
    needed = _scores_needed(score, wanted, source)
    asked = settings(data, model, request) | {"steps": steps or None, "score": score}
    if request.plan:
        _show_plan(Session.open("forget", asked, data), wanted, request, model, planned, needed)
        return 0
    with RunFolder(output.out, force=output.force) as folder, log_of(output, "forget") as log:
        session = Session.open("forget", asked, data, log=log, folder=folder)
        run = _Run.prepare(session, request, wanted, model, planned, source, needed, score)
        made = run.forget()
        guard = _guard(session, run.original.model, made.model, request.max_drop)
        with step("compare the models"):
            evaluation, retrained = run.evaluate(made, folder)
        session.save_models(folder, run.original, made.model, run.for_the_card(evaluation), run.problem)
        erasure = run.erasure()
        if run.prepared.trace is not None and run.prepared.trace_file is None:
            rest = run.prepared.trace.without(run.problem.forget.ids)
            rest = replace(rest, moved=(f"{PRIVATE}/{TRACE}",), forgotten=erasure.forgotten(None))
            folder.file(TRACE, rest.save)
        erasure.keep_rows(folder, run.prepared)
        with step("write the report"):
            _report(folder, run, evaluation, guard)
        left = run.carriers(erasure, folder.path)
        result = run.described(made) | {"guard": guard, "still_carrying": [one.to_dict() for one in left]}
        session.finish(folder, result | run.outcomes(evaluation), run.problem.forget.ids)
        folder.ready()
        with step("delete the forgotten examples from the files of the request"):
            erasure.erase(folder.path)
    if request.annex is not None:
        write_annex(request.annex, run.annex(made.model, retrained))
    console.print(Fitted.of(evaluation.table(run.names).only(IN_TERMINAL)))
    if evaluation.reference is None:
        console.print("  ToW and ToW-MIA need retrained models: --reference retrain trains them.", style="dim")
    for shortfall in evaluation.shortfalls:
        alarm(shortfall.text)
    tell_page(folder)
    if guard["fell"]:
        warn(guard["reason"])
    if len(run.problem.forget) < SMALLEST_CELL:
        warn(f"{TOO_FEW}: what is measured on it is not shown (--annex FILE.csv has a row for each)")
    print_carriers(left)
    return UTILITY_FELL if guard["fell"] else 0


@dataclass(frozen=True, eq=False)
class _Made:
    """The unlearned model, what made it, and what that took."""

    model: nn.Module
    unlearner: Unlearner
    seconds: float
    tuned: Tuned | None


@dataclass(frozen=True, eq=False)
class _Run:
    """All that a request needs, made or read and checked."""

    session: Session
    request: RequestOptions
    planned: Planned
    scorer: Scorer
    original: Original
    problem: Problem
    scores: dict[str, Scores]
    prepared: Prepared
    refined_by: str | None
    choice: Choice | None
    source: Source | None
    targets: Targets | None
    doubts: tuple[Shortfall | Opposed, ...] = ()

    @classmethod
    def prepare(
        cls,
        session: Session,
        request: RequestOptions,
        wanted: Request,
        model: ModelOptions,
        planned: Planned,
        source: ScoreSource,
        needed: list[str],
        score: str | None,
    ) -> _Run:
        from unmem.cli import methods, sources
        from unmem.cli.console import console, warn
        from unmem.cli.request import opposed_scores, unsound_work
        from unmem.memorization import Scorer
        from unmem.targets import TraceRecorder
        from unmem.unlearning import Problem

        with session.split_in_doubt(model.model):
            ids = wanted.ids(session.data, session.before)
        if ids is not None:
            _check_parts(len(ids), planned, request)
        prepared = sources.Prepared.read(request, model.model, session.data, ids)
        prepared.check(request.targets, trained_here=model.model is None)
        read = session.read_original(model, seed=session.seed) if model.model is not None else None
        scorer = Scorer(
            session.data,
            recipe=read.recipe if read else session.recipe(model, seed=session.seed),
            model=read.model if read else None,
            prepared=prepared.crossfit,
            **session.at_work(),
        )
        if request.scores is None:
            scorer.check(*needed)
        recorder = TraceRecorder(session.data.holdout)
        original = read or session.train_original(scorer, recorders={"trace": recorder})
        if recorder.recorded and prepared.trace is None:
            prepared = replace(prepared, trace=recorder.trace)
        scores = {name: source.get(name, scorer, session.before) for name in needed}
        if ids is None:
            ids = wanted.most_memorized(scores)
        problem = _with_copies(Problem(original.model, session.data, ids, recipe=original.recipe), request.copies)
        for flag in problem.flags():
            warn(flag)
        choice = targets_from = targets = None
        if planned.name == methods.AUTO:
            choice = _chosen(planned, prepared, request, problem)
            planned = methods.taken(choice)
            _say(choice, original, session)
        elif request.method == methods.AUTO:
            console.item("auto", f"{planned.name}: --steps or --score is given", style="cyan")
        if planned.needs_targets or request.tune:
            targets_from = sources.source_for(request.targets, prepared, problem)
            targets = sources.make(targets_from, problem, session)
        folds = prepared.crossfit
        compared = [*scores.values(), *([folds.scores()] if folds and "crossfit" not in scores else [])]
        return cls(
            session=session,
            request=request,
            planned=planned,
            scorer=scorer,
            original=original,
            problem=problem,
            scores=scores,
            prepared=prepared,
            refined_by=score,
            choice=choice,
            source=targets_from,
            targets=targets,
            doubts=(*unsound_work(scorer, original.model), *opposed_scores(compared)),
        )

    def erasure(self) -> Erasure:
        """What the request deletes from the files that were made before."""
        from unmem.cli.erasing import Erasure

        source = self.original.source
        files = [self.prepared.trace_file, self.request.crossfit, self.request.scores]
        folders = [*(folders_of(source) if source else ()), *(one.parent for one in files if one is not None)]
        runs = [folder for folder in dict.fromkeys(folders) if (folder / RESULT).is_file()]
        return Erasure.of(self.prepared, self.request, self.problem, runs)

    def carriers(self, erasure: Erasure, out: Path) -> list[Carrier]:
        """Where the forgotten examples still are once the run in `out` is published."""
        from unmem.cli.erasing import ANNEX, MODELS, TABLES, carriers

        named = {
            MODELS: self.original.source,
            TABLES: self.request.scores,
            "the list of their ids": self.request.forget
            or (Path(self.request.issues) if self.request.issues else None),
            ANNEX: self.request.annex,
        }
        return carriers(erasure, out, named=named, data=str(self.session.settings["data"] or ""))

    def annex(self, unlearned: nn.Module, retrained: list[nn.Module]) -> dict[str, Any]:
        """Columns with a row for each forget example: what the models say of it, and its scores."""
        import numpy as np

        from unmem.evaluation import label_confidence

        forget = self.problem.forget
        models = {"": [unlearned], "-original": [self.original.model], "-retrained": retrained}
        said = {
            f"confidence{name}": np.mean([label_confidence(one, forget) for one in group], axis=0).round(6)
            for name, group in models.items()
            if group
        }
        scores = {name: one.of(forget.ids) for name, one in self.scores.items()}
        return {"id": forget.ids.tolist(), "label": forget.labels.tolist(), **said, **scores}

    @property
    def names(self) -> dict[str, str]:
        """What a reader sees in place of the name of a method."""
        return {self.request.method: f"{self.planned.name} (auto)"} if self.request.method == "auto" else {}

    def forget(self) -> _Made:
        from unmem.cli.console import stage
        from unmem.unlearning import tune

        unlearner = self.planned.make(self.scores.get(self.refined_by or ""), self.targets)
        seed, problem = self.session.seed, self.problem
        title = f"Forget {len(problem.forget):,} examples by {self.planned.name}"
        if self.request.tune and self.targets is not None:
            with stage(f"{title}, tuned") as bar:
                found = tune(
                    unlearner,
                    problem,
                    self.targets,
                    seed=seed,
                    budget=self.request.budget,
                    observers=self.session.logged("forget", bar),
                )
            _say_tuned(found)
            return _Made(found.model, found.unlearner, bar.seconds, found)
        with stage(title) as bar:
            unlearned = unlearner(problem, seed=seed, observers=self.session.logged("forget", bar))
        return _Made(unlearned, unlearner, bar.seconds, None)

    def evaluate(self, made: _Made, folder: RunFolder) -> tuple[Evaluation, list[nn.Module]]:
        """The models beside retrained ones, if they are asked for, and these, which go to the folder too."""
        from unmem.evaluation import aggregates_only, evaluate

        retrained: list[nn.Module] = []
        retrain_seconds: list[float] = []
        if self.request.reference == "retrain":
            count, seed = self.request.reference_seeds, self.session.seed
            folders = [folder.path, *(folders_of(self.original.source) if self.original.source else ())]
            retrained, retrain_seconds = self.session.retrain(self.problem, count, seed=seed, folders=folders)
            self.session.save_retrained(folder, self.problem, (retrained, retrain_seconds), seed=seed)
        parts: dict[str, Ids] = {}
        if self.scores and len(self.problem.forget) >= 3:
            score = list(self.scores.values())[-1]
            cut = score.parts(3, among=self.problem.forget.ids)
            parts.update(zip(("low", "medium", "high"), cut, strict=True))
        found = evaluate(
            {self.request.method: made.model},
            self.problem,
            reference=retrained,
            parts=parts,
            seconds={self.request.method: made.seconds},
            reference_seconds=retrain_seconds,
            training_seconds=self.original.seconds,
            needed={self.request.method: self.needed(made)},
        )
        return aggregates_only(found, len(self.problem.forget)), retrained

    def needed(self, made: _Made) -> Needed:
        """What the method and the request needed besides the run that made the model."""
        from unmem.cli.plan import score_cost, score_work, trainings
        from unmem.evaluation import Needed
        from unmem.targets import FromCrossFit

        seconds = counted = before = 0.0
        if self.targets is not None and self.source is not None:
            counted, before = self.source.cost(self.problem), self.source.spent
            seconds += self.targets.seconds if counted else 0.0
        folds = None if self.prepared.crossfit is None else FromCrossFit(self.prepared.crossfit)
        works = {score_work(name): name for name in self.scores}  # what two scores share counts once
        for work, name in works.items():
            if folds is not None and work == folds.name:
                before += 0.0 if self.source is not None and self.source.name == folds.name else folds.spent
            elif name in self.scorer.seconds:
                seconds += self.scorer.seconds[name]
                counted += score_cost(name)
            else:
                before += score_cost(name)
        spent = trainings(made.unlearner if made.tuned is None else made.tuned, self.problem)
        return Needed(seconds, counted, before, spent)

    def for_the_card(self, evaluation: Evaluation) -> dict[str, str]:
        """What a model card says of the unlearning: no ids, and nothing of a single example."""
        tow = evaluation.methods[self.request.method].tow
        told = {
            "method": self.planned.name,
            "forgotten training examples": f"{len(self.problem.forget):,} of {len(self.session.data.train):,}",
            "seed": str(self.session.seed),
        }
        return told if tow is None else told | {"closeness to retraining (ToW, 1 = the same)": f"{tow:.3f}"}

    def described(self, made: _Made) -> dict[str, Any]:
        """The sections of `result.json` that do not depend on the evaluation."""
        from unmem.cli import sources
        from unmem.unlearning import settings_of

        seconds = self.scorer.seconds
        result: dict[str, Any] = {
            "original": self.session.describe(self.original),
            "unlearner": settings_of(made.unlearner),
            "forget": {"n": len(self.problem.forget), "flags": self.problem.flags()},
            "warnings": [one.to_dict() for one in self.doubts],
            "scores": {
                s.name: self.session.describe_score(s, seconds[s.name], self.original)
                for s in self.scores.values()
                if s.name in seconds
            },
        }
        if self.targets is not None:
            result["targets"] = sources.described(self.targets, self.original)
        if self.choice is not None:
            result["auto"] = self.choice.to_dict()
        if made.tuned is not None:
            result["tuning"] = {
                "budget": self.request.budget,
                "cost": made.tuned.cost,
                "trials": [asdict(trial) for trial in made.tuned.trials],
            }
        return result

    def outcomes(self, evaluation: Evaluation) -> dict[str, Any]:
        """The sections of the evaluation; a method that auto chose says which it took."""
        found = evaluation.to_dict()
        if self.request.method == "auto":
            found["methods"][self.request.method]["took"] = self.planned.name
        return found


def _method(request: RequestOptions, *, trained_here: bool) -> tuple[str, list[str], str | None]:
    """The method, the steps of RUM, and the score that refines its parts; both are empty for other methods."""
    rum = request.method == "rum" or (request.method == "auto" and (request.steps or request.score))
    if not rum:
        return request.method, [], None
    steps = [name.strip() for name in (request.steps or DEFAULT_STEPS).split(",") if name.strip()]
    return "rum", steps, request.score or default_score(trained_here=trained_here or request.scores is not None)


def default_score(*, trained_here: bool) -> str:
    """Learning events need the training of the original."""
    return "confidence" if trained_here else "holdout"


def _check_parts(count: int, planned: Planned, request: RequestOptions) -> None:
    """Refuse, before any work, a RUM with more steps than there are examples to forget."""
    from unmem.errors import UserError

    steps = len((request.steps or DEFAULT_STEPS).split(","))
    if planned.needs_scores and count < steps and not any("thresholds" in one for one in request.set):
        problem = f"its {steps} steps need {steps} parts, and the request has {count} example{'s' * (count != 1)}"
        raise UserError("--method", planned.name, problem, "leave --method out, or name fewer --steps")


def _chosen(planned: Planned, prepared: Prepared, request: RequestOptions, problem: Problem) -> Choice:
    """What auto takes: by its rules, or what the targets that the user named are for."""
    from unmem.unlearning import Matching, best_source, choose

    matching = planned.make(None, None)
    if not isinstance(matching, Matching):
        raise TypeError("auto takes matching")
    choice = choose(problem, prepared.sources, matching)
    if request.targets == "auto" and not (request.tune and choice.taken.source is None):
        return choice
    name = request.targets
    if name == "auto":
        name, reason = best_source(problem, prepared.sources)[0].name, "retraining has nothing to tune"
    else:
        reason = "--targets names them"
    named = next(option for option in choice.options if option.source == name)
    return replace(choice, taken=named, reason=reason)


def _say(choice: Choice, original: Original, session: Session) -> None:
    """One line: what auto took, why, and what it costs."""
    from unmem.cli.console import console
    from unmem.cli.plan import duration, training_seconds

    taken = choice.taken
    seconds = original.seconds or training_seconds(original.recipe, session)
    about = f"about {taken.cost:.2f} trainings ({duration(taken.cost * seconds)})"
    cost = f"cost, all told: {about}"
    if taken.cost_all_told > taken.cost:
        cost = f"cost: {about}, all told {taken.cost_all_told:.2f}"
    console.item("auto", f"{choice.words}; {cost}", style="cyan")


def _with_copies(problem: Problem, choice: str) -> Problem:
    """The problem after the user's choice about copies of forget examples among the retained."""
    from unmem.cli.checks import copied
    from unmem.cli.console import warn
    from unmem.errors import UserError
    from unmem.requests import find_copies
    from unmem.unlearning import Problem

    found = find_copies(problem.forget, problem.retain, unseen=problem.holdout)
    if not len(found):
        return problem
    names = found.retain_ids
    listed = f"{', '.join(names[:5].tolist())}{', …' if len(names) > 5 else ''}"
    exact, near = found.counts["exact"], found.counts["near"]
    said = f"{copied(len(names))} of forget examples ({exact} exact pair{'s' * (exact != 1)}, {near} near): {listed}"
    if choice == "stop":
        raise UserError("--copies", choice, said, "pass --copies include to forget them too, or --copies accept")
    if choice == "accept":
        warn(
            f"{said}; such copies keep what is forgotten known, even to a retrained model "
            "(--copies include forgets them too)"
        )
        return problem
    warn(f"{said}; such copies are forgotten too")
    everything = [*problem.forget.ids, *names]
    return Problem(problem.original, problem.data, everything, recipe=problem.recipe)


def _show_plan(
    session: Session,
    wanted: Request,
    request: RequestOptions,
    model: ModelOptions,
    planned: Planned,
    needed: list[str],
) -> None:
    from unmem.cli import methods
    from unmem.cli.console import console
    from unmem.cli.fitting import Fitted
    from unmem.cli.plan import Estimate, alternatives, alternatives_table, plan_table, untrained_problem
    from unmem.cli.sources import Prepared, source_for

    ids = wanted.ids(session.data, session.before)
    if ids is None:
        ids = session.data.train.ids[: wanted.count]  # of that many, whichever they will be
    seed = session.seed
    file, unsafe = model.model, model.unsafe_load
    prepared = Prepared.read(request, file, session.data, ids)
    prepared.check(request.targets, trained_here=file is None)
    read = None if file is None else session.read_model(file, model, seed=seed, unsafe=unsafe)
    recipe = read.recipe if read else session.recipe(model, seed=seed)
    if read is None and recipe.epochs:
        prepared = prepared.with_trace_to_come(session.data.train)
    problem = untrained_problem(session, ids, recipe)
    choice = _chosen(methods.plan(methods.AUTO, [], []), prepared, request, problem)
    if planned.name == methods.AUTO:
        planned = methods.taken(choice)
        console.item("auto", choice.words, style="cyan")
    uses_targets = planned.needs_targets or request.tune
    estimate = Estimate.make(
        session,
        planned,
        problem,
        trained_here=read is None,
        scores=[] if request.scores else needed,
        targets=source_for(request.targets, prepared, problem) if uses_targets else None,
        tune=request.tune,
        budget=request.budget,
        retrained=request.reference_seeds if request.reference == "retrain" else 0,
    )
    console.print(Fitted.of(plan_table(estimate)))
    console.print()
    other = alternatives(choice, problem, score=default_score(trained_here=read is None))
    console.print(Fitted.of(alternatives_table(other, estimate.training_seconds)))
    for line in estimate.notes():
        console.print(f"  {line}", soft_wrap=True)


def _scores_needed(score: str | None, wanted: Request, source: ScoreSource) -> list[str]:
    """Names of the scores that the request and RUM use, each checked to be available."""
    needed: list[str] = []
    for name, option in ((wanted.score, "--top"), (score, "--score")):
        if name is not None and name not in needed:
            source.check(name, option=option)
            needed.append(name)
    return needed


def _say_tuned(tuned: Tuned) -> None:
    """What the search found, in one line."""
    from unmem.cli.console import console

    usual, best = tuned.trials[0], max(tuned.trials, key=lambda trial: trial.closeness if trial.step is None else -1.0)
    found = "the usual setting is kept" if tuned.kept else "another setting is nearer"
    console.item(
        "tune",
        f"{found}: closeness to the forecast {usual.closeness:.3f} as usual, {best.closeness:.3f} at "
        f"best; {len(tuned.trials)} trials, {tuned.cost:.2f} trainings",
        style="cyan",
    )


def _guard(session: Session, before: nn.Module, after: nn.Module, max_drop: float) -> dict[str, Any]:
    """Whether unlearning cost more accuracy on unseen examples than the user allows."""
    from unmem.evaluation import accuracy

    if len(session.data.holdout) == 0:
        return {"holdout_before": None, "holdout_after": None, "max_drop": max_drop, "fell": False}
    had, has = (accuracy(model, session.data.holdout) for model in (before, after))
    found = {"holdout_before": had, "holdout_after": has, "max_drop": max_drop, "fell": had - has > max_drop}
    reason = f"accuracy on the holdout fell from {had:.1%} to {has:.1%}, more than --max-drop {max_drop}"
    return found | ({"reason": f"{reason}: the exit code is {UTILITY_FELL}"} if found["fell"] else {})


def _report(folder: RunFolder, run: _Run, evaluation: Evaluation, guard: dict[str, Any]) -> None:
    """The page and the scores behind it."""
    from unmem.cli.console import sentences
    from unmem.cli.page import write_page
    from unmem.report import Report

    session, problem, scores = run.session, run.problem, list(run.scores.values())
    fell = [guard["reason"]] if guard["fell"] else []
    if scores:
        session.save_scores(folder, scores, problem.forget.ids)
    report = Report(
        title=f"Forgetting {len(problem.forget):,} of {len(session.data.train):,} examples of {session.data.name}",
        lead=sentences(problem.flags()),
        warnings=sentences([*fell, *run.original.warnings, *(one.text for one in run.doubts)]),
        evaluation=evaluation,
        scores=scores,
        flipped=session.data.flipped,
        labels={} if run.choice is None else {run.request.method: f"took {run.choice.taken.words}"},
        facts=session.facts(run.original.recipe, run.original.source),
    )
    write_page(folder, report)
