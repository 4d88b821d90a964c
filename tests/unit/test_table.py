"""All runs in one table."""

import re
import shlex
import sys

import pandas
import pytest
from run_folders import begin, config_of, finish, set_status

from normlab.commands import console
from normlab.commands.parser import Parser
from normlab.config.schema import InputError
from normlab.folder.jsonfile import write_json
from normlab.runs.code import code_hash
from normlab.runs.store import accept, claim, look
from normlab.tables.runs import IDENTITY, choose, differing, markdown, order, read_runs, select, write

LSTM = ("model=lstm", "norm=layer")


@pytest.fixture
def script(monkeypatch, capsys):
    """`script("--all")` is `normlab table --all`: its exit status, output and errors."""

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["normlab", "table", *map(str, arguments)])
        try:
            console.main()
            status = 0
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return command


def read(output, *args, **options):
    """The table, and the lines about what it leaves out."""
    lines: list[str] = []
    return read_runs(output, *args, tell=lines.append, **options), lines


def test_a_row_is_a_run_with_its_options_and_results(tmp_path):
    finish(tmp_path, "a", *LSTM, "model.width=16", "norm.eps=1e-3", "trainer.threads=1", seed=3)
    finish(tmp_path, "b", "model=cnn", "norm=batch", summary={"validation/accuracy": 0.5, "steps": 7})
    frame, lines = read(tmp_path)
    assert lines == []
    assert tuple(frame.columns[: len(IDENTITY)]) == IDENTITY
    row = frame.set_index("id").loc["a"]
    names = ["state", "norm", "model", "task", "measure", "seed", "attempt"]
    assert row[names].tolist() == ["finished", "layer", "lstm", "word_stress", "training", 3, 1]
    assert (row["norm.eps"], row["model.width"], row["trainer.threads"]) == (1e-3, 16, 1)
    assert row["optim.betas"] == "[0.9, 0.99]"
    assert row["code"] == code_hash(config_of(*LSTM))
    assert row["torch"].startswith("2.")
    assert row["validation/loss"] == 1.5
    assert pandas.isna(row["validation/accuracy"])
    assert frame.set_index("id").loc["b", "steps"] == 7
    assert frame["steps"].dtype == "Int64"  # and not 7.0 beside NaN
    assert not [name for name in frame.columns if name.startswith(("logger", "output", "cache")) or "_target_" in name]
    assert {"task.name", "measure.name"}.isdisjoint(frame.columns)


def test_runs_of_one_cell_keep_their_own_seed_and_result(tmp_path):
    for seed in (10, 2):
        finish(tmp_path, f"a{seed}", *LSTM, seed=seed, summary={"n": seed * 2})
    frame, _ = read(tmp_path)
    assert frame[["seed", "n"]].to_numpy().tolist() == [[2, 4], [10, 20]]


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("norm == 'layer' and seed < 1", ["a"]),
        ("`model.width` > 16", ["b"]),
        ("`validation/loss` < 2", ["a", "b", "c"]),
        ("`norm.nbs`.isna() and norm == 'batch'", ["c"]),
        ("`norm.momentum` > 0", ["c"]),
        ("seed == 99", []),
    ],
)
def test_a_condition_chooses_runs(tmp_path, where, ids):
    finish(tmp_path, "a", *LSTM, "model.width=16")
    finish(tmp_path, "b", *LSTM, "model.width=32", seed=1)
    finish(tmp_path, "c", "model=lstm", "norm=batch", "model.width=16")
    assert sorted(read(tmp_path, where)[0]["id"]) == ids


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nrom == 'layer'", "no column 'nrom'. Did you mean 'norm'"),
        ("optim.lr < 1", "Did you mean 'optim"),
        ("`optim.rl` < 1", "no column 'optim.rl'. Did you mean 'optim.lr'"),
        ("norm ==", "can't be read: invalid syntax"),
        ("norm < 3", "can't be read"),
        ("norm", "is not a condition"),
    ],
)
def test_a_condition_that_can_not_be_read_is_explained(tmp_path, where, message):
    finish(tmp_path, "a", *LSTM)
    with pytest.raises(InputError) as error:
        read(tmp_path, where)
    assert message in str(error.value)


def test_results_of_other_code_stay_out_until_asked_for_or_accepted(tmp_path):
    finish(tmp_path, "a", *LSTM)
    other = finish(tmp_path, "b", *LSTM, code="other")
    frame, lines = read(tmp_path)
    assert list(frame["id"]) == ["a"]
    assert lines == ["left out: 1 run whose code has changed since (--stale shows them)"]
    assert list(read(tmp_path, stale=True)[0]["state"]) == ["finished", "stale"]
    accept(other, look(other, "").status, code_hash(config_of(*LSTM)))
    assert list(read(tmp_path)[0]["code"])[1] == "other"


