"""Create a W&B workspace and report.

Creates a workspace (curves by cell with the spread over seeds, test results, sensitivity, panels that explain why, a
table of runs) and a report of a study's findings with their verdicts. The study itself becomes a run with a table of
its verdicts. With --offline it contacts no server and writes what it would send.

    normlab dashboard --study outputs/studies/textbook-quick
    normlab dashboard --offline dashboard.json
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from normlab.commands.parser import Parser, new_file
from normlab.config.schema import InputError, WandbConfig
from normlab.config.shipped import CONF
from normlab.findings.read import read_findings
from normlab.folder.jsonfile import write_json
from normlab.folder.study_folder import StudyFolder
from normlab.study.planned import finding_of
from normlab.study.tracked import FindingSummary, summarise, table_of

HINT = "pip install 'normlab[dashboard]'"


def main(arguments: Sequence[str]) -> None:
    """Read the arguments, and create or write the dashboard."""
    parser = Parser("dashboard", __doc__)
    parser.add_argument("--project", default="normlab", help="default: normlab")
    parser.add_argument("--entity", help="W&B entity that owns the project; default: yours")
    parser.add_argument("--study", metavar="FOLDER", type=Path, help="folder of a study, such as outputs/studies/NAME")
    parser.add_argument(
        "--offline", metavar="FILE", type=new_file(".json"), help="write the specifications as JSON instead"
    )
    asked = parser.parse_args(arguments)
    try:
        from normlab.dashboard import panels
    except ModuleNotFoundError as error:
        raise InputError(f"the dashboard needs {error.name}: {HINT}") from None
    findings = summaries(asked.study)
    if asked.offline:
        write(panels, asked, findings)
    else:
        save(panels, asked, findings)


def summaries(study: Path | None) -> list[FindingSummary]:
    """The findings of a study or, without a study, all findings in conf, without verdicts.

    Raises:
        InputError: the folder is not that of a study.
    """
    if study is not None and not StudyFolder(study).verdicts_file.exists():
        raise InputError(f"--study {study}: it has no verdicts.json; studies are in outputs/studies")
    if study is not None:
        names = [verdict["finding"] for verdict in StudyFolder(study).read_verdicts()]
        return summarise([finding_of(study, name, CONF) for name in names], study)
    names = [path.stem for path in sorted((CONF / "finding").glob("*.yaml"))]
    return summarise(read_findings(CONF, names), study)


def write(panels: Any, asked: argparse.Namespace, findings: list[FindingSummary]) -> None:
    os.environ["WANDB_MODE"] = "offline"
    entity, chart = asked.entity or "entity", panels.charts
    content = {
        "workspace": panels.spec_of_workspace(panels.workspace(entity, asked.project, chart.name_for(entity))),
        "chart": chart.SPEC,
        "report": panels.spec_of_report(panels.report(entity, asked.project, findings)),
    }
    write_json(asked.offline, content)
    sections = content["workspace"]["section"]["panelBankConfig"]["sections"]
    count = sum(len(section["panels"]) for section in sections)
    print(f"{asked.offline}: a workspace of {count} panels and a report of {len(findings)} findings")


def save(panels: Any, asked: argparse.Namespace, findings: list[FindingSummary]) -> None:
    os.environ.setdefault("WANDB_SILENT", "true")
    from normlab.mirror.wandb_access import check_access, connect

    check_access(WandbConfig(project=asked.project, entity=asked.entity, mode="online"))
    try:
        api = connect(30)
        entity = asked.entity or str(api.default_entity)
        if asked.project not in [project.name for project in api.projects(entity)]:
            api.create_project(asked.project, entity)
        if asked.study is not None:
            show(WandbConfig(project=asked.project, entity=entity, mode="online"), asked.study, findings)
        view = panels.workspace(entity, asked.project, panels.charts.keep(api, entity))
        panels.spec_of_workspace(view)
        view.save()
        text = panels.report(entity, asked.project, findings, {"entity": entity, "project": asked.project})
        panels.spec_of_report(text)
        text.save()
    except InputError:
        raise
    except Exception as error:  # W&B's client raises errors of many kinds
        raise InputError(f"W&B refused the dashboard of {asked.project}: {' '.join(str(error).split())}") from None
    print(f"workspace: {view.url}\nreport:    {text.url}")


def show(options: Any, study: Path, findings: list[FindingSummary]) -> None:
    """Show the study as its own run.

    Raises:
        InputError: the upload failed.
    """
    from normlab.mirror.wandb_study import show_study

    with tempfile.TemporaryDirectory() as scratch:
        if not show_study(options, Path(scratch), table_of(study, findings)):
            raise InputError(f"the verdicts of {study} could not be uploaded")
