"""Trainings that start from a model trained on other data."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import unmem as um
from tests.helpers import points, same_state, state_of
from tests.models.bert import LENGTH, PAD, VOCABULARY, save_bert, sentences
from unmem import models
from unmem.ensembles import complementary_masks, train_members
from unmem.errors import UserError
from unmem.training import train

SHAPE = (LENGTH,)
HEAD = {"classifier.weight", "classifier.bias"}
DATA = points(40, classes=3, features=4)
RECIPE = um.Recipe(model="mlp", epochs=0, batch_size=16)


def save_mlp(path: Path, *, classes: int, seed: int = 7) -> dict[str, torch.Tensor]:
    state = state_of(models.build("mlp", (4,), classes, seed=seed))
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    return state


def without_head(state: dict[str, torch.Tensor], *head: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if key not in head}


def test_two_trainings_start_from_the_weights_of_the_base(tmp_path: Path) -> None:
    base = save_mlp(tmp_path / "base.pth", classes=3)
    recipe = replace(RECIPE, base=str(tmp_path / "base.pth"))
    assert all(same_state(state_of(train(recipe, DATA, seed=seed)), base) for seed in (1, 2))
    assert not same_state(state_of(train(RECIPE, DATA, seed=1)), base)
    trained = [state_of(train(replace(recipe, epochs=1), DATA, seed=seed)) for seed in (1, 2)]
    assert not same_state(*trained)
    assert not same_state(trained[0], base)


def test_a_last_layer_for_other_classes_is_drawn(tmp_path: Path) -> None:
    base = save_mlp(tmp_path / "base.pth", classes=10)
    found = [state_of(models.build("mlp", (4,), 3, seed=s, base=str(tmp_path / "base.pth"))) for s in (1, 2)]
    head = ("5.weight", "5.bias")
    for seed, state in zip((1, 2), found, strict=True):
        assert same_state(without_head(state, *head), without_head(base, *head))
        assert torch.equal(state["5.weight"], models.build("mlp", (4,), 3, seed=seed).state_dict()["5.weight"])
    assert not torch.equal(found[0]["5.weight"], found[1]["5.weight"])


def test_the_callers_random_state_is_left(tmp_path: Path, random_state: torch.Tensor) -> None:
    name = f"transformers/{save_bert(tmp_path / 'bert')}"
    models.build(name, SHAPE, 3, seed=1, base=str(tmp_path / "bert"))
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("base", ["bert", "bert/model.safetensors"])
def test_a_folder_or_the_weights_in_it(tmp_path: Path, base: str) -> None:
    name = f"transformers/{save_bert(tmp_path / 'bert', seed=5)}"
    model = models.build(name, SHAPE, 3, seed=1, base=str(tmp_path / base))
    read, _ = models.load(tmp_path / "bert", arch=None, input_shape=SHAPE, n_classes=3)
    assert same_state(state_of(model), state_of(read))


def test_a_pretrained_body_has_no_head_to_give(tmp_path: Path) -> None:
    import transformers

    name = f"transformers/{save_bert(tmp_path / 'bert')}"
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.BertConfig(vocab_size=VOCABULARY, max_position_embeddings=16, pad_token_id=PAD, **shape)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        body = transformers.BertForMaskedLM(config)
    body.save_pretrained(tmp_path / "body")
    model = models.build(name, SHAPE, 3, seed=1)
    drawn = state_of(model)
    left = set(models.start_from(str(tmp_path / "body"), model, SHAPE, 3))
    assert left == HEAD | {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    theirs = {key: value for key, value in body.state_dict().items() if key.startswith("bert.")}
    assert all(torch.equal(state_of(model)[key], value) for key, value in theirs.items() if key not in left)
    assert all(torch.equal(state_of(model)[key], drawn[key]) for key in left)


def test_a_base_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    save_mlp(tmp_path / "base.pth", classes=3)
    save_file({"other": torch.zeros(3)}, tmp_path / "other.safetensors")
    (tmp_path / "empty").mkdir()
    for base, shape, said in (
        ("none.pth", (4,), "no such file"),
        ("empty", (4,), "without a config.json"),
        ("other.safetensors", (4,), "no weights match this network"),
        ("base.pth", (5,), r"1.weight has shape \(256, 4\), the network needs \(256, 5\)"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            models.build("mlp", shape, 3, seed=0, base=str(tmp_path / base))
        assert caught.value.field == "base"


def test_members_of_another_base_are_others(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1, base=str(tmp_path / "base.pth"))
    kept = complementary_masks(len(DATA), 2, seed=0)

    def files() -> set[str]:
        train_members(recipe, DATA, kept, folder=tmp_path / "members")
        return {path.name for path in (tmp_path / "members").glob("*.npz")}

    save_mlp(tmp_path / "base.pth", classes=3)
    first = files()
    assert files() == first
    save_mlp(tmp_path / "base.pth", classes=3, seed=8)
    assert len(files()) == 2 * len(first)


def test_retraining_starts_from_the_base(tmp_path: Path) -> None:
    data = sentences()
    name = f"transformers/{save_bert(tmp_path / 'bert')}"
    shutil.copytree(tmp_path / "bert", tmp_path / "base")
    recipe = um.Recipe(model=name, epochs=0, batch_size=16, base=str(tmp_path / "base"))
    model = train(recipe, data.train)
    problem = um.Problem(model, data, data.train.ids[:6], recipe=recipe)
    assert same_state(state_of(um.Retrain()(problem, seed=9)), state_of(model))
