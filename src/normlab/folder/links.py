"""Where else a run can be seen, as its folder tells. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from normlab.folder.jsonfile import read_json

LINKS = "links.json"


def on_wandb(folder: Path) -> str:
    """The address of the run on W&B; `offline` where it waits for its upload; empty where it was not logged there."""
    address = str(read_json(folder / LINKS).get("wandb", ""))
    if address.startswith(("https://", "http://")):
        return address
    fragments = folder.glob("wandb/offline-run-*/*.wandb")
    return "offline" if any(not file.with_suffix(".wandb.synced").exists() for file in fragments) else ""
