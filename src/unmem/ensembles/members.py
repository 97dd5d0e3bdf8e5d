"""Training of ensemble members. Each is one task with its own result file, so that a stopped run can continue."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unmem import __version__, models
from unmem.data import Examples
from unmem.ensembles import erased, files
from unmem.ensembles.controls import Pairs, pairs_of
from unmem.ensembles.ensemble import Ensemble, Outputs
from unmem.ensembles.masks import Mask
from unmem.errors import Phrase, UserError
from unmem.executors import Failed, Where, check_executor, run_all
from unmem.predictions import log_odds
from unmem.recipe import Recipe
from unmem.training import precision_for, predict, predicted, train

Arrays = dict[str, NDArray[Any]]
_OUTPUTS: dict[str, Any] = {"phi": np.float32, "margin": np.float32, "prediction": np.int16}
LAYOUT = 2  # of the arrays in a member's file; members of another layout are trained again
_OF_ONE = ("seed", "subset")  # what members of one ensemble differ in


def train_members(
    recipe: Recipe,
    examples: Examples,
    kept: Mask,
    *,
    seed: int = 0,
    unseen: Examples | None = None,
    keep_logits: bool = False,
    keep_weights: bool = False,
    folder: Path | None = None,
    executor: Where = None,
    workers: int | None = None,
    on_member: Callable[[int, int], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> Ensemble:
    """Train one model for each row of a mask.

    A member that crashes or diverges twice is skipped, and `settings["failed"]` lists it.

    Args:
        recipe: How each member is trained.
        examples: N training examples.
        kept: [K, N] bool, the examples that each member is trained on.
        seed: Member k is trained with `seed + k`.
        unseen: Examples to evaluate the members on, which none is trained on.
        keep_logits: Whether to keep the logits of the training examples, [K, N, C].
        keep_weights: Whether to write the weights of each member to `folder`, as `.safetensors`.
        folder: Folder for finished members. Members found there with the same recipe, data, subset, seed and versions
            are reused; damaged files are replaced.
        executor: Where the trainings run, see `unmem.executors.run_all`.
        workers: Number of parallel workers.
        on_member: Called with (done, total) after each member.
        on_warning: Called with each warning, a sentence.

    Returns:
        The ensemble of all members that did not fail.

    Raises:
        UserError: An argument is wrong.
        Exception: The error of a member, if every member failed.
    """
    _check_masks(kept, examples)
    check_executor(executor)
    images = len(examples.input_shape) == 3
    settled = replace(recipe, precision=precision_for(recipe, examples.device, images=images))  # on every machine
    shared = _Shared(settled, examples, unseen, keep_logits, keep_weights, str(examples.device))
    tasks = [_Task(seed + k, row) for k, row in enumerate(kept)]
    about = [] if folder is None else [shared.about(task) for task in tasks]
    paths = [files.place(folder, one) for one in about] if folder is not None else []
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    results = _Results(shared, tasks, on_member)
    missing = [
        k for k in range(len(tasks)) if not (paths and _taken_up(results, k, paths[k], keep_weights, on_warning))
    ]
    if folder is not None and on_warning is not None and len(missing) == len(tasks):
        _tell_of_others(folder, about[0], on_warning)
    if on_warning is not None and len(missing) < len(tasks):
        on_warning(f"{len(tasks) - len(missing):,} of {len(tasks):,} members were there already")
    found = run_all(
        _run,
        shared,
        [tasks[k] for k in missing],
        where=executor,
        workers=workers,
        on_warning=on_warning,
        names=lambda i: f"member {missing[i] + 1}",
    )
    for i, result in found:
        k = missing[i]
        if isinstance(result, Failed):
            results.fail(k, result)
            continue
        if paths:
            files.write(paths[k], about[k], {"kept": np.packbits(kept[k])} | result.arrays, result.weights)
        results.put(k, result.arrays)
    return results.ensemble()


def read_members(folder: str | Path, examples: Examples, *, unseen: Examples | None = None) -> Ensemble:
    """Read the ensemble that `train_members` left in a folder.

    Args:
        folder: The folder.
        examples: The examples that the members were trained on.
        unseen: The unseen examples that they were evaluated on.

    Returns:
        The ensemble, in the order of the seeds.

    Raises:
        UserError: The folder holds no members, or not all are of one recipe and of these examples.
    """
    folder = Path(folder)
    whole = [one for one in files.members_in(folder) if one.problem is None]
    if unseen is not None:  # the fold models of a cross-fit are kept there too, and need not know unseen examples
        whole = [one for one in whole if {"unseen_phi", "controls"} <= one.arrays.keys()]
    if not whole:
        raise UserError("--members", str(folder), "holds no members", "make them with unmem score --work")
    wanted = {"data": examples.fingerprint} | ({} if unseen is None else {"unseen": unseen.fingerprint})
    for key, fingerprint in wanted.items():
        if any(one.about.get(key) != fingerprint for one in whole):
            raise UserError(
                "--members",
                str(folder),
                f"some were made with other {'examples' if key == 'data' else 'unseen examples'} than these",
                "pass the same --data, --limit, --flip, --seed, --scaling and --size as when they were made",
            )
    recipes = {json.dumps(one.about["recipe"] | {"seed": 0}, sort_keys=True) for one in whole}
    if len(recipes) > 1:
        raise UserError("--members", str(folder), f"they are of {len(recipes)} recipes", "keep each in its own folder")
    whole.sort(key=lambda one: (one.about["seed"], one.path.name))
    keep_logits = all("logits" in one.arrays for one in whole)
    try:
        recipe = Recipe(**whole[0].about["recipe"])
    except (TypeError, UserError) as error:
        problem = f"{whole[0].path.name} says that it was trained by a recipe that there is not ({error})"
        raise UserError("--members", str(folder), problem, "make them again with unmem score --work") from error
    shared = _Shared(recipe, examples, unseen, keep_logits, False, str(examples.device))
    tasks = [_Task(one.about["seed"], _unpacked(one.arrays["kept"], len(examples))) for one in whole]
    results = _Results(shared, tasks, None)
    for k, one in enumerate(whole):
        arrays = erased.restored(one.path, one.arrays, examples)
        if not results.fits(arrays):
            fix = "remove that file, or make the members again with unmem score --work"
            raise UserError("--members", str(folder), f"{one.path.name} has arrays of other sizes", fix)
        erased.check_whole(one.path, arrays)
        results.put(k, arrays)
    return results.ensemble()


@dataclass(frozen=True, eq=False)
class _Shared:
    """What all members have in common; it travels once to each worker. device: where it is at work there."""

    recipe: Recipe
    examples: Examples
    unseen: Examples | None
    keep_logits: bool
    keep_weights: bool
    device: str

    def about(self, task: _Task) -> dict[str, Any]:
        """All that determines a member, and what its file says of it."""
        return ({} if self.source is None else {"source": self.source}) | {
            "recipe": asdict(replace(self.recipe, seed=0)),
            "seed": task.seed,
            "data": self.examples.fingerprint,
            "subset": hashlib.sha256(np.packbits(task.kept).tobytes()).hexdigest(),
            "unseen": None if self.unseen is None else self.unseen.fingerprint,
            "logits": self.keep_logits,
            "layout": LAYOUT,
            "device": torch.device(self.device).type,
            "versions": {"unmem": __version__, "torch": str(torch.__version__)},
        }

    @cached_property
    def source(self) -> str | None:
        """What the network's name and the base stand for; asked once, since it may read files."""
        shape, classes = self.examples.input_shape, self.examples.n_classes
        return models.source_of(self.recipe.model, self.recipe.base, input_shape=shape, n_classes=classes)

    @cached_property
    def pairs(self) -> Pairs | None:
        """Of unseen examples and classes, if there are unseen examples; a network has an output for each class."""
        return None if self.unseen is None else pairs_of(self.unseen.labels, self.examples.n_classes)

    @cached_property
    def placed(self) -> tuple[Examples, Examples | None]:
        """The examples on the device; they arrive in a worker on the CPU."""
        return self.examples.to(self.device), None if self.unseen is None else self.unseen.to(self.device)


