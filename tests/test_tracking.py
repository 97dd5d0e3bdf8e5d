"""`LogTo`: what loggers get is what happened; files are real TensorBoard files, read back by TensorBoard."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import unmem as um
from tests.helpers import point_splits
from unmem.errors import UserError
from unmem.tracking import flat
from unmem.training import Step

DATA = point_splits(50)
RECIPE = um.Recipe(model="mlp", epochs=3, batch_size=16, lr=0.05)  # 50 examples: batches of 13, 13, 12, 12


class Kept:
    """A logger of one's own."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, dict[str, float]]] = []

    def log(self, values: dict[str, float], step: int) -> None:
        self.calls.append((step, values))


class Steps(um.Observer):
    """Mean loss of each epoch, by hand."""

    def __init__(self) -> None:
        self.sums: dict[int, list[tuple[float, int]]] = defaultdict(list)

    def on_step(self, step: Step) -> None:
        self.sums[step.epoch].append((step.loss.item(), len(step.batch.index)))

    def means(self) -> list[float]:
        return [sum(loss * n for loss, n in steps) / sum(n for _, n in steps) for steps in self.sums.values()]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_files_hold_the_losses_rates_and_seconds_of_each_epoch(tmp_path: Path) -> None:
    steps = Steps()
    with um.LogTo("tensorboard", tmp_path / "logs") as log:
        um.train(RECIPE, DATA.train, observers=[steps, log])
        log.results({"methods": {"neggrad+": {"tow": 0.75, "reason": None}}, "forget": {"n": 5, "flags": []}})
    found = scalars(tmp_path / "logs")
    assert set(found) == {"train/loss", "train/lr", "train/seconds", "methods/neggrad_/tow", "forget/n"}
    assert [step for step, _ in found["train/loss"]] == [1, 2, 3]
    assert [value for _, value in found["train/loss"]] == pytest.approx(steps.means(), rel=1e-6)
    rates = [RECIPE.lr_at(done / 12) for done in (3, 7, 11)]  # of the last of four steps in each epoch
    assert [value for _, value in found["train/lr"]] == pytest.approx(rates)
    assert all(0 < value < 60 for _, value in found["train/seconds"])
    assert found["methods/neggrad_/tow"] == [(3, 0.75)]


def test_an_object_gets_one_call_an_epoch_over_all_trainings_and_stays_open() -> None:
    kept = Kept()
    with um.LogTo(kept) as log:
        model = um.train(RECIPE, DATA.train, observers=[log.at("original")])
        problem = um.Problem(model, DATA, DATA.train.ids[:5], recipe=RECIPE)
        um.FineTune(epochs=2)(problem, seed=0, observers=[log.at("forget")])
    assert [step for step, _ in kept.calls] == [1, 2, 3, 4, 5]
    assert [next(iter(values)) for _, values in kept.calls] == ["original/loss"] * 3 + ["forget/loss"] * 2


def test_the_loop_is_not_made_to_wait_between_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log reads no tensor on the host before the epoch is over."""
    log = um.LogTo(Kept())
    reads: list[str] = []
    for name in ("item", "cpu", "tolist", "numpy"):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda self, *a, _n=name, _r=real, **k: (reads.append(_n), _r(self, *a, **k))[1]
        )
    log.on_start(DATA.train, RECIPE)
    batch = SimpleNamespace(index=torch.arange(4))
    for _ in range(5):
        log.on_step(Step(0, batch, torch.zeros(4, 3), torch.tensor(1.0), 0.1))  # pyright: ignore
    assert reads == []
    log.on_epoch(0, torch.nn.Identity())
    assert reads.count("cpu") == 1


def test_training_is_the_same_with_and_without_a_log() -> None:
    with_log = um.train(RECIPE, DATA.train, observers=[um.LogTo(Kept())])
    without = um.train(RECIPE, DATA.train)
    assert all(torch.equal(a, b) for a, b in zip(with_log.parameters(), without.parameters(), strict=True))


class FakeWandb(SimpleNamespace):
    """The parts of wandb that accelerate calls."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {"log": [], "finished": 0}
        self.config = SimpleNamespace(update=lambda values, **_: self.seen.update(config=values))

    def init(self, **options: Any) -> Any:
        self.seen["init"] = options

        def log(values: dict[str, float], step: int) -> None:
            self.seen["log"].append((step, values))

        return SimpleNamespace(log=log, finish=lambda: self.seen.update(finished=self.seen["finished"] + 1))


