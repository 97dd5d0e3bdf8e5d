"""What is to be forgotten and by which scores, read from the options of a command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unmem.cli.console import stage
from unmem.data import Ids, Splits, as_ids
from unmem.errors import UserError
from unmem.memorization import CrossFit, Scorer, Scores, check_names, load_scores


def read_ids(path: Path) -> Ids:
    """One id a line; blank lines and lines that start with # do not count."""
    if not path.is_file():
        raise UserError("--forget", str(path), "no such file", "name a text file with one id a line")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            "--forget", str(path), "cannot be read as text", "name a text file with one id a line"
        ) from error
    return as_ids([line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")])


def read_crossfit(path: Path, data: Splits, ids: Ids | None) -> CrossFit:
    """A cross-fit of `unmem prepare`, made sure to be of the examples at hand and to hold those asked for."""
    found = CrossFit.load(path)
    if found.settings.get("data") != data.train.fingerprint:
        raise UserError(
            "--crossfit",
            str(path),
            "it was made from other examples than these",
            "pass the same --data, --limit, --flip and --seed as when it was made",
        )
    found.take(data.train.ids[:0] if ids is None else ids)
    return found


def parse_top(text: str) -> tuple[str, int]:
    """ "confidence:50" -> the score's name and a number of examples."""
    name, colon, count = text.rpartition(":")
    if not colon or not name or not count.isdecimal():
        raise UserError("--top", text, "is not SCORE:N", "write for example --top confidence:50")
    return name, int(count)


def scored(scorer: Scorer, name: str) -> Scores:
    """The score, with a bar while it is made."""
    with stage(f"Score by {name}") as bar:
        scorer.watch, scorer.on_member = [bar], bar.on_member
        return scorer.get(name)


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

    def get(self, name: str, scorer: Scorer) -> Scores:
        """The score, made sure to be of the training examples at hand."""
        if self.file is None:
            return scored(scorer, name)
        scores, train = load_scores(self.file, name), scorer.data.train
        if scores.settings.get("data", train.fingerprint) != train.fingerprint:
            raise UserError(
                "--scores",
                str(self.file),
                "they are scores of other examples than these",
                "pass the same --data, --limit, --flip and --seed as when they were made",
            )
        return scores
