"""Speed of many members in one process, as one model with stacked weights, compared with one after another.

    .venv/bin/python benchmarks/stacked.py     # about a minute on two cores, on an idle machine

Eight members of `mlp` and of `small_cnn` on digits: one after another with one thread each, as a worker process trains
them, against `torch.func.vmap` over their stacked weights (linear layers become batched products, convolutions grouped
ones) in one process with one thread. Same steps, same batches, same optimiser; batch norm without running statistics on
both sides, since vmap cannot keep those. Ratios are medians of pairs that run one after the other. Writes the section
`stacked` of benchmarks/results/throughput.json.
"""

from __future__ import annotations

import json
import statistics
import time

import numpy as np
import torch
from common import machine
from throughput import RESULTS, spread
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

import unmem as um
from unmem.models import build
from unmem.store import write_text

MEMBERS, STEPS, BATCH, PAIRS = 8, 100, 128, 2


def main() -> None:
    torch.set_num_threads(1)
    data = um.load("digits").train
    random = np.random.default_rng(0)
    batches = torch.from_numpy(np.stack([random.integers(0, len(data), (MEMBERS, BATCH)) for _ in range(STEPS)]))
    found: dict[str, object] = {"members": MEMBERS, "steps": STEPS, "batch_size": BATCH}
    for name in ("mlp", "small_cnn"):
        seconds: dict[str, list[float]] = {"one after another": [], "stacked": []}
        for k in range(PAIRS + 1):
            for way in (list(seconds), list(reversed(seconds)))[k % 2]:
                members = [fresh(name, data, seed) for seed in range(MEMBERS)]
                began = time.perf_counter()
                losses = (in_turn if way == "one after another" else stacked)(members, data, batches)
                seconds[way].append(time.perf_counter() - began)
                print(name, way, f"{seconds[way][-1]:.2f} s, last losses {losses.mean():.4f}", flush=True)
        pairs = zip(seconds["one after another"][1:], seconds["stacked"][1:], strict=True)  # the first warms up
        rates = {way: 3600 * MEMBERS / statistics.median(taken[1:]) for way, taken in seconds.items()}
        found[name] = {**spread([a / b for a, b in pairs]), "members_an_hour": rates}
    everything = json.loads(RESULTS.read_text()) | {"stacked": found} | machine()
    write_text(RESULTS, json.dumps(everything, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def fresh(name: str, data: um.Examples, seed: int) -> nn.Module:
    model = build(name, data.input_shape, data.n_classes, seed=seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = module.running_var = module.num_batches_tracked = None
            module.track_running_stats = False
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model.train()


def sgd(parameters: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=5e-4, fused=True)


def in_turn(members: list[nn.Module], data: um.Examples, batches: Tensor) -> Tensor:
    losses: list[Tensor] = []
    for k, model in enumerate(members):
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        optimizer = sgd(list(model.parameters()))
        loss = torch.zeros(())
        for index in batches[:, k]:
            inputs, labels = data.batch(index)
            loss = F.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def stacked(members: list[nn.Module], data: um.Examples, batches: Tensor) -> Tensor:
    weights, _ = stack_module_state(members)
    optimizer = sgd(list(weights.values()))

    def loss_of(one: dict[str, Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(members[0], one, (inputs,)), labels)

    of_all = vmap(loss_of)
    losses = torch.zeros(len(members))
    for index in batches:
        inputs, labels = data.batch(index)  # [members, batch, …]
        losses = of_all(weights, inputs, labels)
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
    return losses.detach()


if __name__ == "__main__":
    main()
