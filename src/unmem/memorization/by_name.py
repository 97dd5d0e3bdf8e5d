"""Any score by name, by the best means the situation allows: a training run, a finished model, or only the data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from unmem.data import Splits
from unmem.ensembles import Ensemble, Mask, complementary_masks, leave_out_masks, train_members
from unmem.errors import UserError, nearest
from unmem.executors import Where
from unmem.memorization.combine import rank_average
from unmem.memorization.crossfit import CrossFit, crossfit
from unmem.memorization.curvature import CurvatureTrace, curvature
from unmem.memorization.events import EVENTS, LearningEvents
from unmem.memorization.feldman import feldman
from unmem.memorization.holdout import holdout_retraining
from unmem.memorization.scores import Scores
from unmem.recipe import Recipe
from unmem.training import Observer, Recorder, train

# Scores that a finished model or the data alone can give.
FROM_MODEL = (
    "holdout",
    "curvature",
    "crossfit",
    "crossfit-gap",
    "crossfit-fit",
    "ensemble",
    "feldman",
    "feldman-confidence",
)
SCORES = (*EVENTS, *FROM_MODEL)

# About this many passes of averaged curvature in a training, evenly spread.
CURVATURE_PASSES = 5


def score(
    name: str,
    data: Splits,
    *,
    recipe: Recipe | None = None,
    model: nn.Module | None = None,
    checkpoints: Iterable[nn.Module] = (),
    members: int | None = None,
    folds: int = 2,
    folder: Path | None = None,
    executor: Where = None,
    workers: int | None = None,
) -> Scores:
    """Compute one memorization score of every training example; larger = more memorized.

    Args:
        name: One of `SCORES`, or several joined by "+" for the mean of their ranks.
        data: The data set.
        recipe: How the original is or was trained.
        model: The finished original. None trains it by `recipe` if the score needs it.
        checkpoints: Models saved during the training of `model`, in order, for learning events.
        members: Number of members of "feldman" (default 100) or "ensemble" (default 20).
        folds: Number of folds of the cross-fit.
        folder: Folder for finished members, so that a stopped run can continue.
        executor: Where trainings run, see `unmem.executors.run_all`.
        workers: Number of parallel workers.

    Returns:
        The scores.

    Raises:
        UserError: There is no such score, or it needs a training that is not observed.
    """
    scorer = Scorer(
        data,
        recipe=recipe or Recipe(),
        model=model,
        checkpoints=list(checkpoints),
        members=members,
        folds=folds,
        folder=folder,
        executor=executor,
        workers=workers,
    )
    scorer.check(name)
    return scorer.get(name)


def check_names(names: Iterable[str], *, field: str = "score", watched: bool) -> None:
    """Refuse unknown scores and, unless the training is `watched`, learning events; "+" joins names."""
    for name in [part for joined in names for part in joined.split("+")]:
        if name not in SCORES:
            raise UserError(field, name, "no such score", nearest(name, list(SCORES)))
        if name in EVENTS and not watched:
            raise UserError(
                field,
                name,
                "a learning event is seen only while the original trains, and this one is already trained",
                f"choose {', '.join(FROM_MODEL)}, give checkpoints saved during its training, or train it here",
            )


OnMember = Callable[[int, int], None] | None  # called with (done, total) as members finish


@dataclass(eq=False)
class Scorer:
    """Scores of one training set that share their work: one training for all learning events, one cross-fit for both
    its scores, one set of members for both exact scores.

    model: the finished original; None trains it here. checkpoints: models saved during its training, in order, for
    learning events after the fact. members: of "feldman" (100 by default, each on 70%) and "ensemble" (20, halves).
    folds: of the cross-fit. folder: where members are kept for later runs. executor, workers: where they are trained,
    and how many at a time. seconds: by score, what it took beyond the training of the original. on_warning: called with
    a sentence for each failure.
    """

    data: Splits
    recipe: Recipe
    model: nn.Module | None = None
    checkpoints: Sequence[nn.Module] = ()
    members: int | None = None
    folds: int = 2
    prepared: CrossFit | None = None
    folder: Path | None = None
    executor: Where = None
    workers: int | None = None
    on_warning: Callable[[str], None] | None = None
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        self.events = LearningEvents()
        self._curvature = CurvatureTrace(every=max(1, self.recipe.epochs // CURVATURE_PASSES))
        self._trained_here = self.model is None
        self._watched = False
        self._with_curvature = False
        self._crossfit = self.prepared
        self._feldman: Ensemble | None = None
        self._ensemble: Ensemble | None = None
        self._shared: dict[str, float] = {}

    def check(self, *names: str) -> None:
        """Refuse, before any compute, scores that do not exist or that this situation cannot give; plan the others."""
        check_names(names, watched=self._trained_here or len(self.checkpoints) > 0)
        if self.model is None:
            self._with_curvature |= any("curvature" in name.split("+") for name in names)

    @property
    def made(self) -> tuple[CrossFit | Ensemble, ...]:
        """The cross-fit and the ensembles that were read or trained so far."""
        return tuple(one for one in (self._crossfit, self._feldman, self._ensemble) if one is not None)

    @property
    def watched_seconds(self) -> float:
        """What observing scores took during the training of the original, out of its whole time."""
        return self.events.seconds + self._curvature.seconds

    @property
    def recorders(self) -> dict[str, Recorder]:
        """What the training of the original is recorded by, for scores, by name."""
        found: dict[str, Recorder] = {"events": self.events}
        return found | ({"curvature": self._curvature} if self._with_curvature else {})

    def original(self, observers: Sequence[Observer] = ()) -> nn.Module:
        """The finished original, trained here on first use under the learning events if none was given.

        observers: of that training, besides those that the scores need.
        """
        if self.model is None:
            self.model = train(self.recipe, self.data.train, observers=[*self.recorders.values(), *observers])
            self._watched = True
        return self.model

    def take_up(self, model: nn.Module) -> None:
        """Use an original that was trained before, under recorders that are now as after its training."""
        self.model, self._watched = model, True

    def get(self, name: str, *, observers: Sequence[Observer] = (), on_member: OnMember = None) -> Scores:
        """The score, computed now or with what earlier ones left; `seconds[name]` then says what it took.

        observers: of the training of the original, if it is trained for this score. on_member: called with
            (done, total) as members finish, if some are trained.
        """
        if "+" in name:
            parts = name.split("+")
            ranked = [self.get(part, observers=observers, on_member=on_member) for part in parts]
            found = rank_average(ranked, name=name)
            self.seconds[name] = sum(self.seconds[part] for part in parts)
            return found
        if name in EVENTS:
            return self._event(name, observers)
        if name == "curvature" and self._trained_here:
            self._with_curvature |= self.model is None
            self.original(observers)
            if self._with_curvature:  # else the training is over: what is left is the finished model's
                self.seconds[name] = self._curvature.seconds
                return self._curvature.scores()
        if name in ("holdout", "curvature", "crossfit-gap", "crossfit-fit"):
            self.original(observers)
        shared = self._shared_work(name, on_member)
        began = time.perf_counter()
        found = self._computed(name)
        self.seconds[name] = shared + time.perf_counter() - began
        return found

    def _shared_work(self, name: str, on_member: OnMember) -> float:
        """Do the trainings that a score may share with another; gives their seconds, which count for each of the two,
        and for members that were taken up those of the run that trained them."""
        key = name.split("-")[0]
        work: Callable[[OnMember], Ensemble | CrossFit] | None = {
            "crossfit": self.out_of_fold,
            "feldman": self._members,
            "ensemble": self._halves,
        }.get(key)
        if work is None:
            return 0.0
        began = time.perf_counter()
        made = work(on_member)
        return self._shared.setdefault(key, time.perf_counter() - began + made.seconds_before)

    def _event(self, name: str, observers: Sequence[Observer]) -> Scores:
        if self._trained_here:
            self.original(observers)
        elif not self._watched:
            self.events = LearningEvents.from_checkpoints(self.checkpoints, self.data.train)
            self._watched = True
        self.seconds[name] = self.events.seconds
        return self.events.scores(name)

    def _computed(self, name: str) -> Scores:
        train_set = self.data.train
        if name == "holdout":
            return holdout_retraining(self.original(), self.data, recipe=self.recipe, seed=self.recipe.seed)
        if name == "curvature":
            return curvature(self.original(), train_set)
        if name == "crossfit":
            return self.out_of_fold().scores()
        if name == "crossfit-gap":
            return self.out_of_fold().gap(self.original(), train_set)
        if name == "crossfit-fit":
            return self.out_of_fold().fit(self.original(), train_set)
        if name == "ensemble":
            return feldman(self._halves(), measure="confidence", name=name)
        return feldman(self._members(), measure="correct" if name == "feldman" else "confidence")

    def _members(self, on_member: OnMember = None) -> Ensemble:
        if self._feldman is None:
            count = 100 if self.members is None else self.members
            kept = leave_out_masks(len(self.data.train), count, keep=0.7, seed=self.recipe.seed)
            self._feldman = self._trained(kept, on_member)
        return self._feldman

    def _halves(self, on_member: OnMember = None) -> Ensemble:
        if self._ensemble is None:
            count = 20 if self.members is None else self.members
            kept = complementary_masks(len(self.data.train), count + count % 2, seed=self.recipe.seed)
            self._ensemble = self._trained(kept, on_member)
        return self._ensemble

    def out_of_fold(self, on_member: OnMember = None) -> CrossFit:
        """The predictions behind the cross-fit scores, made on first use. on_member: as in `get`."""
        if self._crossfit is None:
            self._crossfit = crossfit(
                self.recipe,
                self.data.train,
                folds=self.folds,
                unseen=self.data.holdout,
                seed=self.recipe.seed + 1,
                folder=self.folder,
                executor=self.executor,
                workers=self.workers,
                on_member=on_member,
                on_warning=self.on_warning,
            )
        return self._crossfit

    def _trained(self, kept: Mask, on_member: OnMember) -> Ensemble:
        return train_members(
            self.recipe,
            self.data.train,
            kept,
            seed=self.recipe.seed + 1000,
            unseen=self.data.holdout,
            folder=self.folder,
            executor=self.executor,
            workers=self.workers,
            on_member=on_member,
            on_warning=self.on_warning,
        )
