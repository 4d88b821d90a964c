"""What would tell where nothing is known: the command, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from normlab.advice.literature import LITERATURE
from normlab.advice.matrix import Answer
from normlab.findings.advice import Model, When
from normlab.findings.finding import LEAST, Finding


@dataclass(frozen=True)
class Tell:
    """For a cell without a decision: what the literature says, and how to find out.

    literature  empty if we know of nothing
    """

    literature: str
    command: str
    cost: str


def tell(when: When, model: Model, answer: Answer) -> Tell | None:
    """None if the question is decided."""
    if answer.best and answer.best[0].decided:
        return None
    finding = answer.best[0].finding if answer.best else next(iter(answer.untried), None)
    literature = LITERATURE.get((model, when), "")
    if finding is None:
        return Tell(literature, *_own_runs(when, model))
    scale = next((name for name in ("quick", "full", "paper") if name in finding.scales), "full")
    own = " scale.tuning=own" if finding.tune is not None and scale == "quick" else ""
    literature = literature or finding.expect
    return Tell(literature, f"python train.py finding={finding.name} scale={scale}{own}", _cost(finding, answer))


def _own_runs(when: When, model: Model) -> tuple[str, str]:
    """The command and its cost where no finding of ours asks the question."""
    seeds = "seed=0,1,2,3,4,5,6,7"
    if when == "evaluation_gap":
        return "Trainer(callbacks=[NormMonitor()])", "one training of yours: the monitor says which norm drifts"
    if model == "vit" or when in ("segmentation", "pretraining"):
        own = f"normlab -m model=module model.target=nets.py:Net norm=own,batch,layer {seeds}"
        return own, "24 runs of your network: its own norms and two others, eight seeds each"
    command = f"normlab -m model={model} norm=batch,layer {seeds}"
    return command, "16 runs: two norms, eight seeds each, at a rate that is not tuned"


def _cost(finding: Finding, answer: Answer) -> str:
    """Runs, and how long one of them took where one has run."""
    least, cells = LEAST[finding.seeds], len(finding.cells)
    runs = f"{least * cells} runs: {cells} cells, {least} seeds each"
    runs += f", and tuning over {len(finding.tune.points)} rates" if finding.tune is not None else ""
    rows = answer.best[0].result.rows if answer.best else []
    spent = [row["seconds"] for row in rows if isinstance(row.get("seconds"), int | float)]
    return runs + (f"; one took about {sum(spent) / len(spent):,.0f} s" if spent else "")
