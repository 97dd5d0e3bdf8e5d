"""Auto: choose the method and the targets for a request by fixed rules.

It takes matching, with targets from earlier work if they are good enough and from a short teacher otherwise, or it
retrains if unlearning would save less than half. The first rule that applies is used:

    takes               if                                                        because
    retrain             unlearning costs at least half of what retraining does    retraining is exact
    matching, ensemble  members are given, at least 4 left each example out       nearest to retrained models
    matching, crossfit  a cross-fit is given                                      as near as a teacher, made already
    matching, trace     a trace of at least 20 steps that the holdout calibrates  less near, but half the cost in all
                        and that is at most 5 points better on its training set
    matching, teacher   otherwise                                                 needs nothing prepared

Mean error of the targets against retrained models, in log-odds, over six forget sets (digits with small_cnn, 2,500 of
Fashion-MNIST with an mlp; mislabelled, mixed and random), two originals each: teacher 1.2, trace 1.4, cross-fit of 2
folds 1.4; one retrained model 0.7, the original 4.6. docs/unlearning.md shows the results with each source.

Members, cross-fit and trace come from models that were trained on some or all of the forget set. If its examples teach
each other (triggered images, a whole class, one wrong rule), such targets preserve what should be forgotten. They are
therefore not used if the request is concentrated in one class. A teacher has seen none of the forget set.

A trace is useful as long as the original has not memorized: its window ends too late if it is right on much more of
the training set than of unseen examples. On digits and Fashion-MNIST (small_cnn, mlp) the difference was at most 2
points, and on colour images (ResNet-18) zero; on sentences (a convolutional network) it was 13 points, and 13% to 17%
of the forget set stayed under-forgotten. Two standard errors of the difference are subtracted first.

Matching gets at least 20 steps: with fewer, the retain set does not recover from the first steps (300 digits, mlp, 30
epochs, with SGD: retain accuracy 92% after 6 steps, 95% after 9, 98% after 12, 99.6% after 18). In a short training 20
steps are a large share, so by the first rule short trainings are repeated. A trace needs as many steps before its
window ends: within an epoch of a few steps a network changes so much that its predictions for training examples during
the epoch and for the holdout at its end cannot be compared (600 digits: log-odds of the targets too low by 8 after 15
steps, by 0.5 to 1 after 30).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from torch import nn

from unmem.errors import UserError
from unmem.targets import FromCrossFit, FromMembers, ShortTeacher, Source, Trace, window
from unmem.targets.calibration import SMALLEST
from unmem.training import Observer, steps_per_epoch
from unmem.unlearning.matching import Matching
from unmem.unlearning.problem import Problem
from unmem.unlearning.retrain import Retrain
from unmem.unlearning.unlearner import Setting, Unlearner, settings_of

FEWEST_STEPS = 20
AHEAD = 0.05
WORTH = 0.5  # unlearning must cost less than this share of retraining
LEFT_OUT = 4  # members for each example: the error of their mean is then half of the spread of retrained models
CONCENTRATED = 0.5  # share of the forget set with one label, if that label is at most half as frequent in the data
FEW = 10  # so few forget examples teach each other little


@dataclass(frozen=True, kw_only=True)
class Situation:
    """The facts that the rules use.

    Attributes:
        unlearning: Remaining cost of matching with the source that the other rules choose, in trainings.
        retraining: Cost of retraining, in trainings.
        left_out: The smallest number of given members that left a forget example out; 0 without members.
        crossfit: Whether a cross-fit is given.
        trace: Whether a trace is given.
        early: Steps of the original's training before the window of a trace ends.
        ahead: `Trace.ahead`, a lower bound on the gap between its training and unseen accuracy.
        holdout: Number of holdout examples.
        concentrated: Whether the forget set is concentrated in one class.
    """

    unlearning: float = 0.0
    retraining: float = 1.0
    left_out: int = 0
    crossfit: bool = False
    trace: bool = False
    early: int = FEWEST_STEPS
    ahead: float = 0.0
    holdout: int = SMALLEST
    concentrated: bool = False


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        takes: Name of a method, or of a source of targets for matching.
        holds: Whether the rule applies.
        because: The reason, as the end of a sentence.
    """

    takes: str
    holds: Callable[[Situation], bool]
    because: Callable[[Situation], str]


