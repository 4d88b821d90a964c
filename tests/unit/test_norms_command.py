"""`normlab norms`: its table, read from source, against the norms themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from norm_sites import NORMS, OURS, build, home
from normlab.commands.norms import NOTHING, described, main, names, table
from normlab.config.errors import InputError

DOCS = Path(__file__).parents[2] / "docs" / "norms.md"


def listed(text: str) -> set[str]:
    return set() if text == NOTHING else set(text.split(", "))


@pytest.mark.parametrize("name", NORMS)
def test_a_row_is_what_the_built_norm_says(name: str) -> None:
    row, norm = described(name), build(name, home(name))
    assert listed(row.parameters) == {name for name, _ in norm.named_parameters()}
    assert listed(row.state) == set(norm.state_dict()) - listed(row.parameters)
    assert row.couples_examples == ("in training" if norm.couples_examples else "no")
    statistics = dict(each.split(": ") for each in row.statistics.split(" · ")) if row.statistics != NOTHING else {}
    assert {layout: axes.replace(", ", "") for layout, axes in statistics.items()} == norm.axes
    assert row.equation.startswith("y = ")
    assert row.equation.count("(") == row.equation.count(")")
    assert len(row.equation) < 80
    assert (row.source == NOTHING) == (name == "none")


def test_the_page_has_the_table() -> None:
    """`normlab norms` prints what stands there."""
    assert table(names()) in DOCS.read_text(encoding="utf-8")
    assert names() == sorted(OURS)


def test_prints_the_norms_that_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    main(["rms", "layer"])
    assert capsys.readouterr().out.splitlines()[2:] == table(["rms", "layer"]).splitlines()[2:]
    with pytest.raises(InputError, match=r"no norm 'layr'\. Did you mean layer\?"):
        main(["layr"])


def test_needs_no_torch() -> None:
    code = "import sys; from normlab.commands.norms import main; main([]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
