"""Write conf/wandb_sweeps/*.yaml from the primaries of conf/finding: python scripts/wandb/wandb_sweeps.py

A grid over a finding's cells, tuning points and seeds. Start one with

    wandb sweep conf/wandb_sweeps/NAME.yaml
    wandb agent ENTITY/PROJECT/SWEEP        # as many as you like, on as many machines; what it prints says it exactly
"""

from __future__ import annotations

from normlab.stopping.program import begin

begin(__name__)

from typing import Any

import yaml

from normlab.command_line.guard import guard
from normlab.config.shipped import CONF
from normlab.findings.finding import Finding
from normlab.findings.read import read_findings
from normlab.study.scale import Scale

FOLDER = CONF / "wandb_sweeps"
# apart from studies, and computed although an earlier sweep has: W&B waits for every run that it hands out
OWN = ("output=outputs/sweeps", "rerun=true")
HEAD = """\
# Made from conf/finding/{name}.yaml by scripts/wandb/wandb_sweeps.py, which renews it; a test holds them together.
# wandb sweep conf/wandb_sweeps/{name}.yaml, then the `wandb agent` that it prints.
"""


def main() -> None:
    with guard():
        FOLDER.mkdir(exist_ok=True)
        texts = sweeps()
        for path in FOLDER.glob("*.yaml"):
            if path.name not in texts:
                path.unlink()
        for name, text in texts.items():
            (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"{FOLDER.name}: {', '.join(texts)}")


def sweeps() -> dict[str, str]:
    """File name → content, for every primary."""
    names = [path.stem for path in sorted((CONF / "finding").glob("*.yaml"))]
    primaries = [finding for finding in read_findings(CONF, names) if finding.primary]
    scale = Scale.model_validate(yaml.safe_load((CONF / "scale" / "quick.yaml").read_text(encoding="utf-8")))
    return {f"{finding.name}.yaml": text_of(finding, scale) for finding in primaries}


def text_of(finding: Finding, scale: Scale) -> str:
    """One sweep."""
    content = yaml.safe_dump(sweep_of(finding, scale), sort_keys=False, allow_unicode=True, width=110)
    return HEAD.format(name=finding.name) + content


def sweep_of(finding: Finding, scale: Scale) -> dict[str, Any]:
    """The grid: every cell at every tuning point with every seed."""
    parameters: dict[str, Any] = {"arm": {"values": [str(cell) for cell in finding.cells]}}
    if finding.tune is not None:
        parameters[finding.tune.option] = {"values": list(finding.tune.points)}
    parameters["seed"] = {"values": scale.reporting(finding)}
    size = "full" if "full" in finding.scales else next(iter(finding.scales))
    return {
        "name": finding.name,
        "description": finding.statement,
        "project": "normlab",
        "program": "scripts/wandb/sweep_run.py",
        "method": "grid",
        "metric": {"name": finding.metric, "goal": "maximize" if finding.better == "higher" else "minimize"},
        "parameters": parameters,
        "command": [
            "${env}",
            "python",
            "${program}",
            f"finding={finding.name}",
            f"scale={size}",
            *OWN,
            "${args_no_hyphens}",
        ],
    }


if __name__ == "__main__":
    main()
