"""Constructors read from source, without importing them."""

import importlib
import inspect
import math
import sys
import textwrap
from typing import Annotated

import pytest
from pydantic import Field

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


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A user's package whose classes inherit from each other, across modules, and from ours."""
    folder = tmp_path / "my_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("from .wide import Wide as Renamed\n")
    (folder / "types.py").write_text("from typing import Literal\nSide = Literal['left', 'right']\n")
    (folder / "wide.py").write_text(
        textwrap.dedent(
            """
            from . import narrow
            from .types import Side
            from normlab.norms.layer import LayerNorm
            from normlab.norms.instance import InstanceNorm as Other

            class Inherited(LayerNorm):
                pass

            class Wide(narrow.Narrow):
                nearest = "rms"

                def __init__(self, *site, side: Side = "left", **named):
                    super().__init__(*site, **named)

            class Closed(LayerNorm):
                def __init__(self, num_features, layout, *, only: int = 1):
                    super().__init__(num_features, layout)

            class Sequence(Other):
                causal = True
            """
        )
    )
    (folder / "narrow.py").write_text(
        textwrap.dedent(
            """
            from normlab.norms.group import GroupNorm

            class Narrow(GroupNorm):
                def __init__(self, *site, share: float = 0.5, **named):
                    super().__init__(*site, **named)
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    read.cache_clear()
    yield "my_package"
    read.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        sys.modules.pop(name)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("wide.Inherited", ["eps"]),
        ("wide.Wide", ["side", "share", "groups", "eps"]),
        ("wide.Closed", ["only"]),
        ("Renamed", ["side", "share", "groups", "eps"]),
    ],
)
def test_options_of_base_classes_are_read(package, name, options):
    found = read(f"{package}.{name}")
    assert list(found.options) == options
    assert found.classes[-3:] == ("normlab.norms.base.Norm", "torch.nn.Module", "abc.ABC")


def test_types_from_other_modules_and_of_bases_are_checked(package):
    options = read(f"{package}.wide.Wide").options
    assert "'left' or 'right'" in str(type_error(options["side"], "up"))
    assert "greater than 0" in str(type_error(options["groups"], 0))


def test_constants_of_base_classes_are_read(package):
    wide = read(f"{package}.wide.Wide").constants
    assert (wide["causal"], wide["nearest"], wide["layouts"]) == (False, "rms", ("BC", "BCL", "BCHW", "BCDHW", "BTC"))
    sequence = read(f"{package}.wide.Sequence").constants
    assert (sequence["causal"], sequence["layouts"]) == (True, ("BCL", "BCHW", "BCDHW", "BTC"))


@pytest.mark.parametrize(
    "target", ["normlab.norms.batch.BatchNorm", "normlab.models.lstm.LSTM", "my_package.wide.Wide"]
)
def test_what_is_read_is_what_the_class_takes(package, target):
    """The source says the same as the imported class."""
    module, _, name = target.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    taken = [
        p.name
        for owner in found.__mro__
        if "__init__" in vars(owner) and owner.__module__.partition(".")[0] in ("normlab", "my_package")
        for p in inspect.signature(owner.__init__).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    ]
    assert list(read(target).options) == taken
    for constant, value in read(target).constants.items():
        assert getattr(found, constant) == value


@pytest.mark.parametrize(
    "target", ["builtins.dict", "sys.x", "zipimport.zipimporter", "_frozen_importlib.X", "math.Norm"]
)
def test_modules_without_source_are_input_errors(target):
    with pytest.raises(InputError, match=r"not a Python file|no module"):
        read(target)


@pytest.mark.parametrize(("content", "reason"), [("class X(:\n", "line 1"), (b"\xff\xfe\x00", "UTF-8|line|null")])
def test_modules_that_can_not_be_read_are_input_errors(tmp_path, monkeypatch, content, reason):
    (tmp_path / "broken_norm.py").write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=reason):
        read("broken_norm.X")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_infinite_options_are_refused_unless_they_mean_something(value):
    assert "finite" in str(type_error(float, value))
    assert "finite" in str(type_error(Annotated[float, Field(gt=-1)] | None, value))
    assert type_error(Annotated[float, Field(allow_inf_nan=True)], value) is None
    for target in (
        "normlab.norms.batch.BatchNorm",
        "normlab.norms.dyt.DynamicTanh",
        "normlab.models.transformer.Transformer",
    ):
        for name, hint in read(target).options.items():
            if name == "norm_at":  # checked with its sites and norms, see test_placement
                continue
            assert type_error(hint, value) is not None, name
