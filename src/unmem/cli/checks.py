"""What can be verified without training, as small functions: each looks at one thing and gives what it found.

A check is a function from a `Subject` to findings, and raises `UserError` for what no command can work with. `unmem
check` shows what all of them give; the other commands apply the cheap ones before they start (`apply`). To add a check,
write such a function and name it in the list for what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from unmem.data import Examples, Splits
from unmem.errors import UserError
from unmem.evaluation import accuracy, chance, equally_confident, find_mismatch, find_order, find_scaling
from unmem.models import Card
from unmem.requests import find_copies, shared_inputs
from unmem.unlearning import Problem

SAMPLE = 1_000  # training examples that are looked at for the range of inputs
CHEAP = 2**28  # bytes of inputs that are compared with each other before every command
SHOWN = 12  # names in a list
LARGE = 100.0  # beyond it, inputs are seldom as a network expects them


@dataclass(frozen=True)
class Finding:
    """One thing that a check saw: what was understood, or what looks wrong.

    Attributes:
        topic: What it is about, in a word.
        text: One sentence, without a full stop.
        doubt: Whether it looks wrong, so that a command says it as a note before it starts.
    """

    topic: str
    text: str
    doubt: bool = False


@dataclass(frozen=True, eq=False)
class Subject:
    """What is checked; every attribute after the data is None if it is not available.

    Attributes:
        data: The data as read.
        split: What --split says.
        tokenizer: What reads texts.
        model: The finished original, or a network that is yet to be trained.
        arch: The name of its architecture.
        card: What the file of a finished model says of itself.
        file: Its path; None for a network that is yet to be trained.
        problem: The request, with the model.
    """

    data: Splits
    split: str | None = None
    tokenizer: object = None
    model: nn.Module | None = None
    arch: str = ""
    card: Card | None = None
    file: Path | None = None
    problem: Problem | None = None


Check = Callable[[Subject], Iterable[Finding]]


def examined(checks: Sequence[Check], subject: Subject) -> Iterator[Finding | UserError]:
    """What all checks find; a check that ends in an error stops no other one."""
    for check in checks:
        try:
            yield from check(subject)
        except UserError as error:
            yield error


def apply(checks: Sequence[Check], subject: Subject, on_warning: Callable[[str], None]) -> None:
    """Say the doubts, and raise the first error: what a command does before it starts."""
    for found in examined(checks, subject):
        if isinstance(found, UserError):
            raise found
        if found.doubt:
            on_warning(found.text)


# --- the data ---


def sizes(subject: Subject) -> Iterator[Finding]:
    data = subject.data
    yield Finding("data", f"{data.name}: {data.sizes}")
    if len(data.holdout) == 0:
        yield Finding("splits", "all of the data are training data")
    elif data.split_here:
        yield Finding("splits", "the holdout and the test set were drawn here from the one set that the source holds")
    else:
        yield Finding("splits", "unseen examples are those that the source or the options name as such")


def names(subject: Subject) -> Iterator[Finding]:
    data = subject.data
    order = data.train.ids if data.order is None else data.order
    if len(order) and np.array_equal(order, np.arange(len(order)).astype(np.str_)):
        yield Finding("ids", f"numbers in the order of the source, from 0 to {len(order) - 1:,}")
    else:
        some = ", ".join(data.train.ids[:3].tolist())
        yield Finding("ids", f"those of the source, such as {some}")


def classes(subject: Subject) -> Iterator[Finding]:
    """The classes in their order, with how often each occurs; those that only some splits have."""
    data = subject.data
    counts = _counts(data.train)
    titles = _titles(data)
    listed = [f"{title} ({count:,})" for title, count in zip(titles, counts, strict=True)]
    whole = f"{len(counts)}, in the order of the outputs: {_listed(listed)}"
    yield Finding("classes", whole)
    absent = [title for title, count in zip(titles, counts, strict=True) if count == 0]
    if absent:
        text = f"no training example has the class {_listed(absent)}: its output is never trained"
        yield Finding("classes", text, doubt=True)
    for name, part in (("holdout", data.holdout), ("test set", data.test)):
        unseen = _counts(part)
        lacking = [title for title, had, has in zip(titles, counts, unseen, strict=True) if had and not has]
        if len(part) and lacking:
            text = f"the {name} has no example of the class {_listed(lacking)}: nothing can be measured there"
            yield Finding("classes", text, doubt=True)


def inputs(subject: Subject) -> Iterator[Finding]:
    """Form and range of what the model sees; inputs that hold nothing."""
    train = subject.data.train
    shape = " x ".join(map(str, train.input_shape)) or "one number"
    few = train.at(np.arange(min(len(train), SAMPLE)))
    if train.scaling is None and not train.inputs.dtype.is_floating_point:
        by = "" if subject.tokenizer is None else f", by the tokenizer in {subject.tokenizer}"
        yield Finding("inputs", f"token ids, {shape} for each example{by}")
        return
    x = _seen(few)
    kind = "images" if len(train.input_shape) == 3 else "numbers"
    stored = str(train.inputs.dtype).removeprefix("torch.")
    span = f"{float(x.min()):.3g} to {float(x.max()):.3g}, mean {float(x.mean()):.3g}, deviation {float(x.std()):.3g}"
    yield Finding("inputs", f"{kind} of {shape}, stored as {stored}; the model sees {span}")
    flat = x.flatten(1)
    constant = int((flat.amax(1) == flat.amin(1)).sum()) if flat.shape[1] > 1 else 0
    if 2 * constant > len(few):
        text = f"{constant:,} of {len(few):,} training inputs hold one value throughout: were they read as they should?"
        yield Finding("inputs", text, doubt=True)
    if float(x.abs().max()) > LARGE:
        text = f"inputs reach {float(x.abs().max()):.3g}, where networks expect numbers near 1 (--scaling, --prepared)"
        yield Finding("inputs", text, doubt=True)


def copies(subject: Subject) -> Iterator[Finding]:
    """Exact copies of training inputs among themselves and among unseen examples."""
    data = subject.data
    found = {"holdout": shared_inputs(data.holdout, data.train), "test set": shared_inputs(data.test, data.train)}
    for name, mask in found.items():
        if mask.any():
            n = int(mask.sum())
            kind = (
                "is an exact copy of a training input: it is"
                if n == 1
                else "are exact copies of training inputs: they are"
            )
            text = f"{n:,} of {len(mask):,} inputs of the {name} {kind} not unseen"
            yield Finding("copies", text, doubt=True)
    if not any(mask.any() for mask in found.values()):
        yield Finding("copies", "no unseen example is an exact copy of a training example")


def cheap_copies(subject: Subject) -> Iterator[Finding]:
    """The same where it costs next to nothing."""
    parts = subject.data.parts.values()
    if all(isinstance(part.inputs, Tensor) for part in parts) and sum(part.inputs.nbytes for part in parts) < CHEAP:
        yield from copies(subject)


# --- the model ---


def network(subject: Subject) -> Iterator[Finding]:
    if subject.model is None:
        return
    count = sum(parameter.numel() for parameter in subject.model.parameters())
    if subject.file is None:
        yield Finding("model", f"{subject.arch}, {count:,} parameters, to be trained here")
        return
    trained = "trained by unmem on these examples" if _trained_here(subject) else "the file does not say on what data"
    yield Finding("model", f"{subject.arch} in {subject.file}, {count:,} parameters; {trained}")


def reached(subject: Subject) -> Iterator[Finding]:
    """Accuracy on each split."""
    if subject.model is None or subject.file is None:
        return
    parts = {"training": subject.data.train, "holdout": subject.data.holdout, "test": subject.data.test}
    shares = [f"{accuracy(subject.model, part):.1%} of {name}" for name, part in parts.items() if len(part)]
    yield Finding("reaches", f"it gets right {', '.join(shares)} examples")


def in_step(subject: Subject) -> list[Finding]:
    """Refuse a model that knows nothing of its training data, or knows it under other labels, and say why."""
    named_alike(subject)
    model, train = subject.model, subject.data.train
    if model is None or subject.file is None:
        return []
    right, (share, most) = accuracy(model, train), chance(train)
    if right <= most:
        problem = f"it gets {right:.1%} of its own training examples right, no more than chance ({share:.1%})"
        fix = "check that the file, --arch, --data and the label order belong together"
        raise UserError("--model", str(subject.file), problem, fix)
    return []


def named_alike(subject: Subject) -> list[Finding]:
    """Refuse a model that would be far better under other labels or other inputs, and say under which."""
    model, data = subject.model, subject.data
    if model is None or subject.file is None:
        return []
    right, (share, most) = accuracy(model, data.train), chance(data.train)
    found = find_mismatch(model, data.train) if right <= most else find_order(model, data.train)
    if found is None:
        return []
    problem = f"it gets {right:.1%} of its own training examples right"
    if right <= most:
        problem += f", no more than chance ({share:.1%})"
    raise UserError("--model", str(subject.file), f"{problem}; {found.words(data.classes)}", found.fix(data.classes))


def scaled(subject: Subject) -> Iterator[Finding]:
    """Doubt a scaling that is clearly worse than another: no error tells of it, and every number suffers."""
    if subject.model is None or subject.file is None or _trained_here(subject):
        return
    found = find_scaling(subject.model, subject.data.train)
    if found is not None:
        text = (
            f"{found.words()} of a sample of its training examples, clearly more than with the scaling in use: "
            "--scaling must be what it was trained with"
        )
        yield Finding("scaling", text, doubt=True)


def check_split(data: Splits, split: str | None) -> None:
    """Refuse, for a model from elsewhere, unseen examples that unmem drew and the user did not confirm."""
    if data.split_here and split is None:
        raise UserError(
            "--split",
            None,
            f"{data.name} is one set, and which of its examples this model was never trained on is not known",
            "name them with --test FILE or --unseen IDS, pass --split 70/15/15 if unmem's split was held back from "
            "its training, or --split none if it was trained on all of them",
        )


def unseen(subject: Subject) -> Iterator[Finding]:
    """Require the unseen examples of a model from elsewhere, and doubt them where the model knows them too."""
    data, model = subject.data, subject.model
    if model is None or subject.file is None or _trained_here(subject):
        return
    check_split(data, subject.split)
    if len(data.holdout) == 0:
        text = (
            "all of the data are training data: what the model does on unseen examples cannot be known, so that "
            "there is no ToW, no attack and no guard by --max-drop"
        )
        yield Finding("unseen", text, doubt=True)
    elif equally_confident(model, data.train, data.holdout, data.test):
        text = (
            "the model is as sure of its unseen examples as of its training set: if it was trained on them too, "
            "ToW, attacks and targets are wrong (--unseen, --split)"
        )
        yield Finding("unseen", text, doubt=True)


# --- the request ---


def request(subject: Subject) -> Iterator[Finding]:
    """How many examples it names and of which classes; what makes it unusual."""
    if subject.problem is None:
        return
    problem, data = subject.problem, subject.data
    n, whole = len(problem.forget), len(data.train)
    of = [f"{title} ({count:,})" for title, count in zip(_titles(data), _counts(problem.forget), strict=True) if count]
    yield Finding("request", f"{n:,} of {whole:,} training examples; by class {_listed(of)}")
    for flag in problem.flags():
        yield Finding("request", flag, doubt=True)


def copies_of_request(subject: Subject) -> Iterator[Finding]:
    """Copies among the retained examples keep what is forgotten known."""
    if subject.problem is None:
        return
    problem = subject.problem
    found = find_copies(problem.forget, problem.retain, unseen=problem.holdout)
    if len(found):
        text = (
            f"{copied(len(found.retain_ids))} of forget examples, and such copies preserve their influence "
            "(--copies include forgets them too)"
        )
        yield Finding("request", text, doubt=True)


OF_DATA: tuple[Check, ...] = (sizes, names, classes, inputs, copies)
OF_DATA_FIRST: tuple[Check, ...] = (classes, inputs, cheap_copies)  # before every command
OF_MODEL: tuple[Check, ...] = (network, reached, in_step, scaled, unseen)
OF_MODEL_FIRST: tuple[Check, ...] = (in_step, scaled, unseen)
OF_UNLEARNED_FIRST: tuple[Check, ...] = (named_alike, scaled, unseen)  # what knows nothing is what audits may find
OF_REQUEST: tuple[Check, ...] = (request, copies_of_request)


def copied(n: int) -> str:
    """The subject of a sentence about copies among the retained examples."""
    return "1 retained example is a copy" if n == 1 else f"{n:,} retained examples are copies"


def _trained_here(subject: Subject) -> bool:
    """Whether the file says on which examples the model was trained; that they are these was checked before."""
    return subject.card is not None and subject.card.data is not None


def _titles(data: Splits) -> list[str]:
    """The names of the classes, or their numbers."""
    return [data.title(label) for label in range(data.train.n_classes)]


def _counts(examples: Examples) -> list[int]:
    return torch.bincount(examples.labels, minlength=examples.n_classes).tolist()


def _seen(examples: Examples) -> Tensor:
    """The inputs as the model takes them."""
    return examples.batch(torch.arange(len(examples), device=examples.device))[0]


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - SHOWN:,} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more
