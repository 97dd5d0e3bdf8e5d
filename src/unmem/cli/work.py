"""`Work`: the original of a command with the scores of its training set, read or made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unmem.cli.console import alarm, stage, warn
from unmem.cli.options import SAME_DATA, ModelOptions, RecipeOptions
from unmem.cli.original import Original, read_original, recipe_of, train_original
from unmem.cli.session import Session
from unmem.errors import UserError
from unmem.evaluation import Shortfall, shortfalls_of
from unmem.memorization import Opposed, Scorer, Scores, check_names, load_scores, opposed
from unmem.training import Recorder


@dataclass(frozen=True, eq=False)
class Work:
    """The original of a command, and the scorer that shares its training.

    Attributes:
        session: The command.
        original: The model, read from a file or trained here.
        scorer: Makes the scores; `scorer.seconds` says what each took.
    """

    session: Session
    original: Original
    scorer: Scorer

    @classmethod
    def start(
        cls,
        session: Session,
        options: RecipeOptions,
        *,
        scores: Sequence[str] = (),
        recorders: Mapping[str, Recorder] | None = None,
        **further: Any,
    ) -> Work:
        """Read the original of the options, or train it recorded by what the scores need.

        Args:
            session: The command.
            options: The model file, or how to train the original.
            scores: Names of the scores to come, checked before anything is trained.
            recorders: What else records the training, by name.
            further: Arguments of `Scorer`.
        """
        read = read_original(session, options) if isinstance(options, ModelOptions) else None
        scorer = Scorer(
            session.data,
            recipe=read.recipe if read else recipe_of(session, options),
            model=read.model if read else None,
            executor=session.run.executor,
            workers=session.run.workers,
            on_warning=warn,
            **further,
        )
        scorer.check(*scores)
        if read is not None:
            return cls(session, read, scorer)
        original = train_original(session, scorer.recipe, {**scorer.recorders, **(recorders or {})})
        scorer.take_up(original.model)
        # The time of the scores that watched it is theirs, not the training's.
        seconds = (original.seconds or 0.0) - scorer.watched_seconds
        return cls(session, replace(original, seconds=seconds), scorer)

    def score(self, name: str) -> Scores:
        """One score, with a bar while it is made."""
        with stage(f"Score by {name}") as bar:
            found = self.scorer.get(name, observers=[bar], on_member=bar.on_member)
        used = found.settings
        if used.get("discarded"):
            warn(
                f"holdout retraining used a learning rate of {used['lr']:.2g}, since {used['lr_asked']:.2g} destroyed "
                "the model: check that --optimizer and --lr are those that it was trained with"
            )
        return found

    def doubts(self, scores: Sequence[Scores]) -> tuple[Shortfall | Opposed, ...]:
        """Fold models and members that fall far short of the original, and pairs of scores that rank the examples in
        opposite order, each printed as a warning."""
        unsound = shortfalls_of(self.original.model, self.scorer.made, self.session.data)
        found = (*unsound, *opposed(scores))
        for one in found:
            alarm(one.text)
        return found


@dataclass(frozen=True)
class ScoreSource:
    """Where scores come from: a file that `unmem score` wrote, or work done in this run.

    trained_here: whether the original is trained in this run, so that its learning events can be watched.
    """

    file: Path | None
    trained_here: bool

    def check(self, name: str, *, option: str) -> None:
        """Refuse, before any work, a score that this run cannot have; say which it can."""
        if self.file is not None:
            load_scores(self.file, name)
        else:
            check_names([name], field=option, watched=self.trained_here)

    def get(self, name: str, work: Work) -> Scores:
        """The score, checked to be of the training examples, with or without those that were forgotten before."""
        if self.file is None:
            return work.score(name)
        scores = load_scores(self.file, name)
        if scores.settings.get("data") not in (None, *work.session.before.fingerprints(work.session.data.train)):
            raise UserError(
                "--scores",
                str(self.file),
                "they are scores of other examples than these",
                f"{SAME_DATA} as when they were made",
            )
        return scores
