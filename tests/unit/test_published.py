"""What `docs/` shows of the reference is what the reference says."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts/publish"))

import axes  # noqa: E402
import publish  # noqa: E402

from normlab.commands.norms import names  # noqa: E402


def test_the_picture_of_the_claims_is_in_step():
    assert (ROOT / "docs/claims.svg").read_text(encoding="utf-8") == publish.claims(), "make published"


def test_the_picture_of_the_axes_is_in_step():
    assert (ROOT / "docs/axes.svg").read_text(encoding="utf-8") == axes.picture(), "make published"


def test_the_picture_marks_the_values_that_share_statistics():
    assert axes.shared("BC", "C", groups=False) == {(0, c, 0) for c in range(axes.CHANNELS)}
    assert axes.shared("BTC", "BT", groups=False) == {(b, 0, t) for b in range(3) for t in range(axes.PLACES)}
    assert axes.shared("BCHW", "CHW", groups=True) == {(0, c, p) for c in range(2) for p in range(axes.PLACES)}
    drawn = [name for norms in axes.patterns().values() for name in norms]
    assert sorted(drawn) == sorted(names())


def test_the_page_is_small_and_has_no_formula_in_its_axes():
    """Matplotlib's own labels of a logarithmic axis are TeX, which is shown as it is written."""
    page = ROOT / "docs/reference/index.html"
    assert page.stat().st_size < 2_000_000
    assert "mathdefault" not in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_of_the_reference_is_in_step(tmp_path):
    made = publish.page(tmp_path / "docs/reference").read_text(encoding="utf-8")
    kept = (ROOT / "docs/reference/index.html").read_text(encoding="utf-8")
    assert bare(kept) == bare(made), "make published"


def bare(page: str) -> str:
    """Without links into the folder, which differ for a page elsewhere."""
    return re.sub(r"(\.\./)+\S*?results/", "results/", page)
