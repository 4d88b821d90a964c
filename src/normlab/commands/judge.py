"""Is one arm better than another? A verdict on your own runs, by the statistics that normlab's findings use.

    normlab judge runs.csv --margin 0.01
    normlab judge a.parquet b.jsonl --arm optimizer --metric test/acc --first adam --margin 0.5
    normlab judge edit.csv --margin 0 --session edits.json --most 24

FILE is CSV, Parquet or JSON with one line per run; several files are read as one table (export runs from W&B,
TensorBoard or MLflow to one of these). Each row is a run with an arm, a seed and a metric; runs with the same seed are
a pair. An empty metric means that the run failed: scores are compared on the seeds on which no run failed, and failure
rates are compared separately. An interval needs eight seeds and is valid for a single look: fix the number of seeds
first.

With --session, many keep-or-discard decisions share one error: the chance of keeping anything that is no better. In a
session you may look after every seed; its file is created if it doesn't exist.

Exit status: 0 better by more than the margin (session: keep), 1 not better (discard), 2 bad input, 3 undecided.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from normlab.commands.parser import Parser, count, real
from normlab.config.schema import InputError
from normlab.findings.anyones import Pairs, pairs_of, read_tables, verdict_on
from normlab.findings.verdict import Estimate, Reason, finite
from normlab.findings.wording import estimate_words, failure_words, level_words
from normlab.folder.jsonfile import parse_json, write_json
from normlab.report.latex import escaped, table
from normlab.stats.keeping import Decision, Session

STATUS = {"supported": 0, "contradicted": 1, "undecided": 3, "keep": 0, "discard": 1, "open": 3}
WORDS = {"supported": "better", "contradicted": "not better", "undecided": "open"}


def main(arguments: Sequence[str]) -> None:
    """Read the arguments, and print the verdict.

    Raises:
        SystemExit: with 0, 1 or 3, depending on the verdict.
    """
    parser = Parser("judge", __doc__)
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    parser.add_argument("--margin", required=True, type=real(0, inclusive=True), help="least difference that matters")
    parser.add_argument("--arm", metavar="COLUMN", help="default: arm, norm, method, model, …, whichever is there")
    parser.add_argument("--seed", metavar="COLUMN", help="default: seed")
    parser.add_argument("--metric", metavar="COLUMN", help="default: the only column of floating-point numbers")
    parser.add_argument("--first", metavar="ARM", help="the arm claimed to be better (default: the first row's)")
    parser.add_argument("--lower", action="store_true", help="lower values of the metric are better")
    parser.add_argument("--alpha", type=real(0, 1), default=0.05, help="1 - level of the interval (default: 0.05)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--latex", action="store_true", help="print a table for LaTeX (booktabs)")
    parser.add_argument("--session", metavar="FILE", type=Path, help="one error for many decisions, kept in this file")
    parser.add_argument("--edits", type=count, help="for a new session: how many decisions share the error")
    parser.add_argument("--most", type=count, default=24, help="for a session: seeds after which to discard (24)")
    asked = parser.parse_args(arguments)
    pairs = pairs_of(read_tables(asked.files), asked.arm, asked.seed, asked.metric, asked.first)
    sys.exit(_in_session(asked, pairs) if asked.session else _alone(asked, pairs))


def _alone(asked: argparse.Namespace, pairs: Pairs) -> int:
    found = verdict_on(pairs, asked.margin, asked.alpha, lower=asked.lower)
    if asked.json:
        print(json.dumps(finite({"verdict": WORDS[found.state], "margin": asked.margin, **asdict(found)}), indent=1))
    elif asked.latex:
        row = [*map(escaped, pairs.arms), escaped(estimate_words(found, 4)), str(len(found.seeds)), WORDS[found.state]]
        level = escaped(level_words(1 - asked.alpha))
        header = ["Better", "than", f"Difference [{level} interval]", "$n$", "Verdict"]
        print(table("lllrl", header, [row], f"margin {asked.margin:g}, paired by seed"), end="")
    else:
        print("\n".join(_lines(asked, pairs, found)))
    return STATUS[found.state]


def _lines(asked: argparse.Namespace, pairs: Pairs, found: Estimate) -> list[str]:
    first, second = pairs.arms
    level = level_words(1 - asked.alpha)
    why = found.kind.replace("_", " ") if found.kind is not Reason.NONE else ""
    return [
        f"{WORDS[found.state]}: {first} than {second} by more than {asked.margin:g}{f' ({why})' if why else ''}",
        f"{pairs.metric}: {estimate_words(found, 4)}, {level} interval, n = {len(found.seeds)} pairs",
        *failure_words(found),
        *([f"left out: {pairs.alone} seeds of one arm only"] if pairs.alone else []),
    ]


def _in_session(asked: argparse.Namespace, pairs: Pairs) -> int:
    """Decide on one edit; if it is decided, its part of the session's error is spent."""
    session = _read(asked.session, asked.alpha, asked.edits)
    differences = [d - asked.margin for d in pairs.differences(lower=asked.lower).values()]
    try:
        decision: Decision = session.decide(differences, asked.most)
        level, least = session.level, session.seeds_at_least()
    except ValueError as error:
        raise InputError(str(error)) from None
    if decision != "open":
        write_json(asked.session, asdict(session.after(decision == "keep")))
    decided = len(session.kept) + (decision != "open")
    if asked.json:
        print(json.dumps({"decision": decision, "level": level, "n": len(differences), "decided": decided}, indent=1))
    else:
        print(
            f"{decision}: {pairs.arms[0]} against {pairs.arms[1]}, n = {len(differences)} of at most {asked.most} pairs"
        )
        print(
            f"edit {len(session.kept) + 1} may err with {level:.2g} of {session.alpha:g}: "
            f"at least {least} seeds to keep it"
        )
    return STATUS[decision]


def _read(path: Path, alpha: float, planned: int | None) -> Session:
    if not path.exists():
        return Session(alpha, planned or None)
    try:
        values: dict[str, Any] = parse_json(path.read_bytes())
        kept = values["kept"]
        if type(values["alpha"]) is not float or any(type(entry) is not bool for entry in kept):
            raise ValueError("damaged")
        session = Session(values["alpha"], values["planned"], tuple(kept))
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} is not a session, or damaged; start a new one with a new file") from None
    if planned is not None and planned != session.planned:
        raise InputError(f"--edits {planned}: {path} was started with {session.planned or 'no number of'} edits")
    if alpha not in (0.05, session.alpha):
        raise InputError(f"--alpha {alpha:g}: {path} was started with {session.alpha:g}")
    return session
