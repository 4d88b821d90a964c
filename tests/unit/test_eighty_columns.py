"""What commands print fits a terminal of 80 columns."""

import pytest

from normlab.command_line.guard import help_text
from normlab.commands import advise, norms
from normlab.commands.console import COMMANDS, call


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")


def widest(text: str) -> str:
    return max(text.splitlines(), key=len)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "train"])
def test_the_help_of_each_command(command, capsys):
    with pytest.raises(SystemExit):
        call([command, "--help"])
    assert len(widest(capsys.readouterr().out)) <= 80


def test_the_help_of_training_and_the_list_of_commands(capsys):
    call(["--help"])
    assert len(widest(capsys.readouterr().out)) <= 80
    assert len(widest(help_text())) <= 80


def test_the_table_of_norms(capsys):
    norms.main(["batch", "ada", "switchable"])
    text = capsys.readouterr().out
    assert len(widest(text)) <= 80
    assert "batch" in text
    assert "cut to fit the terminal" in text


def test_commands_to_copy_are_the_only_long_lines_of_advice(capsys):
    from rich.console import Console

    advise.show(Console(width=80), {}, "cnn", ["segmentation", "evaluation_gap"], ["a remark " * 20])
    long = [line for line in capsys.readouterr().out.splitlines() if len(line) > 80]
    assert all(line.startswith("  to find out: ") for line in long)
