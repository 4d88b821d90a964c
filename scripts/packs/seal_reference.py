"""Write the manifest of the committed reference, which is a pack, after one of its tables was replaced on purpose.

python scripts/packs/seal_reference.py
"""

from __future__ import annotations

import hashlib

from normlab.config.shipped import REFERENCE
from normlab.folder.pack import MANIFEST, manifest_of, open_pack

if __name__ == "__main__":
    files = sorted(path for path in REFERENCE.rglob("*") if path.is_file() and path != REFERENCE / MANIFEST)
    members = {path.relative_to(REFERENCE).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (REFERENCE / MANIFEST).write_bytes(manifest_of(members))
    with open_pack(REFERENCE) as pack:
        print(f"{REFERENCE / MANIFEST}: {', '.join(pack.studies)} and {len(pack.members)} files")
