"""Many trainings on subsets of one training set: members that saw an example beside members that did not.

Each member is one job with its own result file, so a run can be stopped at any point and taken up again.
"""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmem import __version__
from unmem.data import Examples, Ids
from unmem.errors import Phrase, UserError
from unmem.recipe import Recipe
from unmem.store import atomic_path
from unmem.training import predict, train

Mask = NDArray[np.bool_]
Real = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Outputs:
    """What models say of N examples, [K, N] each, one row a member.

    phi: log p_y − log(1 − p_y), the log-odds of the true label; computed in float64 from logits, kept in float32.
    margin: log p_y − log max_{k≠y} p_k. prediction: the class with the largest logit.
    """

    ids: Ids
    labels: NDArray[np.int64]
    phi: Real
    margin: Real
    prediction: NDArray[np.int16]

    @property
    def correct(self) -> Mask:
        return self.prediction == self.labels

    @property
    def confidence(self) -> Real:
        """Probability of the true label."""
        from scipy.special import expit

        return expit(self.phi)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Members trained on subsets of the same examples.

    kept: [K, N] booleans, which examples a member was trained on. train: outputs on those N examples, IN and OUT alike.
    unseen: outputs on examples that no member was trained on, if asked for. seeds, seconds: one a member.
    logits: [K, N, C] float32, if asked for.
    """

    kept: Mask
    train: Outputs
    unseen: Outputs | None
    seeds: tuple[int, ...]
    seconds: tuple[float, ...]
    settings: dict[str, Any]
    logits: Real | None = None

    def __len__(self) -> int:
        return len(self.kept)

    def members(self, chosen: Sequence[int] | NDArray[np.int64]) -> Ensemble:
        """The ensemble of these members alone; use disjoint halves where one picks and the other judges."""
        index = np.asarray(chosen)
        return replace(
            self,
            kept=self.kept[index],
            train=_rows(self.train, index),
            unseen=None if self.unseen is None else _rows(self.unseen, index),
            seeds=tuple(self.seeds[i] for i in index),
            seconds=tuple(self.seconds[i] for i in index),
            logits=None if self.logits is None else self.logits[index],
        )


def leave_out_masks(n: int, members: int, *, keep: float, seed: int, unit: Sequence[object] | None = None) -> Mask:
    """Which examples each member keeps, [members, n]: random and balanced.

    Each unit is left out of exactly round((1 − keep) · members) members, and the members leave out equally many units
    but for one. A unit is an example, or all examples that share a value of `unit` (user, source, duplicate cluster).
    """
    out = round((1 - keep) * members)
    if not 0 < out < members:
        raise UserError(
            "members",
            members,
            f"with keep {keep} every example would be in {'all' if out <= 0 else 'none'} of them",
            "use more members, or keep a share nearer to one half",
        )
    if unit is not None and len(unit) != n:
        raise UserError("unit", len(unit), f"there are {n} examples", "name the unit of each example")
    names, group = np.unique(np.arange(n) if unit is None else np.asarray(unit), return_inverse=True)
    random = np.random.default_rng(seed)
    load = np.zeros(members)
    left_out = np.zeros((members, len(names)), dtype=bool)
    for one in random.permutation(len(names)):
        # The members that left out fewest so far, ties at random.
        chosen = np.lexsort((random.random(members), load))[:out]
        left_out[chosen, one] = True
        load[chosen] += 1
    _mix(left_out, random)
    return ~left_out[:, group]


def _mix(left_out: Mask, random: np.random.Generator) -> None:
    """Exchange units between pairs of members, in place, keeping every count of units and of members.

    Balancing one after another keeps units that followed each other apart: some would never be left out together.
    """
    members = len(left_out)
    for _ in range(5 * members):
        a, b = random.choice(members, 2, replace=False)
        differ = np.flatnonzero(left_out[a] != left_out[b])
        to_a = random.permutation(len(differ)) < left_out[a, differ].sum()
        left_out[a, differ], left_out[b, differ] = to_a, ~to_a


def complementary_masks(n: int, members: int, *, seed: int) -> Mask:
    """Random halves and their complements, [members, n]: every example is in exactly half of the members."""
    if members < 2 or members % 2:
        raise UserError("members", members, "halves come in pairs", "give an even number")
    random = np.random.default_rng(seed)
    half = np.zeros((members // 2, n), dtype=bool)
    for row in half:
        row[random.permutation(n)[: n // 2]] = True
    return np.stack([half, ~half], axis=1).reshape(members, n)


def fold_masks(labels: Tensor, folds: int, *, seed: int) -> Mask:
    """Stratified folds, [folds, n]: member k keeps all but fold k, and every example is left out exactly once."""
    n = len(labels)
    if not 2 <= folds <= n:
        raise UserError("folds", folds, f"{n} examples cannot be cut in as many folds", "give 2 or more")
    random = np.random.default_rng(seed)
    shuffled = random.permutation(n)
    order = shuffled[np.argsort(labels.cpu().numpy()[shuffled], kind="stable")]
    fold = np.empty(n, dtype=np.int64)
    fold[order] = np.arange(n) % folds
    return fold[None, :] != np.arange(folds)[:, None]


def train_members(
    recipe: Recipe,
    examples: Examples,
    kept: Mask,
    *,
    seed: int = 0,
    unseen: Examples | None = None,
    keep_logits: bool = False,
    folder: Path | None = None,
    executor: Executor | None = None,
    on_member: Callable[[int, int], None] | None = None,
) -> Ensemble:
    """Train one model for each row of `kept`; member k has seed `seed + k`.

    folder: where each finished member is kept; members that are already there, made by the same recipe, data, mask,
        seed and versions, are read and not trained again, and a damaged file is made anew. executor: where members run,
        `None` for here, one after another; processes and not threads, which would share one random state. on_member:
        called with (done, total) after each.
    """
    _check_masks(kept, examples, executor)
    total = len(kept)
    jobs = [_Job(recipe, seed + k, kept[k], examples, unseen, keep_logits) for k in range(total)]
    paths = [None if folder is None else folder / f"member-{job.key}.npz" for job in jobs]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    results: dict[int, dict[str, Any]] = {}

    def arrived(k: int, result: dict[str, Any]) -> None:
        results[k] = result
        if on_member is not None:
            on_member(len(results), total)

    for k, path in enumerate(paths):
        found = None if path is None else _read(path)
        if found is not None:
            arrived(k, found)
    missing = [k for k in range(total) if k not in results]
    if executor is None:
        for k in missing:
            arrived(k, _run(jobs[k], paths[k]))
    else:
        futures: dict[Future[dict[str, Any]], int] = {executor.submit(_run, jobs[k], paths[k]): k for k in missing}
        for future in as_completed(futures):
            arrived(futures[future], future.result())
    return _assemble([results[k] for k in range(total)], jobs, unseen)


@dataclass(frozen=True, eq=False)
class _Job:
    recipe: Recipe
    seed: int
    kept: Mask
    examples: Examples
    unseen: Examples | None
    keep_logits: bool

    @property
    def about(self) -> dict[str, Any]:
        """What a file says of its member, to those who read it without knowing how it was asked for."""
        return {
            "recipe": asdict(replace(self.recipe, seed=self.seed)),
            "data": self.examples.fingerprint,
            "unseen": None if self.unseen is None else self.unseen.fingerprint,
            "versions": {"unmem": __version__, "torch": str(torch.__version__)},
        }

    @property
    def key(self) -> str:
        """A hash of all that determines the result."""
        parts = (
            asdict(replace(self.recipe, seed=self.seed)),
            hashlib.sha256(np.packbits(self.kept).tobytes()).hexdigest(),
            self.examples.fingerprint,
            None if self.unseen is None else self.unseen.fingerprint,
            self.keep_logits,
            __version__,
            str(torch.__version__),
        )
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _run(job: _Job, path: Path | None) -> dict[str, Any]:
    began = time.perf_counter()
    model = train(job.recipe, job.examples.at(np.flatnonzero(job.kept)), seed=job.seed)
    result = _outputs(predict(model, job.examples), job.examples.labels, "train")
    if job.unseen is not None:
        result |= _outputs(predict(model, job.unseen), job.unseen.labels, "unseen")
    if job.keep_logits:
        result["logits"] = predict(model, job.examples).cpu().numpy()
    result["seconds"] = time.perf_counter() - began
    if path is not None:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, kept=np.packbits(job.kept), about=json.dumps(job.about), **result)
    return result


def read_members(folder: str | Path, examples: Examples, *, unseen: Examples | None = None) -> Ensemble:
    """The ensemble whose members `train_members` left in a folder, in the order of their seeds.

    Raises `UserError` if there are none, or if they are not all of one recipe and of these examples.
    """
    folder = Path(folder)
    found = [(path, _read(path)) for path in sorted(folder.glob("member-*.npz"))] if folder.is_dir() else []
    whole = [(path, one) for path, one in found if one is not None and "about" in one]
    if unseen is not None:  # the fold models of a cross-fit are kept there too, and know no unseen examples
        whole = [(path, one) for path, one in whole if "unseen_phi" in one]
    if not whole:
        raise UserError("--members", str(folder), "holds no members", "make them with unmem score --work")
    about = [json.loads(str(one["about"])) for _, one in whole]
    sizes = {"data": examples.fingerprint} | ({} if unseen is None else {"unseen": unseen.fingerprint})
    for key, wanted in sizes.items():
        if any(one[key] != wanted for one in about):
            raise UserError(
                "--members",
                str(folder),
                f"some were made with other {'examples' if key == 'data' else 'unseen examples'} than these",
                "pass the same --data, --limit, --flip and --seed as when they were made",
            )
    recipes = {json.dumps(one["recipe"] | {"seed": 0}, sort_keys=True) for one in about}
    if len(recipes) > 1:
        raise UserError("--members", str(folder), f"they are of {len(recipes)} recipes", "keep each in its own folder")
    order = sorted(range(len(whole)), key=lambda k: (about[k]["recipe"]["seed"], whole[k][0].name))
    results = [whole[k][1] for k in order]
    jobs = [
        _Job(
            Recipe(**about[k]["recipe"]),
            about[k]["recipe"]["seed"],
            np.unpackbits(whole[k][1]["kept"], count=len(examples)).astype(bool),
            examples,
            unseen,
            all("logits" in one for one in results),
        )
        for k in order
    ]
    return _assemble(results, jobs, unseen)


def _read(path: Path) -> dict[str, Any] | None:
    """A finished member; None if it is not there or damaged, and then it is trained again."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (FileNotFoundError, EOFError, ValueError, OSError, zipfile.BadZipFile, zlib.error):
        return None
    return found if {"train_phi", "seconds"} <= found.keys() else None


