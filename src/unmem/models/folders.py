"""A model of the transformers library as a folder, in the form in which the original came."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from unmem.models.card import CARD, KEY, Card
from unmem.models.transformers import Classifier, is_folder, save_pretrained

# Files of tokenizers and image processors begin so; nothing else is taken over, such as a trainer's logs or data.
_BESIDE = (
    *("tokenizer", "vocab", "merges", "special_tokens", "added_tokens", "spiece", "sentencepiece", "chat_template"),
    *("preprocessor", "processor"),
)
_HEADING = "## Unlearning"


def folder_of(source: Path) -> Path | None:
    """The folder of save_pretrained that a model was read from, by its own path or that of the weights in it."""
    return next((path for path in (source, source.parent) if is_folder(path)), None)


def save_like(source: Path, model: nn.Module, path: Path, about: Mapping[str, str], card: Card | None = None) -> None:
    """Write the model to a new folder as save_pretrained does, with the tokenizer files of the folder `source`.

    about: by name, what the section Unlearning of its README.md says; the rest of the original's is kept. card: goes
    beside them.
    """
    if not isinstance(model, Classifier):
        raise TypeError(f"a {type(model).__name__} is no model of transformers")
    path.mkdir()
    save_pretrained(model, path)
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name.startswith(_BESIDE):
            shutil.copyfile(file, path / file.name)
    if card is not None:
        (path / CARD).write_text(card.metadata()[KEY], encoding="utf-8")
    readme = source / "README.md"
    before = readme.read_text(encoding="utf-8") if readme.is_file() else "# Model card\n"
    (path / "README.md").write_text(with_section(before, about), encoding="utf-8")


def with_section(readme: str, about: Mapping[str, str]) -> str:
    """The text with its section Unlearning replaced, or added at its end."""
    rows = "".join(f"| {name} | {value} |\n" for name, value in about.items())
    section = (
        f"{_HEADING}\n\nSome of the training examples of this model were forgotten afterwards, with unmem.\n\n"
        f"| | |\n|---|---|\n{rows}"
    )
    old = re.compile(rf"^{_HEADING}[ \t]*\n.*?(?=^#{{1,2}} |\Z)", re.MULTILINE | re.DOTALL)
    if old.search(readme):
        return old.sub(lambda found: section + ("\n" if found.end() < len(readme) else ""), readme, count=1)
    return f"{readme.rstrip()}\n\n{section}"