class FakeMlflow(SimpleNamespace):
    """The parts of MLflow that accelerate calls."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {"metrics": [], "params": {}, "ended": 0}
        self.utils = SimpleNamespace(
            validation=SimpleNamespace(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100)
        )

    def search_experiments(self, filter_string: str) -> list[Any]:
        return []

    def create_experiment(self, name: str, **_: Any) -> str:
        self.seen["experiment"] = name
        return "1"

    def start_run(self, **_: Any) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id="r"))

    def log_params(self, values: dict[str, Any]) -> None:
        self.seen["params"] |= values

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.seen["metrics"].append((step, metrics))

    def end_run(self) -> None:
        self.seen["ended"] += 1


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """wandb and mlflow, as far as accelerate needs them."""
    fakes = {"wandb": FakeWandb(), "mlflow": FakeMlflow()}
    for name, fake in fakes.items():
        monkeypatch.setitem(sys.modules, name, fake)  # pyright: ignore
    monkeypatch.setattr("unmem.extras.find_spec", lambda name: name)
    return fakes


def test_wandb_and_mlflow_get_the_settings_the_numbers_and_an_end(installed: dict[str, Any], tmp_path: Path) -> None:
    asked = {"epochs": 3, "limit": None, "steps": ["nothing", "salun"]}
    with um.LogTo("wandb,mlflow", tmp_path / "logs", settings=asked) as log:
        um.train(RECIPE, DATA.train, observers=[log])
        log.results({"methods": {"neggrad+": {"tow": 0.75}}})
    wandb, mlflow = installed["wandb"].seen, installed["mlflow"].seen
    assert wandb["init"] == {"project": "unmem", "dir": str(tmp_path / "logs")}
    assert wandb["config"] == {"epochs": 3, "limit": None, "steps": "['nothing', 'salun']"}
    assert mlflow["experiment"] == "unmem"
    assert mlflow["params"]["epochs"] == 3
    for calls in (wandb["log"], mlflow["metrics"]):
        assert [step for step, _ in calls] == [1, 2, 3, 3]
        assert set(calls[0][1]) == {"train/loss", "train/lr", "train/seconds"}
        assert calls[-1][1] == {"methods/neggrad_/tow": 0.75}
    assert wandb["finished"] == mlflow["ended"] == 1


def test_a_logger_that_fails_on_the_way_costs_no_run(installed: dict[str, Any], tmp_path: Path) -> None:
    told: list[str] = []

    def broken(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host")

    installed["mlflow"].log_metrics = broken
    with um.LogTo("mlflow,wandb", tmp_path, on_warning=told.append) as log:
        um.train(RECIPE, DATA.train, observers=[log])
    assert told == ["mlflow failed and gets no more numbers (no route to host)"]
    assert len(installed["wandb"].seen["log"]) == 3


def test_a_logger_that_cannot_start_is_refused_before_the_first_step(installed: dict[str, Any], tmp_path: Path) -> None:
    def no_login(**_: Any) -> Any:
        raise RuntimeError("api_key not configured")

    installed["wandb"].init = no_login
    steps = Steps()
    with pytest.raises(UserError, match=r"LogTo 'wandb': could not be started \(api_key not configured\)"):
        um.train(RECIPE, DATA.train, observers=[um.LogTo("wandb", tmp_path), steps])
    assert not steps.sums


@pytest.mark.parametrize(
    ("name", "missing", "sentence"),
    [
        ("wandb", "wandb", "LogTo 'wandb': the package wandb is not installed; pip install 'unmem[wandb]'."),
        ("mlflow", "mlflow", "LogTo 'mlflow': the package mlflow is not installed; pip install 'unmem[mlflow]'."),
        (
            "tensorboard",
            "accelerate",
            "LogTo 'tensorboard': the package accelerate is not installed; pip install 'unmem[log]'.",
        ),
        ("tensorbord", "", "LogTo 'tensorbord': no such choice; did you mean 'tensorboard'?"),
    ],
)
def test_what_is_not_there_is_named_with_what_installs_it(
    name: str, missing: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmem.extras.find_spec", lambda package: None if package == missing else package)
    with pytest.raises(UserError) as refused:
        um.LogTo(name)
    assert str(refused.value) == sentence


def test_a_log_that_never_trained_leaves_no_files(tmp_path: Path) -> None:
    with um.LogTo("tensorboard", tmp_path / "logs"):
        pass
    assert not (tmp_path / "logs").exists()


def test_flat_results_hold_numbers_only() -> None:
    nested = {"a": {"b": 1, "c": None, "d": True, "e": [1, 2], "settings": {"lr": 0.1}}, "f": 0.5}
    assert dict(flat(nested)) == {"a/b": 1.0, "f": 0.5}
