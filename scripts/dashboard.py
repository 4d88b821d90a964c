"""Lay out a W&B project: python scripts/dashboard.py [--project NAME] [--study FOLDER] [--offline FILE]

Makes a workspace (curves by cell with the spread of their seeds, test results, sensitivity, why panels, a table of
runs) and a report that tells a study's findings with their verdicts; the study becomes a run whose table holds them.
With --offline it talks to no server and writes what it would send.

    python scripts/dashboard.py --study outputs/studies/textbook-quick
    python scripts/dashboard.py --offline dashboard.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from normlab.cli import CONF, guard
from normlab.findings.finding import Finding, read_findings
from normlab.findings.rows import read_rows
from normlab.jsonfile import read_json, write_json
from normlab.schema import InputError

HINT = "pip install 'normlab[dashboard]'"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", default="normlab", help="default: normlab")
    parser.add_argument("--entity", help="whose project; default: yours")
    parser.add_argument("--study", metavar="FOLDER", type=Path, help="in outputs/studies")
    parser.add_argument("--offline", metavar="FILE", type=Path, help="write the specifications as JSON instead")
    asked = parser.parse_args()
    with guard():
        try:
            import dashboard_panels
        except ModuleNotFoundError as error:
            raise InputError(f"the dashboard needs {error.name}: {HINT}") from None
        findings = told(dashboard_panels.Told, asked.study)
        if asked.offline:
            write(dashboard_panels, asked, findings)
        else:
            save(dashboard_panels, asked, findings)


def told(make: Any, study: Path | None) -> list[Any]:
    """The findings of a study, primaries first; all that `conf` holds, without verdicts, where no study is given.

    Raises:
        InputError: the folder holds no study.
    """
    if study is not None and not (study / "verdicts.json").exists():
        raise InputError(f"--study {study}: there is no verdicts.json; studies lie in outputs/studies")
    verdicts = {v["finding"]: v for v in read_json(study / "verdicts.json").get("verdicts", [])} if study else {}
    names = list(verdicts) if study else [path.stem for path in sorted((CONF / "finding").glob("*.yaml"))]
    rows = read_rows(study / "runs.csv") if study and (study / "runs.csv").exists() else []
    findings = sorted(read_findings(CONF, names), key=lambda f: (not f.primary, f.claim or 99, f.name))
    return [_told(make, finding, verdicts.get(finding.name), rows) for finding in findings]


def _told(make: Any, finding: Finding, verdict: dict[str, Any] | None, rows: list[dict[str, Any]]) -> Any:
    runs = sorted({str(row["id"]) for row in rows if row["finding"] == finding.name and "id" in row})
    return make(
        name=finding.name,
        claim=finding.claim,
        title=finding.title,
        statement=finding.statement,
        source=finding.source,
        expect=finding.expect,
        metric=finding.metric,
        verdict=verdict["state"] if verdict else None,
        numbers=[_number(estimate) for estimate in verdict["estimates"]] + list(verdict["checks"]) if verdict else [],
        runs=runs,
    )


def _number(estimate: dict[str, Any]) -> str:
    interval = estimate["interval"]
    return (
        f"{estimate['name']}: {estimate['formula']} = {estimate['mean']:+.4g} "
        f"[{interval['low']:+.4g}, {interval['high']:+.4g}], n = {len(estimate['seeds'])}"
    )


def write(panels: Any, asked: argparse.Namespace, findings: list[Any]) -> None:
    os.environ["WANDB_MODE"] = "offline"
    entity = asked.entity or "entity"
    content = {
        "workspace": panels.spec_of_workspace(panels.workspace(entity, asked.project)),
        "report": panels.spec_of_report(panels.report(entity, asked.project, findings)),
    }
    write_json(asked.offline, content)
    sections = content["workspace"]["section"]["panelBankConfig"]["sections"]
    count = sum(len(section["panels"]) for section in sections)
    print(f"{asked.offline}: a workspace of {count} panels and a report of {len(findings)} findings")


def save(panels: Any, asked: argparse.Namespace, findings: list[Any]) -> None:
    os.environ.setdefault("WANDB_SILENT", "true")
    from normlab.measures.wandb_access import check_access
    from normlab.schema import WandbConfig

    check_access(WandbConfig(project=asked.project, entity=asked.entity, mode="online"))
    import wandb

    try:
        api = wandb.Api(timeout=30)
        entity = asked.entity or str(api.default_entity)
        if asked.project not in [project.name for project in api.projects(entity)]:
            api.create_project(asked.project, entity)
        if asked.study is not None:
            tell(entity, asked.project, asked.study, findings)
        view = panels.workspace(entity, asked.project)
        panels.spec_of_workspace(view)
        view.save()
        text = panels.report(entity, asked.project, findings, {"entity": entity, "project": asked.project})
        panels.spec_of_report(text)
        text.save()
    except InputError:
        raise
    except Exception as error:  # W&B's client raises errors of many kinds
        raise InputError(f"W&B did not take the dashboard of {asked.project}: {' '.join(str(error).split())}") from None
    print(f"workspace: {view.url}\nreport:    {text.url}")


def tell(entity: str, project: str, study: Path, findings: list[Any]) -> None:
    """The study as a run of its own: its verdicts as a table, and each in the summary."""
    import wandb

    columns: list[str | int] = ["claim", "finding", "title", "verdict", "numbers", "expected"]
    rows = [[f.claim, f.name, f.title, f.verdict, "\n".join(f.numbers), f.expect] for f in findings]
    with tempfile.TemporaryDirectory() as scratch:
        settings = wandb.Settings(console="off", silent=True, x_disable_stats=True, save_code=False)
        identity: dict[str, Any] = {
            "id": f"study-{study.name}",
            "name": study.name,
            "job_type": "study",
            "group": "studies",
        }
        run = wandb.init(
            entity=entity,
            project=project,
            dir=scratch,
            resume="allow",
            settings=settings,
            config=json.loads(json.dumps(read_json(study / "manifest.json"))),
            **identity,
        )
        run.log({"verdicts": wandb.Table(columns=columns, data=rows)})
        run.summary.update({f"verdict/{f.name}": f.verdict for f in findings})
        run.finish()


if __name__ == "__main__":
    main()