def test_several_torch_versions_are_refused_with_the_way_out(tmp_path):
    for name, version in (("a", "2.13.0"), ("b", "2.13.0"), ("c", "2.6.0"), ("d", None)):
        folder = finish(tmp_path, name, *LSTM)
        set_status(folder, torch=version)
    write_json(tmp_path / "runs" / "d" / "provenance.json", {"packages": {"torch": "2.5.0"}})  # as older runs have it
    with pytest.raises(InputError) as error:
        read(tmp_path, "seed == 0")
    assert "2.13.0 (2 runs)" in str(error.value)
    assert "2.5.0 (1 run)" in str(error.value)
    condition = shlex.split(str(error.value).split("--where ")[1])[0].rstrip(",")
    assert list(read(tmp_path, condition)[0]["id"]) == ["a", "b"]
    assert len(read(tmp_path, mixed=True)[0]) == 4


def test_damaged_runs_are_named_and_set_asides_are_no_runs(tmp_path):
    finish(tmp_path, "a", *LSTM)
    for name in ("b", "c", "d"):
        finish(tmp_path, name, *LSTM)
    (tmp_path / "runs/b/summary.json").write_text("{")
    (tmp_path / "runs/c/config.json").write_text('{"norm": 3}')
    (tmp_path / "runs/d/status.json").write_text("")
    claim(tmp_path, "a", code_hash(config_of(*LSTM)), config_of(*LSTM).model_dump(mode="json"), repeat=True)[0].finish(
        {"n": 2}
    )
    finish(tmp_path, "e.damaged-1", *LSTM)
    (tmp_path / "runs/stray.txt").write_text("")
    frame, lines = read(tmp_path)
    assert frame[["id", "attempt", "n"]].to_numpy().tolist() == [["a", 2, 2]]
    assert len(lines) == 3
    for line, (name, why) in zip(
        lines, (("b", "differs from what"), ("c", "config.json"), ("d", "status.json")), strict=True
    ):
        assert f"runs/{name} is damaged" in line
        assert why in line