def _check_masks(kept: Mask, examples: Examples, executor: Executor | None) -> None:
    if kept.ndim != 2 or len(kept) == 0 or kept.shape[1] != len(examples):
        raise UserError(
            "kept",
            Phrase(f"of shape {kept.shape}"),
            f"needs a row for each member and a column for each of the {len(examples):,} examples",
            "make it with leave_out_masks, complementary_masks or fold_masks",
        )
    if not kept.any(axis=1).all():
        raise UserError("kept", None, "a member would be trained on nothing", "keep some examples in each")
    if isinstance(executor, ThreadPoolExecutor) and executor._max_workers > 1:  # pyright: ignore (no public name)
        raise UserError("executor", None, "threads would share one random state", "use processes")


def _outputs(logits: Tensor, labels: Tensor, name: str) -> dict[str, Any]:
    phi, margin = log_odds(logits, labels)
    return {
        f"{name}_phi": phi.float().cpu().numpy(),
        f"{name}_margin": margin.float().cpu().numpy(),
        f"{name}_prediction": logits.argmax(1).to(torch.int16).cpu().numpy(),
    }


def log_odds(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """phi = log p_y − log(1 − p_y) and margin = log p_y − log max_{k≠y} p_k, [N] float64 each, from logits [N, C]."""
    z = logits.double()
    own = z.gather(1, labels[:, None])[:, 0]
    others = z.scatter(1, labels[:, None], float("-inf"))
    return own - others.logsumexp(1), own - others.amax(1)


def _assemble(results: list[dict[str, Any]], jobs: list[_Job], unseen: Examples | None) -> Ensemble:
    first = jobs[0]

    def outputs(examples: Examples, name: str) -> Outputs:
        stacked = {key: np.stack([r[f"{name}_{key}"] for r in results]) for key in ("phi", "margin", "prediction")}
        return Outputs(examples.ids, examples.labels.cpu().numpy().copy(), **stacked)

    settings: dict[str, Any] = {
        "recipe": asdict(first.recipe),
        "members": len(jobs),
        "data": first.examples.fingerprint,
        "versions": {"unmem": __version__, "torch": str(torch.__version__)},
    }
    return Ensemble(
        kept=np.stack([job.kept for job in jobs]),
        train=outputs(first.examples, "train"),
        unseen=None if unseen is None else outputs(unseen, "unseen"),
        seeds=tuple(job.seed for job in jobs),
        seconds=tuple(float(r["seconds"]) for r in results),
        settings=settings,
        logits=np.stack([r["logits"] for r in results]) if first.keep_logits else None,
    )


def _rows(outputs: Outputs, index: NDArray[Any]) -> Outputs:
    return replace(outputs, phi=outputs.phi[index], margin=outputs.margin[index], prediction=outputs.prediction[index])
