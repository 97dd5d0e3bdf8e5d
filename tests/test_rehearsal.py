"""Networks and models that do not work, or not as they seem to: each is one sentence before anything long.

A reader adds a case as a row of the table: what the file of the user holds, and what is said; None = it works.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unmem as um
from unmem.cli.app import main
from unmem.errors import UserError
from unmem.rehearsal import check_outputs, rehearse

RANDOM = np.random.default_rng(0)
IMAGES = um.load((RANDOM.normal(size=(120, 3, 8, 8)).astype(np.float32), np.arange(120) % 3))

HEAD = "import torch\nfrom torch import nn\nfrom collections import namedtuple\n"
BODY = "nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, n)"


def net(forward: str, init: str = "", classes: str = "n", module: str = "") -> str:
    return f"""{HEAD}{module}
class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.body = nn.Sequential({BODY.replace("Linear(4, n)", f"Linear(4, {classes})")})
        {init or "pass"}

{forward}

def make(n_classes):
    return Net(n_classes)
"""


def plain(code: str) -> str:
    """A forward of one line, and what else the class has."""
    return f"    def forward(self, x):\n        {code}\n"


OUTPUTS = "Outputs = namedtuple('Outputs', 'logits aux')\n"
NETWORKS: list[tuple[str, str, str | None]] = [
    ("logits", net(plain("return self.body(x)")), None),
    ("log-probabilities", net(plain("return self.body(x).log_softmax(1)")), None),  # logits too, shifted
    (
        "softmax",
        net(plain("return self.body(x).softmax(1)")),
        "probabilities that sum to 1, not logits; return what goes",
    ),
    ("half precision", net(plain("return self.body(x.to(self.body[0].weight.dtype))"), "self.half()"), None),
    ("lazy layers", net(plain("return self.last(self.body(x))"), "self.last = nn.LazyLinear(n)"), None),
    ("lazy features", net(plain("return self.last(x.flatten(1))"), "self.last = nn.LazyLinear(n)"), None),
    ("sigmoid", net(plain("return self.body(x).sigmoid()")), "numbers between 0 and 1 only, not logits"),
    (
        "logits between 0 and 1 by chance",
        net(
            plain("return self.body(x)"),
            "nn.init.zeros_(self.body[-1].weight); nn.init.constant_(self.body[-1].bias, 0.1)",
        ),
        None,
    ),
    (
        "a head of zeros",
        net(plain("return self.body(x)"), "[nn.init.zeros_(p) for p in self.body[-1].parameters()]"),
        None,
    ),
    ("a ReLU at the end", net(plain("return self.body(x).relu()")), None),
    (
        "a mask beside the inputs",
        net("    def forward(self, x, mask):\n        return self.body(x)\n"),
        "takes the inputs alone",
    ),
    ("an optional mask", net("    def forward(self, x, mask=None):\n        return self.body(x)\n"), None),
    ("one output", net(plain("return self.body(x)"), classes="1"), "which needs 3 outputs"),
    ("two outputs of three", net(plain("return self.body(x)"), classes="2"), "which needs 3 outputs"),
    ("one number each", net(plain("return self.body(x)[:, 0]")), r"gives of shape \(\d+,\), not logits"),
    (
        "another size of image",
        net(plain("return self.body(x[:, :, :224, :224].view(-1, 3, 224, 224))")),
        "cannot take inputs",
    ),
    (
        "its own word on the size",
        net(plain("assert x.shape[2] == 224, 'height must be 224'; return self.body(x)")),
        "must be 224.*--size",
    ),
    (
        "auxiliary outputs in training mode",
        net(plain("y = self.body(x); return Outputs(y, y + 1) if self.training else y"), module=OUTPUTS),
        None,
    ),
    ("a tuple in training mode", net(plain("y = self.body(x); return (y, x) if self.training else y")), None),
    ("a list of features", net(plain("return [x, self.body(x)]")), "not logits"),
    ("a dictionary", net(plain("return {'logits': self.body(x)}")), None),
    ("a dictionary without logits", net(plain("return {'scores': self.body(x)}")), "not logits"),
    (
        "fails while it trains",
        net(plain("assert not self.training, 'no training'; return self.body(x)")),
        "in training mode .no training",
    ),
    ("no gradient", net(plain("return self.body(x).detach()")), "in training mode .*grad"),
    ("batch norm", net(plain("return self.norm(self.body(x))"), "self.norm = nn.BatchNorm1d(n)"), None),
    (
        "batch norm by the batch alone",
        net(plain("return self.norm(self.body(x))"), "self.norm = nn.BatchNorm1d(n, track_running_stats=False)"),
        "answers the same example otherwise.*'inner.norm' keeps no running statistics",
    ),
    ("the mean of the batch", net(plain("y = self.body(x); return y - y.mean(0)")), "the same example otherwise"),
    (
        "dropout at all times",
        net(plain("return nn.functional.dropout(self.body(x), 0.5, True)")),
        None,
    ),  # said elsewhere
    (
        "extra state",
        net(
            plain("return self.body(x)") + "    def get_extra_state(self):\n        return {'a': 1}\n"
            "    def set_extra_state(self, state):\n        pass\n"
        ),
        "'_extra_state' in its state, which is no tensor",
    ),
    (
        "extra state that is a tensor",
        net(
            plain("return self.body(x)") + "    def get_extra_state(self):\n        return torch.ones(2)\n"
            "    def set_extra_state(self, state):\n        pass\n"
        ),
        None,
    ),
]
CASES = [pytest.param(*row[1:], id=row[0]) for row in NETWORKS]
every_network = pytest.mark.parametrize(("text", "said"), CASES)


@every_network
def test_a_network_is_tried_in_both_modes(text: str, said: str | None, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(text)
    recipe = um.Recipe(model=f"{tmp_path}/net.py:make", epochs=1, batch_size=40, lr=0.01)
    if said is None:
        rehearse(recipe, IMAGES.train)
        trained = um.train(recipe, IMAGES.train, seed=0)
        assert um.predict(trained, IMAGES.test).shape == (len(IMAGES.test), 3)
        return
    with pytest.raises(UserError, match=said):
        rehearse(recipe, IMAGES.train)


class Wrapped(nn.Module):
    """A finished model whose logits are those of a linear layer, given out in another way."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.body, self.way = nn.Linear(4, 3), way
        torch.manual_seed(0)
        nn.init.normal_(self.body.weight, std=3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        ways = {
            "logits": lambda: y,
            "softmax": lambda: y.softmax(1),
            "sigmoid": lambda: y.sigmoid(),
            "log-softmax": lambda: y.log_softmax(1),
            "positive": lambda: y.relu(),
            "centred": lambda: y - y.mean(0),
        }
        return ways[self.way]()


POINTS = um.load((RANDOM.normal(size=(100, 4)).astype(np.float32), np.arange(100) % 3))


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("logits", None),
        ("log-softmax", None),
        ("positive", None),
        ("softmax", "probabilities that sum to 1, not logits; return what goes into the softmax"),
        ("sigmoid", "numbers between 0 and 1 only, not logits; return what goes into the sigmoid"),
        ("centred", "answers the same example otherwise when others share its batch"),
    ],
)
def test_a_problem_takes_models_that_give_logits_of_their_own_example(way: str, said: str | None) -> None:
    model = Wrapped(way)
    if said is None:
        um.Problem(model, POINTS, POINTS.train.ids[:5], recipe=um.Recipe())
        return
    with pytest.raises(UserError, match=said):
        um.Problem(model, POINTS, POINTS.train.ids[:5], recipe=um.Recipe())


def test_nothing_of_a_rehearsal_is_kept() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    check_outputs(model, POINTS.train)
    rehearse(um.Recipe(model="mlp"), POINTS.train)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_commands_refuse_a_network_before_they_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.py").write_text(net(plain("return self.body(x.expand(-1, 3, -1, -1)).softmax(1)")))
    for command in ("train", "score", "prepare"):
        out = tmp_path / command
        with pytest.raises(SystemExit) as stopped:
            main([command, "--data", "digits", "--arch", f"{tmp_path}/net.py:make", "--out", str(out)])
        shown = capsys.readouterr()
        assert stopped.value.code == 2
        assert "probabilities that sum to 1" in " ".join(shown.err.split())
        assert "Train the original" not in shown.out
        assert not out.exists()
