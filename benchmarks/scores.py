"""Costs of the cheap scores, measured in one run, as ratios.

    .venv/bin/python benchmarks/scores.py           # about 15 minutes on two cores
    .venv/bin/python benchmarks/scores.py --ratios  # the ratios only, added to the results of the last full run

Fashion-MNIST, 5,000 training examples, small_cnn; every ratio is the median over pairs that run one after the other, so
that changes of the machine's speed have little effect. Then the cost of scores on up to 1,000,000 synthetic examples,
and the memory in addition to the data. Writes benchmarks/results/scores.json.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

import unmem as um
from unmem.data import Examples, Scaling
from unmem.memorization import CurvatureTrace, LearningEvents, curvature, holdout_retraining
from unmem.memorization.by_name import CURVATURE_PASSES
from unmem.store import write_text
from unmem.training import Step

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "scores.json"
SIZES = (62_500, 125_000, 250_000, 500_000, 1_000_000)
PAIRS = 7


def main() -> None:
    if len(sys.argv) == 3 and sys.argv[1] == "--scale":
        print(json.dumps(scale(int(sys.argv[2]))))
        return
    data = um.load("fashion-mnist", limit=5000)
    recipe = um.Recipe(model="small_cnn", epochs=20)
    if sys.argv[1:] == ["--ratios"]:
        known = json.loads(RESULTS.read_text()) | {"ratios": ratios(data, recipe)}
        write_text(RESULTS, json.dumps(known, indent=1) + "\n")
        print(json.dumps(known["ratios"], indent=1))
        return
    result: dict[str, Any] = {
        "hardware": {"machine": platform.machine(), "cores": multiprocessing.cpu_count()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "unmem": um.__version__},
        "ratios": ratios(data, recipe),
        "curvature_passes": curvature_passes(data, recipe),
        "scale": [measured(n) for n in SIZES],
    }
    write_text(RESULTS, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def ratios(data: um.Splits, recipe: um.Recipe) -> dict[str, Any]:
    epoch = replace(recipe, epochs=1)
    model = um.train(recipe, data.train)
    um.train(epoch, data.train)  # so that nothing is loaded inside a measurement
    return {
        "epoch with learning events / plain epoch": events(data, recipe),
        "one curvature pass / one training epoch": pairs(
            lambda: curvature(model, data.train), lambda: um.train(epoch, data.train)
        ),
        "holdout retraining / one training": pairs(
            lambda: holdout_retraining(model, data, recipe=recipe), lambda: um.train(recipe, data.train), n=3
        ),
    }


class EverySecondEpoch(um.Observer):
    """Lets an observer watch every second epoch, and notes the processor time of each."""

    def __init__(self, observer: um.Observer) -> None:
        self.observer = observer
        self.seconds: list[float] = []

    def on_start(self, examples: Examples, recipe: um.Recipe) -> None:
        self.observer.on_start(examples, recipe)
        self.began = time.process_time()

    def on_step(self, step: Step) -> None:
        if step.epoch % 2:
            self.observer.on_step(step)

    def on_epoch(self, epoch: int, model: torch.nn.Module) -> None:
        now = time.process_time()
        self.seconds.append(now - self.began)
        self.began = now


def events(data: um.Splits, recipe: um.Recipe, trainings: int = 6) -> dict[str, float]:
    """Watched epochs over the plain ones beside them, with a 95% bootstrap interval; processor time on one thread.

    A difference of a few percent is lost between whole trainings, and in wall-clock time, where two threads wait for
    each other and for whatever else runs on the machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found: list[tuple[float, float]] = []
    for seed in range(trainings):
        watch = EverySecondEpoch(LearningEvents())
        um.train(recipe, data.train, seed=seed, observers=[watch])
        found += zip(watch.seconds[1::2], watch.seconds[0::2], strict=True)
    torch.set_num_threads(threads)
    drawn = np.random.default_rng(0).choice(found, (10_000, len(found))).sum(1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975]).tolist()
    watched, plain = np.sum(found, axis=0)
    return {"ratio": float(watched / plain), "low": low, "high": high, "pairs": len(found)}


def pairs(first: Callable[[], object], second: Callable[[], object], n: int = PAIRS) -> dict[str, float]:
    """Median, lowest and highest ratio of n pairs; which of the two goes first alternates."""
    found: list[float] = []
    for k in range(n):
        taken = [timed(work) for work in ((first, second) if k % 2 == 0 else (second, first))]
        found.append(taken[0] / taken[1] if k % 2 == 0 else taken[1] / taken[0])
    return {"ratio": statistics.median(found), "low": min(found), "high": max(found), "pairs": n}


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def curvature_passes(data: um.Splits, recipe: um.Recipe) -> list[dict[str, float]]:
    """Curvature averaged over fewer epochs: its rank correlation with the average over all of them, in one training."""
    spacings = (1, 2, 4, 5, 10, 20)
    traces = [CurvatureTrace(every=every) for every in spacings]
    um.train(recipe, data.train, observers=traces)
    values = [trace.scores() for trace in traces]
    return [
        {
            "every": every,
            "passes": score.settings["passes"],
            "spearman_with_all": float(spearmanr(score.values, values[0].values).statistic),
            "default": int(every == recipe.epochs // CURVATURE_PASSES),
        }
        for every, score in zip(spacings, values, strict=True)
    ]


def measured(n: int) -> dict[str, Any]:
    """In a process of its own, so that its memory is its own."""
    done = subprocess.run([sys.executable, __file__, "--scale", str(n)], capture_output=True, text=True, check=True)
    print(f"{n:,} examples done", flush=True)
    return json.loads(done.stdout)


def scale(n: int) -> dict[str, Any]:
    """Seconds and memory above the data of each cheap score on n synthetic examples."""
    random = np.random.default_rng(0)
    inputs, labels = random.integers(0, 256, (n, 64), dtype=np.uint8), random.integers(0, 10, n)
    made = Examples.of(inputs, labels, n_classes=10, scaling=Scaling(2 / 255, -1))
    few = Examples.of(inputs[:2000], labels[:2000], n_classes=10, ids=[f"h{i}" for i in range(2000)])
    test = replace(few, ids=np.char.add("t", few.ids))
    del inputs
    data = um.Splits("synthetic", made, few, test)
    recipe = um.Recipe(model="mlp", epochs=1, batch_size=512)
    um.train(recipe, few)
    data_mb = made.inputs.nbytes / 1e6
    found: dict[str, Any] = {"n": n, "data_mb": data_mb, "seconds": {}, "peak_above_data_mb": {}}
    events = LearningEvents()
    model = um.train(recipe, few)

    def watch() -> None:
        um.train(recipe, made, observers=[events])
        scores = events.scores("confidence")
        scores.top(1000)
        scores.parts(3)

    work = {
        "training with learning events, top and parts": watch,
        "curvature": lambda: curvature(model, made),
        "holdout retraining": lambda: holdout_retraining(model, data, recipe=recipe, epochs=1),
    }
    for name, step in work.items():
        with Peak() as peak:
            found["seconds"][name] = timed(step)
        found["peak_above_data_mb"][name] = peak.above_mb
    return found


class Peak:
    """The most resident memory during the block above that at its start, sampled every 5 ms."""

    def __enter__(self) -> Peak:
        self._start = self._most = resident_mb()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._stop.wait(0.005):
            self._most = max(self._most, resident_mb())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def above_mb(self) -> float:
        return self._most - self._start


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


if __name__ == "__main__":
    main()
