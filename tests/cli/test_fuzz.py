"""Whatever is in a file, a command ends in one sentence and leaves every file as it was."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

import unmem as um
from tests.data.files import image_tree
from unmem import models
from unmem.cli.app import build, main
from unmem.cli.config import key_of, option_value, read_config
from unmem.cli.options import DataOptions, ModelOptions, RunOptions
from unmem.cli.options import settings as settings_of
from unmem.requests import checked_ids, read_ids, read_issues

HINTS = {key_of(one): one.hint for one in build()["forget"].assemble_argument_collection() if one.name[:2] == "--"}
DEFAULTS = settings_of(DataOptions(), RunOptions(), ModelOptions())
KEYS = [*DEFAULTS, "command", "method", "steps", "where", "top", "forget", "issues", "set", "scenario", "relearning"]

_text = st.text(max_size=12)
_path = _text.filter(lambda text: "\0" not in text)  # neither a command line nor a file of options can say it
_number = st.integers() | st.floats() | st.integers(10**300, 10**320)
_scalar = st.none() | st.booleans() | _number | _text | st.dates() | st.binary(max_size=8)
_nested = st.recursive(
    _scalar, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4), max_leaves=12
)
_misspelt = st.builds(
    lambda key, at, insert: f"{key[:at]}{insert}{key[at + 1 :]}", st.sampled_from(KEYS), st.integers(0, 8), _text
)
_keys = st.sampled_from(KEYS) | _misspelt | _text
_strange = st.sampled_from(
    [
        b"[" * 2_000,
        b"{a: " * 1_000,
        b"a: &a [*a]\n",
        b"epochs: &a {b: *a}\n",
        b"\xff\xfee\0p\0",
        b"epochs: 9" + b"9" * 5_000,
        b"epochs: 0x" + b"f" * 5_000,
        b"data: \0",
        b"%YAML 9.9\n---\n",
        b"a: !!python/object/apply:os.system [true]\n",
        b"lr: 2001-99-99\n",
        b"<<: 5\n",
        b"? [a]\n: b\n",
        b"--- a\n--- b\n",
        b"data: !!binary x\n",
        b"data: !!float 5\nlr: !!int x\n",
        b"\xef\xbb\xbfepochs: 1\n",
        b"epochs: 1:60:1e9\n",
        b"=: 1\n",
        b'["' + b"x" * 20_000,
        b"PAR1PAR1",
        b"\x93NUMPY\x01\0\x76\0{'descr': '|O', 'fortran_order': False, 'shape': (9999999999999,), }",
        b"id,id\n1,2\n",
        b'id\n"' + b"y" * 200_000,
        b"1e400\n-5\n17.0\n",
    ]
)


@st.composite
def _damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Nearly valid: some bytes of a valid file replaced, or its end cut off."""
    raw = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        if raw:
            at = draw(st.integers(0, len(raw) - 1))
            raw[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(raw[: draw(st.integers(0, len(raw)))]) if draw(st.booleans()) else bytes(raw)


def _dumped(values: Any) -> bytes:
    return yaml.safe_dump(values, allow_unicode=True).encode("utf-8", "surrogatepass")


_random_config = st.dictionaries(_keys, _nested, max_size=5).map(_dumped) | _nested.map(_dumped)
_changed_config = st.builds(
    lambda key, value: _dumped(DEFAULTS | {key: value}), _keys, _nested | st.sampled_from(list(DEFAULTS.values()))
)
CONFIGS = st.binary(max_size=60) | _strange | _random_config | _changed_config | _damaged(_changed_config)

_id = st.integers(0, 2000).map(str) | _text
_rows = st.lists(st.tuples(_id, st.sampled_from(["True", "False", "", "maybe"]), _text | st.just("0.5")), max_size=6)


def _csv(rows: list[tuple[str, ...]]) -> bytes:
    lines = ["id,is_label_issue,label_quality", *(",".join(row) for row in rows)]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    sink = io.BytesIO()
    n = min((len(values) for values in columns.values()), default=0)
    try:
        pq.write_table(pa.table({name: values[:n] for name, values in columns.items()}), sink)
    except (pa.ArrowException, UnicodeError, OverflowError):  # not a table that can be written
        return b"PAR1"
    return sink.getvalue()


def _npy(values: list[Any]) -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.array(values))
    return sink.getvalue()


_column = st.lists(_id) | st.lists(st.integers(-(2**40), 2**40)) | st.lists(st.booleans()) | st.lists(st.floats())
_whole_list = (
    st.lists(_id | st.integers(), max_size=8).map(lambda ids: json.dumps(ids).encode())
    | _nested.filter(lambda value: not isinstance(value, bytes)).map(lambda v: json.dumps(v, default=str).encode())
    | _rows.map(_csv)
    | st.lists(_id, max_size=8).map(lambda ids: "\n".join(ids).encode("utf-8", "surrogatepass"))
    | st.dictionaries(st.sampled_from(["id", "is_label_issue", "label_quality", "x"]), _column, max_size=3).map(
        _parquet
    )
    | _column.map(_npy)
)
LISTS = st.binary(max_size=60) | _strange | _whole_list | _damaged(_whole_list)
SUFFIXES = st.sampled_from(["", ".txt", ".csv", ".json", ".parquet", ".npy", ".tsv", ".yaml"])


