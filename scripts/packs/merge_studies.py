"""Merge studies of one finding each into one, such as the committed reference at `full`.

python scripts/packs/merge_studies.py results/reference/full outputs/studies/*-full

A study without a verdict is left out, and named. Commands in the manifest lose folders of the machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from normlab.config.errors import InputError
from normlab.folder.study_folder import StudyFolder
from normlab.moving.made_where import without_places


def merge(target: StudyFolder, sources: list[StudyFolder]) -> list[str]:
    """Write the tables of all sources into one folder, and return the names of the findings.

    Raises:
        InputError: a finding is in two sources.
    """
    verdicts = [verdict for source in sources for verdict in source.read_verdicts()]
    names = [verdict["finding"] for verdict in verdicts]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two of the studies have {name}: leave one out")
    made = [without_places(source.read_manifest()) for source in sources]
    newest = max(made, key=lambda manifest: manifest["time"])
    target.write_runs([row for source in sources for row in source.read_runs()])
    target.write_curves([row for source in sources for row in source.read_curves().rows])
    target.write_example_scores({run: one for s in sources for run, one in s.read_example_scores().items()})
    target.write_verdicts(verdicts, {name: look for s in sources for name, look in s.read_looks().items()})
    target.write_manifest(
        {
            **newest,
            "command": "python train.py finding=NAME scale=full, one finding after the other",
            "rules": {name: rule for manifest in made for name, rule in manifest["rules"].items()},
            "merged": [{key: manifest[key] for key in ("command", "time", "commit", "edited")} for manifest in made],
        }
    )
    return names


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("studies", type=Path, nargs="+")
    asked = parser.parse_args()
    folders = [StudyFolder(path) for path in asked.studies]
    for folder in (each for each in folders if not each.verdicts_file.exists()):
        print(f"left out, because it has no verdict yet: {folder.folder}")
    found = merge(StudyFolder(asked.target), [each for each in folders if each.verdicts_file.exists()])
    print(f"{asked.target}: {', '.join(found)}")
