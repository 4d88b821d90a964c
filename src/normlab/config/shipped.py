"""Finds the files that ship with normlab but are not code."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_CHECKOUT = _PACKAGE.parents[1]


def shipped(name: str) -> Path:
    """A folder of the checkout or, in an installed wheel, its copy inside the package; see `setup.py`."""
    inside = _PACKAGE / "shipped" / name
    return inside if inside.exists() else _CHECKOUT / name


CONF = shipped("conf")
REFERENCE = shipped("results/reference")