# Data, with what may be said of how to read them, and files of weights.


def _table(rows: list[tuple[str, str, str]]) -> bytes:
    return "\n".join(["id,x,label", *(",".join(row) for row in rows)]).encode("utf-8", "surrogatepass")


def _npz(arrays: dict[str, np.ndarray[Any, Any]]) -> bytes:
    sink = io.BytesIO()
    np.savez(sink, **arrays)  # pyright: ignore[reportArgumentType]
    return sink.getvalue()


def _picture(mode: str, side: int) -> bytes:
    sink = io.BytesIO()
    Image.new(mode, (side, side + 1), 1).save(sink, "PNG")
    return sink.getvalue()


_cell = st.integers(-3, 3).map(str) | st.floats(width=16).map(str) | st.sampled_from(["", "a", "b", "true", "1e999"])
_names = st.sampled_from(["id", "x", "label", "y", "target", "words", ""]) | _text
_dtypes = st.sampled_from(
    ["uint8", "int64", "int8", "uint64", "float32", "float16", "bool", "U3", "S2", "datetime64[s]"]
)
_shapes = st.lists(st.integers(0, 12), max_size=4).map(tuple) | st.sampled_from(
    [(12, 1, 2, 2), (12, 3), (12,), (12, 4, 4)]
)
_array = st.builds(
    lambda shape, kind: np.arange(int(np.prod(shape))).astype("int64").astype(kind).reshape(shape), _shapes, _dtypes
)
_whole_data = (
    st.tuples(st.just(".csv"), st.lists(st.tuples(_cell, _cell, _cell), max_size=20).map(_table))
    | st.tuples(
        st.sampled_from([".csv", ".tsv"]), st.lists(st.tuples(_id, _cell, st.just("a")), max_size=9).map(_table)
    )
    | st.tuples(
        st.just(".parquet"), st.dictionaries(_names, _column | st.lists(_nested, max_size=9), max_size=4).map(_parquet)
    )
    | st.tuples(
        st.just(".npz"),
        st.dictionaries(st.sampled_from(["x_train", "y_train", "x_test", "y_test", "ids_train"]), _array).map(_npz),
    )
    | st.tuples(
        st.just(".png"), st.builds(_picture, st.sampled_from(["RGB", "L", "1", "P", "RGBA", "I;16"]), st.integers(1, 9))
    )
)
_pixels = st.sampled_from(["4", "3x5", "0", "-1", "x", "2x2x2", " 8 ", "٣", "9" * 5000, "1e3"]) | _text
_moments = st.sampled_from(
    [
        *(
            "unit",
            "raw",
            "symmetric",
            "imagenet",
            "cifar10",
            "dataset",
            "0.5/0.2",
            "0.5/0",
            "nan/1",
            "1/inf",
            "/",
            "1,2,3/1,2,3",
        )
    ]
)
_said = st.lists(
    st.tuples(st.sampled_from(["label", "id", "text", "drop"]), _names)
    | st.tuples(st.sampled_from(["test", "folder", "tokenizer"]), st.sampled_from([".", "nowhere", "taken"]) | _path)
    | st.tuples(st.just("size"), _pixels | st.integers(-3, 40))
    | st.tuples(st.just("scaling"), _moments | _text)
    | st.tuples(st.just("max_length"), st.integers())
    | st.tuples(st.just("grey"), st.booleans())
    | st.tuples(st.just("stream"), st.sampled_from(["auto", "always", "never"]) | _text)
    | st.tuples(st.just("limit"), st.integers())
    | st.tuples(st.just("flip"), st.floats()),
    max_size=2,
).map(dict)


@st.composite
def _of_data(draw: st.DrawFn) -> tuple[bytes, str, dict[str, Any]]:
    suffix, raw = draw(_whole_data)
    broken = draw(st.sampled_from([st.just(raw), _damaged(st.just(raw)), st.binary(max_size=60) | _strange]))
    return draw(broken), suffix, draw(_said)


@cache
def _weights() -> list[tuple[bytes, str]]:
    """Files of an mlp, as safetensors and as torch.save writes them."""
    state = models.build("mlp", (2,), 3, seed=0).state_dict()
    small = {key: value[:4] for key, value in state.items()}
    sink = io.BytesIO()
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, sink)
    about = models.Card("mlp", (2,), 3).metadata()
    return [(save(state, about), ".safetensors"), (save(small), ".safetensors"), (sink.getvalue(), ".pt")]


@st.composite
def _of_weights(draw: st.DrawFn) -> tuple[bytes, str, dict[str, Any]]:
    raw, suffix = draw(st.sampled_from(_weights()))
    broken = draw(st.sampled_from([st.just(raw), _damaged(st.just(raw)), st.binary(max_size=60) | _strange]))
    arch = st.none() | st.sampled_from(["mlp", "small_cnn", "vit", "timm/x", "torchvision/x", "transformers/."]) | _path
    return draw(broken), draw(st.sampled_from([suffix, suffix, ".ckpt", ".bin", ""])), {"arch": draw(arch)}


