"""The W&B project: a workspace for all runs, and a report of a study's findings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from normlab.config.schema import InputError
from normlab.dashboard import chart as charts
from normlab.study.tracked import FindingSummary

STEP, EXAMPLES, SECONDS = "trainer/global_step", "train/examples", "train/seconds"
QUANTITIES = ("gradient", "activation", "dead", "stable_rank", "cosine", "gain_drift", "tid_mean", "tid_var")
# each line is a cell: mean and spread over its seeds. The levels above it group the table by model, task and norm.
GROUPS = ("model", "task", "norm", "cell")
COLUMNS = (
    *("config:norm.value", "config:model.value", "config:task.value", "config:seed.value", "config:optim.value.lr"),
    *("summary:validation/accuracy", "summary:validation/bits_per_character", "summary:validation/loss"),
    *("summary:validation/r2", "summary:validation/mae", "summary:validation/mean_iou", "summary:validation/mean_dice"),
    *("summary:test/accuracy", "summary:test/bits_per_character", "summary:area/loss", "summary:diverged"),
    *("summary:steps", "summary:train_seconds", "run:state", "tags:__ALL__"),
)
# sections of goals that not every project has: their metrics, the main one first
GOALS = {
    "Regression: R², and errors in the target's unit": ("r2", "mae", "rmse"),
    "Segmentation: intersection over union, and Dice": ("mean_iou", "mean_dice", "pixel_accuracy"),
}
SHOWN_RUNS = 20  # lines per panel


def workspace(entity: str, project: str, chart: str | None = None) -> ws.Workspace:
    """All runs, one line per cell.

    Args:
        chart: W&B's name of the chart of learning rates; None if it has none.
    """
    return ws.Workspace(
        entity=entity,
        project=project,
        name="normlab",
        sections=_sections(chart),
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=SHOWN_RUNS, smoothing_weight=0, smoothing_type="none"),
        runset_settings=ws.RunsetSettings(
            filters="Metric('JobType') != 'study'",
            groupby=[ws.Config(name) for name in GROUPS],
            pinned_columns=list(COLUMNS),
        ),
    )


def _sections(chart: str | None) -> list[ws.Section]:
    accuracy, bits = "validation/accuracy", "validation/bits_per_character"
    return [
        ws.Section(
            name="Curves: one line per configuration, the band is the spread over seeds",
            is_open=True,
            panels=[
                *(curve(name, STEP) for name in (accuracy, bits, "validation/loss", "train/loss")),
                *(curve(name, axis) for axis in (EXAMPLES, SECONDS) for name in (accuracy, bits)),
                curve("train/lr", STEP),
            ],
        ),
        ws.Section(
            name="Test, best and last",
            is_open=True,
            panels=[
                *(bar(f"{split}/{m}") for split in ("test", "validation", "last") for m in _METRICS),
                bar("area/loss"),
                bar("diverged"),
            ],
        ),
        ws.Section(
            name="Sensitivity: learning rate, batch size, normalisation batch size",
            is_open=True,
            panels=[
                *(_by_learning_rate(chart, f"validation/{m}") for m in _METRICS),
                *(scatter("task_options.batch_size", f"validation/{m}") for m in _METRICS),
                wr.ScatterPlot(
                    title="accuracy by normalisation batch size",
                    x=wr.SummaryMetric("normalisation_batch_size"),
                    y=wr.SummaryMetric(accuracy),
                    log_x=True,
                ),
                parallel(),
            ],
        ),
        *(_goal(name, metrics, chart) for name, metrics in GOALS.items()),
        ws.Section(
            name="Why: inside the network (measure.inside=true)",
            is_open=True,
            panels=[
                *(curve(f"inside/{quantity}", STEP) for quantity in QUANTITIES),
                *(sites(quantity) for quantity in ("gradient", "activation", "tid_var")),
            ],
        ),
        ws.Section(
            name="Machine",
            panels=[*(wr.LinePlot(title=name, y=[name]) for name in ("system/cpu", "system/memory_percent"))],
        ),
    ]


def _goal(name: str, metrics: Sequence[str], chart: str | None) -> ws.Section:
    """Closed until it is wanted, because most projects have runs of other goals."""
    return ws.Section(
        name=name,
        panels=[
            *(curve(f"validation/{metric}", STEP) for metric in metrics),
            *(bar(f"{split}/{metric}") for split in ("test", "validation", "last") for metric in metrics),
            _by_learning_rate(chart, f"validation/{metrics[0]}"),
        ],
    )


_METRICS = ("accuracy", "bits_per_character")


def curve(metric: str, axis: str) -> wr.LinePlot:
    """A metric over steps, examples or seconds; one line per group of the table."""
    rising = metric.startswith("inside/") and metric.split("/")[1] in ("gradient", "activation")
    return wr.LinePlot(title=f"{metric} by {axis}", x=axis, y=[metric], log_y=rising, max_runs_to_show=SHOWN_RUNS)


def sites(quantity: str) -> wr.LinePlot:
    """A quantity at each site of the network."""
    return wr.LinePlot(title=f"{quantity}, each site", x=STEP, metric_regex=f"inside/{quantity}/.*", log_y=True)


def bar(metric: str) -> wr.BarPlot:
    """One bar per cell."""
    return wr.BarPlot(title=metric, metrics=[wr.SummaryMetric(metric)], max_bars_to_show=SHOWN_RUNS)


def scatter(option: str, metric: str) -> wr.ScatterPlot:
    """One point per run."""
    return wr.ScatterPlot(title=f"{metric} by {option}", x=wr.Config(option), y=wr.SummaryMetric(metric), log_x=True)


def _by_learning_rate(chart: str | None, metric: str) -> Any:
    return charts.by_learning_rate(chart, metric) if chart else scatter("optim.lr", metric)


def parallel() -> wr.ParallelCoordinatesPlot:
    """Options and results, one line per run."""
    column = wr.ParallelCoordinatesPlotColumn
    return wr.ParallelCoordinatesPlot(
        title="options and results",
        columns=[
            column(wr.Config("norm"), display_name="norm"),
            column(wr.Config("optim.lr"), display_name="learning rate", log=True),
            column(wr.Config("task_options.batch_size"), display_name="batch", log=True),
            column(wr.SummaryMetric("validation/accuracy"), display_name="accuracy"),
            column(wr.SummaryMetric("validation/loss"), display_name="loss", inverted=True),
        ],
    )


def report(
    entity: str, project: str, findings: Sequence[FindingSummary], runs_of: Mapping[str, Any] | None = None
) -> wr.Report:
    """Claims, verdicts, and the runs behind each.

    Args:
        runs_of: keywords for a runset that say where its runs are; None if there is no server to ask
    """
    where = dict(runs_of or {})
    blocks: list[Any] = [wr.TableOfContents(), wr.H1("Findings"), wr.MarkdownBlock(_overview(findings))]
    for finding in findings:
        claim = f"Claim {finding.claim}: " if finding.claim else ""
        blocks += [wr.H2(f"{claim}{finding.title}"), wr.MarkdownBlock(_story(finding))]
        if finding.runs:
            blocks.append(
                wr.PanelGrid(
                    runsets=[_runset(finding.name, _named(finding.runs), where)],
                    panels=_laid_out([bar(finding.metric), *(curve(m, STEP) for m in _curves(finding.metric))]),
                )
            )
    blocks += [wr.H1("All runs"), _all_runs(where)]
    return wr.Report(
        entity=entity,
        project=project,
        title="normlab: which normalisation should a network use?",
        description="Findings with their verdicts, and the runs behind them.",
        blocks=blocks,
        width="fluid",
    )


def _all_runs(where: Mapping[str, Any]) -> wr.PanelGrid:
    sets = [
        _runset(model, f"Config('model') = '{model}' and Metric('JobType') in ['training', 'lengths']", where)
        for model in ("cnn", "lstm", "gru", "transformer", "mlp", "module")
    ]
    panels = [curve(f"validation/{name}", STEP) for name in (*_METRICS, "r2", "mean_iou")]
    return wr.PanelGrid(runsets=sets, panels=_laid_out([*panels, bar("test/accuracy"), parallel()]))


def _runset(name: str, filters: str, where: Mapping[str, Any]) -> wr.Runset:
    return wr.Runset(name=name, filters=filters, groupby=[f"config.{key}" for key in GROUPS], **where)


def _named(runs: Iterable[str]) -> str:
    names = ", ".join(f"'{name}'" for name in runs)
    return f"Metric('Name') in [{names}]"


def _curves(metric: str) -> list[str]:
    """The curves whose last values are this metric of the summary."""
    split, _, name = metric.partition("/")
    if split in ("test", "last", "validation", "last_test"):
        return [f"validation/{name}", "train/loss"]
    return ["validation/loss", "train/loss"]


def _laid_out(panels: Sequence[Any]) -> list[Any]:
    """Two per row."""
    for number, panel in enumerate(panels):
        panel.layout = wr.Layout(x=12 * (number % 2), y=8 * (number // 2), w=12, h=8)
    return list(panels)


_MARKS = {"supported": "✓", "contradicted": "✗", "undecided": "?", "estimate": "·"}


def _overview(findings: Sequence[FindingSummary]) -> str:
    if not findings:
        return "No study was given: `normlab dashboard --study outputs/studies/NAME` shows its verdicts."
    rows = [
        f"| {one.claim or ''} | {one.title} | {_MARKS.get(one.verdict or '', '')} {one.verdict or 'not run'} |"
        for one in findings
    ]
    return "\n".join(["| claim | finding | verdict |", "| --- | --- | --- |", *rows])


def _story(finding: FindingSummary) -> str:
    verdict = f"**{finding.verdict}**" if finding.verdict else "not run yet"
    numbers = [f"- {line}" for line in finding.numbers]
    expected = f"Expected from the literature: {finding.expect}"
    return "\n\n".join(
        [finding.statement, f"Verdict: {verdict}", "\n".join(numbers), expected, f"Source: {finding.source}"]
    )


def spec_of_workspace(view: ws.Workspace) -> dict[str, Any]:
    """What a server would be sent.

    Raises:
        InputError: a filter is missing from it.
    """
    spec: dict[str, Any] = json.loads(view._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    check_filters(str(view.runset_settings.filters), spec["section"]["runSets"][0]["filters"])
    return spec


def spec_of_report(view: wr.Report) -> dict[str, Any]:
    """What would be sent to a server. For `Raises` see `spec_of_workspace`."""
    spec: dict[str, Any] = json.loads(view._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    grids = [block for block in spec["blocks"] if block["type"] == "panel-grid"]
    asked = [block for block in view.blocks if isinstance(block, wr.PanelGrid)]
    for grid, wanted in zip(grids, asked, strict=True):
        for sent, runset in zip(grid["metadata"]["runSets"], wanted.runsets, strict=True):
            check_filters(str(runset.filters), sent["filters"])
    return spec


def check_filters(text: str, sent: dict[str, Any]) -> None:
    """Check that no filter is lost, because W&B's parser silently drops what it doesn't understand.

    Raises:
        InputError: fewer conditions are sent than the text has.
    """
    wanted, arrived = text.count(" and ") + 1 if text else 0, len(list(_conditions(sent)))
    if wanted != arrived:
        raise InputError(f"W&B would drop a filter: of {text!r} {arrived} of {wanted} conditions arrive")


def _conditions(node: dict[str, Any]) -> Iterable[dict[str, Any]]:
    if node.get("key"):
        yield node
    for part in node.get("filters") or []:
        yield from _conditions(part)
