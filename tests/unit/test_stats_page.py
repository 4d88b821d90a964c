"""The committed tables of simulations: every script has its section, and what is promised is kept there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "verdicts" / "simulation.md").read_text(encoding="utf-8")


def section(name):
    return re.search(rf"<!-- {name} -->(.*)<!-- end of {name} -->", PAGE, re.DOTALL)[1]


@pytest.mark.parametrize(
    "name", ["intervals", "unpaired", "looks", "failures", "examples", "sessions", "rejudged", "early_ends"]
)
def test_every_script_has_written_its_tables(name):
    assert (ROOT / "scripts" / "simulate" / f"{name}.py").exists()
    assert f"python scripts/simulate/{name}.py" in section(name)
    assert section(name).count("| --- |") >= 1


def test_the_promised_populations_keep_their_level():
    fixed = section("intervals").split("**Where nothing holds")[0]
    looks = section("looks").split("**The same where")[0]
    assert "lognormal, σ = 1, mirrored" in fixed
    assert "lognormal, σ = 1, mirrored" in looks
    assert "✗" not in fixed + looks


def test_the_unpaired_interval_keeps_its_level():
    kept = section("unpaired").split("**Where nothing holds")[0]
    assert kept.count("lognormal, σ = 1 · mirrored") == 2  # a table for each level
    assert "✗" not in kept


def test_verdicts_over_seeds_and_examples_keep_their_level():
    """Over seeds alone they don't, where examples matter."""
    rows = [row.split(" | ") for row in section("examples").splitlines() if re.search(r" \| \d+ \| ", row)]
    assert len(rows) == 14
    assert not [row for row in rows if "✗" in row[3] or "✗" in row[6]]
    assert [row for row in rows if "✗" in row[2]]


def test_ending_runs_early_loses_less_than_a_tenth_of_the_margin():
    """At a quarter of the steps, as at scale=full."""
    head, *rows = [
        line.strip("| ").split(" | ") for line in section("early_ends").splitlines() if line.startswith("| ")
    ]
    at, margin = head.index("paused at 25 %"), head.index("margin / 10")
    rows = [row for row in rows if row[0] != "---"]
    assert len(rows) >= 8
    for row in rows:
        loss = float(row[at].partition("loss ")[2] or 0.0)
        assert loss < float(row[margin]), row
