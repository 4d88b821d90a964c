"""A study as a run of W&B: its verdicts as a table, and each in the summary.

There is one such run per study, updated each time that the study ends. Its content is stored in the study's folder, so
that it can be sent again if the upload failed. Imports neither torch nor Lightning.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from normlab.config.schema import WandbConfig
from normlab.folder.study_folder import StudyFolder
from normlab.mirror.wandb_access import is_online
from normlab.mirror.wandb_begin import begin, fragments, one_line, warn


@dataclass(frozen=True)
class StudyTable:
    """The content of a study's run.

    rows     of the verdicts, one per finding
    summary  each verdict
    config   command, commit, machine, versions
    """

    name: str
    columns: list[str | int]
    rows: list[list[Any]]
    summary: dict[str, Any]
    tags: list[str]
    config: dict[str, Any]


def show_study(options: WandbConfig, folder: Path, study: StudyTable) -> bool:
    """Show it in W&B; if that fails, one line is printed.

    Args:
        folder: where W&B's client writes.

    Returns:
        Whether all of it was uploaded.
    """
    name = f"study-{study.name}"
    facts = {
        "id": name,
        "name": study.name,
        "group": "studies",
        "job_type": "study",
        "tags": study.tags,
        "config": study.config,
    }
    try:
        import wandb as client

        kept = {"logger": {"wandb": options.model_dump(mode="json")}, "study": asdict(study)}
        StudyFolder(folder).write_shown(kept)
        run = begin(options, is_online(options), folder, facts, fragments(StudyFolder(folder).wandb, name))
        if run is None:
            return False
        run.log({"verdicts": client.Table(columns=study.columns, data=study.rows)})
        run.summary.update(study.summary)
        run.finish(exit_code=0)
    except Exception as error:  # W&B's client and its service raise errors of many kinds
        warn(f"the verdicts could not be uploaded: {one_line(error)}; `make sync` tries again")
        return False
    arrived = not (run.offline or run.disabled)
    if arrived:
        (Path(run.dir).parent / f"run-{name}.wandb.synced").touch()  # the mark that `wandb sync` leaves
    return arrived


def show_again(folder: Path) -> bool:
    """Show the content stored in a study's folder, online."""
    kept = StudyFolder(folder).read_shown()
    try:
        options = WandbConfig.model_validate(kept["logger"]["wandb"])
        study = TypeAdapter(StudyTable).validate_python(kept["study"])
    except (ValueError, LookupError, TypeError):
        warn(f"the record of what W&B shows of {folder} is damaged, so it is not uploaded")
        return False
    return show_study(options.model_copy(update={"mode": "online"}), folder, study)
