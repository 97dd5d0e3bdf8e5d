"""Options that commands share, as the command line shows them. Imports nothing heavy: `--help` must answer at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
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
    """The examples, and how to read them."""

    data: str = "digits"
    """Data set: digits, fashion-mnist, cifar10, cifar100, svhn or tiny-imagenet; hf:NAME from the Hugging Face hub; an
    .npz, .csv or .parquet file; a folder of images or one written by save_to_disk; or MODULE:FUNCTION that returns a
    data set."""
    folder: Path | None = None
    "Directory with the files of a named data set, such as fashion-mnist or cifar10."
    test: Path | None = None
    "A second table with unseen examples, for the holdout and the test set."
    label: str | None = None
    "Column with the class labels. Default: label, target, class or y."
    split: str | None = None
    """Percentages of training, holdout and test examples, for data without splits of their own. none: all examples are
    training data, and results on unseen examples are left out. Default: 70/15/15; required for a model that was trained
    elsewhere."""
    unseen: Path | None = None
    """File with ids of examples that the model was not trained on, in any format of --forget: they become the holdout
    and the test set."""
    classes: str = ""
    """Class names in the order of the model's outputs, separated by commas. Default: the order in the model's folder
    (id2label), else alphabetical, with numbers sorted by value."""
    id: str | None = None
    """Column with the ids. Default: id, or an index column with unique values and no gaps, else the row number. none:
    always the row number."""
    drop: str = ""
    "Columns to exclude from the features, separated by commas."
    categories: str = ""
    "Columns to treat as categorical even if they look numeric, separated by commas."
    missing: Annotated[str, Parameter(allow_leading_hyphen=True)] = ""
    "Cell values that mean a missing value, separated by commas, such as ?,-999."
    impute: Literal["median", "refuse"] = "median"
    """How to handle missing values. median: numeric columns get the median of the training rows and an indicator
    column, categorical columns a category of their own. refuse: stop with an error."""
    decimal: Literal[".", ","] | None = None
    "Decimal separator in a table; the other sign then separates thousands. Default: a point, no thousands separator."
    prepared: bool | None = None
    """Use the numbers of a table unchanged, or standardise them with --no-prepared. Default: unchanged only if they
    already look standardised."""
    preprocess: str | None = None
    "FILE.py:NAME of a fitted scikit-learn transformer, or of a function, that turns a table into model inputs."
    text: str | None = None
    "Column with the texts to classify."
    tokenizer: Path | None = None
    "Folder or tokenizer.json of the tokenizer. Default: the one in the model's folder."
    max_length: int = 128
    "Maximum number of tokens per text; the rest is cut off."
    size: str | None = None
    "Resize images to this height and width: 32, or 32x48."
    grey: Flag = False
    "Convert images to greyscale. Default: greyscale only if all images are."
    rgb: Flag = False
    "Convert greyscale images to three channels, for a model that takes colour images."
    scaling: str | None = None
    """Normalisation of images: unit, symmetric, imagenet, cifar10, cifar100, svhn, dataset, raw, or MEAN/SD such as
    0.5,0.5,0.5/0.25,0.25,0.25."""
    stream: Literal["auto", "always", "never"] = "auto"
    "Read inputs from disk as they are needed. auto: only if they would fill more than a quarter of the free memory."
    loaders: int = 2
    "Number of processes that read streamed inputs."
    limit: int | None = None
    "Use a stratified sample of this many training examples."
    flip: float = 0.0
    "Flip this share of the training labels on purpose; the ids go to flipped.txt."


@Parameter(name="*", group=_WORK)
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What is random, and where the work runs."""

    seed: Annotated[int, Parameter(group=_DATA)] = 0
    "Seed for the sample, the flipped labels, training and unlearning."
    device: str = "auto"
    "Device: auto, cpu, cuda, cuda:1, …"
    executor: Literal["serial", "processes", "ray", "dask"] = "serial"
    """Where independent trainings run (ensemble members, folds, retrained models): one after another, in parallel
    processes, or on a Ray or Dask cluster."""
    workers: int | None = None
    "Number of parallel workers. Default: one per core."


