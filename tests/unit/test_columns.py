"""Tables fit the terminal."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from normlab.command_line.columns import Column, fitted, show, width_of, wrapped
from normlab.command_line.guard import guard


def lines(made, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(made.table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@settings(max_examples=60, deadline=None)
@given(
    columns=st.lists(
        st.builds(Column, st.sampled_from(["run", "a long title", ""]), cut=st.integers(0, 3), wraps=st.booleans()),
        min_size=1,
        max_size=6,
    ),
    data=st.data(),
    width=st.integers(30, 120),
)
def test_no_line_is_wider_than_the_terminal_and_nothing_that_stays_is_lost(columns, data, width):
    text = st.text("abc-_ é漢", max_size=70)
    rows = data.draw(st.lists(st.tuples(*[text] * len(columns)), min_size=1, max_size=4))
    made = fitted(columns, rows, width)
    console = Console(width=width)
    assert console.measure(made.table).maximum <= width
    shown = list(made.table.columns)
    for column in columns:
        if not column.cut and column.title:
            assert column.title in [one.header for one in shown]


def test_the_column_that_matters_least_is_cut_first():
    columns = [Column("run"), Column("state", cut=1), Column("time", cut=2)]
    row = ["x" * 20, "finished", "3.2 s"]
    assert fitted(columns, [row], 60).cut == []
    assert fitted(columns, [row], 35).cut == ["time"]
    assert fitted(columns, [row], 25).cut == ["state", "time"]


def test_a_long_name_wraps_only_when_nothing_is_left_to_cut():
    made = fitted([Column("run"), Column("time", cut=1)], [["x" * 50, "3.2 s"]], 30)
    assert made.cut == ["time"]
    assert "".join(lines(made, 30)[1:]) == "x" * 50


def test_brackets_are_no_markup():
    assert lines(fitted([Column("a")], [["[red]x[/]"]], 40), 40)[1] == "[red]x[/]"


def test_a_pipe_gets_everything(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")  # as GNU readline does in each child of an interactive Python
    console = Console(file=io.StringIO(), width=30)
    assert width_of(console) is None
    assert show(console, [Column("run"), Column("time", cut=1)], [["x" * 50, "3.2 s"]]) == []
    assert "x" * 50 + "  3.2 s" in console.file.getvalue()
    assert width_of(Console(file=io.StringIO(), width=30, force_terminal=True)) == 30


@given(st.lists(st.text("ab ", min_size=1, max_size=90), max_size=5), st.integers(40, 100))
def test_paragraphs_are_filled_and_keep_their_words(paragraphs, width):
    text = "\n\n".join(" ".join(each.split()) for each in paragraphs)
    shown = wrapped(text, width)
    assert shown.split() == text.split()
    longest = max(map(len, text.split()), default=0)
    assert all(len(line) <= max(width, longest) for line in shown.splitlines())


@pytest.mark.parametrize("kept", ["    normlab norms layer", "batch=4      examples"])
def test_examples_and_lists_stay_as_they_are(kept):
    assert kept in wrapped(f"Words.\n\n{kept}\n\nMore.", 10)


def test_a_width_of_0_is_one_that_is_not_known(monkeypatch):
    monkeypatch.setenv("COLUMNS", "0")  # as some editors' shells set it: nothing was printed
    with guard():
        assert Console(file=io.StringIO()).width == 80
