"""Texts by real tokenizers that the tests make: whole words with numbers of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import unmem as um
from unmem.errors import UserError

tokenizers = pytest.importorskip("tokenizers")
WORDS = {"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 3, "film": 4, "very": 5}
TEXTS = ["good film", "bad film", "very very good film", "bad"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return path


@pytest.fixture(scope="module")
def folder(tokenizer: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tokenizer), pad_token="[PAD]", unk_token="[UNK]")
    path = tokenizer.parent / "saved"
    fast.save_pretrained(path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "films.csv"
    path.write_text("words,label\n" + "".join(f"{TEXTS[k % 4]},{('pos', 'neg')[k % 2]}\n" for k in range(20)))
    return path


class MeanOfWords(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.classes = torch.nn.Embedding(len(WORDS), 8), torch.nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classes(self.words(x).mean(1))


def expected(name: str, length: int = 4) -> list[int]:
    tokens = [WORDS[word] for word in TEXTS[int(name) % 4].split()][:length]
    return tokens + [0] * (length - len(tokens))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_texts_become_padded_token_ids(
    file: Path, tokenizer: Path, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    where = tokenizer if kind == "file" else request.getfixturevalue("folder")
    splits = um.load(file, text="words", tokenizer=where)
    assert splits.classes == ("neg", "pos")
    for part in splits.parts.values():
        assert part.scaling is None
        assert part.inputs.dtype == torch.int64
        assert part.inputs.tolist() == [expected(name) for name in part.ids]
    x, _ = splits.train.batch(torch.arange(3))
    assert x.dtype == torch.int64
    short = um.load(file, text="words", tokenizer=where, max_length=2).train
    assert short.inputs.tolist() == [expected(name, 2) for name in short.ids]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({}, "tokenizer: texts need one"),
        ({"tokenizer": "nowhere"}, "tokenizer 'nowhere': no such file or folder"),
        ({"tokenizer": "films.csv"}, "cannot be read"),
        ({"tokenizer": "."}, "the folder holds no tokenizer"),
        ({"tokenizer": "tokenizer.json", "max_length": 0}, "max_length 0: must be 1 or more"),
        ({"tokenizer": "tokenizer.json", "scaling": "unit"}, "scaling 'unit': a table does not use it"),
    ],
)
def test_texts_without_a_usable_tokenizer_are_refused(
    file: Path, setting: dict, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=said):
        um.load(file, text="words", **setting)


def test_a_tokenizer_without_padding_is_refused(file: Path, tmp_path: Path) -> None:
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "good": 1}, unk_token="[UNK]"))
    made.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="has no padding token"):
        um.load(file, text="words", tokenizer=tmp_path / "tokenizer.json")


def test_texts_have_curvature_by_their_embeddings_and_only_exact_copies(file: Path, tokenizer: Path) -> None:
    splits = um.load(file, text="words", tokenizer=tokenizer)
    with pytest.raises(UserError, match=r"this model has no nn\.Embedding"):
        um.curvature(torch.nn.Identity(), splits.train)
    curved = um.curvature(MeanOfWords(), splits.train)
    assert (curved.values > 0).all()
    for text in range(len(TEXTS)):  # the same text and label, the same curvature
        values = curved.values[[int(name) % 4 == text for name in curved.ids]]
        assert values == pytest.approx(values[0], rel=1e-3)
    found = um.find_copies(splits.train.at(splits.train.ids == splits.train.ids[0]), splits.train, unseen=splits.test)
    assert {one.kind for one in found.pairs} == {"exact"}
    assert all(int(one.retain_id) % 4 == int(splits.train.ids[0]) % 4 for one in found.pairs)


# --- padding: what the model is told is what the tokenizer says ---


@pytest.mark.parametrize(
    ("config", "side", "outcome"),
    [
        ({"pad_token_id": 0}, "right", 0),
        ({"pad_token_id": 0}, "left", 0),
        ({"pad_token_id": 90}, "right", 90),  # no text holds it, so that the model's own mask is the tokenizer's
        ({"pad_token_id": 4}, "right", "it pads with token 0, but the model's pad_token_id is 4"),
        ({"pad_token_id": None}, "right", "would read the padding as text"),
        (None, "left", 0),
    ],
    ids=["same", "left", "other", "hides-a-token", "none", "no-config"],
)
def test_padding_is_that_of_the_tokenizer_and_the_model(
    config: dict | None, side: str, outcome: int | str, tmp_path: Path
) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "a": 2, "b": 3, "c": 4}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.enable_padding(direction=side, pad_id=0, pad_token="[PAD]")
    made.save(str(tmp_path / "tokenizer.json"))
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"} | config))
    texts = ["a b c", "b", "c a"] * 8
    rows = "".join(f"{text},{k % 2}\n" for k, text in enumerate(texts))
    (tmp_path / "texts.csv").write_text(f"words,label\n{rows}")
    how = {"text": "words", "tokenizer": tmp_path / "tokenizer.json"}
    if isinstance(outcome, str):
        with pytest.raises(UserError, match=outcome):
            um.load(tmp_path / "texts.csv", **how)
        return
    made.no_padding()
    for part in um.load(tmp_path / "texts.csv", **how).parts.values():
        for name, row in zip(part.ids, part.inputs, strict=True):
            text = made.encode(texts[int(name.rpartition("-")[2])])
            filled = [outcome] * (3 - len(text.ids))
            assert row.tolist() == (filled + text.ids if side == "left" else text.ids + filled)


# --- texts longer than the model takes: said, never silent ---

LONG = "good film very good very bad film"  # 7 words


def long_texts(folder: Path, kind: str, config: dict | None, known: int | None = None) -> tuple[Path, Path]:
    """A table in which one of 20 texts has 7 words and the others two, and a tokenizer that adds a last token."""
    transformers = pytest.importorskip("transformers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS | {"[SEP]": 6}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(single="$A [SEP]", special_tokens=[("[SEP]", 6)])
    made.save(str(folder / "tokenizer.json"))
    if kind == "folder":
        more = {} if known is None else {"model_max_length": known}
        fast = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]", unk_token="[UNK]", **more
        )
        fast.save_pretrained(folder)
    if config is not None:
        (folder / "config.json").write_text(json.dumps({"pad_token_id": 0} | config))
    rows = [f"{LONG if k == 4 else 'good film'},{k % 2}\n" for k in range(20)]
    (folder / "texts.csv").write_text("words,label\n" + "".join(rows))
    return folder / "texts.csv", folder if kind == "folder" else folder / "tokenizer.json"


BERT, ROBERTA, T5 = {"model_type": "bert"}, {"model_type": "roberta", "pad_token_id": 0}, {"model_type": "t5"}


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize(
    ("config", "asked", "length"),
    [
        (BERT | {"max_position_embeddings": 5}, 128, 5),
        (BERT | {"max_position_embeddings": 8}, 128, 8),
        (BERT | {"max_position_embeddings": 512}, 128, 8),
        (BERT | {"max_position_embeddings": 512}, 4, 4),
        (BERT | {"max_position_embeddings": 5}, 4, 4),
        (ROBERTA | {"max_position_embeddings": 7}, 128, 6),  # positions begin after the padding token
        ({"model_type": "gpt2", "n_positions": 6}, 128, 6),
        (T5 | {"n_positions": 5}, 128, 8),  # relative
        (BERT, 128, 8),
        (None, 6, 6),
        (None, 128, 8),
    ],
)
def test_texts_are_cut_at_what_the_model_takes_and_that_is_said(
    config: dict | None, asked: int, length: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file, tokenizer = long_texts(tmp_path, kind, config)
    splits = um.load(file, text="words", tokenizer=tokenizer, max_length=asked)
    assert splits.train.input_shape == (length,)
    rows = [row.tolist() for part in splits.parts.values() for row in part.inputs]
    whole = [WORDS[word] for word in LONG.split()]
    assert [*whole[: length - 1], 6] in rows  # the last token stays where it belongs
    said = " ".join(splits.notes)
    why = "which is all that the model takes" if length < asked else "by --max-length"
    assert (f"1 of 20 texts were cut off after {length} tokens, {why}" in said) == (length < 8)
    assert ("were cut off" in said) == (length < 8)


@pytest.mark.parametrize(("known", "length"), [(5, 5), (10**30, 8), (None, 8)])
def test_what_the_tokenizer_knows_of_its_model_counts_too(
    known: int | None, length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file, tokenizer = long_texts(tmp_path, "folder", None, known)
    assert um.load(file, text="words", tokenizer=tokenizer).train.input_shape == (length,)
