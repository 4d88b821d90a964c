"""`normlab judge`: the verdict on anybody's table, inside this process."""

import json
import time

import numpy as np
import pandas as pd
import pytest

from normlab.command_line.guard import guard
from normlab.commands import judge
from normlab.stats import guarded


def runs(effect=1.0, n=12, sd=0.3):
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 5, n)
    noise = rng.normal(0, sd, n)
    arms = {"new": shared + effect + noise - noise.mean(), "old": shared}
    return pd.DataFrame([{"arm": a, "seed": s, "score": v} for a, col in arms.items() for s, v in enumerate(col)])


@pytest.fixture
def judged(tmp_path, capsys):
    """`judged(table, *options)`: exit status, output and errors."""

    def command(table, *options, file="runs.csv"):
        path = tmp_path / file
        if isinstance(table, str):
            path.write_text(table)
        elif path.suffix == ".csv":
            table.to_csv(path, index=False)
        else:
            table.to_json(path, orient="records", lines=True, double_precision=15)
        status = 0
        try:
            with guard():
                judge.main([str(path), "--margin", "0.2", *options])
        except SystemExit as end:
            status = int(end.code or 0)
        return status, *capsys.readouterr()

    return command


@pytest.mark.parametrize("file", ["runs.csv", "runs.jsonl"])
@pytest.mark.parametrize(("effect", "status", "word"), [(1.0, 0, "better"), (-1.0, 1, "not better"), (0.2, 3, "open")])
def test_the_exit_status_is_the_verdict(judged, file, effect, status, word):
    found, out, _ = judged(runs(effect), file=file)
    assert (found, out.startswith(f"{word}: new than old by more than 0.2")) == (status, True)


def test_the_interval_is_the_one_that_decides_findings(judged):
    table = runs()
    d = table["score"][:12].to_numpy() - table["score"][12:].to_numpy()
    _, out, _ = judged(table, "--json")
    values, expected = json.loads(out), guarded.interval(d)
    assert (values["verdict"], values["interval"]["low"]) == ("better", pytest.approx(expected.low))
    status, out, _ = judged(table.iloc[::-1], "--first", "new", "--lower", "--latex")
    assert (status, "new & old" in out) == (1, True)


def test_a_run_that_failed_is_counted_and_left_out(judged):
    table = runs()
    table.loc[3, "score"] = np.nan
    status, out, _ = judged(table)
    assert (status, "on the 11 of 12 seeds on which no run failed; 1 of new and 0 of old failed" in out) == (0, True)
    table["score"] = 1.0
    assert judged(table, "--json")[0] == 3  # equal pairs prove nothing
    table["score"] = np.nan
    assert judged(table, "--metric", "score")[0] == 3


def test_too_few_seeds_are_open(judged):
    status, out, _ = judged(runs(n=7))
    assert (status, "(no interval)" in out) == (3, True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: pd.concat([t, t[:1]]), "new has two runs of seed 0"),
        (lambda t: t.assign(score=t["score"].astype(object).where(t["seed"] != 2, "bad")), "'bad' in row 3 is not a"),
        (lambda t: t.assign(score=t["score"].where(t["seed"] != 2, np.inf)), "is infinite"),
        (lambda t: t.assign(score=t["score"] > 0), "in row 1 is not a number"),
        (lambda t: t[t["arm"] == "new"], "holds 1 arms (new)"),
        (lambda t: t.assign(seed=t["seed"] + 50 * (t["arm"] == "old")), "share 0 seeds"),
        (lambda t: t.assign(seed=t["seed"] + 0.5), "is not a seed"),
        (lambda t: t.rename(columns={"arm": "x"}), "name the column of the arm with --arm"),
    ],
)
def test_bad_input_is_one_line(judged, change, words):
    status, _, err = judged(change(runs()), "--metric", "score")
    assert (status, words in err, err.count("\n")) == (2, True, 1), err


def test_other_files_are_refused(judged):
    assert "only .csv, .parquet and .jsonl" in judged("x", file="runs.txt")[2]
    assert judged("", file="runs.csv")[0] == 2


def test_a_session_spends_one_error_over_many_edits(judged, tmp_path):
    session = ["--session", str(tmp_path / "edits.json"), "--edits", "2"]
    assert judged(runs(5.0, n=3), *session)[0] == 3
    assert not (tmp_path / "edits.json").exists()
    assert judged(runs(5.0, n=24), *session)[0] == 0
    assert judged(runs(0.2, n=24), *session)[0] == 1
    assert json.loads((tmp_path / "edits.json").read_text()) == {"alpha": 0.05, "planned": 2, "kept": [True, False]}
    status, _, err = judged(runs(5.0, n=24), *session)
    assert (status, "all 2 planned edits are decided" in err) == (2, True)
    (tmp_path / "edits.json").write_text('{"alpha": 0.05, "planned": 2, "kept": [1]}')
    assert "is not a session, or damaged" in judged(runs(), *session)[2]


def test_a_hundred_thousand_rows_take_two_seconds(judged):
    table = runs(n=50_000)
    started = time.perf_counter()
    assert judged(table)[0] == 0
    assert time.perf_counter() - started < 10  # 2 s on a quiet machine, writing the file included
