"""A folder as a user has it: two tables, a network trained on the first with plain PyTorch, and ids to forget.

    python examples/table.py runs/table

The Wisconsin breast cancer data (569 patients, 30 measurements; CC BY 4.0) come with scikit-learn; nothing is fetched.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F

EPOCHS, BATCH, LR = 60, 32, 0.05


def network(n_features: int = 30, n_classes: int = 2) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(n_features, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, n_classes)),
    )


def main(out: Path) -> None:
    began = time.perf_counter()
    torch.set_num_threads(1)  # the same numbers on any number of cores
    torch.manual_seed(0)
    out.mkdir(parents=True, exist_ok=True)
    frame = load_breast_cancer(as_frame=True)
    table = frame.data.rename(columns=lambda name: name.replace(" ", "_"))
    features = list(table.columns)
    table.insert(0, "id", [f"patient-{k:03d}" for k in range(len(table))])
    table["label"] = [str(frame.target_names[k]) for k in frame.target]
    train, test = train_test_split(table, test_size=0.25, random_state=0, stratify=table["label"])
    train.to_csv(out / "train.csv", index=False)
    test.to_csv(out / "test.csv", index=False)

    mean, deviation = train[features].to_numpy().mean(0), train[features].to_numpy().std(0)
    classes = sorted(set(table["label"]))  # class numbers in the order of their names

    def tensors(part):
        x = (part[features].to_numpy() - mean) / deviation
        return torch.from_numpy(x.astype(np.float32)), torch.tensor([classes.index(name) for name in part["label"]])

    (x, y), (x_test, y_test) = tensors(train), tensors(test)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        reached = [(model(a).argmax(1) == b).float().mean().item() for a, b in ((x, y), (x_test, y_test))]
    torch.save(model.state_dict(), out / "mlp.pth")
    chosen = sorted(np.random.default_rng(0).choice(train["id"].to_numpy(), 30, replace=False))
    (out / "ids.txt").write_text("".join(f"{name}\n" for name in chosen))
    print(f"accuracy  train {reached[0]:.1%}  test {reached[1]:.1%}  {time.perf_counter() - began:.0f} s")
    print(f"{out}: train.csv, test.csv, mlp.pth, ids.txt ({len(chosen)} ids)")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/table.py OUT")
    main(Path(sys.argv[1]))
