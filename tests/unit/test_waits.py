"""A wait is told if it is long, and only then."""

import time

import pytest

from normlab.host.waits import waiting


@pytest.mark.parametrize(("seconds", "shown", "said"), [(0.3, True, True), (0.0, True, False), (0.3, False, False)])
def test_only_a_long_wait_is_told(capsys, seconds, shown, said):
    with waiting("loading torch", shown=shown, after=0.1):
        time.sleep(seconds)
    time.sleep(0.15)
    assert ("loading torch …" in capsys.readouterr().err) == said


def test_an_error_ends_it(capsys):
    with pytest.raises(ValueError, match="broken"), waiting("loading", after=0.1):
        raise ValueError("broken")
    time.sleep(0.2)
    assert capsys.readouterr().err == ""
