"""Constructors read from source, without importing them."""

import sys
import textwrap

import pytest

from normlab.config.schema import InputError
from normlab.config.signature import read, type_error


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "house_norm.py").write_text(
        textwrap.dedent(
            """
            from typing import Annotated, Literal
            import a_module_that_is_not_installed
            from pydantic import Field

            Pool = Literal["tokens", "positions"]
            ran = open("/nonexistent/never/opened")

            class HouseNorm(a_module_that_is_not_installed.Base):
                layouts = ("BC", "BTC")
                causal: bool = False
                computed = len("abc")

                def __init__(self, num_features, *, eps: float = 1e-5, nbs: int | None = None, pool: Pool = "tokens",
                             groups: Annotated[int, Field(gt=0)] = 8, other: a_module_that_is_not_installed.X = None):
                    pass
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "house_norm"
    sys.modules.pop("house_norm", None)


def test_options_and_constants_without_an_import(module):
    signature = read(f"{module}.HouseNorm")
    assert list(signature.options) == ["eps", "nbs", "pool", "groups", "other"]
    assert signature.constants == {"layouts": ("BC", "BTC"), "causal": False}
    assert module not in sys.modules


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("eps", 1e-3, None),
        ("eps", 1, None),
        ("eps", "abc", "valid number"),
        ("nbs", None, None),
        ("nbs", 4, None),
        ("nbs", 4.5, "valid integer"),
        ("nbs", True, "valid integer"),
        ("pool", "positions", None),
        ("pool", "max", "'tokens' or 'positions'"),
        ("groups", 0, "greater than 0"),
        ("other", object, None),
    ],
)
def test_values_are_checked_against_annotations(module, option, value, message):
    hint = read(f"{module}.HouseNorm").options[option]
    if value is object:
        assert type_error(hint, "anything") is None
        return
    found = type_error(hint, value)
    assert (found is None) if message is None else (message in found)


def test_unknown_targets_are_input_errors(module):
    with pytest.raises(InputError, match="no module 'nowhere'"):
        read("nowhere.Norm")
    with pytest.raises(InputError, match="defines no class Missing"):
        read(f"{module}.Missing")
