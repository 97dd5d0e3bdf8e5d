"""The model that a command works on: read from a file, or trained here."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from unmem import models
from unmem.cli import checks, kept
from unmem.cli.console import alarm, stage, warn
from unmem.cli.faults import step
from unmem.cli.options import SAME_DATA, ModelOptions, RecipeOptions
from unmem.cli.session import Session
from unmem.data import Examples
from unmem.errors import UnseenExampleError, UserError
from unmem.evaluation import Untrained, untrained
from unmem.models import Card
from unmem.recipe import Recipe
from unmem.rehearsal import check_outputs, rehearse
from unmem.training import Recorder, train


@dataclass(frozen=True, eq=False)
class Original:
    """The model to work on, with its recipe as far as that is known.

    seconds: how long its training took; None if it was read from the file `source`, whose metadata is `card`.
    fault: what is wrong with it, if it was trained here and did not learn.
    """

    model: nn.Module
    recipe: Recipe
    seconds: float | None
    card: Card | None = None
    source: Path | None = None
    fault: Untrained | None = None

    @property
    def warnings(self) -> list[str]:
        """Warnings for the page."""
        return [] if self.fault is None else [self.fault.text]


def recipe_of(session: Session, options: RecipeOptions) -> Recipe:
    """The recipe of the options, for the network that they or the model file name, checked to fit the data."""
    file = options.model if isinstance(options, ModelOptions) else None
    arch = options.arch or (None if file is None else models.arch_at(file)) or _usual_network(session.data.train)
    return _checked(session, options.recipe(arch=arch, seed=session.run.seed))


def _usual_network(examples: Examples) -> str:
    if examples.scaling is None and not examples.inputs.dtype.is_floating_point:
        raise UserError(
            "--arch", None, "there is no usual network for token ids", "pass transformers/DIR or FILE.py:FUNCTION"
        )
    return "small_cnn" if len(examples.input_shape) == 3 else "mlp"


def _checked(session: Session, recipe: Recipe) -> Recipe:
    """The recipe, once its network was tried on the data and its base is known to fit the network."""
    if (recipe.model, recipe.base) in session.checked:
        return recipe
    examples = session.data.train
    with step(f"try the network {recipe.model}"):
        rehearse(recipe, examples)
    if recipe.base:
        model = models.build(recipe.model, examples.input_shape, examples.n_classes, seed=0)
        drawn = models.start_from(recipe.base, model, examples.input_shape, examples.n_classes)
        if drawn:
            more = f" and {len(drawn) - 1} more" * (len(drawn) > 1)
            warn(f"trainings start from {recipe.base}, but for {drawn[0]}{more}: these are drawn at random")
    session.checked.add((recipe.model, recipe.base))
    return recipe


def untrained_network(session: Session, recipe: Recipe) -> nn.Module:
    """The network of a recipe before its training: enough for plans and checks."""
    examples = session.data.train
    model = models.build(recipe.model, examples.input_shape, examples.n_classes, seed=0)
    return model.to(examples.device).eval()


def read_original(session: Session, options: ModelOptions) -> Original | None:
    """The model of --model, checked to know its training data; None if the options name none."""
    if options.model is None:
        return None
    original = read_model(session, options.model, options, unsafe=options.unsafe_load)
    if original.card is not None and original.card.data is None:
        warn(
            f"the file does not say how it was trained; models trained here use {original.recipe.words} "
            "(--epochs, --optimizer, --lr, …)"
        )
    check_model(session, original, checks.OF_MODEL_FIRST)
    _warm_up(session, original.recipe)
    return original


def read_model(session: Session, file: Path, options: RecipeOptions, *, unsafe: bool = False) -> Original:
    """The model in a file, checked to fit the data. options: how it was trained, as far as they say."""
    examples = session.data.train
    with step(f"read the model {file}"):
        model, card = models.load(
            file,
            arch=options.arch,
            input_shape=examples.input_shape,
            n_classes=examples.n_classes,
            unsafe=unsafe,
            on_warning=warn,
        )
    model = model.to(examples.device).eval()
    check_outputs(model, examples, field="--model", value=str(file))
    if not session.before.of_these(card, examples):
        fix = f"{SAME_DATA} as when it was trained"
        if card.forgotten is not None:
            fix += "; where forgotten rows were deleted, the others need an id column and a --test set or --unseen ids"
        raise UserError("--model", str(file), "it was trained on other examples than these", fix)
    recipe = options.recipe(arch=card.arch, seed=session.run.seed)
    if recipe.base and _place(file) == _place(Path(recipe.base)):
        fix = "name what it was fine-tuned from"
        raise UserError("--base", recipe.base, "is the model itself, which knows what is to be forgotten", fix)
    return Original(model, _checked(session, recipe), None, card, file)


def _place(path: Path) -> Path:
    """Where a model is: the folder of save_pretrained around it, or the file."""
    return (models.folder_of(path) or path).resolve()


def check_model(session: Session, read: Original, which: Sequence[checks.Check]) -> None:
    """Print what is doubtful about a finished model, and refuse one that no command can work with."""
    split = session.settings.get("split")
    subject = checks.Subject(
        session.data, split, model=read.model, arch=read.recipe.model, card=read.card, file=read.source
    )
    with step(f"check the model {read.source}"):
        checks.apply(which, subject, warn)


@contextmanager
def split_in_doubt(session: Session, file: Path | None) -> Generator[None]:
    """Where a request names unseen examples, say first if it is not known what the model in `file` was trained on.

    An example that unmem took for an unseen one need not be one to a model from elsewhere.
    """
    try:
        yield
    except UnseenExampleError:
        card = None if file is None else models.card_of(file)
        if file is not None and (card is None or card.data is None):
            checks.check_split(session.data, session.settings.get("split"))
        raise


def train_original(session: Session, recipe: Recipe, recorders: Mapping[str, Recorder]) -> Original:
    """Train the original, or reuse the one that a stopped run left, with all that its recorders held."""
    _warm_up(session, recipe)
    data, work = session.data, session.work
    found = None if work is None else kept.find_original(work, recipe, data, recorders)
    if found is not None:
        model, seconds = found
        warn(f"the original was trained before this command was stopped, in {seconds:.1f} s, and is reused")
    else:
        with stage(f"Train the original ({recipe.model}, {recipe.passes})") as bar:
            model = train(recipe, data.train, observers=[*recorders.values(), *session.logged("original", bar)])
        seconds = bar.seconds
        if work is not None and recipe.epochs:
            kept.keep_original(work, recipe, data, recorders, model, seconds)
    fault = untrained(model, data.train, recipe=recipe)
    if fault is not None:
        alarm(fault.text)
    return Original(model, recipe, seconds, fault=fault)


def _warm_up(session: Session, recipe: Recipe) -> None:
    """Take a few throwaway steps: PyTorch loads parts of itself at the first one, which is no cost of training."""
    train_set = session.data.train
    few = train_set.at(train_set.positions(train_set.ids[: 2 * recipe.batch_size]))
    train(replace(recipe, epochs=1, lr=1e-6), few)
