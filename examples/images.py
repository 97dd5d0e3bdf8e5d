"""A folder as a user has it: images by class, a ResNet-18 trained on them with plain PyTorch, and ids to forget.

    python examples/images.py runs/images

Needs Fashion-MNIST (MIT licence, 31 MB): `apt-get install dataset-fashion-mnist`, or name another folder with its four
.gz files as second argument. The network has the state keys and the forward pass of torchvision's resnet18.
"""

import gzip
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
TRAIN, TEST, EPOCHS, BATCH, LR = 1000, 500, 5, 50, 0.05


def read(folder: Path, part: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` images [N, 28, 28] and labels [N] of a part, bytes."""
    images = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)[:count], np.frombuffer(
        labels, np.uint8, offset=8
    )[:count]


class Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        same = stride == 1 and before == after
        self.downsample = (
            None if same else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        )

    def forward(self, x: Tensor) -> Tensor:
        past = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + past)


class ResNet18(nn.Module):
    def __init__(self, channels: int = 1, n_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        widths = (64, 64, 128, 256, 512)
        for k in range(4):
            blocks = Block(widths[k], widths[k + 1], 1 if k == 0 else 2), Block(widths[k + 1], widths[k + 1], 1)
            setattr(self, f"layer{k + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(512, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for k in range(4):
            x = getattr(self, f"layer{k + 1}")(x)
        return self.fc(x.mean((2, 3)))


def main(out: Path, source: Path = Path("/usr/share/datasets/fashion-mnist")) -> None:
    if not (source / "train-images-idx3-ubyte.gz").is_file():
        sys.exit(f"Fashion-MNIST is not in {source}: apt-get install dataset-fashion-mnist, or name its folder")
    began = time.perf_counter()
    torch.set_num_threads(1)  # the same numbers on any number of cores
    torch.manual_seed(0)
    parts: dict[str, tuple[Tensor, Tensor]] = {}
    names: list[str] = []
    for part, prefix, count in (("train", "train", TRAIN), ("test", "t10k", TEST)):
        images, labels = read(source, prefix, count)
        for k, (image, label) in enumerate(zip(images, labels, strict=True)):
            name = f"{part}/{CLASSES[label]}/{k:05d}.png"
            (out / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(out / "images" / name)
            names += [name] if part == "train" else []
        order = sorted(CLASSES)  # class numbers as a loader of folders gives them
        numbers = torch.tensor([order.index(CLASSES[label]) for label in labels])
        parts[part] = torch.from_numpy(images.copy()).float()[:, None] / 127.5 - 1, numbers
    x, y = parts["train"]

    model, steps = ResNet18(), EPOCHS * TRAIN // BATCH
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(TRAIN).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        train, test = ((torch.cat([model(b) for b in p.split(200)]).argmax(1) == q) for p, q in parts.values())
    torch.save(model.state_dict(), out / "resnet18.pth")
    chosen = np.random.default_rng(0).choice(names, 100, replace=False)
    (out / "ids.txt").write_text("".join(f"{name}\n" for name in sorted(chosen)))
    print(f"accuracy  train {train.float().mean():.1%}  test {test.float().mean():.1%}  ", end="")
    print(f"{time.perf_counter() - began:.0f} s\n{out}: images/, resnet18.pth, ids.txt ({len(chosen)} ids)")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python examples/images.py OUT [FOLDER OF FASHION-MNIST]")
    main(*map(Path, sys.argv[1:3]))