RETRAIN = Rule(
    Retrain.name,
    lambda at: at.unlearning >= WORTH * at.retraining,
    lambda at: f"it costs {at.retraining:.2f} trainings and is exact, unlearning would cost {at.unlearning:.2f}",
)
SOURCES = (
    Rule(
        FromMembers.name,
        lambda at: at.left_out >= LEFT_OUT and not at.concentrated,
        lambda at: f"at least {at.left_out} of the members left each example out",
    ),
    Rule(
        FromCrossFit.name,
        lambda at: at.crossfit and not at.concentrated,
        lambda _: "there is a cross-fit",
    ),
    Rule(
        Trace.name,
        lambda at: at.trace and _trusted(at) and not at.concentrated,
        lambda _: "the training of the original recorded a trace",
    ),
    Rule(ShortTeacher.name, lambda _: True, lambda at: why_a_teacher(at)),
)


def _trusted(at: Situation) -> bool:
    """Whether the training and the unseen predictions of a trace can be compared."""
    return at.early >= FEWEST_STEPS and at.holdout >= SMALLEST and at.ahead <= AHEAD


def why_a_teacher(at: Situation) -> str:
    if not (at.left_out or at.crossfit or at.trace):
        return "it needs nothing prepared"
    if at.concentrated:
        return "most of the request has one label, and models that saw some of it would keep what they share"
    if at.trace and at.early < FEWEST_STEPS:
        return f"the trace is of {at.early} steps, too few to compare what it holds ({FEWEST_STEPS} are needed)"
    if at.trace and at.holdout < SMALLEST:
        return f"the holdout has {at.holdout} examples, too few to calibrate the trace ({SMALLEST} are needed)"
    if at.trace and at.ahead > AHEAD:
        return f"the original had memorized: its trace is at least {at.ahead:.0%} better on the training set"
    return f"only {at.left_out} of the members left some example out ({LEFT_OUT} are needed)"


@dataclass(frozen=True)
class Option:
    """One way to forget.

    Attributes:
        method: Name of the unlearner.
        source: Name of the source of its targets, or None.
        cost: Remaining cost, in trainings of the original.
        cost_all_told: The same including everything that was made before.
    """

    method: str
    source: str | None
    cost: float
    cost_all_told: float

    @property
    def words(self) -> str:
        return self.method if self.source is None else f"{self.method}, targets by {_SOURCE_WORDS[self.source]}"


_SOURCE_WORDS = {
    ShortTeacher.name: "a short teacher",
    Trace.name: "the trace",
    FromCrossFit.name: "the cross-fit",
    FromMembers.name: "the members",
}


@dataclass(frozen=True)
class Choice:
    """The option that was chosen, and why.

    Attributes:
        taken: The chosen option.
        unlearner: The unlearner; a matching has the source as its targets.
        matching: The matching for this request, whether or not it was chosen.
        reason: The reason, as the end of a sentence.
        options: All possible options, including the chosen one.
    """

    taken: Option
    unlearner: Unlearner
    matching: Matching
    reason: str
    options: tuple[Option, ...]

    @property
    def words(self) -> str:
        """The chosen option and the reason, in words."""
        return f"{self.taken.words}: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in `result.json`."""

        def plain(option: Option) -> dict[str, Any]:
            return {
                "method": option.method,
                "targets": option.source,
                "cost": option.cost,
                "cost_all_told": option.cost_all_told,
            }

        return {**plain(self.taken), "reason": self.reason, "options": [plain(option) for option in self.options]}


