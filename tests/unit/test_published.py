"""What `docs/` shows of the reference is what the reference says."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts/publish"))

import publish  # noqa: E402


def test_the_picture_of_the_claims_is_in_step():
    assert (ROOT / "docs/claims.svg").read_text(encoding="utf-8") == publish.claims(), "make published"


@pytest.mark.slow
def test_the_page_of_the_reference_is_in_step(tmp_path):
    made = publish.page(tmp_path / "docs/reference").read_text(encoding="utf-8")
    kept = (ROOT / "docs/reference/index.html").read_text(encoding="utf-8")
    assert bare(kept) == bare(made), "make published"


def bare(page: str) -> str:
    """Without links into the folder, which differ for a page elsewhere."""
    return re.sub(r"(\.\./)+\S*?results/", "results/", page)
