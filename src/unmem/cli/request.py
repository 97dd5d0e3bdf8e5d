"""The examples that a request names, read from the options of a command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from unmem.cli.console import warn
from unmem.cli.earlier import Earlier
from unmem.cli.early import kind_of_request, parse_top
from unmem.cli.faults import step
from unmem.cli.options import SelectOptions
from unmem.data import Ids, Splits
from unmem.errors import NothingToDoError, UserError
from unmem.memorization import Scores
from unmem.requests import checked_ids, ids_where, order_of, parse_condition, read_ids, read_issues

_NONE = Earlier()


@dataclass(frozen=True)
class Request:
    """Which examples are meant, as far as it can be known without them.

    choose: given the data, the ids; None for the most memorized: `count` of them by `score`, once that is there.
    """

    choose: Callable[[Splits, Earlier], Ids] | None = None
    score: str | None = None
    count: int = 0

    @classmethod
    def read(cls, options: SelectOptions) -> Request:
        """Exactly one kind of request, its files read and its text understood; needs no data."""
        if kind_of_request(options) == "top":
            score, count = parse_top(getattr(options, "top"))  # noqa: B009 (only some commands have it)
            return cls(score=score, count=count)
        return cls(_chooser(options))

    def ids(self, data: Splits, before: Earlier = _NONE) -> Ids | None:
        """The ids, checked against the data before anything is trained; None for the most memorized.

        before: what the model forgot before, which needs no forgetting.
        """
        if self.choose is not None:
            with step("find the examples of the request"):
                return self.choose(data, before)
        if self.count >= len(data.train):
            raise UserError(
                "--top",
                f"{self.score}:{self.count}",
                f"there are {len(data.train):,} training examples, and some must be left to learn from",
                "ask for fewer",
            )
        return None

    def most_memorized(self, scores: Mapping[str, Scores]) -> Ids:
        return scores[self.score or ""].top(self.count)


def _chooser(options: SelectOptions) -> Callable[[Splits, Earlier], Ids]:
    if options.forget is not None:
        listed, source = read_ids(options.forget), str(options.forget)
        if not listed.names:
            raise _empty(source)

        def named(data: Splits, before: Earlier) -> Ids:
            names = before.new(listed.ids(data), "--forget")
            if not names:
                raise _empty(source)
            return _once(names, data, "--forget", options.dedupe)

        return named
    if options.issues is not None:
        issues = read_issues(options.issues)
        return lambda data, before: _once(
            trained_on(before.new(issues.names(data), "--issues"), data), data, "--issues", options.dedupe
        )
    conditions = [parse_condition(text) for text in options.where]
    return lambda data, _: checked_ids(
        ids_where(data.train, conditions, classes=data.classes).tolist(), data, field="--where"
    )


def _empty(source: str) -> NothingToDoError:
    return NothingToDoError("--forget", source, "the request is empty", "name at least one example")


def trained_on(names: list[str], data: Splits) -> list[str]:
    """Issues are of all data: those of unseen examples are nothing to forget, since no model was trained on them."""
    elsewhere = {*data.holdout.ids.tolist(), *data.test.ids.tolist()}
    limited = set(order_of(data)) - elsewhere - set(data.train.ids.tolist())
    kept = [name for name in names if name not in elsewhere and name not in limited]
    unseen = sum(name in elsewhere for name in names)
    if unseen:
        warn(f"{unseen:,} of the issues are of the holdout or the test set: nothing to forget there")
    if len(names) - unseen > len(kept):
        warn(f"{len(names) - unseen - len(kept):,} of the issues are of examples that --limit leaves out")
    if not kept:
        raise NothingToDoError("--issues", None, "flags no training example", "name a file that flags at least one")
    return kept


def _once(names: list[str], data: Splits, field: str, dedupe: bool) -> Ids:
    ids = checked_ids(names, data, field=field, dedupe=dedupe)
    if len(ids) < len(names):
        warn(f"{len(names) - len(ids):,} repeated ids were left out")
    return ids
