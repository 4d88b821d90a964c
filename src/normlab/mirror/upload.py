"""Uploads to W&B what was logged offline or was not fully uploaded: each run once, however often this is called.

A run that the server does not know is uploaded as a whole by `wandb sync`. For a partly uploaded run, that would repeat
rows, so it is completed from its record; W&B's client skips the rows that the server has. A study's run is shown again
from its folder. Uploaded files get the mark of `wandb sync`, `<file>.wandb.synced`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from normlab.config.schema import InputError, RunConfig, WandbConfig
from normlab.folder.place import Place
from normlab.folder.results import run_folders
from normlab.folder.run_folder import RunFolder
from normlab.folder.study_folder import studies_below
from normlab.mirror.wandb_begin import note_address, one_line
from normlab.mirror.wandb_study import show_again

_FRAGMENT = re.compile(r"(?:offline-)?run-\d{8}_\d{6}-(?P<id>.+)")
ASKED_AT_ONCE = 200  # runs


@dataclass(frozen=True)
class Fragment:
    """A file that W&B's client has written for a run; the newest contains the whole run.

    file   with the records
    id     of the run at W&B
    project empty if the run's config can't be read, so that it can't be uploaded
    state  of the run; `study` if it is a study
    tags   finding:… and arm:… that the run has
    """

    file: Path
    id: str
    folder: Path
    project: str
    entity: str | None
    state: str
    tags: tuple[str, ...] = ()

    @property
    def mark(self) -> Path:
        """The file that marks it as uploaded."""
        return self.file.with_suffix(".wandb.synced")


@dataclass(frozen=True)
class Upload:
    """The outcome of uploading a run.

    how  uploaded, completed, there (already complete), failed
    why  the reason of a failure
    """

    fragment: Fragment
    how: str
    why: str = ""


def find(output: Path) -> list[Fragment]:
    """The newest fragment of every run below `output`, including attempts set aside, and of every study."""
    return [*_of_runs(run for run in run_folders(output) if run.wandb.exists()), *_of_studies(output)]


def _of_runs(runs: Iterable[RunFolder]) -> list[Fragment]:
    found: list[Fragment] = []
    for run in runs:
        folder, config = run.folder, run.read_config()
        wandb = (config.get("logger") or {}).get("wandb")
        state = str(run.read_status().get("state"))
        replaced = "." in folder.name and state != "finished"  # replaced by another attempt
        if (wandb or not config) and not replaced:
            wandb, tags = wandb or {}, tuple(config.get("serves", []))
            found += [
                Fragment(
                    path / f"run-{name}.wandb",
                    name,
                    folder,
                    project=wandb.get("project", ""),
                    entity=wandb.get("entity"),
                    state=state,
                    tags=tags,
                )
                for name, path in _newest(run.wandb).items()
            ]
    return found


def _of_studies(output: Path) -> list[Fragment]:
    found = []
    for study in studies_below(output):
        wandb = study.read_shown().get("logger", {}).get("wandb")
        for name, fragment in _newest(study.wandb).items() if wandb else []:
            file = fragment / f"run-{name}.wandb"
            project, entity = wandb["project"], wandb.get("entity")
            found.append(Fragment(file, name, study.folder, project=project, entity=entity, state="study"))
    return found


def _newest(folder: Path) -> dict[str, Path]:
    """The newest fragment of each W&B run in the folder that its client writes to."""
    paths = sorted(folder.glob("*run-*"), key=lambda path: path.name.removeprefix("offline-"))
    return {known["id"]: path for path in paths if (known := _FRAGMENT.fullmatch(path.name))}


def upload(fragments: Iterable[Fragment]) -> Iterator[Upload]:
    """Upload the runs that have no mark, one by one."""
    waiting = [fragment for fragment in fragments if not fragment.mark.exists()]
    yield from (Upload(f, "failed", "config.json is damaged or from another version") for f in waiting if not f.project)
    runs = (fragment for fragment in waiting if fragment.state != "study" and fragment.project)
    for (project, entity), group in _by_project(runs).items():
        states = {run.id: run.state for run in _known(project, entity, [fragment.id for fragment in group])}
        new = [fragment for fragment in group if fragment.id not in states]
        _sync(new)
        for fragment in group:
            if fragment.mark.exists():
                yield Upload(fragment, "uploaded")
            elif states.get(fragment.id) == "finished":
                fragment.mark.touch()
                yield Upload(fragment, "there")
            elif fragment.state == "finished" or fragment.id in states:
                yield _complete(fragment)
            else:
                yield Upload(fragment, "failed", _HALF)
        _note_addresses(project, entity, {fragment.id: fragment for fragment in group if fragment.mark.exists()})
    for fragment in waiting:
        if fragment.state == "study":
            yield Upload(fragment, "uploaded" if show_again(fragment.folder) else "failed")


def _note_addresses(project: str, entity: str | None, there: Mapping[str, Fragment]) -> None:
    with suppress(InputError):  # they are uploaded, whether we know the address or not
        for run in _known(project, entity, list(there)):
            note_address(RunFolder(there[run.id].folder), run.url)


def lacking(output: Path, wanted: Mapping[str, Sequence[str]]) -> dict[Fragment, list[str]]:
    """The tags that runs below `output` lack because the studies that need them came later.

    Args:
        wanted: tags by the run's id.
    """
    fragments = _of_runs(RunFolder.at(output, name) for name in wanted)
    missing = {f: [tag for tag in wanted[f.folder.name] if tag not in f.tags] for f in fragments}
    return {fragment: tags for fragment, tags in missing.items() if tags}


def add_tags(missing: Mapping[Fragment, Sequence[str]]) -> int:
    """Add missing tags to runs on the server; returns the number of such runs.

    Raises:
        InputError: it refuses access.
    """
    changed = 0
    for (project, entity), group in _by_project(missing).items():
        tags = {fragment.id: missing[fragment] for fragment in group}
        for run in _known(project, entity, list(tags), whole=True):
            more = [tag for tag in tags[run.id] if tag not in run.tags]
            if more and run.state == "finished":
                run.tags = [*run.tags, *more]
                _update(run)
                changed += 1
    return changed


def _update(run: Any) -> None:
    try:
        run.update()
    except Exception as error:  # the client raises errors of many kinds
        raise InputError(f"W&B refused the tags of {run.id}: {one_line(error)}") from None


def _by_project(fragments: Iterable[Fragment]) -> dict[tuple[str, str | None], list[Fragment]]:
    groups: dict[tuple[str, str | None], list[Fragment]] = {}
    for fragment in fragments:
        groups.setdefault((fragment.project, fragment.entity), []).append(fragment)
    return groups


_HALF = "incomplete because its process was killed: run its command again to finish it, then upload"


def _known(project: str, entity: str | None, ids: list[str], *, whole: bool = False) -> list[Any]:
    """The runs that the server knows.

    Args:
        whole: with config and summary, which an update sends back.

    Raises:
        InputError: it refuses access.
    """
    import wandb as client

    found: list[Any] = []
    try:
        api = client.Api(timeout=30)
        path = f"{entity or api.default_entity}/{project}"
        for first in range(0, len(ids), ASKED_AT_ONCE):
            some = {"name": {"$in": ids[first : first + ASKED_AT_ONCE]}}
            found += api.runs(path, filters=some, per_page=ASKED_AT_ONCE, lazy=not whole)
    except Exception as error:  # the client raises errors of many kinds
        if str(error).startswith("Could not find project"):  # a project is created with its first run
            return []
        refused = any(word in str(error) for word in ("401", "403", "permission", "API key"))
        why = "the API key is refused (`wandb login --relogin` sets another)" if refused else one_line(error)
        raise InputError(f"W&B does not answer for {entity or 'your'}/{project}: {why}") from None
    return found


def _sync(fragments: list[Fragment]) -> None:
    """Upload whole files by W&B's own command, which marks them; it stops at a file that it can't read."""
    there = [fragment for fragment in fragments if fragment.file.exists()]
    for first in range(0, len(there), ASKED_AT_ONCE):
        some = there[first : first + ASKED_AT_ONCE]
        _sync_files(some)
        left = [fragment for fragment in some if not fragment.mark.exists()]
        for fragment in left if len(some) > 1 else []:
            _sync_files([fragment])


def _sync_files(fragments: list[Fragment]) -> None:
    command = [sys.executable, "-m", "wandb", "sync", "--include-online", *(str(known.file) for known in fragments)]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _complete(fragment: Fragment) -> Upload:
    """Send the rows that the server lacks, from the run's own record."""
    import wandb as client

    from normlab.mirror.loggers import facts_of, labels_of
    from normlab.mirror.wandb_run import replay

    folder = RunFolder(fragment.folder)
    try:
        config = RunConfig.model_validate_json(folder.config_content(), strict=True)
    except pydantic.ValidationError:
        return Upload(fragment, "failed", "config.json is from another version")
    status = folder.read_status()
    if changed := folder.changed(status):
        return Upload(fragment, "failed", changed)
    attempt = int(status.get("attempt", 1))
    place = Place(folder.folder, folder.folder.name.partition(".")[0], attempt)
    rows, problem = folder.read_rows()
    if problem:
        return Upload(fragment, "failed", problem)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            run = client.init(
                project=fragment.project,
                entity=fragment.entity,
                id=fragment.id,
                name=place.id,
                resume="allow",
                mode="online",
                dir=scratch,
                settings=client.Settings(console="off", silent=True, x_disable_stats=True, finish_timeout_raises=True),
                **facts_of(config.logger.wandb or WandbConfig(project=fragment.project), labels_of(config, place)),
            )
            replay(run, rows)
            summary = folder.read_summary()
            run.summary.update(summary)
            run.finish(exit_code=0 if summary else 1)
        except Exception as error:  # the client raises errors of many kinds
            return Upload(fragment, "failed", one_line(error))
    fragment.mark.touch()
    return Upload(fragment, "completed")