@dataclass(frozen=True, eq=False)
class _Task:
    seed: int
    kept: Mask


@dataclass(frozen=True, eq=False)
class _Result:
    arrays: Arrays
    weights: Arrays | None


def _run(shared: _Shared, task: _Task) -> _Result:
    began = time.perf_counter()
    examples, unseen = shared.placed
    model = train(shared.recipe, examples.at(np.flatnonzero(task.kept)), seed=task.seed)
    arrays = _outputs(model, examples, "train", keep_logits=shared.keep_logits)
    if unseen is not None:
        arrays |= _outputs(model, unseen, "unseen")
        if shared.pairs is not None:
            asked, pairs = shared.pairs.asked(unseen)
            arrays["controls"] = pairs.log_odds(predict(model, asked)).astype(np.float32)
    arrays["seconds"] = np.array(time.perf_counter() - began)
    if examples.device.type == "cpu":
        arrays["threads"] = np.array(torch.get_num_threads())
    state = model.state_dict() if shared.keep_weights else None
    return _Result(arrays, state and {name: value.cpu().contiguous().numpy() for name, value in state.items()})


def _outputs(model: nn.Module, examples: Examples, name: str, *, keep_logits: bool = False) -> Arrays:
    def keep(logits: Tensor, labels: Tensor) -> list[Tensor]:
        phi, margin = log_odds(logits, labels)
        few = [phi.float(), margin.float(), logits.argmax(1).to(torch.int16)]
        return [*few, logits] if keep_logits else few

    names = (f"{name}_phi", f"{name}_margin", f"{name}_prediction", *(["logits"] if keep_logits else []))
    found = predicted(model, examples, keep)
    return {key: values.cpu().numpy() for key, values in zip(names, found, strict=True)}