@dataclass(frozen=True, kw_only=True)
class Auto:
    """Chooses for each request: matching with the best available targets, or retraining.

    Attributes:
        sources: Sources of targets that were made before: a `Trace`, `FromCrossFit`, `FromMembers`. A short teacher is
            always possible.
        matching: The matching to use, except for its `targets`. None uses the defaults.
    """

    name: ClassVar[str] = "auto"
    sources: Sequence[Source] = ()
    matching: Matching | None = None

    def choose(self, problem: Problem) -> Choice:
        """Return the choice for this request, without any training."""
        return choose(problem, self.sources, self.matching)

    def __call__(
        self, problem: Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        return self.choose(problem).unlearner(problem, seed=seed, start=start, observers=observers)

    def cost(self, problem: Problem) -> float:
        return self.choose(problem).taken.cost

    def tuned(self, problem: Problem, setting: Setting) -> Auto:
        return replace(self, matching=(self.matching or Matching()).tuned(problem, setting))

    def settings(self) -> dict[str, Any]:
        return {
            "sources": [source.name for source in self.sources],
            "matching": settings_of(self.matching or Matching()),
        }


def choose(problem: Problem, sources: Sequence[Source] = (), matching: Matching | None = None) -> Choice:
    """Apply the rules to a request.

    Args:
        problem: The request.
        sources: Sources of targets that were made before.
        matching: The matching to use, except for its `targets`.

    Returns:
        The choice, with the reason and the alternatives.
    """
    using = with_steps(matching or Matching(), problem)
    source, reason = best_source(problem, sources)
    options = {one.name: _matched(using, one, problem) for one in (*sources, ShortTeacher())}
    kept = len(problem.retain) / _whole(problem)
    taken, retrain = options[source.name], Option(Retrain.name, None, kept, kept)
    ordered = (*(options[rule.takes] for rule in SOURCES if rule.takes in options), retrain)
    at = Situation(unlearning=taken.cost, retraining=retrain.cost)
    if RETRAIN.holds(at):
        return Choice(retrain, Retrain(), using, RETRAIN.because(at), ordered)
    using = replace(using, targets=source)
    return Choice(taken, using, using, reason, ordered)


def with_steps(matching: Matching, problem: Problem) -> Matching:
    """Return the same matching with enough epochs for `FEWEST_STEPS`, unless its epochs are given."""
    if matching.epochs is not None or matching.steps(problem) >= FEWEST_STEPS:
        return matching
    each = max(1, steps_per_epoch(matching.recipe(problem), problem.retain))
    return replace(matching, epochs=math.ceil(FEWEST_STEPS / each))


def best_source(problem: Problem, sources: Sequence[Source] = ()) -> tuple[Source, str]:
    """Return the best source of targets for a request, and the reason as the end of a sentence."""
    at = situation(problem, sources)
    rule = next(rule for rule in SOURCES if rule.holds(at))
    return next(one for one in (*sources, ShortTeacher()) if one.name == rule.takes), rule.because(at)


def situation(problem: Problem, sources: Sequence[Source]) -> Situation:
    """Collect the facts about this request, except for the costs.

    Raises:
        UserError: A source does not know some of the examples.
    """
    members = next((source for source in sources if isinstance(source, FromMembers)), None)
    trace = next((source for source in sources if isinstance(source, Trace)), None)
    names = {source.name for source in sources}
    stray = names - {rule.takes for rule in SOURCES}
    if stray:
        raise UserError("sources", min(stray), "no rule knows such a source", "give it to Matching(targets=...)")
    return Situation(
        left_out=0 if members is None else members.left_out(problem),
        crossfit=FromCrossFit.name in names,
        trace=trace is not None,
        early=window(problem.recipe.epochs)[-1] * steps_per_epoch(problem.recipe, problem.data.train),
        ahead=0.0 if trace is None else trace.ahead(problem.data.train, problem.holdout),
        holdout=len(problem.holdout),
        concentrated=concentrated(problem),
    )


def concentrated(problem: Problem) -> bool:
    """Whether most of the forget set has one label that is at most half as frequent in the training set."""
    n = len(problem.forget)
    classes = problem.forget.n_classes
    asked = np.bincount(problem.forget.labels.cpu().numpy(), minlength=classes)
    kept = np.bincount(problem.retain.labels.cpu().numpy(), minlength=classes)
    top = int(asked.argmax())
    share, usual = asked[top] / n, (asked[top] + kept[top]) / _whole(problem)
    return bool(n >= FEW and share > CONCENTRATED and share >= 2 * usual)


def _matched(using: Matching, source: Source, problem: Problem) -> Option:
    targets = source.cost(problem)
    # `Unlearner.cost` counts in trainings on the retain set, which are shorter than that of the original.
    alone = replace(using, targets=source).cost(problem) - targets
    cost = targets + alone * len(problem.retain) / _whole(problem)
    return Option(using.name, source.name, cost, cost + source.spent)


def _whole(problem: Problem) -> int:
    return len(problem.retain) + len(problem.forget)
