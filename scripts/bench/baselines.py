"""Classical baselines on the embedded packs: what a network must beat to be worth its training.

    python scripts/bench/baselines.py                     all of them, on validation
    python scripts/bench/baselines.py --task author       one
    python scripts/bench/baselines.py --test              the test split too

Needs scikit-learn: the extra `baselines`, which `make setup` installs.
"""

from __future__ import annotations

from normlab.stopping.program import begin

begin(__name__)

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

import normlab.data
from char_ngram import Ids, WittenBell

PACKS = Path(str(normlab.data.__file__)).parent / "packs"
WORDS = 256  # as the task `author` truncates
CONTEXTS = (3, 4, 5)  # characters before the predicted one
TREES = 300
QUANTILES = (0, 0.25, 0.5, 0.75, 1)
COLOURS = 4  # levels of each channel in a histogram of colours
SEPARATOR = "\n"  # between addresses, as in the task `union`

Result = tuple[str, str, list[float]]  # model, metric, its value on each split
Baseline = Callable[[Sequence[str]], Iterator[Result]]


def columns(pack: str, split: str) -> dict[str, list[Any]]:
    """Column → values of one split of a pack."""
    return pq.read_table(sorted(PACKS.glob(f"{pack}-{split}*.parquet"))).to_pydict()


def fashion_mnist(splits: Sequence[str]) -> Iterator[Result]:
    def pixels(split: str) -> tuple[NDArray[np.float32], list[int]]:
        data = columns("fashion_mnist", split)
        images = np.frombuffer(b"".join(data["image"]), np.uint8).reshape(-1, 28 * 28)
        return images.astype(np.float32) / np.float32(255), data["label"]

    model = LogisticRegression(C=0.1, tol=5e-4, max_iter=500).fit(*pixels("train"))
    yield "logistic regression on pixels", "accuracy", [float(model.score(*pixels(split))) for split in splits]


def word_stress(splits: Sequence[str]) -> Iterator[Result]:
    words = {split: columns("word_stress", split) for split in {"train", *splits}}

    def score(vectorizer: Any) -> list[float]:
        features = vectorizer.fit_transform(words["train"]["spelling"])
        model = LogisticRegression(tol=5e-4, max_iter=500).fit(features, words["train"]["stress"])
        data = [words[split] for split in splits]
        return [float(model.score(vectorizer.transform(part["spelling"]), part["stress"])) for part in data]

    plain = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), min_df=2)
    yield "logistic regression on character 1- to 3-grams, tf-idf", "accuracy", score(plain)
    strong = CountVectorizer(analyzer="char_wb", ngram_range=(1, 4), min_df=2, binary=True)
    yield "logistic regression on character 1- to 4-grams, present or not", "accuracy", score(strong)


def union(splits: Sequence[str]) -> Iterator[Result]:
    texts = {split: SEPARATOR.join(columns("union", split)["text"]) for split in {"train", *splits}}
    alphabet = {character: i for i, character in enumerate(sorted(set(texts["train"])))}
    unknown = len(alphabet)

    def ids(split: str) -> Ids:
        return np.array([alphabet.get(character, unknown) for character in texts[split]], np.int64)

    train = ids("train")
    for context in CONTEXTS:
        model = WittenBell(train, unknown + 1, context)
        name = f"Witten-Bell interpolated {context + 1}-gram ({context} characters of context)"
        yield name, "bits per character", [model.bits_per_character(ids(split)) for split in splits]


def author(splits: Sequence[str]) -> Iterator[Result]:
    def texts(split: str) -> tuple[list[str], list[str]]:
        data = columns("author", split)
        return [" ".join(text.split()[:WORDS]) for text in data["text"]], data["author"]

    train, authors = texts("train")
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    model = LogisticRegression(C=10, max_iter=300).fit(vectorizer.fit_transform(train), authors)
    scored = [(vectorizer.transform(paragraphs), names) for paragraphs, names in map(texts, splits)]
    yield "logistic regression on words, tf-idf", "accuracy", [float(model.score(*pair)) for pair in scored]


