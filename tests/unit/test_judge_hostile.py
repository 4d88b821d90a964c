"""`normlab judge` on tables that are read as something else than they are, if nobody looks."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from normlab.command_line.guard import guard
from normlab.commands import judge
from normlab.findings.wording import level_words

RUNS = [
    (arm, seed, round(0.1 * (arm == "new") + random.Random(f"{arm}{seed}").gauss(0.5, 0.005), 4))
    for arm in ("new", "old")
    for seed in range(9)
]
BETTER = "new is better than old by more than 0.01"


@pytest.fixture
def judged(tmp_path: Path, capsys: Any) -> Any:
    """`judged(text, *options)`: exit status, output and errors."""

    def command(text: str | pd.DataFrame, *options: str, file: str = "runs.csv") -> tuple[int, str, str]:
        path = tmp_path / file
        if isinstance(text, str):
            path.write_text(text, encoding="utf-8")
        else:
            text.to_parquet(path)
        status = 0
        try:
            with guard():
                judge.main([str(path), *options, "--margin", "0.01"])
        except SystemExit as end:
            status = int(end.code or 0)
        return status, *capsys.readouterr()

    return command


def table(runs: Any = RUNS, header: str = "arm,seed,acc", separator: str = ",") -> str:
    return "".join(f"{separator.join(map(str, row))}\n" for row in [header.split(","), *runs])


def lines(*, change: Any = lambda row: row) -> str:
    return "".join(json.dumps(change({"arm": a, "seed": s, "acc": v})) + "\n" for a, s, v in RUNS)


def refused(found: tuple[int, str, str], *words: str) -> None:
    status, out, err = found
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert [word for word in words if word not in err] == []


@pytest.mark.parametrize("key", ["acc", "seed"])
def test_a_key_that_an_object_names_twice_is_refused(judged: Any, key: str) -> None:
    again = f'"{key}": 1, "{key}"'
    refused(judged(lines().replace(f'"{key}"', again), file="runs.jsonl"), "row 1", f"it names '{key}' twice")


def test_a_nested_key_that_equals_another_is_refused(judged: Any) -> None:
    text = lines(change=lambda row: {**row, "m.acc": row["acc"], "m": {"acc": 1 - row["acc"]}})
    refused(judged(text, "--metric", "m.acc", file="runs.jsonl"), "row 1: 'm.acc' is there twice")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_names_in_quotes_may_hold_separators(judged: Any, separator: str) -> None:
    text = table(separator=separator).replace("acc", '"acc; of 5, 10,\tand 20, in all"', 1)
    status, out, _ = judged(text)
    assert (status, out.splitlines()[0]) == (0, BETTER)


@pytest.mark.parametrize("text", ["\n\n \n", ",,\n1,2,3\n", '""\n1\n'])
def test_a_header_without_names_is_said(judged: Any, text: str) -> None:
    refused(judged(text), "its first line has no names of columns")


@pytest.mark.parametrize(
    ("shown", "word"),
    [
        (lambda v: f"{100 * v:.2f}%", "%' is not a number ("),
        (lambda v: f'"{v}"'.replace(".", ","), "is not a number with a decimal point ("),
    ],
)
def test_the_only_column_left_is_the_metric_and_its_first_odd_value_is_named(
    judged: Any, shown: Any, word: str
) -> None:
    refused(judged(table([(a, s, shown(v)) for a, s, v in RUNS])), "column acc", word)


def test_whole_numbers_may_be_the_metric_that_is_left(judged: Any) -> None:
    status, out, _ = judged(table([(a, s, int(1000 * v)) for a, s, v in RUNS]))
    assert (status, "metric `acc`" in out) == (0, True)
    epochs = table([(a, s, 10) for a, s, _ in RUNS], "arm,seed,epoch")
    refused(judged(epochs), "name the metric with --metric: epoch")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.assign(acc=t["acc"].astype(str)),
        lambda t: t.assign(acc=[Decimal(str(value)) for value in t["acc"]]),
        lambda t: t.assign(arm=t["arm"].str.encode("utf-8")),
        lambda t: t.assign(arm=t["arm"].where(t["seed"] % 2 == 0, t["arm"] + " ")),
        lambda t: t.assign(arm=t["arm"].astype("category")),
    ],
)
def test_parquet_is_read_as_other_tables_are(judged: Any, change: Any) -> None:
    frame = pd.DataFrame(RUNS, columns=["arm", "seed", "acc"])
    assert judged(change(frame), file="runs.parquet") == judged(table(), file="runs.csv")


def test_what_other_arms_hold_does_not_matter(judged: Any) -> None:
    more = table() + "mean,,0.5\nsd,,n/a\n"
    assert judged(more, "--arms", "new", "old") == judged(table())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--arms", "new", "new"], "new can't be compared with itself; `arm` has new, old"),
        (["--metric", "seed"], "seed is the seed, and can't be the metric as well"),
        (["--metric", "arm"], "arm is the arm, and can't be the metric as well"),
        (["--alpha", "1e-300"], "1e-300 is not between 1e-06 and 0.5"),
        (["--alpha", "0.9999"], "0.9999 is not between 1e-06 and 0.5"),
    ],
)
def test_questions_without_an_answer_are_refused(judged: Any, options: list[str], words: str) -> None:
    refused(judged(table(), *options), words)


def test_a_file_counts_once(judged: Any, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "runs.csv")
    refused(judged(table(), str(tmp_path / "link.csv")), "runs.csv is given twice")
    refused(judged(table(), "n" * 300), "can't be read: File name too long")
    refused(judged(table(), ""), "does not exist")


def test_names_from_a_file_command_no_terminal(judged: Any) -> None:
    status, out, _ = judged(table([(f"{a}\x1b[31m", s, v) for a, s, v in RUNS]))
    assert (status, "\x1b" in out, "new\N{REPLACEMENT CHARACTER}[31m is better" in out) == (0, False, True)


def test_no_interval_has_a_level_of_100_percent() -> None:
    shown = [level_words(1 - alpha).split("\N{NO-BREAK SPACE}")[0] for alpha in (0.05, 0.0083, 1e-4, 1e-6)]
    assert shown == ["95", "99.2", "99.99", "99.9999"]


def test_a_verdict_on_a_table_loads_no_more_than_it_needs(tmp_path: Path) -> None:
    """Imports are most of the command's time; those of scipy.stats alone take a second."""
    (tmp_path / "runs.csv").write_text(table())
    code = (
        "import sys\nfrom normlab.commands import judge\ntry: judge.main(['runs.csv', '--margin', '0.01'])\n"
        "except SystemExit: pass\nprint(*(name for name in sys.modules if name in {'torch', 'scipy.stats', 'hydra'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout.startswith(BETTER), done.stdout.splitlines()[-1]) == (True, ""), done


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_session_is_a_file(judged: Any, tmp_path: Path, kind: str) -> None:
    path = Path("/dev/zero") if kind == "device" else tmp_path / "session.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    refused(judged(table(), "--session", str(path)), "is a folder" if kind == "folder" else "is not a session")


def test_a_link_to_a_session_is_that_session(judged: Any, tmp_path: Path) -> None:
    link, session = tmp_path / "link.json", tmp_path / "session.json"
    link.symlink_to(session)
    found = [judged(table(), "--session", str(path), "--edits", "1")[1] for path in (link, session, link)]
    assert (link.is_symlink(), [text.split(":")[0] for text in found]) == (True, ["keep"] * 3)
    assert "were decided as edit 1" in found[1]


def test_a_folder_that_was_removed_is_said(judged: Any, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    refused(judged(table(), "link/../runs.csv"), "the folder in which this command was given has been removed")
