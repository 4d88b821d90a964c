"""Upload to W&B what was logged offline or was not fully uploaded.

Each run is uploaded once, however often this is called; a partly uploaded run is completed, and a run that a later
study shares gets the tags of its findings. If two are started at once, the second waits for the first.
Exit status 1 if something could not be uploaded.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from normlab.commands.parser import Parser

WORDS = {
    "uploaded": "uploaded",
    "completed": "completed",
    "there": "already complete on W&B",
    "failed": "not uploaded",
    "tagged": "tagged with further findings that use them",
}


def main(arguments: Sequence[str]) -> None:
    """Read the arguments and upload the runs."""
    parser = Parser("sync", __doc__)
    parser.add_runs()
    asked = parser.parse_args(arguments)
    failed = sync(asked.runs)
    sys.exit(1 if failed else 0)


def sync(output: Path) -> int:
    """Upload the runs; returns how many could not be uploaded."""
    if not output.is_dir():
        return _sync(output)
    with _alone(output):
        return _sync(output)


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Let only one sync work at a time, because two would upload the same runs."""
    lock = FileLock(output / ".sync.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another sync of {output} is running: waiting for it", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _sync(output: Path) -> int:
    os.environ.setdefault("WANDB_SILENT", "true")  # one line per run is enough
    from normlab.config.schema import WandbConfig
    from normlab.mirror.upload import add_tags, find, lacking, upload
    from normlab.mirror.wandb_access import check_access
    from normlab.study.serving import read_serving

    fragments = find(output)
    waiting = [fragment for fragment in fragments if not fragment.mark.exists()]
    untagged = lacking(output, read_serving(output))
    if waiting or untagged:
        check_access(WandbConfig(project="normlab", mode="online"))
    counts: Counter[str] = Counter()
    for result in upload(waiting):
        counts[result.how] += 1
        print(f"{WORDS[result.how]:22} {result.fragment.id}{f': {result.why}' if result.why else ''}", flush=True)
    counts["tagged"] = add_tags(untagged)
    if waiting or counts["tagged"]:
        print(", ".join(f"{count} {WORDS[how]}" for how, count in sorted(counts.items()) if count))
    else:
        print(f"nothing to upload: {len(fragments)} W&B runs in {output}, all uploaded already")
    return counts["failed"]
