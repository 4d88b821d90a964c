"""`normlab judge`: the verdict on anybody's table, inside this process."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from normlab.command_line.guard import guard
from normlab.commands import judge
from normlab.logs.own_runs import Arms
from normlab.stats import guarded, unpaired


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
        elif path.suffix == ".parquet":
            table.to_parquet(path)
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


@pytest.mark.parametrize("file", ["runs.csv", "runs.jsonl", "runs.parquet"])
@pytest.mark.parametrize(
    ("effect", "status", "sentence"),
    [
        (1.0, 0, "new is better than old by more than 0.2"),
        (-1.0, 1, "new is not better than old by more than 0.2"),
        (0.2, 3, "open: whether new is better than old by more than 0.2 is undecided"),
    ],
)
def test_the_exit_status_is_the_verdict(judged, file, effect, status, sentence):
    found, out, _ = judged(runs(effect), file=file)
    assert (found, out.startswith(sentence)) == (status, True)


def test_the_interval_is_the_one_that_decides_findings(judged):
    table = runs()
    d = table["score"][:12].to_numpy() - table["score"][12:].to_numpy()
    _, out, _ = judged(table, "--json")
    values, expected = json.loads(out), guarded.interval(d)
    assert (values["verdict"], values["interval"]["low"]) == ("better", pytest.approx(expected.low))
    status, out, _ = judged(table.iloc[::-1], "--arms", "new", "old", "--lower", "--latex")
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


@pytest.mark.parametrize("options", [(), ("--unpaired",)])
def test_where_an_arm_has_no_scores_there_is_no_difference(judged, options):
    table = runs()
    table.loc[table.arm == "new", "score"] = np.nan
    status, out, _ = judged(table, *options)
    assert status == 3
    assert "score: nothing to compare, n = 0" in out
    assert json.loads(judged(table, "--json", *options)[1])["mean"] is None


def test_too_few_seeds_are_open(judged):
    status, out, _ = judged(runs(n=7))
    assert (status, "(no interval)" in out) == (3, True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: pd.concat([t, t[:1]]), "new has two runs of seed 0"),
        (lambda t: t.assign(score=t["score"].astype(object).where(t["seed"] != 2, "bad")), "'bad' is not a number"),
        (lambda t: t.assign(score=t["score"].where(t["seed"] != 2, np.inf)), "is infinite"),
        (lambda t: t.assign(score=t["score"] > 0), "'True' is not a number"),
        (lambda t: t[t["arm"] == "new"], "holds 1 arm (new), and a verdict compares two"),
        (lambda t: t.assign(arm=t["arm"].where(t["seed"] > 2, "third")), "choose two with --arms"),
        (lambda t: t.assign(arm=t["arm"].where(t["seed"] > 0)), "has no `arm`"),
        (lambda t: t.rename(columns={"score": "scores"}), "has no metric score; there are arm, seed, scores"),
        (lambda t: t.drop(columns="seed"), "name that of the seed with --seed, or compare the arms without pairs"),
        (lambda t: t.assign(norm=t["seed"] % 2), "both `arm` and `norm` distinguish two arms"),
        (lambda t: t.assign(seed=t["seed"] + 0.5), "is not a seed"),
        (lambda t: t.rename(columns={"arm": "x"}), "name that of the arm with --arm"),
    ],
)
def test_bad_input_is_one_line(judged, change, words):
    status, _, err = judged(change(runs()), "--metric", "score")
    assert (status, words in err, err.count("\n")) == (2, True, 1), err


@pytest.mark.parametrize("option", ["--page", "--session"])
def test_a_folder_is_no_file_to_write(judged, tmp_path, option):
    status, _, err = judged(runs(), option, str(tmp_path))
    assert (status, "is a folder; name a file" in err, err.count("\n")) == (2, True, 1), err


def test_a_page_does_not_replace_the_runs(judged, tmp_path):
    status, _, err = judged(runs(), "--page", str(tmp_path / "runs.csv"))
    assert (status, "must end in .html" in err, err.count("\n")) == (2, True, 1), err
    assert (tmp_path / "runs.csv").read_text().startswith("arm,seed,score")
    for option in ("--page", "--session"):
        assert "there is no folder" in judged(runs(), option, str(tmp_path / "nowhere" / "x.html"))[2]


def apart(table):
    return table.assign(seed=table["seed"] + 50 * (table["arm"] == "old"))


def test_arms_that_share_no_seeds_are_compared_unpaired(judged):
    rng = np.random.default_rng(0)
    values = {"new": rng.normal(1, 0.2, 12), "old": rng.lognormal(-1, 0.2, 10)}
    table = pd.DataFrame([{"arm": a, "seed": s, "score": v} for a, own in values.items() for s, v in enumerate(own)])
    status, out, _ = judged(apart(table), "--json")
    found, expected = json.loads(out), unpaired.interval(values["new"], values["old"])
    assert (status, found["paired"], found["runs"]) == (0, False, [12, 10])
    assert (found["interval"]["low"], found["interval"]["high"]) == pytest.approx((expected.low, expected.high))
    status, out, _ = judged(apart(table), "--lower")
    assert (status, "unpaired, as the arms share no seeds" in out, "n = 12 and 10 runs" in out) == (1, True, True)
    assert "unpaired, as asked" in judged(table.drop(columns="seed"), "--unpaired")[1]
    assert judged(apart(table), "--session", "x.json")[0] == 2


def test_unpaired_failures_decide_as_those_of_pairs_do(judged):
    table = apart(runs(n=20, sd=0.05).assign(score=lambda t: t["score"] % 1 + (t["arm"] == "new")))
    assert judged(table)[0] == 0
    table.loc[:9, "score"] = np.nan
    status, out, _ = judged(table)
    assert (status, "failed more often" in out, "10 of 20 runs of new and 0 of 20" in out) == (3, True, True)
    table["score"] = table["score"].where(table["seed"] % 10 > 5)
    assert "most runs of both arms failed" in judged(table, "--metric", "score")[1]


def test_a_page_holds_every_run(judged, tmp_path):
    for name, table in (("pairs", runs()), ("apart", apart(runs()))):
        page = tmp_path / f"{name}.html"
        judged(table, "--page", str(page))
        text = page.read_text()
        assert text.count('class="mark') == 27 + 12 * (name == "pairs")
        assert "What decides" in text
        assert "http" not in text.replace("http://www.w3.org", "")
    assert judged(runs(), "--page", str(tmp_path / "missing" / "x.html"))[0] == 2


@pytest.mark.parametrize("n", [1_000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_a_page_of_many_runs_counts_them_and_stays_small(judged, tmp_path, n):
    page = tmp_path / "many.html"
    judged(runs(n=n), "--page", str(page))
    text = page.read_text()
    assert page.stat().st_size < 2_000_000
    for what in ("seeds", "new: runs", "old: runs"):
        counts = re.findall(rf"<title>([\d,]+) {what} from", text)
        assert 10 < len(counts) <= 80
        assert sum(int(count.replace(",", "")) for count in counts) == n
    assert "bars say how many of an arm's runs lie where" in text.replace("&#39;", "'")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda t: t.assign(score=t["score"].astype("Float32")), 0),
        (lambda t: t.assign(arm=t["arm"].astype("category"), seed=t["seed"].astype("uint8")), 0),
        (lambda t: t.assign(score=[Decimal(str(round(v, 3))) for v in t["score"]]), 0),
        (lambda t: t.assign(seed=t["seed"].astype(str)), 0),
        (lambda t: t.assign(seed=t["seed"] + 2**62), 0),
        (lambda t: t.assign(score=[[v] for v in t["score"]]), 2),
        (lambda t: t.assign(score=pd.to_datetime("2026-01-01")), 2),
        (lambda t: t.assign(seed=[{"a": 1}] * len(t)), 2),
        (lambda t: t.assign(seed=pd.to_datetime("2026-01-01")), 2),
    ],
)
def test_odd_types_of_parquet_are_numbers_or_refused(judged, change, status):
    found, _, err = judged(change(runs()), "--metric", "score", file="runs.parquet")
    assert (found, err.count("\n")) == (status, int(status == 2)), err


def test_damaged_tables_are_one_line(judged, tmp_path):
    for name in ("a.parquet", "a.csv", "a.jsonl"):
        (tmp_path / name).write_bytes(b"PAR1\0\0{nothing\xff")
        with pytest.raises(SystemExit) as end, guard():
            judge.main([str(tmp_path / name), "--margin", "0"])
        assert end.value.code == 2


def test_files_of_other_metrics_are_named(judged, tmp_path, capsys):
    runs()[:12].to_csv(tmp_path / "new.csv", index=False)
    runs()[12:].rename(columns={"score": "points"}).to_csv(tmp_path / "old.csv", index=False)
    files = [str(tmp_path / name) for name in ("new.csv", "old.csv")]
    for options, words in (([], "no metric in common"), (["--metric", "score"], "old.csv has no metric score")):
        with pytest.raises(SystemExit) as end, guard():
            judge.main([*files, "--margin", "0", *options])
        err = capsys.readouterr().err
        assert (end.value.code, words in err, err.count("\n")) == (2, True, 1), err


def test_other_files_are_refused(judged):
    assert "only tables (.csv, .tsv, .parquet, .jsonl, .json)" in judged("x", file="runs.txt")[2]
    assert judged("", file="runs.csv")[0] == 2


def test_decisions_of_several_commands_at_once_are_all_kept(tmp_path, monkeypatch):
    """Without a lock, each would read the session before another has written its decision, and one would be lost."""
    read = judge._read
    for edit in range(4):
        runs(0.2 - edit / 100, n=24).to_csv(tmp_path / f"{edit}.csv", index=False)

    def slowly(*arguments):
        found = read(*arguments)
        time.sleep(0.1)
        return found

    monkeypatch.setattr(judge, "_read", slowly)
    options = ["--margin", "0.2", "--session", str(tmp_path / "edits.json"), "--edits", "9"]

    def decide(edit):
        with pytest.raises(SystemExit) as end:
            judge.main([str(tmp_path / f"{edit}.csv"), *options])
        return end.value.code

    with ThreadPoolExecutor(4) as commands:
        assert list(commands.map(decide, range(4))) == [1] * 4
    assert json.loads((tmp_path / "edits.json").read_text())["kept"] == [False] * 4


@pytest.mark.parametrize(("most", "edits", "least"), [(0, 2, 6), (5, 2, 6), (7, 9, 8)])
def test_a_session_in_which_nothing_could_be_kept_is_refused(judged, tmp_path, most, edits, least):
    status, _, err = judged(
        runs(5.0, n=24), "--session", str(tmp_path / "edits.json"), "--edits", str(edits), "--most", str(most)
    )
    assert (status, f"at least --most {least}" in err) == (2, True)
    assert not (tmp_path / "edits.json").exists()


def test_a_session_spends_one_error_over_many_edits(judged, tmp_path):
    session = ["--session", str(tmp_path / "edits.json"), "--edits", "2"]
    assert judged(runs(5.0, n=3), *session)[0] == 3
    assert not (tmp_path / "edits.json").exists()
    assert judged(runs(5.0, n=24), *session)[0] == 0
    assert judged(runs(0.2, n=24), *session)[0] == 1
    kept = json.loads((tmp_path / "edits.json").read_text())
    assert {key: kept[key] for key in ("alpha", "planned", "kept")} == {
        "alpha": 0.05,
        "planned": 2,
        "kept": [True, False],
    }
    status, _, err = judged(runs(4.0, n=24), *session)
    assert (status, "all 2 planned edits are decided" in err) == (2, True)
    (tmp_path / "edits.json").write_text('{"alpha": 0.05, "planned": 2, "kept": [1]}')
    assert "is not a session, or damaged" in judged(runs(), *session)[2]


def test_a_command_that_is_repeated_spends_nothing_again(judged, tmp_path):
    file = tmp_path / "edits.json"
    session = ["--session", str(file), "--edits", "3"]
    kept = runs(5.0, n=30)
    for table, status in ((kept[kept["seed"] < 20], 0), (runs(0.2, n=24), 1)):
        assert judged(table, *session)[0] == status
        before = file.read_bytes()
        again, out, _ = judged(table, *session)
        assert (again, "nothing is spent again" in out, file.read_bytes() == before) == (status, True, True)
    more, out, _ = judged(kept, *session, "--json")  # seeds that came after the decision change nothing
    assert (more, json.loads(out)["again"], json.loads(out)["n"], file.read_bytes() == before) == (0, True, 20, True)
    changed = kept.assign(score=kept["score"] + kept["seed"] / 1000 * (kept["arm"] == "new"))
    assert "spent again" not in judged(changed, *session)[1]
    assert json.loads(file.read_text())["kept"] == [True, False, True]
    old = {key: value for key, value in json.loads(file.read_text()).items() if key != "decided_on"}
    file.write_text(json.dumps({**old, "planned": 4}))  # as before the runs were recorded
    assert judged(kept, "--session", str(file))[0] == 0
    assert len(json.loads(file.read_text())["decided_on"]) == 4


def test_an_edit_that_fails_is_not_kept_for_its_other_runs(judged, tmp_path):
    table = runs(5.0, n=24)
    session = ["--session", str(tmp_path / "edits.json"), "--edits", "1"]
    table.loc[table.index[::2][:12], "score"] = np.nan  # every other run of the new arm
    status, out, _ = judged(table, *session)
    assert (status, "12 of new and 0 of old failed, and count against their arm" in out) == (1, True)


def test_gains_of_failed_runs_are_symmetric():
    nan = float("nan")
    first, second = {0: nan, 1: 3.0, 2: nan, 3: 1.0, 4: nan}, {0: 1.0, 1: 1.0, 2: 1.0, 3: nan, 4: nan}
    arms = Arms("x", ("a", "b"), (first, second), paired=True)
    mirrored = Arms("x", ("b", "a"), (second, first), paired=True)
    assert arms.gains(0.0) == [-1.0, 2.0, -2.0, 2.0, 0.0]
    assert mirrored.gains(0.0) == [-gain for gain in arms.gains(0.0)]


def test_a_hundred_thousand_rows_take_two_seconds(judged):
    table = runs(n=50_000)
    started = time.perf_counter()
    assert judged(table)[0] == 0
    assert time.perf_counter() - started < 10  # 2 s on a quiet machine, writing the file included


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("arm,seed,acc,acc\na,0,1,2\n", "has 2 columns 'acc'"),
        ("arm,seed,acc\n", "has no rows"),
        ('arm,seed,acc\na,0,1\n"b,0,2\n', "can't be read"),
        ("arm,seed,acc\na,,1.5\nb,0,2.5\n", "an empty field is not a seed"),
        ("arm,seed,acc\na,0,1e400\nb,0,2.5\n", "inf is infinite"),
    ],
)
def test_bad_csv_is_one_line(judged, text, words):
    status, _, err = judged(text, "--metric", "acc")
    assert (status, words in err, err.count("\n")) == (2, True, 1), err


def test_csv_may_have_semicolons(judged):
    assert judged("arm;seed;acc\n" + "".join(f"a;{i};{i + 0.5}\nb;{i};{i * 0.5}\n" for i in range(8)))[0] in (0, 3)


def lines_of(table):
    return [f"{arm},{seed},{score}" for arm, seed, score in table.to_numpy().tolist()]


def as_csv(rows, header="arm,seed,score", end=""):
    return "".join(f"{row}{end}\n" for row in [header, *rows])


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: as_csv(rows).replace("\n", ",\n").replace(",\n", "\n", 1),  # all rows end in a comma
        lambda rows: as_csv([f"old,{row}" for row in rows], "note,arm,seed,score", ",").replace("score,", "score"),
        lambda rows: as_csv(rows).replace(",", ", "),
        lambda rows: "\n\ufeff\n".strip("\n") + as_csv(rows),
        lambda rows: "\n\n" + as_csv(rows),
        lambda rows: as_csv(rows).replace("old,3,", "old ,3,").replace("new,3,", "new,3.0,"),
    ],
)
def test_a_table_as_people_export_it_gives_the_same_verdict(judged, change):
    assert judged(change(lines_of(runs()))) == judged(runs())


@pytest.mark.parametrize("row", ["old,3", "old", "new,3,0.5,1", "new,3,0,5"])
def test_a_row_of_another_width_is_no_failed_run(judged, row):
    rows = lines_of(runs())
    status, _, err = judged(as_csv([*rows[:5], row, *rows[6:]]))
    assert (status, "row 6" in err, "the header has 3" in err, err.count("\n")) == (2, True, True, 1), err


@pytest.mark.parametrize(
    ("new", "old"), [("1.1", "1.10"), ("007", "7"), ("1234567", "12e4567"), ("layer", "None"), ("NA", "nan")]
)
@pytest.mark.parametrize("file", ["runs.csv", "runs.jsonl", "runs.json"])
def test_the_name_of_an_arm_is_as_it_was_written(judged, new, old, file):
    table = runs().assign(arm=lambda t: t["arm"].map({"new": new, "old": old}))
    text = as_csv(lines_of(table))
    if file != "runs.csv":
        rows = table.to_dict("records")
        text = json.dumps(rows) if file == "runs.json" else "".join(json.dumps(row) + "\n" for row in rows)
    status, out, err = judged(text, file=file)
    assert (status, err) == (0, "")
    assert out.startswith(f"{new} is better than {old} by")


def test_nested_json_and_the_index_of_parquet_are_columns(judged, tmp_path):
    rows = [{"config": {"norm": arm, "seed": seed}, "score": v} for arm, seed, v in runs().to_numpy().tolist()]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    assert judged(text, "--arm", "config.norm", file="runs.jsonl")[0] == 0
    assert judged(runs().set_index(["arm", "seed"]), file="runs.parquet")[0] == 0


def test_a_decimal_comma_is_said(judged):
    text = as_csv([line.replace(",", ";").replace(".", ",") for line in lines_of(runs())], "arm;seed;score")
    assert "is not a number with a decimal point (" in judged(text, "--metric", "score")[2]


def test_runs_that_have_not_finished_are_said(judged):
    table = runs().assign(State=["running", "Crashed"] * 3 + ["finished"] * 18)
    assert "6 runs had not finished (3 crashed, 3 running), and count" in judged(table)[1]
    assert "not finished" not in judged(table.assign(State="finished"))[1]
    other = pd.DataFrame({"arm": ["third"], "seed": [0], "score": [0.5], "State": ["running"]})
    table = pd.concat([runs().assign(State="finished"), other])
    assert "not finished" not in judged(table, "--arms", "new", "old")[1]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("val_loss", [], "higher values of val_loss count as better: if lower ones are, as its name suggests, add"),
        ("testRMSE", [], "higher values of testRMSE count as better"),
        ("val_loss", ["--lower"], None),
        ("val/acc", ["--lower"], "lower values of val/acc count as better, as --lower says"),
        ("val/acc", [], None),
        ("neg_mean_squared_error", [], None),
        ("losses_won", [], None),
    ],
)
def test_a_direction_that_the_metrics_name_denies_is_said(judged, tmp_path, name, options, said):
    table = runs().rename(columns={"score": name})
    for more in ([], ["--session", str(tmp_path / "session.json")]):
        _, out, _ = judged(table, *options, *more)
        if said is None:
            assert "count as better" not in out
        else:
            assert said in " ".join(out.split())
    if said:
        assert said in json.loads(judged(table, *options, "--json")[1])["read"][-1]


def test_percentages_among_shares_are_said(judged):
    table = runs(effect=0.02, sd=0.01)
    table["score"] = 0.8 + table["score"] / 100
    assert "percentages" not in judged(table)[1]
    table.loc[table["arm"] == "old", "score"] *= 100
    assert "12 values of score are at most 1 and 12 are 7" in judged(table)[1]
    table["score"] *= 0.01  # shares and hundredths of shares may be what they seem
    assert "percentages" not in judged(table)[1]


@pytest.mark.parametrize("other", ["Old", "OLD", "o\u200bld"])
def test_arms_with_almost_the_same_name_are_said(judged, other):
    table = runs()
    assert "not compared" not in judged(table, "--arms", "new", "old")[1]
    table.loc[table["seed"].ge(8) & table["arm"].eq("old"), "arm"] = other
    _, out, _ = judged(table, "--arms", "new", "old")
    assert "not compared: the runs of" in " ".join(out.split())
    assert "by their names other arms than 'old'" in " ".join(out.split())
    two = runs().replace({"arm": {"new": other}})
    assert "have almost the same name" in " ".join(judged(two)[1].split())
