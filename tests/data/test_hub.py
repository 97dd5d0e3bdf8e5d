"""Hugging Face data sets on disk, of the schemas of the hub; the hub itself is out of reach on purpose."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import unmem as um
from tests.data.files import CLASSES, picture
from unmem.data import Stream, named_scalings
from unmem.errors import UserError

datasets = pytest.importorskip("datasets")
N = 36


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def rows(n: int = N, *, first: int = 0, image: str = "image", label: str = "label", **more: Any) -> Any:
    """Images of `picture`, by label and number."""
    features = datasets.Features(
        {image: datasets.Image(), label: datasets.ClassLabel(names=list(CLASSES)), "number": datasets.Value("int64")}
    )
    numbers = range(first, first + n)
    columns = {
        image: [Image.fromarray(picture(k % 3, k)) for k in numbers],
        label: [k % 3 for k in numbers],
        "number": list(numbers),
    }
    made = datasets.Dataset.from_dict(columns, features=features)
    for name, values in more.items():
        made = made.add_column(name, values)
    return made


def attached(part: um.Examples) -> bool:
    pairs = zip(part.inputs[:], part.labels.tolist(), part.columns["number"].tolist(), strict=True)
    return all(np.array_equal(np.moveaxis(x.numpy(), 0, -1), picture(y, k)) and y == k % 3 for x, y, k in pairs)


@pytest.mark.parametrize("stream", ["never", "always"])
def test_a_saved_data_set_of_images(tmp_path: Path, stream: Any) -> None:
    rows().save_to_disk(tmp_path / "pets")
    splits = um.load(tmp_path / "pets", stream=stream, loaders=0)
    assert splits.name == "pets"
    assert splits.classes == CLASSES
    assert isinstance(splits.train.inputs, Stream) == (stream == "always")
    assert sum(map(len, splits.parts.values())) == N
    assert all(attached(part) for part in splits.parts.values())
    assert all(name == str(k) for name, k in zip(splits.train.ids, splits.train.columns["number"], strict=True))


def test_streamed_or_not_the_fingerprint_is_the_same(tmp_path: Path) -> None:
    rows().save_to_disk(tmp_path / "pets")
    found = [um.load(tmp_path / "pets", stream=how, loaders=0).train.fingerprint for how in ("never", "always")]
    assert found[0] == found[1]


def test_ids_from_a_column_stay_with_their_images(tmp_path: Path) -> None:
    names = [f"p{k}" for k in np.random.default_rng(0).permutation(N)]
    rows(name=names).save_to_disk(tmp_path / "pets")
    splits = um.load(tmp_path / "pets", id="name")
    for part in splits.parts.values():
        assert attached(part)
        assert [names[k] for k in part.columns["number"]] == part.ids.tolist()


def test_the_order_of_the_rows_changes_nothing_where_ids_are_given() -> None:
    made = rows(id=[f"p{k:02}" for k in np.random.default_rng(0).permutation(N)])
    mixed = made.select(np.random.default_rng(1).permutation(N))
    first, second = (um.load(one).train for one in (made, mixed))
    assert first.ids.tolist() == second.ids.tolist()
    assert first.fingerprint == second.fingerprint


def test_a_dictionary_of_parts(tmp_path: Path) -> None:
    parts = {"train": rows(), "test": rows(12, first=100), "validation": rows(9, first=200), "unsupervised": rows(3)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "pets")
    splits = um.load(tmp_path / "pets", grey=False)
    assert [len(part) for part in splits.parts.values()] == [36, 9, 12]
    assert all(attached(part) for part in splits.parts.values())
    assert splits.test.ids[0] == "test-0"
    assert any("unsupervised" in note for note in splits.notes)


def test_objects_are_taken_as_they_are() -> None:
    splits = um.load((rows(), rows(12, first=100)))
    assert [len(part) for part in splits.parts.values()] == [36, 6, 6]
    assert all(attached(part) for part in splits.parts.values())
    chosen = rows().select([5, 3, 8, 20, 21, 22])
    assert attached(um.load((chosen, rows(12))).train)


def test_a_corrupt_image_is_named_by_its_id() -> None:
    cells = [{"bytes": b"no image" if k == 7 else encoded(k), "path": None} for k in range(N)]
    broken = datasets.Dataset.from_dict({"image": cells, "label": [k % 3 for k in range(N)]})
    with pytest.raises(UserError, match="data '7': is no whole image"):
        um.load(broken)


def test_a_corrupt_image_is_named_by_its_own_id_where_rows_were_sorted() -> None:
    cells = [{"bytes": b"no image" if k == 7 else encoded(k), "path": None} for k in range(N)]
    names = [f"p{(k * 7) % N:02}" for k in range(N)]  # 7 and 36 share no factor
    broken = datasets.Dataset.from_dict({"image": cells, "label": [k % 3 for k in range(N)], "id": names})
    with pytest.raises(UserError, match=f"data '{names[7]}': is no whole image"):
        um.load(broken)


def encoded(k: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(k % 3, k)).save(file, format="PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "image", "label", "scaling"),
    [
        ("cifar10", "img", "label", "cifar10"),
        ("cifar100", "img", "fine_label", "cifar100"),
        ("svhn", "image", "label", "svhn"),
        ("tiny-imagenet", "image", "label", "imagenet"),
    ],
)
@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_named_sets_from_a_folder(tmp_path: Path, name: str, image: str, label: str, scaling: str, kind: str) -> None:
    unseen = "valid" if name == "tiny-imagenet" else "test"
    parts = {"train": rows(image=image, label=label), unseen: rows(12, first=50, image=image, label=label)}
    if name == "cifar100":
        coarse = datasets.ClassLabel(names=["pet", "fish"])
        parts = {
            part: one.add_column("coarse_label", [0] * len(one)).cast_column("coarse_label", coarse)
            for part, one in parts.items()
        }
    if kind == "saved":
        datasets.DatasetDict(parts).save_to_disk(tmp_path / "set")
    else:
        (tmp_path / "set" / "data").mkdir(parents=True)
        for part, one in parts.items():
            one.to_parquet(tmp_path / "set" / "data" / f"{part}-00000-of-00001.parquet")
    splits = um.load(name, folder=tmp_path / "set")
    assert splits.name == name
    assert splits.classes == CLASSES
    assert [len(part) for part in splits.parts.values()] == [36, 6, 6]
    assert all(attached(part) for part in splits.parts.values())
    assert splits.train.scaling == named_scalings(3)[scaling]


def test_tables_and_texts_are_read_like_those_in_files() -> None:
    features = datasets.Features({"a": datasets.Value("float32"), "label": datasets.ClassLabel(names=["no", "yes"])})
    numbers = datasets.Dataset.from_dict({"a": list(range(N)), "label": [k % 2 for k in range(N)]}, features=features)
    splits = um.load(numbers)
    assert splits.classes == ("no", "yes")
    x, _ = splits.train.batch(torch.arange(len(splits.train)))
    assert (float(x.mean()), float(x.std(correction=0))) == (pytest.approx(0, abs=1e-6), pytest.approx(1))
    texts = datasets.Dataset.from_dict({"t": ["a film"] * N, "label": [k % 2 for k in range(N)]})
    with pytest.raises(UserError, match="texts need one"):
        um.load(texts, text="t")


@pytest.mark.parametrize(
    ("made", "setting", "said"),
    [
        (lambda: rows(image="a").add_column("b", list(rows()["number"])), {"label": "lable"}, "did you mean 'label'"),
        (lambda: rows().remove_columns("label"), {}, "name the one with the classes by --label"),
        (lambda: rows(), {"text": "words"}, "no such column"),
        (lambda: {"a": rows(), "b": rows()}, {}, "the mapping has no train"),
        (lambda: rows().select(range(0, 30, 3)), {}, "is the only class"),
        (lambda: rows(), {"test": "x.csv"}, "does not use it"),
        (lambda: datasets.Dataset.from_dict({"x": [1.0] * 4, "y": [[0, 1]] * 4}), {}, "one-hot or multi-label"),
        (lambda: datasets.Dataset.from_dict({"x": [1.0] * 4, "y": [0.5] * 4}), {}, "regression targets"),
        (lambda: datasets.Dataset.from_dict({"x": [1.0] * 4, "y": [-1, 0, 1, 0]}), {}, "start at 0"),
    ],
)
def test_data_sets_that_cannot_be_used_are_refused(made: Any, setting: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        um.load(made(), **setting)


@pytest.mark.parametrize("name", ["hf:nobody/nothing", "hf:nothing", "hf:nobody/nothing/config", "cifar10", "svhn"])
def test_a_hub_out_of_reach_is_a_user_error(name: str) -> None:
    with pytest.raises(UserError, match="cannot be had from the hub") as refused:
        um.load(name)
    assert refused.value.value == name


@pytest.mark.parametrize("name", ["hf:", "hf:a/b/c/d", "hf:a//b"])
def test_what_is_no_name_on_the_hub_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="is no name on the hub"):
        um.load(name)


def test_folders_that_hold_no_data_set_are_refused(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read as a Hugging Face data set"):
        um.load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no parquet files"):
        um.load("cifar10", folder=tmp_path / "empty")
    (tmp_path / "empty" / "train-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read"):
        um.load("cifar10", folder=tmp_path / "empty")


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from unmem import extras

    with pytest.raises(UserError, match=r"the package no_such_package_here is not installed; pip install 'unmem\["):
        extras.imported("no_such_package_here", field="data")
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"data: the package datasets is not installed; pip install 'unmem\[hf\]'"):
        extras.imported("datasets", field="data")


@pytest.mark.parametrize("missing", [-1, None])
def test_a_part_without_labels_is_left_out_and_training_rows_are_named(missing: int | None) -> None:
    test = rows(12, first=100)
    test = datasets.Dataset.from_dict({**test.to_dict(), "label": [missing] * 12}, features=test.features)
    splits = um.load({"train": rows(), "test": test})
    assert any("test of data has examples without a label" in note for note in splits.notes)
    assert all(max(part.columns["number"]) < N for part in splits.parts.values())
    train = rows()
    labels = [missing if k in (3, 9) else k % 3 for k in range(N)]
    train = datasets.Dataset.from_dict({**train.to_dict(), "label": labels}, features=train.features)
    with pytest.raises(UserError, match="rows 3, 9 of the training set"):
        um.load({"train": train, "test": rows(12)})


def test_a_transform_that_is_not_applied_is_named() -> None:
    made = rows().with_transform(lambda batch: batch)
    assert any("transform of data (train) is not applied" in note for note in um.load(made).notes)


def test_an_index_that_repeats_is_no_id_and_stops_neither_images_nor_texts() -> None:
    splits = um.load(rows().add_column("idx", [0] * len(rows())))
    assert {int(name) for part in splits.parts.values() for name in part.ids} == set(range(len(rows())))
    numbers = datasets.Dataset.from_dict({"idx": [0] * 12, "x": list(range(12)), "label": [0, 1] * 6})
    with pytest.raises(UserError, match="looks like an index, but 11 of its values are repetitions"):
        um.load(numbers)


def test_an_index_of_a_hugging_face_set_is_the_id() -> None:
    named = [f"n{k}" for k in range(len(rows()))]
    splits = um.load(rows().add_column("idx", named))
    assert {str(name) for part in splits.parts.values() for name in part.ids} == set(named)
    assert "'idx' is an index" in " ".join(splits.notes)