def mnist1d(splits: Sequence[str]) -> Iterator[Result]:
    def signals(split: str) -> tuple[NDArray[np.float32], list[int]]:
        data = columns("mnist1d", split)
        return np.array(data["signal"], np.float32), data["digit"]

    linear = LogisticRegression(max_iter=500).fit(*signals("train"))
    yield "logistic regression on the 40 numbers", "accuracy", [float(linear.score(*signals(s))) for s in splits]
    trees = ExtraTreesClassifier(TREES, random_state=0).fit(*signals("train"))
    yield f"{TREES} extremely randomised trees on them", "accuracy", [float(trees.score(*signals(s))) for s in splits]


def wrist_motion(splits: Sequence[str]) -> Iterator[Result]:
    def summaries(split: str) -> tuple[NDArray[np.float32], list[str]]:
        data = columns("wrist_motion", split)
        return np.stack([_summary(np.array(motion, np.float32)) for motion in data["motion"]]), data["exercise"]

    trees = ExtraTreesClassifier(TREES, random_state=0).fit(*summaries("train"))
    scores = [float(trees.score(*summaries(split))) for split in splits]
    yield f"{TREES} extremely randomised trees on a window's statistics", "accuracy", scores


def _summary(motion: NDArray[np.float32]) -> NDArray[np.float32]:
    """Statistics of each of six channels, and their correlations."""
    return np.concatenate(
        [
            motion.mean(0),
            motion.std(0),
            *np.quantile(motion, QUANTILES, axis=0),
            np.abs(np.diff(motion, axis=0)).mean(0),
            np.asarray(np.corrcoef(motion.T))[np.triu_indices(motion.shape[1], 1)],
        ]
    )


def emoji(splits: Sequence[str], test: str = "emoji") -> Iterator[Result]:
    """`test` is the pack of the test split."""
    train, categories = _drawings("emoji", "train")
    sets = [_drawings(test if split == "test" else "emoji", split) for split in splits]
    linear = LogisticRegression(C=0.01, tol=5e-4, max_iter=500).fit(_flat(train), categories)
    yield "logistic regression on pixels", "accuracy", [float(linear.score(_flat(x), y)) for x, y in sets]
    trees = ExtraTreesClassifier(TREES, random_state=0).fit(_colours(train), categories)
    name = f"{TREES} extremely randomised trees on colours and 8 x 8 pixels"
    yield name, "accuracy", [float(trees.score(_colours(x), y)) for x, y in sets]


def _drawings(pack: str, split: str) -> tuple[NDArray[np.float32], list[str]]:
    data = columns(pack, split)
    images = np.frombuffer(b"".join(data["image"]), np.uint8).reshape(-1, 3, 32, 32)
    return images.astype(np.float32) / np.float32(255), data["category"]


def _flat(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return images.reshape(len(images), -1)


def _colours(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """A histogram of colours, and the image at a quarter of its side."""
    levels = np.minimum((images * COLOURS).astype(np.int64), COLOURS - 1)
    kinds = ((levels[:, 0] * COLOURS + levels[:, 1]) * COLOURS + levels[:, 2]).reshape(len(images), -1)
    shares = np.stack([np.bincount(image, minlength=COLOURS**3) for image in kinds]) / kinds.shape[1]
    coarse = images.reshape(len(images), 3, 8, 4, 8, 4).mean((3, 5))
    return np.concatenate([np.sqrt(shares), _flat(coarse)], 1)


BASELINES: dict[str, Baseline] = {
    "fashion_mnist": fashion_mnist,
    "word_stress": word_stress,
    "union": union,
    "author": author,
    "mnist1d": mnist1d,
    "wrist_motion": wrist_motion,
    "emoji": emoji,
    "emoji_shift": partial(emoji, test="emoji_twitter"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=BASELINES, help="only this one")
    parser.add_argument("--test", action="store_true", help="read the test split too")
    arguments = parser.parse_args()
    splits = ("validation", "test") if arguments.test else ("validation",)

    print(f"{'task':14} {'baseline':64} {'metric':18} " + " ".join(f"{split:>10}" for split in splits))
    with threadpool_limits(1):  # small matrices: BLAS threads only wait for one another
        for task in [arguments.task] if arguments.task else BASELINES:
            started = time.monotonic()
            for model, metric, values in BASELINES[task](splits):
                figures = " ".join(f"{value:10.4f}" for value in values)
                print(f"{task:14} {model:64} {metric:18} {figures}", flush=True)
            print(f"{'':14} {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
