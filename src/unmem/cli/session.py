"""What commands share: getting the data and the original, and the head of `result.json`."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from unmem import __version__, models
from unmem.cli import checks, kept
from unmem.cli.console import Stage, alarm, stage, warn
from unmem.cli.earlier import Earlier, leave_out
from unmem.cli.faults import step
from unmem.cli.options import SAME_DATA, DataOptions, ModelOptions, OutputOptions, RecipeOptions
from unmem.data import Examples, Ids, Splits, holds_tokenizer, load, numbered_as, pick_device
from unmem.errors import UnseenExampleError, UserError
from unmem.evaluation import Untrained, accuracy, untrained
from unmem.executors import Name, check_executor
from unmem.memorization import Scorer, Scores, save_scores
from unmem.models import Card
from unmem.models.transformers import PREFIX
from unmem.recipe import Recipe
from unmem.rehearsal import check_outputs, rehearse
from unmem.requests import read_ids
from unmem.store import LOGS, RunFolder, free_folder
from unmem.tracking import LogTo
from unmem.training import Observer, Recorder, train
from unmem.unlearning import Problem, Retrain, retrain_all

SCHEMA = 1
_WITH_REQUEST = ("forget", "audit")


@dataclass(frozen=True, eq=False)
class Original:
    """The model to work on. seconds: what its training took, None if it was read from a file. card: what is known of
    that file. source: its path. fault: what is wrong with it if it was trained here and did not learn."""

    model: nn.Module
    recipe: Recipe
    seconds: float | None
    card: Card | None = None
    source: Path | None = None
    fault: Untrained | None = None

    @property
    def warnings(self) -> list[str]:
        """What a page must say of it."""
        return [] if self.fault is None else [self.fault.text]


@dataclass(eq=False)
class Session:
    """One command at work: what it was asked, its data, and when it began. work: the folder for models that are
    finished, from which a run that was stopped goes on."""

    command: str
    settings: dict[str, Any]
    data: Splits
    seed: int = 0
    executor: Name = "serial"
    workers: int | None = None
    began: float = field(default_factory=time.perf_counter)
    log: LogTo = field(default_factory=lambda: LogTo(()))
    before: Earlier = field(default_factory=Earlier)
    work: Path | None = None
    _base: str = ""  # of the recipes that were checked
    _rehearsed: set[str] = field(default_factory=set[str])  # networks that were tried

    @classmethod
    def open(
        cls,
        command: str,
        settings: dict[str, Any],
        options: DataOptions,
        *,
        log: LogTo | None = None,
        keep: Callable[[Splits], Ids | None] | None = None,
        folder: RunFolder | None = None,
        replaces: Path | None = None,
    ) -> Session:
        """Read and check the data. keep, replaces: see `earlier.leave_out`. folder: where the command writes."""
        began = time.perf_counter()
        model = model_named(settings)
        check_executor(options.executor, field="--executor")
        with step(f"read the data {options.data}"):
            data = load(
                options.data,
                limit=options.limit,
                flip=options.flip,
                seed=options.seed,
                device=pick_device(options.device),
                **reading_of(options, model),
            )
        for note in data.notes:
            warn(note)
        data = numbered(data, options.classes, model)
        if len(data.flipped):
            warn(
                f"{len(data.flipped)} of {len(data.train):,} training labels were flipped on purpose "
                f"({options.flip:.1%}, seed {options.seed})"
            )
        data, before = leave_out(data, None if model is None else Path(model), keep, replaces)
        with step("check the data"):
            checks.heed(checks.OF_DATA_FIRST, checks.Subject(data), warn)
        log = log or LogTo(())
        log.settings = settings
        return cls(
            command,
            settings,
            data,
            options.seed,
            options.executor,
            options.workers,
            began,
            log,
            before,
            None if folder is None else folder.work,
        )

    def on(self, data: Splits) -> Session:
        """The same command at work on other data."""
        return replace(self, data=data)

    def original(self, options: RecipeOptions, *, seed: int, recorders: Mapping[str, Recorder]) -> Original:
        """The original, trained by the recipe under `recorders`, which are named for a run that takes it up."""
        recipe = self.recipe(options, seed=seed)

        def trained(bar: Stage) -> nn.Module:
            return train(recipe, self.data.train, observers=[*recorders.values(), *self.logged("original", bar)])

        return self._taken_up(recipe, recorders) or self._timed(recipe, recorders, trained)

    def train_original(self, scorer: Scorer, *, recorders: Mapping[str, Recorder] | None = None) -> Original:
        """The original trained by a scorer, under the recorders that its scores need, and `recorders`."""
        recorded = {**scorer.recorders, **(recorders or {})}

        def trained(bar: Stage) -> nn.Module:
            return scorer.original([*(recorders or {}).values(), *self.logged("original", bar)])

        original = self._taken_up(scorer.recipe, recorded)
        if original is None:
            original = self._timed(scorer.recipe, recorded, trained)
        else:
            scorer.take_up(original.model)
        # What the scores took while watching is theirs, not the training's.
        return replace(original, seconds=(original.seconds or 0.0) - scorer.watched_seconds)

    def logged(self, stage: str, bar: Stage) -> list[Observer]:
        """Observers of the training that comes next: its bar and, where there is one, the log, under this name."""
        self.log.stage = stage
        return [bar, self.log] if self.log else [bar]

    def at_work(self) -> dict[str, Any]:
        """Where and how a `Scorer` trains its members."""
        return {"executor": self.executor, "workers": self.workers, "on_warning": warn}

    def recipe(self, options: RecipeOptions, *, seed: int) -> Recipe:
        file = getattr(options, "model", None)
        arch = options.arch or (None if file is None else models.arch_at(file)) or _usual_network(self.data.train)
        return self._checked(options.recipe(arch=arch, seed=seed))

    def read_original(self, options: ModelOptions, *, seed: int) -> Original:
        """The model that work starts from: it must know its training data."""
        if options.model is None:
            raise ValueError("no model file was named")
        original = self.read_model(options.model, options, seed=seed, unsafe=options.unsafe_load)
        recipe = original.recipe
        if original.card is not None and original.card.data is None:
            warn(
                f"the file does not say how it was trained; models trained here use {recipe.words} "
                "(--epochs, --optimizer, --lr, …)"
            )
        self.heed_model(original, checks.OF_MODEL_FIRST)
        _warm_up(original.recipe, self.data)
        return original

    @contextmanager
    def split_in_doubt(self, file: Path | None) -> Generator[None]:
        """Where a request names unseen examples, say first if it is not known what the model in `file` was trained on.

        An example that unmem took for an unseen one need not be one to a model from elsewhere.
        """
        try:
            yield
        except UnseenExampleError:
            card = None if file is None else models.card_of(file)
            if file is not None and (card is None or card.data is None):
                checks.check_split(self.data, self.settings.get("split"))
            raise

    def heed_model(self, read: Original, which: Sequence[checks.Check]) -> None:
        """Say what is doubtful about a finished model, and refuse one that no command can work with."""
        split = self.settings.get("split")
        subject = checks.Subject(
            self.data, split, model=read.model, arch=read.recipe.model, card=read.card, file=read.source
        )
        with step(f"check the model {read.source}"):
            checks.heed(which, subject, warn)

    def read_model(self, file: Path, options: RecipeOptions, *, seed: int, unsafe: bool = False) -> Original:
        """The model in a file, checked to fit the data. recipe: how it was trained, as far as the options say."""
        train_set = self.data.train
        with step(f"read the model {file}"):
            model, card = models.load(
                file,
                arch=options.arch,
                input_shape=train_set.input_shape,
                n_classes=train_set.n_classes,
                unsafe=unsafe,
                on_warning=warn,
            )
        model = model.to(train_set.device).eval()
        check_outputs(model, train_set, field="--model", value=str(file))
        if not self.before.of_these(card, train_set):
            fix = f"{SAME_DATA} as when it was trained"
            if card.forgotten is not None:
                fix += (
                    "; where forgotten rows were deleted, the others need an id column and a --test set or --unseen ids"
                )
            raise UserError("--model", str(file), "it was trained on other examples than these", fix)
        return Original(model, self._checked(options.recipe(arch=card.arch, seed=seed), file), None, card, file)

    def _checked(self, recipe: Recipe, file: Path | None = None) -> Recipe:
        """The recipe, once its base is known to fit the network, and not to be the model in `file`."""
        base = recipe.base
        if file is not None and base and _place(file) == _place(Path(base)):
            fix = "name what it was fine-tuned from"
            raise UserError("--base", base, "is the model itself, which knows what is to be forgotten", fix)
        if recipe.model not in self._rehearsed:
            with step(f"try the network {recipe.model}"):
                rehearse(recipe, self.data.train)
            self._rehearsed.add(recipe.model)
        if not base or base == self._base:
            return recipe
        train_set = self.data.train
        model = models.build(recipe.model, train_set.input_shape, train_set.n_classes, seed=0)
        drawn = models.start_from(base, model, train_set.input_shape, train_set.n_classes)
        if drawn:
            more = f" and {len(drawn) - 1} more" * (len(drawn) > 1)
            warn(f"trainings start from {base}, but for {drawn[0]}{more}: these are drawn at random")
        self._base = base
        return recipe

    def _taken_up(self, recipe: Recipe, recorders: Mapping[str, Recorder]) -> Original | None:
        """The original that a stopped run left, if there is one of this recipe and these data."""
        found = None if self.work is None else kept.find_original(self.work, recipe, self.data, recorders)
        if found is None:
            return None
        warn(f"the original was trained before this command was stopped, in {found[1]:.1f} s, and is taken up")
        _warm_up(recipe, self.data)
        return self._judged(Original(found[0], recipe, found[1]))

    def _timed(
        self, recipe: Recipe, recorders: Mapping[str, Recorder], training: Callable[[Stage], nn.Module]
    ) -> Original:
        _warm_up(recipe, self.data)
        with stage(f"Train the original ({recipe.model}, {recipe.passes})") as bar:
            model = training(bar)
        if self.work is not None and recipe.epochs:
            kept.keep_original(self.work, recipe, self.data, recorders, model, bar.seconds)
        return self._judged(Original(model, recipe, bar.seconds))

    def _judged(self, original: Original) -> Original:
        """With what is wrong with it, if it did not learn, said to the user."""
        fault = untrained(original.model, self.data.train, recipe=original.recipe)
        if fault is not None:
            alarm(fault.text)
        return replace(original, fault=fault)

    def retrain(
        self, problem: Problem, count: int, *, seed: int, folders: Sequence[Path] = ()
    ) -> tuple[list[nn.Module], list[float]]:
        """The reference: `count` models trained without the forget set, from seed + 1 on, and the seconds of each.

        folders: where an earlier run may have left them.
        """
        seeds = range(seed + 1, seed + count + 1)
        work = [] if self.work is None else [self.work]
        found = kept.find(problem, seeds, [*work, *folders])
        if found:
            warn(f"{len(found):,} of {count:,} retrained models were there already")
        missing = [one for one in seeds if one not in found]
        found |= self._retrained(problem, missing, at={one: k for k, one in enumerate(seeds, 1)})
        return [found[one][0] for one in seeds], [found[one][1] for one in seeds]

    def _retrained(self, problem: Problem, seeds: Sequence[int], *, at: Mapping[int, int]) -> kept.Found:
        """at: the number of each seed among all of them."""
        found: kept.Found = {}
        if self.executor != "serial" and len(seeds) > 1:
            with stage(f"Retrain from scratch without them, {len(seeds)} models") as bar:
                made = retrain_all(problem, seeds, executor=self.executor, workers=self.workers, on_model=bar.on_member)
            found = dict(zip(seeds, zip(*made, strict=True), strict=True))
            seeds = ()
        for one in seeds:
            with stage(f"Retrain from scratch without them, {at[one]} of {len(at)}") as bar:
                observers = self.logged(f"retrained-{at[one]}", bar)
                model = Retrain()(problem, seed=one, observers=observers)
            found[one] = model, bar.seconds
            if self.work is not None:
                kept.keep_retrained(self.work, problem, one, *found[one])
        return found

    def save_models(
        self,
        folder: RunFolder,
        original: Original,
        unlearned: nn.Module | None = None,
        about: Mapping[str, str] | None = None,
        problem: Problem | None = None,
    ) -> None:
        """The models, under the keys that the original came with; a model of transformers also as a folder like its
        own. about: what the model card there says of the unlearning. problem: what the unlearned model forgot."""
        train_set = self.data.train
        known = original.card or Card(original.recipe.model, train_set.input_shape, train_set.n_classes)
        card = replace(known, data=known.data or train_set.fingerprint, classes=self.data.classes)
        folder.file("original.safetensors", lambda path: models.save(original.model, card, path))
        if unlearned is not None:
            if problem is None:
                raise ValueError("an unlearned model must say what it forgot")
            after = self.before.after(card, problem)
            folder.file("unlearned.safetensors", lambda path: models.save(unlearned, after, path))
            source = None if original.source is None else models.folder_of(original.source)
            if source is not None:
                told = {**(about or {}), "unmem version": __version__}
                folder.file("unlearned", lambda path: models.save_like(source, unlearned, path, told, after))

    def save_retrained(
        self, folder: RunFolder, problem: Problem, made: tuple[Sequence[nn.Module], Sequence[float]], *, seed: int
    ) -> None:
        """What `retrain` gave, so that other models can be judged against the same ones."""
        pairs = zip(*made, strict=True)
        kept.save(folder, problem, {seed + k: pair for k, pair in enumerate(pairs, 1)})

    def save_scores(self, folder: RunFolder, scores: list[Scores], forgotten: Ids | tuple[()] = ()) -> None:
        """The table of scores, without the examples that were forgotten."""
        train = self.data.train
        kept = train.ids[~np.isin(train.ids, forgotten)]
        scores = [one.only(kept) for one in scores]
        labels = train.labels.cpu().numpy()[train.positions(kept)]
        folder.file("scores.parquet", lambda path: save_scores(scores, labels, path))

    def describe(self, original: Original) -> dict[str, Any]:
        """The section `original` of `result.json`."""
        return {
            "recipe": asdict(original.recipe),
            "seconds": original.seconds,
            "accuracy": self.accuracies(original.model),
        } | ({} if original.fault is None else {"fault": asdict(original.fault) | {"text": original.fault.text}})

    def describe_score(self, scores: Scores, seconds: float, original: Original) -> dict[str, Any]:
        """The entry of one score in `result.json`; `seconds` is what it took beyond the training of the original."""
        entry: dict[str, Any] = {"seconds": seconds, "settings": scores.settings}
        if original.seconds:
            entry["cost"] = seconds / original.seconds
        else:
            entry |= {"cost": None, "reason": "the original was not trained here, so its training time is not known"}
        if len(self.data.flipped):
            entry["auroc_flipped"] = scores.auroc(self.data.flipped)
        return entry

    def accuracies(self, model: nn.Module) -> dict[str, float | None]:
        """By part; None of one without examples."""
        return {name: accuracy(model, part) if len(part) else None for name, part in self.data.parts.items()}

    def versions(self) -> dict[str, str]:
        return {"unmem": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}

    def facts(self, recipe: Recipe, source: Path | None = None) -> dict[str, str]:
        """What a report says of how it came about. source: the file of the original, if it was not trained here."""
        data = self.data
        threads = torch.get_num_threads()
        cpu = f"{threads} CPU thread{'s' * (threads != 1)}"
        trained = recipe.words + (f", from {recipe.base}" if recipe.base else "")
        read = "" if source is None else f"read from {source}; what was trained here: "
        return {
            "data": f"{data.name}: {data.sizes}",
            "model": f"{recipe.model}, {read}{trained}",
            "seed": str(recipe.seed),
            "command": f"unmem {self.command}",
            "versions": ", ".join(f"{name} {version}" for name, version in self.versions().items()),
            "hardware": f"{platform.machine()}, {cpu}, work on {data.train.device}",
        }

    def finish(self, folder: RunFolder, result: dict[str, Any], forgotten: Ids | tuple[()] = ()) -> None:
        """Write what every run folder has: `config.yaml`, `flipped.txt` where labels were planted, `result.json`.

        forgotten: ids of the request, which no file of the run names.
        """
        data = self.data
        conditions = self.command in _WITH_REQUEST and not any(map(self.settings.get, ("forget", "top", "issues")))
        head = "# --where is not kept, since it says whom the request is about: give it again.\n" if conditions else ""
        options = yaml.safe_dump({"command": self.command, **self.settings}, sort_keys=False)
        folder.text("config.yaml", head + options)
        flipped = data.flipped[~np.isin(data.flipped, forgotten)]
        if len(flipped):
            folder.text("flipped.txt", "".join(f"{name}\n" for name in flipped))
        head = {
            "schema": SCHEMA,
            "command": self.command,
            "settings": self.settings,
            "versions": self.versions(),
            "data": {
                "name": data.name,
                "sizes": {"train": len(data.train), "holdout": len(data.holdout), "test": len(data.test)},
                "classes": data.train.n_classes,
                "flipped": len(data.flipped),
                "fingerprint": data.train.fingerprint,
            },
            "seconds": time.perf_counter() - self.began,
        }
        folder.json("result.json", head | result)
        if self.log:
            self.log.results(result)


def log_of(output: OutputOptions, command: str) -> LogTo:
    """The loggers of --log, checked; each run has a folder of its own. Does nothing where none was named."""
    return LogTo(output.log, free_folder(output.out / LOGS, command), on_warning=warn, field="--log")


def _place(path: Path) -> Path:
    """Where a model lies: the folder of save_pretrained that it is in, or the file."""
    return (models.folder_of(path) or path).resolve()


def model_named(settings: Mapping[str, Any]) -> str | None:
    """Where the model lies that the data are for: that of --model, or the folder of --arch transformers/DIR."""
    model, arch = settings.get("model"), settings.get("arch") or ""
    return model or (arch.removeprefix(PREFIX) if arch.startswith(PREFIX) else None)


def reading_of(options: DataOptions, model: str | None) -> dict[str, Any]:
    """How to read the data; texts by the tokenizer that lies with the model, unless another is named."""
    reading = options.reading()
    if options.unseen is not None:
        reading["unseen"] = tuple(name.strip() for name in read_ids(options.unseen, field="--unseen").names)
    if options.text is not None and options.tokenizer is None and model is not None:
        reading["tokenizer"] = _tokenizer_with(Path(model))
    return reading


def _tokenizer_with(model: Path) -> Path | None:
    """The folder of a model's tokenizer: itself, that of save_pretrained around it, or the one that unmem wrote beside
    a file of the same name."""
    around = models.folder_of(model)
    places = [model, *([] if around is None else [around]), model.with_suffix("")]
    return next((place for place in places if holds_tokenizer(place)), None)


def numbered(data: Splits, classes: str, model: str | None) -> Splits:
    """The data with their classes in the order of the model's outputs, as far as that is known."""
    if classes:
        names = [name.strip() for name in classes.split(",")]
        return numbered_as(data, names, field="--classes", whose="it names")
    names = () if model is None else models.class_names(Path(model)) or _on_card(Path(model), data)
    if not names or not data.classes:
        return data
    ordered = numbered_as(data, names, field="--data", whose="the model has")
    if ordered.classes[: len(data.classes)] != data.classes:
        warn(f"the classes are numbered as the model does: {', '.join(names[:10])}{', …' * (len(names) > 10)}")
    return ordered


def _on_card(model: Path, data: Splits) -> tuple[str, ...]:
    """The names of the classes by which unmem numbered them when it wrote the file, if these data have no others."""
    card = models.card_of(model) if model.is_file() else None
    names = () if card is None else card.classes
    known = {name.casefold() for name in names}
    return names if len(known) == len(names) and known >= {name.casefold() for name in data.classes} else ()


def _warm_up(recipe: Recipe, data: Splits) -> None:
    """A few throwaway steps: PyTorch loads parts of itself at the first one, which is no cost of training."""
    few = data.train.at(data.train.positions(data.train.ids[: 2 * recipe.batch_size]))
    train(replace(recipe, epochs=1, lr=1e-6), few)


def _usual_network(examples: Examples) -> str:
    if examples.scaling is None and not examples.inputs.dtype.is_floating_point:
        raise UserError(
            "--arch", None, "there is no usual network for token ids", "pass transformers/DIR or FILE.py:FUNCTION"
        )
    return "small_cnn" if len(examples.input_shape) == 3 else "mlp"
