"""Data run no program, block nothing and lead nowhere: what the data hold, how they are read, what comes of it."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

import unmem as um
from tests.security.canary import Canary, at_most, run
from unmem.data.images import FORMATS, opened, suffixes
from unmem.errors import UserError
from unmem.plainfiles import NotPlainError, below, open_plain

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(evil) print\nshowpage\n%%EOF\n"


def images(root: Path, *, each: int = 8) -> Path:
    """Class folders a and b with grey PNGs."""
    for label in "ab":
        (root / label).mkdir(parents=True)
        for k in range(each):
            pixels = np.full((8, 8), 16 * k + (label == "b"), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{k}.png")
    return root


def ghostscript(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in the place of Ghostscript."""
    programs = canary.folder / "programs"
    programs.mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {canary.file}\n")
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("place", ["folder", "saved", "parquet"])
def test_postscript_that_is_called_an_image_is_refused(
    place: str, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    ghostscript(canary, monkeypatch)
    if place == "folder":
        root = images(canary.folder / "images")
        (root / "a" / "evil.png").write_bytes(EPS)
    else:
        root = cells(canary.folder / "images", [{"bytes": EPS, "path": None}], saved=place == "saved")
    with pytest.raises(UserError, match="it is none of PNG, JPEG"):
        load(root, place)
    assert not canary.sang


def test_files_of_other_formats_are_left_out_by_their_names(tmp_path: Path) -> None:
    root = images(tmp_path / "images")
    for name in ("evil.eps", "evil.ps", "evil.wmf", "evil.fits"):
        (root / "a" / name).write_bytes(EPS)
    found = um.load(root)
    assert sum(map(len, found.parts.values())) == 16
    assert any("4 files" in note and "left out" in note for note in found.notes)
    assert not suffixes() & {".eps", ".ps", ".wmf", ".emf", ".pdf"}


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO"])
def test_usual_formats_are_opened(name: str, tmp_path: Path) -> None:
    assert name in FORMATS
    Image.fromarray(np.zeros((16, 16), dtype=np.uint8)).save(tmp_path / "x", format=name)
    with (tmp_path / "x").open("rb") as file, opened(file) as image:
        assert image.format == name


def pipe(path: Path) -> None:
    os.mkfifo(path)


def plug(path: Path) -> None:
    place = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(place)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS = pytest.mark.parametrize(
    ("make", "words"), [(pipe, "named pipe"), (plug, "socket"), (device, "device")], ids=["pipe", "socket", "device"]
)


@KINDS
def test_what_is_no_file_is_not_opened(make: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    make(tmp_path / "x")
    with at_most(10), pytest.raises(NotPlainError, match=words):
        open_plain(tmp_path / "x")
    with pytest.raises(NotPlainError, match="a folder"):
        open_plain(tmp_path)


@KINDS
def test_what_is_no_file_among_images_is_refused(make: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    root = images(tmp_path / "images")
    make(root / "a" / "x.png")
    with at_most(20), pytest.raises(UserError, match=words):
        um.load(root)


@pytest.mark.parametrize("make", [pipe, plug, device])
@pytest.mark.parametrize(
    "name", ["x.csv", "x.csv.gz", "x.tsv", "x.parquet", "x.npz", "folder/x.parquet", "bert/config.json"]
)
def test_what_is_no_file_is_refused_as_any_source(
    name: str, make: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / name
    place.parent.mkdir(exist_ok=True)
    make(place)
    source = place.parent if "/" in name else place
    with at_most(30):
        with pytest.raises(UserError):
            um.load(source)
        assert run("check", "--data", source) == 2
        assert run("check", "--data", "digits", "--model", source) == 2
        assert run("init", "--data", source, "--file", tmp_path / "out.yaml") in (0, 2)
    assert "fault" not in capsys.readouterr().err


def test_links_of_the_users_own_folder_are_followed(tmp_path: Path) -> None:
    root, disk = images(tmp_path / "images"), images(tmp_path / "disk")
    (root / "a" / "linked.png").symlink_to(disk / "b" / "7.png")
    (root / "c").symlink_to(disk / "a")
    found = um.load(root)
    assert sum(map(len, found.parts.values())) == 16 + 1 + 8


def cells(folder: Path, more: list[dict], *, saved: bool) -> Path:
    """A table of images in cells, of which the last are these."""
    import datasets

    inside = images(folder / "inside")
    first = [{"bytes": path.read_bytes(), "path": None} for path in sorted(inside.glob("*/*.png"))]
    column = first + more
    labels = [k % 2 for k in range(len(column))]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"image": pa.array(column, kind), "label": labels})
    if not saved:
        parquet.write_table(table, folder / "train-0.parquet")
        return folder
    datasets.Dataset(table).save_to_disk(folder / "saved")
    (folder / "saved" / "inside").symlink_to(inside)
    return folder / "saved"


def load(root: Path, place: str) -> um.Splits:
    return um.load("cifar10", folder=root) if place == "parquet" else um.load(root)


@pytest.mark.parametrize("place", ["saved", "parquet"])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("inside/a/1.png", None),
        ("ROOT/inside/a/1.png", None),
        ("../outside.png", "outside of its folder"),
        ("inside/../../outside.png", "outside of its folder"),
        ("OUT/outside.png", "outside of its folder"),
        ("/dev/zero", "outside of its folder"),
        ("/etc/passwd", "outside of its folder"),
        ("~/outside.png", "No such file"),
        ("http://127.0.0.1:9/outside.png", "No such file"),
        ("file:///etc/passwd", "No such file"),
        ("pipe.png", "named pipe"),
        ("", "outside of its folder"),
        (".", "outside of its folder"),
        ("inside", "a folder"),
    ],
)
def test_paths_in_cells_stay_below_the_folder(path: str, words: str | None, place: str, tmp_path: Path) -> None:
    where = tmp_path / "data"
    root = where / "saved" if place == "saved" else where
    path = path.replace("ROOT", str(root)).replace("OUT", str(tmp_path))
    cells(where, [{"bytes": None, "path": path}], saved=place == "saved")
    pipe(root / "pipe.png")
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "outside.png")
    with at_most(30):
        if words is None:
            assert sum(map(len, load(root, place).parts.values())) == 17
            return
        with pytest.raises(UserError, match=words):
            load(root, place)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(
    ("key", "name"),
    [
        *(("file", name) for name in ("../other/data-00000-of-00001.arrow", "OUT/other/data-00000-of-00001.arrow")),
        *(("file", name) for name in ("pipe.arrow", "", "x/../../other/data-00000-of-00001.arrow", "/dev/zero")),
        *(("part", name) for name in ("../other", "OUT/other", ".", "..", "/")),
    ],
)
def test_state_files_stay_below_their_folder(key: str, name: str, both: bool, tmp_path: Path) -> None:
    import datasets

    for folder in ("mine", "other"):
        rows = datasets.Dataset.from_dict({"x": [float(k) for k in range(40)], "label": [k % 2 for k in range(40)]})
        rows.save_to_disk(tmp_path / folder)
    mine, name = tmp_path / "mine", name.replace("OUT", str(tmp_path))
    pipe(mine / "pipe.arrow")
    if key == "file":
        state = json.loads((mine / "state.json").read_text())
        (mine / "state.json").write_text(json.dumps(state | {"_data_files": [{"filename": name}]}))
    if key == "part" or both:
        (mine / "dataset_dict.json").write_text(json.dumps({"splits": [name if key == "part" else "none"]}))
    if key == "part" and not both:
        (mine / "state.json").unlink()
    with at_most(30), pytest.raises(UserError, match="cannot be read as a Hugging Face data set"):
        um.load(mine)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", "a"),
        ("a/./b", "a/b"),
        ("ROOT/a", "a"),
        ("ROOT-2/a", None),
        ("..", None),
        ("a/../b", None),
        ("ROOT", None),
        ("", None),
        ("a\0b", None),
        ("/", None),
    ],
)
def test_below(name: str, expected: str | None, tmp_path: Path) -> None:
    found = below(tmp_path, name.replace("ROOT", str(tmp_path)))
    assert found == (None if expected is None else tmp_path / expected)
