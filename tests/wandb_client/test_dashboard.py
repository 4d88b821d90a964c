"""The workspace and the report, as a server gets them and as a file."""

import json
import re
from dataclasses import asdict
from functools import partial

import pytest

from normlab.config.schema import InputError
from normlab.config.shipped import CONF
from normlab.dashboard import chart, panels
from normlab.findings.read import read_findings
from normlab.findings.verdict import Reason, Verdict
from normlab.folder.jsonfile import read_json, write_json

SUMMARY = panels.FindingSummary(
    "x", 1, "a title", "what", "who", "that", "test/accuracy", "supported", ["+1"], ["a", "b"]
)


@pytest.fixture
def dashboard(normlab):
    return partial(normlab, "dashboard")


def study(folder):
    """What a study leaves behind, made up, of a finding that there is."""
    name = sorted((CONF / "finding").glob("*.yaml"))[0].stem
    (finding,) = read_findings(CONF, [name])
    verdict = Verdict(
        finding=name,
        claim=finding.claim,
        primary=finding.primary,
        title=finding.title,
        scale="quick",
        rule=finding.rule,
        margin=None,
        level=0.95,
        state="supported",
        reason=Reason.NONE,
    )
    folder.mkdir(parents=True)
    write_json(folder / "verdicts.json", {"verdicts": [asdict(verdict)]})
    write_json(folder / "manifest.json", {"command": "python train.py"})
    arm = next(iter(finding.arms))
    lines = ["finding,stage,arm,condition,cell,point,seed,id,outcome,diverged"]
    lines += [f"{name},report,{arm},,{arm},,{seed},run-{seed},finished,False" for seed in (0, 1)]
    (folder / "runs.csv").write_text("\n".join(lines) + "\n")
    return finding


def panels_of(spec):
    return [panel for section in spec["section"]["panelBankConfig"]["sections"] for panel in section["panels"]]


def test_every_panel_shows_a_column_that_runs_have():
    """Curves and results by the names of the run's own record."""
    spec = json.dumps(panels_of(panels.spec_of_workspace(panels.workspace("e", "p"))))
    for name in ("validation/r2", "validation/mae", "test/rmse", "validation/mean_iou", "last/mean_dice"):
        assert f'{name}"' in spec, name
    for name in ("validation/accuracy", "test/accuracy", "last/accuracy", "area/loss", "train/examples"):
        assert f'{name}"' in spec, name
    for quantity in panels.QUANTITIES:
        assert f'"inside/{quantity}"' in spec, quantity
    assert '"config:optim.value.lr"' in spec


def sensitivity(spec):
    return [p["config"] for p in panels_of(spec) if p["viewType"] == "Vega2"]


def test_learning_rates_are_a_point_a_run_coloured_by_norm():
    """What the chart draws are columns that the panel asks for, and those are flat ones of every run."""
    accuracy, *others = sensitivity(panels.spec_of_workspace(panels.workspace("e", "p", "e/chart")))
    assert len(others) == 1 + len(panels.GOALS)
    assert accuracy["panelDefId"] == "e/chart"
    (runs,) = accuracy["userQuery"]["queryFields"]
    asked = {field["name"]: field["args"][0]["value"] for field in runs["fields"] if field.get("args")}
    assert asked == {"config": ["lr", "norm", "model", "task"], "summary": ["validation/accuracy"]}
    fields = accuracy["fieldSettings"]
    assert set(fields.values()) == {*asked["config"], *asked["summary"]}
    used = set(re.findall(r"\$\{field:(\w+)\}", json.dumps(chart.SPEC)))
    assert used == set(fields)
    points = chart.SPEC["encoding"]
    assert points["color"]["field"] == "${field:norm}"
    assert (points["x"]["field"], points["x"]["scale"]) == ("${field:rate}", {"type": "log"})
    assert {layer["encoding"]["y"]["field"] for layer in chart.SPEC["layer"]} == {"${field:score}"}


