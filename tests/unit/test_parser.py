"""The argument parser of all commands refuses in one line, and names what was probably meant."""

import pytest

from normlab.commands.console import call
from normlab.config.schema import InputError


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["report", "--paper"], "--papers"),
        (["table", "--outputt=x"], "--output"),
        (["study", "export", "x", "--unpackd"], "--unpacked"),
        (["judge", "runs.csv", "--margin=1", "--metrc=loss"], "--metric"),
    ],
)
def test_a_misspelt_option_is_named(arguments, meant):
    with pytest.raises(InputError, match=r"unrecognized arguments: .*`normlab .* --help` lists") as error:
        call(arguments)
    assert f"Did you mean {meant}?" in str(error.value)


def test_what_resembles_nothing_is_only_refused():
    with pytest.raises(InputError, match="-x; `normlab report --help` lists") as error:
        call(["report", "-x"])
    assert "Did you mean" not in str(error.value)
