"""A folder as a user has it: reviews, a small BERT trained on them with plain transformers, and the ids of one request.

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2 -d runs/downloads
    python examples/text.py runs/text runs/downloads

Sentences of Amazon reviews with the mean rating of 20 people (Hutto & Gilbert 2014) come in the source package of
vaderSentiment (MIT licence, 2.5 MB). Sentences rated between -1 and 1 are left out. Needs transformers and tokenizers.
"""

import csv
import io
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

EPOCHS, BATCH, LR, LENGTH, VOCABULARY = 6, 32, 1e-3, 40, 4000
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def read(downloads: Path) -> list[dict[str, str]]:
    """A row for each sentence: id, text, label, user. Whoever wrote the review is its user."""
    found = sorted(downloads.glob("vader[sS]entiment-3.3.2.tar.gz"))
    if not found:
        sys.exit(
            f"no vaderSentiment-3.3.2.tar.gz in {downloads}: "
            f"pip download --no-deps --no-binary :all: vaderSentiment==3.3.2 -d {downloads}"
        )
    with tarfile.open(found[0]) as package:
        inner = next(name for name in package.getnames() if name.endswith("hutto_ICWSM_2014.tar.gz"))
        with tarfile.open(fileobj=io.BytesIO(package.extractfile(inner).read())) as data:
            file = next(name for name in data.getnames() if name.endswith("amazonReviewSnippets_GroundTruth.txt"))
            lines = data.extractfile(file).read().decode("latin-1").splitlines()
    rows = [line.split("\t") for line in lines]
    return [
        {"id": f"s{key}", "text": text, "label": "good" if float(rating) > 0 else "bad", "user": key.split("_")[0]}
        for key, rating, text in rows
        if abs(float(rating)) >= 1
    ]


def tokenizer_of(texts: list[str]) -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    wanted = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL.values()), show_progress=False
    )
    inner.train_from_iterator(texts, wanted)
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=LENGTH, **SPECIAL)


def save(rows: list[dict[str, str]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main(out: Path, downloads: Path) -> None:
    began = time.perf_counter()
    torch.set_num_threads(1)  # the same numbers on any number of cores
    torch.manual_seed(0)
    disable_progress_bar()
    rows = read(downloads)
    users = np.random.default_rng(0).permutation(sorted({row["user"] for row in rows}))
    unseen = set(users[: len(users) // 5])  # whole users, so that nobody is in both files
    train, test = ([row for row in rows if (row["user"] in unseen) is held] for held in (False, True))
    out.mkdir(parents=True, exist_ok=True)
    save(train, out / "texts.csv")
    save(test, out / "test.csv")
    tokenizer, names = tokenizer_of([row["text"] for row in train]), sorted({row["label"] for row in rows})

    def tensors(part):
        said = tokenizer([row["text"] for row in part], padding="max_length", truncation=True, return_tensors="pt")
        return said["input_ids"], torch.tensor([names.index(row["label"]) for row in part])

    (x, y), (x_test, y_test) = tensors(train), tensors(test)
    shape = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: k for k, name in enumerate(names)}}
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=LENGTH, pad_token_id=0, **shape, **labels)
    model = BertForSequenceClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=EPOCHS * -(-len(x) // BATCH))
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            model(input_ids=x[batch], attention_mask=(x[batch] != 0).long(), labels=y[batch]).loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        said = [model(input_ids=a, attention_mask=(a != 0).long()).logits.argmax(1) for a in (x, x_test)]
    reached = [(a == b).float().mean().item() for a, b in zip(said, (y, y_test), strict=True)]
    model.save_pretrained(out / "bert")
    tokenizer.save_pretrained(out / "bert")
    leaving = set(users[len(users) // 5 :][:10])  # ten users ask to be forgotten
    ids = [row["id"] for row in train if row["user"] in leaving]
    (out / "ids.txt").write_text("".join(f"{name}\n" for name in ids))
    common = max((y_test == k).float().mean().item() for k in range(2))
    print(f"accuracy  train {reached[0]:.1%}  test {reached[1]:.1%} (the more common label: {common:.1%})  ", end="")
    print(f"{time.perf_counter() - began:.0f} s")
    print(f"{out}: texts.csv ({len(train)}), test.csv ({len(test)}), bert/, ids.txt ({len(ids)} ids of 10 users)")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/text.py OUT DOWNLOADS (see the top of the file)")
    main(*map(Path, sys.argv[1:3]))