def test_where_wandb_keeps_no_chart_they_are_a_scatter():
    spec = panels.spec_of_workspace(panels.workspace("e", "p", None))
    assert sensitivity(spec) == []
    titles = [panel["config"].get("chartTitle") for panel in panels_of(spec)]
    assert "validation/accuracy by optim.lr" in titles


def test_filters_arrive():
    spec = panels.spec_of_workspace(panels.workspace("e", "p"))
    (runs,) = spec["section"]["runSets"]
    assert [f["key"]["name"] for f in runs["filters"]["filters"]] == ["jobType"]
    assert [key["name"] for key in runs["grouping"]] == ["model.value", "task.value", "norm.value", "cell.value"]
    report = json.dumps(panels.spec_of_report(panels.report("e", "p", [SUMMARY])))
    assert '"value": ["a", "b"]' in report


@pytest.mark.parametrize("bad", ["config.norm in ['a', 'b']", "config.norm == 'a' and Metric('JobType') != 'study'"])
def test_a_filter_that_would_be_dropped_is_an_error(bad):
    view = panels.workspace("e", "p")
    view.runset_settings.filters = bad
    with pytest.raises(InputError, match="would drop a filter"):
        panels.spec_of_workspace(view)


@pytest.mark.slow
def test_offline_it_writes_both_and_talks_to_nobody(dashboard, server, tmp_path):
    finding = study(tmp_path / "study")
    done = dashboard("--study", str(tmp_path / "study"), "--offline", str(tmp_path / "d.json"))
    assert done.status == 0, done.err
    content = read_json(tmp_path / "d.json")
    assert set(content) == {"workspace", "chart", "report"}
    text = json.dumps(content["report"])
    assert "supported" in text
    assert json.dumps(finding.title)[1:-1] in text
    assert '"value": ["run-0", "run-1"]' in text
    assert server.requests == []


@pytest.mark.slow
def test_saved_to_a_project_it_arrives_with_the_verdicts(dashboard, server, tmp_path):
    finding = study(tmp_path / "study")
    done = dashboard("--project", "trials", "--study", str(tmp_path / "study"))
    assert done.status == 0, done.err
    views = {view["type"]: view for view in server.state.views.values()}
    assert set(views) == {"project-view", "runs"}
    assert all(view["projectName"] == "trials" for view in views.values())
    assert len(panels_of(views["project-view"]["spec"])) > 20
    assert "supported" in json.dumps(views["runs"]["spec"])
    assert server.state.projects == {"trials"}  # which was not there before
    (name,) = server.state.charts
    assert json.loads(server.state.charts[name]) == chart.SPEC
    assert {panel["panelDefId"] for panel in sensitivity(views["project-view"]["spec"])} == {name}
    (run,) = server.state.runs.values()
    assert (run.job_type, run.exit_code) == ("study", 0)
    assert run.summary[f"verdict/{finding.name}"] == "supported"
    (table,) = (json.loads(content) for name, content in run.files.items() if name.endswith("table.json"))
    assert table["data"][0][3] == "supported"


@pytest.mark.slow
def test_saved_again_it_shows_the_chart_that_is_there(dashboard, server):
    for _ in range(2):
        done = dashboard("--project", "trials")
        assert done.status == 0, done.err
    (name,) = server.state.charts
    shown = [sensitivity(v["spec"]) for v in server.state.views.values() if v["type"] == "project-view"]
    assert [{panel["panelDefId"] for panel in panels} for panels in shown] == [{name}, {name}]


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (("--study", "nowhere"), {}, "it has no verdicts.json"),
        pytest.param((), {"WANDB_API_KEY": ""}, "wandb login", marks=pytest.mark.slow),
        pytest.param((), {"WANDB_BASE_URL": "http://127.0.0.1:9"}, "can't be reached", marks=pytest.mark.slow),
    ],
)
def test_bad_input_is_one_line(arguments, environment, words, dashboard):
    done = dashboard(*arguments, **environment)
    assert done.status == 2
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
