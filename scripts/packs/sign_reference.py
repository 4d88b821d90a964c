"""Write the manifest of the committed reference, which is a pack, after one of its tables was replaced on purpose.

python scripts/packs/sign_reference.py
"""

from __future__ import annotations

from normlab.config.shipped import REFERENCE
from normlab.folder.pack import open_pack, sign_folder

if __name__ == "__main__":
    sign_folder(REFERENCE)
    with open_pack(REFERENCE) as pack:
        print(f"{REFERENCE}: {', '.join(pack.studies)} and {len(pack.members)} files")
