"""Every measure declares what the rest of normlab must know of it; one that forgets is refused here."""

import importlib.util
from fnmatch import fnmatchcase
from pathlib import Path
from typing import get_args

import pytest

from normlab.config.measures import MEASURES
from normlab.config.measures.base import Measure

CONF = Path(__file__).parents[2] / "conf"
DECLARED = [name for name in Measure.__annotations__ if name != "name"]


def name_of(measure: type[Measure]) -> str:
    (name,) = get_args(measure.model_fields["name"].annotation)
    return name


def lacks(measure: type[Measure]) -> list[str]:
    """What a measure has not declared."""
    missing = [name for name in DECLARED if not hasattr(measure, name)]
    if not measure.__doc__ or measure.__doc__ == Measure.__doc__:
        missing.append("a docstring")
    return missing


@pytest.mark.parametrize("measure", MEASURES, ids=name_of)
def test_a_measure_declares_itself(measure):
    assert lacks(measure) == []
    assert measure.scores or measure.headline, "it has neither the task's metrics nor a headline"
    for column in measure.headline:
        assert any(fnmatchcase(column, pattern) for pattern in measure.summary), f"{column} is in no summary"
    assert not (measure.reads_test and not measure.scores), "what is read of the test split is shown"


def test_one_that_forgets_is_found():
    class Forgetful(Measure):
        processes = "one"

    assert set(lacks(Forgetful)) == {"reads_test", "trains", "scores", "summary", "headline", "a docstring"}


def test_the_three_files_of_a_measure_go_together():
    names = sorted(map(name_of, MEASURES))
    assert names == sorted(path.stem for path in (CONF / "measure").glob("*.yaml"))
    for name in names:
        assert importlib.util.find_spec(f"normlab.measures.{name}") is not None
