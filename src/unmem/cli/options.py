"""Options that commands share, as the command line shows them. Imports nothing heavy: `--help` must answer at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from unmem.errors import UserError
from unmem.recipe import Augment, Compile, Optimizer, Precision, Recipe, Schedule

_DATA = Group("Data", sort_key=1)
_WORK = Group("Where it runs", sort_key=4)
_TRAINING = Group("Original model: read from a file, or trained by this recipe", sort_key=2)
_OUTPUT = Group("Output", sort_key=3)
_RECIPE = Recipe()

SAME_DATA = "pass the same --data, --limit, --flip and --seed, and read them the same way (--scaling, --size, …),"

Flag = Annotated[bool, Parameter(negative=())]


@Parameter(name="*", group=_DATA)
@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which examples."""

    data: str = "digits"
    """A name (digits, fashion-mnist, cifar10, cifar100, svhn, tiny-imagenet), hf:NAME, an .npz, .csv or .parquet file,
    a folder of images or of save_to_disk, or MODULE:FUNCTION that returns a data set."""
    folder: Path | None = None
    "Where the files of a set with a name lie, such as those of fashion-mnist or cifar10."
    test: Path | None = None
    "A second table, of unseen examples."
    label: str | None = None
    "Column of the classes. Default: label, target, class or y."
    split: str | None = None
    """Where the data are one set: shares of training, holdout and test examples. none: all of it is training data, so
    that nothing can be said of unseen examples. Default: 70/15/15; a model from elsewhere needs a word on it."""
    unseen: Path | None = None
    "File of ids that the model was not trained on, in the forms of --forget: they become the holdout and the test set."
    classes: str = ""
    """Names of the classes in the order of the model's outputs, separated by commas. Default: that of the model, if its
    folder names them (id2label); else alphabetical, numbers by value."""
    id: str | None = None
    """Column of the ids. Default: id, or an index column that is unique and complete; else the row number. none: the
    row number."""
    drop: str = ""
    "Columns that are no features, separated by commas."
    categories: str = ""
    "Columns of categories, whatever they look like, separated by commas."
    missing: Annotated[str, Parameter(allow_leading_hyphen=True)] = ""
    "Texts that stand for a missing value in a table, separated by commas, such as ?,-999."
    impute: Literal["median", "refuse"] = "median"
    """What becomes of missing values: numbers get the median of the training rows beside a column that tells which,
    categories one of their own; or they are refused."""
    decimal: Literal[".", ","] | None = None
    "Decimal sign of a table's numbers; the other sign then separates thousands. Default: a point, and no thousands."
    prepared: bool | None = None
    """Whether the numbers of a table are as the model takes them; otherwise they are standardised. Default: by what
    they look like."""
    preprocess: str | None = None
    "FILE.py:NAME, a fitted transformer of scikit-learn or a function, that makes the inputs of a table."
    text: str | None = None
    "Column of texts to classify by."
    tokenizer: Path | None = None
    "Folder or tokenizer.json that turns texts into tokens. Default: that of the model's folder."
    max_length: int = 128
    "Tokens that are kept of a text."
    size: str | None = None
    "Resize images to this height and width: 32, or 32x48."
    grey: Flag = False
    "Turn images grey; without it they are only where all of them are."
    rgb: Flag = False
    "Give grey images three channels, for a model that takes colour images."
    scaling: str | None = None
    """How a model sees images: unit, symmetric, imagenet, cifar10, cifar100, svhn, dataset, raw, or MEAN/SD such as
    0.5,0.5,0.5/0.25,0.25,0.25."""
    stream: Literal["auto", "always", "never"] = "auto"
    "Read inputs when they are needed; auto: where they would take more than a quarter of the free memory."
    loaders: int = 2
    "Processes that read streamed inputs."
    limit: int | None = None
    "Keep only a stratified sample of this many training examples."
    flip: float = 0.0
    "Plant this share of wrong training labels; their ids go to flipped.txt."
    seed: int = 0
    "Seed of the sample, the planted labels, the training and the unlearning."
    device: Annotated[str, Parameter(group=_WORK)] = "auto"
    "What computes: auto, cpu, cuda, cuda:1, …"
    executor: Annotated[Literal["serial", "processes", "ray", "dask"], Parameter(group=_WORK)] = "serial"
    """Where independent trainings run (members, folds, retrained models): one after another, in processes of this
    machine, or on a Ray or Dask cluster."""
    workers: Annotated[int | None, Parameter(group=_WORK)] = None
    "How many at a time; one a core unless told otherwise."

    def reading(self) -> dict[str, Any]:
        """How the source is to be read, as `load` takes it."""
        return {key: value for key, value in asdict(self).items() if key in _READING_FIELDS}


