"""The page's glossary: what a term means, shown on hover and focus, and as a list below `How to read this`."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

TERMS: dict[str, str] = {
    "arm": "One side of a comparison: a norm with its options. Each is tuned alone, with the same budget.",
    "bound": "A limit on a number that a claim states exactly. One broken bound contradicts the claim.",
    "cell": "One combination of options, of which several seeds are run.",
    "contrast": "A difference, or a ratio, between cells that a finding fixes in advance.",
    "diverged": "The loss was no longer finite. Such a run is an outcome and is counted, not left out.",
    "edge": "The best learning rate is the first or last of those tried, so a better one may lie beyond.",
    "exploratory": "An estimate with its interval. It gives no verdict, as many such numbers are looked at.",
    "interval": "The range of differences that the seeds leave possible. At a level of 99.2 %, a range made so "
    "misses the true mean in at most 8 of 1,000 studies.",
    "margin": "The smallest difference that matters, written down before there were data.",
    "n": "The number of seeds, each with a run of every arm.",
    "normalisation batch size": "The number of examples whose statistics batch norm pools. It may be less than the "
    "batch of the optimiser.",
    "paired by seed": "The arms share initial values, order of the data and noise, so that only the norm differs.",
    "primary": "The one finding that decides a claim.",
    "running statistics": "The averages of batch statistics over training, which batch norm uses in evaluation.",
    "seed": "The number that fixes a run's initial values, order of examples and noise.",
    "standard deviation": "How far the runs of one cell differ between seeds.",
    "tuning": "Choosing each arm's learning rate by validation, on seeds that are not reported.",
}
_FORMS = {  # other words that lead to the same entry
    "arms": "arm", "bounds": "bound", "cells": "cell", "contrasts": "contrast", "seeds": "seed",
    "intervals": "interval", "margins": "margin", "tuned": "tuning", "an end of the grid": "edge",
}  # fmt: skip
_WORDS = {**{term: term for term in TERMS}, **_FORMS}
_FIND = re.compile(rf"\b({'|'.join(sorted(map(re.escape, _WORDS), key=len, reverse=True))})\b")


def marked(text: str) -> Markup:
    """The text for the page, in which terms explain themselves; each once, as more would only be in the way."""
    seen: set[str] = set()

    def button(found: re.Match[str]) -> str:
        term = _WORDS[found[1]]
        if term in seen:
            return found[1]
        seen.add(term)
        return f'<button type="button" class="term" aria-describedby="{entry_id(term)}">{found[1]}</button>'

    return Markup(_FIND.sub(button, str(escape(text))))


def entry_id(term: str) -> str:
    """The id of the entry that explains a term."""
    return f"term-{term.replace(' ', '-')}"
