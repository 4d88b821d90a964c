"""Which norm for my network? A look-up in what the findings have measured: python scripts/advise.py model=lstm batch=4 lengths=variable

model=cnn|lstm|transformer|mlp, and as you like
batch=4                               examples that batch norm takes its statistics over
lengths=fixed|variable|unseen         of sequences; unseen: longer than in training
order=shuffled|sorted                 sorted: batches of one class
task=classification|language_model
depth=shallow|deep
want=independence|high_rates|few_steps|training_time|inference_time|memory

Without a condition all that is known of the model is shown. Studies of your own, in outputs/studies, stand before the reference.
"""  # noqa: E501

from __future__ import annotations

from normlab.stopping.program import begin

begin(__name__)

import argparse
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from normlab.config.command_line import guard
from normlab.findings.advice import CONDITIONS, Model, When
from normlab.report.build import gather, own_studies
from normlab.report.matrix import Evidence, Matrix, conditions

OUTPUT = Path("outputs")
RUNS_SHOWN = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("choices", metavar="KEY=VALUE", nargs="*", help="what your network is like")
    parser.add_argument(
        "--output", metavar="FOLDER", type=Path, default=OUTPUT, help=f"of your runs; default: {OUTPUT}"
    )
    asked = parser.parse_args()
    with guard():
        model, chosen, remarks = conditions(asked.choices)
        report = gather(own_studies(asked.output))
        if not report.matrix:
            remarks = [*remarks, "There are no results to look up: python train.py study=textbook scale=quick"]
        show(Console(), report.matrix, model, chosen or list(CONDITIONS), [*remarks, *report.problems])


def show(console: Console, matrix: Matrix, model: Model, chosen: Iterable[When], remarks: Iterable[str]) -> None:
    for when in chosen:
        console.print(f"[bold]{model} · {CONDITIONS[when]}[/]", highlight=False, soft_wrap=True)
        found = matrix.get((when, model), [])
        if not found:
            console.print("  no evidence here", highlight=False)
        for evidence in found:
            for line in lines(evidence):
                console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    for remark in remarks:
        console.print(f"[dim]{escape(remark)}[/]", highlight=False, soft_wrap=True)


def lines(evidence: Evidence) -> list[str]:
    more = len(evidence.runs) - RUNS_SHOWN
    runs = ", ".join(evidence.runs[:RUNS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    table = evidence.look.source.folder / "runs.csv"
    return [f"{evidence.words}: {evidence.value}", f"    {evidence.cited}; runs {runs or 'not recorded'} in {table}"]


if __name__ == "__main__":
    main()