def _taken_up(results: _Results, k: int, path: Path, weights: bool, on_warning: Callable[[str], None] | None) -> bool:
    """Whether member k was there already, and whole."""
    found = files.read(path)
    if found is None or (weights and not files.weights_of(path).exists()):
        return False
    if found.problem is not None or not results.fits(found.arrays):
        _say(
            on_warning,
            f"{path.name} is damaged: {found.problem or 'it is of other sizes'}; the member is trained again",
        )
        return False
    arrays = erased.restored(path, found.arrays, results.examples)
    if np.isnan(arrays["train_phi"]).any():
        why = "its predictions of forgotten examples were deleted, and the data still hold these examples"
        _say(on_warning, f"{path.name} is trained again: {why}")
        return False
    results.put(k, arrays)
    results.seconds_before += _seconds_here(arrays)
    return True


def _say(on_warning: Callable[[str], None] | None, text: str) -> None:
    if on_warning is not None:
        on_warning(text)


def _seconds_here(arrays: Arrays) -> float:
    """What a member took, in seconds of all threads of this process: two that ran side by side shared the cores."""
    threads = torch.get_num_threads()
    return float(arrays["seconds"]) * min(int(arrays.get("threads", threads)), threads) / threads


def _tell_of_others(folder: Path, ours: dict[str, Any], on_warning: Callable[[str], None]) -> None:
    """Nothing could be taken up: if that is because of another setting, say which."""
    others = [one for one in files.members_in(folder) if one.problem is None]
    if others:
        differ = files.differences(
            {key: value for key, value in others[0].about.items() if key not in _OF_ONE},
            {key: value for key, value in ours.items() if key not in _OF_ONE},
        )
        why = ", ".join(differ) if differ else "other subsets or seeds"
        on_warning(f"{folder} holds {len(others):,} members made with {why}; they stay, and new ones are trained")


