"""Texts to model as streams of tokens. Imports no torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from normlab.config.schema import InputError, Sizes
from normlab.data import source
from normlab.data.fitted import Fitted, encoder, fit_text
from normlab.data.material import Builder, Material
from normlab.files.folders import SPLITS
from normlab.views import columns, text
from normlab.views.sequences import Arrays


def language(builder: Builder, read: source.Read, origin: str) -> Material:
    """One stream of tokens per split: an end token, then each document followed by an end token."""
    task, known = builder.task, builder.known
    documents: dict[str, list[str]] = {}
    for split in builder.wanted(read):
        with builder.of(split):
            documents[split] = list(columns.texts(columns.column(read[split](), str(task.input))).values)
    if "validation" not in documents and "train" in documents:
        documents["train"], documents["validation"] = _cut_end(documents["train"], task.validation)
        builder.held_out = True
    if known is None:
        vocabulary, tokenizer = fit_text(task, documents["train"])
        fitted = Fitted(vocabulary=vocabulary, tokenizer=tokenizer)
    else:
        documents.pop("train", None)
        fitted = known
    assert fitted.vocabulary is not None
    ids, encode = len(fitted.vocabulary), encoder(task, fitted.vocabulary, fitted.tokenizer)
    end = np.array([text.END], np.int32)
    arrays: Arrays = {}
    for split in (split for split in SPLITS if split in documents):
        pieces = [end, *(piece for document in documents[split] for piece in (encode(document), end))]
        arrays[f"{split}.tokens"] = np.concatenate(pieces).astype(text.compact(ids))
    window = task.max_length
    assert window is not None
    if known is None and len(arrays["train.tokens"]) <= window:
        raise InputError(
            f"the training text has {len(arrays['train.tokens']) - 1} tokens, fewer than one window of "
            f"task.max_length={window}"
        )
    characters = {split: sum(len(document) + 1 for document in found) for split, found in documents.items()}
    sizes = Sizes("tokens", (window,), ids, vocabulary=ids, positions=window, causal=True)
    return replace(builder.finish(sizes, fitted, arrays, origin), characters=characters)


def _cut_end(documents: list[str], share: float) -> tuple[list[str], list[str]]:
    """The documents before the last `share` of all characters, and the rest; a document may be cut in two."""
    left = round(sum(map(len, documents)) * (1 - share))
    for i, document in enumerate(documents):
        if left < len(document):
            return [*documents[:i], document[:left]], [document[left:], *documents[i + 1 :]]
        left -= len(document)
    raise InputError("the training text is too short to hold out a validation text from it")
