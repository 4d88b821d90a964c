"""Upload to W&B what was logged offline or did not arrive: python scripts/sync.py [--runs FOLDER]

Each run is uploaded once, however often this is called; a run that the server has a part of is completed, and one
that a later study shares gets the tags of its findings.
Exit status 1 if something could not be uploaded.
"""

from __future__ import annotations

from normlab.stopping.program import begin

begin(__name__)

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

from normlab.config.command_line import guard

WORDS = {
    "uploaded": "uploaded",
    "completed": "completed",
    "there": "complete there already",
    "failed": "not uploaded",
    "tagged": "given the tags of findings that they serve too",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", metavar="FOLDER", type=Path, default=Path("outputs"), help="default: outputs")
    asked = parser.parse_args()
    with guard():
        failed = sync(asked.runs)
    sys.exit(1 if failed else 0)


def sync(output: Path) -> int:
    """The number of runs that could not be uploaded."""
    os.environ.setdefault("WANDB_SILENT", "true")  # a line a run is enough
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
        print(f"nothing to upload: {len(fragments)} W&B runs below {output}, all of them uploaded before")
    return counts["failed"]


if __name__ == "__main__":
    main()
