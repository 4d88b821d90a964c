"""Which norm for my network? Looks up what the findings have measured.

    normlab advise model=lstm batch=4 lengths=variable

model=cnn|lstm|transformer|vit|mlp, and any of
batch=4                          examples per set of batch norm's statistics
lengths=fixed|variable|unseen    of sequences; unseen: longer than in training
features=many|one                of a series, per time step
order=shuffled|sorted            sorted: batches of one class
task=classification|language_model|segmentation|pretraining
data=large|small
depth=shallow|deep
trouble=none|evaluation          good in training, worse in evaluation mode
want=independence|high_rates|few_steps|training_time|inference_time|memory

Without a condition, everything known about the model is shown. Your own studies, in outputs/studies, are shown before
the reference.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from normlab.advice.matrix import Answer, Matrix, Preference
from normlab.advice.questions import askable, conditions
from normlab.advice.tell import tell
from normlab.commands.parser import Parser
from normlab.findings.advice import CONDITIONS, Model, When
from normlab.folder.study_folder import StudyFolder
from normlab.host.waits import waiting
from normlab.report.build import gather, own_studies

OUTPUT = Path("outputs")
RUNS_SHOWN = 3


def main(arguments: Sequence[str]) -> None:
    """Read the arguments and show the evidence."""
    parser = Parser("advise", __doc__)
    parser.add_argument("choices", metavar="KEY=VALUE", nargs="*", help="properties of your network")
    parser.add_argument(
        "--output", metavar="FOLDER", type=Path, default=OUTPUT, help=f"folder of your runs; default: {OUTPUT}"
    )
    asked = parser.parse_args(arguments)
    model, chosen, remarks = conditions(asked.choices)
    with waiting("reading the studies"):
        report = gather(own_studies(asked.output))
    if not any(answer.best for answer in report.matrix.values()):
        remarks = [*remarks, "there are no results yet: normlab study=textbook scale=quick produces some"]
    show(Console(), report.matrix, model, chosen or askable(model), [*remarks, *report.problems])


def show(console: Console, matrix: Matrix, model: Model, chosen: Iterable[When], remarks: Iterable[str]) -> None:
    for when in chosen:
        console.print(f"[bold]{model} · {CONDITIONS[when]}[/]", highlight=False)
        answer = matrix.get((when, model), Answer())
        for evidence in (each for each in answer.best if each.outcome not in ("point", "failed")):
            first, second = lines(evidence)
            _say(console, first, 2)
            _say(console, second, 4)
        _undecided(console, when, model, answer)
        for evidence in answer.best:
            if evidence.outcome in ("point", "failed"):
                _say(console, f"{evidence.words}: {evidence.short}", 2)
        if answer.others:
            others = "; ".join(f"{evidence.finding.name}, {evidence.short}" for evidence in answer.others)
            _say(console, f"also measured by {others}", 2)
    for remark in remarks:
        console.print(f"[dim]{escape(remark)}[/]", highlight=False)


def _undecided(console: Console, when: When, model: Model, answer: Answer) -> None:
    """What to do where nothing is decided."""
    told = tell(when, model, answer)
    if told is None:
        return
    measured = "not decided: what we have is too little or too close"
    if not answer.best:
        measured = "nothing yet: we have no evidence"
    elif answer.best[0].decided:
        measured = "your own data decide"
    _say(console, measured, 2)
    if told.literature:
        _say(console, f"literature, not measured here: {told.literature}", 2)
    _say(console, "to find out: " + told.command, 2, copied=True)
    _say(console, f"costs {told.cost}", 4)


def _say(console: Console, text: str, indent: int, *, copied: bool = False) -> None:
    """Indented, also where it is wrapped; a command to copy stays in one line."""
    if copied:
        console.print(" " * indent + escape(text), highlight=False, soft_wrap=True)
    else:
        console.print(Padding(Text(text), (0, 0, 0, indent), expand=False), highlight=False)


def lines(evidence: Preference) -> list[str]:
    more = len(evidence.runs) - RUNS_SHOWN
    runs = ", ".join(evidence.runs[:RUNS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    table = os.path.relpath(StudyFolder(evidence.result.source.folder).runs_file)
    return [
        f"{evidence.words}: {evidence.value}",
        f"{evidence.strength}; {evidence.cited}; runs {runs or 'not recorded'} in {table}",
    ]
