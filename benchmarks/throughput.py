"""Speed of single and parallel trainings, and the overhead of scheduling and storage.

    .venv/bin/python benchmarks/throughput.py            # about 25 minutes on two idle cores
    .venv/bin/python benchmarks/throughput.py loop       # one part only: loop, members, overhead, resume or memory

loop: images per second of unmem's training loop, relative to a plain PyTorch loop with a `DataLoader`, with the same
network, steps and accuracy. members: trainings per hour in two processes, relative to one after another. overhead:
seconds that scheduling and storage add to a member. resume, memory: 400 members read from files with random contents.
Ratios are medians of pairs that run one after the other. Writes benchmarks/results/throughput.json, whose figures are
those of docs/scale.md.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import ROOT, interval, machine
from PIL import Image, ImageOps
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import unmem as um
from unmem.allocator import keep_freed_memory
from unmem.ensembles import files, leave_out_masks, train_members
from unmem.ensembles.members import _Shared, _Task  # pyright: ignore[reportPrivateUsage]
from unmem.evaluation import accuracy
from unmem.executors import run_all
from unmem.memorization import feldman
from unmem.models import build
from unmem.store import write_text
from unmem.training import precision_for

RESULTS = ROOT / "benchmarks" / "results" / "throughput.json"
LOOPS = {"digits": (None, 30, 5), "fashion-mnist": (5000, 5, 7)}  # examples, epochs, pairs
MEMBERS = 400


def main() -> None:
    if sys.argv[1:2] == ["--peak"]:
        print(json.dumps(peak(Path(sys.argv[2]))))
        return
    if sys.argv[1:2] == ["--once"]:
        print(json.dumps(once(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
        return
    parts = {"loop": loop, "members": members, "overhead": overhead, "resume": resume, "memory": memory}
    chosen = sys.argv[1:] or list(parts)
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"schema": 1}
    for name in chosen:
        found[name] = parts[name]()
        print(name, json.dumps(found[name], indent=1), flush=True)
        write_text(RESULTS, json.dumps(found | machine(), indent=1) + "\n")


class Plain(Dataset[tuple[torch.Tensor, int]]):
    """The training set as most scripts have it: a picture when it is asked for, and a chain of transforms on it.

    What torchvision's RandomCrop, RandomHorizontalFlip, ToTensor and Normalize do, step by step (0.29; it has no build
    for every machine that this must run on). tensors: without pictures and transforms, only scaled.
    """

    def __init__(self, examples: um.Examples, *, augment: bool = False, tensors: bool = False) -> None:
        self.inputs, self.labels, self.scaling = examples.inputs, examples.labels.tolist(), examples.scaling
        self.pictures = examples.inputs[:, 0].numpy()
        self.augment, self.tensors = augment, tensors
        self.highest = float(examples.inputs.max())  # what ToTensor divides by: 255, or 16 for the scanned digits
        scale, shift = examples.scaling.scale * self.highest, examples.scaling.shift
        self.mean, self.deviation = [-shift / scale], [1 / scale]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if self.tensors:
            return self.inputs[index].float() * self.scaling.scale + self.scaling.shift, self.labels[index]
        picture = Image.fromarray(self.pictures[index])
        if self.augment:
            picture = random_flip(random_crop(picture))
        return self.normalized(to_tensor(picture, self.highest)), self.labels[index]

    def normalized(self, image: torch.Tensor) -> torch.Tensor:
        mean, deviation = (torch.as_tensor(value).view(-1, 1, 1) for value in (self.mean, self.deviation))
        return image.clone().sub_(mean).div_(deviation)


def random_crop(picture: Image.Image) -> Image.Image:
    side = picture.width
    padding = side // 8
    left, top = (int(torch.randint(0, 2 * padding + 1, (1,)).item()) for _ in range(2))
    return ImageOps.expand(picture, padding).crop((left, top, left + side, top + side))


def random_flip(picture: Image.Image) -> Image.Image:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if torch.rand(1) < 0.5 else picture


def to_tensor(picture: Image.Image, highest: float) -> torch.Tensor:
    array = np.array(picture, np.uint8, copy=True)
    image = torch.from_numpy(array).view(picture.height, picture.width, 1)
    return image.permute(2, 0, 1).contiguous().to(torch.get_default_dtype()).div(highest)


def plain_train(recipe: um.Recipe, examples: um.Examples, *, seed: int, **kind: bool) -> nn.Module:
    """The loop of a PyTorch tutorial, by the same recipe."""
    torch.manual_seed(seed)
    model = build(recipe.model, examples.input_shape, examples.n_classes, seed=seed)
    loader = DataLoader(Plain(examples, **kind), batch_size=recipe.batch_size, shuffle=True)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs * len(loader))
    for _ in range(recipe.epochs):
        model.train()
        for inputs, labels in loader:
            loss = F.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


WAYS = ("ours", "plain", "plain, tensors", "ours, augmented", "plain, augmented")


def loop() -> dict[str, Any]:
    """Ours with and without random crops and flips against plain with the same, and against plain without pictures.

    Each training in a process of its own: ours as the command line and its workers run it, plain as a script would be.
    ratio_of_fastest: of the fastest run of each, which other work on the machine disturbed least.
    """
    found: dict[str, Any] = {}
    for name, (limit, epochs, pairs) in LOOPS.items():
        data = um.load(name, limit=limit)
        images = len(data.train) * epochs
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for k in range(pairs):
            for way in (list(WAYS), list(reversed(WAYS)))[k % 2]:
                runs[way].append(in_a_process("--once", name, way, str(k)))
        precision = precision_for(um.Recipe(), data.train.device, images=True)
        found[name] = {"precision": precision, "images": images}
        for way, measured in runs.items():
            ours = runs["ours, augmented" if "augmented" in way else "ours"]
            taken = [one["seconds"] for one in measured]
            found[name][way] = {
                **spread([theirs / mine["seconds"] for theirs, mine in zip(taken, ours, strict=True)]),
                "ratio_of_fastest": min(taken) / min(one["seconds"] for one in ours),
                "images_a_second": images / statistics.median(taken),
                "accuracy": interval([one["accuracy"] for one in measured]),
            }
    return found


def once(name: str, way: str, seed: int) -> dict[str, float]:
    """Seconds of one training and the accuracy that it reached on test examples."""
    limit, epochs, _ = LOOPS[name]
    data = um.load(name, limit=limit)
    recipe = um.Recipe(model="small_cnn", epochs=epochs)
    augment = "augmented" in way
    if way.startswith("ours"):
        keep_freed_memory()
        recipe = replace(recipe, augment="crop-flip" if augment else "none")
        work: Callable[..., nn.Module] = um.train
    else:
        work = partial(plain_train, augment=augment, tensors="tensors" in way)
    few = data.train.at(np.arange(256))
    work(replace(recipe, epochs=2), few, seed=seed)  # so that nothing is loaded inside a measurement
    began = time.perf_counter()
    model = work(recipe, data.train, seed=seed)
    return {"seconds": time.perf_counter() - began, "accuracy": accuracy(model, data.test)}


def in_a_process(*arguments: str) -> dict[str, Any]:
    told = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return json.loads(told.stdout.splitlines()[-1])


def members(pairs: int = 2, count: int = 12) -> dict[str, Any]:
    """Two processes of one thread each against one member after another: by one thread, which gives the same members to
    the last bit, and by all threads, as `--executor serial` does. Of the time between the second member and the last,
    so that the start of the processes, once for a run, does not count; it is told apart."""
    data = um.load("fashion-mnist", limit=5000)
    recipe = um.Recipe(model="small_cnn", epochs=5)
    kept = leave_out_masks(len(data.train), count, keep=0.7, seed=0)
    seconds: dict[str, list[float]] = {"processes": [], "serial, one thread": [], "serial": []}
    starts: list[float] = []
    cores = torch.get_num_threads()
    keep_freed_memory()
    for k in range(pairs):
        for way in (list(seconds), list(reversed(seconds)))[k % 2]:
            torch.set_num_threads(1 if "one" in way else cores)
            arrived = [time.perf_counter()]
            train_members(
                recipe,
                data.train,
                kept,
                executor="processes" if way == "processes" else "serial",
                workers=2,
                on_member=lambda *_, arrived=arrived: arrived.append(time.perf_counter()),
            )
            each = (arrived[-1] - arrived[2]) / (count - 2)
            seconds[way].append(each)
            if way == "processes":  # the first two came after the start and one training, side by side
                starts.append(arrived[2] - arrived[0] - 2 * each)
    torch.set_num_threads(cores)
    ratios = {
        way: spread([a / b for a, b in zip(taken, seconds["processes"], strict=True)]) for way, taken in seconds.items()
    }
    rates = {way: 3600 / statistics.median(taken) for way, taken in seconds.items()}
    start = statistics.median(starts)
    return {"members": count, "against": ratios, "members_an_hour": rates, "seconds_to_start": start}


def spread(ratios: list[float]) -> dict[str, float]:
    return {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios), "pairs": len(ratios)}


def nothing(shared: object, task: object) -> dict[str, Any]:  # noqa: ARG001 (a task takes what is shared)
    return random_outputs(5000, 5000, 0)


def overhead(tasks: int = 100) -> dict[str, float]:
    """Seconds that handing out, sending back, checking and writing add to one member."""
    data = um.load("fashion-mnist", limit=5000)
    alone = statistics.median(timed(lambda: nothing(None, None)) for _ in range(20))
    arrived: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for k, result in run_all(nothing, data.train, [np.ones(5000, bool)] * tasks, where="processes", workers=2):
            about = {"seed": k, "recipe": {}, "data": data.train.fingerprint}
            files.write(files.place(Path(folder), about), about, {"kept": np.zeros(625, np.uint8)} | result)
            arrived.append(time.perf_counter())
    each = (arrived[-1] - arrived[4]) / (tasks - 5) - alone / 2  # the first wait for the processes to start
    return {"seconds_a_member": each, "share_of_ten_seconds": each / 10}


def random_outputs(n: int, unseen: int, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    arrays: dict[str, Any] = {"seconds": np.array(10.0)}
    for name, size in (("train", n), ("unseen", unseen)):
        arrays[f"{name}_phi"] = random.normal(size=size).astype(np.float32)
        arrays[f"{name}_margin"] = random.normal(size=size).astype(np.float32)
        arrays[f"{name}_prediction"] = random.integers(0, 10, size).astype(np.int16)
    return arrays


def filled(folder: Path, n: int, unseen: int) -> tuple[um.Recipe, um.Examples, um.Examples, Any]:
    """400 finished members of random contents."""
    random = np.random.default_rng(0)
    examples, others = (
        um.Examples.of(random.normal(size=(size, 2)).astype(np.float32), random.integers(0, 10, size), n_classes=10)
        for size in (n, unseen)
    )
    recipe, kept = um.Recipe(model="mlp", precision="fp32"), random.random((MEMBERS, n)) < 0.7
    shared = _Shared(recipe, examples, others, keep_logits=False, keep_weights=False, device="cpu")
    folder.mkdir(exist_ok=True)
    for k in range(MEMBERS):
        about = shared.about(_Task(k, kept[k]))
        path = files.place(folder, about)
        if not path.exists():
            files.write(path, about, {"kept": np.packbits(kept[k])} | random_outputs(n, unseen, k))
    return recipe, examples, others, kept


def resume() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        recipe, examples, others, kept = filled(Path(folder), 5000, 5000)
        taken = [
            timed(lambda: train_members(recipe, examples, kept, unseen=others, folder=Path(folder))) for _ in range(5)
        ]
    return {"members": MEMBERS, "examples": 5000, "seconds": statistics.median(taken), "slowest": max(taken)}


def memory() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        filled(Path(folder), 50_000, 5000)
        return in_a_process("--peak", folder)


def peak(folder: Path) -> dict[str, Any]:
    """In a process of its own: the highest memory above what it had before the members were read."""
    recipe, examples, others, kept = filled(folder, 50_000, 5000)
    packed = kept.nbytes // 8
    before = memory_of("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is that of making the masks
    ensemble = train_members(recipe, examples, kept, unseen=others, folder=folder)
    read = memory_of("VmHWM")
    feldman(ensemble)
    scored = memory_of("VmHWM")
    outputs = [
        array for one in (ensemble.train, ensemble.unseen) if one for array in (one.phi, one.margin, one.prediction)
    ]
    size = packed + sum(array.nbytes for array in outputs)
    return {
        "members": MEMBERS,
        "examples": 50_000,
        "size_mb": size / 1e6,
        "peak_mb": (read - before) / 1e6,
        "ratio": (read - before) / size,
        "peak_with_score_mb": (scored - before) / 1e6,
        "ratio_with_score": (scored - before) / size,
    }


def memory_of(key: str) -> int:
    """Bytes of this process, now (VmRSS) or at most (VmHWM)."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return 1024 * int(line.split()[1])


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