def _ended(*arguments: str | Path) -> None:
    """The command stops with a known code, without a traceback; where it is an error, with one line."""
    errors = io.StringIO()
    quiet = contextlib.redirect_stdout(io.StringIO())
    with quiet, contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    said = errors.getvalue()
    assert stopped.value.code in (2, 3), said  # what these files cannot change: there is no place for results
    assert "Traceback" not in said
    assert said.startswith("unmem: ")
    assert said.count("\n") == 1


def _config(raw: bytes, suffix: str, folder: Path, _: um.Splits) -> None:
    """The options alone, as every command reads them."""
    file = folder / f"options{'.toml' if suffix == '.csv' else '.yaml'}"
    file.write_bytes(raw)
    with contextlib.suppress(um.UserError):
        for key, value in read_config(file).items():
            for hint in HINTS if key not in HINTS else [key]:
                with contextlib.suppress(um.UserError):
                    option_value(file, key, value, HINTS[hint])
    assert file.read_bytes() == raw


def _command(raw: bytes, suffix: str, folder: Path, _: um.Splits) -> None:
    file = folder / f"options{'.toml' if suffix == '.csv' else '.yaml'}"
    file.write_bytes(raw)
    command = ("train", "score", "prepare", "audit", "scenario")[len(raw) % 5]
    _ended(command, "--config", file, "--out", folder / "taken" / "run")
    assert file.read_bytes() == raw


def _ids(raw: bytes, suffix: str, folder: Path, data: um.Splits) -> None:
    file = folder / f"ids{suffix}"
    file.write_bytes(raw)
    for read in (lambda path: read_ids(path).ids(data), lambda path: read_issues(f"{path}:2").names(data)):
        with contextlib.suppress(um.UserError):
            ids = checked_ids(read(file), data)
            assert set(ids) <= set(data.train.ids)
            assert len(ids)
    assert file.read_bytes() == raw


def _forget(raw: bytes, suffix: str, folder: Path, _: um.Splits) -> None:
    file = folder / f"ids{suffix}"
    file.write_bytes(raw)
    option = ("--forget", "--issues")[len(raw) % 2]
    _ended("forget", option, file, "--no-config", "--method", "fine-tune", "--out", folder / "taken" / "run")
    assert file.read_bytes() == raw


def _data(raw: bytes, suffix: str, options: dict[str, Any], folder: Path, _: um.Splits) -> None:
    file = folder / f"data{suffix}"
    source = file
    if suffix == ".png":
        source = image_tree(folder / "tree", each=4, side=2, channels=1)
        file = source / "dog" / "002.png"
    file.write_bytes(raw)
    with contextlib.suppress(um.UserError):
        found = um.load(source, **({"loaders": 0} | options))
        found.train.batch(torch.arange(len(found.train)))
        assert found.train.fingerprint
    assert file.read_bytes() == raw


def _model(raw: bytes, suffix: str, options: dict[str, Any], folder: Path, _: um.Splits) -> None:
    file = folder / f"model{suffix}"
    file.write_bytes(raw)
    with contextlib.suppress(um.UserError):
        model, _card = models.load(file, input_shape=(2,), n_classes=3, **options)
        assert model(torch.zeros(1, 2)).shape == (1, 3)
    assert file.read_bytes() == raw


CHECKS: dict[str, tuple[st.SearchStrategy[tuple[Any, ...]], Callable[..., None]]] = {
    "config": (st.tuples(CONFIGS, SUFFIXES), _config),
    "command": (st.tuples(CONFIGS, SUFFIXES), _command),
    "ids": (st.tuples(LISTS, SUFFIXES), _ids),
    "forget": (st.tuples(LISTS, SUFFIXES), _forget),
    "data": (_of_data(), _data),
    "model": (_of_weights(), _model),
}
SHORT = {"config": 80, "command": 20, "ids": 80, "forget": 20, "data": 80, "model": 40}
LONG = {"config": 1200, "command": 150, "ids": 1500, "forget": 150, "data": 1500, "model": 300}


def _fuzz(name: str, folder: Path, examples: int, *, random: bool) -> None:
    contents, check = CHECKS[name]
    data = um.load("digits", limit=50)
    (folder / "taken").write_text("no folder")

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=not random,
        database=None,
        phases=(Phase.generate, Phase.shrink),  # to explain failures, every line would be traced
        suppress_health_check=list(HealthCheck),
    )
    @given(contents)
    def case(given: tuple[Any, ...]) -> None:
        check(*given, folder, data)
        assert (folder / "taken").read_text() == "no folder"

    case()


@pytest.mark.parametrize("name", CHECKS)
def test_no_file_makes_a_command_fall_over(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _fuzz(name, tmp_path, SHORT[name], random=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_no_file_of_thousands_makes_a_command_fall_over(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _fuzz(name, tmp_path, LONG[name], random=True)