class _Results:
    """The rows of an ensemble, filled in place as members arrive: no more memory than they take in the end."""

    def __init__(self, shared: _Shared, tasks: Sequence[_Task], on_member: Callable[[int, int], None] | None) -> None:
        self._shared, self._tasks, self._on_member = shared, tasks, on_member
        total = len(tasks)
        sizes = {"train": len(shared.examples)} | ({} if shared.unseen is None else {"unseen": len(shared.unseen)})
        self._rows: dict[str, NDArray[Any]] = {
            f"{name}_{key}": np.empty((total, n), kind) for name, n in sizes.items() for key, kind in _OUTPUTS.items()
        }
        if shared.pairs is not None:
            self._rows["controls"] = np.empty((total, len(shared.pairs)), np.float32)
        self._logits: NDArray[np.float32] | None = None
        self._seconds = np.zeros(total)
        self.seconds_before = 0.0
        self._there = np.zeros(total, dtype=bool)
        self._failed: dict[int, Failed] = {}

    @property
    def examples(self) -> Examples:
        return self._shared.examples

    def fits(self, arrays: Arrays) -> bool:
        n = len(self._shared.examples)
        logits = arrays["logits"].shape if "logits" in arrays else None
        right = not self._shared.keep_logits or (logits is not None and len(logits) == 2 and logits[0] == n)
        if right and logits is not None and self._logits is not None:
            right = logits == self._logits.shape[1:]
        right = right and arrays["kept"].shape == np.packbits(np.zeros(n, dtype=bool)).shape
        return right and all(
            name in arrays and arrays[name].shape == rows.shape[1:] for name, rows in self._rows.items()
        )

    def put(self, k: int, arrays: Arrays) -> None:
        for name, rows in self._rows.items():
            rows[k] = arrays[name]
        if self._shared.keep_logits:
            if self._logits is None:
                self._logits = np.empty((len(self._tasks), *arrays["logits"].shape), np.float32)
            self._logits[k] = arrays["logits"]
        self._seconds[k], self._there[k] = arrays["seconds"], True
        self._count()

    def fail(self, k: int, failed: Failed) -> None:
        self._failed[k] = failed
        self._count()

    def _count(self) -> None:
        if self._on_member is not None:
            self._on_member(int(self._there.sum()) + len(self._failed), len(self._tasks))

    def ensemble(self) -> Ensemble:
        """The ensemble of the members that did not fail."""
        if not self._there.any():
            raise next(iter(self._failed.values())).error
        rows: Any = slice(None) if self._there.all() else np.flatnonzero(self._there)
        shared = self._shared
        chosen = [k for k, there in enumerate(self._there.tolist()) if there]
        settings: dict[str, Any] = {
            "recipe": asdict(shared.recipe),
            "members": len(chosen),
            "data": shared.examples.fingerprint,
            "versions": {"unmem": __version__, "torch": str(torch.__version__)},
            "failed": [{"seed": self._tasks[k].seed, "why": str(failed)} for k, failed in self._failed.items()],
        }
        return Ensemble(
            kept=np.stack([self._tasks[k].kept for k in chosen]),
            train=self._outputs(shared.examples, "train", rows),
            unseen=None if shared.unseen is None else self._outputs(shared.unseen, "unseen", rows),
            seeds=tuple(self._tasks[k].seed for k in chosen),
            seconds=tuple(float(self._seconds[k]) for k in chosen),
            settings=settings,
            logits=None if self._logits is None else self._logits[rows],
            seconds_before=self.seconds_before,
            controls=self._rows["controls"][rows] if "controls" in self._rows else None,
            pairs=shared.pairs,
        )

    def _outputs(self, examples: Examples, name: str, rows: Any) -> Outputs:
        values: Any = {key: self._rows[f"{name}_{key}"][rows] for key in _OUTPUTS}
        return Outputs(examples.ids, examples.labels.cpu().numpy().copy(), **values)


def _unpacked(kept: NDArray[np.uint8], n: int) -> Mask:
    return np.unpackbits(kept, count=n).astype(bool)


def _check_masks(kept: Mask, examples: Examples) -> None:
    if kept.ndim != 2 or len(kept) == 0 or kept.shape[1] != len(examples):
        raise UserError(
            "kept",
            Phrase(f"of shape {kept.shape}"),
            f"needs a row for each member and a column for each of the {len(examples):,} examples",
            "make it with leave_out_masks, complementary_masks or fold_masks",
        )
    if not kept.any(axis=1).all():
        raise UserError("kept", None, "a member would be trained on nothing", "keep some examples in each")
