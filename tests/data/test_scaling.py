"""What a model sees of a pixel, against the arithmetic of mean and deviation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import unmem as um
from unmem.data import Examples, Scaling, named_scalings
from unmem.data.scaling import scaling_from
from unmem.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, size=(40, 3, 5, 4), dtype=np.uint8)
LABELS = np.arange(40) % 4


@pytest.fixture
def file(tmp_path) -> str:
    np.savez(tmp_path / "mine.npz", x_train=PIXELS, y_train=LABELS)
    return str(tmp_path / "mine.npz")


@pytest.mark.parametrize(
    ("name", "mean", "sd"),
    [
        ("unit", (0, 0, 0), (1, 1, 1)),
        ("symmetric", (0.5,) * 3, (0.5,) * 3),
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("cifar10", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        ("0.1,0.2,0.3/0.5,0.6,0.7", (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)),
        ("0.1/0.5", (0.1,) * 3, (0.5,) * 3),
        ("raw", (0, 0, 0), (1 / 255,) * 3),
    ],
)
def test_a_model_sees_pixels_less_their_mean_by_their_deviation(file: str, name: str, mean: tuple, sd: tuple) -> None:
    train = um.load(file, scaling=name).train
    x, _ = train.batch(torch.arange(5))
    by_channel = [np.array(one)[:, None, None] for one in (mean, sd)]
    expected = (PIXELS[train.ids[:5].astype(int)] / 255 - by_channel[0]) / by_channel[1]
    assert x.dtype == torch.float32
    assert x.numpy() == pytest.approx(expected, abs=1e-3 if name == "raw" else 1e-5)


def test_the_scaling_of_the_data_set_leaves_mean_0_and_deviation_1_by_channel(file: str) -> None:
    splits = um.load(file, scaling="dataset")
    x, _ = splits.train.batch(torch.arange(len(splits.train)))
    assert x.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert x.std(dim=(0, 2, 3), correction=0).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert splits.test.scaling == splits.train.scaling


def test_numbers_that_are_no_bytes_are_scaled_as_shares_of_one(tmp_path) -> None:
    np.savez(tmp_path / "mine.npz", x_train=PIXELS / 255, y_train=LABELS)
    train = um.load(str(tmp_path / "mine.npz"), scaling="symmetric").train
    x, _ = train.batch(torch.arange(3))
    assert x.numpy() == pytest.approx(PIXELS[train.ids[:3].astype(int)] / 127.5 - 1, abs=1e-5)


def test_scaling_by_channel_is_in_the_fingerprint_and_survives_the_way_to_another_process() -> None:
    import pickle

    plain, scaled = (
        Examples.of(PIXELS, LABELS, scaling=one) for one in (Scaling(), Scaling((1.0, 2.0, 3.0), (0.0, 1.0, 2.0)))
    )
    assert plain.fingerprint != scaled.fingerprint
    arrived = pickle.loads(pickle.dumps(scaled))
    assert arrived.fingerprint == scaled.fingerprint
    assert torch.equal(arrived.batch(torch.arange(4))[0], scaled.batch(torch.arange(4))[0])


def test_without_a_scaling_the_model_gets_what_is_stored() -> None:
    tokens = np.arange(80).reshape(40, 2)
    x, _ = Examples.of(tokens, LABELS, scaling=None).batch(torch.tensor([3, 0]))
    assert x.dtype == torch.int64
    assert x.tolist() == [[6, 7], [0, 1]]


def test_names_fit_the_channels() -> None:
    assert {"imagenet", "svhn", "cifar100"} <= named_scalings(3).keys()
    assert named_scalings(1).keys() == {"unit", "symmetric", "raw", "fashion-mnist"}
    assert named_scalings(1)["fashion-mnist"] == Scaling(1 / (255 * 0.3530), -0.2860 / 0.3530)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("imagnet", "did you mean 'imagenet'"),
        ("fashion-mnist", "is for 1 channels, these inputs have 3"),
        ("0.5,0.5/0.5,0.5", "2 means and 2 deviations, the inputs have 3 channels"),
        ("0.5/0", "a deviation is positive"),
        ("a/b", "not MEAN/SD"),
        ("1/2/3", "not MEAN/SD"),
    ],
)
def test_scalings_that_cannot_be_are_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        scaling_from(text, 3)
    assert refused.value.field == "scaling"
