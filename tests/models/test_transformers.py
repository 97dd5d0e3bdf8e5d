"""Classifiers of the transformers library: from folder to module to folder, and alone in a file."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import unmem as um
from tests.helpers import same_state, state_of
from tests.models.bert import LENGTH, PAD, save_bert, tokens
from unmem import models
from unmem.errors import UserError
from unmem.models.folders import with_section
from unmem.models.transformers import Classifier

SHAPE = (LENGTH,)
DATA = tokens(12, seed=0, prefix="")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert") / "bert")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "bert"))


def load(path: Path, arch: str | None = None, classes: int = 3) -> tuple[nn.Module, models.Card]:
    model, card = models.load(path, arch=arch, input_shape=SHAPE, n_classes=classes)
    return model.eval(), card


def theirs(folder: Path) -> nn.Module:
    import transformers

    return transformers.BertForSequenceClassification.from_pretrained(folder).eval()


def test_a_folder_gives_the_logits_that_the_library_gives(folder: Path) -> None:
    model, card = load(folder)
    assert card == models.Card(f"transformers/{folder}", SHAPE, 3)
    x, _ = DATA.batch(torch.arange(12))
    assert x.dtype == torch.int64
    with torch.no_grad():
        expected = theirs(folder)(input_ids=x, attention_mask=(x != PAD).long()).logits
        assert torch.equal(model(x), expected)
        longer = torch.cat([x, torch.full((12, 4), PAD)], dim=1)
        torch.testing.assert_close(model(longer), expected, rtol=1e-4, atol=1e-5)  # padding is not seen
    assert same_state(state_of(model), state_of(theirs(folder)))


def test_dropout_is_on_in_training_and_off_in_evaluation(folder: Path) -> None:
    model, x = load(folder)[0], DATA.batch(torch.arange(4))[0]
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


def test_it_is_copied_and_pickled(folder: Path) -> None:
    model, x = load(folder)[0], DATA.batch(torch.arange(4))[0]
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), model(x))
        other.load_state_dict({key: value * 0 for key, value in other.state_dict().items()})
        assert not torch.equal(other(x), model(x))


def test_a_fresh_one_is_drawn_from_the_seed_with_the_classes_of_the_data(folder: Path) -> None:
    first, same, other = (state_of(models.build(f"transformers/{folder}", SHAPE, 7, seed=s)) for s in (1, 1, 2))
    assert first["classifier.weight"].shape == (7, 32)
    assert same_state(first, same)
    assert not same_state(first, other)


def test_a_file_alone_can_be_loaded_and_trained_anew(folder: Path, tmp_path: Path) -> None:
    model, card = load(folder)
    file = tmp_path / "alone.safetensors"
    models.save(model, card, file)
    beside, there = load(file)
    assert there.arch == card.arch
    shutil.rmtree(folder)
    alone, card = load(file)
    assert card.arch == f"transformers/{file}"
    assert all(same_state(state_of(one), state_of(model)) for one in (alone, beside))
    assert models.arch_at(file) == card.arch
    fresh = models.build(card.arch, SHAPE, 3, seed=0)
    assert list(fresh.state_dict()) == list(model.state_dict())


def test_the_weights_in_a_folder_are_of_the_network_beside_them(folder: Path) -> None:
    model, card = load(folder / "model.safetensors")
    assert card.arch == f"transformers/{folder}"
    assert same_state(state_of(model), state_of(load(folder)[0]))


def test_another_config_json_beside_a_file_means_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"lr": 0.1}')
    mlp = models.build("mlp", SHAPE, 3, seed=0)
    torch.save(mlp.state_dict(), tmp_path / "a.pt")
    assert load(tmp_path / "a.pt")[1].arch == "mlp"


def test_images_are_taken_too(tmp_path: Path) -> None:
    import transformers

    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=8, patch_size=4
    )
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    model, _ = models.load(tmp_path / "vit", arch=None, input_shape=(3, 8, 8), n_classes=2)
    x = torch.randn(2, 3, 8, 8)
    assert isinstance(model, Classifier)
    assert torch.equal(model(x), model.inner(pixel_values=x).logits)


def test_wrong_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 3 outputs, but labels go up to 4, which needs 5"):
        load(folder, classes=5)
    with pytest.raises(UserError, match=r"a folder without a config\.json"):
        load(tmp_path)
    with pytest.raises(UserError, match=r"has no config\.json that can be read"):
        models.build(f"transformers/{tmp_path}", SHAPE, 3, seed=0)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "berta"}))
    for wrong in (lambda: load(folder), lambda: models.build(f"transformers/{folder}", SHAPE, 3, seed=0)):
        with pytest.raises(UserError, match="transformers cannot take it"):
            wrong()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="transformers cannot take it"):
        load(folder)


def test_a_model_without_a_head_is_no_classifier(folder: Path) -> None:
    bare = theirs(folder).get_submodule("bert")
    shutil.rmtree(folder)
    bare.save_pretrained(folder)
    with pytest.raises(UserError, match=r"2 missing \(classifier\.bias.*train it as a classifier first"):
        load(folder)


def test_without_the_library_its_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'unmem\[hf\]'"):
        load(folder)


# --- as it came ------------------------------------------------------------------------------------------------------


def test_it_is_written_as_it_came(folder: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "trainer_state.json", "train.csv"):
        (folder / name).write_text(name)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n\nWords.\n")
    model = load(folder)[0]
    um.fit(model, DATA, um.Recipe(epochs=1, batch_size=4), seed=0)
    out = tmp_path / "unlearned"
    models.save_like(folder, model, out, {"method": "neggrad+", "seed": "0"})
    assert sorted(path.name for path in out.iterdir()) == [
        *("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"),
    ]
    assert same_state(state_of(theirs(out)), state_of(model))
    readme = (out / "README.md").read_text()
    assert readme.startswith("---\nlicense: mit\n---\n# Mine\n\nWords.\n\n## Unlearning\n")
    assert "| method | neggrad+ |\n| seed | 0 |\n" in readme
    models.save_like(out, model, tmp_path / "again", {"method": "ssd"})
    again = (tmp_path / "again" / "README.md").read_text()
    assert again.count("## Unlearning") == 1
    assert "neggrad+" not in again
    assert "| method | ssd |" in again


def test_a_section_is_replaced_where_it_stands() -> None:
    before = "# Mine\n\n## Unlearning\n\nOld.\n\n### Detail\n\nOlder.\n\n## Training\n\nKept.\n"
    after = with_section(before, {"seed": r"\1"})
    assert after.startswith("# Mine\n\n## Unlearning\n")
    assert after.endswith("| seed | \\1 |\n\n## Training\n\nKept.\n")
    assert "Old" not in after
    assert with_section(after, {"seed": r"\1"}) == after
