"""The folder of a study: the only place that knows the names and formats of its files. Imports no torch.

<output>/studies/<name>-<scale>/
    runs.csv       one row per finding and run: tuning and reporting; see `study_table`
    curves.csv     every validation of the reporting runs
    example_scores.jsonl  each reporting run's scores, for findings about data in general; see `example_scores`
    verdicts.json  each finding's verdict, and its earlier looks
    plan.json      the findings as they were planned, and their runs; see `study.planned`
    manifest.json  command, commit, machine, versions
    comparison.txt, .tex, .csv, .html  of a comparison: its result
    origin.json    of a study that was imported: the pack, and what was admitted
    wandb.json     what W&B shows of the study
    wandb/         what W&B's client writes
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from normlab.folder.example_scores import read_lines, write_lines
from normlab.folder.jsonfile import read_json, write_json
from normlab.folder.study_table import read_rows, write_rows
from normlab.folder.typed import Looks, Shown, typed

# what a pack keeps of a study
MADE = "manifest.json"
KEPT = (MADE, "verdicts.json", "plan.json", "runs.csv", "curves.csv", "example_scores.jsonl")


class Curves(NamedTuple):
    """The validations of a study's runs.

    rows     in order, without the damaged ones
    problem  what was left out, in words; empty if nothing was
    """

    rows: list[dict[str, Any]]
    problem: str = ""


@dataclass(frozen=True)
class StudyFolder:
    """A study's folder, which need not exist."""

    folder: Path

    @classmethod
    def at(cls, output: Path, name: str) -> StudyFolder:
        """The folder of a study below the folder of all results."""
        return cls(output / "studies" / name)

    @property
    def output(self) -> Path:
        """The folder of all results."""
        return self.folder.absolute().parents[1]

    def holds_study(self) -> bool:
        """Does it contain any file of a study?"""
        return any(path.exists() for path in (self.runs_file, self.verdicts_file, self.plan_file))

    @property
    def runs_file(self) -> Path:
        """The table of runs."""
        return self.folder / "runs.csv"

    def read_runs(self) -> list[dict[str, Any]]:
        """The table of runs; empty if there is none.

        Raises:
            InputError: it is damaged.
        """
        return read_rows(self.runs_file) if self.runs_file.exists() else []

    def write_runs(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replace the table of runs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_rows(self.runs_file, rows)

    @property
    def curves_file(self) -> Path:
        """The table of validations."""
        return self.folder / "curves.csv"

    def read_curves(self) -> Curves:
        """The table of validations."""
        import pandas

        path = self.curves_file
        if not path.exists():
            return Curves([])
        try:
            frame = pandas.read_csv(path, dtype={"condition": str, "arm": str, "id": str})
        except (OSError, ValueError) as error:
            return Curves([], f"{path}: {str(error).splitlines()[0]}. Its curves are left out.")
        if not len(frame):
            return Curves([])
        missing = [name for name in ("finding", "arm", "condition", "seed", "step") if name not in frame.columns]
        if missing:
            return Curves([], f"{path} has no column {missing[0]}. Its curves are left out.")
        whole = frame[frame[["finding", "arm", "seed", "step"]].notna().all(axis=1)]
        rows = [{str(k): v for k, v in row.items() if v == v} for row in whole.to_dict("records")]
        lost = len(frame) - len(whole)
        return Curves(
            [{**row, "condition": row.get("condition", "")} for row in rows],
            f"{path}: {lost} damaged rows are left out." if lost else "",
        )

    def write_curves(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replace the table of validations."""
        import pandas

        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.curves_file.with_name(f".{self.curves_file.name}.part")
        pandas.DataFrame(rows, columns=None if rows else ["finding"]).to_csv(part, index=False)
        part.replace(self.curves_file)

    @property
    def example_scores_file(self) -> Path:
        """The reporting runs' scores on each example, a line per run."""
        return self.folder / "example_scores.jsonl"

    def read_example_scores(self) -> dict[str, dict[str, Any]]:
        """Run → its record; empty if there is no file.

        Raises:
            InputError: a line is damaged.
        """
        return read_lines(self.example_scores_file)

    def write_example_scores(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace them; without any there is no file."""
        write_lines(self.example_scores_file, records)

    @property
    def verdicts_file(self) -> Path:
        """The verdicts, as JSON."""
        return self.folder / "verdicts.json"

    def read_judged(self) -> dict[str, Any]:
        """`verdicts` and `looks`, unchecked; empty if the file is damaged."""
        return read_json(self.verdicts_file)

    def read_verdicts(self) -> list[dict[str, Any]]:
        """Each finding's verdict, unchecked except for the finding's name."""
        verdicts = self.read_judged().get("verdicts", [])
        known = verdicts if isinstance(verdicts, list) else []
        return [verdict for verdict in known if isinstance(verdict, dict) and isinstance(verdict.get("finding"), str)]

    def read_looks(self) -> dict[str, list[dict[str, Any]]]:
        """Each finding's earlier looks; empty if one of them is damaged."""
        looks: dict[str, list[dict[str, Any]]] = typed(self.read_judged(), Looks).get("looks", {})
        return looks

    def write_verdicts(self, verdicts: list[dict[str, Any]], looks: dict[str, list[dict[str, Any]]]) -> None:
        """Replace the verdicts and the looks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.verdicts_file, {"verdicts": verdicts, "looks": looks})

    @property
    def plan_file(self) -> Path:
        """What the study has planned, as JSON."""
        return self.folder / "plan.json"

    def read_plan(self) -> dict[str, Any]:
        """What the study has planned."""
        return read_json(self.plan_file)

    def write_plan(self, values: dict[str, Any]) -> None:
        """Replace the plan."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.plan_file, values, durable=False)

    @property
    def comparison_text(self) -> Path:
        """Of a comparison: its result as a paragraph."""
        return self.folder / "comparison.txt"

    @property
    def comparison_latex(self) -> Path:
        """Of a comparison: its result as a table."""
        return self.folder / "comparison.tex"

    @property
    def comparison_table(self) -> Path:
        """Of a comparison: the same table as CSV."""
        return self.folder / "comparison.csv"

    @property
    def comparison_page(self) -> Path:
        """Of a comparison: its result as a page."""
        return self.folder / "comparison.html"

    @property
    def manifest_file(self) -> Path:
        """How the tables were made, as JSON."""
        return self.folder / MADE

    def read_manifest(self) -> dict[str, Any]:
        """How the tables were made."""
        return read_json(self.manifest_file)

    def write_manifest(self, values: dict[str, Any]) -> None:
        """Record how the tables were made."""
        write_json(self.manifest_file, values)

    @property
    def _origin(self) -> Path:
        return self.folder / "origin.json"

    def read_origin(self) -> dict[str, Any]:
        """Of a study that was imported: the pack, and what was admitted; empty for any other."""
        return read_json(self._origin)

    def write_origin(self, values: dict[str, Any]) -> None:
        """Record that the study was imported."""
        write_json(self._origin, values)

    @property
    def wandb(self) -> Path:
        """What W&B's client writes."""
        return self.folder / "wandb"

    @property
    def _shown(self) -> Path:
        return self.folder / "wandb.json"

    def read_shown(self) -> dict[str, Any]:
        """What W&B shows of the study: logger and study."""
        return typed(read_json(self._shown), Shown)

    def write_shown(self, values: dict[str, Any]) -> None:
        """Record what W&B shows of the study."""
        write_json(self._shown, values)


def studies_below(output: Path) -> Iterator[StudyFolder]:
    """The folders of all studies below the folder of all results, by name."""
    for path in sorted(output.glob("studies/*")):
        if path.is_dir() and not path.name.startswith("."):  # one that is being imported
            yield StudyFolder(path)