@pytest.mark.parametrize("file", ["config.json", "status.json", "summary.json", "owner", "provenance.json"])
def test_no_damage_ends_in_a_traceback(tmp_path, file):
    finish(tmp_path, "a", *LSTM)
    folder = begin(tmp_path, "b", *LSTM).place.folder if file == "owner" else finish(tmp_path, "b", *LSTM)
    contents = [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"norm": 3}',
        b'{"packages": [1]}',
        b"\xff\xfe\x00",
        b'{"state": "finished"}',
    ]
    if (folder / file).exists():
        whole = (folder / file).read_bytes()
        contents += [whole[: len(whole) * share // 10] for share in range(10)]
    for content in contents:
        (folder / file).write_bytes(content)
        frame, _ = read(tmp_path, mixed=True)
        assert "a" in set(frame["id"])


def test_a_table_without_a_finished_run_is_empty(tmp_path):
    begin(tmp_path, "a", *LSTM).fail("failed", "why")
    frame, lines = read(tmp_path)
    assert (len(frame), len(lines)) == (0, 1)
    assert tuple(frame.columns) == IDENTITY
    assert "id" in markdown(differing(frame))


def test_unfinished_runs_come_only_when_asked_for(tmp_path):
    finish(tmp_path, "a", *LSTM, summary={"steps": 3})
    begin(tmp_path, "b", *LSTM).fail("failed", "why")
    begin(tmp_path, "c", *LSTM).fail("stopped", "Ctrl-C")
    begin(tmp_path, "d", *LSTM)  # its process is this one, which is no longer at it
    (tmp_path / "runs" / "e").mkdir()  # a process died as it began
    frame, lines = read(tmp_path)
    assert list(frame["id"]) == ["a"]
    assert lines == ["left out: 4 runs without a result (--all shows them)"]
    frame, _ = read(tmp_path, unfinished=True)
    states = frame.set_index("id")["state"].to_dict()
    assert states == {"a": "finished", "b": "failed", "c": "stopped", "d": "killed", "e": "killed"}
    assert frame.set_index("id").loc["b", "cause"] == "why"


def test_columns_and_order_are_chosen_by_name(tmp_path):
    for seed, loss in enumerate((2.0, None, 1.0)):
        finish(tmp_path, f"a{seed}", *LSTM, seed=seed, summary={"validation/loss": loss, "validation/f1": 0.5})
    frame, _ = read(tmp_path)
    assert list(order(frame, ["validation/loss"])["seed"]) == [2, 0, 1]
    assert list(order(frame, ["validation/loss"], descending=True)["seed"]) == [0, 2, 1]
    assert list(choose(frame, ["validation/*", "seed"])) == ["validation/loss", "validation/f1", "seed"]
    with pytest.raises(InputError, match="no column 'sead'"):
        choose(frame, ["sead"])
    with pytest.raises(InputError, match="no column 'sead'"):
        order(frame, ["sead"])
    assert list(differing(frame)) == ["id", "seed", "validation/loss"]


def test_an_option_that_only_one_norm_has_tells_no_runs_apart(tmp_path):
    finish(tmp_path, "a", "model=lstm", "norm=layer")
    finish(tmp_path, "b", "model=lstm", "norm=batch", "trainer.threads=1")
    shown = list(differing(read(tmp_path)[0]))
    assert "norm.momentum" not in shown
    assert {"id", "norm", "trainer.threads"} <= {*shown}


def test_the_table_is_written_in_every_format(tmp_path):
    finish(tmp_path, "a", *LSTM, summary={"x": "word", "n": 3})
    finish(tmp_path, "b", "model=cnn", "norm=batch", seed=1, summary={"x": 4, "validation/loss": 0.123456})
    frame, _ = read(tmp_path)
    for suffix, reader in ((".csv", pandas.read_csv), (".parquet", pandas.read_parquet)):
        path = tmp_path / f"table{suffix}"
        write(frame, path)
        again = reader(path)
        assert list(again.columns) == list(frame.columns)
        assert again["optim.lr"].tolist() == frame["optim.lr"].tolist()
        assert again["id"].tolist() == frame["id"].tolist()
    write(choose(frame, ["id", "n", "validation/loss"]), tmp_path / "table.md")
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in (tmp_path / "table.md").read_text().split("\n")
    ]
    assert [cells[0], *cells[2:4]] == [["id", "n", "validation/loss"], ["b", "", "0.1235"], ["a", "3", ""]]
    with pytest.raises(InputError, match=r"must end in .csv"):
        write(frame, tmp_path / "table.xls")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written"):
        write(frame, tmp_path / "file" / "table.csv")


def test_text_stays_text_in_markdown():
    frame = pandas.DataFrame({"code": ["12e4", "007"]})
    assert "12e4" in markdown(frame)
    assert "007" in markdown(frame)


def test_the_command_answers_as_every_command(script, tmp_path):
    status, _, err = script("--runs", tmp_path)
    assert (status, "error: there are no runs" in err) == (2, True)
    finish(tmp_path, "a", *LSTM)
    finish(tmp_path, "b", *LSTM, code="other", seed=1)
    status, out, err = script("--runs", tmp_path, "--columns", "id,seed")
    assert (status, "| a" in out, "| b" in out) == (0, True, False)
    assert "left out: 1 run whose code has changed" in err
    status, out, _ = script("--runs", tmp_path, "--stale", "--output", tmp_path / "deep" / "t.csv")
    assert (status, len(pandas.read_csv(tmp_path / "deep" / "t.csv"))) == (0, 2)
    status, _, err = script("--runs", tmp_path, "--where", "sead == 1")
    assert (status, err.startswith("error: --where")) == (2, True)
    status, out, err = script("--runs", tmp_path, "--stale", "--rows", "1")
    assert "and 1 more" in err


def test_a_table_without_rows_still_has_its_columns():
    """Of text too: all runs of other code, left out."""
    assert markdown(pandas.DataFrame({"id": [], "norm": []}, dtype="str")).splitlines()[0].split() == [
        "|",
        "id",
        "|",
        "norm",
        "|",
    ]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("norm=layer", "write 'norm == \"layer\"'"),
        ("seed=3", "write 'seed == 3'"),
        ("optim.lr=1e-3", "write '`optim.lr` == 1e-3'"),
    ],
)
def test_an_option_is_no_condition_and_the_condition_is_said(given, meant):
    with pytest.raises(InputError, match=re.escape(meant)):
        select(pandas.DataFrame({"norm": ["layer"], "seed": [3], "optim.lr": [1e-3]}), given)


def test_output_is_the_folder_of_runs_as_train_py_takes_it(tmp_path):
    parser = Parser("x", None)
    parser.add_runs()
    assert parser.parse_args([f"output={tmp_path}"]).runs == tmp_path
    parser.add_argument("--output")
    assert parser.parse_args([f"output={tmp_path}"]).runs == tmp_path
    assert parser.parse_args(["output=runs.csv"]).output == "runs.csv"
    assert parser.parse_args(["--output", str(tmp_path)]).output == str(tmp_path)