@Parameter(name="*", group=_TRAINING)
@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """How to train the original model."""

    arch: str | None = None
    """Architecture: mlp, small_cnn, resnet18, resnet50, vgg16 or vit; torchvision/NAME or timm/NAME; transformers/DIR
    for a folder with a config.json; package.module:function or FILE.py:function for your own. Default: the architecture
    of the model file, from its metadata or its keys, else small_cnn for images and mlp for other inputs."""
    base: Path | None = None
    """Pretrained weights to start training from, if the original was fine-tuned: a model file or a folder written by
    save_pretrained that was not trained on these examples. A last layer for other classes is initialised randomly."""
    epochs: int = _RECIPE.epochs
    "Number of epochs."
    lr: float = _RECIPE.lr
    "Peak learning rate."
    batch_size: int = _RECIPE.batch_size
    "Batch size."
    optimizer: Optimizer = _RECIPE.optimizer
    "Optimizer: sgd, or adamw for most transformers. Choose --lr to suit it."
    momentum: float = _RECIPE.momentum
    "Momentum of SGD; beta1 of AdamW."
    weight_decay: float = _RECIPE.weight_decay
    "Weight decay."
    label_smoothing: float = _RECIPE.label_smoothing
    "Label smoothing of the loss, at least 0 and below 1."
    schedule: Schedule = _RECIPE.schedule
    "Learning rate schedule; cosine and linear end at 0."
    augment: Augment = _RECIPE.augment
    "Data augmentation of images: random crops, or random crops and horizontal flips."
    precision: Precision = _RECIPE.precision
    "Precision of the forward and backward passes. auto: bf16 where the hardware supports it."
    compile: Compile = _RECIPE.compile
    "Whether to use torch.compile, which first takes about half a minute. auto: off."

    def recipe(self, *, arch: str, seed: int) -> Recipe:
        known = {field.name for field in fields(Recipe)}
        given: dict[str, Any] = {key: value for key, value in asdict(self).items() if key in known}
        given |= {"model": arch, "seed": seed, "base": "" if self.base is None else str(self.base)}
        return Recipe(**given)


@Parameter(name="*", group=_TRAINING)
@dataclass(frozen=True, kw_only=True)
class ModelOptions(RecipeOptions):
    """The original model."""

    model: Path | None = None
    """The trained original model: a .safetensors file, a .pt, .pth, .bin or .ckpt file with a state dict, or a folder
    written by save_pretrained. Default: train the original in this run."""
    unsafe_load: Flag = False
    "Also load pickled model files, which can execute arbitrary code: only for files you trust."


@Parameter(name="*", group=_OUTPUT)
@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where to write the results."""

    out: Path
    "Run folder to create."
    force: Flag = False
    "Replace an existing run in that folder."
    log: str = ""
    """Also log losses and results to tensorboard, wandb or mlflow, or to several, separated by commas. Files are
    written to logs in --out during the run; they stay if it is stopped, and --force adds to them."""


@dataclass(frozen=True, kw_only=True)
class SelectOptions:
    """The examples of a request."""

    forget: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None
    """File with the ids: text with one id per line, CSV or parquet with a column id, or JSON; - reads standard
    input."""
    where: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=True)] = ()
    """Instead of a file: COLUMN=VALUE selects all examples with that value, such as label=3. Repeat the option to
    require several conditions at once."""
    issues: str | None = None
    """Instead of a file of ids: label issues found by cleanlab (column is_label_issue, with an id or in the order of
    the training set), or FILE:N for the N examples with the lowest label_quality."""
    # Written out: cyclopts looks the names of inherited annotations up in the room of the subclass.
    dedupe: Annotated[bool, Parameter(negative=())] = False
    "Accept duplicate ids in the request and use each once; by default they are an error."


def check_reference(count: int, *, least: int = 1) -> None:
    """Refuse, before any work, a number of retrained models that means nothing."""
    if count < least:
        raise UserError("--reference-seeds", count, f"must be {least} or more", "give a number such as 2")


def folders_of(path: Path) -> tuple[Path, ...]:
    """Folders with what may have been made with a model: its own, and for save_pretrained the run around it."""
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
