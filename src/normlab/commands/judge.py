"""Is one arm better than another? A verdict on your own runs, by the statistics that normlab's findings use.

    normlab judge runs.csv --margin 0.01
    normlab judge lightning_logs --arm optimizer --arms adam sgd \\
        --metric val/acc --value max --margin 0.5
    normlab judge wandb:team/project --metric val/acc --margin 1 --page a.html
    normlab judge edit.csv --margin 0 --session edits.json --most 24

FILE is a table (CSV, Parquet, or JSON with a line per run), or a folder of runs logged by W&B, TensorBoard, MLflow,
Lightning's CSVLogger or normlab itself, or a project on W&B's server; several are read together. A run has an arm, a
seed and a metric, and runs of one seed are a pair. If the arms share no seeds they are compared without pairs, which
takes more runs. A run whose metric is empty or NaN failed: scores are compared where no run did, and rates of failure
on their own. An interval needs eight seeds, and is for a single look: fix the number of seeds first.

With --session, many keep-or-discard decisions share one error: the chance that anything is kept that is no better.
There one may look after every seed, taking seeds in ascending order, and a failed run counts against its arm. FILE is
made if it isn't there. The same runs are decided once: repeating the command repeats the answer.

Exit status: 0 better by more than the margin (session: keep), 1 not better (discard), 2 bad input, 3 undecided.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from normlab.command_line.columns import width_of, wrapped
from normlab.commands.parser import Parser, count, new_file, real
from normlab.config.schema import InputError
from normlab.findings.printable import printable
from normlab.findings.stored import finite
from normlab.findings.verdict import Estimate, Reason
from normlab.findings.wording import failure_words, level_words
from normlab.folder.files import read_regular
from normlab.folder.jsonfile import parse_json, write_json
from normlab.logs.columns import Asked, Found, find
from normlab.logs.doubts import doubts
from normlab.logs.own_runs import Arms, verdict_on
from normlab.logs.run import AT
from normlab.logs.said import numbers_said, rates_said, runs_said, scored
from normlab.logs.sources import FOLDERS, read
from normlab.stats.keeping import Decision, Session

STATUS = {"supported": 0, "contradicted": 1, "undecided": 3, "keep": 0, "discard": 1, "open": 3}
WORDS = {"supported": "better", "contradicted": "not better", "undecided": "open"}
_SENTENCES = {
    "supported": "{} is better than {} by more than {:g}",
    "contradicted": "{} is not better than {} by more than {:g}",
    "undecided": "open: whether {} is better than {} by more than {:g} is undecided",
}
_WHY = {
    Reason.AT_MARGIN: "the interval includes the margin",
    Reason.FEW_PAIRS: "an interval needs eight {runs} that didn't fail",
    Reason.NO_SPREAD: "the difference is the same in all seeds, which proves nothing",
    Reason.BOTH_FAILED: "most runs of both arms failed",
    Reason.FAILURES: "the arm with the better scores failed more often",
}


def main(arguments: Sequence[str]) -> None:
    """Read the arguments, and print the verdict.

    Raises:
        SystemExit: with 0, 1 or 3, depending on the verdict.
    """
    asked = _parser().parse_args(arguments)
    named = Asked(
        arm=asked.arm,
        seed=asked.seed,
        metric=asked.metric,
        arms=tuple(asked.arms) if asked.arms else None,
        at=asked.value,
        failed=asked.failed,
        unpaired=asked.unpaired,
    )
    twice = next((file for file, n in Counter(map(os.path.realpath, asked.files)).items() if n > 1), None)
    if twice is not None:
        raise InputError(f"{twice} is given twice: give each FILE once")
    found = find([read(file, asked.value, asked.source) for file in asked.files], named)
    arms = _arms(found, unpaired=asked.unpaired)
    doubtful = [printable(line) for line in doubts(found, lower=asked.lower)]
    sys.exit(_in_session(asked, arms, doubtful) if asked.session else _alone(asked, arms, [*found.said, *doubtful]))


def _parser() -> Parser:
    parser = Parser("judge", __doc__)
    parser.add_argument("files", metavar="FILE", nargs="+", help="a table, a folder of runs, or wandb:entity/project")
    parser.add_argument("--margin", required=True, type=real(0, inclusive=True), help="least difference that matters")
    parser.add_argument("--arm", metavar="COLUMN", help="default: arm, norm, method, model, …, whichever is there")
    parser.add_argument("--seed", metavar="COLUMN", help="default: seed")
    parser.add_argument("--metric", metavar="COLUMN", help="default: the only metric that there is")
    parser.add_argument("--value", choices=AT, default="last", help="which value of a curve counts (default: last)")
    parser.add_argument("--arms", nargs=2, metavar="ARM", help="the two to compare, the one claimed to be better first")
    parser.add_argument("--lower", action="store_true", help="lower values of the metric are better")
    alpha = real(1e-6, 0.5, inclusive=True)
    parser.add_argument("--alpha", type=alpha, default=0.05, help="1 - level of the interval (default: 0.05)")
    parser.add_argument("--unpaired", action="store_true", help="the arms' runs are independent, whatever their seeds")
    parser.add_argument("--failed", action="store_true", help="count infinite or never logged metrics as failed runs")
    parser.add_argument("--source", choices=tuple(FOLDERS), help="of a folder that several loggers wrote to")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--latex", action="store_true", help="print a table for LaTeX (booktabs)")
    parser.add_argument(
        "--page", metavar="FILE", type=new_file(".html"), help="also write a page (HTML) with every run in a chart"
    )
    parser.add_argument(
        "--session", metavar="FILE", type=new_file(), help="one error for many decisions, kept in this file"
    )
    parser.add_argument("--edits", type=count, help="of a new session: how many decisions share the error")
    parser.add_argument("--most", type=count, default=24, help="of a session: seeds after which to discard (24)")
    return parser


def _arms(found: Found, *, unpaired: bool) -> Arms:
    """Paired if seeds are shared, and unpaired if none is.

    Raises:
        InputError: an arm has no runs.
    """
    shared = set(found.runs[0]) & set(found.runs[1])
    names = (printable(found.arms[0]), printable(found.arms[1]))
    return Arms(printable(found.metric), names, found.runs, paired=bool(shared) and not unpaired)


def _alone(asked: argparse.Namespace, arms: Arms, said: Sequence[str]) -> int:
    made = verdict_on(arms, asked.margin, asked.alpha, lower=asked.lower)
    lines = _lines(asked, arms, made)
    if asked.page:
        _write_page(asked, arms, made, [*lines, *said])
    if asked.json:
        runs = [len(arm) for arm in arms.runs]
        values = {
            "verdict": WORDS[made.state],
            "margin": asked.margin,
            "paired": arms.paired,
            "runs": runs,
            "read": said,
        }
        unknown = {} if scored(arms, made) else {"mean": None, "sd": None}
        print(json.dumps(finite({**values, **asdict(made), **unknown}), indent=1))
    elif asked.latex:
        from normlab.report.latex import escaped, table  # brings the studies' code along

        row = [*map(escaped, arms.names), escaped(numbers_said(arms, made)), runs_said(arms, made), WORDS[made.state]]
        level = escaped(level_words(1 - asked.alpha))
        header = ["Better", "than", f"Difference [{level} interval]", "$n$", "Verdict"]
        how = "paired by seed" if arms.paired else "unpaired"
        print(table("lllrl", header, [row], f"margin {asked.margin:g}, {how}"), end="")
    else:
        console = Console()
        width = width_of(console)
        for line in [*lines, *said]:
            print(wrapped(line, width) if width else line)
    return STATUS[made.state]


def _write_page(asked: argparse.Namespace, arms: Arms, made: Estimate, lines: Sequence[str]) -> None:
    from normlab.report.judged import write_judged

    try:
        write_judged(asked.page, arms, made, asked.margin, lines)
    except OSError as error:
        raise InputError(f"--page {asked.page} can't be written: {error.strerror}") from None


def _lines(asked: argparse.Namespace, arms: Arms, made: Estimate) -> list[str]:
    first, second = arms.names
    why = _WHY.get(made.kind, made.kind.replace("_", " ")).format(runs="pairs" if arms.paired else "runs of each arm")
    level = (
        f", {level_words(1 - asked.alpha)} interval"
        if made.interval is not None and math.isfinite(made.interval.low)
        else ""
    )
    lines = [
        _SENTENCES[made.state].format(first, second, asked.margin) + (f" ({why})" if why else ""),
        f"{arms.metric}: {numbers_said(arms, made)}{level}, n = {runs_said(arms, made)}"
        + (" pairs" if arms.paired else ""),
    ]
    if arms.paired:
        alone = [f"left out: {arms.alone} seeds of one arm only"] if arms.alone else []
        return [*lines, *failure_words(made), *alone]
    why_not = "as asked" if asked.unpaired else "as the arms share no seeds"
    return [*lines, f"unpaired, {why_not}: the interval is wider than that of pairs", *rates_said(arms)]


def _in_session(asked: argparse.Namespace, arms: Arms, said: Sequence[str]) -> int:
    """Decide on one edit, and spend of the session's error if it is decided.

    Raises:
        InputError: the arms share no seeds, or all planned edits are decided.
    """
    asked.session = asked.session.resolve()  # one session and one lock, whatever links lead there
    if not arms.paired:
        raise InputError("--session compares runs in pairs of one seed, and the arms share no seeds")
    try:
        with FileLock(asked.session.with_name(f".{asked.session.name}.lock"), timeout=60):  # each decision counts once
            status = _decide(asked, arms)
    except Timeout:
        raise InputError(f"--session {asked.session}: another command has held it for a minute") from None
    except OSError as error:
        raise InputError(f"--session {asked.session} can't be written: {error.strerror}") from None
    for line in () if asked.json else said:
        print(line)
    return status


def _decide(asked: argparse.Namespace, arms: Arms) -> int:
    session, before = _read(asked.session, asked.alpha, asked.edits)
    differences = arms.gains(asked.margin, lower=asked.lower)
    for number, (pairs, known) in enumerate(before):
        if known == _print_of(differences[:pairs]):
            return _again(asked, session, number, pairs)
    failed = [sum(map(math.isnan, (arm[seed] for seed in arms.shared))) for arm in arms.runs]
    try:
        level, least = session.level, session.seeds_at_least()
        if asked.most < least:  # even if every seed favoured the edit
            raise InputError(
                f"--most {asked.most}: edit {len(session.kept) + 1} can't be kept before {least} seeds, so it would be "
                f"discarded whatever its runs say: at least --most {least}"
            )
        decision: Decision = session.decide(differences, asked.most)
    except ValueError as error:
        raise InputError(str(error)) from None
    if decision != "open":
        decided_on = [*before, [len(differences), _print_of(differences)]]
        write_json(asked.session, {**asdict(session.after(decision == "keep")), "decided_on": decided_on})
    decided = len(session.kept) + (decision != "open")
    if asked.json:
        print(json.dumps({"decision": decision, "level": level, "n": len(differences), "decided": decided}, indent=1))
    else:
        print(
            f"{decision}: {arms.names[0]} against {arms.names[1]}, n = {len(differences)} of at most {asked.most} pairs"
        )
        print(
            f"edit {len(session.kept) + 1} may err with {level:.2g} of {session.alpha:g}: "
            f"at least {least} seeds to keep it"
        )
        if any(failed):
            one, two = (f"{n} of {name}" for n, name in zip(failed, arms.names, strict=True))
            print(f"{one} and {two} failed, and count against their arm")
    return STATUS[decision]


def _again(asked: argparse.Namespace, session: Session, number: int, pairs: int) -> int:
    """A command that is repeated gets the same answer, and spends nothing."""
    decision = "keep" if session.kept[number] else "discard"
    if asked.json:
        values = {"decision": decision, "n": pairs, "decided": len(session.kept), "again": True}
        print(json.dumps(values, indent=1))
    else:
        print(f"{decision}: these runs were decided as edit {number + 1}, after {pairs} pairs; nothing is spent again")
    return STATUS[decision]


def _print_of(differences: Sequence[float]) -> str:
    return hashlib.sha256(json.dumps(list(differences)).encode()).hexdigest()[:16]


def _read(path: Path, alpha: float, planned: int | None) -> tuple[Session, list[list[Any]]]:
    """The session, and of each decided edit how many pairs it had and a hash of them."""
    if not path.exists():
        return Session(alpha, planned or None), []
    try:
        values: dict[str, Any] = parse_json(read_regular(path))
        kept = values["kept"]
        if type(values["alpha"]) is not float or any(type(entry) is not bool for entry in kept):
            raise ValueError("damaged")
        session = Session(values["alpha"], values["planned"], tuple(kept))
        before = values.get("decided_on", [[0, ""]] * len(kept))  # older sessions didn't record it
        if len(before) != len(kept) or any(type(pairs) is not int or type(known) is not str for pairs, known in before):
            raise ValueError("damaged")
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} is not a session, or damaged; start a new one with a new file") from None
    if planned is not None and planned != session.planned:
        raise InputError(f"--edits {planned}: {path} was started with {session.planned or 'no number of'} edits")
    if alpha not in (0.05, session.alpha):
        raise InputError(f"--alpha {alpha:g}: {path} was started with {session.alpha:g}")
    return session, before
