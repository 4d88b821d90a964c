"""What a comparison prints reaches the process that asked for it, in whatever encoding."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from normlab.report.compare import _followed


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("name", ["naïve − 5 %", "b\udcff"])
def test_the_page_is_found_whatever_the_encoding_is(encoding: str, name: str, monkeypatch) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", shown)
    code = f"print('difference ±0.1'); print('page: ' + {name!a} + '/page.html'); raise SystemExit(3)"
    environment = {"PYTHONIOENCODING": f"{encoding}:strict", "LC_ALL": "C"}
    assert _followed([sys.executable, "-c", code], environment) == (3, Path(name) / "page.html")
    shown.flush()
    assert shown.buffer.getvalue().startswith("difference ±".encode(encoding, "backslashreplace"))
