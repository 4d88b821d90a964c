"""A study whose runs are logged to W&B: every run has the tags of what it serves, and the verdicts are a run too."""

import json

import pytest

from finding_files import finding, write
from normlab.folder.jsonfile import read_json

pytestmark = pytest.mark.slow  # each is a study of four runs, or two

QUICK = "logger.wandb.timeout=3"  # seconds instead of half a minute
OFFLINE = {"WANDB_MODE": "offline"}
BOUNDS = {
    "layer": {"moved_by_examples": [0, 0]},
    "batch": {"moved_by_examples": [0.1, None]},
}


@pytest.fixture
def study(zygote, cache, tmp_path, here):
    """`study("first")` is `python train.py finding=first …`, a finding of the user's own; arms by other names."""

    def command(name: str, *options: str, arms=("layer", "batch"), environment=None):
        values = finding(
            name=name,
            claim=None,
            primary=False,
            common=["measure=axes", "model=lstm"],
            arms={arm: [f"norm={norm}"] for arm, norm in zip(arms, BOUNDS, strict=True)},
            bounds=dict(zip(arms, BOUNDS.values(), strict=True)),
            metric="moved_by_examples",
            rule="exact",
            seeds="exact",
            scales={"smoke": []},
            **dict.fromkeys(("tune", "report", "diverged_value", "margin", "contrasts")),
        )
        file = write(tmp_path / "mine", values, name)
        file.write_text(f"# @package _global_\n{file.read_text()}hydra:\n  mode: MULTIRUN\n")
        arguments = ["--config-dir", str(tmp_path / "mine"), f"finding={name}", "scale=smoke", "logger=wandb"]
        own = [f"cache={cache}", f"output={tmp_path / 'outputs'}", *options]
        (ended,) = zygote([*arguments, *own], environment={**here, **(environment or {})})
        return ended

    return command


def runs(server):
    return {name: run for name, run in server.state.runs.items() if run.job_type != "study"}


def tags(server):
    """Of every run, those that a study gave it; by norm."""
    found = {}
    for run in runs(server).values():
        own = {tag for tag in run.tags if tag.startswith(("finding:", "arm:"))}
        found.setdefault(run.values["norm"], []).append(own)
    return found


def table(run):
    (content,) = (json.loads(content) for name, content in run.files.items() if name.endswith("table.json"))
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


FIRST = {"layer": [{"finding:first", "arm:layer"}] * 2, "batch": [{"finding:first", "arm:batch"}] * 2}
BOTH = {
    "layer": [{"finding:first", "arm:layer", "finding:second", "arm:ln"}] * 2,
    "batch": [{"finding:first", "arm:batch", "finding:second", "arm:bn"}] * 2,
}


def test_runs_have_tags_and_the_verdicts_are_a_run(study, server, tmp_path):
    ended = study("first")
    assert ended.status == 0, ended.err
    assert "W&B" not in ended.err
    assert tags(server) == FIRST
    told = server.state.runs["study-first-smoke"]
    assert (told.job_type, told.group, told.exit_code, told.tags) == ("study", "studies", 0, ["finding:first"])
    verdict = read_json(tmp_path / "outputs" / "studies" / "first-smoke" / "verdicts.json")["verdicts"][0]
    assert told.summary["verdict/first"] == verdict["state"]
    (row,) = table(told)
    assert (row["finding"], row["verdict"]) == ("first", verdict["state"])
    numbers = row["numbers"].splitlines()
    assert [line.partition(":")[0] for line in numbers] == [bound["cell"] for bound in verdict["bounds"]]
    assert all(f"{bound['low']:.4g}" in line for line, bound in zip(numbers, verdict["bounds"], strict=True))
    assert told.values["command"].startswith("python train.py")


def test_runs_that_a_later_finding_shares_get_its_tags_too(study, server):
    assert study("first").status == 0
    before = {name: (len(run.history), run.summary, run.values) for name, run in runs(server).items()}
    ended = study("second", arms=("ln", "bn"))
    assert ended.status == 0, ended.err
    assert "all runs finished before" in ended.out
    assert tags(server) == BOTH
    after = {name: (len(run.history), run.summary, run.values) for name, run in runs(server).items()}
    assert after == before  # nothing but the tags
    assert all(len(run.tags) == len(set(run.tags)) for run in runs(server).values())


def test_offline_all_of_it_waits_for_sync(study, server, sync):
    for name, arms in (("first", ("layer", "batch")), ("second", ("ln", "bn")), ("second", ("ln", "bn"))):
        ended = study(name, arms=arms, environment=OFFLINE)
        assert ended.status == 0, ended.err
    assert server.requests == []
    done = sync()
    assert done.status == 0, done.out + done.err
    assert "6 uploaded" in done.out
    assert tags(server) == BOTH
    for name in ("first", "second"):
        told = server.state.runs[f"study-{name}-smoke"]
        assert (told.job_type, told.exit_code) == ("study", 0)
        assert [row["finding"] for row in table(told)] == [name]
    histories = {name: len(run.history) for name, run in server.state.runs.items()}
    again = sync()
    assert again.status == 0
    assert "nothing to upload" in again.out
    assert {name: len(run.history) for name, run in server.state.runs.items()} == histories


def test_a_study_that_is_not_logged_there_tells_nothing(study, server, tmp_path):
    assert study("first", "logger=none").status == 0
    assert server.requests == []
    assert not (tmp_path / "outputs" / "studies" / "first-smoke" / "wandb.json").exists()


@pytest.mark.parametrize("where", ["/", "/file_stream", "/graphql UpsertBucket"])
def test_wandb_that_fails_does_not_fail_the_study(where, study, server, sync):
    assert study("first", "logger=none").status == 0  # what is left is the study's own run
    server.fail(where, status=500)
    ended = study("first", QUICK)
    assert ended.status == 0, ended.err
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("W&B: ")
    assert "make sync" in line
    server.faults.clear()
    done = sync()
    assert done.status == 0, done.out + done.err
    assert server.state.runs["study-first-smoke"].exit_code == 0
    assert server.state.runs["study-first-smoke"].summary["verdict/first"]
