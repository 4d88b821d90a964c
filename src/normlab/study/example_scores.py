"""What a finding's reporting runs scored on each example, for findings that generalise over examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from normlab.findings.examples import Scores
from normlab.findings.finding import Finding
from normlab.folder.example_scores import decode, read_example_scores
from normlab.folder.run_folder import RunFolder
from normlab.sweep.plan import Job

Records = Mapping[str, Mapping[str, Any]]  # run → record, as it is stored


def records_of(finding: Finding, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """The records of the runs that have one; none if the finding is about its test's examples alone."""
    if "examples" not in finding.generalises_over:
        return {}
    found = {job.id: read_example_scores(RunFolder(job.folder).example_scores_file) for job in jobs}
    return {run: record for run, record in found.items() if record}


def decoded(records: Records) -> Scores:
    """As a finding is judged by them."""
    return {run: decode(record) for run, record in records.items()}