@Parameter(name="*", group=_TRAINING)
@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """How the original is trained."""

    arch: str | None = None
    """Network: mlp, small_cnn, resnet18, resnet50, vgg16 or vit; torchvision/NAME or timm/NAME; transformers/DIR, a
    folder with a config.json; your own by package.module:function or FILE.py:function. Default: that of the model file,
    by what it says or by its keys; else small_cnn for images, mlp for others."""
    base: Path | None = None
    """What trainings start from instead of random weights, if the original was fine-tuned: a model file, or a folder of
    save_pretrained, that never saw these examples. A last layer for other classes is drawn anew."""
    epochs: int = _RECIPE.epochs
    "Passes over the training examples."
    lr: float = _RECIPE.lr
    "Peak learning rate."
    batch_size: int = _RECIPE.batch_size
    "Examples in a step."
    optimizer: Optimizer = _RECIPE.optimizer
    "What takes the steps: SGD, or AdamW, as most transformers are trained. The rate must suit it."
    momentum: float = _RECIPE.momentum
    "Momentum of SGD; beta1 of AdamW."
    weight_decay: float = _RECIPE.weight_decay
    "Weight decay."
    label_smoothing: float = _RECIPE.label_smoothing
    "Label smoothing of the loss, at least 0 and below 1."
    schedule: Schedule = _RECIPE.schedule
    "How the learning rate goes to 0."
    augment: Augment = _RECIPE.augment
    "Random views of images in training: shifted (crop), and mirrored too (crop-flip)."
    precision: Precision = _RECIPE.precision
    "Of the forward and backward pass; auto is bf16 where the hardware computes it."
    compile: Compile = _RECIPE.compile
    "Whether torch.compile makes kernels for the network; it takes half a minute first, and auto leaves it out."

    def recipe(self, *, arch: str, seed: int) -> Recipe:
        fields = {key: value for key, value in asdict(self).items() if key in _TRAINING_FIELDS}
        base = "" if self.base is None else str(self.base)
        return replace(Recipe(model=arch, seed=seed, base=base), **fields)


@Parameter(name="*", group=_TRAINING)
@dataclass(frozen=True, kw_only=True)
class ModelOptions(RecipeOptions):
    """Where the original comes from."""

    model: Path | None = None
    """The finished original: a .safetensors file, a .pt, .pth, .bin or .ckpt file with a state dict, or a folder of
    save_pretrained; without it, the original is trained here."""
    unsafe_load: Flag = False
    "Also read model files that hold more than weights: that runs code of whoever made the file."


@Parameter(name="*", group=_OUTPUT)
@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where results go."""

    out: Path
    "Run folder to make."
    force: Flag = False
    "Replace the run in that folder, if there is one."
    log: str = ""
    """Send losses and results to tensorboard, wandb or mlflow as well, or to several, separated by commas. Files go to
    logs in --out as the run goes; they stay if it is stopped, and --force adds to them."""


@dataclass(frozen=True, kw_only=True)
class SelectOptions:
    """Which examples are meant."""

    forget: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None
    """File with the ids: text with one a line, CSV or parquet with a column id, or JSON; - reads standard input."""
    where: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=True)] = ()
    """Instead: COLUMN=VALUE, all examples with that value, such as label=3 or another column of the data. May be given
    again; then all must hold."""
    issues: str | None = None
    """Instead: FILE of label issues as cleanlab writes them (is_label_issue, with an id or in the order of the training
    set), or FILE:N, the N worst by label_quality."""
    # Written out: cyclopts looks the names of inherited annotations up in the room of the subclass.
    dedupe: Annotated[bool, Parameter(negative=())] = False
    "Take an id that the request names several times once, instead of refusing it."


_READING_FIELDS = (
    *("folder", "test", "label", "id", "drop", "text", "tokenizer", "max_length"),
    *("categories", "missing", "impute", "decimal", "prepared", "preprocess"),
    *("size", "grey", "rgb", "scaling", "stream", "loaders", "split"),
)
_TRAINING_FIELDS = (
    *("epochs", "lr", "batch_size", "optimizer", "momentum", "weight_decay", "label_smoothing", "schedule"),
    *("augment", "precision", "compile"),
)


def check_reference(count: int, *, least: int = 1) -> None:
    """Refuse, before any work, a number of retrained models that means nothing."""
    if count < least:
        raise UserError("--reference-seeds", count, f"must be {least} or more", "give a number such as 2")


def folders_of(path: Path) -> tuple[Path, ...]:
    """Where what was made with a model may lie: its folder, and for a folder of save_pretrained the run around it."""
    return (path, path.parent) if path.is_dir() else (path.parent,)


# The folder itself, and what says whom a request is about: the files of a run are made to be passed on.
_NOT_KEPT = ("out", "force", "where")


def settings(*options: Any) -> dict[str, Any]:
    """All options in one flat dictionary, as kept in `config.yaml` and `result.json`."""
    merged = {key: value for option in options for key, value in asdict(option).items()}
    kept = {key: value for key, value in merged.items() if key not in _NOT_KEPT}
    return {key: _plain(value) for key, value in kept.items()}


def _plain(value: Any) -> Any:
    """The value as YAML and JSON have it."""
    if isinstance(value, tuple):
        return [_plain(one) for one in value]  # pyright: ignore[reportUnknownVariableType] (of anything)
    return str(value) if isinstance(value, Path) else value
