"""Under augmentation, teachers see the views of their student, and forget batches are augmented like retained ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import unmem as um
from unmem.data import Scaling
from unmem.memorization import CrossFit
from unmem.targets import FromCrossFit
from unmem.training import Batch, Step
from unmem.unlearning import SCRUB, BadTeacher, Matching, Unlearner
from unmem.unlearning.bad_teacher import ignorant
from unmem.unlearning.batches import answers, cycle

RECIPE = um.Recipe(epochs=2, batch_size=64, lr=0.05, augment="crop-flip", precision="fp32")
FORGOTTEN = 10


def images(n: int, prefix: str = "") -> um.Examples:
    random = np.random.default_rng(n)
    pixels = random.integers(0, 255, (n, 1, 8, 8)).astype(np.uint8)
    return um.Examples.of(pixels, np.arange(n) % 3, ids=[f"{prefix}{i}" for i in range(n)], scaling=Scaling(1 / 255, 0))


class Net(nn.Module):
    """A linear model of images. `seen` holds the inputs of every forward pass, of copies too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        SEEN.append(x.detach().clone())
        return self.layer(x.flatten(1))


SEEN: list[Tensor] = []


@pytest.fixture
def problem() -> um.Problem:
    torch.manual_seed(7)  # another one than that of the runs: it would draw the ignorant teacher equal to the model
    data = um.Splits("images", images(40), images(9, "h"), images(9, "t"))
    return um.Problem(Net().eval(), data, data.train.ids[:FORGOTTEN], recipe=RECIPE)


class Losses(um.Observer):
    def __init__(self) -> None:
        self.steps = list[Step]()

    def on_step(self, step: Step) -> None:
        self.steps.append(step)


def first_step(method: Unlearner, problem: um.Problem) -> Step:
    log = Losses()
    method(problem, seed=0, observers=[log])
    return log.steps[0]


def kl(teacher: Tensor, student: Tensor) -> Tensor:
    """Σ_k p_k (log p_k − log q_k), [B]."""
    p, q = teacher.double().log_softmax(1), student.double().log_softmax(1)
    return (p.exp() * (p - q)).sum(1)


@pytest.mark.parametrize("max_epochs", [0, 1])
def test_scrub_starts_at_no_divergence(max_epochs: int, problem: um.Problem) -> None:
    step = first_step(SCRUB(epochs=1, max_epochs=max_epochs, gamma=0.0, beta=1.0), problem)
    assert len(step.batch.index) == (FORGOTTEN if max_epochs else 30)
    assert float(step.loss) == pytest.approx(0, abs=1e-6)
    # The mistake that this guards against is not small: clean and augmented views differ.
    clean = (problem.forget if max_epochs else problem.retain).batch(step.batch.index)[0]
    with torch.no_grad():
        assert float(kl(problem.model(clean), problem.model(step.batch.inputs)).mean()) > 1e-3


def test_bad_teacher_asks_both_teachers_for_the_views_of_the_student(problem: um.Problem) -> None:
    step = first_step(BadTeacher(epochs=1, retain_share=1.0), problem)
    inputs = step.batch.inputs
    with torch.no_grad():
        bad = kl(ignorant(problem.model, seed=0)(inputs), problem.model(inputs))
    expected = bad[step.batch.index < FORGOTTEN].sum() / len(inputs)  # the retained ones add nothing
    torch.testing.assert_close(step.loss.double(), expected, rtol=1e-4, atol=1e-6)
    assert float(bad.mean()) > 0.1


def test_a_teacher_is_in_evaluation_mode_in_full_precision_and_left_as_it_was() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3)).train()
    data = images(12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = answers(teacher, data, RECIPE)(Batch(torch.arange(12), *data.batch(torch.arange(12))))
    torch.testing.assert_close(found, um.predict(teacher, data))
    assert teacher.training
    assert not found.requires_grad


def test_without_augmentation_a_teacher_is_asked_once(problem: um.Problem) -> None:
    SEEN.clear()
    teacher = answers(problem.model, problem.retain, replace(RECIPE, augment="none"))
    asked = len(SEEN)
    for index in (torch.arange(5), torch.arange(3, 9)):
        expected = um.predict(problem.model, problem.retain)[index]
        SEEN.clear()
        torch.testing.assert_close(teacher(Batch(index, *problem.retain.batch(index))), expected)
        assert not SEEN
    assert asked == 1


def possible_views(image: Tensor) -> list[Tensor]:
    """All that crop-flip can make of an image [1, 8, 8]: nine places, each mirrored or not."""
    padded = F.pad(image, (1, 1, 1, 1))
    cuts = [padded[:, down : down + 8, right : right + 8] for down in range(3) for right in range(3)]
    return cuts + [cut.flip(2) for cut in cuts]


def which_views(rows: Tensor, sources: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Of each row, whose view it is, and which."""
    table = [(k, v, view) for k, image in enumerate(sources) for v, view in enumerate(possible_views(image))]
    return [next((k, v) for k, v, view in table if torch.allclose(row, view)) for row in rows]


def crossfit(problem: um.Problem) -> CrossFit:
    ids = problem.data.train.ids
    log_probs = np.full((len(ids), 3), -np.log(3), np.float32)
    return CrossFit(ids, log_probs, np.zeros(len(ids), np.float32), np.full(len(ids), -np.log(2), np.float32), 0.0, {})


@pytest.mark.parametrize("name", ["neggrad+", "matching"])
def test_both_halves_of_a_batch_are_augmented(name: str, problem: um.Problem) -> None:
    method = (
        um.NegGradPlus(epochs=3) if name == "neggrad+" else Matching(targets=FromCrossFit(crossfit(problem)), epochs=3)
    )
    SEEN.clear()
    log = Losses()
    method(problem, seed=0, observers=[log])
    batches = [x for x in SEEN if len(x) > len(log.steps[0].batch.index)]  # retained and forgotten examples together
    assert len(batches) == len(log.steps) >= 3
    sources = list(problem.forget.batch(torch.arange(FORGOTTEN))[0])
    seen = [set(which_views(x[len(s.batch.index) :], sources)) for x, s in zip(batches, log.steps, strict=True)]
    assert all(len(views) == FORGOTTEN for views in seen)  # each forget example once in a step
    assert len(set.union(*seen)) > 2 * FORGOTTEN  # in changing views
    assert len({view for _, view in set.union(*seen)}) > 9


def test_the_views_of_forget_batches_are_drawn_from_the_seed_and_are_none_without_augmentation() -> None:
    data = images(12)

    def inputs(seed: int, recipe: um.Recipe) -> Tensor:
        return torch.cat([batch.inputs for batch in islice(cycle(data, 5, recipe, seed=seed), 6)])

    assert torch.equal(inputs(0, RECIPE), inputs(0, RECIPE))
    assert not torch.equal(inputs(0, RECIPE), inputs(1, RECIPE))
    plain = replace(RECIPE, augment="none")
    for batch in islice(cycle(data, 5, plain, seed=0), 6):
        assert torch.equal(batch.inputs, data.batch(batch.index)[0])


def test_forget_batches_that_are_no_images_cannot_be_augmented() -> None:
    points = um.Examples.of(np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 2)
    with pytest.raises(um.UserError, match="augment 'crop-flip': the inputs are no images"):
        next(cycle(points, 5, RECIPE, seed=0))
