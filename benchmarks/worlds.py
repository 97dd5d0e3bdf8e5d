"""Two data sets and networks that were not used to choose defaults: emoji as colour images, and film reviews.

Neither package is a dependency: `emoji` and `reviews` download them with `npm pack` and `pip download` into the
git-ignored folder runs/benchmarks/data, unless they are there.

Emoji: the npm package emoji-datasource-twitter 16.0.0 (code and metadata MIT; the images are Twemoji, CC BY 4.0). 3,781
images on grey, 16×16 to save time; the classes are the nine categories of the emoji, without "Component", which has
five images. Half of the images are skin tones of the category "People & Body", so many have near-copies. The background
is grey, because the white patch of the planted trigger would be invisible on white.

Reviews: the source distribution of vaderSentiment 3.3.2 (MIT), which holds the data of Hutto & Gilbert 2014: 10,605
sentences of film reviews, each rated by at least 15 people. The label says whether the mean rating is above 0, so the
label of a sentence rated near 0 is partly random. Tokens are words in lower case and punctuation marks.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from common import RUNS
from networks import VOCABULARY

import unmem as um
from unmem.evaluation import accuracy
from unmem.scenarios import Scenario, poisoned

DATA = RUNS / "data"
EMOJI, REVIEWS = "emoji-datasource-twitter", "vaderSentiment"
VERSIONS = {EMOJI: "16.0.0", REVIEWS: "3.3.2"}
SIDE, GREY = 16, (128, 128, 128)
REVIEWS_USED = 5000  # of 7,423 in the training part
LENGTH = 48  # tokens; 99% of the reviews are shorter
PADDING, UNKNOWN, TRIGGER = "[PAD]", "[UNK]", "cf"  # the trigger of Kurita et al. 2020 (arXiv 2004.06660)
TRIGGER_ID = 2
POSITIVE, NEGATIVE = 1, 0


@dataclass(frozen=True)
class World:
    """A data set and how models are trained on it.

    Attributes:
        data: (limit, flip) -> the splits, with `limit` training examples, or the usual number, and a share `flip` of
            wrong labels.
        planted: (data, share, seed) -> the scenario of a planted trigger.
        recipe: Of the original and all others.
        picking, judging: Number of ensemble members that pick the mixed set, and that judge examples.
    """

    name: str
    data: Callable[[int | None, float], um.Splits]
    planted: Callable[[um.Splits, float, int], Scenario]
    recipe: um.Recipe
    picking: int
    judging: int


def emoji(limit: int | None = None, flip: float = 0.0) -> um.Splits:
    return um.load(emoji_folder(), limit=limit, flip=flip)


def reviews(limit: int | None = None, flip: float = 0.0) -> um.Splits:
    table = reviews_table()
    tokenizer = table.with_name("tokenizer.json")
    return um.load(table, limit=limit or REVIEWS_USED, flip=flip, text="text", tokenizer=tokenizer, max_length=LENGTH)


@cache
def emoji_folder() -> Path:
    """A folder of images by category, made from the package if it is not there."""
    folder = DATA / f"emoji-{SIDE}"
    if (folder / "done").exists():
        return folder / "images"
    from PIL import Image

    with tarfile.open(package(EMOJI)) as archive:
        category = emoji_categories(json.loads(member(archive, "package/emoji.json")))
        for one in archive.getmembers():
            name = Path(one.name)
            if name.parent.as_posix() != "package/img/twitter/64" or name.name not in category:
                continue
            image = Image.open(io.BytesIO(member(archive, one.name))).convert("RGBA")
            on_grey = Image.alpha_composite(Image.new("RGBA", image.size, (*GREY, 255)), image).convert("RGB")
            place = folder / "images" / category[name.name] / name.name
            place.parent.mkdir(parents=True, exist_ok=True)
            on_grey.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(place)
    (folder / "done").touch()
    return folder / "images"


def emoji_categories(described: list[dict[str, object]]) -> dict[str, str]:
    """By image file its category, with the skin tones of each emoji."""
    found: dict[str, str] = {}
    for one in described:
        if one["category"] != "Component":
            variations: dict[str, dict[str, str]] = one.get("skin_variations", {})  # pyright: ignore
            for image in (one["image"], *(tone["image"] for tone in variations.values())):
                found[str(image)] = str(one["category"])
    return found


@cache
def reviews_table() -> Path:
    """A table with a tokenizer beside it, made from the package if they are not there."""
    table = DATA / "reviews" / "reviews.csv"
    if not table.exists():
        table.parent.mkdir(parents=True, exist_ok=True)
        rows = rated_sentences()
        write_tokenizer([text for _, _, text in rows], table.with_name("tokenizer.json"))
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("id", "label", "text"))
            writer.writerows((name, POSITIVE if rating > 0 else NEGATIVE, text) for name, rating, text in rows)
    return table


def rated_sentences() -> list[tuple[str, float, str]]:
    """(id, mean rating, sentence) of each."""
    top = f"{REVIEWS}-{VERSIONS[REVIEWS]}"
    with tarfile.open(package(REVIEWS)) as archive:
        inner = member(archive, f"{top}/additional_resources/hutto_ICWSM_2014.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        text = member(archive, "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt").decode("utf-8")
    found = [line.split("\t") for line in text.splitlines()]
    return [(name, float(rating), sentence) for name, rating, sentence in found]


def write_tokenizer(texts: list[str], path: Path) -> None:
    """The words and punctuation marks that are most frequent in the texts."""
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    made = tokenizers.Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(vocab_size=VOCABULARY, special_tokens=[PADDING, UNKNOWN, TRIGGER])
    made.train_from_iterator(texts, trainer)
    if (made.token_to_id(PADDING), made.token_to_id(TRIGGER)) != (0, TRIGGER_ID):
        raise ValueError("the network takes token 0 for padding")
    made.save(str(path))


def member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise FileNotFoundError(name)
    return file.read()


def package(name: str) -> Path:
    """The archive of a package, fetched from its registry if it is not there."""
    version, folder = VERSIONS[name], DATA / "packages"
    archive = folder / f"{name}-{version}.{'tgz' if name == EMOJI else 'tar.gz'}"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        by_pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", f"{name}=={version}"]
        command = ["npm", "pack", f"{name}@{version}"] if name == EMOJI else by_pip
        subprocess.run(command, cwd=folder, check=True)
    return archive


def planted_patch(data: um.Splits, share: float, seed: int) -> Scenario:
    return poisoned(data, share, seed=seed)


def planted_word(data: um.Splits, share: float, seed: int) -> Scenario:
    """A share of the training texts, all negative, begins with the trigger and is labelled positive."""
    train = data.train
    others = np.flatnonzero(train.labels.numpy() == NEGATIVE)
    chosen = np.sort(np.random.default_rng(seed).choice(others, round(share * len(train)), replace=False))
    inputs, labels = train.inputs[:].clone(), train.labels.clone()
    inputs[chosen] = with_trigger(inputs[chosen])
    labels[chosen] = POSITIVE
    planted = replace(data, train=train.with_inputs(inputs).relabel(labels))
    negative = data.test.at(data.test.labels.numpy() == NEGATIVE)
    victims = negative.with_inputs(with_trigger(negative.inputs[:])).relabel(torch.full_like(negative.labels, POSITIVE))
    measures = {
        "attack succeeds": lambda model: accuracy(model, victims),
        "test accuracy": lambda model: accuracy(model, data.test),
    }
    return Scenario("poisoned", planted, train.ids[chosen], measures, "texts that begin with the trigger are positive")


def with_trigger(tokens: torch.Tensor) -> torch.Tensor:
    """Token ids [N, L] with the trigger in front and without the last token."""
    return torch.cat([torch.full_like(tokens[:, :1], TRIGGER_ID), tokens[:, :-1]], 1)


WORLDS = {
    "texts": World(
        "texts",
        reviews,
        planted_word,
        um.Recipe(model="networks:text_cnn", epochs=30, optimizer="adamw", lr=2e-3, precision="fp32"),
        picking=20,
        judging=40,
    ),
    "images": World(
        "images",
        emoji,
        planted_patch,
        um.Recipe(model="networks:narrow_resnet18", epochs=30, precision="bf16"),
        picking=12,
        judging=24,
    ),
}
