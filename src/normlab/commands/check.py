"""An answer of `normlab doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """An answer.

    verdict  ok; warn: something that not everybody needs will not work; fail: runs will fail
    found    what is there
    advice   what to do about it
    """

    verdict: Verdict
    topic: str
    found: str
    advice: str = ""
