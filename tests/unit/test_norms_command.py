"""`normlab norms`: its table, read from source, against the norms themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.utils import get_class

from norm_sites import NORMS, OURS, build, config, home
from normlab.bench.costs import costs
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


def test_a_norm_that_was_not_measured_has_no_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = [row for row in costs() if row.norm != "rms"]
    monkeypatch.setattr("normlab.commands.norms.costs", lambda: measured)
    assert described("rms").cost == NOTHING
    assert described("layer").cost.startswith("BC ")


LETTERS = {"BC": "BC", "BCHW": "BCHW", "BTC": "BTC"}


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_docstring_has_equation_axes_and_source(name: str) -> None:
    """Axes of every layout as the norm declares them, or that it is refused there; authors, year and number."""
    kind = get_class(config(name)._target_)
    doc = " ".join((kind.__doc__ or "").split())
    assert doc.startswith("y = ")
    if name != "none":
        assert re.search(r"Sources?: .*[A-Z][a-z]+ .*\b(19|20)\d\d\b.*arXiv:\d{4}\.\d{4,5}", doc)
    if not kind.axes:
        assert "No statistics in any layout." in doc
        return
    for layout in LETTERS:
        said = re.search(rf"`{layout}`(?: and `\w+`)? ([^·`]*)", doc)
        assert said, layout
        if layout in kind.layouts:
            # the letters before any further words, such as "C/G, H, W" or "B, T (`pool=tokens`)"
            axes = re.match(r"[BCHWT](?:/G)?(?:, [BCHWT])*", said.group(1))
            assert axes, said.group(1)
            found = set(axes.group().replace("/G", "").split(", "))
            assert found <= set(kind.axes[layout]), (layout, found)
            assert found == set(kind.axes[layout]) or name in ("evo_b", "grn", "switchable"), (layout, found)
        else:
            assert said.group(1).startswith("refused"), layout


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
