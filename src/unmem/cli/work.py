"""`Work`: the original of a command with the scores of its training set, read or made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unmem.cli.console import alarm, stage, warn
from unmem.cli.options import ModelOptions, RecipeOptions
from unmem.cli.original import Original, read_original, recipe_of, train_original
from unmem.cli.saving import described_original
from unmem.cli.session import Session
from unmem.evaluation import Shortfall, shortfalls_of
from unmem.memorization import Opposed, Scorer, Scores, opposed
from unmem.training import Recorder


@dataclass(frozen=True, eq=False)
class Work:
    """The original of a command, and the scorer that shares its training."""

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
        """Read the original of the options, or train it while the scores and the recorders watch.

        scores: names of the scores to come, checked before anything is trained. further: arguments of `Scorer`.
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

    def described(self, scores: Sequence[Scores], doubts: Sequence[Shortfall | Opposed]) -> dict[str, Any]:
        """The sections of `result.json` about the original, the scores that were made here, and the warnings."""
        seconds = self.scorer.seconds
        made = [one for one in scores if one.name in seconds]
        return {
            "original": described_original(self.session, self.original),
            "scores": {one.name: self._described(one, seconds[one.name]) for one in made},
            "warnings": [one.to_dict() for one in doubts],
        }

    def _described(self, scores: Scores, seconds: float) -> dict[str, Any]:
        """seconds: what the score took besides the training of the original."""
        entry: dict[str, Any] = {"seconds": seconds, "settings": scores.settings}
        if self.original.seconds:
            entry["cost"] = seconds / self.original.seconds
        else:
            entry |= {"cost": None, "reason": "the original was not trained here, so its training time is not known"}
        if len(self.session.data.flipped):
            entry["auroc_flipped"] = scores.auroc(self.session.data.flipped)
        return entry

    def doubts(self, scores: Sequence[Scores]) -> tuple[Shortfall | Opposed, ...]:
        """Fold models and members that fall far short of the original, and pairs of scores that rank the examples in
        opposite order, each printed as a warning."""
        unsound = shortfalls_of(self.original.model, self.scorer.made, self.session.data)
        found = (*unsound, *opposed(scores))
        for one in found:
            alarm(one.text)
        return found
