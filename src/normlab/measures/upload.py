"""Brings to W&B what was logged offline or did not arrive: each run once, however often it is asked for.

A run that the server does not know is uploaded whole by `wandb sync`. That would repeat the rows of a run that the
server has a part of; such a run is completed from its record, of which W&B's client leaves out what is there already.
What was uploaded gets the mark that `wandb sync` leaves, `<file>.wandb.synced`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pydantic

from normlab.jsonfile import read_json
from normlab.measures.place import Place
from normlab.schema import InputError, RunConfig, WandbConfig

_FRAGMENT = re.compile(r"(?:offline-)?run-\d{8}_\d{6}-(?P<id>.+)")
ASKED_AT_ONCE = 200  # runs


@dataclass(frozen=True)
class Fragment:
    """What W&B's client has written of a run; the newest holds the whole run.

    file   of the records
    id     W&B's of the run
    state  of the run's status.json
    """

    file: Path
    id: str
    folder: Path
    project: str
    entity: str | None
    state: str

    @property
    def mark(self) -> Path:
        """Is there once it has been uploaded."""
        return self.file.with_suffix(".wandb.synced")


@dataclass(frozen=True)
class Result:
    """What became of a run.

    how  uploaded, completed, there (it was there), failed
    why  of a failure
    """

    fragment: Fragment
    how: str
    why: str = ""


def find(output: Path) -> list[Fragment]:
    """The newest fragment of every run below `output`, attempts that were set aside included."""
    found: dict[tuple[Path, str], Fragment] = {}
    for path in sorted(output.glob("runs/*/wandb/*run-*"), key=lambda path: path.name.removeprefix("offline-")):
        known = _FRAGMENT.fullmatch(path.name)
        folder = path.parents[1]
        wandb = (read_json(folder / "config.json").get("logger") or {}).get("wandb")
        state = str(read_json(folder / "status.json").get("state"))
        replaced = "." in folder.name and state != "finished"  # another attempt was made instead
        if known and wandb and not replaced:
            file = path / f"run-{known['id']}.wandb"
            found[folder, known["id"]] = Fragment(
                file, known["id"], folder, wandb["project"], wandb.get("entity"), state
            )
    return list(found.values())


def upload(fragments: Iterable[Fragment]) -> Iterator[Result]:
    """Upload what has no mark, run by run."""
    groups: dict[tuple[str, str | None], list[Fragment]] = {}
    for fragment in fragments:
        if not fragment.mark.exists():
            groups.setdefault((fragment.project, fragment.entity), []).append(fragment)
    for (project, entity), group in groups.items():
        states = _states(project, entity, [fragment.id for fragment in group])
        new = [fragment for fragment in group if fragment.id not in states]
        _sync(new)
        for fragment in group:
            if fragment.mark.exists():
                yield Result(fragment, "uploaded")
            elif states.get(fragment.id) == "finished":
                fragment.mark.touch()
                yield Result(fragment, "there")
            elif fragment.state == "finished" or fragment.id in states:
                yield _complete(fragment)
            else:
                yield Result(fragment, "failed", _HALF)


_HALF = "half-written, as its process was killed: give the run's command again to finish it, then upload"


def _states(project: str, entity: str | None, ids: list[str]) -> dict[str, str]:
    """The state on the server of those runs that it knows.

    Raises:
        InputError: it does not let us in.
    """
    import wandb as client

    found: dict[str, str] = {}
    try:
        api = client.Api(timeout=30)
        path = f"{entity or api.default_entity}/{project}"
        for first in range(0, len(ids), ASKED_AT_ONCE):
            some = {"name": {"$in": ids[first : first + ASKED_AT_ONCE]}}
            found |= {run.id: run.state for run in api.runs(path, filters=some, per_page=ASKED_AT_ONCE)}
    except Exception as error:  # the client raises errors of many kinds
        if str(error).startswith("Could not find project"):  # it is made with its first run
            return {}
        refused = any(word in str(error) for word in ("401", "403", "permission", "API key"))
        why = "the API key is refused (`wandb login --relogin` sets another)" if refused else str(error)
        raise InputError(f"W&B does not answer for {entity or 'your'}/{project}: {' '.join(why.split())}") from None
    return found


def _sync(fragments: list[Fragment]) -> None:
    """Whole files, by W&B's own command. What it has uploaded it marks; one file that it can't read stops it."""
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


def _complete(fragment: Fragment) -> Result:
    """Send what the server lacks, from the run's own record."""
    import wandb as client

    from normlab.measures.loggers import facts_of, labels_of, read_rows
    from normlab.measures.wandb_run import replay

    folder = fragment.folder
    try:
        config = RunConfig.model_validate_json((folder / "config.json").read_bytes(), strict=True)
    except (pydantic.ValidationError, OSError):
        return Result(fragment, "failed", "config.json is not one of this version")
    attempt = int(read_json(folder / "status.json").get("attempt", 1))
    place = Place(folder, folder.name.partition(".")[0], attempt)
    rows = read_rows(folder / "metrics.jsonl")
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
            summary = read_json(folder / "summary.json")
            run.summary.update(summary)
            run.finish(exit_code=0 if summary else 1)
        except Exception as error:  # the client raises errors of many kinds
            return Result(fragment, "failed", " ".join(str(error).split())[:200])
    fragment.mark.touch()
    return Result(fragment, "completed")
