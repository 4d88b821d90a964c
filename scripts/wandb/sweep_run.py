"""One run of a W&B sweep over a finding: what `wandb agent` calls, see conf/wandb_sweeps.

    python scripts/wandb/sweep_run.py finding=coupling arm=batch seed=3 [scale=full] [OPTION=VALUE ...]

`arm` is a cell of the finding and stands for its choices; every other option goes to train.py as it is. W&B writes
None for null, which Hydra would take for a word.
"""

from __future__ import annotations

from normlab.stopping.program import begin

begin(__name__)

import os
import sys
from pathlib import Path

from normlab.command_line.guard import guard
from normlab.config.schema import InputError
from normlab.config.shipped import CONF
from normlab.findings.read import read_findings

OWN = ("finding", "arm", "scale")
TRAIN = Path(__file__).parents[2] / "train.py"


def main() -> None:
    with guard():
        choices = choices_of(sys.argv[1:])
        os.execv(sys.executable, [sys.executable, str(TRAIN), *choices])


def choices_of(arguments: list[str]) -> list[str]:
    """The overrides that train.py gets.

    Raises:
        InputError: an option is invalid, or there is no such finding, arm or scale.
    """
    wrong = [argument for argument in arguments if "=" not in argument]
    if wrong:
        raise InputError(f"{wrong[0]} is no OPTION=VALUE")
    values = dict(argument.split("=", 1) for argument in arguments)
    missing = [name for name in ("finding", "arm") if name not in values]
    if missing:
        raise InputError(f"{missing[0]}=... is missing")
    (finding,) = read_findings(CONF, [values["finding"]])
    cells = {str(cell): cell for cell in finding.cells}
    scale = values.get("scale", "full")
    for name, known in (("arm", list(cells)), ("scale", list(finding.scales))):
        chosen = scale if name == "scale" else values[name]
        if chosen not in known:
            raise InputError(f"{name}={chosen}: finding={finding.name} has {', '.join(known)}")
    rest = [f"{name}={'null' if value == 'None' else value}" for name, value in values.items() if name not in OWN]
    return [*finding.choices(cells[values["arm"]], scale), "trainer.progress=false", *rest]


if __name__ == "__main__":
    main()
