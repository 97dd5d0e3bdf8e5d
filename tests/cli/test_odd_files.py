"""Files that are damaged, odd or made to harm: a command ends in one sentence, and never in a fault of unmem itself."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import unmem as um
from tests.helpers import point_splits, points
from unmem import models
from unmem.cli.app import main
from unmem.ensembles import files, leave_out_masks, read_members, train_members
from unmem.errors import NotFiniteError, UserError, of_the_system, out_of_memory
from unmem.memorization import load_scores
from unmem.models.card import KEY, card_in
from unmem.plainfiles import NotArraysError, read_npz
from unmem.report import PageError, Report
from unmem.report.libraries import chart_libraries
from unmem.store import load_arrays, save_arrays

CASES = int(os.environ.get("UNMEM_CASES", "15"))  # by property
RANDOM = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=CASES < 500)
DATA = points(24)
RECIPE = um.Recipe(model="mlp", epochs=1, batch_size=8)


def run(*arguments: str | Path) -> tuple[int, str]:
    """The exit code of a command, and what it says on standard error."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    return int(ended.value.code or 0), err.getvalue()


def archive(path: Path, entries: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as file:
        for name, raw in entries.items():
            file.writestr(name, raw)
    return path


def claims(shape: str, kind: str = "<f8", body: bytes = b"") -> bytes:
    """An array by its header alone."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * ((64 - (len(header) + 11) % 64) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + body


# --- arrays ---


def _npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.arange(3))


ARRAYS: dict[str, Callable[[Path], object]] = {
    "a .npy file": lambda path: _npy(path),
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path),
    "nothing": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("hello"),
    "10^12 elements": lambda path: archive(path, {"kept.npy": claims("(1000000000000,)")}),
    "10^15 elements": lambda path: archive(path, {"kept.npy": claims("(1000000000000000,)", body=b"\0" * 99)}),
    "more than 2^63": lambda path: archive(path, {"kept.npy": claims("(4294967296, 4294967296)")}),
    "negative": lambda path: archive(path, {"kept.npy": claims("(-5,)")}),
    "objects": lambda path: archive(path, {"kept.npy": claims("(3,)", "|O")}),
    "brackets": lambda path: archive(path, {"kept.npy": claims("(" * 2_000)}),
    "short": lambda path: archive(path, {"kept.npy": claims("(90000000,)", body=b"\0" * 10**6)}, zipfile.ZIP_DEFLATED),
    "another archive": lambda path: archive(path, {"kept": b"x", "about": b"y"}),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_odd_members_are_listed_as_damaged_and_block_nothing(kind: str, tmp_path: Path) -> None:
    odd = tmp_path / f"{files.PREFIX}odd.npz"
    ARRAYS[kind](odd)
    heard: list[str] = []
    made = train_members(
        RECIPE, DATA, leave_out_masks(24, 2, keep=0.7, seed=0), folder=tmp_path, on_warning=heard.append
    )
    assert len(made) == 2
    assert len(read_members(tmp_path, DATA)) == 2
    problems = [one.problem for one in files.members_in(tmp_path)]
    assert len([one for one in problems if one is None]) == 2
    assert len([one for one in problems if one is not None]) == 1
    assert run("store", "ls", tmp_path) == (0, "")
    assert run("store", "verify", tmp_path) == (1, "")
    assert run("store", "gc", tmp_path) == (0, "")
    if kind not in ("a folder", "a link to itself"):
        assert not os.path.lexists(odd)


@pytest.mark.parametrize("kind", ARRAYS)
def test_odd_arrays_are_refused_as_data_and_as_a_cross_fit(kind: str, tmp_path: Path) -> None:
    odd = tmp_path / "odd.npz"
    ARRAYS[kind](odd)
    if kind != "another archive":
        with pytest.raises(NotArraysError):
            read_npz(odd)
    for load in (um.load, um.CrossFit.load, um.Trace.load):
        with pytest.raises(UserError):
            load(str(odd))


def test_a_bomb_is_measured_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros(10**6))
    monkeypatch.setattr("unmem.plainfiles._free_memory", lambda: 10**6)
    with pytest.raises(NotArraysError, match=r"take 0\.0 GB of memory, and 0\.0 GB are free"):
        read_npz(tmp_path / "bomb.npz")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"about": []}, "does not say how it was made"),
        ({"about": {"recipe": {}}}, "does not say how it was made"),
        ({"seconds": np.array("abc")}, "how long its training took"),
        ({"seconds": np.array([1.0, 2.0])}, "how long its training took"),
        ({"kept": np.array(["a"])}, "which examples it was trained on"),
        ({"train_phi": np.array(["a"])}, "train_phi holds NaN or no numbers"),
        ({"train_phi": np.full(24, np.nan)}, "train_phi holds NaN or no numbers"),
    ],
)
def test_members_with_a_right_checksum_and_wrong_contents(change: dict[str, Any], problem: str, tmp_path: Path) -> None:
    train_members(RECIPE, DATA, np.arange(24)[None] % 3 > 0, folder=tmp_path)
    (whole,) = files.members_in(tmp_path)
    forged = {**whole.arrays, "about": np.array(json.dumps(change.get("about", whole.about)))}
    forged |= {name: value for name, value in change.items() if name != "about"}
    np.savez(whole.path, **forged, sha256=np.array(files.digest(forged)))  # pyright: ignore[reportArgumentType]
    (found,) = files.members_in(tmp_path)
    assert problem in (found.problem or "")


@pytest.mark.parametrize("recipe", [{"x": 1}, {"lr": [1]}, {"epochs": -3}])
def test_members_of_no_recipe_are_refused(recipe: dict[str, Any], tmp_path: Path) -> None:
    train_members(RECIPE, DATA, np.arange(24)[None] % 3 > 0, folder=tmp_path)
    (whole,) = files.members_in(tmp_path)
    about = whole.about | {"recipe": whole.about["recipe"] | recipe}
    files.write(whole.path, about, whole.arrays)
    with pytest.raises(UserError, match="by a recipe that there is not"):
        read_members(tmp_path, DATA)
    files.write(whole.path, whole.about, {**whole.arrays, "train_phi": np.zeros(3, np.float32)})
    with pytest.raises(UserError, match="has arrays of other sizes"):
        read_members(tmp_path, DATA)


@pytest.mark.parametrize(
    ("arrays", "facts"),
    [
        ({"ids": np.arange(3)}, {}),
        ({"ids": np.array(["a", "a", "b"])}, {}),
        ({"phi": np.full(3, np.nan)}, {}),
        ({"phi": np.array(["a", "b", "c"])}, {}),
        ({}, {"settings": 5}),
        ({}, {"seconds": "x"}),
        ({}, {"moved": [1]}),
        ({}, []),
    ],
)
def test_arrays_with_values_of_other_types_are_refused(arrays: dict[str, Any], facts: Any, tmp_path: Path) -> None:
    whole = {"ids": np.array(["a", "b", "c"]), "phi": np.zeros(3)}
    save_arrays(tmp_path / "a.npz", whole, {"seconds": 1.0, "settings": {}})
    load_arrays(tmp_path / "a.npz", list(whole), option="--crossfit", kind="a cross-fit", fix="make one")
    save_arrays(tmp_path / "a.npz", whole | arrays, {"seconds": 1.0} | facts if isinstance(facts, dict) else facts)
    with pytest.raises(UserError, match="not a cross-fit"):
        load_arrays(tmp_path / "a.npz", list(whole), option="--crossfit", kind="a cross-fit", fix="make one")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"x_train": np.float32(3)}, "x_train"),
        ({"y_train": np.int64(3)}, "y_train"),
        ({"ids_train": np.int64(3)}, "ids_train"),
        ({"x_train": np.zeros(12, np.float32)}, "x_train"),
        ({"x_train": np.zeros((12, 0), np.float32)}, "x_train"),
        ({"y_train": np.arange(12) * 10**12}, "y_train"),
        ({"y_train": np.arange(7)}, "examples"),
        ({"x_train": np.zeros((0, 4)), "y_train": np.zeros(0, int)}, "labels"),
    ],
)
def test_arrays_of_odd_shapes_are_no_data(change: dict[str, Any], field: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **{"x_train": np.zeros((12, 4), np.float32), "y_train": np.arange(12) % 2} | change)
    with pytest.raises(UserError) as raised:
        um.load(str(tmp_path / "d.npz"))
    assert raised.value.field == field
    assert "\n" not in str(raised.value)


# --- scores ---

IDS = [str(k) for k in range(6)]
VALUES = [float(k) for k in range(6)]


@pytest.mark.parametrize(
    ("table", "about"),
    [
        *(
            ({"id": IDS, "a": VALUES}, about)
            for about in (None, "5", "[]", "null", "{", "[" * 9000, '{"a": 5}', b"\xff")
        ),
        ({"a": VALUES}, '{"a": {}}'),
        ({"id": IDS}, '{"a": {}}'),
        ({"id": [*IDS[1:], "1"], "a": VALUES}, '{"a": {}}'),
        ({"id": IDS, "a": ["x"] * 6}, '{"a": {}}'),
        ({"id": IDS, "a": [[1.0]] * 6}, '{"a": {}}'),
        ({"id": IDS, "a": [None] * 6}, '{"a": {}}'),
        ({"id": [None] * 6, "a": VALUES}, '{"a": {}}'),
        ({"id": [[1]] * 6, "a": VALUES}, '{"a": {}}'),
        ({"id": [b"\xff"] * 6, "a": VALUES}, '{"a": {}}'),
        ({"id": IDS, "a": VALUES, "a-error": ["x"] * 6}, '{"a": {}}'),
    ],
)
def test_a_damaged_table_of_scores_is_refused(table: dict[str, Any], about: Any, tmp_path: Path) -> None:
    made = pa.table(table).replace_schema_metadata(None if about is None else {"unmem": about})
    pq.write_table(made, tmp_path / "s.parquet")
    with pytest.raises(UserError, match=r"^--scores"):
        load_scores(tmp_path / "s.parquet", "a")


@RANDOM
@given(at=st.integers(0, 2000), raw=st.binary(max_size=4), cut=st.none() | st.integers(0, 2000))
def test_damaged_files_end_in_a_user_error(at: int, raw: bytes, cut: int | None) -> None:
    with TemporaryDirectory() as place:
        path = Path(place)
        pq.write_table(
            pa.table({"id": IDS, "a": VALUES}).replace_schema_metadata({"unmem": '{"a": {}}'}), path / "s.parquet"
        )
        rows = np.zeros((6, 3), np.float32)
        facts: dict[str, Any] = {"seconds": 1.0, "settings": {}}
        one = {"ids": np.array(IDS), "log_probs": rows}
        save_arrays(path / "crossfit.npz", one | {"margin": rows[:, 0], "phi": rows[:, 0]}, facts)
        save_arrays(path / "trace.npz", one | {"unseen_ids": np.array(["a"]), "unseen": rows[:1]}, facts)
        card = models.Card("mlp", (1, 2, 2), 3, "x")
        save_file({"a": torch.zeros(3)}, path / "m.safetensors", metadata=card.metadata())
        member = path / f"{files.PREFIX}a.npz"
        files.write(member, {"seed": 0}, {"kept": rows, "train_phi": rows, "seconds": np.array(1.0)})
        loaders: dict[str, Callable[[Path], object]] = {
            "s.parquet": lambda file: load_scores(file, "a"),
            "crossfit.npz": um.CrossFit.load,
            "trace.npz": um.Trace.load,
            "m.safetensors": lambda file: models.load(file, arch=None, input_shape=(1, 2, 2), n_classes=3),
            member.name: files.read,
        }
        for name, load in loaders.items():
            whole = bytearray((path / name).read_bytes())
            whole[at % len(whole) : at % len(whole) + len(raw)] = raw
            (path / name).write_bytes(bytes(whole if cut is None else whole[: cut % len(whole)]))
            with contextlib.suppress(UserError):
                load(path / name)


# --- descriptions of models ---

ODD: list[Any] = [None, 5, -1, 10**30, 1.5, True, "", "x", [], [1], {}, {"a": 1}, [[]], "\ud800", [None], 10**12]


@pytest.mark.parametrize("key", ["arch", "input_shape", "n_classes", "data", "prefix", "config", "made", "classes"])
def test_descriptions_of_other_types_are_refused_or_read(key: str, tmp_path: Path) -> None:
    model = models.build("mlp", (1, 2, 2), 3, seed=0)
    good = json.loads(models.Card("mlp", (1, 2, 2), 3).metadata()[KEY])
    for value in ODD:
        save_file(model.state_dict(), tmp_path / "m.safetensors", metadata={KEY: json.dumps(good | {key: value})})
        with contextlib.suppress(UserError):
            models.load(tmp_path / "m.safetensors", arch=None, input_shape=(1, 2, 2), n_classes=3)


@pytest.mark.parametrize(
    "forgotten",
    [{"key": "00" * 65}, {"key": "zz"}, {"key": 5}, {"hashes": 5}, {"hashes": "ab"}, {"key": None}],
)
def test_what_a_model_forgot_is_checked_when_it_is_read(forgotten: dict[str, Any]) -> None:
    whole = {"key": "00" * 16, "hashes": ["ab"], "kept": "k"}
    card = json.loads(models.Card("mlp", (1, 2, 2), 3).metadata()[KEY])
    read = card_in({KEY: json.dumps(card | {"forgotten": whole})}, Path("m"))
    assert read is not None
    assert read.forgotten is not None
    with pytest.raises(UserError, match="its description of the network cannot be read"):
        card_in({KEY: json.dumps(card | {"forgotten": whole | forgotten})}, Path("m"))


def test_a_description_with_too_many_outputs_builds_nothing(tmp_path: Path) -> None:
    state = models.build("mlp", (1, 2, 2), 3, seed=0).state_dict()
    save_file(state, tmp_path / "m.safetensors", metadata=models.Card("mlp", (1, 2, 2), 10**12).metadata())
    with pytest.raises(UserError, match="none of its weights is of that size"):
        models.load(tmp_path / "m.safetensors", arch=None, input_shape=(1, 2, 2), n_classes=3)


# --- numbers that are none ---


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_no_numbers_are_refused(value: float, tmp_path: Path) -> None:
    state = {key: one.double() for key, one in models.build("mlp", (1, 2, 2), 3, seed=0).state_dict().items()}
    key = list(state)[-1]
    state[key].view(-1)[0] = value
    save_file(state, tmp_path / "m.safetensors", metadata=models.Card("mlp", (1, 2, 2), 3).metadata())
    with pytest.raises(UserError, match=f"{key} holds NaN or infinity at 1 of 3 places"):
        models.load(tmp_path / "m.safetensors", arch=None, input_shape=(1, 2, 2), n_classes=3)
    with pytest.raises(UserError, match=f"{key} holds NaN or infinity at 1 of 3 places"):
        models.build("mlp", (1, 2, 2), 3, seed=0, base=str(tmp_path / "m.safetensors"))


class _Broken(nn.Module):
    """Gives one number for all classes of a single example."""

    def __init__(self, inner: nn.Module, at: torch.Tensor, value: float) -> None:
        super().__init__()
        self.inner, self.value = inner, value
        self.register_buffer("at", at)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        same = (x == self.at).flatten(1).all(1)
        return torch.where(same[:, None], self.value, self.inner(x))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("role", ["unlearned", "original", "retrained 2"])
def test_a_model_that_fails_on_one_example_is_named(role: str, value: float) -> None:
    data = point_splits()
    good = models.build("mlp", data.train.input_shape, 3, seed=0)
    ids = data.train.ids[36:56]
    bad = _Broken(good, data.train.take(ids).batch(torch.arange(20))[0][19], value)
    problem = um.Problem(bad if role == "original" else good, data, ids, recipe=RECIPE)
    reference = [good, bad if role == "retrained 2" else good]
    with pytest.raises(NotFiniteError, match=f"model '{role}': gives NaN or infinity for 1 of 20 examples"):
        um.evaluate({"unlearned": bad if role == "unlearned" else good}, problem, reference=reference)


# --- the system ---


def test_the_page_is_left_out_where_it_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise PageError.because("vl-convert ended with SIGTRAP")

    monkeypatch.setattr("unmem.report.page.chart_libraries", fail)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        options = ["--limit", "60", "--arch", "mlp", "--epochs", "1", "--method", "confidence,accuracy"]
        assert run("score", *options, "--out", tmp_path / "out") == (0, "")
    assert (tmp_path / "out" / "result.json").is_file()
    assert not (tmp_path / "out" / "report.html").exists()
    assert "  note  report.html: cannot be made (vl-convert ended with SIGTRAP); all other results" in out.getvalue()
    assert "Report:" not in out.getvalue()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import os; os.abort()", "SIGABRT"),
        ("raise SystemExit(3)", "exit code 3"),
        ("", "exit code 0"),
    ],
)
def test_a_crash_of_what_draws_ends_the_child_alone(script: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmem.report.libraries._SCRIPT", script)
    chart_libraries.cache_clear()
    with pytest.raises(PageError, match=reason):
        chart_libraries()


def test_what_draws_is_not_taken_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vl_convert.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "unmem.report.libraries._SCRIPT",
        "import sys; sys.path.append(sys.argv[1]); import vl_convert; print(vl_convert.__file__)",
    )
    chart_libraries.cache_clear()
    assert "site-packages" in chart_libraries()
    chart_libraries.cache_clear()


def test_no_memory_for_a_page_is_an_error_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> str:
        raise MemoryError

    monkeypatch.setattr(Report, "_html", fail)
    with pytest.raises(PageError, match="out of memory"):
        Report(title="a").html()


ENFORCED = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            MemoryError("Unable to allocate 9. TiB"),
            2,
            "unmem: out of memory (Unable to allocate 9. TiB); use a smaller",
        ),
        (RuntimeError(ENFORCED), 2, "can't allocate memory); use a smaller --batch-size"),
        (RuntimeError("CUDA out of memory. Tried"), 2, "unmem: out of memory (CUDA out of memory"),
        (OSError(12, "Cannot allocate memory"), 2, "unmem: out of memory"),
        (ImportError("a.so: failed to map segment from shared object"), 2, "unmem: out of memory"),
        (OSError(36, "File name too long", "a" * 300), 2, "cannot be read or written (File name too long); check"),
        (PermissionError(13, "Permission denied", "a/b"), 2, "unmem: 'a/b': cannot be read or written (Permission"),
        (RuntimeError("another"), 1, "a fault of unmem itself"),
        (OSError(5, "without a file"), 2, "unmem: 'a file': cannot be read or written"),
        (OSError(9, "without a file"), 1, "a fault of unmem itself"),
    ],
)
def test_the_end_of_memory_and_of_the_disk_is_one_sentence(
    error: Exception, code: int, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("unmem.cli.session.Session.open", fail)
    found, text = run("train", "--out", tmp_path / "out")
    assert (found, text.count("\n")) == (code, 1)
    assert said in text
    assert (code == 2) == (out_of_memory(error) or of_the_system(error))


def test_a_network_without_memory_is_not_called_unfit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "from torch import nn\nclass Net(nn.Linear):\n    def forward(self, x):\n        raise RuntimeError({!r})\n"
    )
    (tmp_path / "full.py").write_text(source.format(ENFORCED) + "def make(shape, n):\n    return Net(64, n)\n")
    monkeypatch.chdir(tmp_path)
    code, said = run("train", "--limit", "60", "--arch", "full.py:make", "--out", "out")
    assert code == 2
    assert said.startswith("unmem: out of memory at the step: try the network full.py:make")


LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--out", LONG],
        ["train", "--data", f"{LONG}.csv", "--out", "o"],
        ["train", "--data", LONG, "--out", "o"],
        ["forget", "--forget", LONG, "--out", "o"],
        ["forget", "--forget", "ids", "--crossfit", LONG, "--out", "o"],
        ["audit", "--forget", "ids", "--model", LONG, "--out", "o"],
        ["audit", "--forget", "ids", "--model", "ids", "--annex", f"{LONG}.csv", "--out", "o"],
        ["train", "--config", LONG, "--out", "o"],
        ["store", "ls", LONG],
        ["init", "--file", f"{LONG}.yaml", "--data", "digits"],
        ["train", "--limit", "60", "--out", "ids"],
        ["train", "--limit", "60", "--out", "ids/out"],
        [
            *[
                "score",
                "--limit",
                "60",
                "--arch",
                "mlp",
                "--epochs",
                "1",
                "--method",
                "crossfit",
                "--work",
                "ids",
                "--out",
                "o",
            ]
        ],
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_names_that_the_system_refuses_are_no_fault(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ids").write_text("1\n")
    code, said = run(*arguments)
    assert (code, said.count("\n")) == (2, 1)
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "ids"]
    assert {path.parent.name for path in kept} <= {".unfinished"}


if sys.platform == "win32":
    pytest.skip("links and pipes are those of POSIX systems", allow_module_level=True)
